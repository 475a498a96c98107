use crate::common::{Float, Input, Oracle, check};

/// y = [stream + branch, skip]
struct Spec {
    width: usize,
}

impl Oracle for Spec {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let [stream, branch, skip] = inputs else { unreachable!("three inputs") };
        let row = |row: usize| {
            let columns = row * self.width..(row + 1) * self.width;
            let sums: Vec<F> = columns.clone().map(|at| stream[at] + branch[at]).collect();
            sums.into_iter().chain(skip[columns].iter().copied()).collect::<Vec<F>>()
        };
        vec![(0..stream.len() / self.width).flat_map(row).collect()]
    }
}

#[test]
fn join_matches_its_oracle() {
    for (batch, tokens, width) in [(1, 1, 1), (2, 3, 5), (3, 33, 40)] {
        let inputs = (0..3).map(|_| Input::node(&[batch, tokens, width])).collect();
        check(&Spec { width }, inputs, |tape, v| vec![tape.join(v[0], v[1], v[2])]);
    }
}
