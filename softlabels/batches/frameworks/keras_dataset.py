"""Joined labels as a `keras.utils.PyDataset`, for Keras on any backend."""

from typing import Any

import keras
import numpy as np

from softlabels.batches.stream import Batches


class LabelPyDataset(keras.utils.PyDataset):
    """Batches of `(x, y_true)` by number; every `on_epoch_end` moves on to the next epoch's order."""

    def __init__(self, batches: Batches, *, workers: int = 1) -> None:
        super().__init__(workers=workers)
        self._batches = batches
        self._first = 0  # where in the stream of batches this epoch begins

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray | dict[str, np.ndarray]]:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index}: expected 0 to {len(self) - 1}")
        return self._batches.load(self._first + index)

    def on_epoch_end(self) -> None:
        self._first += len(self)

    def get_state(self) -> dict[str, Any]:
        """Where the epoch begins that comes, or that runs, as a small JSON object."""
        return self._batches.state(self._first)

    def set_state(self, state: dict[str, Any]) -> None:
        """Let the next epoch begin where a state says. Raises: ValueError: it is one of other batches."""
        self._first = self._batches.position_of(state)
