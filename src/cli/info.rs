use crate::base::Result;
use crate::device::Isa;
use crate::device::cuda::{Driver, Image, MODULES, Nvidia, TOOLKIT};
use crate::nn::Size;
use clap::Args;
use std::num::NonZero;

/// Show what this binary can run on, and its presets
#[derive(Args)]
pub struct Info {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Info {
    pub fn run(self) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let isa = Isa::detect().to_string();
        let presets = Size::presets();
        let targets: Vec<String> = MODULES.first().map_or(&[][..], |module| module.images).iter().map(target).collect();
        let card = Nvidia::open(0);
        if self.json {
            let mut devices = vec![serde_json::json!({ "name": "cpu", "cores": cores, "instructions": isa })];
            devices.extend(card.iter().map(|card| {
                let card = card.card();
                serde_json::json!({
                    "name": "cuda:0",
                    "card": card.name,
                    "capability": [card.capability.0, card.capability.1],
                    "memory_bytes": card.memory,
                    "driver": card.driver,
                })
            }));
            let info = serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "devices": devices,
                "cuda": { "toolkit": TOOLKIT, "targets": targets },
                "presets": presets,
            });
            println!("{info}");
            return Ok(());
        }
        println!("engine {}", env!("CARGO_PKG_VERSION"));
        println!("devices  cpu: {cores} cores, {isa}");
        match card {
            Ok(card) => {
                let card = card.card();
                let (major, minor) = card.capability;
                let memory = card.memory as f64 / f64::from(1 << 30);
                println!("         cuda:0: {}, capability {major}.{minor}, {memory:.0} GiB", card.name);
            }
            Err(error) => println!("         {error}"),
        }
        match TOOLKIT {
            Some(toolkit) => println!("kernels  CUDA {toolkit}: {}, and PTX for other cards", targets.join(", ")),
            None => println!("kernels  none: nvcc was not found when this binary was built; tools/nvcc installs one"),
        }
        println!("presets  {}", presets.join(" "));
        Ok(())
    }
}

/// The name of what an image was built for.
fn target(image: &Image) -> String {
    let (major, minor) = image.capability;
    format!("sm_{major}{minor}{}", if image.specific { "a" } else { "" })
}
