use std::fmt::Display;
use std::path::Path;

/// What can go wrong at the edges: flags, files, devices.
///
/// A message reads `<what was given>: <what is wrong, both values>; <what to do>`. The variant decides the exit code of
/// the binary and the status code of the C API. A wrong shape *inside* the graph is a bug and panics instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag, a recipe or an output directory cannot be used as given.
    #[error("{0}")]
    Usage(String),
    /// A data set, or a file of weights or inputs, is missing, corrupt or does not fit.
    #[error("{0}")]
    Data(String),
    /// No valid checkpoint was found, or none could be written.
    #[error("{0}")]
    Checkpoint(String),
    /// The device's memory does not hold what was asked for.
    #[error("{0}")]
    Memory(String),
    /// The device failed, or the required device is missing.
    #[error("{0}")]
    Device(String),
    /// Training left the finite numbers.
    #[error("{0}")]
    Diverged(String),
    /// A signal stopped the run after a durable checkpoint.
    #[error("{0}")]
    Stopped(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Throws the error past functions that return no `Result`, as the operations of a step; an edge catches it. It is no
    /// bug, so nothing is printed on its way.
    pub fn throw(self) -> ! {
        std::panic::resume_unwind(Box::new(self))
    }

    /// The documented exit code of the binary.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Data(_) => 3,
            Error::Checkpoint(_) => 4,
            Error::Memory(_) => 5,
            Error::Device(_) => 6,
            Error::Diverged(_) => 7,
            Error::Stopped(_) => 75,
        }
    }

    /// A data error about the file at `path`.
    pub fn file(path: &Path, what: impl Display) -> Error {
        Error::Data(format!("{}: {what}", path.display()))
    }
}
