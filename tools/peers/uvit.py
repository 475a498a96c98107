"""U-ViT in PyTorch: what our numbers are checked against.

Written from the maths, with the parameter names and shapes of the published checkpoints. Time, label and patches are tokens;
the halves of the model are joined by long skips. MaskDM trains the same network on the patches that a mask keeps.
"""

import math

import torch
from sit import Attention, Mlp, Patches, gather
from torch import nn

TIME_SCALE = 999.0


def time_token(t, width, dtype):
    """(B, D): cat[cos, sin] of 999 t times a geometric ladder of frequencies from 1 down to 1e-4."""
    ladder = torch.exp(-math.log(10000.0) * torch.arange(width // 2, dtype=dtype) / (width // 2))
    angle = TIME_SCALE * t[:, None].to(dtype) * ladder
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class Block(nn.Module):
    def __init__(self, width, heads, skip=False):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, gelu="none")
        if skip:
            self.skip_linear = nn.Linear(2 * width, width)

    def forward(self, x, skip=None):
        if skip is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class UViT(nn.Module):
    """forward(z, t, y, kept): as that of SiT in sit.py."""

    def __init__(self, *, width, depth, heads, patch, channels, size, classes):
        super().__init__()
        self.patch, self.channels, self.grid = patch, channels, tuple(side // patch for side in size)
        self.patch_embed = Patches(channels, patch, width)
        if classes:
            self.label_emb = nn.Embedding(classes + 1, width)
        self.extras = 2 if classes else 1
        self.pos_embed = nn.Parameter(torch.zeros(1, self.extras + math.prod(self.grid), width))
        self.in_blocks = nn.ModuleList(Block(width, heads) for _ in range(depth // 2))
        self.mid_block = Block(width, heads)
        self.out_blocks = nn.ModuleList(Block(width, heads, skip=True) for _ in range(depth // 2))
        self.norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, patch * patch * channels)

    @torch.no_grad()
    def randomise(self, low=0.02, high=0.2):
        """Every tensor normal, its own deviation between `low` and `high`, the weights of norms about 1."""
        for name, parameter in self.named_parameters():
            parameter.normal_().mul_(low * (high / low) ** torch.rand(()).item())
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)

    def forward(self, z, t, y=None, kept=None):
        x = self.patch_embed(z, kept)  # (B, N, D)
        position = self.pos_embed[:, self.extras :].expand(len(z), -1, -1)
        x = x + (position if kept is None else gather(position, kept))
        extras = [] if y is None else [self.label_emb(y)]
        extras.append(time_token(t, x.shape[-1], self.pos_embed.dtype))
        x = torch.cat([torch.stack(extras, dim=1) + self.pos_embed[:, : self.extras], x], dim=1)
        skips = []
        for block in self.in_blocks:
            x = block(x)
            skips.append(x)
        x = self.mid_block(x)
        for block in self.out_blocks:
            x = block(x, skips.pop())
        x = self.decoder_pred(self.norm(x))[:, self.extras :].unflatten(-1, (self.patch, self.patch, -1))
        return x.flatten(2) if kept is not None else self.unpatch(x)

    def unpatch(self, x):
        """(B, N, P, P, C) -> (B, C, *size)"""
        x = x.unflatten(1, self.grid).permute(0, 5, 1, 3, 2, 4)  # (B, C, rows, P, columns, P)
        return x.flatten(4, 5).flatten(2, 3)
