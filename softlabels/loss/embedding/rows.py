"""One minus the cosine between a teacher's embedding of a row and what a student makes of it, in any library.

    L = weight * (1 - cos(t, p)) = weight / 2 * |t / |t| - p / |p||^2          0 where there is nothing to compare

Cosine, for how long an embedding is says more of how loud than of what.
"""

import math
from typing import Any


def embedding_rows(ops: Any, embedding: Any, student: Any) -> Any:
    """One minus the cosine of each row, 0 where the teacher's is not finite or one of them is all zeros.

    Written as half the squared distance of unit vectors, which is exact where they are close. Each row is divided by
    its largest number first, so that no square overflows or vanishes.

    Args:
      ops: `keras.ops` or `pytorch.ops`.
      embedding: (batch, width) float; NaN where the teacher gave none.
      student: (batch, width) float.
    Returns: (batch,) float32, from 0 to 2.
    """
    embedding, student = ops.cast(embedding, "float32"), ops.cast(student, "float32")
    known = ops.all(ops.isfinite(embedding), axis=-1, keepdims=True)  # (batch, 1)
    theirs, is_any = _unit(ops, ops.where(known, embedding, 0.0))
    ours, ours_is_any = _unit(ops, student)
    halves = 0.5 * ops.sum(ops.square(theirs - ours), axis=-1)  # (batch,)
    return ops.where(ops.squeeze(ops.logical_and(is_any, ours_is_any), -1), halves, 0.0)


def _unit(ops: Any, values: Any) -> tuple[Any, Any]:
    """(batch, width) rows of length 1, and (batch, 1) whether there is any number but 0; a row of zeros stays one."""
    largest = ops.stop_gradient(ops.max(ops.abs(values), axis=-1, keepdims=True))  # a cosine knows no scale
    is_any = ops.not_equal(largest, 0.0)  # True for NaN: a student that has diverged shows
    scaled = values / ops.where(is_any, largest, 1.0)
    square = ops.sum(ops.square(scaled), axis=-1, keepdims=True)
    return scaled / ops.sqrt(ops.where(is_any, square, 1.0)), is_any


def check_weight(who: str, weight: float) -> None:
    """Raise ValueError for a weight that is negative, infinite or NaN."""
    if not 0.0 <= weight < math.inf:  # False for NaN too
        raise ValueError(f"{who}: expected a finite weight of 0 or more; got {weight}; 1 changes nothing")


def check_widths(who: str, embedding: Any, student: Any) -> None:
    """Raise ValueError unless both are (batch, width), as far as that is known."""
    true, pred = tuple(embedding.shape), tuple(student.shape)
    known = [n for n in (*true[1:], *pred[1:]) if n is not None]
    if len(true) != 2 or len(pred) != 2 or len(set(known)) > 1:
        raise ValueError(
            f"{who}: expected embeddings and outputs of one width, (batch, width); got {true} and {pred}; "
            "make the head with width=labels.embedding_width, the data with embedding=True"
        )
