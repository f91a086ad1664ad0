"""Several small batches a call: a call of Python from tf.data costs as much as the labels of hundreds of rows."""

from typing import Any

import numpy as np

from softlabels.batches.stream import Batches

CALL_BYTES, CALL_BATCHES = 1 << 20, 16  # that one Python call makes, at most, where a batch is smaller


def batches_a_call(batches: Batches) -> int:
    """How many batches one makes."""
    heard = batches.features and not batches.options.keep_features
    audio = 4 * batches.audio.window_samples if heard else 0
    x, y_true = batches.example.nbytes // len(batches.example), 8 * len(batches.labels.classes)
    row = audio + x + y_true + 2 * batches.embedding_width  # bytes
    together = CALL_BYTES // (batches.batch_size * row)
    return 1 if together < CALL_BATCHES // 4 else min(together, CALL_BATCHES)  # so few save less than cutting costs


def batches_of_call(batches: Batches, first: int, end: int) -> list[Any]:
    """How far it got, and the arrays of batches `first` to `end - 1`, below each other.

    Of several it stops after a short one, and before one that fails: that is asked for alone, and fails in its turn.
    """
    if end == first + 1:
        return [np.int64(end), *batches.arrays(int(first))]
    made: list[tuple[np.ndarray, ...]] = []
    for number in range(int(first), int(end)):
        try:
            made.append(batches.arrays(number))
        except Exception:
            break
        if len(made[-1][0]) < batches.batch_size:
            break
    parts = zip(batches.no_arrays(), *made, strict=True)
    return [np.int64(first + len(made)), *(np.concatenate(part) for part in parts)]
