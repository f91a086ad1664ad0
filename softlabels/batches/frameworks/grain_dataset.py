"""Joined labels as a grain dataset; the extra `grain`."""

from typing import SupportsIndex

import numpy as np

from softlabels.batches.stream import Batches


class BatchSource:
    """A random-access source of batches over some epochs; it pickles as settings and a path."""

    def __init__(self, batches: Batches, epochs: int) -> None:
        self._batches, self._epochs = batches, epochs

    def __len__(self) -> int:
        return self._epochs * len(self._batches)

    def __getitem__(self, number: SupportsIndex) -> tuple[np.ndarray, np.ndarray | dict[str, np.ndarray]]:
        return self._batches.load(int(number))


def grain_dataset(batches: Batches, epochs: int):  # -> grain.MapDataset
    """A `grain.MapDataset` of batches. Raises: ValueError: epochs below 1; ImportError: without grain."""
    if epochs < 1:
        raise ValueError(f"epochs: expected 1 or more, got {epochs}")
    try:
        import grain
    except ImportError as e:
        raise ImportError("as_grain needs the package grain: `pip install softlabels[grain]`") from e
    return grain.MapDataset.source(BatchSource(batches, epochs))
