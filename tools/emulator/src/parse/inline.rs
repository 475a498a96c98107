//! Calls of device functions: the body of each takes the place of its call.
//!
//! A call's parameters are words that the caller writes and the callee reads, so a callee's parameter is only another
//! name for the caller's. Registers, labels and variables of every copy are its own.

use super::{Function, MOST_REGISTERS, Operand, Reg, Statement};
use crate::error::LoadError;
use std::collections::HashMap;

/// A label that is announced and not placed yet.
const UNPLACED: usize = usize::MAX;
/// Most statements, labels, variables and copies of functions that make up one kernel, far above what nvcc leaves in
/// functions.
const MOST_PARTS: usize = 1 << 18;
/// Most calls within calls.
const DEEPEST: usize = 64;

/// The function with the bodies of those it calls. What is called and has no body here stays a call.
pub fn inline(functions: &[Function], entry: &Function) -> Result<Function, LoadError> {
    let mut out = Function { registers: vec![], labels: vec![], variables: vec![], body: vec![], ..entry.clone() };
    let by_name = functions.iter().map(|f| (f.name.as_str(), f)).collect();
    Inliner { functions: by_name, out: &mut out, callers: vec![], copies: 0 }.copy(entry, HashMap::new(), None)?;
    Ok(out)
}

struct Inliner<'a> {
    functions: HashMap<&'a str, &'a Function>,
    out: &'a mut Function,
    /// The functions whose bodies are being copied, the entry first.
    callers: Vec<&'a str>,
    copies: usize,
}

/// One copy of a function.
struct Copy {
    registers: u32,
    labels: usize,
    /// New names of its parameters and variables.
    names: HashMap<String, String>,
    /// Distinguishes its calls' parameters from those of other copies.
    number: usize,
}

impl<'a> Inliner<'a> {
    /// Appends a copy of a function. Its `ret` becomes a jump to `end`; an entry has none.
    fn copy(
        &mut self,
        function: &'a Function,
        names: HashMap<String, String>,
        end: Option<usize>,
    ) -> Result<(), LoadError> {
        let (registers, labels) = (self.out.registers.len() as u32, self.out.labels.len());
        let mut copy = Copy { registers, labels, names, number: self.copies };
        self.copies += 1;
        self.within_bounds(function)?;
        self.out.registers.extend_from_slice(&function.registers);
        self.out.labels.resize(labels + function.labels.len(), UNPLACED);
        for variable in &function.variables {
            let mut variable = variable.clone();
            if end.is_some() {
                let unique = format!("{}.{}", variable.name, copy.number);
                copy.names.insert(std::mem::replace(&mut variable.name, unique.clone()), unique);
            }
            self.out.variables.push(variable);
        }
        let mut placed: Vec<(usize, usize)> = function.labels.iter().enumerate().map(|(l, at)| (*at, l)).collect();
        placed.sort_unstable();
        let mut placed = placed.into_iter().peekable();
        self.callers.push(&function.name);
        for (at, statement) in function.body.iter().enumerate() {
            while let Some((_, label)) = placed.next_if(|(place, _)| *place == at) {
                self.out.labels[labels + label] = self.out.body.len();
            }
            self.statement(statement, &copy, end)?;
        }
        for (_, label) in placed.filter(|(place, _)| *place != UNPLACED) {
            self.out.labels[labels + label] = self.out.body.len();
        }
        self.callers.pop();
        Ok(())
    }

    /// Refuses a copy that makes the kernel too large: calls of calls may multiply a short text without end.
    fn within_bounds(&self, function: &Function) -> Result<(), LoadError> {
        let Function { registers, labels, variables, body, .. } = &*self.out;
        let parts = |f: &Function| f.body.len() + f.labels.len() + f.variables.len();
        let held = self.copies + labels.len() + variables.len() + body.len() + parts(function);
        let bounds = [
            (held, MOST_PARTS, "statements and labels"),
            (registers.len() + function.registers.len(), MOST_REGISTERS, "registers"),
            (self.callers.len(), DEEPEST, "calls within calls"),
        ];
        match bounds.into_iter().find(|(count, most, _)| count > most) {
            Some((_, most, what)) => {
                let message = format!("{}: more than {most} {what} with the functions it calls", self.out.name);
                Err(LoadError::at(function.line, message))
            }
            None => Ok(()),
        }
    }

