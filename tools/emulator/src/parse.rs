//! Tokens to a module whose registers and labels are resolved.
//!
//! Inline assembly brings scopes: `{ .reg .pred P; WAIT: ... bra WAIT; }` may appear once for each inlined copy, so a
//! register or label declared between braces shadows its namesakes outside and is unknown after the closing brace.

mod body;
mod inline;
mod variable;

pub use inline::inline;

use crate::{
    error::LoadError,
    lex::{Kind, Token, lex},
    types::{Space, Ty},
};

/// Largest variable a module may declare: above what any device holds in one array of these spaces.
const LARGEST_VARIABLE: u64 = 1 << 30;
/// Most registers one kernel may declare, far above what nvcc emits.
const MOST_REGISTERS: usize = 1 << 16;

#[derive(Debug)]
pub struct Module {
    /// `sm_90a`, for example.
    pub target: String,
    /// Module-level variables.
    pub variables: Vec<Variable>,
    /// Entries, and the device functions that they call.
    pub functions: Vec<Function>,
    pub device_functions: Vec<Function>,
    /// Source files by their number in `.loc`.
    pub files: Vec<(u32, String)>,
}

#[derive(Debug, Clone)]
pub struct Variable {
    pub name: String,
    pub space: Space,
    pub align: u64,
    /// Bytes; None for `extern .shared x[]`, whose size the launch gives.
    pub size: Option<u64>,
    /// The first bytes; the rest is zero.
    pub initial: Vec<u8>,
    /// Addresses among them: offset of the eight bytes, the variable, and what is added to its address.
    pub addresses: Vec<(usize, String, i64)>,
    pub line: u32,
}

#[derive(Debug, Clone)]
pub struct Param {
    pub name: String,
    pub offset: u32,
    pub size: u32,
}

#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub line: u32,
    pub params: Vec<Param>,
    /// What a device function returns.
    pub returns: Vec<Param>,
    /// `.maxntid` or `.reqntid`, when given.
    pub max_threads: Option<u32>,
    /// `.reqnctapercluster`, when given.
    pub cluster: Option<[u32; 3]>,
    /// Shared and local variables declared in the body.
    pub variables: Vec<Variable>,
    /// Type of each register.
    pub registers: Vec<Ty>,
    pub body: Vec<Statement>,
    /// Statement index of each label.
    pub labels: Vec<usize>,
}

/// Index into `Function::registers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reg(pub u32);

/// Line of a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Line {
    pub file: u32,
    pub line: u32,
}

/// Where an instruction comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Loc {
    /// The kernel's own line.
    pub own: Line,
    /// The line of another function that is inlined there.
    pub inlined: Option<Line>,
}

#[derive(Debug, Clone)]
pub struct Statement {
    /// Predicate register and whether it is negated.
    pub guard: Option<(Reg, bool)>,
    pub op: String,
    pub operands: Vec<Operand>,
    pub line: u32,
    pub loc: Option<Loc>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Reg(Reg),
    /// `!%p`
    Not(Reg),
    /// `_`
    Sink,
    Int(i64),
    F32(u32),
    F64(u64),
    /// A special register, variable, parameter or function.
    Name(String),
    /// Index into `Function::labels`.
    Label(usize),
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// `d|p`
    Pair(Box<Operand>, Box<Operand>),
    /// `[base+offset]`, or `[base, {x, y}]`
    Address {
        base: Box<Operand>,
        offset: i64,
        coordinates: Vec<Operand>,
    },
    /// `(a, b)` of a call
    List(Vec<Operand>),
}

