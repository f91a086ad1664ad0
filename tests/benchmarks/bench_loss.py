"""Forward and backward time of the distillation loss beside plain cross-entropy and the published formula.

    python tests/benchmarks/bench_loss.py [--rounds 30] [--xla]

All candidates are compiled (`tf.function`, with XLA under --xla) and timed in turns within one process, so that
a busy machine slows them alike. Each gets packed targets with both halves complete; T = 3 as published, and T = 1,
our default for joined labels. The last line of stdout is one JSON object of ratios, ours divided by the other.
"""

import argparse
import json
import os
import platform
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf

from softlabels.loss.distillation import DistillationLoss

SIZES = [(64, 100), (64, 6522), (1024, 100)]


class PublishedFormula(keras.losses.Loss):
    """The formula of birdnet-stm32's loss: KL of two softmaxes of log(p + 1e-7) / T, plus the mean student loss."""

    def __init__(self, alpha, temperature, student_loss):
        super().__init__()
        self.alpha, self.temperature, self.student_loss = alpha, temperature, student_loss
        self.divergence = keras.losses.KLDivergence()

    def call(self, y_true, y_pred):
        classes = tf.shape(y_pred)[-1]
        hard_term = self.student_loss(y_true[:, :classes], y_pred)  # scalar
        teacher = tf.nn.softmax(tf.math.log(y_true[:, classes:] + 1e-7) / self.temperature)
        student = tf.nn.softmax(tf.math.log(y_pred + 1e-7) / self.temperature)
        soft_term = self.divergence(teacher, student) * self.temperature**2  # scalar
        return (1.0 - self.alpha) * hard_term + self.alpha * soft_term


def rows(activation, batch, classes):
    """-> packed targets (batch, 2 * classes), probabilities and logits (batch, classes), float32 tensors."""
    rng = np.random.default_rng(0)
    hard = np.eye(classes)[rng.integers(classes, size=batch)]
    soft, logits = rng.normal(-2, 3, (batch, classes)), rng.normal(-2, 3, (batch, classes))
    squash = tf.sigmoid if activation == "sigmoid" else tf.nn.softmax
    packed = np.concatenate([hard, squash(soft).numpy()], axis=1)
    return [tf.constant(values, tf.float32) for values in (packed, squash(logits).numpy(), logits)]


def candidates(activation):
    """name -> (loss, takes packed targets, takes logits); the first four are ours."""
    plain = {"sigmoid": keras.losses.BinaryCrossentropy, "softmax": keras.losses.CategoricalCrossentropy}[activation]
    return {
        "ours T=3": (DistillationLoss(0.5, 3.0, None, activation), True, False),
        "ours T=1": (DistillationLoss(0.5, 1.0, None, activation), True, False),
        "ours T=3 logits": (DistillationLoss(0.5, 3.0, None, activation, True), True, True),
        "ours T=1 logits": (DistillationLoss(0.5, 1.0, None, activation, True), True, True),
        "published T=3": (PublishedFormula(0.5, 3.0, plain()), True, False),
        "plain": (plain(), False, False),
        "plain logits": (plain(from_logits=True), False, True),
    }


def compiled_step(loss, jit_compile):
    """A compiled function (y, outputs) -> (loss, gradient)."""

    @tf.function(jit_compile=jit_compile)
    def step(y, outputs):
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            value = loss(y, outputs)
        return value, tape.gradient(value, outputs)

    return step


def measure(activation, batch, classes, rounds, jit_compile):
    """name -> median milliseconds of one forward and backward pass, candidates taking turns."""
    packed, probabilities, logits = rows(activation, batch, classes)
    calls = {}
    for name, (loss, takes_packed, takes_logits) in candidates(activation).items():
        step = compiled_step(loss, jit_compile)
        inputs = (packed if takes_packed else packed[:, :classes], logits if takes_logits else probabilities)
        step(*inputs)
        calls[name] = (step, inputs)
    repeats = max(1, 400_000 // (batch * classes))  # about a millisecond of work per turn
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (step, inputs) in calls.items():
            start = time.perf_counter()
            for _ in range(repeats):
                value, _ = step(*inputs)
            value.numpy()
            times[name].append((time.perf_counter() - start) / repeats * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


def main():
    """Print the machine, the table and, last, the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--xla", action="store_true", help="compile with XLA")
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; "
        f"tensorflow {tf.__version__}; keras {keras.__version__}; {'XLA' if arguments.xla else 'tf.function'}"
    )
    ratios = {}
    for activation in ("softmax", "sigmoid"):
        for batch, classes in SIZES:
            times = measure(activation, batch, classes, arguments.rounds, arguments.xla)
            print(f"\n{activation} ({batch}, {classes})")
            for name, milliseconds in times.items():
                print(f"  {name:<16} {milliseconds:8.3f} ms   {times['published T=3'] / milliseconds:5.2f} x published")
            for ours in [name for name in times if name.startswith("ours")]:
                key = f"{activation} ({batch}, {classes}) {ours[5:]}"
                plain = times["plain logits" if "logits" in ours else "plain"]
                ratios[f"{key} / published"] = round(times[ours] / times["published T=3"], 3)
                ratios[f"{key} / plain"] = round(times[ours] / plain, 3)
    sys.stdout.flush()
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
