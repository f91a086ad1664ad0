"""The order "recordings": mixed batches of recordings that are each read through once; and what other orders cost."""

import logging

import numpy as np

from softlabels.batches.rows import RowPlaces
from softlabels.batches.window_audio import BLOCK_S, MIX_S, WindowAudio

logger = logging.getLogger(__name__)


def recordings_order(places: RowPlaces, rate_hz: int, row_samples: int, generator: np.random.Generator) -> np.ndarray:
    """Recordings in random order, a block of them played side by side, each a little out of its order.

    What a block has in memory, if every recording is read from its start to its last row and `MIX_S` are kept, is at
    most `BLOCK_S`, however long the recordings are.

    Args:
      places: of the rows that are to come, repeated or not. rate_hz: of their starts; row_samples: of each, at that.
    Returns: (rows,) int64, positions in `places`.
    """
    recording, start = places.recording, places.start
    mix, size = MIX_S * rate_hz, int(recording.max()) + 1
    first, last = np.full(size, np.iinfo(np.int64).max), np.full(size, -1)
    np.minimum.at(first, recording, start)
    np.maximum.at(last, recording, start)
    samples = np.where(last >= 0, np.minimum(last, mix) + row_samples, 0)  # in memory; of the rest no row comes
    block = _blocks(samples, BLOCK_S * rate_hz, generator.permutation(size))
    late, span = generator.random(len(recording)), (last - first)[recording]
    at = np.where(span <= mix, late, (start - first[recording] + late * mix) / (span + mix))  # in [0, 1) of the block
    return np.argsort(block[recording] + at, kind="stable")


def _blocks(samples: np.ndarray, most: int, order: np.ndarray) -> np.ndarray:
    """(recordings,) int64 the block of each, as many in a row as have `most` samples in memory."""
    block = np.empty(len(samples), np.int64)
    block[order] = (np.cumsum(samples[order]) - samples[order]) // most
    return block


def say_cost(places: RowPlaces, rows: np.ndarray, batch_size: int, audio: WindowAudio) -> None:
    """Tell what streaming in an order costs where recordings can only be read from their start, if it is much.

    Args:
      places: of all rows; rows: (n,) those of the first batches of an epoch.
    """
    from_start = places.enters_hz[places.recording] != audio.rate_hz
    end_s = np.where(from_start, places.start / audio.teacher_hz + audio.window_samples / audio.rate_hz, 0)
    once = np.zeros(len(places.enters_hz))
    np.maximum.at(once, places.recording, end_s)
    batch_and_recording = np.arange(len(rows)) // batch_size * len(once) + places.recording[rows]
    found, which = np.unique(batch_and_recording, return_inverse=True)
    decoded = np.zeros(len(found))  # a batch goes through a recording once
    np.maximum.at(decoded, which, end_s[rows])
    hours, hours_once = decoded.sum() * len(end_s) / len(rows) / 3600, once.sum() / 3600
    if hours > 3 * hours_once and hours > 1:
        logger.warning(
            "shuffle=True: an epoch decodes about %.0f hours of audio out of recordings of %.1f hours, which at %d Hz "
            "can only be read from their start: shuffle='recordings' reads each once an epoch, audio='cache' once for "
            "all",
            hours,
            hours_once,
            audio.rate_hz,
        )
