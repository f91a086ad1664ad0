"""Forward and backward time of `softlabels.torch.distillation_loss` beside PyTorch's own cross-entropy.

    python tests/benchmarks/bench_loss_torch.py [--rounds 30] [--compile] [--device cpu]

Logits, T = 1, both halves complete; the peer is plain cross-entropy plus PyTorch's KL divergence, as recipes for
distillation have it: it masks nothing and knows no trust. All are timed in turns in one process. The last line of
stdout is one JSON object of ratios, ours divided by the other.
"""

import argparse
import json
import os
import platform
import sys
import time

import numpy as np
import torch
from torch.nn import functional

from softlabels.loss.pytorch.losses import distillation_loss

SIZES = [(64, 100), (64, 6522), (1024, 100)]


def ours(activation, y, outputs):
    return distillation_loss(y, outputs, activation=activation, alpha=0.3, temperature=1.0).mean()


def recipe(activation, y, outputs):
    """(1 - alpha) * cross-entropy + alpha * KL; of independent classes the KL is cross-entropy less the entropy."""
    soft = y[:, outputs.shape[1] :]
    if activation == "softmax":
        divergence = functional.kl_div(outputs.log_softmax(dim=1), soft, reduction="batchmean")
    else:
        entropy = functional.binary_cross_entropy(soft, soft)
        divergence = functional.binary_cross_entropy_with_logits(outputs, soft) - entropy
    return 0.7 * plain(activation, y, outputs) + 0.3 * divergence


def plain(activation, y, outputs):
    hard = y[:, : outputs.shape[1]]
    if activation == "softmax":
        return functional.cross_entropy(outputs, hard)
    return functional.binary_cross_entropy_with_logits(outputs, hard)


def rows(activation, batch, classes, device):
    """-> packed targets (batch, 2 * classes) and logits (batch, classes)."""
    rng = np.random.default_rng(0)
    hard = torch.eye(classes)[torch.from_numpy(rng.integers(classes, size=batch))]
    soft, logits = (torch.from_numpy(rng.normal(-2, 3, (batch, classes)).astype(np.float32)) for _ in range(2))
    soft = soft.sigmoid() if activation == "sigmoid" else soft.softmax(dim=1)
    return torch.cat([hard, soft], dim=1).to(device), logits.to(device).requires_grad_()


def measure(activation, batch, classes, given):
    """Median milliseconds of each."""
    y, outputs = rows(activation, batch, classes, given.device)
    losses = [torch.compile(loss, fullgraph=True) if given.compile else loss for loss in (ours, recipe, plain)]
    wait = torch.cuda.synchronize if given.device == "cuda" else int
    repeats, times = max(1, 400_000 // (batch * classes)), [[] for _ in losses]
    for number in range(len(losses) * (given.rounds + 1)):
        which = number % len(losses)
        wait()
        start = time.perf_counter()
        for _ in range(repeats):
            torch.autograd.grad(losses[which](activation, y, outputs), outputs)
        wait()
        times[which].append((time.perf_counter() - start) / repeats * 1e3)
    return [float(np.median(each[1:])) for each in times]  # the first of each compiles


def main():
    """Print the machine, the table and, last, the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores; torch {torch.__version__}; {given.device}")
    ratios = {}
    for activation in ("softmax", "sigmoid"):
        for batch, classes in SIZES:
            mine, theirs, least = measure(activation, batch, classes, given)
            name = f"{activation} ({batch}, {classes})"
            ratios[name] = [round(mine / theirs, 2), round(mine / least, 2)]
            print(f"{name:<22} {mine:8.3f} ms, recipe {theirs:8.3f} ms, plain {least:8.3f} ms; ratios {ratios[name]}")
    sys.stdout.flush()
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
