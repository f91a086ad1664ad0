"""Mixup of features and packed targets: both halves by one rule, and nothing known from what is unknown.

Works on NumPy arrays, TensorFlow tensors (eager, traced, inside `tf.data`) and the tensors of Keras's backend.
Not here: how examples are paired up in a dataset.
"""

from typing import Any, Literal

import numpy as np


def mixup(
    x: Any,
    y: Any,
    weight: Any,
    *,
    rule: Literal["linear", "max"] = "linear",
    partner: Any | None = None,
) -> tuple[Any, Any]:
    """Mix every example with another one of its batch.

    Where an example that takes part (its share is above 0) has NaN, the mixture has NaN, in either half and under
    both rules: a partner without soft labels makes the soft half missing, it never counts as zeros.

        ds.map(lambda x, y: softlabels.mixup(x, y, tf.random.uniform([tf.shape(x)[0]], 0.5, 1.0)))

    Args:
      x: (batch, ...) float features.
      y: (batch, width) targets: packed `[hard | soft]`, or hard alone.
      weight: share of the example itself, in [0, 1]: one number, or (batch,); the partner gets the rest.
      rule: "linear" mixes the targets as the features; "max" takes the larger of the two, class by class (sigmoid
        labels: both birds are there, however faint).
      partner: (batch,) int row numbers; None takes the next row, the last row the first.
    Returns: (x, y), mixed, of the shapes and types given.
    Raises: ValueError: unknown rule, `y` not (batch, width), `x` or `y` not floating-point, or (where values are
      known) a weight outside [0, 1] or a partner that is no row of this batch.
    Example:
      >>> softlabels.mixup(np.float32([[1], [3]]), np.float32([[1, 0], [0, 1]]), 0.5)[1]
      array([[0.5, 0.5],
             [0.5, 0.5]], dtype=float32)
    """
    if rule not in ("linear", "max"):
        raise ValueError(f"mixup: expected rule 'linear' or 'max'; got {rule!r}; softmax targets need 'linear'")
    if len(y.shape) != 2:
        raise ValueError(f"mixup: expected targets (batch, width); got shape {tuple(y.shape)}; batch before mixup")
    if "float" not in str(x.dtype) or "float" not in str(y.dtype):
        raise ValueError(f"mixup: expected floating-point x and y; got {x.dtype} and {y.dtype}; cast them first")
    _check_known(weight, partner, y.shape[0])
    space = _Namespace(x, y)
    mixed_x = _linear(space, x, space.take(x, partner), space.column(weight, x))  # (batch, ...)
    share = space.column(weight, y)  # (batch or 1, 1)
    other = space.take(y, partner)  # (batch, width)
    own_nan, other_nan = y != y, other != other
    own, other = space.where(own_nan, 0.0, y), space.where(other_nan, 0.0, other)
    if rule == "linear":
        mixed_y = _linear(space, own, other, share)
    else:
        mixed_y = space.maximum(space.where(share > 0, own, 0.0), space.where(share < 1, other, 0.0))
    # Masks are combined by hand: a compiled maximum may drop a NaN, and 0 * NaN would spread one that takes no part.
    missing = (own_nan & (share > 0)) | (other_nan & (share < 1))  # (batch, width)
    return mixed_x, space.where(missing, float("nan"), mixed_y)


def _linear(space, own, other, share):
    """share * own + (1 - share) * other; an `other` without a share is left alone, whatever it holds."""
    return space.where(share < 1, share * own + (1 - share) * other, own)


def _check_known(weight, partner, batch):
    """ValueError for a weight or a partner that can be read now and makes no sense."""
    if isinstance(weight, float | int | np.ndarray | np.number):
        values = np.asarray(weight)
        if values.ndim > 1 or not ((values >= 0) & (values <= 1)).all():  # False for NaN too
            raise ValueError(
                f"mixup: expected weight as one number or (batch,) numbers in [0, 1]; got shape {values.shape}, "
                f"values {values.min()} to {values.max()}; it is the share of the example itself"
            )
    if isinstance(partner, list | np.ndarray) and batch is not None:
        rows = np.asarray(partner)
        if rows.shape != (batch,) or not ((rows >= 0) & (rows < batch)).all():
            raise ValueError(
                f"mixup: expected partner as {batch} row numbers in 0..{batch - 1}; got shape {rows.shape}, values "
                f"{rows.min(initial=0)} to {rows.max(initial=0)}; -1 is no row: pair only what has a partner"
            )


class _Namespace:
    """The five operations mixup needs, from the library that x and y belong to."""

    def __init__(self, x, y):
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            self.library = np
        elif type(y).__module__.startswith("tensorflow") or type(x).__module__.startswith("tensorflow"):
            import tensorflow as tf

            self.library = tf
        else:
            from keras import ops

            self.library = ops

    def where(self, condition, a, b):
        """Element-wise choice, in the type of whichever side is a tensor; plain numbers follow it."""
        dtype = next(side.dtype for side in (b, a) if hasattr(side, "dtype"))
        return self.library.where(condition, self._as(a, dtype), self._as(b, dtype))

    def maximum(self, a, b):
        """Element-wise maximum of two tensors without NaN."""
        return self.library.maximum(a, b)

    def take(self, values, partner):
        """(batch, ...) -> the partners' rows, (batch, ...)."""
        if partner is None:
            return self.library.roll(values, -1, axis=0)
        gather = self.library.gather if hasattr(self.library, "gather") else self.library.take
        return gather(values, partner, axis=0)

    def column(self, weight, values):
        """A number or (batch,) -> (1 or batch, 1, ...) of the type and rank of `values`."""
        if not hasattr(weight, "dtype"):
            weight = np.asarray(weight, "float32")
        return self.library.reshape(self._as(weight, values.dtype), (-1,) + (1,) * (len(values.shape) - 1))

    def _as(self, value, dtype):
        """`value` as a tensor of `dtype`."""
        if self.library is np:
            return np.asarray(value, dtype)
        if hasattr(value, "dtype"):
            return self.library.cast(value, dtype)
        return self.library.convert_to_tensor(value, dtype=dtype)