    fn statement(&mut self, statement: &'a Statement, copy: &Copy, end: Option<usize>) -> Result<(), LoadError> {
        let mut new = statement.clone();
        new.guard = new.guard.map(|(reg, negated)| (copy.register(reg), negated));
        new.operands.iter_mut().for_each(|operand| copy.rename(operand));
        let head = statement.op.split('.').next().unwrap_or("");
        match (head, end) {
            ("call", _) if self.callee(statement).is_some() => {
                let callee = self.callee(statement).expect("asked above");
                self.call(callee, new)
            }
            ("ret", Some(end)) => {
                self.out.body.push(Statement { op: "bra".into(), operands: vec![Operand::Label(end)], ..new });
                Ok(())
            }
            _ => {
                self.out.body.push(new);
                Ok(())
            }
        }
    }

    fn callee(&self, statement: &Statement) -> Option<&'a Function> {
        let name = statement.operands.iter().find_map(|o| if let Operand::Name(name) = o { Some(name) } else { None });
        name.and_then(|name| self.functions.get(name.as_str()).copied())
    }

    /// The callee's body in place of a call, whose operands have been renamed.
    fn call(&mut self, callee: &'a Function, call: Statement) -> Result<(), LoadError> {
        let error = |message: String| LoadError::at(call.line, format!("{}: {message}", call.op));
        if self.callers.contains(&callee.name.as_str()) {
            return Err(error(format!("{} calls itself: recursion is not supported", callee.name)));
        }
        let (returned, given) = match call.operands.as_slice() {
            [Operand::List(out), Operand::Name(_), Operand::List(given)] => (out.as_slice(), given.as_slice()),
            [Operand::List(out), Operand::Name(_)] => (out.as_slice(), &[][..]),
            [Operand::Name(_), Operand::List(given)] => (&[][..], given.as_slice()),
            [Operand::Name(_)] => (&[][..], &[][..]),
            _ => return Err(error("not a call of a named function".into())),
        };
        if (returned.len(), given.len()) != (callee.returns.len(), callee.params.len()) {
            return Err(error(format!("{}: another number of parameters", callee.name)));
        }
        let mut names = HashMap::new();
        for (own, passed) in callee.returns.iter().zip(returned).chain(callee.params.iter().zip(given)) {
            let Operand::Name(passed) = passed else {
                return Err(error("an argument is not a .param variable".into()));
            };
            names.insert(own.name.clone(), passed.clone());
        }
        let end = self.out.labels.len();
        self.out.labels.push(UNPLACED);
        if let Some((reg, negated)) = call.guard {
            let operands = vec![Operand::Label(end)];
            self.out.body.push(Statement { guard: Some((reg, !negated)), op: "bra".into(), operands, ..call });
        }
        self.copy(callee, names, Some(end))?;
        self.out.labels[end] = self.out.body.len();
        Ok(())
    }
}

impl Copy {
    fn register(&self, reg: Reg) -> Reg {
        Reg(reg.0 + self.registers)
    }

    fn rename(&self, operand: &mut Operand) {
        match operand {
            Operand::Reg(reg) | Operand::Not(reg) => *reg = self.register(*reg),
            Operand::Label(label) => *label += self.labels,
            Operand::Name(name) => {
                if let Some(new) = self.names.get(name) {
                    name.clone_from(new);
                } else if name.contains('#') {
                    *name = format!("{name}.{}", self.number);
                }
            }
            Operand::Vector(list) | Operand::List(list) => list.iter_mut().for_each(|o| self.rename(o)),
            Operand::Pair(a, b) => {
                self.rename(a);
                self.rename(b);
            }
            Operand::Address { base, coordinates, .. } => {
                self.rename(base);
                coordinates.iter_mut().for_each(|o| self.rename(o));
            }
            Operand::Sink | Operand::Int(_) | Operand::F32(_) | Operand::F64(_) => {}
        }
    }
}
