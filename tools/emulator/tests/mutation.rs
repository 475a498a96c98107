//! Mutants: one mechanical change of a kernel's PTX each. What the emulator must catch, by a check, by a wrong number or
//! by a counter of memory traffic.

mod common;

use common::{cases::Case, *};
use emulator::{Checks, Config, Count, Error, Kind, Policy};
use std::collections::BTreeMap;

/// Most mutants of one kernel and kind of change; the rest is passed over at even distances.
const MOST: usize = 8;

struct Mutant {
    /// What was changed, in a word or two.
    change: &'static str,
    line: usize,
    text: String,
}

impl Mutant {
    /// Changes of synchronisation mean something whatever the result; a change of computation that leaves every bit of
    /// the result and all traffic as they were does not.
    fn synchronises(&self) -> bool {
        let words = ["barrier", "fence", "wait", "count", "expect_tx"];
        words.iter().any(|word| self.change.contains(word))
    }
}

/// What found a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// The text is refused.
    Load,
    Check(Kind),
    Number,
    Counter,
    Survived,
    /// The result has the same bits and the traffic is the same: the change meant nothing for this input.
    Meaningless,
}

/// The value that the last `mov` before a line gives a register.
fn constant(lines: &[&str], before: usize, register: &str) -> Option<u64> {
    let mov = format!("{register}, ");
    lines[..before].iter().rev().find_map(|line| {
        let rest = line.trim_start().strip_prefix("mov.")?.split_once(char::is_whitespace)?.1.trim_start();
        rest.strip_prefix(&mov)?.trim_end_matches(';').parse().ok()
    })
}

/// The integer at the end of an instruction.
fn last_integer(line: &str) -> Option<(&str, i64)> {
    let (head, tail) = line.trim_end().trim_end_matches(';').rsplit_once(", ")?;
    Some((head, tail.parse().ok()?))
}

/// All changes of one line.
fn changes(lines: &[&str], at: usize) -> Vec<(&'static str, String)> {
    let line = lines[at];
    let code = line.trim_start();
    let mut out = vec![];
    let is = |prefix: &str| code.starts_with(prefix);
    if is("bar.sync") || is("bar.warp.sync") || is("barrier.cluster") {
        out.push(("delete a barrier", String::new()));
    }
    if is("fence.") || is("wgmma.fence") {
        out.push(("delete a fence", String::new()));
    }
    if code.contains(".wait_group") {
        out.push(("delete a wait", String::new()));
        let (head, count) = code.trim_end_matches(';').rsplit_once(' ').unwrap_or((code, ""));
        if let Ok(count) = count.parse::<u32>() {
            out.push(("weaken a wait", format!("{head} {};", count + 1)));
        }
    }
    if is("@done bra") {
        out.push(("delete a wait", code.replace("@done ", "")));
        // Whether it succeeded or not, the way is on.
        out.push(("ask a wait once", format!("{code} {}", code.replace("@done ", ""))));
    }
    if is("@%p") && code.contains("bra") {
        out.push(("delete a guard", String::new()));
        out.push(("delete a guard", code.split_once(char::is_whitespace).map_or("", |(_, rest)| rest).to_string()));
    }
    for (from, to) in
        [("setp.lt.", "setp.le."), ("setp.ge.", "setp.gt."), ("setp.gt.", "setp.ge."), ("setp.ne.", "setp.eq.")]
    {
        if is(from) {
            out.push(("change a comparison", code.replacen(from, to, 1)));
        }
    }
    if let Some((head, value)) = last_integer(code) {
        if is("add.s") && !code.contains("%SP") {
            out.push(("shift an index", format!("{head}, {};", value + 1)));
        }
        if is("shl.") || is("shr.") || is("mul.wide") || is("mul.lo") {
            out.push(("scale an index", format!("{head}, {};", value + 1)));
        }
        if is("and.b32") {
            out.push(("narrow a mask", format!("{head}, {};", value / 2)));
        }
        if is("or.b64") {
            out.push(("change a descriptor's swizzle", format!("{head}, {};", value ^ (1 << 62))));
            out.push(("change a descriptor's stride", format!("{head}, {};", value ^ (64 << 32))));
        }
    }
    if is("xor.b32") {
        let operands: Vec<&str> = code["xor.b32".len()..].trim().trim_end_matches(';').split(", ").collect();
        if let [out_register, a, _] = operands[..] {
            out.push(("delete a swizzle", format!("mov.b32 {out_register}, {a};")));
        }
    }
    if (is("ld.") || is("st.") || is("ldmatrix") || is("cp.async") || is("atom."))
        && !code.contains(".param")
        && let Some(open) = code.find("[%")
    {
        let close = code[open..].find(']').map_or(open, |c| open + c);
        let inner = &code[open + 1..close];
        let shift = if code.contains("v4") || is("ldmatrix") || is("cp.async") { 16 } else { 4 };
        let shifted = match inner.split_once('+') {
            Some((base, offset)) => offset.parse::<i64>().map(|o| format!("{base}+{}", o + shift)).ok(),
            None if !inner.contains(',') => Some(format!("{inner}+{shift}")),
            None => None,
        };
        if let Some(shifted) = shifted {
            out.push(("shift an offset", format!("{}[{shifted}{}", &code[..open], &code[close..])));
        }
    }
    if is("mbarrier.arrive.expect_tx") || is("mbarrier.init") {
        let (head, register) = code.trim_end_matches(';').rsplit_once(", ").unwrap_or((code, ""));
        if let Some(value) = constant(lines, at, register) {
            let what = if is("mbarrier.init") { "change a barrier's count" } else { "change expect_tx" };
            out.push((what, format!("{head}, {};", value + if is("mbarrier.init") { 1 } else { 16 })));
            if value > 1 {
                out.push((what, format!("{head}, {};", value / 2)));
            }
        }
    }
    if is("shfl.sync.bfly") {
        let operands: Vec<&str> = code.split(", ").collect();
        if let Some(Ok(by)) = operands.get(2).map(|by| by.parse::<u32>()) {
            out.push((
                "change a shuffle",
                code.replacen(&format!(", {by}, "), &format!(", {}, ", (by / 2).max(1) ^ 3), 1),
            ));
        }
    }
    if is("selp.") {
        let (opcode, operands) = code.split_once(char::is_whitespace).unwrap_or((code, ""));
        if let [out_register, first, ..] = operands.trim().split(", ").collect::<Vec<_>>()[..] {
            out.push(("fix a choice", format!("mov.{} {out_register}, {first};", &opcode["selp.".len()..])));
        }
    }
    out
}

