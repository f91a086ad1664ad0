"""Does the Keras loss cost more on JAX than a plain function of arrays would? Forward and backward, both under `jit`.

    python tests/benchmarks/bench_loss_jax.py [--rounds 30]

The plain function is the same arithmetic (`softlabels.loss.mixture`) over `jax.numpy`, with cross-entropy written down,
without Keras's loss, variables and casts. Both are timed in turns in one process. The last line of stdout is one JSON
object of ratios, Keras's divided by the plain one's; a JAX loss of our own would be worth it above 1.1.
"""

import argparse
import json
import os
import platform
import sys
import time
from types import SimpleNamespace

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import keras
import numpy as np

from softlabels.loss.distillation import DistillationLoss
from softlabels.loss.mixture import Mixture

SIZES = [(64, 100), (64, 6522), (1024, 100)]
NAMES = ("abs", "clip", "equal", "expand_dims", "log", "log1p", "logical_and", "max", "maximum", "mean", "minimum")
OPS = SimpleNamespace(
    **{name: getattr(jnp, name) for name in (*NAMES, "sign", "squeeze", "sum", "where")},
    cast=lambda x, dtype: jnp.asarray(x).astype(dtype),
    convert_to_tensor=jnp.asarray,
    divide_no_nan=lambda x, y: jnp.where(y == 0, 0.0, x / jnp.where(y == 0, 1.0, y)),
    sigmoid=jax.nn.sigmoid,
    softmax=jax.nn.softmax,
    stop_gradient=jax.lax.stop_gradient,
    with_slope=lambda value, slope, student: _with_slope(value, slope, student),
)


@jax.custom_vjp
def _with_slope(value, slope, student):
    return value


_with_slope.defvjp(
    lambda value, slope, student: (value, slope), lambda slope, upstream: (None, None, upstream[:, None] * slope)
)


def plain(activation, temperature):
    """A function of y_true and logits to one number."""

    def hard_loss(hard, student):
        if activation == "sigmoid":
            return jnp.maximum(student, 0.0) - hard * student + jnp.log1p(jnp.exp(-jnp.abs(student)))
        return -jnp.sum(hard * jax.nn.log_softmax(student), axis=-1)

    mix = Mixture(OPS, hard_loss, activation, 0.3, None, temperature, 0.1, True)
    return lambda y, outputs: jnp.mean(mix.rows(*jnp.split(y, 2, axis=1), outputs))


def rows(activation, batch, classes):
    """-> packed targets (batch, 2 * classes) and logits (batch, classes), both halves complete."""
    rng = np.random.default_rng(0)
    hard = np.eye(classes)[rng.integers(classes, size=batch)]
    soft, logits = rng.normal(-2, 3, (batch, classes)), rng.normal(-2, 3, (batch, classes))
    squash = jax.nn.sigmoid if activation == "sigmoid" else jax.nn.softmax
    return jnp.asarray(np.concatenate([hard, squash(soft)], axis=1), jnp.float32), jnp.asarray(logits, jnp.float32)


def measure(activation, batch, classes, temperature, rounds):
    """(Keras's, the plain one's) least milliseconds, and the largest difference of their gradients."""
    given = rows(activation, batch, classes)
    losses = [DistillationLoss(0.3, temperature, None, activation, True), plain(activation, temperature)]
    steps = [jax.jit(jax.value_and_grad(lambda y, o, loss=loss: loss(y, o), argnums=1)) for loss in losses]
    gradients = [np.asarray(step(*given)[1]) for step in steps]
    repeats = max(1, 400_000 // (batch * classes))  # about a millisecond of work a turn
    times = [[], []]
    for number in range(2 * rounds):
        step = steps[number % 2]
        start = time.perf_counter()
        for _ in range(repeats):
            found = step(*given)
        jax.block_until_ready(found)
        times[number % 2].append((time.perf_counter() - start) / repeats * 1e3)
    return *(min(each) for each in times), float(np.abs(gradients[0] - gradients[1]).max())


def main():
    """Print the machine, the table and, last, the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores; jax {jax.__version__}; keras {keras.__version__}")
    ratios = {}
    for activation in ("softmax", "sigmoid"):
        for batch, classes in SIZES:
            for temperature in (1.0, 3.0):
                ours, least, apart = measure(activation, batch, classes, temperature, arguments.rounds)
                name = f"{activation} ({batch}, {classes}) T={temperature:g}"
                ratios[name] = round(ours / least, 3)
                print(f"{name:<30} {ours:8.3f} ms, plain {least:8.3f} ms, ratio {ours / least:5.2f}; apart {apart:.1e}")
    sys.stdout.flush()
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
