"""What `features` made of every row, kept like audio for those who say that it always makes the same.

    features-f4-<digest>.npy     (rows, values of one)

The digest is of what each row hears, at which rate and in which form, of the function's source, and of the version that
the user gives: what a function uses besides its own source, such as a table, only the user knows.
"""

import functools
import hashlib
import inspect
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from softlabels.batches.crops import Cropping
from softlabels.batches.options import Features
from softlabels.batches.rows import LabelRows
from softlabels.batches.sources.sound_source import RowAudio, enters_anywhere, read_crops
from softlabels.batches.window_audio import WindowAudio
from softlabels.digests import canonical_json
from softlabels.kept.built_once import open_or_build
from softlabels.kept.in_parts import Part, build_in_parts, processes_for
from softlabels.kept.soft_file import SoftFile, open_soft, typed_name
from softlabels.sound.samples import SampleFormat
from softlabels.sound.stretches import Stretches
from softlabels.sound.unchanged import FilesHeard

logger = logging.getLogger(__name__)
VERSION = 1
PART_ROWS, BATCH = 512, 64  # rows of a part; rows that the function is given at once
PROCESS_S = 20  # seconds of work that are worth a process of their own
NEAR = 1e-3  # of the largest value: how far the features of a window may lie apart in two batches


class KeptFeatures:
    """The features of rows from an array on disk, (rows, values of one); shape: of one."""

    def __init__(self, path: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._how = path, rows, shape, dtype
        self._shape = shape
        self._array = open_soft(path, (rows, math.prod(shape)), dtype=dtype)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(rows, ...) as the function made them. Raises: JoinError: damaged; EnvironmentTrouble."""
        return self._array[rows].reshape(len(rows), *self._shape)

    def __reduce__(self) -> tuple:
        return KeptFeatures, self._how


def keep_features(
    labels: LabelRows,
    features: Features,
    version: str,
    example: np.ndarray,
    audio: RowAudio,
    form: SampleFormat,
    cropping: Cropping | None = None,
) -> KeptFeatures:
    """What features make of each row, made now where it is not kept yet.

    Args:
      version: what the user calls this state of the function.
      example: (2, ...) what the function makes of silence.
      audio: the sound of the rows; form: what its samples are like.
      cropping: where windows lie that are longer than the teacher's; None: where its own do.
    Raises: ValueError: a function without source, whose arrays hold no numbers, or whose answer for a window is not
      always the same, or not of the window alone. And as `KeptAudio`.
    """
    shape, dtype = example.shape[1:], example.dtype.newbyteorder("<")
    if dtype.kind not in "fiub" or not math.prod(shape):
        raise ValueError(f"keep_features: expected features that are numbers, got {dtype} of shape {shape} a window")
    stretches = Stretches.of(labels.row_sounds(), audio.rate_hz)
    noted = {"version": VERSION, "given": version, "source": source_of(features), "form": form, "shape": shape}
    noted |= {"dtype": dtype.str, "rate_hz": audio.rate_hz, "stretches": stretches.digest}
    digest = hashlib.sha256(canonical_json(noted))
    for places in _places(stretches, len(labels), audio.window_samples, cropping):
        digest.update(places.astype("<i8").tobytes())
    path = stretches.sounds.folder / typed_name("features", dtype, digest.hexdigest())
    built: list[Path] = []

    def build(temporary: Path) -> None:
        seconds = len(labels) * _check_alone(features, audio, cropping, min(BATCH, len(labels)))
        make = partial(_write, features=features, audio=audio, cropping=cropping, like=example)
        what = path, temporary, (len(labels), math.prod(shape)), dtype, _parts(len(labels), math.prod(shape), audio)
        # What is streamed from its start is read on from part to part; side by side each part would begin again.
        in_order = isinstance(audio, WindowAudio) and not enters_anywhere(stretches.sounds, audio.rate_hz)
        processes = 1 if in_order else _processes(make, seconds)
        build_in_parts(*what, make, processes=processes, threads=1 if in_order else None)
        built.append(path)

    kept = open_or_build(path, lambda: KeptFeatures(path, len(labels), shape, dtype), build)
    if not built:  # who makes them has looked at the files
        FilesHeard(stretches).check()
    return kept


def _places(stretches: Stretches, rows: int, samples: int, cropping: Cropping | None) -> tuple[np.ndarray, np.ndarray]:
    """(rows,) each: which samples of which file each hears, as `Stretches.place` says it."""
    every = np.arange(rows)
    if cropping is None:
        return stretches.place(every, None, samples)
    crops = cropping.at(every)
    first, count = stretches.place(every, crops.sound_start, samples)
    return first, np.minimum(count, crops.heard)


def _sound(audio: RowAudio, rows: np.ndarray, cropping: Cropping | None) -> np.ndarray:
    return read_crops(audio, rows, None if cropping is None else cropping.at(rows))


def _parts(rows: int, width: int, audio: RowAudio) -> list[Part]:
    a_row = audio.window_samples / audio.rate_hz
    return [
        Part(spans=((first * width, end * width),), seconds=(end - first) * a_row, work=(first, end))
        for first, end in pairwise([*range(0, rows, PART_ROWS), rows])
    ]


def source_of(features: Features) -> str:
    """The text of a function, of the class of an object that is called, or of what a `partial` calls."""
    function = features
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if not (inspect.isfunction(function) or inspect.ismethod(function) or inspect.isclass(function)):
        function = type(function)
    try:
        return inspect.getsource(function) + _columns(function)
    except (OSError, TypeError) as e:
        raise ValueError(
            f"keep_features: the source of {features!r} cannot be read ({e}), so nobody could tell when it changes; "
            "define it in a file or in a cell of a notebook"
        ) from e


def _columns(function: Any) -> str:
    """Which columns a lambda takes of its lines: `getsource` gives those in full, and others may stand there."""
    if getattr(function, "__name__", "") != "<lambda>":
        return ""
    places = [column for *_, first, end in function.__code__.co_positions() for column in (first, end) if column]
    return f"{min(places, default=0)} to {max(places, default=0)}"


def _check_alone(features: Features, audio: RowAudio, cropping: Cropping | None, rows: int) -> float:
    """See that the features of a row depend on its sound alone. Returns: the seconds that a row takes.

    Raises: ValueError.
    """
    began = time.perf_counter()
    x = _sound(audio, np.arange(rows), cropping)
    first = np.array(features(x.copy()))
    seconds = (time.perf_counter() - began) / rows
    if not np.array_equal(first, np.asarray(features(x.copy())), equal_nan=first.dtype.kind == "f"):
        raise ValueError(
            "keep_features: features gave two answers for the same sound: what is random, such as an augmentation, "
            "belongs after them, in `dataset.map`"
        )
    alone = np.asarray(features(x[:1].copy()))
    near = NEAR * float(np.abs(np.nan_to_num(first)).max(initial=0))  # a sum of another length may be rounded otherwise
    if alone.shape != first[:1].shape or not np.allclose(alone, first[:1], rtol=0, atol=near, equal_nan=True):
        raise ValueError(
            "keep_features: features of a window depend on the others of its batch, which are others in every epoch"
        )
    return seconds


def _processes(make: Callable[..., None], seconds: float) -> int:
    """How many are worth it; this one alone where the function cannot be handed over."""
    count = processes_for(seconds, PROCESS_S)
    if count < 2:
        return 1
    from joblib.externals.loky.backend import reduction

    try:
        reduction.dumps(make)
    except Exception as e:  # whatever the user's objects raise
        logger.info("keep_features: made in this process, since the function cannot be handed to another (%s)", e)
        return 1
    return count


def _write(
    array: SoftFile,
    rows: tuple[int, int],
    *,
    features: Features,
    audio: RowAudio,
    cropping: Cropping | None,
    like: np.ndarray,
) -> None:
    """Make the features of some rows, batch by batch. Raises: ValueError: of another shape than for silence."""
    for first in range(rows[0], rows[1], BATCH):
        some = np.arange(first, min(first + BATCH, rows[1]))
        made = made_of(features, _sound(audio, some, cropping), like)
        array.write(first, made.reshape(len(some), -1))


def made_of(features: Features, x: np.ndarray, example: np.ndarray) -> np.ndarray:
    """(n, samples) -> (n, ...) of the example's type. Raises: ValueError: of another shape than for silence."""
    made, expected = np.asarray(features(x), example.dtype), (len(x), *example.shape[1:])
    if made.shape != expected:
        raise ValueError(f"features: expected shape {expected}, as for other batches, got {made.shape}")
    return made
