"""Student losses with one weight per class beside their float64 reference, on whatever backend Keras runs.

    KERAS_BACKEND=jax python tests/loss_class_weights.py FOLDER

Prints one JSON object: mode -> {way to hold the weights: [worst loss error, worst gradient error]}, in units of what is
allowed; and what saving changed. The tests of the other backends run it in a process of its own.
"""

import functools
import json
import sys
from pathlib import Path

import keras
import numpy as np
from keras import ops
from loss_cases import ALPHA, excess, make_case
from loss_grid import MODES, losses_and_gradients
from loss_reference import binary_focal_cross_entropy, sigmoid_reference, weighted_binary_cross_entropy

from softlabels.loss.distillation import DistillationLoss

CLASSES = (2, 3, 4, 7, 400)
WEIGHTS_OF = {classes: np.random.default_rng(classes).uniform(0.1, 3.0, classes) for classes in CLASSES}
NAMED = np.float32([0.5, 2.0, 1.0, 3.0, 0.25, 1.5, 4.0])  # a global, as in a notebook


@keras.saving.register_keras_serializable(package="tests")
class Weighted(keras.losses.Loss):
    """Binary cross-entropy of logits with `pos_weight`, as people write it."""

    def __init__(self, pos_weight, **base):
        super().__init__(**base)
        self.pos_weight = pos_weight

    def call(self, y_true, y_pred):
        weight = ops.convert_to_tensor(self.pos_weight, y_pred.dtype)
        positive, negative = weight * y_true * ops.softplus(-y_pred), (1 - y_true) * ops.softplus(y_pred)
        return ops.mean(positive + negative, axis=-1)

    def get_config(self):
        return {**super().get_config(), "pos_weight": np.asarray(self.pos_weight).tolist()}


def weighted(y_true, y_pred, weights):
    """The same as a function."""
    return ops.mean(weights * y_true * ops.softplus(-y_pred) + (1 - y_true) * ops.softplus(y_pred), axis=-1)


def closed_over(weights):
    """A function of two arguments that closes over the weights."""
    weights = ops.convert_to_tensor(weights, "float32")

    def closed(y_true, y_pred):
        return weighted(y_true, y_pred, weights)

    return closed


def by_default(weights):
    """A function with the weights as a default."""

    weights = ops.convert_to_tensor(weights, "float32")

    def defaulted(y_true, y_pred, weights=weights):
        return weighted(y_true, y_pred, weights)

    return defaulted


def by_name(y_true, y_pred):
    """A function that names a global, and needs seven classes."""
    return weighted(y_true, y_pred, ops.convert_to_tensor(NAMED))


def ways(classes):
    """-> way: (what is given as student_loss, its reference), for so many classes."""
    w = WEIGHTS_OF[classes].astype(np.float32)
    share, wide = (w / 4).astype(np.float32), w.astype(np.float64)
    focal = functools.partial(keras.losses.BinaryFocalCrossentropy, True, gamma=2.0, from_logits=True)
    plain, balanced = weighted_binary_cross_entropy(wide), binary_focal_cross_entropy(share.astype(np.float64), 2.0)
    named = {"a global": (by_name, weighted_binary_cross_entropy(NAMED.astype(np.float64)))} if classes == 7 else {}
    return named | {
        "an attribute": (Weighted(w), plain),
        "a list": (Weighted(w.tolist()), plain),
        "a variable": (Weighted(keras.Variable(w, trainable=False)), plain),
        "a closure": (closed_over(w), plain),
        "a default": (by_default(w), plain),
        "focal, list": (focal(alpha=share.tolist()), balanced),
        "focal, array": (focal(alpha=share), balanced),
    }


def worst_of(classes, mode):
    """-> way: [loss error, gradient error], in units of what is allowed."""
    hard, soft, student, trust = make_case("sigmoid", classes, from_logits=True)
    student = np.clip(student, -8, 8)  # Keras's focal loss clips probabilities at 1e-7
    y, worst = np.concatenate([hard, soft], axis=1), {}
    given = ways(classes)
    losses = [DistillationLoss(ALPHA, 2.0, loss, "sigmoid", True, None, trust=trust) for loss, _ in given.values()]
    results = losses_and_gradients(losses, y, student, mode)
    for (way, (_, reference)), (rows, gradient) in zip(given.items(), results, strict=True):
        wide = [np.asarray(values, np.float64) for values in (hard, soft, student)]
        how = {"alpha": float(np.float32(ALPHA)), "temperature": 2.0, "from_logits": True, "hard_loss": reference}
        worst[way] = excess(rows, gradient, sigmoid_reference(*wide, trust=trust.astype(np.float64), **how), 2.0)
    return worst


def reloaded(folder):
    """-> way: |loss of a trained, saved and loaded student - loss before|; the ways that Keras can save."""
    x, y = np.random.default_rng(0).random((8, 2), np.float32), np.random.default_rng(1).random((8, 10), np.float32)
    focal = functools.partial(keras.losses.BinaryFocalCrossentropy, True, from_logits=True)
    weights = np.float32([0.1, 0.9, 0.5, 0.25, 0.75])
    given = {"an attribute": Weighted(weights), "focal, list": focal(weights.tolist()), "focal, array": focal(weights)}
    report = {}
    for way, student_loss in given.items():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(5)])
        model.compile("sgd", DistillationLoss(0.5, 1.0, student_loss, "sigmoid", True))
        model.fit(x, y, batch_size=8, verbose=0)
        path = Path(folder) / "student.keras"
        model.save(path)
        before, after = (m.evaluate(x, y, verbose=0) for m in (model, keras.models.load_model(path)))
        report[way] = abs(before - after)
    return report


def main():
    """Try all and print."""
    report = {"reloaded": reloaded(sys.argv[1])}
    for mode in MODES[keras.backend.backend()]:
        report[mode] = {
            f"{way}, {classes}": list(errors) for classes in CLASSES for way, errors in worst_of(classes, mode).items()
        }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
