//! What ptxas made of the kernels for Hopper: tensor cores where they are meant to be, and no register outside the registers.

use engine::device::cuda::MODULES;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The toolkit's reader of machine code, where there is one.
fn disassembler() -> Option<PathBuf> {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/nvcc-toolkit/site/nvidia/cu13");
    let home = std::env::var_os("CUDA_HOME").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = home.into_iter().chain([local]).map(|home| home.join("bin")).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join("nvdisasm")).find(|file| file.is_file())
}

/// The instructions of every kernel for capability 9.0, by the kernel's name.
fn kernels(disassembler: &Path) -> BTreeMap<String, Vec<String>> {
    let mut kernels = BTreeMap::<String, Vec<String>>::new();
    for module in MODULES {
        let image =
            module.images.iter().find(|image| image.capability == (9, 0)).expect("kernels are built for Hopper");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.cubin", module.name));
        std::fs::write(&file, image.cubin.unpacked()).unwrap();
        let output = Command::new(disassembler).args(["--print-code", "--no-dataflow"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}: {}", module.name, String::from_utf8_lossy(&output.stderr));
        let mut name = String::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            if let Some(kernel) = line.trim().strip_prefix(".section\t.text.") {
                name = kernel.split(',').next().unwrap_or(kernel).to_owned();
            } else if line.contains(';') {
                kernels.entry(name.clone()).or_default().push(line.into());
            }
        }
    }
    kernels
}

#[test]
fn kernels_for_hopper_multiply_by_wgmma_and_keep_their_registers() {
    let Some(disassembler) = disassembler().filter(|_| !MODULES.is_empty()) else {
        eprintln!("not tested, for want of nvcc or of nvdisasm");
        return;
    };
    let kernels = kernels(&disassembler);
    let has = |name: &str, what: &str| kernels[name].iter().any(|line| line.contains(what));
    for name in kernels.keys() {
        assert!(!has(name, "LDL") && !has(name, "STL"), "{name}: it uses local memory");
    }
    let products = |name: &str| kernels[name].iter().filter(|line| line.contains("HGMMA")).count();
    for name in [
        "linear_forward_bf16_128x192",
        "linear_input_gradient_bf16_128x192",
        "linear_weight_gradient_bf16_128x192",
        "mlp_forward_bf16_128x192",
        "mlp_backward_bf16_128x192",
    ] {
        // Four steps of 16 terms.
        assert_eq!(products(name), 4, "{name}: products");
        assert!(!has(name, "HMMA"), "{name}: it uses mma.sync");
    }
    let streams: Vec<_> = kernels.keys().filter(|name| name.starts_with("attention_stream_")).collect();
    assert_eq!(streams.len(), 19, "each width forward and backward, of few tokens and of many, but one");
    for name in streams {
        assert!(products(name) > 0 && !has(name, "HMMA"), "{name}: products");
    }
}
