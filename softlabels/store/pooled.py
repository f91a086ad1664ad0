"""One row a clip: what a teacher gave the windows of each, pooled."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np

from softlabels.classes.class_list import ClassList
from softlabels.records.shard import ShardRows

if TYPE_CHECKING:
    import pandas as pd


def pooled_clips(shards: Iterable[ShardRows], classes: ClassList, pool: Literal["max", "mean"]) -> "pd.DataFrame":
    """Index clip_id, in the order of the rows, one column a class, float32. Raises: ValueError: another pooling."""
    import pandas as pd

    if pool not in ("max", "mean"):
        raise ValueError(f"pool: expected 'max' or 'mean', got {pool!r}")
    dtype, combine = (np.float32, np.maximum) if pool == "max" else (np.float64, np.add)
    pooled: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(classes), dtype))
    windows: Counter[str] = Counter()
    for rows in shards:
        for clip_id, row in zip(rows.clip_id, rows.probabilities, strict=True):
            combine(pooled[clip_id], row, out=pooled[clip_id])
            windows[clip_id] += 1
    if pool == "mean":
        pooled = {clip_id: total / windows[clip_id] for clip_id, total in pooled.items()}
    values = np.array(list(pooled.values()), np.float32).reshape(len(pooled), len(classes))
    return pd.DataFrame(values, index=pd.Index(list(pooled), name="clip_id"), columns=list(classes))
