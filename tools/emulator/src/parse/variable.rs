//! Declarations: `.align 16 .b8 name[64] = {1, 2}`.

use super::{LARGEST_VARIABLE, Parser, Variable};
use crate::{
    error::LoadError,
    lex::Kind,
    types::{Space, Ty},
};

impl Parser<'_> {
    /// A variable up to and including its `;`.
    pub(super) fn variable(&mut self, space: Space) -> Result<Variable, LoadError> {
        let variable = self.declaration(space)?;
        self.expect(';')?;
        Ok(variable)
    }

    /// A variable or parameter without what ends it.
    pub(super) fn declaration(&mut self, space: Space) -> Result<Variable, LoadError> {
        let line = self.line();
        let (mut align, mut ty) = (None, None);
        let name = loop {
            match self.word()? {
                ".align" => align = Some(self.integer()? as u64),
                // Pointer attributes of a parameter: `.ptr .global`.
                ".ptr" | ".global" | ".shared" | ".const" | ".local" if space == Space::Param => {}
                word if word.starts_with('.') => {
                    ty = Some(Ty::parse(&word[1..]).ok_or_else(|| LoadError::at(line, format!("{word}: not a type")))?);
                }
                word => break word.to_string(),
            }
        };
        let ty = ty.ok_or_else(|| LoadError::at(line, format!("{name}: declared without a type")))?;
        let element = u64::from(ty.size());
        let align = align.unwrap_or(element);
        if element == 0 || !align.is_power_of_two() || align > 1 << 16 {
            return Err(LoadError::at(line, format!("{name}: type {ty:?} or alignment {align} cannot be in memory")));
        }
        let mut count = Some(1u64);
        while self.eat('[') {
            if self.eat(']') {
                count = None;
            } else {
                let extent = self.integer()? as u64;
                count = count.and_then(|c| c.checked_mul(extent));
                self.expect(']')?;
            }
        }
        let size = match count {
            Some(count) => Some(count.checked_mul(element).filter(|s| *s <= LARGEST_VARIABLE).ok_or_else(|| {
                LoadError::at(line, format!("{name}: {count} elements of {element} bytes are more than 1 GiB"))
            })?),
            None => None,
        };
        let mut addresses = vec![];
        let initial = if self.eat('=') { self.initial(element as usize, &mut addresses)? } else { vec![] };
        if size.is_some_and(|s| (initial.len() as u64) > s) {
            return Err(LoadError::at(line, format!("{name}: more initial values than elements")));
        }
        Ok(Variable { name, space, align, size, initial, addresses, line })
    }

    fn initial(&mut self, element: usize, addresses: &mut Vec<(usize, String, i64)>) -> Result<Vec<u8>, LoadError> {
        let mut out = vec![];
        let list = self.eat('{');
        loop {
            let line = self.line();
            let bits = match self.peek() {
                Some(Kind::F32(bits)) => {
                    self.at += 1;
                    u64::from(*bits)
                }
                Some(Kind::F64(bits)) => {
                    self.at += 1;
                    *bits
                }
                Some(Kind::Int(_) | Kind::Punct('-')) => self.integer()? as u64,
                Some(Kind::Word(_)) if element == 8 => {
                    let mut name = self.word()?;
                    let wrapped = name == "generic" && self.eat('(');
                    if wrapped {
                        name = self.word()?;
                        self.expect(')')?;
                    }
                    let plus = if self.eat('+') { self.integer()? } else { 0 };
                    addresses.push((out.len(), name.to_string(), plus));
                    0
                }
                other => {
                    return Err(LoadError::at(line, format!("{other:?}: neither a number nor an address of 64 bits")));
                }
            };
            out.extend_from_slice(&bits.to_le_bytes()[..element.min(8)]);
            if !(list && self.eat(',')) {
                break;
            }
        }
        if list {
            self.expect('}')?;
        }
        Ok(out)
    }
}
