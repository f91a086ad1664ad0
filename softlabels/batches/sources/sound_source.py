"""Where batches take sound from: kept audio or the files themselves. Chosen by size where nobody says, and told."""

import logging
import shutil
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.batches.crops import PlacedCrops
from softlabels.batches.options import Audio
from softlabels.batches.rows import LabelRows
from softlabels.batches.window_audio import WindowAudio
from softlabels.errors import JoinError, StorageFullError
from softlabels.sound.kept_audio import KeptAudio, kept_bytes, kept_path
from softlabels.sound.samples import BLOCK, SampleFormat
from softlabels.sound.stretches import RowSounds, Stretches

logger = logging.getLogger(__name__)
MOST_BYTES = 10 * 10**9  # that are kept where nobody asked for it, and never more than half of what is free
LEAST_S = 60  # of sound that is decoded again in every epoch for less than it costs to look after it
_ENTERED = ("flac", "wav", "w64", "aiff", "caf", "au")  # containers that are mostly entered at any sample


class RowAudio(Protocol):
    """The sound of rows, streamed or kept: the same samples."""

    rate_hz: int
    window_samples: int

    def read(self, rows: np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        """(rows, window_samples) float32, zero-padded after the end of a clip; starts: (rows,) samples of its file."""


def audio_of(
    labels: LabelRows, rate_hz: int | None, window_samples: int | None = None, audio: Audio | None = None
) -> RowAudio:
    """The sound of the rows as they are asked for, or as costs least where nobody asked: the very same samples then.

    Args:
      rate_hz, window_samples: as of `WindowAudio`. audio: as in `make_dataset`.
    Raises: as `KeptAudio`.
    """
    if (audio or _best(labels, rate_hz or labels.window.rate_hz)) != "stream":
        try:
            return KeptAudio(labels, rate_hz=rate_hz, window_samples=window_samples, form=form_of(audio))
        except (JoinError, StorageFullError) as e:
            if audio:
                raise
            logger.warning("audio: %s; it is streamed instead", e)
    return WindowAudio(labels, rate_hz=rate_hz, window_samples=window_samples)


def read_crops(audio: RowAudio, rows: np.ndarray, crops: PlacedCrops | None) -> np.ndarray:
    """(rows, window_samples) float32 of rows, or of crops that were made of them."""
    return audio.read(rows) if crops is None else crops.silenced(audio.read(rows, crops.sound_start))


def form_of(audio: Audio | None) -> SampleFormat:
    """What the samples are like that `audio_of` reads: streamed ones as if they were kept as float32."""
    return "int16" if audio == "cache" else "float32"


def enters_anywhere(sounds: RowSounds, rate_hz: int) -> bool:
    """Whether no window costs what lies before it in its file, as far as the container says."""
    clips = sounds.clips
    entered = pc.is_in(clips["container"], pa.array(_ENTERED))
    return pc.all(pc.and_(pc.equal(clips["rate_hz"], rate_hz), entered)).as_py() is not False


def _best(labels: LabelRows, rate_hz: int) -> Audio:
    """Kept audio where streaming costs more than reading, and there is room for it."""
    sounds = labels.row_sounds()
    if enters_anywhere(sounds, rate_hz):
        return "stream"
    stretches = Stretches.of(sounds, rate_hz)
    seconds = stretches.blocks * BLOCK / rate_hz
    path, size = kept_path(stretches, "float32"), kept_bytes(stretches.blocks, "float32")
    if path.exists():
        return "cache-float32"
    if seconds < LEAST_S:
        return "stream"
    free = _free(path.parent)
    if size <= min(MOST_BYTES, free / 2):
        what = "audio: kept in '%s' (%.1f hours, %.2f GB): it is decoded once, not in every epoch; audio='stream' does"
        logger.info(f"{what} without", path.parent, seconds / 3600, size / 1e9)
        return "cache-float32"
    logger.warning(
        "audio: streamed, so every epoch decodes %.1f hours: kept in '%s' they take %.1f GB, more than %.0f GB or half "
        "of the %.1f GB that are free; audio='cache' keeps them all the same, in half the room",
        seconds / 3600,
        path.parent,
        size / 1e9,
        MOST_BYTES / 1e9,
        free / 1e9,
    )
    return "stream"


def _free(folder: Path) -> int:
    """Bytes free where a folder is, or would be."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    return shutil.disk_usage(there).free
