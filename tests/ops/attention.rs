use crate::common::{Float, Input, Oracle, check, check_products};

/// o = softmax(q kᵀ / sqrt(K)) v for each head of each image; qkv is (B, N, 3, H, K).
struct Spec {
    batch: usize,
    tokens: usize,
    heads: usize,
    width: usize,
}

impl Oracle for Spec {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let Spec { batch, tokens, heads, width } = *self;
        let mut out = vec![F::from_f64(0.0); batch * tokens * heads * width];
        for (b, h) in (0..batch * heads).map(|i| (i / heads, i % heads)) {
            let at =
                |part: usize, n: usize, k: usize| inputs[0][(((b * tokens + n) * 3 + part) * heads + h) * width + k];
            for n in 0..tokens {
                let score = |m: usize| (0..width).map(|k| at(0, n, k) * at(1, m, k)).sum::<F>();
                let scores: Vec<F> = (0..tokens).map(|m| score(m) / F::from_f64(width as f64).sqrt()).collect();
                let max = scores.iter().fold(scores[0], |a, &b| if b > a { b } else { a });
                let p: Vec<F> = scores.iter().map(|&s| (s - max).exp()).collect();
                let total = p.iter().copied().sum::<F>();
                for k in 0..width {
                    out[((b * tokens + n) * heads + h) * width + k] =
                        (0..tokens).map(|m| p[m] * at(2, m, k)).sum::<F>() / total;
                }
            }
        }
        vec![out]
    }
}

#[test]
fn attention_matches_its_oracle() {
    // The last has three blocks of queries on a processor.
    let any = [(2, 3, 2, 4), (1, 65, 2, 32), (1, 363, 1, 4)];
    // On a card: tensor cores at each width, for tokens that fill one block and that do not; then blocks that take one head after
    // another, and rings that are shorter than what they take.
    let tiles = [
        (1, 33, 1, 72),
        (2, 16, 2, 64),
        (1, 20, 1, 32),
        (1, 70, 1, 80),
        (1, 90, 1, 128),
        (1, 150, 1, 72),
        (1, 140, 1, 64),
        (9, 5, 4, 32),
        (1, 130, 2, 32),
    ];
    for (batch, tokens, heads, width) in any.into_iter().chain(tiles) {
        let inputs = vec![Input::sole(&[batch, tokens, 3 * heads * width])];
        check_products(&Spec { batch, tokens, heads, width }, inputs, |tape, v| vec![tape.attention(v[0], heads)]);
    }
}

/// The gradients of its query and key are 0: forward mode cancels to it exactly, so the naive operation has no error. Reverse mode
/// subtracts o . do from v . do, of which products in bf16 round one alone, so they are no measure of each other.
#[test]
fn attention_of_one_token_to_itself_matches_its_oracle() {
    let inputs = vec![Input::sole(&[1, 1, 3])];
    check(&Spec { batch: 1, tokens: 1, heads: 1, width: 1 }, inputs, |tape, v| vec![tape.attention(v[0], 1)]);
}
