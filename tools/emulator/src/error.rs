//! What can go wrong before a kernel runs.

use thiserror::Error;

/// A PTX text that cannot be run: malformed, or holding something the emulator does not implement.
#[derive(Debug, Clone, Error, PartialEq)]
#[error("PTX line {line}: {message}")]
pub struct LoadError {
    /// Line in the PTX text, from 1; 0 for the text as a whole.
    pub line: u32,
    pub message: String,
}

impl LoadError {
    pub(crate) fn at(line: u32, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}
