"""The hard half of a join: whose label each row has. A clip's own, laid on its windows, or annotations in time."""

import functools

import numpy as np

from softlabels.classes.matching import ClassMatch
from softlabels.corpus.annotation_tables import read_annotations
from softlabels.corpus.annotations import Annotations
from softlabels.corpus.hard_labels import HardLabels
from softlabels.corpus.label_names import LabelNames, find_labels
from softlabels.joins.clips import JoinClips
from softlabels.joins.options import JoinInputs
from softlabels.joins.rows import JoinedRows
from softlabels.kept.soft_file import CheckedRows
from softlabels.ragged import offsets_of, owners, ranges
from softlabels.store.index import StoreIndex, positions_of

PRESENT = 0.5  # of the clip's highest probability: a window that has as much is taken for one with the class in it


def read_boxes(clips: JoinClips, inputs: JoinInputs) -> Annotations | None:
    """The annotations in time, if there are to be some. Raises: ManifestError: faulty ones."""
    options = inputs.options
    if options.annotations is None:
        return None
    durations = functools.cache(lambda: _durations(clips, inputs.store.index))  # few annotations ask for them
    extents, column = options.annotated_extents, options.annotation_column
    return read_annotations(
        options.annotations,
        clips.listed,
        extents=extents,
        label_column=column,
        duration_of=lambda path: durations().get(path),
    )


def _durations(clips: JoinClips, index: StoreIndex) -> dict[str, float]:
    """path -> seconds, of the manifest's files that the store has planned."""
    stored = positions_of([clip.clip_id for clip in clips.listed], index.clips)
    frames, rate = (index.clips[name].to_numpy() for name in ("frames", "rate_hz"))
    pairs = zip(clips.listed, stored.tolist(), strict=True)
    return {clip.path: float(frames[at] / rate[at]) for clip, at in pairs if at >= 0 and rate[at]}


def name_labels(clips: JoinClips, annotated: Annotations | None, match: ClassMatch, inputs: JoinInputs) -> LabelNames:
    """Which class each label is. Raises: JoinError: one that is none, or is one by half its name only."""
    made_of = match.classes_made_of()
    return find_labels(
        clips.chosen,
        inputs.classes,
        inputs.manifest,
        further=annotated.labels if annotated else frozenset(),
        teacher=inputs.store.classes,
        class_of=lambda teacher_class: made_of.get(teacher_class),
        other_labels=inputs.options.other_labels,
    )


def hard_half(
    clips: JoinClips,
    rows: JoinedRows,
    soft: CheckedRows,
    inputs: JoinInputs,
    *,
    names: LabelNames,
    annotated: Annotations | None,
) -> tuple[HardLabels, np.ndarray, np.ndarray]:
    """The labels of people, each different one once; (rows,) int32 which of them each row has; and who was careful.

    soft: (rows, classes), which says where in a clip a weak label holds. annotated: boxes of the names alone that are
    classes.
    The third is (chosen clips,) bool: annotated in time.
    Raises: ManifestError: a box after the end of its clip. JoinError: a clip is given one class twice.
    """
    window = inputs.store.spec.window
    hard = HardLabels.of_clips(names.read(clips.chosen), names.positions)
    group = rows.clip_row
    if inputs.options.weak_labels == "best":
        alone = clips.windows <= 1  # a clip of several windows stays one if some of them have no row
        hard, group = best_window_labels(rows.clip_row, hard, soft, alone), np.arange(len(rows))
    if annotated is None:
        distinct, which = hard.without_doubles()
        return distinct, which[group], np.zeros(len(clips.chosen), bool)
    # All windows of a clip are laid out, with or without a row, so that a box of a quarantined one stays with it.
    has_rows = np.isin(np.arange(len(clips.chosen)), rows.clip_row)
    here = np.flatnonzero(np.isin(clips.listed_clip, annotated.listed_clips) & has_rows)  # (n,) clip rows
    windows = np.maximum(clips.windows[here], 1)
    first_row = np.searchsorted(rows.clip_row, here.astype(rows.clip_row.dtype))
    origin = rows.start[first_row] - rows.window_index[first_row].astype(np.int64) * window.hop_samples
    within = ranges(np.zeros_like(windows), windows)  # (laid out,) which window of its clip
    start = origin[owners(windows)] + within * window.hop_samples
    rate = clips.table["rate_hz"].to_numpy()
    clip_ends = np.full(len(clips.listed), np.inf)  # (listed,) seconds in the file; infinity where nobody knows
    clip_ends[clips.listed_clip] = np.where(rate > 0, clips.table["end"].to_numpy() / np.maximum(rate, 1), np.inf)
    labels = annotated.label_windows(
        np.repeat(clips.listed_clip[here], windows),
        start / window.rate_hz,
        window_s=window.window_s,
        positions=names.positions,
        clip_ends=clip_ends,
    )
    in_time = np.flatnonzero(np.isin(rows.clip_row, here))
    laid_out = offsets_of(windows)[np.searchsorted(here, rows.clip_row[in_time])] + rows.window_index[in_time]
    group = group.astype(np.int64)
    group[in_time] = len(hard) + laid_out
    distinct, which = hard.followed_by(labels).without_doubles()
    return distinct, which[group], np.isin(np.arange(len(clips.chosen)), here)


def best_window_labels(clip_row: np.ndarray, spread: HardLabels, soft: CheckedRows, alone: np.ndarray) -> HardLabels:
    """Clip labels laid on the windows that the teacher scores highest for the class; NaN for that class elsewhere.

    A window has a class at half the clip's highest probability of it or more. A clip of one window keeps its label;
    of several, a class that the teacher lacks, or never gives anything, is unknown in all of them.

    Args:
      clip_row: (rows,) ascending, the group of `spread` that each row has. alone: (clips,) bool, clips of one window.
    Returns: one group a row.
    """
    counts = np.diff(spread.offsets)[clip_row]  # entries of each row
    row, entry = owners(counts), ranges(spread.offsets[clip_row], counts)
    index, value = spread.index[entry], spread.value[entry].copy()
    scored = np.nan_to_num(soft[row, index])  # (entries,)
    highest = np.zeros(len(spread.index), np.float32)
    np.maximum.at(highest, entry, scored)
    there = alone[clip_row[row]] | ((scored > 0) & (scored >= PRESENT * highest[entry]))
    value[~there] = np.nan
    return HardLabels(base=spread.base[clip_row], offsets=offsets_of(counts), index=index, value=value)
