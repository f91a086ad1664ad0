"""join() of several stores: teachers averaged at the join, each after its own calibration on the annotated clips.

Rows, hard labels and window grid are the first store's. A row meets the window of another store whose centre is
nearest in the same clip, if they share at least half of the shorter one; pooled rows meet by clip.

What is averaged is the probability: sum(weight * p) / sum(weight) over the teachers that say something of the row and
the class. A class that some teachers lack is the mean of the others; only what nobody spoke of is NaN.

Not the log-odds, in which one teacher that is wrong and sure of it decides alone. The mean is less sure than it might
be; `.calibrate()` of the joined labels puts that right.
"""

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from softlabels.ahead import in_threads
from softlabels.calibration_map import Method, parameter_names
from softlabels.class_mapping import MIN_COVERAGE
from softlabels.classes import ClassList, as_class_list
from softlabels.errors import ClassListError, JoinError
from softlabels.join_check import figures
from softlabels.join_report import JoinReport
from softlabels.joined import JoinedLabels
from softlabels.kept import cache_folder, open_or_build
from softlabels.meeting import meet, places
from softlabels.saved_join import JoinArrays, open_join, write_join
from softlabels.soft_array import open_soft, write_soft
from softlabels.spec import canonical_json
from softlabels.store import SoftLabelStore
from softlabels.store_join import JoinOptions
from softlabels.store_join import join as join_store

ENSEMBLE_VERSION = 1
BLOCK = 1 << 20  # values averaged at once
logger = logging.getLogger(__name__)


