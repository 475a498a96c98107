//! The same run gives the same bits and the same counts: twice, eagerly and lazily, in either order, on a fresh device and on
//! a used one.

mod common;

use common::{cases, *};
use emulator::{Checks, Config, Device, Policy};
use std::collections::BTreeSet;

#[test]
fn every_kernel_gives_the_same_bits_and_counts_in_every_order_of_policies() {
    let (mut run, mut there) = (BTreeSet::new(), BTreeSet::new());
    for case in cases::all().into_iter().chain(cases::others()) {
        for arch in case.archs {
            let Some(ptx) = ptx(case.file, arch) else { return };
            let config = Config { checks: Checks::ALL, limit: 1 << 24, ..Config::default() };
            let names = Device::new(config).and_then(|mut device| device.load(&ptx)).expect("it loads");
            there.extend(names.names().into_iter().map(str::to_string));
            let mut first = None;
            for order in [
                [Policy::Eager, Policy::Lazy, Policy::Lazy, Policy::Eager],
                [Policy::Lazy, Policy::Eager, Policy::Eager, Policy::Lazy],
            ] {
                let mut device = Device::new(config).expect("a supported CPU");
                for policy in order {
                    device.configure(Config { policy, ..config });
                    let outcome = case.run_on(&mut device, &ptx);
                    let outcome = outcome.unwrap_or_else(|error| panic!("{}: {error}", case.kernel));
                    let got = (outcome.bytes, outcome.report.counts, outcome.report.output);
                    let first = first.get_or_insert_with(|| got.clone());
                    assert!(*first == got, "{} for {arch}, {policy:?} of {order:?}", case.kernel);
                }
            }
        }
        run.insert(case.kernel.to_string());
    }
    assert_eq!(run, there, "the kernels that run, and those that there are");
}
