use std::fmt::Display;

/// The one of `all` that is displayed as `name`, or which names there are.
pub fn named<T: Copy + Display>(all: &[T], name: &str) -> Result<T, String> {
    let names = || all.iter().map(T::to_string).collect::<Vec<_>>().join(", ");
    all.iter().copied().find(|one| one.to_string() == name).ok_or_else(|| format!("expected {}", names()))
}
