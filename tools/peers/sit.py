"""SiT / DiT in PyTorch: what our numbers are checked against, and the speed they are compared with.

Written from the maths, with the parameter names and shapes of the published checkpoints. `model.double()` is the reference.
Letters: B batch, N tokens, D width, H heads, K head width, C channels, P patch. Time: t goes into the network as it is.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

# width, depth, heads; the patch is the number at the end of a preset's name
SIZES = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16), "xl": (1152, 28, 16)}
FREQUENCIES = 128


def preset(name, **options):
    """`sit-s-2` and its like; `options` go to SiT."""
    _, size, patch = name.split("-")
    width, depth, heads = SIZES[size]
    return SiT(width=width, depth=depth, heads=heads, patch=int(patch), **options)


def position_embedding(width, rows, columns):
    """(1, N, D), in f64: the first D/2 channels speak of the column, the others of the row; each half is [sin, cos]."""
    omega = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.reshape(-1, 1) * omega for place in (column, row)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)[None]


def time_features(t, dtype):
    """(B, 256): cat[cos, sin] of t times a geometric ladder of frequencies from 1 down to 1e-4."""
    ladder = torch.exp(-math.log(10000.0) * torch.arange(FREQUENCIES, dtype=dtype) / FREQUENCIES)
    angle = t[:, None].to(dtype) * ladder
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def norm(x, shift, scale):
    """LayerNorm without weights, then the modulation. x (B, N, D); shift, scale (B, D)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


class Patches(nn.Module):
    """The patch embedding. It is a convolution by name and shape; as its stride is its size, it is a linear of each patch."""

    def __init__(self, channels, patch, width):
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, z, kept):
        if kept is None:
            return self.proj(z).flatten(2).transpose(1, 2)  # (B, N, D)
        patches = gather(F.unfold(z, self.proj.kernel_size, stride=self.proj.stride).transpose(1, 2), kept)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Time(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t):
        return self.mlp(time_features(t, self.mlp[0].weight.dtype))


class Labels(nn.Module):
    """One row per class, and a last one for "no class". Label dropout is the caller's: it puts `classes` into y."""

    def __init__(self, classes, width):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, y):
        return self.embedding_table(y)


class Attention(nn.Module):
    def __init__(self, width, heads, bias=True):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 of (B, H, N, K)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width, gelu="tanh"):
        super().__init__()
        self.gelu = gelu
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate=self.gelu))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = Mlp(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x, c):
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate_a[:, None] * self.attn(norm(x, shift_a, scale_a))
        return x + gate_m[:, None] * self.mlp(norm(x, shift_m, scale_m))


class Final(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x, c):
        return self.linear(norm(x, *self.adaLN_modulation(c).chunk(2, dim=1)))


class SiT(nn.Module):
    """forward(z, t, y, kept): z (B, C, *size), t (B), y (B) or None -> the prediction, shaped as z.

    With `kept` (B, n), the tokens that are computed, the prediction is (B, n, P*P*C), each patch in the order row, column,
    channel. A learned sigma doubles the output's channels; only the first C are used.
    """

    def __init__(self, *, width, depth, heads, patch, channels, size, classes, learn_sigma=False):
        super().__init__()
        self.patch, self.channels, self.grid = patch, channels, tuple(side // patch for side in size)
        self.x_embedder = Patches(channels, patch, width)
        position = position_embedding(width, *self.grid).float()
        self.pos_embed = nn.Parameter(position, requires_grad=False)
        self.t_embedder = Time(width)
        if classes:
            self.y_embedder = Labels(classes, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.final_layer = Final(width, patch * patch * channels * (2 if learn_sigma else 1))
        self.initialise()

    @torch.no_grad()
    def initialise(self):
        """The published initialisation."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                module.bias.zero_()
        nn.init.normal_(self.t_embedder.mlp[0].weight, std=0.02)
        nn.init.normal_(self.t_embedder.mlp[2].weight, std=0.02)
        if hasattr(self, "y_embedder"):
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        zero = [self.final_layer.linear, self.final_layer.adaLN_modulation[1]]
        for linear in zero + [block.adaLN_modulation[1] for block in self.blocks]:
            linear.weight.zero_()
            linear.bias.zero_()

    @torch.no_grad()
    def randomise(self, low=0.02, high=0.2):
        """Every trained tensor normal, its own deviation between `low` and `high`: nothing stays zero, so no gradient hides."""
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.normal_().mul_(low * (high / low) ** torch.rand(()).item())

    def forward(self, z, t, y=None, kept=None):
        x = self.x_embedder(z, kept)  # (B, N, D)
        x = x + (self.pos_embed if kept is None else gather(self.pos_embed.expand(len(z), -1, -1), kept))
        c = self.t_embedder(t)  # (B, D)
        if y is not None:
            c = c + self.y_embedder(y)
        for block in self.blocks:
            x = block(x, c)
        x = self.final_layer(x, c).unflatten(-1, (self.patch, self.patch, -1))[..., : self.channels]
        return x.flatten(2) if kept is not None else self.unpatch(x)

    def unpatch(self, x):
        """(B, N, P, P, C) -> (B, C, *size)"""
        x = x.unflatten(1, self.grid).permute(0, 5, 1, 3, 2, 4)  # (B, C, rows, P, columns, P)
        return x.flatten(4, 5).flatten(2, 3)


def gather(tokens, kept):
    """tokens (B, N, D) at kept (B, n) -> (B, n, D)"""
    return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))


def to_patches(z, patch, kept=None):
    """z (B, C, *size) -> (B, n, P*P*C), in the order of SiT's output: what a loss on kept tokens compares with."""
    tokens = F.unfold(z, patch, stride=patch).transpose(1, 2)  # (B, N, C*P*P)
    tokens = tokens.unflatten(-1, (z.shape[1], -1)).transpose(2, 3).flatten(2)
    return tokens if kept is None else gather(tokens, kept)


def loss(model, z, t, y, target, kept=None):
    """The mean squared difference over the first C channels (of the kept tokens); also the prediction."""
    prediction = model(z, t, y, kept)
    target = target if kept is None else to_patches(target, model.patch, kept)
    return F.mse_loss(prediction.to(target.dtype), target), prediction
