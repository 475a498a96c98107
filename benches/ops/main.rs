//! Every operation against its floor: `cargo bench`, or `cargo bench -- NAME` for the rows whose name contains NAME.
//!
//! A row is verified before it is timed. Shares are of a peak measured beside each sample, best against best; on a machine
//! that does other work they are lower bounds.

mod matmul;

use criterion::Criterion;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .without_plots()
        .configure_from_args();
    matmul::bench(&mut criterion);
    criterion.final_summary();
}