/// The mutants of the lines that a kernel executes.
fn mutants(ptx: &str, executed: &[u32]) -> Vec<Mutant> {
    let lines: Vec<&str> = ptx.lines().collect();
    let mut by_change: BTreeMap<&'static str, Vec<Mutant>> = BTreeMap::new();
    for line in executed {
        let at = *line as usize - 1;
        for (change, new) in changes(&lines, at) {
            if new.trim() == lines[at].trim() {
                continue;
            }
            let mut text = lines.clone();
            text[at] = &new;
            by_change.entry(change).or_default().push(Mutant { change, line: at + 1, text: text.join("\n") });
        }
    }
    let sample = |all: Vec<Mutant>| {
        let step = all.len().div_ceil(MOST).max(1);
        all.into_iter().step_by(step)
    };
    by_change.into_values().flat_map(sample).collect()
}

/// Memory traffic, which golden files would hold; instruction counts would find every deletion.
fn traffic(count: Count) -> [u64; 5] {
    [count.global_sectors, count.global_bytes, count.shared_wavefronts, count.async_bytes, count.matrix_fma]
}

/// `limit`: a mutant that issues twice the instructions of its original hangs.
fn config(policy: Policy, limit: u64) -> Config {
    Config { checks: Checks::ALL, policy, limit, memory: 1 << 26 }
}

fn judge(case: &Case, mutant: &Mutant, want: &[f64], golden: [u64; 5], limit: u64) -> Verdict {
    let mut verdict = Verdict::Meaningless;
    for policy in POLICIES {
        let found = match case.run(&mutant.text, config(policy, limit)) {
            Err(Error::Fault(fault)) => Verdict::Check(fault.kind),
            Err(_) => Verdict::Load,
            Ok(outcome) => {
                // The precision at which the kernels are tested: a bf16 ulp, or f32 sums in another order.
                let close = |(got, want): (&f64, &f64)| (got - want).abs() <= want.abs() * 2f64.powi(-7) + 1e-3;
                if !outcome.values.iter().zip(want).all(close) {
                    Verdict::Number
                } else if traffic(outcome.report.total()) != golden {
                    Verdict::Counter
                } else if outcome.values != want || mutant.synchronises() {
                    Verdict::Survived
                } else {
                    Verdict::Meaningless
                }
            }
        };
        verdict = verdict.min(found);
        if verdict < Verdict::Number {
            break;
        }
    }
    verdict
}

#[test]
fn at_least_ninety_five_of_a_hundred_mutants_are_found() {
    let mut table: BTreeMap<&'static str, BTreeMap<Verdict, usize>> = BTreeMap::new();
    let mut survivors = vec![];
    let (mut total, mut meaningless) = (0, 0);
    for case in cases::all() {
        let Some(ptx) = ptx(case.file, case.archs[case.archs.len() - 1]) else { return };
        let original =
            case.run(&ptx, config(Policy::Eager, 1 << 20)).unwrap_or_else(|error| panic!("{}: {error}", case.kernel));
        let total_of_original = original.report.total();
        let (golden, limit) = (traffic(total_of_original), 2 * total_of_original.warps);
        for mutant in mutants(&ptx, &original.report.executed_lines()) {
            let verdict = judge(&case, &mutant, &original.values, golden, limit);
            *table.entry(mutant.change).or_default().entry(verdict).or_default() += 1;
            total += usize::from(verdict != Verdict::Meaningless);
            meaningless += usize::from(verdict == Verdict::Meaningless);
            if verdict == Verdict::Survived {
                let new = mutant.text.lines().nth(mutant.line - 1).unwrap_or("").trim().to_string();
                survivors.push(format!("{} line {}: {}: {new}", case.kernel, mutant.line, mutant.change));
            }
        }
    }
    for (change, verdicts) in &table {
        println!("{change:<32} {verdicts:?}");
    }
    println!("{meaningless} mean nothing; {} of {total} others survive:\n{}", survivors.len(), survivors.join("\n"));
    assert!(total >= 200, "{total} mutants");
    assert!(survivors.len() * 20 <= total, "{} of {total} mutants survive:\n{}", survivors.len(), survivors.join("\n"));
}
