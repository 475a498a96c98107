use cudarc::driver::result::{self, DriverError, event};
use cudarc::driver::sys;
use std::ffi::c_void;

type Result<T> = std::result::Result<T, DriverError>;

/// Uploads under way, and the most bytes of each: a batch of latents, and what goes with it.
const UPLOADS: usize = 8;
const UPLOAD: usize = 4 << 20;

/// Most bytes of a download that nobody waits for.
const DOWNLOAD: usize = 256;

/// Page-locked memory of the host, which a card reads and writes while the host goes on.
#[derive(Default)]
pub(super) struct Staging {
    uploads: Vec<Slot>,
    /// The upload slot that is next in turn.
    turn: usize,
    downloads: Vec<Slot>,
    /// Download slots that nobody waits for.
    idle: Vec<usize>,
}

/// A piece of page-locked memory, and the event that says when the card is done with it.
struct Slot {
    memory: *mut c_void,
    event: sys::CUevent,
}

impl Staging {
    /// Copies `from` to the card's address `to`, in the order of the stream. `from` may change as soon as this returns.
    ///
    /// # Safety
    /// The context is current, the stream is its own, and the range is memory of the card.
    pub unsafe fn upload(&mut self, stream: sys::CUstream, to: u64, from: &[u8]) -> Result<()> {
        for (to, piece) in (to..).step_by(UPLOAD).zip(from.chunks(UPLOAD)) {
            // SAFETY: by the caller's contract. The event says that the card has read what the slot held before, so the
            // piece, which is no longer than the slot, overwrites nothing that is still needed.
            unsafe {
                let slot = self.next_upload()?;
                event::synchronize(slot.event)?;
                slot.memory.cast::<u8>().copy_from_nonoverlapping(piece.as_ptr(), piece.len());
                let staged = std::slice::from_raw_parts(slot.memory.cast::<u8>(), piece.len());
                result::memcpy_htod_async(to, staged, stream)?;
                event::record(slot.event, stream)?;
            }
        }
        Ok(())
    }

    /// The slot whose turn it is; all are there once each had its first.
    unsafe fn next_upload(&mut self) -> Result<&Slot> {
        let turn = self.turn;
        self.turn = (turn + 1) % UPLOADS;
        if turn == self.uploads.len() {
            // SAFETY: by the caller's contract.
            self.uploads.push(unsafe { Slot::new(UPLOAD) }?);
        }
        Ok(&self.uploads[turn])
    }

    /// Asks for `bytes` at the card's address `from`, as they are at this place of the stream; says which slot gets them.
    ///
    /// # Safety
    /// As for [`Staging::upload`].
    pub unsafe fn begin_download(&mut self, stream: sys::CUstream, from: u64, bytes: usize) -> Result<usize> {
        assert!(bytes <= DOWNLOAD, "{bytes} bytes are not waited for, the most is {DOWNLOAD}");
        // SAFETY: by the caller's contract; nobody waits for the slot, so nobody reads or writes it.
        unsafe {
            let number = match self.idle.pop() {
                Some(number) => number,
                None => {
                    self.downloads.push(Slot::new(DOWNLOAD)?);
                    self.downloads.len() - 1
                }
            };
            let slot = &self.downloads[number];
            let staged = std::slice::from_raw_parts_mut(slot.memory.cast::<u8>(), bytes);
            result::memcpy_dtoh_async(staged, from, stream)?;
            event::record(slot.event, stream)?;
            Ok(number)
        }
    }

    /// Waits for what slot `number` was asked for, and copies it.
    ///
    /// # Safety
    /// As for [`Staging::upload`].
    pub unsafe fn end_download(&mut self, number: usize, to: &mut [u8]) -> Result<()> {
        assert!(to.len() <= DOWNLOAD, "a slot holds {DOWNLOAD} bytes, not {}", to.len());
        let slot = &self.downloads[number];
        self.idle.push(number);
        // SAFETY: the event says that the card has written the slot, and it is idle only from here on.
        unsafe {
            event::synchronize(slot.event)?;
            slot.memory.cast::<u8>().copy_to_nonoverlapping(to.as_mut_ptr(), to.len());
        }
        Ok(())
    }

    /// Gives everything back.
    ///
    /// # Safety
    /// The context is current, and the card is done with everything.
    pub unsafe fn free(&mut self) {
        for Slot { memory, event } in self.uploads.drain(..).chain(self.downloads.drain(..)) {
            // SAFETY: by the caller's contract nothing uses them. What fails here has no one left to be told.
            unsafe {
                let _ = event::destroy(event);
                let _ = result::free_host(memory);
            }
        }
    }
}

impl Slot {
    /// # Safety
    /// The context is current.
    unsafe fn new(bytes: usize) -> Result<Slot> {
        // SAFETY: by the caller's contract. Without flags the memory is cached, so that the host reads it fast, too.
        let memory = unsafe { result::malloc_host(bytes, 0) }?;
        // SAFETY: the range was just handed out; written, it is initialised.
        unsafe { memory.cast::<u8>().write_bytes(0, bytes) };
        Ok(Slot { memory, event: event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)? })
    }
}
