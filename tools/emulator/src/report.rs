//! What a launch did, for people and for golden files.

use crate::{check, count::Counts};
use crate::{
    count::{Class, Count},
    driver::Function,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The outcome of a launch that ended without a fault.
#[derive(Debug, Clone)]
pub struct Report {
    pub function: Function,
    pub counts: Counts,
    /// What `printf` wrote.
    pub output: String,
}

impl Report {
    pub fn total(&self) -> Count {
        self.counts.total()
    }

    pub fn by_class(&self) -> BTreeMap<Class, Count> {
        self.counts.by_class(&self.function.kernel)
    }

    /// What no hardware has confirmed, a line each: what holds for every launch, and the features that this one used.
    pub fn unvalidated(&self) -> String {
        let used: BTreeSet<&str> = self
            .function
            .kernel
            .opcodes
            .iter()
            .zip(&self.counts.by_instruction)
            .filter(|(_, count)| count.lanes > 0)
            .filter_map(|(opcode, _)| unvalidated(opcode))
            .collect();
        let all = [
            "no result here has been compared with hardware: arithmetic, memory and control follow the PTX manual",
            "counters: textbook models of sectors and banks",
        ];
        all.into_iter().chain(used).map(|feature| format!("unvalidated: {feature}\n")).collect()
    }

    /// PTX lines that at least one lane executed, ascending.
    pub fn executed_lines(&self) -> Vec<u32> {
        let code = self.function.kernel.code.iter().zip(&self.counts.by_instruction);
        let mut lines: Vec<u32> = code.filter(|(_, c)| c.lanes > 0).map(|(ins, _)| ins.line).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    /// Counts by source line and class; empty without `-lineinfo`. Inlined functions count where they are inlined.
    pub fn by_line(&self) -> BTreeMap<(String, u32), BTreeMap<Class, Count>> {
        let lines = self.counts.by_line(&self.function.kernel);
        lines.into_iter().filter_map(|(l, c)| Some((check::source(&self.function.files, Some(l))?, c))).collect()
    }
}

/// What of an opcode's semantics rests on the manual alone. Golden vectors recorded on hardware would remove entries.
fn unvalidated(opcode: &str) -> Option<&'static str> {
    let head = opcode.split('.').next().unwrap_or("");
    let approximate = opcode.contains(".approx");
    Some(match head {
        "wgmma" => "wgmma: descriptors, swizzles, layouts, rounding, and when its reads are done",
        "mma" => "mma: fragment layouts and rounding of the sums",
        "ldmatrix" | "stmatrix" => "ldmatrix and stmatrix: fragment layout",
        "cp" if opcode.contains("tensor") => "tensor tiles: swizzles, edges and byte counts",
        "cp" if opcode.contains("bulk") => "bulk copies: ordering and byte counts",
        "cp" => "cp.async: when copies land",
        "cvt" => "conversions: rounding, clamping and NaN",
        "elect" => "elect: which lane leads",
        "fence" if opcode.contains("proxy") => "fence.proxy: what it orders",
        "mbarrier" => "mbarrier: phases under races of arrivals",
        "barrier" if opcode.contains("cluster") => "cluster barriers: ordering",
        "mapa" => "distributed shared memory: addresses",
        "setmaxnreg" => "setmaxnreg: the register pool",
        _ if approximate => "approximate functions: host mathematics, not the bits of the hardware",
        _ => return None,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        writeln!(f, "{}", self.function.kernel.name)?;
        writeln!(f, "  warp instructions   {:>14}", total.warps)?;
        writeln!(f, "  lane instructions   {:>14}", total.lanes)?;
        for (class, count) in self.by_class().iter().filter(|(_, c)| c.warps > 0) {
            writeln!(f, "    {:<18}{:>14}", format!("{class:?}"), count.warps)?;
        }
        writeln!(f, "  divergent branches  {:>14}", total.divergent)?;
        writeln!(f, "  global requests     {:>14}", total.global_requests)?;
        writeln!(f, "  global bytes        {:>14}", total.global_bytes)?;
        writeln!(f, "  global sectors      {:>14}", total.global_sectors)?;
        writeln!(f, "  unique bytes        {:>14}", self.counts.unique_bytes)?;
        writeln!(f, "  shared requests     {:>14}", total.shared_requests)?;
        writeln!(f, "  shared wavefronts   {:>14} ({} ideal)", total.shared_wavefronts, total.shared_ideal)?;
        writeln!(f, "  async bytes         {:>14}", total.async_bytes)?;
        writeln!(f, "  matrix multiply-adds{:>14}", total.matrix_fma)?;
        f.write_str(&self.unvalidated())
    }
}
