"""Embeddings of a store: what the teacher's last layer made its scores of, beside the labels of a window."""

import numpy as np

from softlabels.errors import StoreError
from softlabels.records.spec import LabelSpec

LEAST, MOST = 2.0**-14, 65504.0  # of float16: the smallest number with all its bits, and the largest


def require_embeddings(spec: LabelSpec, store: object) -> int:
    """Their width. Raises: StoreError: there are none."""
    if not spec.embedding:
        raise StoreError(
            f"store '{store}' has no embeddings: it was made without; `softlabels run --embedding` keeps them, in "
            "another store (-o)"
        )
    return spec.embedding


def as_half(values: np.ndarray) -> np.ndarray:
    """(rows, width) float32 -> float16; NaN in rows that are missing, or whose largest number does not fit."""
    largest = np.abs(values).max(axis=1, initial=0)
    fits = (largest == 0) | ((largest >= LEAST) & (largest <= MOST))  # False for NaN
    return np.where(fits[:, None], values, np.float32(np.nan)).astype(np.float16)
