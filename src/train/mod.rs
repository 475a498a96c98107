//! Training: recipes, steps, checkpoints, and runs that continue where they stopped.

pub mod checkpoint;
pub mod ema;
mod forecast;
mod held_out;
mod ideal;
mod losses;
mod metrics;
mod plan;
pub mod progress;
pub mod recipe;
mod run;
mod step;
mod stop;
mod trainer;

pub use forecast::{Ahead, Forecast};
pub use held_out::HeldOut;
pub use ideal::{Ideal, Softmax, Target};
pub use plan::Plan;
pub use recipe::Recipe;
pub use run::{FED, Run};
pub use step::{Memory, Report, Settings, Step};
pub use stop::Stop;
pub use trainer::{Done, Stepped, Trainer};
