"""A look at a join before anybody trains on it: counts, agreement, alignment, leaks; what the report says."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softlabels.annotated import annotated_clips
from softlabels.canary import Agreement, alignment_canary, teacher_label_agreement
from softlabels.class_mapping import ClassMatch
from softlabels.classes import ClassList
from softlabels.errors import JoinError
from softlabels.index import positions_of
from softlabels.join_report import ClassReport, JoinReport
from softlabels.joined_rows import JoinedRows
from softlabels.manifest import Clip
from softlabels.planned import stretch
from softlabels.saved_join import JoinArrays
from softlabels.spec import Activation
from softlabels.trust import harm_notes

if TYPE_CHECKING:
    from softlabels.store_join import JoinOptions

MAX_ROWS, MAX_BYTES = 20_000, 64 << 20  # of annotated rows looked at; evenly spaced where there are more
MAX_VALUES = 1 << 22  # of annotated clips whose maxima are looked at


def look_at(
    arrays: JoinArrays,
    rows: JoinedRows,
    clips: list[Clip],
    everything: list[Clip],
    planned: pa.Table,
    classes: ClassList,
    match: ClassMatch,
    activation: Activation,
    options: "JoinOptions",
) -> JoinReport:
    """Report on a join.

    Args:
      clips: those of the join's split; everything: all of the manifest; planned: the store's, as in `StoreIndex.clips`.
    Raises: JoinError: the teacher's labels do not belong to these rows or classes.
    """
    annotated = annotated_clips(arrays, _reader(arrays), classes, activation, max_values=MAX_VALUES)
    shared = _shared_audio(clips, everything, planned)
    splits = _rows_of_splits(arrays)
    return JoinReport(
        **figures(arrays, rows.has_soft, classes, match.how),
        clips=len(clips),
        splits=splits,
        windows_quarantined=rows.quarantined,
        quarantined_examples=rows.quarantined_examples,
        windows_missing=rows.missing,
        missing_examples=rows.missing_examples,
        shared_audio=len(shared),
        shared_audio_examples=tuple(shared[:10]),
        canary=_canary(arrays, rows.has_soft, options),
        notes=(*match.notes, *_notes(splits, shared), *harm_notes(annotated, splits)),
    )


def figures(arrays: JoinArrays, has_soft: np.ndarray, classes: ClassList, how: Sequence[str]) -> dict[str, Any]:
    """The fields of a report that hang on what the teacher said.

    Args:
      has_soft: (rows,) bool. how: one per class, as in `ClassReport`.
    """
    hard, soft = arrays.hard.says_anything()[arrays.hard_group], has_soft  # (rows,) bool
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


def _reader(arrays: JoinArrays) -> Callable[[np.ndarray], np.ndarray]:
    """rows -> (n, 2 * classes) `[hard | soft]`."""
    return lambda rows: np.concatenate(
        [arrays.hard.rows(arrays.hard_group[rows], arrays.soft.shape[1]), arrays.soft[rows]], axis=1
    )


def _annotated_halves(arrays: JoinArrays, has_soft: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) rows with a positive hard label and a soft one, evenly spaced if there are many; and both halves of them."""
    rows = np.flatnonzero(arrays.hard.with_positives()[arrays.hard_group] & has_soft)
    most = max(1, min(MAX_ROWS, MAX_BYTES // (4 * arrays.soft.shape[1])))
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return rows, arrays.soft[rows], arrays.hard.rows(arrays.hard_group[rows], arrays.soft.shape[1])


def _canary(arrays: JoinArrays, has_soft: np.ndarray, options: "JoinOptions") -> str:
    if not options.canary:
        return "not tested"
    rows, soft, hard = _annotated_halves(arrays, has_soft)
    canary = alignment_canary(soft, hard, groups=arrays.clip[rows])
    if canary.verdict == "misaligned":
        raise JoinError(
            f"the teacher's labels do not fit these annotations: {canary}; rows or classes are mixed up (clip_ids, the "
            "order of the model's labels), or this teacher cannot hear these classes: look at `softlabels.open(STORE)"
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
    return tuple(f"{names[int(arrays.clip[i])]}, window {arrays.window_index[i]}" for i in np.flatnonzero(which)[:10])


def _rows_of_splits(arrays: JoinArrays) -> dict[str, int]:
    split = arrays.clips["split"].combine_chunks().dictionary_encode()
    rows_of_clip = np.bincount(arrays.clip, minlength=len(split))
    counts = np.bincount(split.indices.to_numpy(), rows_of_clip, len(split.dictionary)) if len(split) else []
    return dict(sorted((name, int(n)) for name, n in zip(split.dictionary.to_pylist(), counts, strict=True)))


def _shared_audio(clips: list[Clip], everything: list[Clip], planned: pa.Table) -> list[str]:
    """Clips that share sound with an earlier one of another split: the same bytes of a file at the same time."""
    split = _codes(pa.array([clip.split or "-" for clip in everything]))
    if not split.any():  # all of one split
        return []
    position = positions_of([clip.clip_id for clip in everything], planned)
    digest = planned["sha256"].combine_chunks().take(pa.array(position, pa.int64(), mask=position < 0))
    here = {clip.split for clip in clips}
    shared: dict[str, str] = {}
    for audio in (pa.array([clip.path for clip in everything]), digest):  # the never labelled have no digest
        for group in _in_several_splits(_codes(audio), split):
            latest: dict[str, Clip] = {}  # split -> its clip that ends last so far; no pair is looked at twice
            for clip in sorted((everything[i] for i in group), key=lambda c: c.start_s):
                for name, other in latest.items():
                    if name != clip.split and here & {name, clip.split} and _end_s(other) > clip.start_s:
                        what = f"{clip.clip_id} ({clip.split!r}) and {other.clip_id} ({name!r})"
                        shared.setdefault(clip.clip_id, what)
                latest[clip.split] = max(clip, latest.get(clip.split, clip), key=_end_s)
    return list(shared.values())


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
    several = several[np.argsort(audio[several], kind="stable")]
    yield from np.split(several, np.flatnonzero(np.diff(audio[several])) + 1) if len(several) else ()


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
