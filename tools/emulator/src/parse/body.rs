//! The body of an entry: declarations, labels and instructions, in nested scopes.

use super::{Function, Line, Loc, MOST_REGISTERS, Operand, Parser, Reg, Statement};
use crate::{
    error::LoadError,
    lex::Kind,
    types::{Space, Ty},
};
use std::collections::HashMap;

/// Names declared between one pair of braces.
#[derive(Default)]
struct Scope {
    registers: HashMap<String, Reg>,
    /// `%r<100>`: prefix to first register and count.
    ranges: HashMap<String, (u32, u32)>,
    labels: HashMap<String, usize>,
    /// Parameters of a call, renamed so that each call has its own.
    params: HashMap<String, String>,
}

struct Body<'a> {
    scopes: Vec<Scope>,
    function: &'a mut Function,
    loc: Option<Loc>,
    /// Where the function of a place was last inlined.
    callers: HashMap<Place, Place>,
    call_params: usize,
}

/// A line and a column.
type Place = (Line, u32);

impl Body<'_> {
    /// Where an instruction comes from, whose place is that of a function which is inlined at another one, which may be one
    /// of a function inlined in its turn.
    fn origin(&mut self, place: Place, at: Option<Place>) -> Loc {
        // Deep enough for any program; a text may go in circles.
        const DEEPEST: usize = 64;
        let Some(at) = at else {
            self.callers.remove(&place);
            return Loc { own: place.0, inlined: None };
        };
        self.callers.insert(place, at);
        let chain = std::iter::successors(Some(at), |at| self.callers.get(at).copied());
        let own = chain.take(DEEPEST).last().unwrap_or(at);
        Loc { own: own.0, inlined: Some(place.0) }
    }
}

/// A label that has been announced and not yet reached.
const UNPLACED: usize = usize::MAX;
/// Each scope is scanned for its labels, so depth times length must stay small.
const DEEPEST_SCOPE: usize = 32;

