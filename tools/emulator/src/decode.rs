//! Statements to typed instructions. A form that is not matched whole is an error that names its line.

mod compare;
mod control;
mod copy;
mod memory;
mod opcode;
mod operand;
mod sync;
mod tensor;
mod warp;
mod wgmma;

use crate::{
    alu::Alu,
    cfg::{Blocks, Effects, Flow},
    error::LoadError,
    ir::{Ins, Kernel, MbarrierOp, Op, Special},
    parse::{Function, Module, Operand, Statement, Variable},
    regs::Slot,
    types::{Space, Ty},
    window,
};
use opcode::Opcode;
use std::collections::{HashMap, HashSet};

/// Bytes of the sets of registers that the analyses of an entry may hold. Kernels have thousands of registers and of blocks
/// at most, which is less than a megabyte.
const MOST_SETS: usize = 32 << 20;

/// Where each module-level variable of global and constant memory was placed.
pub type Addresses = HashMap<String, u64>;

/// Decodes one entry of a module.
pub fn decode(module: &Module, function: &Function, addresses: &Addresses) -> Result<Kernel, LoadError> {
    let mut lower = Lower::new(module, function, addresses)?;
    let mut code = Vec::with_capacity(function.body.len() + 1);
    let mut flow = Vec::with_capacity(function.body.len() + 1);
    let mut effects = Vec::with_capacity(function.body.len() + 1);
    for statement in &function.body {
        let op = lower.statement(statement)?;
        let guard = match statement.guard {
            Some((reg, negated)) => Some((lower.source(&Operand::Reg(reg), Ty::Pred)?, negated)),
            None => None,
        };
        flow.push(match &op {
            Op::Branch { target, .. } if guard.is_some() => Flow::Branch(*target as usize),
            Op::Branch { target, .. } => Flow::Jump(*target as usize),
            Op::Exit | Op::Trap if guard.is_none() => Flow::Exit,
            _ => Flow::Next,
        });
        effects.push(lower.take_effects(guard.is_some()));
        code.push(Ins { op, guard, line: statement.line, loc: statement.loc });
    }
    // A body may end without `ret`.
    code.push(Ins { op: Op::Exit, guard: None, line: function.line, loc: None });
    flow.push(Flow::Exit);
    effects.push(Effects::default());
    if let Some(pc) = flow.iter().position(|f| matches!(f, Flow::Jump(t) | Flow::Branch(t) if *t >= code.len())) {
        return Err(LoadError::at(code[pc].line, "a branch: its label is not placed in this entry"));
    }
    let blocks = Blocks::new(&flow);
    for (pc, join) in blocks.joins().into_iter().enumerate() {
        // Lanes that meet only to leave need not wait for each other.
        let join = join.filter(|join| !matches!(code[*join].op, Op::Exit));
        if let Op::Branch { join: slot, .. } = &mut code[pc].op {
            *slot = join.map_or(u32::MAX, |join| join as u32);
        }
    }
    let registers = function.registers.len();
    let products = code.iter().filter(|ins| matches!(ins.op, Op::Wgmma(_))).count();
    let sets = blocks.table_bytes(registers, products);
    if sets > MOST_SETS {
        let message = format!(
            "{}: the sets of its {registers} registers before its blocks would take {sets} bytes, {MOST_SETS} at most; \
             declare fewer registers or split it",
            function.name
        );
        return Err(LoadError::at(function.line, message));
    }
    mark_waits(&mut code, &effects);
    let unwritten = blocks.read_before_written(&effects, registers);
    let touches = wgmma::check(&mut code, &blocks, &effects, &lower);
    Ok(lower.finish(code, &unwritten, touches))
}

/// Finds waits for an mbarrier whose result no instruction reads, and those that are asked again at once where they fail:
/// `@!done bra WAIT`, or `@done bra ON; bra WAIT`.
fn mark_waits(code: &mut [Ins], effects: &[Effects]) {
    let read: HashSet<u32> = effects.iter().flat_map(|e| e.reads.iter().copied()).collect();
    // Guard and target of a branch.
    let branch = |ins: Option<&Ins>| match ins {
        Some(Ins { op: Op::Branch { target, .. }, guard, .. }) => Some((*guard, *target as usize)),
        _ => None,
    };
    for pc in 0..effects.len() {
        let (next, after) = (branch(code.get(pc + 1)), branch(code.get(pc + 2)));
        if let Op::Mbarrier(mbarrier) = &mut code[pc].op
            && let MbarrierOp::Wait { out, ignored, retried, .. } = &mut mbarrier.op
        {
            *ignored = !effects[pc].writes.iter().any(|r| read.contains(r));
            *retried = match (next, after) {
                (Some((Some((guard, true)), to)), _) if guard == *out => to == pc,
                (Some((Some((guard, false)), _)), Some((None, to))) if guard == *out => to == pc,
                _ => false,
            };
        }
    }
}

