"""Forward and backward time of the distillation loss beside plain cross-entropy and the published formula.

    python tests/benchmarks/bench_loss.py [--rounds 30]

All candidates are compiled, by `tf.function` alone and with XLA, and timed in turns within one process, so that a busy
machine slows them alike: a ratio is the median over the rounds of the ratio within a round. Each gets packed targets
with both halves complete; T = 3 as published, and T = 1, our default for joined labels. The last lines are the worst
ratio over the sizes, ours divided by the published formula, and one JSON object of all ratios.
"""

import argparse
import itertools
import json
import os
import platform
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
    """name -> (rounds,) milliseconds of one forward and backward pass, candidates taking turns."""
    packed, probabilities, logits = rows(activation, batch, classes)
    calls = {}
    for name, (loss, takes_packed, takes_logits) in candidates(activation).items():
        step = compiled_step(loss, jit_compile)
        inputs = (packed if takes_packed else packed[:, :classes], logits if takes_logits else probabilities)
        step(*inputs)
        calls[name] = (step, inputs)
    repeats = max(1, 200_000 // (batch * classes))  # a few milliseconds of work per turn
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (step, inputs) in calls.items():
            start = time.perf_counter()
            for _ in range(repeats):
                value, _ = step(*inputs)
            value.numpy()
            times[name].append((time.perf_counter() - start) / repeats * 1e3)
    return {name: np.array(values) for name, values in times.items()}


def main():
    """Print the machine, the tables, the worst over all sizes and, last, the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}; "
        f"tensorflow {tf.__version__}; keras {keras.__version__}; load {os.getloadavg()[0]:.1f}"
    )
    ratios, worst = {}, {}
    for mode, activation in itertools.product(("tf.function", "XLA"), ("softmax", "sigmoid")):
        for batch, classes in SIZES:
            times = measure(activation, batch, classes, arguments.rounds, mode == "XLA")
            print(f"\n{mode}, {activation} ({batch}, {classes}){'':<9}least ms   x published   x plain")
            for name, milliseconds in times.items():
                plain = times["plain logits" if "logits" in name else "plain"]
                both = [float(np.median(milliseconds / other)) for other in (times["published T=3"], plain)]
                print(f"  {name:<32} {milliseconds.min():8.3f} {both[0]:13.2f} {both[1]:9.2f}", flush=True)
                if name.startswith("ours"):
                    key = f"{mode}, {activation}, {name[5:]}"
                    worst[key] = max(worst.get(key, 0.0), both[0])
                    ratios[f"{key}, ({batch}, {classes})"] = [round(ratio, 3) for ratio in both]
    print("\nworst over the sizes, x published")
    for key, ratio in worst.items():
        print(f"  {key:<34} {ratio:6.2f}")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