impl Parser<'_> {
    pub(super) fn body(&mut self, function: &mut Function) -> Result<(), LoadError> {
        let opening = self.line();
        self.expect('{')?;
        let mut body = Body { scopes: vec![], function, loc: None, callers: HashMap::new(), call_params: 0 };
        self.open_scope(&mut body);
        while !body.scopes.is_empty() {
            let line = self.line();
            match self.peek() {
                None => return Err(LoadError::at(opening, "the body of an entry: no } closes it")),
                Some(Kind::Punct('{')) => {
                    if body.scopes.len() == DEEPEST_SCOPE {
                        return Err(LoadError::at(line, format!("{{: scopes nested more than {DEEPEST_SCOPE} deep")));
                    }
                    self.at += 1;
                    self.open_scope(&mut body);
                }
                Some(Kind::Punct('}')) => {
                    self.at += 1;
                    body.scopes.pop();
                }
                Some(Kind::Punct(';')) => self.at += 1,
                Some(Kind::Word(word)) if self.label_follows(0) => {
                    let index =
                        body.label(word).ok_or_else(|| LoadError::at(line, format!("{word}: no such label")))?;
                    if body.function.labels[index] != UNPLACED {
                        return Err(LoadError::at(line, format!("{word}: label defined twice in one scope")));
                    }
                    body.function.labels[index] = body.function.body.len();
                    self.at += 2;
                }
                Some(Kind::Word(word)) if word.starts_with('.') => {
                    self.at += 1;
                    self.directive(word, line, &mut body)?;
                }
                _ => {
                    let statement = self.statement(&body)?;
                    body.function.body.push(statement);
                }
            }
        }
        Ok(())
    }

    fn label_follows(&self, ahead: usize) -> bool {
        self.tokens.get(self.at + ahead + 1).is_some_and(|t| t.kind == Kind::Punct(':'))
    }

    /// Opens a scope and announces its labels, which may be used before they are placed.
    fn open_scope(&mut self, body: &mut Body) {
        let mut scope = Scope::default();
        let mut depth = 0;
        for (ahead, token) in self.tokens[self.at.min(self.tokens.len())..].iter().enumerate() {
            match &token.kind {
                Kind::Punct('{') => depth += 1,
                Kind::Punct('}') if depth == 0 => break,
                Kind::Punct('}') => depth -= 1,
                Kind::Word(word) if depth == 0 && self.label_follows(ahead) => {
                    scope.labels.insert(word.clone(), body.function.labels.len());
                    body.function.labels.push(UNPLACED);
                }
                _ => {}
            }
        }
        body.scopes.push(scope);
    }

    /// File, line and column.
    fn place(&mut self) -> Result<Place, LoadError> {
        let [file, line, column] = [self.integer()?, self.integer()?, self.integer()?].map(|number| number as u32);
        Ok((Line { file, line }, column))
    }

    fn directive(&mut self, word: &str, line: u32, body: &mut Body) -> Result<(), LoadError> {
        match word {
            ".loc" => {
                let place = self.place()?;
                let mut at = None;
                while self.line() == line && at.is_none() && self.peek().is_some() {
                    let inlined = self.peek() == Some(&Kind::Word("inlined_at".to_string()));
                    self.at += 1;
                    at = if inlined { Some(self.place()?) } else { None };
                }
                self.skip_to_line_end(line);
                body.loc = Some(body.origin(place, at));
            }
            ".reg" => {
                let word = self.word()?;
                self.registers(word, line, body)?;
            }
            // Inline assembly may leave out the space: `.reg.b16`.
            word if word.starts_with(".reg.") => self.registers(&word[".reg".len()..], line, body)?,
            ".shared" => {
                let variable = self.variable(Space::Shared)?;
                body.function.variables.push(variable);
            }
            ".local" => {
                let variable = self.variable(Space::Local)?;
                body.function.variables.push(variable);
            }
            ".param" => {
                let variable = self.variable(Space::Param)?;
                body.call_params += 1;
                let unique = format!("{}#{}", variable.name, body.call_params);
                body.scope().params.insert(variable.name, unique);
            }
            // The shapes of indirect calls and jumps, which are refused where they stand.
            ".callprototype" | ".calltargets" | ".branchtargets" => {
                while !self.eat(';') {
                    self.next().ok_or_else(|| LoadError::at(line, format!("{word}: no ; ends it")))?;
                }
            }
            // Hints to the optimiser about the loop that follows.
            ".pragma" => self.skip_to_line_end(line),
            _ => return Err(LoadError::at(line, format!("{word}: not a directive of a body"))),
        }
        Ok(())
    }

    fn registers(&mut self, word: &str, line: u32, body: &mut Body) -> Result<(), LoadError> {
        let ty = Ty::parse(word.trim_start_matches('.'))
            .ok_or_else(|| LoadError::at(line, format!("{word}: not a register type")))?;
        loop {
            let name = self.word()?.to_string();
            let first = body.function.registers.len() as u32;
            let count = if self.eat('<') {
                let count = self.integer()?;
                self.expect('>')?;
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                body.scope().ranges.insert(name, (first, count.min(MOST_REGISTERS) as u32));
                count
            } else {
                body.scope().registers.insert(name, Reg(first));
                1
            };
            if body.function.registers.len().saturating_add(count) > MOST_REGISTERS {
                return Err(LoadError::at(line, format!(".reg: more than {MOST_REGISTERS} registers in one entry")));
            }
            body.function.registers.resize(first as usize + count, ty);
            if !self.eat(',') {
                return self.expect(';');
            }
        }
    }

    fn statement(&mut self, body: &Body) -> Result<Statement, LoadError> {
        let line = self.line();
        let guard = if self.eat('@') {
            let negated = self.eat('!');
            let name = self.word()?;
            let reg = body.register(name).ok_or_else(|| LoadError::at(line, format!("{name}: no such register")))?;
            Some((reg, negated))
        } else {
            None
        };
        let op = self.word()?.to_string();
        let mut operands = vec![];
        while !self.eat(';') {
            operands.push(self.operand(body, 0)?);
            if !self.eat(',') {
                self.expect(';')?;
                break;
            }
        }
        Ok(Statement { guard, op, operands, line, loc: body.loc })
    }

    fn operand(&mut self, body: &Body, depth: u32) -> Result<Operand, LoadError> {
        let line = self.line();
        if depth > 4 {
            return Err(LoadError::at(line, "an operand: nested too deeply"));
        }
        let operand = match self.peek() {
            Some(Kind::Punct('{')) => Operand::Vector(self.operands(body, '{', '}', depth)?),
            Some(Kind::Punct('(')) => Operand::List(self.operands(body, '(', ')', depth)?),
            Some(Kind::Punct('[')) => self.address(body, depth)?,
            Some(Kind::Punct('!')) => {
                self.at += 1;
                let name = self.word()?;
                Operand::Not(body.register(name).ok_or_else(|| LoadError::at(line, format!("{name}: no register")))?)
            }
            Some(Kind::F32(bits)) => {
                self.at += 1;
                Operand::F32(*bits)
            }
            Some(Kind::F64(bits)) => {
                self.at += 1;
                Operand::F64(*bits)
            }
            Some(Kind::Word(word)) => {
                self.at += 1;
                body.name(word)
            }
            _ => Operand::Int(self.integer()?),
        };
        if self.eat('|') {
            return Ok(Operand::Pair(Box::new(operand), Box::new(self.operand(body, depth + 1)?)));
        }
        Ok(operand)
    }

    fn operands(&mut self, body: &Body, open: char, close: char, depth: u32) -> Result<Vec<Operand>, LoadError> {
        self.expect(open)?;
        let mut out = vec![];
        while !self.eat(close) {
            out.push(self.operand(body, depth + 1)?);
            if !self.eat(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(out)
    }

    fn address(&mut self, body: &Body, depth: u32) -> Result<Operand, LoadError> {
        self.expect('[')?;
        let base = self.operand(body, depth + 1)?;
        let offset = if self.eat('+') || self.peek_punct('-') { self.integer()? } else { 0 };
        let coordinates = if self.eat(',') { self.operands(body, '{', '}', depth)? } else { vec![] };
        self.expect(']')?;
        Ok(Operand::Address { base: Box::new(base), offset, coordinates })
    }
}

impl Body<'_> {
    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("a body is parsed inside its own scope")
    }

    fn label(&self, name: &str) -> Option<usize> {
        self.scopes.iter().rev().find_map(|s| s.labels.get(name)).copied()
    }

    fn register(&self, name: &str) -> Option<Reg> {
        self.scopes.iter().rev().find_map(|scope| scope.register(name))
    }

    /// What a bare word denotes: the innermost declaration, or a name the decoder knows.
    fn name(&self, word: &str) -> Operand {
        if word == "_" {
            return Operand::Sink;
        }
        for scope in self.scopes.iter().rev() {
            if let Some(reg) = scope.register(word) {
                return Operand::Reg(reg);
            }
            if let Some(label) = scope.labels.get(word) {
                return Operand::Label(*label);
            }
            if let Some(unique) = scope.params.get(word) {
                return Operand::Name(unique.clone());
            }
        }
        Operand::Name(word.to_string())
    }
}

impl Scope {
    fn register(&self, name: &str) -> Option<Reg> {
        if let Some(reg) = self.registers.get(name) {
            return Some(*reg);
        }
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let (first, count) = self.ranges.get(prefix)?;
        let digits = &name[prefix.len()..];
        // `%r01` is not `%r1`.
        let canonical = !digits.is_empty() && (digits == "0" || !digits.starts_with('0'));
        let index: u32 = digits.parse().ok().filter(|_| canonical)?;
        (index < *count).then(|| Reg(first + index))
    }
}