/// A word of a call's parameter.
struct CallParam {
    offset: i64,
    bytes: u32,
    slot: Slot,
}

/// What is known while the statements of one entry are decoded.
struct Lower<'a> {
    module: &'a Module,
    function: &'a Function,
    /// Address of every variable and parameter, with its space.
    symbols: HashMap<String, (Space, u64)>,
    /// Slot of each register.
    slots: Vec<Slot>,
    rows: u32,
    masks: u32,
    /// A row pair for each constant; the first row serves 32-bit uses.
    constants: HashMap<u64, Slot>,
    truth: Option<Slot>,
    falsehood: Option<Slot>,
    /// The carry flag.
    flag: Option<Slot>,
    specials: HashMap<Special, Slot>,
    /// Registers that stand for the parameters of a call.
    call_params: HashMap<String, Vec<CallParam>>,
    static_shared: u32,
    dynamic_shared: u32,
    local: u32,
    effects: Effects,
    current: Option<&'a Statement>,
}

impl<'a> Lower<'a> {
    fn new(module: &'a Module, function: &'a Function, addresses: &Addresses) -> Result<Self, LoadError> {
        let mut lower = Lower {
            module,
            function,
            symbols: addresses.iter().map(|(name, at)| (name.clone(), (Space::Global, *at))).collect(),
            slots: Vec::with_capacity(function.registers.len()),
            rows: 0,
            masks: 0,
            constants: HashMap::new(),
            truth: None,
            falsehood: None,
            flag: None,
            specials: HashMap::new(),
            call_params: HashMap::new(),
            static_shared: 0,
            dynamic_shared: 0,
            local: 0,
            effects: Effects::default(),
            current: None,
        };
        for ty in &function.registers {
            let slot = match ty {
                Ty::Pred => lower.new_mask(),
                Ty::B128 => return Err(LoadError::at(function.line, ".b128: registers of 128 bits are not supported")),
                ty if ty.size() == 8 => lower.new_rows(2),
                _ => lower.new_rows(1),
            };
            lower.slots.push(slot);
        }
        for param in &function.params {
            lower.symbols.insert(param.name.clone(), (Space::Param, u64::from(param.offset)));
        }
        lower.place_variables()?;
        Ok(lower)
    }

    /// Lays out shared memory, static before dynamic, and local memory.
    fn place_variables(&mut self) -> Result<(), LoadError> {
        let (mut shared, mut local, mut dynamic_align) = (u64::from(window::SHARED_BASE), 0u64, 16u64);
        let of_module: Vec<&Variable> = self.module.variables.iter().filter(|v| self.uses(&v.name)).collect();
        let mut dynamic = vec![];
        for variable in of_module.into_iter().chain(&self.function.variables) {
            let end = match (variable.space, variable.size) {
                (Space::Shared, None) => {
                    dynamic_align = dynamic_align.max(variable.align);
                    dynamic.push(&variable.name);
                    continue;
                }
                (Space::Shared, Some(_)) => &mut shared,
                (Space::Local, Some(_)) => &mut local,
                _ => continue,
            };
            let at = end.next_multiple_of(variable.align);
            *end = at + variable.size.unwrap_or(0);
            if *end > 1 << 20 {
                return Err(LoadError::at(variable.line, format!("{}: variables exceed 1 MiB", variable.name)));
            }
            self.symbols.insert(variable.name.clone(), (variable.space, at));
        }
        self.static_shared = shared as u32 - window::SHARED_BASE;
        self.dynamic_shared = shared.next_multiple_of(dynamic_align) as u32;
        self.local = local.next_multiple_of(16) as u32;
        for name in dynamic {
            self.symbols.insert(name.clone(), (Space::Shared, u64::from(self.dynamic_shared)));
        }
        Ok(())
    }

    /// Whether the entry names a module-level variable.
    fn uses(&self, name: &str) -> bool {
        fn names(operand: &Operand, name: &str) -> bool {
            match operand {
                Operand::Name(word) => word == name,
                Operand::Vector(list) | Operand::List(list) => list.iter().any(|o| names(o, name)),
                Operand::Address { base, .. } => names(base, name),
                _ => false,
            }
        }
        self.function.body.iter().any(|s| s.operands.iter().any(|o| names(o, name)))
    }

