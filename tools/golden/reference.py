"""A model's loss, prediction, gradients and trainings in f64, and how far PyTorch's own f32 and bf16 are from them."""

import copy
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
import sit
import uvit

# A large gradient keeps every 7th element: 7 divides none of the sizes, so each row and column is met.
WHOLE, STRIDE = 2048, 7

# Ten losses each. Only a strong decay shows within ten steps.
TRAINING = {
    "ref.losses": dict(clip=1.0, weight_decay=0.01),
    "ref.losses.decayed": dict(clip=None, weight_decay=10.0),
}
STEPS = 10


def batch(model, count, size, classes, kept=None):
    """Random inputs on the linear path: z = (1 - t) x + t eps, target eps - x. The last label is "no class"."""
    x, noise = torch.randn(2, count, model.channels, *size)
    t = torch.rand(count)
    at = t[:, None, None, None]
    inputs = {"z": (1 - at) * x + at * noise, "t": t, "target": noise - x}
    if classes:
        inputs["y"] = torch.randint(classes, (count,))
        inputs["y"][-1] = classes
    if kept:
        inputs["kept"] = torch.rand(count, math.prod(model.grid)).argsort(1)[:, :kept].sort(1).values
    return inputs


def loss(model, inputs):
    floats = {"z", "t", "target"}
    cast = {k: v.to(model.pos_embed.dtype) if k in floats else v for k, v in inputs.items()}
    return sit.loss(model, cast["z"], cast["t"], cast.get("y"), cast["target"], cast.get("kept"))


def differentiate(model, inputs, dtype):
    """ref.prediction, ref.loss and every grad.NAME at this precision. bf16 is autocast's: weights and sums stay in f32."""
    autocast = dtype == torch.bfloat16
    model = copy.deepcopy(model).to(torch.float32 if autocast else dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value, prediction = loss(model, inputs)
    value.backward()
    grads = {f"grad.{name}": p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {"ref.prediction": prediction.detach(), "ref.loss": value.detach().reshape(1), **grads}


def train(model, batches, dtype, clip, weight_decay):
    """The loss before each AdamW step; every parameter decays, as torch does it."""
    model = copy.deepcopy(model).to(dtype)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)
    losses = []
    for inputs in batches:
        value, _ = loss(model, inputs)
        optimizer.zero_grad()
        value.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(weights, clip)
        optimizer.step()
        losses.append(value.item())
    return torch.tensor(losses, dtype=torch.float64)


def error(given, exact):
    """max |given - exact| / max |exact|; a reference of zeros asks for zeros."""
    difference, scale = (given.double() - exact.double()).abs().max().item(), exact.abs().max().item()
    return difference / scale if scale else difference


def fixture(model, config, count=3):
    """The tensors and the metadata of a fixture, as README.md says; `count` images, and two in each step of training."""
    draw = lambda count: batch(model, count, config["size"], config["classes"], config.get("kept"))
    inputs, batches = draw(count), [draw(2) for _ in range(STEPS)]
    # Adam forgets the gradient's scale, so a clip shows only if it acts on some steps and not on others.
    for of_step in batches[1::2]:
        of_step["target"] *= 8

    exact, *rounded = (some(differentiate(model, inputs, dtype)) for dtype in (torch.float64, torch.float32, torch.bfloat16))
    losses = {run: train(model, batches, torch.float64, **options) for run, options in TRAINING.items()}
    plain = train(model, batches, torch.float64, clip=None, weight_decay=0)
    for run, of_run in losses.items():
        # Ours must agree to 1e-4, so what the run adds must change some loss by far more.
        assert (of_run / plain - 1).abs().max() > 1e-3, f"{run}: its losses are those of plain Adam and would check nothing"

    tensors = {f"param.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"input.{k}": v for k, v in inputs.items()}
    tensors |= {f"train.{k}": torch.stack([of_step[k] for of_step in batches]) for k in inputs}
    tensors |= {k: v.float() for k, v in (exact | losses).items()}
    errors = ({k: error(of_dtype[k], exact[k]) for k in exact} for of_dtype in rounded)
    return tensors, {"config": config, "training": TRAINING} | dict(zip(("f32_error", "bf16_error"), errors))


def some(results):
    return {k: v.flatten()[::STRIDE] if k.startswith("grad.") and v.numel() > WHOLE else v for k, v in results.items()}


def write(path, tensors, metadata):
    # One key, because the order in which the library writes several is not fixed.
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, {"golden": json.dumps(metadata)})
