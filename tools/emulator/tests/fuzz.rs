//! Broken PTX must be refused or run, and never crash or hang the loader. FUZZ_SECONDS says how long to try; 2 if unset.

mod common;

use common::*;
use emulator::{Argument, Config, Device, Launch, Module};
use std::time::{Duration, Instant};

/// A text with scopes, vectors, variables and every kind of operand, for machines without nvcc.
const SEED: &str = r#"
.version 8.0
.target sm_90a
.address_size 64
.file 1 "x.cu"
.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
.func (.param .b32 r) twice(.param .b32 a)
{
    .reg .b32 %x;
    .reg .pred %odd;
    ld.param.b32 %x, [a];
    setp.lt.s32 %odd, %x, 10;
    @%odd bra SMALL;
    add.s32 %x, %x, %x;
    st.param.b32 [r], %x;
    ret;
SMALL:
    st.param.b32 [r], 1;
    ret;
}
.func nothing() { ret; }
.func again()
{
    .reg .b32 %r<9>;
    call nothing;
    { .param .b32 p; st.param.b32 [p], %r1; .param .b32 q; call.uni (q), twice, (p); ld.param.b32 %r1, [q]; }
}
.const .align 4 .b8 table[16] = {1, 2, 0xff};
.extern .shared .align 16 .b8 dynamic[];
.visible .entry kernel(.param .u64 p, .param .align 64 .b8 q[128])
.maxntid 128, 1, 1
{
    .local .align 8 .b8 __local_depot0[16];
    .shared .align 8 .b8 fixed[64];
    .reg .pred %p<4>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<5>;
    .reg .f32 %f<3>;
    .loc 1 3 0
    ld.param.u64 %rd1, [p];
    mov.b64 {%r1, %r2}, %rd1;
    mov.f32 %f1, 0f3F800000;
$L1:
    { .reg .pred P; setp.lt.s32 P, %r1, -5; @!P bra AGAIN; AGAIN: bra.uni $L2; }
$L2:
    ld.global.v4.u32 {%r1, %r2, _, %r4}, [%rd1+-16];
    shfl.sync.bfly.b32 %r5|%p1, %r4, 1, 31, -1;
    @%p1 bra $L1;
    { .param .b64 a; st.param.b64 [a+0], %rd1; .param .b64 b; st.param.b64 [b+0], %rd2; .param .b32 r;
      call.uni (r), vprintf, (a, b); ld.param.b32 %r6, [r+0]; }
    st.shared.u32 [fixed+4], %r6;
    call again;
    bar.sync 0;
    ret;
}
"#;

/// Nothing that can be read takes longer to load.
const SLOW: Duration = Duration::from_secs(5);

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// Pieces that break texts in interesting ways.
const PIECES: [&str; 26] = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ",",
    "@",
    "|",
    "%r<99999999>",
    ".reg .b32 ",
    "-9223372036854775808",
    "0f",
    "0x",
    "\"",
    "/*",
    "//",
    "$L1:",
    ".b8 x[4294967296]",
    "18446744073709551616",
    "::",
    "\u{fffd}",
    "bra $L1;",
    "call again;",
    ".func again() {",
];

fn broken(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..1 + random.below(4) {
        let (at, to) = (random.below(bytes.len()), random.below(bytes.len()));
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] = random.below(256) as u8,
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at.min(to)..(at.min(to) + random.below(40)).min(bytes.len()))),
            3 => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.bytes());
            }
            4 => {
                let copy: Vec<u8> = bytes[at..(at + random.below(200)).min(bytes.len())].to_vec();
                bytes.splice(to..to, copy);
            }
            _ => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|k| bytes[*k].is_ascii_digit()).collect();
                if !digits.is_empty() {
                    bytes[digits[random.below(digits.len())]] = b'0' + random.below(10) as u8;
                }
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A chain of functions, each of which holds `body` and calls the one before `calls` times.
fn chain(length: usize, calls: usize, body: &str) -> String {
    let mut text = format!(".version 8.0\n.target sm_90a\n.address_size 64\n.func f0()\n{{\n{body}\nret;\n}}\n");
    for k in 1..length {
        text += &format!(".func f{k}()\n{{\n{}}}\n", format!("call f{};\n", k - 1).repeat(calls));
    }
    text + &format!(".visible .entry kernel()\n{{\ncall f{};\nret;\n}}\n", length - 1)
}