def join(
    stores: Sequence[SoftLabelStore],
    manifest: str | Path,
    *,
    weights: Sequence[float] | None = None,
    calibrate: Method = "platt",
    classes: ClassList | Sequence[str] | str | Path | None = None,
    split: str | None = None,
    missing: Literal["error", "drop", "hard"] = "error",
    windows: Literal["each", "max", "mean"] = "each",
    mapping: Sequence[str | Path | None] | None = None,
    min_coverage: float = MIN_COVERAGE,
    annotations: str | Path | Sequence[str | Path] | None = None,
    annotated_extents: str | Path | None = None,
    annotation_column: str | None = None,
    weak_labels: Literal["spread", "best"] = "spread",
    canary: bool = True,
    root: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> JoinedLabels:
    """Join a manifest's hard labels with the mean of what several teachers said, on the first one's windows.

    Args:
      stores: two or more, of one activation. Rows are those of the first, of which `missing` speaks.
      weights: one a store, 0 or more; None is equal ones. Where not all of them speak, the others' share grows.
      calibrate: how each is calibrated by itself before, as in `JoinedLabels.calibrate`; "none" leaves them as they
        are. `store.join(...).calibrate().calibration` is the report of one of them in full.
      classes: the student's class list; None is the first store's.
      mapping: one mapping file a store, or None for it.
      min_coverage: share of the student's classes that every teacher must have.
      split ... cache_dir: as in `SoftLabelStore.join`.
    Returns: labels that are kept beside the first store's other joins; `report.notes` has a line on each teacher.
    Raises: ValueError: arguments that do not fit together; JoinError: stores that do not, or no window in common; and
      what `SoftLabelStore.join` raises.
    """
    shares = _shares(stores, weights)
    _check_activation(stores, calibrate)
    student = stores[0].classes if classes is None else as_class_list(classes)
    options = JoinOptions(
        split=split,
        missing=missing,
        windows=windows,
        min_coverage=min_coverage,
        annotations=annotations,
        annotated_extents=annotated_extents,
        annotation_column=annotation_column,
        weak_labels=weak_labels,
        canary=canary,
    )
    choices = [
        dataclasses.replace(options, mapping=file, missing="drop" if i else missing)  # what is no row says nothing
        for i, file in enumerate(_mappings(mapping, len(stores)))
    ]
    joined = [
        _join_alone(store, manifest, student, each, root, cache_dir)
        for store, each in zip(stores, choices, strict=True)
    ]
    return _mean_of(stores, joined, shares, calibrate, cache_folder(stores[0], cache_dir))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Teacher:
    """One voice: its name, its labels as they are averaged, its weight, and (rows,) which of its rows meets each row.

    met is -1 where it has none.
    """

    name: str
    labels: JoinedLabels
    weight: float
    met: np.ndarray

    def note(self) -> str:
        """What a person should know of it."""
        reached = np.count_nonzero(self.met >= 0)
        lacks = self.labels.report.unmatched
        parts = [
            f"{self.name}: weight {self.weight:.3g}, speaks of {reached:,} of {len(self.met):,} rows",
            f"lacks {len(lacks)} of {len(self.labels.classes)} classes, such as {lacks[0]!r}" if lacks else "",
            _calibration(self.labels),
        ]
        return "; ".join(part for part in parts if part)


def _mean_of(
    stores: Sequence[SoftLabelStore],
    joined: list[JoinedLabels],
    shares: list[float],
    calibrate: Method,
    folder: Path,
) -> JoinedLabels:
    """The mean of joins, kept under the digest of theirs and of what is done to them."""
    parts = [ENSEMBLE_VERSION, [labels.fingerprint for labels in joined], shares, calibrate]
    fingerprint = hashlib.sha256(canonical_json(parts)).hexdigest()
    path = folder / f"join-{fingerprint}"

    def build(temporary: Path) -> None:
        arrays = [open_join(labels.path, verify=False)[1] for labels in joined]
        _check_fit(stores, joined, [each.clips for each in arrays])
        teachers = [
            _Teacher(
                name=f"teacher {i + 1}, {store.spec.teacher}",
                labels=labels if calibrate == "none" else labels.calibrate(calibrate),
                weight=share,
                met=_met(arrays[0], joined[0], each, labels),
            )
            for i, (store, labels, share, each) in enumerate(zip(stores, joined, shares, arrays, strict=True))
        ]
        _check_met(stores, teachers)
        _write(temporary, folder, fingerprint, teachers, [store.spec.fingerprint() for store in stores])

    labels = open_or_build(path, lambda: JoinedLabels.open(path, root=joined[0].root), build)
    for note in labels.report.notes[len(joined[0].report.notes) :]:
        logger.info("join: %s", note)
    return labels


def _write(path: Path, folder: Path, fingerprint: str, teachers: list[_Teacher], specs: list[str]) -> None:
    """The first teacher's join with the mean as its soft half."""
    first = teachers[0].labels
    header, arrays = open_join(first.path, verify=False)
    soft_path, shape = folder / f"soft-{fingerprint}.npy", arrays.soft.shape
    soft = open_or_build(
        soft_path,
        lambda: open_soft(soft_path, shape),
        lambda temporary: write_soft(temporary, shape, _means(teachers, shape)),
    )
    arrays = dataclasses.replace(arrays, soft=soft)
    made = {"fingerprint": fingerprint, "report": _report(teachers, arrays).to_json(), "spec": specs}
    write_join(path, arrays, {**header, **made}, soft=soft_path)


def _means(teachers: list[_Teacher], shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """The soft half in blocks of rows, in order; (n, classes) float32 each."""
    step = max(1, BLOCK // max(1, shape[1]))
    blocks = (slice(first, first + step) for first in range(0, shape[0], step))
    return in_threads(partial(_mean, teachers, shape[1]), ((block,) for block in blocks))


def _mean(teachers: list[_Teacher], classes: int, block: slice) -> np.ndarray:
    """(n, classes) float32: the weighted mean over those who spoke; NaN where nobody did."""
    total, weight = np.zeros((2, len(teachers[0].met[block]), classes))
    for teacher in teachers:
        met = teacher.met[block]
        here = np.flatnonzero(met >= 0)
        said = teacher.labels.soft(met[here]).astype(np.float64)  # (len(here), classes)
        known = said == said
        total[here] += teacher.weight * np.where(known, said, 0)
        weight[here] += teacher.weight * known
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0).astype(np.float32)


def _met(a: JoinArrays, labels_a: JoinedLabels, b: JoinArrays, labels_b: JoinedLabels) -> np.ndarray:
    """(rows of a,) int64: the row of b that each meets, see the module; -1 where there is none."""
    if labels_a.windows != "each":
        return meet(places(a.clip, 0.0), places(b.clip, 0.0), window_a_s=0, window_b_s=0)
    long_a, long_b = labels_a.window.window_s, labels_b.window.window_s
    centres = [places(each.clip, each.start_s + long / 2) for each, long in ((a, long_a), (b, long_b))]
    return meet(*centres, window_a_s=long_a, window_b_s=long_b)


def _report(teachers: list[_Teacher], arrays: JoinArrays) -> JoinReport:
    """The first teacher's, with what hangs on the soft half counted anew, and a note on each teacher."""
    reports = [teacher.labels.report for teacher in teachers]
    heard = [report.per_class for report, teacher in zip(reports, teachers, strict=True) if teacher.weight]
    how = [next((each.how for each in of_class if each.how), "") for of_class in zip(*heard, strict=True)]
    spoke = np.zeros(len(arrays.clip), bool)
    for block in range(0, len(spoke), step := max(1, BLOCK // arrays.soft.shape[1])):
        values = arrays.soft[block : block + step]
        spoke[block : block + step] = (values == values).any(axis=1)
    further = [
        f"{teacher.name}: {note}"
        for teacher, report in zip(teachers[1:], reports[1:], strict=True)
        for note in report.notes
        if note not in reports[0].notes
    ]
    return dataclasses.replace(
        reports[0],
        **figures(arrays, spoke, teachers[0].labels.classes, how),
        canary="; ".join(f"teacher {i + 1}: {report.canary}" for i, report in enumerate(reports)),
        notes=(*reports[0].notes, *further, *(teacher.note() for teacher in teachers)),
    )


def _calibration(labels: JoinedLabels) -> str:
    """What became of a teacher's calibration."""
    found = labels.calibration
    if found is None:
        return "not calibrated"
    if found.before is None or found.after is None or found.used == "none":
        return found.note or "its probabilities fit as they are"
    losses = f"{found.before.log_loss:.4f} -> {found.after.log_loss:.4f} on {found.examples:,} examples held out"
    return f"calibrated, {found.used}: log-loss {losses}"


def _shares(stores: Sequence[SoftLabelStore], weights: Sequence[float] | None) -> list[float]:
    """The weights, so that they sum to 1. Raises: ValueError: no two stores, or other weights than one for each."""
    strange = [type(store).__name__ for store in stores if not isinstance(store, SoftLabelStore)]
    if strange or len(stores) < 2:
        got = f"a {strange[0]} among them" if strange else f"{len(stores)}"
        raise ValueError(
            f"stores: expected two or more, as `softlabels.open` gives them, got {got}; one alone is joined by "
            "`store.join(manifest)`"
        )
    given = np.ones(len(stores)) if weights is None else np.asarray(weights, np.float64)
    if given.shape != (len(stores),) or not (np.isfinite(given) & (given >= 0)).all() or not given.any():
        raise ValueError(
            f"weights: expected {len(stores)} numbers, one a store, none below 0 and not all 0, got {weights!r}"
        )
    return (given / given.sum()).tolist()


def _check_activation(stores: Sequence[SoftLabelStore], calibrate: Method) -> None:
    activations = [store.activation for store in stores]
    if len(set(activations)) > 1:
        listed = ", ".join(f"{store.activation} in '{store.storage}'" for store in stores)
        raise ValueError(
            f"stores: expected one activation in all of them, got {listed}; probabilities of independent classes and "
            "of exclusive ones have no mean: join each kind by itself"
        )
    if calibrate != "none":
        parameter_names(calibrate, activations[0])  # refuses what is no method


def _mappings(mapping: Sequence[str | Path | None] | None, stores: int) -> list[str | Path | None]:
    if mapping is None:
        return [None] * stores
    if isinstance(mapping, str | Path) or len(mapping) != stores:
        raise ValueError(
            f"mapping: expected {stores} files, one a store (None where it needs none), for each names the classes of "
            f"its own teacher, got {mapping!r}"
        )
    return list(mapping)


def _join_alone(
    store: SoftLabelStore,
    manifest: str | Path,
    student: ClassList,
    options: JoinOptions,
    root: str | Path | None,
    cache_dir: str | Path | None,
) -> JoinedLabels:
    try:
        return join_store(store, manifest, classes=student, options=options, root=root, cache_dir=cache_dir)
    except (ClassListError, JoinError) as e:
        if str(store.storage) in str(e):
            raise
        raise type(e)(f"store '{store.storage}': {e}") from e


def _check_fit(stores: Sequence[SoftLabelStore], joined: list[JoinedLabels], clips: list[pa.Table]) -> None:
    """Hold what the joins say of clips and classes against the first one's."""
    for store, labels, table in zip(stores[1:], joined[1:], clips[1:], strict=True):
        names = f"'{stores[0].storage}' and '{store.storage}'"
        if not table["clip_id"].equals(clips[0]["clip_id"]):
            raise JoinError(f"{names}: the manifest was changed while they were joined with it; join again")
        _check_audio(clips[0], table, names)
        lacks = set(labels.report.unmatched) ^ set(joined[0].report.unmatched)
        if labels.activation == "softmax" and lacks:
            raise JoinError(
                f"{names}: expected teachers of exclusive classes to have the same ones of the student's list, got "
                f"{len(lacks)} that only one of them has, such as {min(lacks)!r}: their shares have no mean; leave "
                "these classes out of classes=, or find them with mapping="
            )


def _check_audio(ours: pa.Table, theirs: pa.Table, names: str) -> None:
    a, b = ({name: table[name].to_numpy() for name in ("reason", "sha256")} for table in (ours, theirs))
    other = np.flatnonzero((a["reason"] == "") & (b["reason"] == "") & (a["sha256"] != b["sha256"]))
    if len(other):
        listed = ", ".join(repr(ours["clip_id"][int(i)].as_py()) for i in other[:10])
        raise JoinError(
            f"{names}: expected the same audio under the same clip_id, got {len(other)} clips with another sha256: "
            f"{listed}; label one manifest with both teachers, and give what is new a new clip_id"
        )


def _check_met(stores: Sequence[SoftLabelStore], teachers: list[_Teacher]) -> None:
    for store, teacher in zip(stores[1:], teachers[1:], strict=True):
        if not (teacher.met >= 0).any():
            raise JoinError(
                f"'{stores[0].storage}' and '{store.storage}': expected windows that share half of the shorter one, "
                f"got none among {len(teacher.met):,} rows and {len(teacher.labels):,}; label this manifest with both "
                "teachers (`softlabels run`)"
            )
