//! An opcode read modifier by modifier; what is left over at the end is an error.

/// `ld.global.nc.v4.f32` as a cursor over `ld`, `global`, `nc`, `v4`, `f32`.
pub struct Opcode<'a> {
    parts: Vec<&'a str>,
    at: usize,
}

impl<'a> Opcode<'a> {
    pub fn new(opcode: &'a str) -> Self {
        Self { parts: opcode.split('.').collect(), at: 0 }
    }

    /// The first part.
    pub fn head(&self) -> &'a str {
        self.parts[0]
    }

    /// Whether this is among the modifiers that are left.
    pub fn has(&self, modifier: &str) -> bool {
        self.parts[self.at..].contains(&modifier)
    }

    pub fn peek(&self) -> &'a str {
        self.parts.get(self.at).copied().unwrap_or("")
    }

    pub fn next(&mut self) -> &'a str {
        let part = self.peek();
        self.at += 1;
        part
    }

    /// Takes the next modifier when it is one of these.
    pub fn one_of(&mut self, choices: &[&str]) -> Option<&'a str> {
        let part = self.peek();
        choices.contains(&part).then(|| self.next())
    }

    pub fn eat(&mut self, modifier: &str) -> bool {
        self.one_of(&[modifier]).is_some()
    }

    /// Takes a sequence of modifiers, all or none: `"shared::cta.global"`.
    pub fn eat_all(&mut self, modifiers: &str) -> bool {
        let wanted: Vec<&str> = modifiers.split('.').collect();
        let found = self.parts.get(self.at..).is_some_and(|rest| rest.starts_with(&wanted));
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    /// Whether every modifier was taken.
    pub fn finished(&self) -> bool {
        self.at == self.parts.len()
    }
}
