"""Packed targets `[hard | soft]`: how they are made, taken apart, checked and weighted, in NumPy.

Keras's `fit` takes one target array per output, so the human label and the teacher's opinion travel side by side,
(batch, 2 * classes). NaN in the hard half means nobody annotated, NaN in the soft half that the teacher gave nothing.
Not here: anything that needs a framework (the loss and the metrics split tensors themselves).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

Activation = Literal["sigmoid", "softmax"]
MAX_SOFTMAX_SUM = 1.01  # a softmax row sums to 1, plus what rounding to 8 significand bits may add


def pack_targets(hard: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Put the two halves side by side.

    Args:
      hard: (batch, classes) in [0, 1]; NaN where nobody annotated.
      soft: (batch, classes) teacher probabilities; NaN where the teacher gave nothing.
    Returns: (batch, 2 * classes) float32.
    Raises: ValueError: the shapes differ or are not (batch, classes).
    Example:
      >>> softlabels.pack_targets(np.array([[1, 0]]), np.array([[0.75, 0.25]]))
      array([[1.  , 0.  , 0.75, 0.25]], dtype=float32)
    """
    hard, soft = np.asarray(hard, np.float32), np.asarray(soft, np.float32)
    if hard.ndim != 2 or hard.shape != soft.shape:
        raise ValueError(
            "pack_targets: expected two arrays of one shape (batch, classes); "
            f"got hard {hard.shape} and soft {soft.shape}; fill what is missing with NaN"
        )
    return np.concatenate([hard, soft], axis=1)  # (batch, 2 * classes)


