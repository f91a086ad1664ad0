"""The distillation loss beside its float64 reference over the full grid, on whatever backend Keras runs.

    KERAS_BACKEND=jax python tests/loss_grid.py [--small]

Prints one JSON object: mode -> [number of cases, worst loss error, worst gradient error], errors in units of what is
allowed. The tests of the other backends run it in a process of its own.
"""

import json
import sys

import keras
import numpy as np
from loss_cases import ALPHA, CLASSES, DTYPES, TEMPERATURES, excess, make_case, reference_of

from softlabels.loss.distillation import DistillationLoss

MODES = {"tensorflow": ("eager", "graph", "xla"), "jax": ("eager", "jit"), "torch": ("eager",)}


def losses_at(activation, from_logits, trust, temperatures=TEMPERATURES):
    """One loss per temperature, unreduced."""
    return [
        DistillationLoss(ALPHA, temperature, None, activation, from_logits, None, trust=trust)
        for temperature in temperatures
    ]


def losses_and_gradients(losses, y, student, mode):
    """-> for each loss (rows, gradient by `student`), NumPy; all of them in one compiled function.

    Args:
      losses: unreduced losses.
      y: (batch, 2 * classes) float32.
      student: (batch, classes), any floating type.
      mode: one of MODES of the backend.
    """
    backend = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    return [
        (np.asarray(rows, np.float64), np.asarray(gradient, np.float64))
        for rows, gradient in backend(losses, y, student, mode)
    ]


def _tensorflow(losses, y, student, mode):
    import tensorflow as tf

    def run(y, student):
        results = []
        for loss in losses:
            with tf.GradientTape() as tape:
                tape.watch(student)
                rows = loss(y, student)
            results.append((rows, tape.gradient(rows, student)))
        return results

    run = run if mode == "eager" else tf.function(run, jit_compile=mode == "xla")
    return [(rows.numpy(), gradient.numpy()) for rows, gradient in run(tf.constant(y), tf.constant(student))]


def _jax(losses, y, student, mode):
    import jax
    import jax.numpy as jnp

    def run(y, student):
        results = []
        for loss in losses:
            rows, pull = jax.vjp(lambda outputs, loss=loss: loss(y, outputs), student)
            results.append((rows, pull(jnp.ones_like(rows))[0]))
        return results

    return (run if mode == "eager" else jax.jit(run))(jnp.asarray(y), jnp.asarray(student))


def _torch(losses, y, student, mode):
    import torch

    dtype = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[str(student.dtype)]
    results = []
    for loss in losses:
        outputs = torch.tensor(student.astype(np.float32)).to(dtype).requires_grad_()
        rows = loss(torch.tensor(y), outputs)
        rows.sum().backward()
        results.append((rows.detach().numpy(), outputs.grad.float().numpy()))
    return results


def worst_of_case(activation, classes, from_logits, dtype, mode):
    """-> (loss error, gradient error) over all temperatures, in units of what is allowed."""
    hard, soft, student, trust = make_case(activation, classes, from_logits=from_logits, dtype=dtype)
    y = np.concatenate([hard, soft], axis=1)
    results = losses_and_gradients(losses_at(activation, from_logits, trust), y, student, mode)
    errors = []
    for temperature, (rows, gradient) in zip(TEMPERATURES, results, strict=True):
        expected = reference_of(
            activation,
            hard,
            soft,
            student,
            trust,
            alpha=float(np.float32(ALPHA)),
            temperature=temperature,
            from_logits=from_logits,
        )
        errors.append(excess(rows, gradient, expected, temperature, dtype))
    return tuple(np.max(errors, axis=0).tolist())


def main():
    """Run the grid and print it; --small leaves the larger class lists out."""
    report = {}
    classes_tried = CLASSES[:2] if "--small" in sys.argv else CLASSES
    for mode in MODES[keras.backend.backend()]:
        worst = [
            worst_of_case(activation, classes, from_logits, dtype, mode)
            for activation in ("sigmoid", "softmax")
            for classes in classes_tried
            for from_logits in (True, False)
            for dtype in DTYPES
        ]
        report[mode] = [len(worst) * len(TEMPERATURES), *np.max(worst, axis=0).tolist()]
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