    fn statement(&mut self, statement: &'a Statement) -> Result<Op, LoadError> {
        self.current = Some(statement);
        if let Some(op) = Alu::parse(&statement.op)
            && !statement.operands.iter().any(|o| matches!(o, Operand::Vector(_)))
        {
            return self.lane_wise(op, &statement.operands);
        }
        let mut opcode = Opcode::new(&statement.op);
        let operands = statement.operands.as_slice();
        let op = match opcode.next() {
            "setp" => self.compare(&mut opcode, operands, true)?,
            "set" => self.compare(&mut opcode, operands, false)?,
            "add" | "addc" | "sub" | "subc" | "mad" | "madc" => self.carry(&mut opcode, operands)?,
            "createpolicy" => self.policy(&mut opcode, operands)?,
            "mov" => self.pack(&mut opcode, operands)?,
            "cvta" => self.convert_address(&mut opcode, operands)?,
            "ld" | "ldu" => self.load(&mut opcode, operands)?,
            "st" => self.store(&mut opcode, operands)?,
            "atom" => self.atomic(&mut opcode, operands, true)?,
            "red" => self.atomic(&mut opcode, operands, false)?,
            "mapa" => self.map_shared(&mut opcode, operands)?,
            "isspacep" => self.is_space(&mut opcode, operands)?,
            "shfl" => self.shuffle(&mut opcode, operands)?,
            "vote" => self.vote(&mut opcode, operands)?,
            "match" => self.match_values(&mut opcode, operands)?,
            "redux" => self.redux(&mut opcode, operands)?,
            "activemask" => self.active_mask(&mut opcode, operands)?,
            "elect" => self.elect(&mut opcode, operands)?,
            "bar" | "barrier" => self.barrier(&mut opcode, operands)?,
            "membar" | "fence" => self.fence(&mut opcode)?,
            "ldmatrix" => self.matrices(&mut opcode, operands, true)?,
            "stmatrix" => self.matrices(&mut opcode, operands, false)?,
            "mma" => self.mma(&mut opcode, operands)?,
            "wgmma" => self.wgmma(&mut opcode, operands)?,
            "setmaxnreg" => self.set_max_registers(&mut opcode, operands)?,
            "cp" => self.copy_async(&mut opcode, operands)?,
            "mbarrier" => self.mbarrier(&mut opcode, operands)?,
            "bra" => self.branch(&mut opcode, operands)?,
            "call" => self.call(&mut opcode, operands)?,
            "ret" | "exit" => Op::Exit,
            "trap" => Op::Trap,
            // Hints: they move no data that the emulator models and only cost time.
            "prefetch" | "prefetchu" | "nanosleep" | "griddepcontrol" | "applypriority" | "discard" => {
                self.hint(&mut opcode, operands)?
            }
            _ => return Err(self.error("not implemented by the emulator")),
        };
        if !opcode.finished() {
            return Err(self.error(&format!("modifier .{} is not implemented by the emulator", opcode.peek())));
        }
        Ok(op)
    }

    fn lane_wise(&mut self, op: Alu, operands: &[Operand]) -> Result<Op, LoadError> {
        let signature = op.signature();
        let [out, sources @ ..] = operands else {
            return Err(self.error("no destination"));
        };
        if let [Operand::Name(name)] = sources
            && matches!(name.as_str(), "%clock" | "%clock64" | "%globaltimer" | "%globaltimer_lo" | "%clock_hi")
        {
            let wide = matches!(name.as_str(), "%clock64" | "%globaltimer");
            return Ok(Op::Clock { out: self.dest(out, signature.out)?, wide });
        }
        if sources.len() != signature.args.len() {
            return Err(self.error(&format!("{} sources given, {} expected", sources.len(), signature.args.len())));
        }
        let mut args = [Slot(0); 4];
        for ((slot, source), ty) in args.iter_mut().zip(sources).zip(signature.args) {
            *slot = self.source(source, *ty)?;
        }
        Ok(Op::Alu { op, out: self.dest(out, signature.out)?, args })
    }

    fn finish(self, code: Vec<Ins>, unwritten: &[u32], touches: Vec<Box<[Slot]>>) -> Kernel {
        let mut constants = vec![];
        for (value, slot) in &self.constants {
            constants.push((*slot, *value as u32));
            constants.push((slot.high(), (*value >> 32) as u32));
        }
        constants.sort_unstable();
        let (mut poisoned, mut poisoned_masks) = (vec![], vec![]);
        for register in unwritten {
            let (slot, ty) = (self.slots[*register as usize], self.function.registers[*register as usize]);
            match ty.size() {
                0 => poisoned_masks.push(slot),
                8 => poisoned.extend([slot, slot.high()]),
                _ => poisoned.push(slot),
            }
        }
        let mut specials: Vec<(Slot, Special)> =
            self.specials.into_iter().map(|(special, slot)| (slot, special)).collect();
        specials.sort_unstable_by_key(|(slot, _)| *slot);
        let mut opcodes: Vec<String> = self.function.body.iter().map(|s| s.op.clone()).collect();
        opcodes.push("exit".to_string());
        Kernel {
            name: self.function.name.clone(),
            code,
            opcodes,
            rows: self.rows as usize,
            masks: self.masks as usize,
            constants,
            truths: self.truth.into_iter().collect(),
            specials,
            poisoned,
            poisoned_masks,
            touches,
            params: self.function.params.clone(),
            static_shared: self.static_shared,
            dynamic_shared: self.dynamic_shared,
            local: self.local,
            max_threads: self.function.max_threads,
            cluster: self.function.cluster,
            target: self.module.target.clone(),
        }
    }
}
