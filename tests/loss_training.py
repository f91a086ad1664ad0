"""A tiny training on whatever backend Keras runs: schedule after tracing, weights, saving. Prints one JSON object.

KERAS_BACKEND=torch python tests/loss_training.py FOLDER
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from softlabels.loss.distillation import DistillationLoss
from softlabels.loss.metrics import HardLabelMetric, TeacherAgreement
from softlabels.loss.schedule import AlphaSchedule

CLASSES = 3


def make_data(rows=8):
    """-> features (rows, 2), packed targets (rows, 6)."""
    rng = np.random.default_rng(1)
    hard = np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=rows)]
    return rng.normal(size=(rows, 2)).astype(np.float32), np.concatenate(
        [hard, rng.random((rows, CLASSES), np.float32)], axis=1
    )


def make_model(loss, rate=0.0):
    """A linear student, compiled with the loss and both metrics; rate 0 never learns."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(CLASSES)])
    metrics = [HardLabelMetric("binary_accuracy"), TeacherAgreement("sigmoid", True)]
    model.compile(keras.optimizers.SGD(rate), loss=loss, metrics=metrics)
    return model


class Recorder(keras.callbacks.Callback):
    """Keeps alpha and the loss of every epoch."""

    def __init__(self, loss):
        super().__init__()
        self.loss, self.alphas, self.losses = loss, [], []

    def on_epoch_end(self, epoch, logs=None):
        self.alphas.append(self.loss.alpha)
        self.losses.append(float(logs["loss"]))


def main():
    """Train with a schedule, save, load, train with weights."""
    x, y = make_data()
    focal = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    loss = DistillationLoss(0.25, 2.0, focal, "sigmoid", True, trust=[1.0, 0.5, 0.0])
    model = make_model(loss)
    recorder = Recorder(loss)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)  # traced at alpha 0.25
    schedule = AlphaSchedule(1.0, 0.0, kind="linear")
    model.fit(
        x, y, batch_size=8, epochs=3, verbose=0, callbacks=[schedule, recorder], validation_data=(x, y[:, :CLASSES])
    )
    outputs = model.predict(x, verbose=0)
    expected = []
    for alpha in recorder.alphas:
        loss.alpha = alpha
        expected.append(float(keras.ops.convert_to_numpy(loss(y, outputs))))
    path = Path(sys.argv[1]) / "student.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    before, after = (m.evaluate(x, y, batch_size=8, verbose=0, return_dict=True) for m in (model, loaded))
    weighted = make_model(DistillationLoss(0.5, 1.0, None, "sigmoid", True), rate=0.1)
    start = [weight.copy() for weight in weighted.get_weights()]
    weighted.fit(x, y, batch_size=8, epochs=1, sample_weight=np.zeros(len(x), np.float32), verbose=0)
    moved = max(float(np.abs(a - b).max()) for a, b in zip(start, weighted.get_weights(), strict=True))
    sys.stdout.write(
        json.dumps(
            {
                "alphas": recorder.alphas,
                "epoch_losses": recorder.losses,
                "expected_losses": expected,
                "reloaded_difference": max(abs(before[name] - after[name]) for name in before),
                "weights_changed_by_weight_zero_rows": moved,
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
