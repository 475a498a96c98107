//! Special registers: their values for a warp of any CTA, or for a CTA.

use super::Launch;
use crate::{
    ir::{LaneMask, Special},
    regs::{LANES, each},
};

impl Launch {
    /// A cluster by its index in the grid.
    pub(super) fn describe_cluster(&self, index: u32) -> String {
        let [x, y] = [0, 1].map(|axis| self.grid[axis] / self.cluster[axis]);
        let what = if self.cluster == [1; 3] { "CTA" } else { "cluster" };
        format!("{what} ({}, {}, {})", index % x, index / x % y, index / (x * y))
    }

    /// The row of a register that is the same in every CTA.
    pub(super) fn of_warp(&self, special: Special, number: u32) -> Option<[u32; LANES]> {
        let Launch { grid, block, cluster, dynamic_shared } = *self;
        let thread = |lane: usize| number * LANES as u32 + lane as u32;
        let all = |value: u32| [value; LANES];
        Some(match special {
            Special::Tid(0) => each(|l| thread(l) % block[0]),
            Special::Tid(1) => each(|l| thread(l) / block[0] % block[1]),
            Special::Tid(_) => each(|l| thread(l) / (block[0] * block[1])),
            Special::Ntid(axis) => all(block[axis as usize]),
            Special::Nctaid(axis) => all(grid[axis as usize]),
            Special::LaneId => each(|l| l as u32),
            Special::WarpId => all(number),
            Special::NumWarps => all(block.iter().product::<u32>().div_ceil(LANES as u32)),
            Special::LaneMask(LaneMask::Eq) => each(|l| 1 << l),
            Special::LaneMask(LaneMask::Lt) => each(|l| (1 << l) - 1),
            Special::LaneMask(LaneMask::Le) => each(|l| u32::MAX >> (31 - l)),
            Special::LaneMask(LaneMask::Ge) => each(|l| u32::MAX << l),
            Special::LaneMask(LaneMask::Gt) => each(|l| !(u32::MAX >> (31 - l))),
            Special::NumClusters(axis) => all(grid[axis as usize] / cluster[axis as usize]),
            Special::ClusterNctaid(axis) => all(cluster[axis as usize]),
            Special::ClusterNctarank => all(cluster.iter().product()),
            Special::DynamicShared => all(dynamic_shared),
            Special::Zero => all(0),
            Special::Ctaid(_) | Special::ClusterId(_) | Special::ClusterCtaid(_) | Special::ClusterCtarank => {
                return None;
            }
        })
    }

    /// The value of a register that differs among CTAs, for the one at `within` of the cluster at `cluster`.
    pub(super) fn of_cta(&self, special: Special, cluster: [u32; 3], within: [u32; 3]) -> Option<u32> {
        let [sx, sy, _] = self.cluster;
        Some(match special {
            Special::Ctaid(axis) => {
                let axis = axis as usize;
                cluster[axis] * self.cluster[axis] + within[axis]
            }
            Special::ClusterId(axis) => cluster[axis as usize],
            Special::ClusterCtaid(axis) => within[axis as usize],
            Special::ClusterCtarank => within[0] + sx * (within[1] + sy * within[2]),
            _ => return None,
        })
    }
}
