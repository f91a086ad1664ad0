"""A look at a join before anybody trains on it: counts, agreement, alignment, leaks; what the report says."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.calibration.agreement import Agreement, teacher_label_agreement
from softlabels.calibration.canary import alignment_canary
from softlabels.calibration.trust import harm_notes
from softlabels.classes.class_list import ClassList
from softlabels.classes.matching import ClassMatch
from softlabels.corpus.manifest import Clip
from softlabels.errors import JoinError
from softlabels.joins.clips import JoinClips
from softlabels.joins.options import JoinInputs
from softlabels.joins.rows import JoinedRows
from softlabels.labels.arrays import JoinArrays, annotated_clips
from softlabels.labels.report import ClassReport, JoinReport
from softlabels.ragged import places_by_value
from softlabels.store.index import positions_of

MAX_ROWS, MAX_BYTES = 20_000, 64 << 20  # of annotated rows looked at; evenly spaced where there are more
MAX_VALUES = 1 << 22  # of annotated clips whose maxima are looked at


def check_join(
    arrays: JoinArrays, clips: JoinClips, rows: JoinedRows, match: ClassMatch, inputs: JoinInputs
) -> JoinReport:
    """Report on a join. Raises: JoinError: the teacher's labels do not belong to these rows or classes."""
    activation = inputs.store.activation
    annotated = annotated_clips(arrays, arrays.y_true, inputs.classes, activation, max_values=MAX_VALUES)
    shared = _shared_audio(clips, inputs.store.index.clips)
    splits = _rows_of_splits(arrays)
    return JoinReport(
        **figures(arrays, rows.has_soft, inputs.classes, match.how),
        clips=len(clips.chosen),
        splits=splits,
        windows_quarantined=rows.quarantined,
        quarantined_examples=rows.quarantined_examples,
        windows_missing=rows.missing,
        missing_examples=rows.missing_examples,
        shared_audio=len(shared),
        shared_audio_examples=tuple(shared[:10]),
        canary=_canary(arrays, rows.has_soft) if inputs.options.canary else "not tested",
        notes=(*match.notes, *_notes(splits, shared), *harm_notes(annotated, splits)),
    )


def figures(arrays: JoinArrays, has_soft: np.ndarray, classes: ClassList, how: Sequence[str]) -> dict[str, Any]:
    """The fields of a report that hang on what the teacher said.

    Args:
      has_soft: (rows,) bool. how: one per class, as in `ClassReport`.
    """
    hard, soft = arrays.annotated(), has_soft  # (rows,) bool
    agreement = teacher_label_agreement(*_annotated_halves(arrays, has_soft)[1:])
    return {
        "rows": len(soft),
        "rows_both": int(np.sum(hard & soft)),
        "rows_hard_only": int(np.sum(hard & ~soft)),
        "rows_soft_only": int(np.sum(~hard & soft)),
        "rows_neither": int(np.sum(~hard & ~soft)),
        "hard_only_examples": _examples(arrays, hard & ~soft),
        "soft_only_examples": _examples(arrays, ~hard & soft),
        "matched": dict(Counter(found for found in how if found)),
        "unmatched": tuple(name for name, found in zip(classes, how, strict=True) if not found),
        "per_class": _per_class(arrays, classes, how, agreement),
        "agreement": _finite(agreement.top1),
        "agreement_rows": agreement.rows,
    }