#[test]
fn functions_that_multiply_are_refused_at_once() {
    let load = |text: &str| {
        let mut device = Device::new(Config { memory: 1 << 20, ..Config::default() }).expect("a supported CPU");
        device.load(text).and_then(|module| module.function("kernel")).map_err(|error| error.to_string())
    };
    assert!(load(&chain(60, 1, "")).is_ok());
    for (text, why) in [
        (chain(40, 2, ""), "statements and labels"),
        (chain(14, 2, ".reg .b32 %r<60000>;"), "registers"),
        (chain(30, 2, "L1: L2: L3: L4:"), "statements and labels"),
        (chain(30, 2, ".shared .b8 s[16];"), "statements and labels"),
        (chain(50_000, 1, ""), "calls within calls"),
    ] {
        let began = Instant::now();
        let message = load(&text).expect_err("too large");
        assert!(message.contains(why), "{message}");
        assert!(began.elapsed() < SLOW, "{why}: {:?}", began.elapsed());
    }
}

/// A kernel of blocks that each read a register and jump to the block before it in the text.
fn backwards(blocks: usize, registers: usize) -> String {
    let mut text = format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry kernel()\n{{\n.reg .b32 %r<{registers}>;\nbra L{blocks};\nL0: ret;\n"
    );
    for k in 1..=blocks {
        text += &format!("L{k}: add.s32 %r1, %r1, %r{};\nbra L{};\n", k % registers, k - 1);
    }
    text + "}\n"
}

#[test]
fn kernels_whose_analysis_would_take_much_memory_or_time_are_refused_or_quick() {
    for (blocks, registers, refused) in [(50_000, 60_000, true), (4_000, 60_000, false), (60_000, 100, false)] {
        let text = backwards(blocks, registers);
        let mut device = Device::new(Config { memory: 1 << 20, ..Config::default() }).expect("a supported CPU");
        let began = Instant::now();
        let loaded = device.load(&text).and_then(|module| module.function("kernel"));
        assert_eq!(loaded.is_err(), refused, "{:?}", loaded.err());
        if let Err(error) = loaded {
            assert!(error.to_string().contains("registers"), "{error}");
        }
        assert!(began.elapsed() < SLOW, "{:?}", began.elapsed());
    }
}

/// A parameter of any size.
struct Raw(Vec<u8>);

impl Argument for Raw {
    fn bytes(&self) -> Vec<u8> {
        self.0.clone()
    }
}

/// Runs every kernel of a module for a while, its parameters full of one address. Whatever it does, it ends.
fn run_all(device: &mut Device, module: &Module) {
    let buffer = device.alloc("buffer", 4096).expect("memory is left");
    for function in module.names().iter().filter_map(|name| module.function(name).ok()) {
        let full = |bytes: u32| Raw(buffer.to_le_bytes().into_iter().cycle().take(bytes as usize).collect());
        let arguments: Vec<Raw> = function.parameters().map(full).collect();
        let arguments: Vec<&dyn Argument> = arguments.iter().map(|raw| raw as &dyn Argument).collect();
        let cluster = function.kernel.cluster.unwrap_or([1; 3]);
        let launch = Launch { grid: cluster, block: [64, 1, 1], cluster, dynamic_shared: 1024 };
        let _ = device.launch(&function, launch, &arguments);
    }
}

#[test]
fn broken_texts_neither_crash_nor_hang_the_loader_or_a_run() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let mut seeds = vec![SEED.to_string()];
    seeds.extend(["cluster.cu", "gemm_wgmma.cu", "print.cu"].iter().filter_map(|file| ptx(file, "sm_90a")));
    let mut device = Device::new(Config { memory: 1 << 20, ..Config::default() }).expect("a supported CPU");
    let seed = device.load(SEED).and_then(|module| module.function("kernel"));
    assert!(seed.is_ok(), "{:?}", seed.err());
    let mut random = Random(42);
    let (mut tried, mut loaded, mut ran) = (0, 0, 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        let seed = &seeds[random.below(seeds.len())];
        let text = broken(seed, &mut random);
        // A run takes longer than to load: one in four.
        let runs = tried % 4 == 0;
        let attempt = || {
            let began = Instant::now();
            let config = Config { memory: 1 << 24, checks: emulator::Checks::ALL, limit: 1 << 12, ..Config::default() };
            let mut device = Device::new(config).expect("a supported CPU");
            let module = device.load(&text);
            let whole = module.as_ref().is_ok_and(|m| m.names().iter().all(|n| m.function(n).is_ok()));
            if whole
                && runs
                && let Ok(module) = &module
            {
                run_all(&mut device, module);
            }
            (whole, began.elapsed())
        };
        let (mut outcome, mut took) = attempt();
        if took > SLOW {
            // A machine that stood still for a while is not the loader's fault.
            (outcome, took) = attempt();
        }
        assert!(took <= SLOW, "a text took {took:?} twice:\n{text}");
        loaded += u64::from(outcome);
        ran += u64::from(outcome && runs);
        tried += 1;
    }
    println!("{tried} texts tried, {loaded} loaded, {ran} of them ran");
    assert!(tried > 0 && loaded < tried);
}
