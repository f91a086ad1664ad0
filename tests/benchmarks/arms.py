"""Arms of a comparison: each makes of joined labels what a student learns from, through the package's own recipe.

Not here: where labels come from (`song_corpus.py`, `digit_corpus.py`), how a student learns (`students.py`).
"""

from typing import Any

import keras
import numpy as np
from published_loss import PublishedLoss
from students import Lesson

import softlabels

DEFAULT = "calibrated + trust"  # what README and for_labels choose


def recommended(labels: softlabels.JoinedLabels, seed: int) -> Lesson:
    """The default recipe, fixed on other clips and seeds than the reported ones."""
    return taught(labels.calibrate().trust(), seed)


def taught(labels: softlabels.JoinedLabels, seed: int, **choices: Any) -> Lesson:
    """Every row, hard and soft, with the loss that the package chooses for these labels."""
    loss = softlabels.DistillationLoss.for_labels(labels, from_logits=True, **choices)
    return lesson(labels.y_true(), np.arange(len(labels)), loss, seed)


def hard_only(labels: softlabels.JoinedLabels, seed: int) -> Lesson:
    """The annotated rows alone: binary cross-entropy, or categorical where the classes are exclusive."""
    y = labels.y_true()
    hard, soft = np.split(y, 2, axis=1)  # views
    soft[:] = np.nan
    loss = softlabels.DistillationLoss(0.0, 1.0, None, labels.activation, from_logits=True)
    return lesson(y, annotated_rows(hard, labels.activation), loss, seed)


def shuffled(told: Lesson) -> Lesson:
    """The same lesson, but every row has the soft label of another."""
    hard, soft = np.split(told.y, 2, axis=1)
    order = np.random.default_rng([told.seed, 1]).permutation(len(soft))
    return lesson(np.hstack([hard, soft[order]]), told.rows, told.loss, told.seed)


def published(labels: softlabels.JoinedLabels, seed: int) -> Lesson:
    """The published loss. It knows no missing labels, so it sees the annotated rows alone."""
    y = labels.y_true()
    return lesson(y, annotated_rows(y[:, : y.shape[1] // 2], "softmax"), PublishedLoss(), seed)


def annotated_rows(hard: np.ndarray, activation: str) -> np.ndarray:
    """(n,) the rows that a hard loss sees: with a known class; under softmax, which needs them all, without NaN."""
    known = ~np.isnan(hard)
    return np.flatnonzero(known.any(axis=1) if activation == "sigmoid" else known.all(axis=1))


def lesson(y: np.ndarray, rows: np.ndarray, loss: keras.losses.Loss | dict, seed: int) -> Lesson:
    """A lesson, its loss as a configuration."""
    if not isinstance(loss, dict):
        loss = keras.saving.serialize_keras_object(loss)
    return Lesson(y=np.ascontiguousarray(y, np.float32), rows=rows, loss=loss, seed=seed)