/// Parses a PTX text.
pub fn parse(text: &str) -> Result<Module, LoadError> {
    let tokens = lex(text)?;
    Parser { tokens: &tokens, at: 0 }.module()
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Parser<'a> {
    fn module(mut self) -> Result<Module, LoadError> {
        let mut module = Module {
            target: String::new(),
            variables: vec![],
            functions: vec![],
            device_functions: vec![],
            files: vec![],
        };
        while self.at < self.tokens.len() {
            let line = self.line();
            match self.word()? {
                ".version" => self.skip_to_line_end(line),
                ".address_size" => match self.integer()? {
                    64 => {}
                    other => return Err(LoadError::at(line, format!(".address_size {other}: only 64 is supported"))),
                },
                ".target" => {
                    module.target = self.word()?.to_string();
                    self.skip_to_line_end(line);
                }
                ".file" => {
                    let number = self.integer()? as u32;
                    if let Some(Kind::Text(name)) = self.next().map(|t| &t.kind) {
                        module.files.push((number, name.clone()));
                    }
                    self.skip_to_line_end(line);
                }
                ".section" => self.skip_braces(),
                ".visible" | ".weak" => {}
                ".extern" => self.external(&mut module)?,
                ".entry" => module.functions.push(self.entry()?),
                ".func" => module.device_functions.extend(self.device_function()?),
                word if word.strip_prefix('.').and_then(Space::parse).is_some() => {
                    let space = Space::parse(&word[1..]).expect("matched above");
                    module.variables.push(self.variable(space)?);
                }
                word => return Err(LoadError::at(line, format!("{word}: not a directive of a module"))),
            }
        }
        if module.target.is_empty() {
            return Err(LoadError::at(0, "the text: no .target directive; is it PTX?"));
        }
        Ok(module)
    }

    /// `.extern .shared` is dynamic shared memory; `.extern .func` is known by its name when it is called.
    fn external(&mut self, module: &mut Module) -> Result<(), LoadError> {
        let line = self.line();
        match self.word()? {
            ".func" => {
                while !self.eat(';') {
                    self.next().ok_or_else(|| LoadError::at(line, ".extern .func: no ; ends it"))?;
                }
            }
            ".shared" => module.variables.push(self.variable(Space::Shared)?),
            word => return Err(LoadError::at(line, format!(".extern {word}: only .func and .shared can be external"))),
        }
        Ok(())
    }

    fn entry(&mut self) -> Result<Function, LoadError> {
        let mut function = self.header(vec![])?;
        self.body(&mut function)?;
        Ok(function)
    }

    /// A function with its body; None for a declaration without one.
    fn device_function(&mut self) -> Result<Option<Function>, LoadError> {
        let returns = if self.eat('(') { self.params()? } else { vec![] };
        let mut function = self.header(returns)?;
        if self.eat(';') {
            return Ok(None);
        }
        self.body(&mut function)?;
        Ok(Some(function))
    }

    /// Name, parameters and directives of a function.
    fn header(&mut self, returns: Vec<Param>) -> Result<Function, LoadError> {
        let line = self.line();
        let mut function = Function {
            name: self.word()?.to_string(),
            line,
            params: vec![],
            returns,
            max_threads: None,
            cluster: None,
            variables: vec![],
            registers: vec![],
            body: vec![],
            labels: vec![],
        };
        if self.eat('(') {
            function.params = self.params()?;
        }
        while !self.peek_punct('{') && !self.peek_punct(';') {
            let line = self.line();
            match self.word()? {
                ".maxntid" | ".reqntid" => {
                    let threads = self.triple()?.iter().try_fold(1u32, |a, b| a.checked_mul(*b));
                    function.max_threads =
                        Some(threads.ok_or_else(|| LoadError::at(line, ".maxntid: more than 2^32 threads"))?);
                }
                ".reqnctapercluster" => function.cluster = Some(self.triple()?),
                ".explicitcluster" | ".noreturn" => {}
                // Register and occupancy hints do not change what a kernel computes.
                ".minnctapersm" | ".maxnreg" | ".maxclusterrank" => {
                    self.integer()?;
                }
                word => return Err(LoadError::at(line, format!("{word}: not a directive of a function"))),
            }
        }
        Ok(function)
    }

    fn params(&mut self) -> Result<Vec<Param>, LoadError> {
        let mut params = vec![];
        let mut end = 0u64;
        while !self.eat(')') {
            let line = self.line();
            if self.word()? != ".param" {
                return Err(LoadError::at(line, "a parameter list: .param expected"));
            }
            let variable = self.declaration(Space::Param)?;
            let size = variable.size.unwrap_or(0);
            let offset = end.next_multiple_of(variable.align);
            end = offset + size;
            if end > 32764 {
                return Err(LoadError::at(line, format!("{}: parameters exceed 32764 bytes", variable.name)));
            }
            params.push(Param { name: variable.name, offset: offset as u32, size: size as u32 });
            self.eat(',');
        }
        Ok(params)
    }

    fn triple(&mut self) -> Result<[u32; 3], LoadError> {
        let mut out = [1; 3];
        out[0] = self.integer()? as u32;
        for value in &mut out[1..] {
            if self.eat(',') {
                *value = self.integer()? as u32;
            }
        }
        Ok(out)
    }

    fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |t| t.line)
    }

    fn peek(&self) -> Option<&'a Kind> {
        self.tokens.get(self.at).map(|t| &t.kind)
    }

    fn next(&mut self) -> Option<&'a Token> {
        self.at += 1;
        self.tokens.get(self.at - 1)
    }

    fn peek_punct(&self, c: char) -> bool {
        self.peek() == Some(&Kind::Punct(c))
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek_punct(c);
        self.at += found as usize;
        found
    }

    fn expect(&mut self, c: char) -> Result<(), LoadError> {
        let (line, found) = (self.line(), self.peek());
        let found = name_of(found);
        if self.eat(c) { Ok(()) } else { Err(LoadError::at(line, format!("{found}: '{c}' expected"))) }
    }

    fn word(&mut self) -> Result<&'a str, LoadError> {
        let line = self.line();
        match self.next().map(|t| &t.kind) {
            Some(Kind::Word(word)) => Ok(word),
            other => Err(LoadError::at(line, format!("{}: a name expected", name_of(other)))),
        }
    }

    fn integer(&mut self) -> Result<i64, LoadError> {
        let line = self.line();
        let negative = self.eat('-');
        match self.next().map(|t| &t.kind) {
            Some(Kind::Int(value)) => Ok(if negative { (*value as i64).wrapping_neg() } else { *value as i64 }),
            other => Err(LoadError::at(line, format!("{}: an integer expected", name_of(other)))),
        }
    }

    fn skip_to_line_end(&mut self, line: u32) {
        while self.tokens.get(self.at).is_some_and(|t| t.line == line) {
            self.at += 1;
        }
    }

    /// Debug sections: a name and braces with nothing the emulator needs.
    fn skip_braces(&mut self) {
        while let Some(token) = self.next() {
            if token.kind == Kind::Punct('}') {
                return;
            }
        }
    }
}

/// What was found, for a message.
fn name_of(found: Option<&Kind>) -> String {
    match found {
        None => "the end of the text".to_string(),
        Some(Kind::Word(word)) => word.to_string(),
        Some(Kind::Punct(c)) => format!("'{c}'"),
        Some(other) => format!("{other:?}"),
    }
}
