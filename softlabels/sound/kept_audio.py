"""KeptAudio: the sound of rows from an array on disk, made once and memory-mapped. `WindowAudio` streams the same.

    audio-i2-<digest>.npy, audio-f4-<digest>.npy     (blocks, 4096); of int16, exponents in the rows after them

The digest is of the files' contents, what is kept of each, the rate, the form of the samples, and the versions of what
decoded and resampled them.
"""

import importlib.metadata
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr

from softlabels.kept.built_once import open_or_build
from softlabels.kept.in_parts import Part, build_in_parts, processes_for
from softlabels.kept.soft_file import CheckedRows, open_soft, typed_name
from softlabels.ragged import ranges
from softlabels.sound.decoding import write_files
from softlabels.sound.samples import BLOCK, DTYPES, SampleFormat, from_int16
from softlabels.sound.stretches import FileSound, RowSounds, Stretches, settings_of
from softlabels.sound.unchanged import FilesHeard
from softlabels.windows import rescale_samples

logger = logging.getLogger(__name__)
VERSION = 1
PART_S, PROCESS_S = 120, 900  # seconds of sound that are a part; that are worth a process of their own


class Sounded(Protocol):
    """Labels whose rows have sound."""

    def row_sounds(self) -> RowSounds:
        """Where the sound of the rows is."""


class KeptAudio:
    """Reads the sound of rows. Arguments as of `WindowAudio`.

    form: "float32" gives the very samples that streaming gives; "int16" takes half the disk, and rounds a sample by at
    most half of 2^-14 of the loudest within its 4,096.
    Raises: AudioError: a file is missing, or not what it was when the teacher heard it. StorageFullError,
      EnvironmentTrouble; JoinError: the folder cannot be written.
    """

    def __init__(
        self,
        labels: Sounded,
        *,
        rate_hz: int | None = None,
        window_samples: int | None = None,
        form: SampleFormat = "int16",
        check: bool = True,
    ) -> None:
        sounds = labels.row_sounds()
        grid = sounds.window
        self.rate_hz = rate_hz or grid.rate_hz
        teachers = rescale_samples(grid.window_samples, from_hz=grid.rate_hz, to_hz=self.rate_hz)
        self.window_samples = window_samples or teachers
        self._labels, self._form = labels, form
        self._stretches = Stretches.of(sounds, self.rate_hz)
        self._array = _open(self._stretches, form, check=check)
        self._exponents = self._array[self._stretches.blocks :].reshape(-1)  # (blocks, or more) int16; none of float32

    def read(self, rows: Sequence[int] | np.ndarray, starts: np.ndarray | None = None) -> np.ndarray:
        """(rows, window_samples) float32, zero-padded after the end of a clip.

        starts: (rows,) int64, the sample of its file, at `rate_hz`, where each stretch begins, not before
          its clip; None: where its row's window does.
        Raises: AudioError: a row of a clip that was never heard. ValueError: a start before its clip. JoinError: what
          is kept is damaged. EnvironmentTrouble.
        """
        rows = np.asarray(rows, np.int64)
        first, length = self._stretches.place(rows, starts, self.window_samples)
        block = first // BLOCK
        flat = self._array.checked(ranges(block, -(-(first + length) // BLOCK) - block)).reshape(-1)
        out = np.empty((len(rows), self.window_samples), np.float32)
        for i, (begin, count) in enumerate(zip(first.tolist(), length.tolist(), strict=True)):
            self._copy(flat[begin : begin + count], begin, out[i, :count])
            out[i, count:] = 0
        return out

    def _copy(self, samples: np.ndarray, begin: int, out: np.ndarray) -> None:
        if self._form == "float32" or not len(out):
            out[...] = samples
        else:
            last = begin + len(out) - 1
            from_int16(samples, self._exponents[begin // BLOCK : last // BLOCK + 1], begin % BLOCK, out)

    def __reduce__(self) -> tuple:
        how = partial(KeptAudio, rate_hz=self.rate_hz, window_samples=self.window_samples, form=self._form, check=False)
        return how, (self._labels,)


def kept_bytes(blocks: int, form: SampleFormat) -> int:
    """How large an array of so many blocks is, on disk."""
    return _rows(blocks, form) * BLOCK * DTYPES[form].itemsize


def _rows(blocks: int, form: SampleFormat) -> int:
    """Rows of the array: blocks, and the exponents of whole numbers."""
    return blocks + (-(-blocks // BLOCK) if form == "int16" else 0)


def kept_path(stretches: Stretches, form: SampleFormat) -> Path:
    """Where such audio is kept, or would be."""
    versions = {"soxr": [soxr.__version__, soxr.__libsoxr_version__], "libsndfile": soundfile.__libsndfile_version__}
    if "m4a" in stretches.containers():
        versions["av"] = importlib.metadata.version("av")
    name = typed_name("audio", DTYPES[form], settings_of(stretches, version=VERSION, form=form, **versions))
    return stretches.sounds.folder / name


def _open(stretches: Stretches, form: SampleFormat, *, check: bool) -> CheckedRows:
    """The array of kept audio, which is made where it is not there; check: see that no file has changed since."""
    path, shape = kept_path(stretches, form), (_rows(stretches.blocks, form), BLOCK)
    heard = FilesHeard(stretches)
    decoded: list[np.ndarray] = []

    def build(temporary: Path) -> None:
        before = heard.states()  # all files are there, before hours are spent on some
        done = _build(path, temporary, shape, stretches, form)
        if before is not None and not done:
            decoded.append(before)

    array = open_or_build(path, lambda: open_soft(path, shape, dtype=DTYPES[form]), build)
    if check:
        heard.check(*decoded)
    return array


def _build(path: Path, temporary: Path, shape: tuple[int, int], stretches: Stretches, form: SampleFormat) -> list[int]:
    """Returns: the parts that were done before."""
    seconds = stretches.blocks * BLOCK / stretches.rate_hz
    size = kept_bytes(stretches.blocks, form)
    what = "audio: %.1f hours at %d Hz are decoded once, and kept as '%s' (%s, %.2f GB)"
    logger.info(what, seconds / 3600, stretches.rate_hz, path, form, size / 1e9)
    rate_hz, blocks = stretches.rate_hz, stretches.blocks
    make = partial(write_files, root=stretches.sounds.root, rate_hz=rate_hz, form=form, blocks=blocks)
    processes = processes_for(seconds, PROCESS_S)
    return build_in_parts(path, temporary, shape, DTYPES[form], _parts(stretches, form), make, processes=processes)


def _parts(stretches: Stretches, form: SampleFormat) -> list[Part]:
    """Files that are decoded together: enough of them that handing them over costs nothing."""
    parts: list[Part] = []
    some: list[FileSound] = []
    rows = 0
    files = list(stretches.files())
    for number, file in enumerate(files):
        some.append(file)
        rows += sum(end - begin for begin, end, _ in file.runs)
        if rows * BLOCK >= PART_S * stretches.rate_hz or number == len(files) - 1:
            first = some[0].runs[0][2]
            spans = [(first * BLOCK, (first + rows) * BLOCK)]
            if form == "int16":
                spans.append((stretches.blocks * BLOCK + first, stretches.blocks * BLOCK + first + rows))
            parts.append(Part(spans=tuple(spans), seconds=rows * BLOCK / stretches.rate_hz, work=tuple(some)))
            some, rows = [], 0
    return parts
