"""Labels for any crop: which windows of its clip a crop is made of, and with what weights.

Time is counted in whole samples at the teacher's rate, so a crop that starts where a window starts is that window.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from softlabels.batches.rows import CropRule, Runs
from softlabels.evidence.agreement import row_blocks
from softlabels.labels.arrays import JoinArrays
from softlabels.windows import WindowSpec, rescale_samples

BLOCK = 1 << 16  # labels worked on at once


@dataclass(frozen=True, slots=True, kw_only=True)
class CropRows:
    """What n crops are made of: row: (n, k) int64, -1 where the join has no such row; weight: (n, k) float64.

    Rows of weight 0 play no part. covered: (n,) bool, whether the crop lies within its clip's windows.
    """

    row: np.ndarray
    weight: np.ndarray
    covered: np.ndarray


def crop_rows(
    arrays: JoinArrays, clip_row: np.ndarray, start_s: Any, duration_s: Any, window: WindowSpec, how: CropRule
) -> CropRows:
    """Find the windows of crops; arguments as in `JoinedLabels.soft_at`, clip_row: (n,)."""
    if how not in get_args(CropRule):
        raise ValueError(f"how: expected one of {', '.join(map(repr, get_args(CropRule)))}, got {how!r}")
    duration_s = window.window_s if duration_s is None else duration_s
    start = _samples("start_s", start_s, len(clip_row), window.rate_hz)
    length = _samples("duration_s", duration_s, len(clip_row), window.rate_hz)
    if (length < 1).any():
        raise ValueError(f"duration_s: expected crops of a sample or more, got {duration_s!r}")
    if how != "overlap" and (length != window.window_samples).any():
        raise ValueError(
            f"duration_s: expected crops of {window.window_s:g} s, the teacher's window, got "
            f"{length.min() / window.rate_hz:g} to {length.max() / window.rate_hz:g} s; how='overlap' takes any length"
        )
    return rows_of_crops(arrays, clip_row, start, length, window, how)


def rows_of_crops(
    arrays: JoinArrays, clip_row: np.ndarray, start: np.ndarray, length: np.ndarray, window: WindowSpec, how: CropRule
) -> CropRows:
    """`crop_rows` in samples at the teacher's rate, (n,) int64 each, of lengths that fit the rule."""
    first, end = arrays.rows_of(clip_row)
    windows = arrays.window_index[np.maximum(end - 1, 0)].astype(np.int64) + 1  # (n,) up to the last row
    offset = start - arrays.clip_starts(clip_row, window)  # (n,) samples from the clip's first window
    reach = (windows - 1) * window.hop_samples  # where its last window starts
    if how == "overlap":
        index, weight = _overlaps(offset, length, windows, window)
        covered = (offset >= 0) & (offset + length <= reach + window.window_samples)
    else:
        index, weight = _neighbours(offset, window, nearest=how == "nearest")
        covered = (offset >= 0) & (offset <= reach)
    row = _find(arrays, first[:, None], end[:, None], index)
    return CropRows(row=row, weight=weight, covered=covered & (end > first))


def rows_alone(crops: CropRows) -> CropRows:
    """The same without windows that have no row: the others make up for them."""
    lacks = (crops.row < 0) & (crops.weight > 0)
    if not lacks.any():
        return crops
    weight = np.where(lacks, 0, crops.weight)
    return replace(crops, weight=weight / np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny))


