"""Mixup of features and packed targets: both halves by one rule, and nothing known from what is unknown.

Works on NumPy arrays, tensors of TensorFlow (eager, traced, inside `tf.data`), of PyTorch and of Keras's backend.
Not here: how examples are paired up in a dataset.
"""

from typing import Any, Literal

import numpy as np


def mixup(
    x: Any, y: Any, weight: Any, *, rule: Literal["linear", "max"] = "linear", partner: Any | None = None
) -> tuple[Any, Any]:
    """Mix every example with another one of its batch.

    Where an example that takes part (its share is above 0) has NaN, the mixture has NaN, in either half and under
    both rules: a partner without soft labels makes the soft half missing, it never counts as zeros. The teacher's
    embedding of a mixture is not known: it is NaN where two examples take part, and the one's where only one does.

        ds.map(lambda x, y: softlabels.mixup(x, y, tf.random.uniform([tf.shape(x)[0]], 0.5, 1.0)))

    Args:
      x: (batch, ...) float features.
      y: (batch, width) targets: packed `[hard | soft]`, or hard alone; or the dictionary of these, as "labels", and
        "embedding", which batches have with `embedding=True`.
      weight: share of the example itself, in [0, 1]: one number, or (batch,); the partner gets the rest.
      rule: "linear" mixes the targets as the features; "max" takes the larger of the two, class by class (sigmoid
        labels: both birds are there, however faint).
      partner: (batch,) int row numbers; None takes the next row, the last row the first.
    Returns: (x, y), mixed, of the shapes and types given.
    Raises: ValueError: unknown rule, `y` not (batch, width), a dictionary of other names, `x` or `y` not
      floating-point, or (where values are known) a weight outside [0, 1] or a partner that is no row of this batch.
    Example:
      >>> softlabels.mixup(np.float32([[1], [3]]), np.float32([[1, 0], [0, 1]]), 0.5)[1]
      array([[0.5, 0.5],
             [0.5, 0.5]], dtype=float32)
    """
    if rule not in ("linear", "max"):
        raise ValueError(f"mixup: expected rule 'linear' or 'max'; got {rule!r}; softmax targets need 'linear'")
    if isinstance(y, dict):
        return _mixed_with_embedding(x, y, weight, rule=rule, partner=partner)
    if len(y.shape) != 2:
        raise ValueError(f"mixup: expected targets (batch, width); got shape {tuple(y.shape)}; batch before mixup")
    if "float" not in str(x.dtype) or "float" not in str(y.dtype):
        raise ValueError(f"mixup: expected floating-point x and y; got {x.dtype} and {y.dtype}; cast them first")
    _check_known(weight, partner, y.shape[0])
    library = _library_of(x, y)
    partner_x, other = _partners(library, x, partner), _partners(library, y, partner)
    share = _column(library, weight, x)
    mixed_x = library.where(share < 1, share * x + (1 - share) * partner_x, x)  # a partner without a share is left out
    share, zero = _column(library, weight, y), library.zeros_like(y)  # (batch or 1, 1), (batch, width)
    own_nan, other_nan = y != y, other != other
    own, other = library.where(own_nan, zero, y), library.where(other_nan, zero, other)
    if rule == "linear":
        mixed_y = library.where(share < 1, share * own + (1 - share) * other, own)
    else:
        mixed_y = library.maximum(library.where(share > 0, own, zero), library.where(share < 1, other, zero))
    # Masks are combined by hand: a compiled maximum may drop a NaN, and 0 * NaN would spread one that takes no part.
    missing = (own_nan & (share > 0)) | (other_nan & (share < 1))  # (batch, width)
    return mixed_x, library.where(missing, zero + float("nan"), mixed_y)


def _mixed_with_embedding(x, y, weight, *, rule, partner):
    """`mixup` of targets with the teacher's embedding."""
    if set(y) != {"labels", "embedding"}:
        raise ValueError(
            f"mixup: expected targets (batch, width), or a dictionary of embedding and labels; got one of "
            f"{', '.join(sorted(map(str, y)))}; mix each of them by itself"
        )
    mixed_x, labels = mixup(x, y["labels"], weight, rule=rule, partner=partner)
    library, own = _library_of(x, y["labels"]), y["embedding"]
    share = _column(library, weight, y["labels"])  # in the float16 of embeddings almost 1 would be 1
    alone = library.where(share == 1, own, _partners(library, own, partner))
    mixture = (share > 0) & (share < 1)
    return mixed_x, {
        "labels": labels,
        "embedding": library.where(mixture, library.zeros_like(own) + float("nan"), alone),
    }


def _partners(library, values, partner):
    """(batch, ...) -> (batch, ...) of the examples that each is mixed with."""
    if partner is None:
        return library.roll(values, -1, axis=0)
    return (library.gather if hasattr(library, "gather") else library.take)(values, partner, axis=0)


def _library_of(x, y):
    """The library that x and y belong to: NumPy, TensorFlow, PyTorch, or Keras for the tensors of its backend."""
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return np
    if any(type(each).__module__.startswith("tensorflow") for each in (x, y)):
        import tensorflow as tf

        return tf
    if any(type(each).__module__.startswith("torch") for each in (x, y)):
        from softlabels.loss.pytorch import ops as torch_ops

        return torch_ops
    from keras import ops

    return ops


def _column(library, weight, values):
    """A number or (batch,) -> (1 or batch, 1, ...) of the type and rank of `values`."""
    if not hasattr(weight, "dtype"):
        weight = np.asarray(weight, "float32")
    if library is np:
        weight = np.asarray(weight, values.dtype)
    elif hasattr(library, "cast_like"):
        weight = library.cast_like(weight, values)  # on its device too
    else:
        weight = library.cast(weight, values.dtype)
    return library.reshape(weight, (-1,) + (1,) * (len(values.shape) - 1))


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
