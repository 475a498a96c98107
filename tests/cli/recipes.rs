//! The recipes that the program holds, at the settings of their papers.

use super::{Scratch, engine, stderr, stdout};
use engine::base::DType;
use engine::data::fashion_mnist;
use engine::train::recipe::Change;
use engine::train::{Forecast, Plan, Recipe};
use serde_json::Value;

fn plan(name: &str) -> Plan {
    let recipe = Recipe::held(name, &[]).unwrap().unwrap();
    match recipe.data.shape[..] {
        [channels, height, width] => Plan::of(recipe, [channels, height, width], 0).unwrap(),
        _ => Plan::new(recipe, &fashion_mnist().unwrap()).unwrap(),
    }
}

#[test]
fn every_recipe_that_is_held_is_planned_at_its_published_settings() {
    // Stages: steps, batch, patches, learning rate, and a sample's forward in GMAC, where MaskDM's code gives it.
    for (name, millions, of, stages) in [
        ("maskdm-celeba64", 44.29, 256, &[(200_000, 256, 32, 2e-4, 1.47), (300_000, 128, 256, 2e-4, 12.20)][..]),
        (
            "maskdm-celebahq256",
            102.4,
            4096,
            &[(200_000, 256, 416, 2e-4, 44.8), (100_000, 64, 2048, 2e-4, 287.0), (400_000, 32, 4096, 1e-5, 741.0)],
        ),
        (
            "maskdm-celebahq256-v1",
            102.4,
            4096,
            &[(200_000, 128, 1232, 1e-4, f64::NAN), (550_000, 16, 4096, 5e-5, 741.0)],
        ),
    ] {
        let plan = plan(name);
        let forecast = Forecast::of(&plan, DType::F32);
        assert!((forecast.parameters as f64 / 1e6 - millions).abs() < 0.05, "{name}: {}", forecast.parameters);
        assert_eq!(forecast.stages.len(), stages.len(), "{name}");
        for (stage, &(steps, batch, tokens, lr, gmac)) in forecast.stages.iter().zip(stages) {
            assert_eq!((stage.steps, stage.batch, stage.tokens, stage.of), (steps, batch, [tokens; 2], of), "{name}");
            assert_eq!((stage.lr, &stage.ema[..]), (lr, &[0.999][..]), "{name}");
            let forward = plan.model.forward_cost(1, tokens).flops as f64 / 2e9;
            assert!(
                gmac.is_nan() || (forward / gmac - 1.0).abs() < 0.01,
                "{name}: {tokens} patches are {forward} GMAC"
            );
            // Backward of a product is two of its size, but for the first one's input; of the two in attention it computes one again.
            let whole = stage.flops_of_step / (batch as f64 * 2e9) / forward;
            assert!((2.9..3.5).contains(&whole), "{name}: a step is {whole} of a forward");
            assert!((stage.flops / stage.flops_of_step / steps as f64 - 1.0).abs() < 1e-9, "{name}");
        }
        assert_eq!((plan.model.classes, plan.recipe.optimizer.betas), (0, [0.99, 0.99]));
    }
    for (name, loss_drop) in [("ssd-cifar10", 0.95), ("ssd-celeba64", 0.98), ("ssd-fashion", 0.95)] {
        let forecast = Forecast::of(&plan(name), DType::F32);
        let [stage] = &forecast.stages[..] else { panic!("{name}: one stage") };
        assert_eq!((stage.loss_drop, stage.tokens[0]), ([loss_drop; 2], stage.of), "{name}");
    }
    Recipe::held_names().for_each(|name| drop(plan(name)));
}

#[test]
fn a_dry_run_says_what_a_run_would_do_and_touches_nothing() {
    let scratch = Scratch::new();
    let dry = |arguments: &[&str]| {
        let mut command = engine(&[&["train"], arguments, &["--dry-run"]].concat());
        command.current_dir(scratch.path("")).output().unwrap()
    };
    let said = stdout(&dry(&["maskdm-celebahq256"]));
    assert!(said.contains("uvit-b-4: 102.4"), "{said}");
    assert!(
        said.contains("stage 1 of 3: 200000 steps of 256 images, 416 of 4096 patches, learning rate 0.0002"),
        "{said}"
    );
    assert!(said.contains("\nin all 700000 steps, "), "{said}");
    // What it says of the recipe is a recipe.
    let recipe = said.split("\n\n\n").next().unwrap();
    assert_eq!(Recipe::read("said", recipe, &[]).unwrap(), Recipe::held("maskdm-celebahq256", &[]).unwrap().unwrap());
    let shorter = stdout(&dry(&["maskdm-celebahq256", "--steps", "200010", "--json"]));
    let object: Value = serde_json::from_str(&shorter).unwrap();
    assert_eq!(object["forecast"]["stages"][1]["steps"], 10);
    assert_eq!(object["recipe"]["train"]["steps"], 200_010);
    let first = stdout(&dry(&[]));
    assert!(
        first.contains("sit-xs-4: ") && first.contains("stage 1 of 1: 1800 steps of 64 images, 49 of 49"),
        "{first}"
    );
    assert_eq!(std::fs::read_dir(scratch.path("")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_recipe_for_other_images_is_refused_with_both_shapes() {
    let refused = engine(&["train", "maskdm-celeba64", "--device", "cpu"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let expected = "error: data.shape = [3, 64, 64]: the embedded images are [1, 28, 28]; give --data a store of such images, or see with --dry-run what it would do\n";
    assert_eq!(stderr(&refused), expected);
    let absent = stderr(&engine(&["train", "maskdm-celeba"]).output().unwrap());
    assert!(absent.contains("as maskdm-celeba64"), "{absent}");
}

#[test]
fn the_small_recipes_train_and_draw_here() {
    let scratch = Scratch::new();
    let sets =
        |sets: &[&str]| sets.iter().flat_map(|set| ["--set".to_string(), (*set).to_string()]).collect::<Vec<_>>();
    for (name, more) in [
        (
            "maskdm-fashion",
            sets(&["stage.1.train.steps=2", "stage.2.train.steps=1", "sample.steps=2", "sample.count=2"]),
        ),
        ("ssd-fashion", sets(&["train.steps=2", "optimizer.warmup=1", "sample.steps=2", "sample.count=2"])),
    ] {
        let mut command = engine(&["train", name, "--device", "cpu"]);
        let done = command.args(more).current_dir(scratch.path("")).output().unwrap();
        assert!(done.status.success(), "{name}: {}", stderr(&done));
        assert!(scratch.path(&format!("runs/{name}/checkpoints")).exists(), "{name}: the run is called by its recipe");
    }
    let changes = [Change::set("stage.1.mask.drop=0.5").unwrap()];
    assert_eq!(Recipe::held("maskdm-fashion", &changes).unwrap().unwrap().stages()[0].recipe.mask.drop, 0.5);
}