def _annotated_halves(arrays: JoinArrays, has_soft: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) rows with a positive hard label and a soft one, evenly spaced if there are many; and both halves of them."""
    rows = np.flatnonzero(arrays.hard.with_positives()[arrays.hard_group] & has_soft)
    most = max(1, min(MAX_ROWS, MAX_BYTES // (4 * arrays.soft.shape[1])))
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return rows, arrays.soft[rows], arrays.hard.rows(arrays.hard_group[rows], arrays.soft.shape[1])


def _canary(arrays: JoinArrays, has_soft: np.ndarray) -> str:
    rows, soft, hard = _annotated_halves(arrays, has_soft)
    canary = alignment_canary(soft, hard, groups=arrays.clip_row[rows])
    if canary.verdict == "misaligned":
        raise JoinError(
            f"the teacher's labels do not fit these annotations: {canary}; rows or classes are mixed up (clip_ids, the "
            "order of the model's labels), or this teacher cannot tell these classes: look at `softlabels.open(STORE)"
            ".per_clip()`, or join with canary=False to go on"
        )
    return str(canary).removeprefix("alignment: ")


def _per_class(
    arrays: JoinArrays, classes: ClassList, how: Sequence[str], agreement: Agreement
) -> tuple[ClassReport, ...]:
    rows_of_group = np.bincount(arrays.hard_group, minlength=len(arrays.hard))
    positives = arrays.hard.positives(rows_of_group, len(classes))
    return tuple(
        ClassReport(name=name, how=found, rows=int(rows), on_present=_finite(present), on_absent=_finite(absent))
        for name, found, rows, present, absent in zip(
            classes, how, positives, agreement.mean_present, agreement.mean_absent, strict=True
        )
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _examples(arrays: JoinArrays, which: np.ndarray) -> tuple[str, ...]:
    names = arrays.clips["clip_id"]
    return tuple(
        f"{names[int(arrays.clip_row[i])]}, window {arrays.window_index[i]}" for i in np.flatnonzero(which)[:10]
    )


def _rows_of_splits(arrays: JoinArrays) -> dict[str, int]:
    split = arrays.clips["split"].combine_chunks().dictionary_encode()
    rows_of_clip = np.bincount(arrays.clip_row, minlength=len(split))
    counts = np.bincount(split.indices.to_numpy(), rows_of_clip, len(split.dictionary)) if len(split) else []
    return dict(sorted((name, int(n)) for name, n in zip(split.dictionary.to_pylist(), counts, strict=True)))


def _shared_audio(clips: JoinClips, planned: pa.Table) -> list[str]:
    """Clips that share sound with an earlier one of another split: the same bytes of a file at the same time."""
    listed = clips.listed
    split = _codes(pa.array([clip.split or "-" for clip in listed]))
    if not split.any():  # all of one split
        return []
    stored_clip = positions_of([clip.clip_id for clip in listed], planned)
    digest = planned["sha256"].combine_chunks().take(pa.array(stored_clip, pa.int64(), mask=stored_clip < 0))
    here = {clip.split for clip in clips.chosen}
    shared: dict[str, str] = {}
    for audio in (pa.array([clip.path for clip in listed]), digest):  # the never labelled have no digest
        for group in _in_several_splits(_codes(audio), split):
            for clip, other in _overlapping([listed[i] for i in group.tolist()], here):
                what = f"{clip.clip_id} ({clip.split!r}) and {other.clip_id} ({other.split!r})"
                shared.setdefault(clip.clip_id, what)
    return list(shared.values())


def _overlapping(clips: list[Clip], splits: set[str]) -> Iterator[tuple[Clip, Clip]]:
    """Clips of one piece of audio, and an earlier one of another split that reaches into each; no pair is tried twice.

    splits: of a pair, one at least is of these.
    """
    latest: dict[str, Clip] = {}  # split -> its clip that ends last so far
    for clip in sorted(clips, key=lambda each: each.start_s):
        for name, other in latest.items():
            if name != clip.split and splits & {name, clip.split} and _end_s(other) > clip.start_s:
                yield clip, other
        latest[clip.split] = max(clip, latest.get(clip.split, clip), key=_end_s)


def _codes(texts: pa.Array) -> np.ndarray:
    """(n,) texts -> (n,) int64, equal where they are; -1 for none."""
    encoded = pc.if_else(pc.equal(texts, ""), None, texts).dictionary_encode()
    return encoded.indices.fill_null(-1).to_numpy().astype(np.int64)


def _in_several_splits(audio: np.ndarray, split: np.ndarray) -> Iterator[np.ndarray]:
    """The clips (positions) of each piece of audio that stands in more than one split; (clips,) codes each."""
    known = np.flatnonzero(audio >= 0)
    lowest = np.full(len(audio), np.iinfo(np.int64).max)
    highest = np.full(len(audio), -1)
    np.minimum.at(lowest, audio[known], split[known])
    np.maximum.at(highest, audio[known], split[known])
    several = known[(lowest < highest)[audio[known]]]
    yield from (several[places] for places in places_by_value(audio[several])[1])


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