def weighted_labels(crops: CropRows, y_true: Callable[[np.ndarray, np.ndarray], np.ndarray], width: int) -> np.ndarray:
    """Packed labels of crops, (n, width): soft halves averaged by weight, hard halves kept where the windows agree.

    y_true: writes those of (n,) rows to an (n, width) float32 array.
    """
    labels = np.zeros((len(crops.row), width), np.float32)
    values = np.empty((min(len(labels), max(1, BLOCK // width)), width), np.float32)
    for block in row_blocks(len(labels), width, BLOCK):  # small ones stay in the processor's cache
        _add_labels(crops.row[block], crops.weight[block], y_true, labels[block], values)
    taken = crops.weight > 0
    labels[~crops.covered | (taken & (crops.row < 0)).any(axis=1)] = np.nan  # a window in it has no label
    return labels


def _add_labels(row: np.ndarray, weight: np.ndarray, y_true: Callable, labels: np.ndarray, values: np.ndarray) -> None:
    """Add some crops' labels to (n, width) zeros; values: at least as many rows to work in."""
    half, begun = labels.shape[1] // 2, np.zeros(len(labels), bool)
    for rows, share in zip(row.T, weight.T, strict=True):
        some = np.flatnonzero(share > 0)  # (m,) the crops that this window takes part in
        if not len(some):
            continue
        found = values[: len(some)]
        y_true(np.maximum(rows[some], 0), found)
        hard, soft = found[:, :half], found[:, half:]
        labels[some, :half] = np.where(begun[some, None], _agreed(labels[some, :half], hard), hard)
        labels[some, half:] += np.multiply(share[some, None], soft, out=soft, casting="same_kind")
        begun[some] = True


def _agreed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n, classes) the hard labels of both; NaN where they differ."""
    if np.array_equal(one.view(np.int32), other.view(np.int32)):  # as most neighbours are; NaN equals NaN here
        return one
    return np.where((one == other) | (one != one) & (other != other), one, np.float32(np.nan))


def _samples(name: str, seconds: Any, n: int, rate_hz: int) -> np.ndarray:
    values = np.asarray(seconds, np.float64)
    if values.shape not in ((), (n,)) or not np.isfinite(values).all():
        raise ValueError(f"{name}: expected {n} finite numbers of seconds, got shape {values.shape}: {values!r}")
    return np.broadcast_to(np.rint(values * rate_hz).astype(np.int64), (n,))


def _neighbours(offset: np.ndarray, window: WindowSpec, *, nearest: bool) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) windows before and after each crop, and their weights."""
    before = offset // window.hop_samples
    share = (offset - before * window.hop_samples) / window.hop_samples  # of the window after
    if nearest:
        share = (share > 0.5).astype(np.float64)
    return np.stack([before, before + 1], axis=1), np.stack([1 - share, share], axis=1)


def _overlaps(
    offset: np.ndarray, length: np.ndarray, windows: np.ndarray, window: WindowSpec
) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) windows that share samples with each crop, weighted by how many."""
    lowest = np.maximum(-((window.window_samples - 1 - offset) // window.hop_samples), 0)  # ends after the start
    most = (int(length.max(initial=0)) + window.window_samples) // window.hop_samples + 2
    index = lowest[:, None] + np.arange(min(most, int(windows.max(initial=0))))
    starts, begins, ends = index * window.hop_samples, offset[:, None], (offset + length)[:, None]
    shared = np.minimum(starts + window.window_samples, ends) - np.maximum(starts, begins)
    there = index < windows[:, None]  # the grid ends with the first window that reaches the clip's end
    shared = np.where(there, np.maximum(shared, 0), 0).astype(np.float64)
    return index, shared / np.maximum(shared.sum(axis=1, keepdims=True), 1)


def _find(arrays: JoinArrays, first: np.ndarray, end: np.ndarray, index: np.ndarray) -> np.ndarray:
    """(n, k) rows of the windows `index` of clips whose rows are first to end - 1; -1 where there is none."""
    low, high = np.broadcast_to(first, index.shape), np.broadcast_to(end, index.shape)
    last = max(len(arrays) - 1, 0)
    while (high - low > 1).any():  # the last row whose window is not after the one looked for
        middle = (low + high) // 2
        reached = arrays.window_index[np.minimum(middle, last)] <= index
        low, high = np.where(reached, middle, low), np.where(reached, high, middle)
    found = (low < end) & (arrays.window_index[np.minimum(low, last)] == index)
    return np.where(found, low, -1)


def runs_of(arrays: JoinArrays, window: WindowSpec) -> Runs:
    """Where the windows of a join follow each other without a gap."""
    clip, index = arrays.clip_row, arrays.window_index
    row = np.flatnonzero((np.diff(clip, prepend=-1) != 0) | (np.diff(index, prepend=-2) != 1))
    of = clip[row].astype(np.int64)
    clips = arrays.clips.select(["end", "rate_hz"]).take(of)
    rate_hz = clips["rate_hz"].to_numpy()  # 0 where the file was never read: its end is not known
    clip_end = rescale_samples(clips["end"].to_numpy(), from_hz=np.maximum(rate_hz, 1), to_hz=window.rate_hz)
    after = np.append(row, len(arrays))
    origin = arrays.clip_starts(of, window)
    scored_end = origin + index[after[1:] - 1].astype(np.int64) * window.hop_samples + window.window_samples
    return Runs(
        row=after,
        start=origin + index[row].astype(np.int64) * window.hop_samples,
        end=np.where(rate_hz > 0, np.minimum(scored_end, clip_end), scored_end),
        cut=scored_end < clip_end,
    )
