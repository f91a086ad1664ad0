"""What a student hears where it is not the teacher's window: longer windows, and random crops.

Crops are cut from runs, stretches of a clip whose windows all have rows: what has no row is never heard. A crop starts
at a whole sample of the teacher's rate, so that label and sound are of the same time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from softlabels.batches.options import BatchOptions
from softlabels.batches.rows import CropRule, LabelRows
from softlabels.windows import rescale_samples, seconds_to_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedCrops:
    """Where n crops are.

    start, length: (n,) int64 samples of the file at the teacher's rate, up to the end of the run; what labels are for.
    sound_start: (n,) int64 sample of the file at the student's rate; heard: (n,) int64, how many of the student's
    samples the run has from there on. how: what makes a label of several windows: "linear" for crops as long as the
    teacher's window, "overlap" for others.
    """

    start: np.ndarray
    length: np.ndarray
    sound_start: np.ndarray
    heard: np.ndarray
    how: CropRule

    def silenced(self, sound: np.ndarray) -> np.ndarray:
        """(n, samples) float32, zeros after the end of its run, as there are after that of a clip."""
        after = np.arange(sound.shape[1]) >= self.heard[:, None]  # (n, samples)
        return np.where(after, np.float32(0), sound) if after.any() else sound


class Cropping:
    """Finds the crops of rows. length: of the student's window, in samples at the teacher's rate."""

    def __init__(self, labels: LabelRows, length: int, rate_hz: int) -> None:
        self._labels, self._length, self._rate_hz = labels, length, rate_hz
        self._runs, self._window = labels.runs(), labels.window

    def __reduce__(self) -> tuple:
        return Cropping, (self._labels, self._length, self._rate_hz)  # runs are found again where the labels are opened

    @property
    def longest_run(self) -> int:
        """In samples at the teacher's rate."""
        return int((self._runs.end - self._runs.start).max())

    def at(self, rows: np.ndarray) -> PlacedCrops:
        """Those that begin where the windows of their rows do."""
        run = self._run_of(rows)
        return self._crops(run, self._window_starts(rows, run))

    def around(self, rows: np.ndarray, uniform: np.ndarray) -> PlacedCrops:
        """Those that begin nearer to the window of their row than to any other, and lie within their run.

        uniform: (n,) float64 in [0, 1): which of the samples where they may begin.
        """
        run, hop = self._run_of(rows), self._window.hop_samples
        first, own = self._runs.start[run], self._window_starts(rows, run)
        last = np.maximum(first, self._runs.end[run] - self._length)  # in a run that is shorter only its first sample
        grid = first + np.maximum(last - first - 1, 0) // hop * hop  # the last window that begins before `last`
        before, after = np.where(own > last, grid, own - hop), np.minimum(own + hop, last)
        own = np.minimum(own, last)
        low = np.where(rows == self._runs.row[run], first, (before + own + 1) // 2)
        high = np.where(rows + 1 == self._runs.row[run + 1], last + 1, (own + after + 1) // 2)
        return self._crops(run, low + (uniform * np.maximum(high - low, 1)).astype(np.int64))

    def _run_of(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._runs.row, rows, side="right") - 1

    def _window_starts(self, rows: np.ndarray, run: np.ndarray) -> np.ndarray:
        return self._runs.start[run] + (rows - self._runs.row[run]) * self._window.hop_samples

    def _crops(self, run: np.ndarray, start: np.ndarray) -> PlacedCrops:
        end, sound_start = self._runs.end[run], self._at_student_rate(start)
        as_teacher = self._length == self._window.window_samples  # then padded where the teacher's window was
        return PlacedCrops(
            start=start,
            length=np.full(len(start), self._length) if as_teacher else np.clip(end - start, 1, self._length),
            sound_start=sound_start,
            heard=np.where(self._runs.cut[run], self._at_student_rate(end) - sound_start, np.iinfo(np.int64).max),
            how="linear" if as_teacher else "overlap",
        )

    def _at_student_rate(self, samples: Any) -> Any:
        return rescale_samples(samples, from_hz=self._window.rate_hz, to_hz=self._rate_hz)


def student_window(labels: LabelRows, options: BatchOptions) -> tuple[int, int | None]:
    """How long the student's window is: samples at the teacher's rate; and at its own, None where it is the teacher's.

    Raises: ValueError: shorter than a sample.
    """
    grid, rate_hz = labels.window, options.rate_hz or labels.window.rate_hz
    if options.window_s is None or seconds_to_samples(options.window_s, grid.rate_hz) == grid.window_samples:
        return grid.window_samples, None
    lengths = seconds_to_samples(options.window_s, grid.rate_hz), seconds_to_samples(options.window_s, rate_hz)
    if min(lengths) < 1:
        sample_s = 1 / min(rate_hz, grid.rate_hz)
        raise ValueError(f"window_s: expected a sample of {sample_s:g} s or more, got {options.window_s:g} s")
    return lengths


def cropping(labels: LabelRows, options: BatchOptions) -> Cropping | None:
    """What finds the crops; None where rows keep their labels: the teacher's windows, or the first part of each.

    Raises: ValueError: the student's window is longer than any clip, or the windows of clips were pooled.
    """
    length, _ = student_window(labels, options)
    grid = labels.window
    if options.crops is None and length <= grid.window_samples:
        return None
    if labels.windows != "each":
        name = "crops" if options.crops else "window_s"
        raise ValueError(
            f"{name}: expected labels of windows, to make one of several, got windows={labels.windows!r}; join with "
            "windows='each'"
        )
    found = Cropping(labels, length, options.rate_hz or grid.rate_hz)
    if length > max(found.longest_run, grid.window_samples):
        raise ValueError(
            f"window_s: expected at most {found.longest_run / grid.rate_hz:g} s, the longest stretch that the teacher "
            f"scored, got {options.window_s:g} s"
        )
    return found
