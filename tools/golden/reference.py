"""A model's loss, prediction and gradients in f64, and how far PyTorch's own f32 is from them."""

import copy
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
import sit


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
        inputs["kept"] = torch.rand(count, model.pos_embed.shape[1]).argsort(1)[:, :kept].sort(1).values
    return inputs


def loss(model, inputs):
    floats = {"z", "t", "target"}
    cast = {k: v.to(model.pos_embed.dtype) if k in floats else v for k, v in inputs.items()}
    return sit.loss(model, cast["z"], cast["t"], cast.get("y"), cast["target"], cast.get("kept"))


def differentiate(model, inputs, dtype):
    """ref.prediction, ref.loss and every grad.NAME at this precision."""
    model = copy.deepcopy(model).to(dtype)
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
