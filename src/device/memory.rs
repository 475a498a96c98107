use super::cuda::Driver;
use super::reading::{Reading, Way};
use crate::base::{Error, Result};
use memmap2::{MmapOptions, MmapRaw};
use std::sync::Arc;

/// The bytes behind an arena: a range of addresses whose start is a multiple of 256.
pub(super) enum Memory {
    /// Pages of this process, which the operating system provides when they are first touched.
    Host(MmapRaw),
    Cuda {
        driver: Arc<dyn Driver>,
        base: u64,
    },
}

impl Memory {
    /// `bytes` of the host's addresses.
    pub fn host(bytes: usize) -> Result<Memory> {
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon().map_err(|e| {
            Error::Memory(format!("{bytes} bytes of addresses: {e}; raise their limit with `ulimit -v`"))
        })?;
        // Large pages spare most of the address translation; where the system has none, nothing is lost.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Memory::Host(map.into()))
    }

    /// `bytes` of the memory of a card.
    pub fn cuda(driver: Arc<dyn Driver>, bytes: usize) -> Result<Memory> {
        let base = driver.reserve(bytes)?;
        Ok(Memory::Cuda { driver, base })
    }

    /// Whether every access is checked against what [`Memory::occupy`] said: then nothing has to be written to find one
    /// that strays.
    pub fn checks(&self) -> bool {
        match self {
            Memory::Host(_) => false,
            Memory::Cuda { driver, .. } => driver.checks(),
        }
    }

    /// Says that `bytes` at `offset` now belong to an allocation.
    pub fn occupy(&self, offset: usize, bytes: usize, label: &'static str) {
        if let Memory::Cuda { driver, base } = self {
            driver.occupy(base + offset as u64, bytes, label);
        }
    }

    /// Says that the allocation at `offset` has ended.
    pub fn vacate(&self, offset: usize) {
        if let Memory::Cuda { driver, base } = self {
            driver.vacate(base + offset as u64);
        }
    }

    /// The address of a byte in the host's memory.
    ///
    /// # Panics
    /// If the memory is not the host's.
    pub fn pointer(&self, offset: usize) -> *mut u8 {
        match self {
            Memory::Host(map) => {
                assert!(offset <= map.len(), "byte {offset} of {}", map.len());
                // SAFETY: the byte lies inside the mapping or just behind it, by the line above.
                unsafe { map.as_mut_ptr().add(offset) }
            }
            Memory::Cuda { .. } => panic!("the memory of a card is not read by the processor"),
        }
    }

    /// The address of a byte in the card's memory.
    ///
    /// # Panics
    /// If the memory is not a card's.
    pub fn address(&self, offset: usize) -> u64 {
        match self {
            Memory::Cuda { base, .. } => base + offset as u64,
            Memory::Host(_) => panic!("the memory of the processor is not given to a kernel of a card"),
        }
    }

    /// Copies from `offset` on to the host. The caller owns the bytes: nobody writes them meanwhile.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        match self {
            // SAFETY: the range lies in the mapping, and by the caller's ownership nothing writes it.
            Memory::Host(_) => unsafe {
                self.pointer(offset + out.len());
                self.pointer(offset).copy_to_nonoverlapping(out.as_mut_ptr(), out.len());
            },
            Memory::Cuda { driver, base } => or_throw(driver.download(base + offset as u64, out)),
        }
    }

    /// As [`Memory::read`], of `bytes` bytes that a card may still be writing.
    pub fn begin_read(&self, offset: usize, bytes: usize) -> Reading {
        match self {
            Memory::Host(_) => {
                let mut out = vec![0; bytes];
                self.read(offset, &mut out);
                Reading(Way::Host(out))
            }
            Memory::Cuda { driver, base } => {
                Reading(Way::Cuda(driver.clone(), or_throw(driver.begin_download(base + offset as u64, bytes))))
            }
        }
    }

    /// Copies from the host. The caller owns the bytes alone.
    pub fn write(&self, offset: usize, values: &[u8]) {
        match self {
            // SAFETY: the range lies in the mapping, and by the caller's ownership nothing else uses it.
            Memory::Host(_) => unsafe {
                self.pointer(offset + values.len());
                self.pointer(offset).copy_from_nonoverlapping(values.as_ptr(), values.len());
            },
            Memory::Cuda { driver, base } => or_throw(driver.upload(base + offset as u64, values)),
        }
    }

    /// Sets `bytes` bytes. The caller owns them alone.
    pub fn fill(&self, offset: usize, value: u8, bytes: usize) {
        match self {
            // SAFETY: as for `write`.
            Memory::Host(_) => unsafe {
                self.pointer(offset + bytes);
                self.pointer(offset).write_bytes(value, bytes);
            },
            Memory::Cuda { driver, base } => or_throw(driver.fill(base + offset as u64, value, bytes)),
        }
    }

    /// Copies `bytes` bytes within the memory, between ranges that do not overlap. The caller owns the target alone.
    pub fn copy(&self, to: usize, from: usize, bytes: usize) {
        match self {
            // SAFETY: as for `write`; the ranges do not overlap, by contract.
            Memory::Host(_) => unsafe {
                self.pointer(to.max(from) + bytes);
                self.pointer(from).copy_to_nonoverlapping(self.pointer(to), bytes);
            },
            Memory::Cuda { driver, base } => or_throw(driver.copy(base + to as u64, base + from as u64, bytes)),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Memory::Cuda { driver, base } = self {
            driver.release(*base);
        }
    }
}

/// No operation of a step returns a `Result`: a failure of the device is thrown as the [`Error`], which the edge catches.
pub(super) fn or_throw<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| error.throw())
}
