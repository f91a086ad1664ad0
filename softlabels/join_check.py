"""A look at a join before anybody trains on it: counts, agreement, alignment, leaks; what the report says."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from softlabels.canary import Agreement, alignment_canary, teacher_label_agreement
from softlabels.class_mapping import ClassMatch
from softlabels.classes import ClassList
from softlabels.errors import JoinError
from softlabels.index import StoreIndex
from softlabels.join_report import ClassReport, JoinReport
from softlabels.joined_rows import JoinedRows
from softlabels.manifest import Clip
from softlabels.planned import stretch
from softlabels.saved_join import JoinArrays

if TYPE_CHECKING:
    from softlabels.join import JoinOptions

MAX_ROWS, MAX_BYTES = 20_000, 64 << 20  # of annotated rows looked at; evenly spaced where there are more


def look_at(
    arrays: JoinArrays,
    rows: JoinedRows,
    clips: list[Clip],
    everything: list[Clip],
    index: StoreIndex,
    classes: ClassList,
    match: ClassMatch,
    options: "JoinOptions",
) -> JoinReport:
    """Report on a join.

    Args:
      clips: those of the join's split; everything: all of the manifest.
    Raises: JoinError: the teacher's labels do not belong to these rows or classes.
    """
    hard, soft = arrays.hard.says_anything()[arrays.hard_group], rows.has_soft  # (rows,) bool
    looked = _annotated_rows(arrays, soft)
    hard_values, soft_values = arrays.hard.rows(arrays.hard_group[looked], len(classes)), arrays.soft[looked]
    agreement = teacher_label_agreement(soft_values, hard_values)
    shared = _shared_audio(clips, everything, index)
    splits = _rows_of_splits(arrays)
    return JoinReport(
        clips=len(clips),
        rows=len(rows),
        rows_both=int(np.sum(hard & soft)),
        rows_hard_only=int(np.sum(hard & ~soft)),
        rows_soft_only=int(np.sum(~hard & soft)),
        rows_neither=int(np.sum(~hard & ~soft)),
        hard_only_examples=_examples(clips, rows, hard & ~soft),
        soft_only_examples=_examples(clips, rows, ~hard & soft),
        splits=splits,
        windows_quarantined=rows.quarantined,
        quarantined_examples=rows.quarantined_examples,
        windows_missing=rows.missing,
        missing_examples=rows.missing_examples,
        shared_audio=len(shared),
        shared_audio_examples=tuple(shared[:10]),
        matched=match.counts(),
        unmatched=match.unmatched,
        per_class=_per_class(arrays, classes, match, agreement),
        agreement=_finite(agreement.top1),
        agreement_rows=agreement.rows,
        canary=_canary(soft_values, hard_values, arrays.clip[looked], options),
        notes=(*match.notes, *_notes(splits, shared)),
    )


def check_identity(clips: list[Clip], table: pa.Table, store: str) -> None:
    """Hold what identifies each clip, its stretch and its audio, against what the store has under that id.

    Args:
      table: one row a clip, its file as planned.
    Raises: JoinError: a labelled clip is another one in this manifest.
    """
    planned = {name: table[name].to_numpy() for name in ("start", "end", "frames", "rate_hz", "sha256", "reason")}
    start_s = np.array([clip.start_s for clip in clips], np.float64)
    end_s = np.array([np.nan if clip.end_s is None else clip.end_s for clip in clips], np.float64)
    start, end = stretch(start_s, end_s, planned["frames"], planned["rate_hz"])
    heard = planned["reason"] == ""
    cut_anew = heard & ((start != planned["start"]) | (end != planned["end"]))
    digests = np.array([clip.sha256 for clip in clips], object)
    other_audio = heard & (digests != "") & (digests != planned["sha256"])
    for which, what in ((cut_anew, "start_s or end_s"), (other_audio, "sha256")):
        if which.any():
            listed = ", ".join(repr(clips[i].clip_id) for i in np.flatnonzero(which)[:10])
            raise JoinError(
                f"{int(which.sum())} clips have another {what} in the manifest than when store '{store}' labelled "
                f"them: {listed}; give what is new a new clip_id and `softlabels run`, or correct the manifest"
            )


def _annotated_rows(arrays: JoinArrays, has_soft: np.ndarray) -> np.ndarray:
    """Rows with a positive hard label and a soft one, evenly spaced if there are many."""
    rows = np.flatnonzero(arrays.hard.with_positives()[arrays.hard_group] & has_soft)
    most = max(1, min(MAX_ROWS, MAX_BYTES // (4 * arrays.soft.shape[1])))
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _canary(soft: np.ndarray, hard: np.ndarray, clip: np.ndarray, options: "JoinOptions") -> str:
    if not options.canary:
        return "not tested"
    canary = alignment_canary(soft, hard, groups=clip)
    if canary.verdict == "misaligned":
        raise JoinError(
            f"the teacher's labels do not fit these annotations: {canary}; rows or classes are mixed up (clip_ids, the "
            "order of the model's labels), or this teacher cannot hear these classes: look at `softlabels.open(STORE)"
            ".per_clip()`, or join with canary=False to go on"
        )
    return str(canary).removeprefix("alignment: ")


def _per_class(
    arrays: JoinArrays, classes: ClassList, match: ClassMatch, agreement: Agreement
) -> tuple[ClassReport, ...]:
    rows_of_group = np.bincount(arrays.hard_group, minlength=len(arrays.hard))
    positives = arrays.hard.positives(rows_of_group, len(classes))
    return tuple(
        ClassReport(name=name, how=how, rows=int(rows), on_present=_finite(present), on_absent=_finite(absent))
        for name, how, rows, present, absent in zip(
            classes, match.how, positives, agreement.mean_present, agreement.mean_absent, strict=True
        )
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _examples(clips: Sequence[Clip], rows: JoinedRows, which: np.ndarray) -> tuple[str, ...]:
    return tuple(f"{clips[rows.clip[i]].clip_id}, window {rows.window_index[i]}" for i in np.flatnonzero(which)[:10])


def _rows_of_splits(arrays: JoinArrays) -> dict[str, int]:
    split = arrays.clips["split"].combine_chunks().dictionary_encode()
    rows_of_clip = np.bincount(arrays.clip, minlength=len(split))
    counts = np.bincount(split.indices.to_numpy(), rows_of_clip, len(split.dictionary)) if len(split) else []
    return dict(sorted((name, int(n)) for name, n in zip(split.dictionary.to_pylist(), counts, strict=True)))


def _shared_audio(clips: list[Clip], everything: list[Clip], index: StoreIndex) -> list[str]:
    """Clips that share sound with an earlier one of another split: the same bytes of a file at the same time."""
    splits = {clip.split for clip in clips}
    if len({clip.split for clip in everything}) < 2:
        return []
    digests = dict(zip(index.clips["clip_id"].to_pylist(), index.clips["sha256"].to_pylist(), strict=True))
    groups: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in everything:  # a clip that was never labelled is known by its path only
        groups["path", clip.path].append(clip)
        if digests.get(clip.clip_id):
            groups["sha256", digests[clip.clip_id]].append(clip)
    shared: dict[str, str] = {}
    for group in groups.values():
        latest: dict[str, Clip] = {}  # split -> its clip that ends last so far; no pair is looked at twice
        for clip in sorted(group, key=lambda c: c.start_s) if len(group) > 1 else ():
            for split, other in latest.items():
                if split != clip.split and splits & {split, clip.split} and _end_s(other) > clip.start_s:
                    shared.setdefault(clip.clip_id, f"{clip.clip_id} ({clip.split!r}) and {other.clip_id} ({split!r})")
            latest[clip.split] = max(clip, latest.get(clip.split, clip), key=_end_s)
    return list(shared.values())


def _end_s(clip: Clip) -> float:
    return np.inf if clip.end_s is None else clip.end_s


def _notes(splits: dict[str, int], shared: list[str]) -> list[str]:
    notes = []
    if len(splits) > 1:
        listed = ", ".join(f"{name or '(none)'} {rows:,}" for name, rows in splits.items())
        notes.append(f"rows of several splits are joined ({listed}); split='train' keeps the others out of training")
    if shared:
        notes.append(f"{len(shared)} clips have the same audio as one of another split, such as {shared[0]}")
    return notes
