"""Are the samples of the classes that were asked for? Votes of the nearest real images, in pixels.

    tools/peers/venv/bin/python tools/peers/knn.py SAMPLES.npy LABELS.npy --images F-images-idx3-ubyte.gz --labels F-labels-idx1-ubyte.gz

SAMPLES (N, 1, 28, 28) or (N, 28, 28): u8 of 0..255, or floats of -1..1. LABELS (N): the classes asked for.
The voters are all images of the IDX file, gzipped or not.
"""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np


def idx(path):
    """An IDX file of bytes, gzipped or not: 0, 0, 8 (u8), the number of dimensions, each as a big-endian u32, the data."""
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def pixels(samples):
    """(N, 784) on the scale of -1..1."""
    flat = samples.reshape(len(samples), -1).astype(np.float32)
    return flat / 127.5 - 1 if samples.dtype == np.uint8 else flat


def votes(samples, images, labels, neighbours):
    """The majority class among each sample's nearest images; of equal majorities the one with the nearest image."""
    squared = (samples**2).sum(1)[:, None] - 2 * samples @ images.T + (images**2).sum(1)
    nearest = labels[np.argsort(squared, axis=1, kind="stable")[:, :neighbours]].astype(int)  # (N, k), nearest first
    counts = (nearest[:, :, None] == nearest[:, None, :]).sum(2)
    return nearest[np.arange(len(nearest)), counts.argmax(1)]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("samples", type=Path)
parser.add_argument("asked", type=Path)
parser.add_argument("--images", type=Path, required=True)
parser.add_argument("--labels", type=Path, required=True)
parser.add_argument("--neighbours", type=int, default=5)
arguments = parser.parse_args()

samples, asked = np.load(arguments.samples), np.load(arguments.asked).reshape(-1).astype(int)
images, labels = idx(arguments.images), idx(arguments.labels)
if len(samples) != len(asked):
    parser.error(f"{arguments.samples} holds {len(samples)} samples, {arguments.asked} {len(asked)} labels; they must be as many")
given = votes(pixels(samples), pixels(images), labels, arguments.neighbours)
right = given == asked
of_class = {int(c): float(right[asked == c].mean()) for c in np.unique(asked)}
print(json.dumps({"samples": len(samples), "share": float(right.mean()), "of_class": of_class}))
