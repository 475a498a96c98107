//! One warp that runs a few instructions on words of its own.

use super::{device, kernel};
use emulator::{Checks, Config, Device, Error, Fault, Kind, Launch, Policy, Report};

/// One CTA.
pub fn launch(threads: u32) -> Launch {
    Launch { grid: [1; 3], block: [threads, 1, 1], cluster: [1; 3], dynamic_shared: 0 }
}

/// Runs a body for 32 lanes with three 8-byte words of input each; what they leave in eight bytes each.
pub fn run(body: &str, input: &[[u64; 3]; 32]) -> Result<Vec<u64>, Box<Fault>> {
    let mut device = device(Policy::Lazy);
    let text = kernel(body, 24, 8);
    let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let bytes: Vec<u8> = input.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    let from = device.alloc("input", bytes.len()).expect("memory is left");
    device.upload(from, &bytes).expect("inside");
    let to = device.alloc("output", 256).expect("memory is left");
    device.fill(to, 0, 256).expect("inside");
    match device.launch(&function, launch(32), &[&from, &to, &0u64, &0u64]) {
        Ok(_) => {}
        Err(Error::Fault(fault)) => return Err(fault),
        Err(other) => panic!("{other}\n{text}"),
    }
    let bytes = device.download(to, 256).expect("inside");
    Ok(bytes.chunks(8).map(|b| u64::from_le_bytes(b.try_into().expect("chunks of 8"))).collect())
}

/// What a body does for some threads in a cluster of some CTAs, with a limit that no body without a fault reaches.
pub fn launched(body: &str, policy: Policy, threads: u32, ctas: u32) -> emulator::Result<Report> {
    let config = Config { policy, checks: Checks::ALL, limit: 1 << 12, ..Config::default() };
    let mut device = Device::new(config).expect("a supported CPU");
    let text = kernel(body, 0, 4);
    let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let out = device.alloc("out", 4 * threads as usize).expect("memory is left");
    let shape = Launch { grid: [ctas, 1, 1], cluster: [ctas, 1, 1], ..launch(threads) };
    device.launch(&function, shape, &[&0u64, &out, &0u64, &0u64])
}

/// The fault that a body must end with for some threads in a cluster of some CTAs.
pub fn faulty(body: &str, policy: Policy, threads: u32, ctas: u32) -> (Kind, String) {
    match launched(body, policy, threads, ctas) {
        Err(Error::Fault(fault)) => (fault.kind, fault.message),
        other => panic!("{:?}\n{body}", other.err()),
    }
}

/// One instruction of two or three sources `%a`, `%b`, `%c` into `%d`.
pub fn apply(instruction: &str, out: &str, args: &[&str], input: &[[u64; 3]; 32]) -> Vec<u64> {
    let mut body = format!(".reg .{out} %d;\n");
    for (k, ty) in args.iter().enumerate() {
        let name = ["%a", "%b", "%c"][k];
        body += &format!(".reg .{ty} {name};\nld.global.{ty} {name}, [%in+{}];\n", 8 * k);
    }
    body += &format!("{instruction}\nst.global.{out} [%out], %d;");
    run(&body, input).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Words with every bit in play.
pub fn words() -> [[u64; 3]; 32] {
    let mut state = 7u64;
    std::array::from_fn(|lane| {
        std::array::from_fn(|k| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            match lane % 4 {
                0 => state >> 33 & 0xff,
                _ => state ^ state >> (29 + k),
            }
        })
    })
}