def split_targets(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take packed targets (batch, 2 * classes) apart.

    Returns: (hard, soft), each (batch, classes), views of `y`.
    Raises: ValueError: `y` is not two-dimensional or its width is odd.
    Example:
      >>> hard, soft = softlabels.split_targets(labels.y_true([0, 1]))
      >>> soft.shape
      (2, 3)
    """
    y = np.asarray(y)
    if y.ndim != 2 or y.shape[1] % 2:
        raise ValueError(
            f"split_targets: expected packed targets (batch, 2 * classes); got shape {y.shape}; "
            "make them with pack_targets(hard, soft)"
        )
    classes = y.shape[1] // 2
    return y[:, :classes], y[:, classes:]  # (batch, classes) twice


def check_targets(y: Any, *, activation: Activation | None = None) -> Any:
    """Refuse packed targets that no teacher can have given; return them unchanged, so it fits into a pipeline.

    Args:
      y: (batch, 2 * classes) packed targets: NumPy, or a TensorFlow tensor, inside `tf.data` too
        (`ds.map(lambda x, y: (x, softlabels.check_targets(y)))`).
      activation: "softmax" also refuses soft rows that sum above 1.01; None skips that check.
    Returns: `y`.
    Raises: ValueError: a value outside [0, 1] that is not NaN, or a soft row with too much mass. Inside a
      TensorFlow graph it surfaces as `tf.errors.InvalidArgumentError`.
    Example:
      >>> softlabels.check_targets(labels.y_true([0, 1]), activation=labels.activation).shape
      (2, 6)
    """
    if activation not in (None, "sigmoid", "softmax"):
        raise ValueError(
            f"check_targets: expected activation 'sigmoid', 'softmax' or None; got {activation!r}; "
            "use the store's activation"
        )
    if type(y).__module__.startswith("tensorflow") and not hasattr(y, "numpy"):
        return _check_in_graph(y, activation)
    hard, soft = split_targets(np.asarray(y))
    check_halves(hard, soft, activation=activation, who="check_targets")
    return y


def _check_in_graph(y: Any, activation: Activation | None) -> Any:
    """The same check as one operation of a TensorFlow graph."""
    import tensorflow as tf  # only a TensorFlow tensor leads here

    checked = tf.numpy_function(lambda now: check_targets(now, activation=activation), [y], y.dtype)
    checked.set_shape(y.shape)  # numpy_function forgets the shape
    return checked


def check_halves(hard: np.ndarray, soft: np.ndarray, *, activation: str | None, who: str) -> None:
    """Raise ValueError where a half, (batch, classes), holds what is no probability and not NaN.

    Args:
      activation: "softmax" also bounds the sum of each soft row.
      who: the caller, for the message.
    """
    for half, values in (("hard", hard), ("soft", soft)):
        low, high = np.fmin.reduce(values, axis=None, initial=0.0), np.fmax.reduce(values, axis=None, initial=1.0)
        if low < 0.0 or high > 1.0:
            worst = low if low < 0.0 else high
            row, column = np.argwhere(values == worst)[0]
            raise ValueError(
                f"{who}: expected the {half} half in [0, 1], or NaN where nothing is known; "
                f"got {worst:.6g} at row {row}, class {column}; pass probabilities, not logits"
            )
    if activation == "softmax":
        sums = np.asarray(np.nansum(soft, axis=-1, dtype=np.float64))  # (batch,)
        if (sums > MAX_SOFTMAX_SUM).any():
            row = int(np.argmax(sums))
            raise ValueError(
                f"{who}: expected soft rows of a softmax teacher, which sum to at most {MAX_SOFTMAX_SUM}; "
                f"got {sums[row]:.6g} at row {row}; a sigmoid teacher needs activation='sigmoid'"
            )


def class_weights_to_sample_weights(
    hard: np.ndarray, weights: Mapping[int, float] | Sequence[float] | np.ndarray
) -> np.ndarray:
    """Turn class weights into one weight per row, which Keras applies correctly to packed targets.

    A row's weight is the mean of its classes' weights, each counted by its hard label; a row without a positive
    class, or that nobody annotated, keeps weight 1. (Keras's own `class_weight` reads the packed row as one-hot.)

    Args:
      hard: (batch, classes) hard labels, or (batch, 2 * classes) packed targets if `weights` is a sequence.
      weights: one weight per class, or a mapping from class index to weight (absent classes: 1).
    Returns: (batch,) float32, for `sample_weight`.
    Raises: ValueError: a weight is negative or not finite, an index is out of range, or the widths do not fit.
    Example:
      >>> softlabels.class_weights_to_sample_weights(np.eye(2), {1: 3.0})
      array([1., 3.], dtype=float32)
    """
    hard = np.asarray(hard, np.float64)
    who = "class_weights_to_sample_weights"
    if hard.ndim != 2:
        raise ValueError(f"{who}: expected hard labels (batch, classes); got shape {hard.shape}; add a batch axis")
    per_class = _weight_vector(weights, hard.shape[1], who)  # (classes,)
    hard = np.nan_to_num(hard[:, : len(per_class)], nan=0.0)  # unannotated classes count for nothing
    total = hard.sum(axis=1)  # (batch,)
    weighted = (hard * per_class).sum(axis=1)  # (batch,)
    return np.where(total > 0, weighted / np.where(total > 0, total, 1.0), 1.0).astype(np.float32)


def _weight_vector(weights: Any, width: int, who: str) -> np.ndarray:
    """(classes,) float64 from a mapping or a sequence, checked."""
    if isinstance(weights, Mapping):
        strange = [key for key in weights if not 0 <= key < width]
        if strange:
            raise ValueError(f"{who}: expected class indices in 0..{width - 1}; got {strange[:10]}; use the class list")
        per_class = np.array([weights.get(index, 1.0) for index in range(width)], np.float64)
    else:
        per_class = np.asarray(weights, np.float64)
        if per_class.ndim != 1 or width not in (len(per_class), 2 * len(per_class)):
            raise ValueError(
                f"{who}: expected one weight per class for targets of width {width}; got shape {per_class.shape}; "
                "pass the hard half and one weight per class"
            )
    if not np.isfinite(per_class).all() or (per_class < 0).any():
        raise ValueError(f"{who}: expected finite weights of at least 0; got {per_class.tolist()[:10]}; fix them")
    return per_class
