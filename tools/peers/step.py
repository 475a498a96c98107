"""PyTorch's side of the speed comparison: one whole training step of a SiT, or drawing one batch of images.

A step draws t, noise and label dropout, mixes z, runs forward, loss and backward, then AdamW and the EMA. Drawing is Euler's steps
from noise, with classifier-free guidance as one batch of pairs. A mode is a
precision (f32, or bf16 by autocast) and eager, compiled, or compiled with every kernel tried (max-autotune); on a card also the
backend of attention, since PyTorch's own choice is not always the fastest. Every mode lives in a process of its own, so that
the peak of its memory is its own.
"""

import argparse
import contextlib
import ctypes
import json
import statistics
import subprocess
import sys
import time

MODES = {
    "cpu": [f"{precision}-{how}" for precision in ("f32", "bf16") for how in ("eager", "compile")],
    "cuda": [f"bf16-{how}-{attention}" for how in ("eager", "compile", "autotune") for attention in ("flash", "cudnn")],
}
LABEL_DROPOUT, EMA = 0.1, 0.9999


def options():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--preset", default="sit-s-2")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--drop", type=float, default=0.0, help="fraction of the tokens that is not computed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=MODES, default="cpu")
    parser.add_argument("--steps", type=int, default=5, help="timed steps, or batches drawn, of one measurement")
    parser.add_argument("--work", choices=["train", "draw"], default="train")
    parser.add_argument("--solver-steps", type=int, default=20, help="evaluations of the velocity for a drawn image")
    parser.add_argument("--guidance", type=float, default=1.0, help="of what is drawn; at 1 the network sees an image once in an evaluation, otherwise twice")
    return parser


class Peer:
    """A process that holds one warm mode, idle until `measure` asks."""

    def __init__(self, mode, settings):
        flags = [f"--{name.replace('_', '-')}={getattr(settings, name)}" for name in vars(options().parse_args([]))]
        command = [sys.executable, __file__, "--serve", mode, *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()  # the warm-up is over

    def measure(self):
        print(file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve(mode, settings):
    work = training_step if settings.work == "train" else drawing
    optimizer, step = work(settings, *mode.split("-"))
    for _ in range(3):
        step()
    if settings.device == "cuda":
        return answer_for_ever(mode, optimizer, step, settings, on_card)
    # From here on the peak is the step's: the compiler's own memory does not count against PyTorch.
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    answer_for_ever(mode, optimizer, step, settings, on_processor)


def answer_for_ever(mode, optimizer, step, settings, measure):
    print("ready", flush=True)
    for _ in sys.stdin:
        measured = measure(step, settings.steps)
        rate = settings.batch / measured["seconds"]
        print(json.dumps({"mode": mode, "optimizer": optimizer, "images_per_s": rate, **measured}), flush=True)


def on_processor(step, steps):
    return {"seconds": statistics.median(timed(step) for _ in range(steps)), "peak_rss_bytes": peak_rss()}


def on_card(step, steps):
    """Steps asked for one after another and waited for once: the card never waits for the host's clock."""
    import torch

    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    return {"seconds": seconds, "peak_memory_bytes": torch.cuda.max_memory_allocated()}


def timed(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak_rss():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def fastest_adamw(weights):
    """PyTorch has two fast AdamWs; which of them wins depends on the machine."""
    import torch

    seconds = {}
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    for name in ("foreach", "fused"):
        adamw = torch.optim.AdamW(weights, lr=0.0, **{name: True})
        adamw.step()
        seconds[name] = min(timed(adamw.step) for _ in range(5))
    return min(seconds, key=seconds.get)


def prepared(settings, attention):
    """The model, the shape of its batch, and the backend of attention as a context."""
    import sit
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backend = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}

    torch.set_num_threads(settings.threads)
    torch.set_default_device(settings.device)
    torch.manual_seed(0)
    attending = sdpa_kernel(backend[attention]) if attention else contextlib.nullcontext()
    shape = (settings.batch, settings.channels, settings.side, settings.side)
    model = sit.preset(settings.preset, channels=settings.channels, size=shape[2:], classes=settings.classes)
    model.randomise(high=0.05)  # the published zeros would make products with nothing in them
    return model, shape, attending


def compiled(function, how):
    import torch

    return function if how == "eager" else torch.compile(function, mode="max-autotune" if how == "autotune" else None)


def drawing(settings, precision, how, attention=None):
    import torch

    model, shape, attending = prepared(settings, attention)
    labels = torch.randint(settings.classes, shape[:1])
    pairs = torch.cat([labels, torch.full_like(labels, settings.classes)])

    def velocity(z, t):
        with attending, torch.autocast(settings.device, torch.bfloat16, enabled=precision == "bf16"):
            if settings.guidance == 1.0:
                return model(z, t.expand(len(z)), labels).float()
            c, u = model(torch.cat([z, z]), t.expand(2 * len(z)), pairs).float().chunk(2)
            return u + settings.guidance * (c - u)

    velocity = compiled(velocity, how)

    @torch.no_grad()
    def draw():
        z = torch.randn(shape)
        for t in torch.linspace(1, 0, settings.solver_steps + 1)[:-1]:
            z = z - velocity(z, t) / settings.solver_steps
        return z

    return None, draw


def training_step(settings, precision, how, attention=None):
    import sit
    import torch

    model, shape, attending = prepared(settings, attention)
    weights = [p for p in model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in weights]
    optimizer = fastest_adamw(weights)
    adamw = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.0, **{optimizer: True})
    data, labels = torch.randn(shape), torch.randint(settings.classes, shape[:1])
    tokens = model.pos_embed.shape[1]
    kept_tokens = tokens - int(tokens * settings.drop)

    def loss():
        t, noise = torch.rand(shape[0]), torch.randn(shape)
        y = torch.where(torch.rand(shape[0]) < LABEL_DROPOUT, settings.classes, labels)
        at = t[:, None, None, None]
        kept = torch.rand(shape[0], tokens).argsort(1)[:, :kept_tokens] if settings.drop else None
        with attending, torch.autocast(settings.device, torch.bfloat16, enabled=precision == "bf16"):
            return sit.loss(model, (1 - at) * data + at * noise, t, y, noise - data, kept)[0]

    loss = compiled(loss, how)

    def step():
        adamw.zero_grad()
        loss().backward()
        adamw.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - EMA)

    return optimizer, step


def main():
    parser = argparse.ArgumentParser(description=__doc__, parents=[options()])
    parser.add_argument("--mode", choices=sum(MODES.values(), []), action="append", help="may be given several times; default: all")
    parser.add_argument("--serve", metavar="MODE", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.serve:
        return serve(settings.serve, settings)
    for mode in settings.mode or MODES[settings.device]:
        peer = Peer(mode, settings)
        print(json.dumps(peer.measure()), flush=True)
        peer.close()


if __name__ == "__main__":
    main()
