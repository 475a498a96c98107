use crate::base::Result;
use crate::device::Isa;
use crate::nn::sit::SitSize;
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
        let presets = SitSize::presets();
        if self.json {
            let info = serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "devices": [{ "name": "cpu", "cores": cores, "instructions": isa }],
                "presets": presets,
            });
            println!("{info}");
        } else {
            println!("engine {}", env!("CARGO_PKG_VERSION"));
            println!("devices  cpu: {cores} cores, {isa}");
            println!("cuda     this build has no CUDA kernels yet and computes on the processor");
            println!("presets  {}", presets.join(" "));
        }
        Ok(())
    }
}
