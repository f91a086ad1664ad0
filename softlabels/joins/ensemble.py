"""join() of several stores: teachers stacked or averaged, each after its own calibration on the annotated clips.

Rows, hard labels and window grid are the first store's. A row meets the window of another store whose centre is
nearest in the same clip, if they share at least half of the shorter one; pooled rows meet by clip.

What is averaged is the probability: sum(weight * p) / sum(weight) over the teachers that say something of the row and
the class. A class that some teachers lack is the mean of the others; only what nobody spoke of is NaN.

Not the log-odds, in which one teacher that is wrong and sure of it decides alone. The mean is less sure than it might
be, and a teacher that knows nothing spoils it. So where nobody gave weights, and the annotated clips show that weighted
log-odds are clearly better on recordings that the weights had not seen, these are what a row gets (see
calibration/stacking.py). Windows of long clips with weak labels have the mean, if nothing was learned of such windows.
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from softlabels.calibration.calibrate import maps_weak
from softlabels.calibration.maps import Calibrated, Method, parameter_names
from softlabels.calibration.measure import report_on, what_is_lacking
from softlabels.calibration.stacking import Opinions, Stacking, held_out_opinions, stack
from softlabels.classes.class_list import ClassList, as_class_list
from softlabels.classes.matching import MIN_COVERAGE
from softlabels.digests import sha256_of
from softlabels.errors import ClassListError, JoinError
from softlabels.evidence.agreement import row_blocks
from softlabels.evidence.examples import Annotated
from softlabels.joins.build import join as join_store
from softlabels.joins.check import figures
from softlabels.joins.options import JoinOptions
from softlabels.kept.built_once import cache_folder, open_or_build
from softlabels.kept.soft_file import open_soft, write_soft
from softlabels.labels.arrays import JoinArrays, annotated_clips
from softlabels.labels.joined_labels import JoinedLabels
from softlabels.labels.report import JoinReport
from softlabels.labels.saved import open_join, write_join
from softlabels.records.plan_file import ClipIdentity, same_clip
from softlabels.store.reader import StoreReader
from softlabels.tables import some
from softlabels.threads import in_threads
from softlabels.windows import WindowSpec, meet, places

ENSEMBLE_VERSION = 2  # teachers are stacked where that is better
BLOCK = 1 << 20  # values averaged at once
FOLDS = 5  # on which weights are measured
logger = logging.getLogger(__name__)


def join(
    stores: Sequence[StoreReader],
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
    other_labels: Literal["error", "absent", "unknown", "drop"] = "error",
    canary: bool = True,
    root: str | Path | None = None,
    cache_dir: str | Path | None = None,
) -> JoinedLabels:
    """Join a manifest's hard labels with what several teachers said together, on the first one's windows.

    Args:
      stores: two or more, of one activation. Rows are those of the first, of which `missing` speaks.
      weights: one a store, 0 or more, of a mean of probabilities; where not all of them speak, the others' share
        grows. None is what the annotated clips speak for: teachers stacked, where that is clearly better than the mean
        on recordings held out, else equal weights.
      calibrate: how each is calibrated by itself before, as in `JoinedLabels.calibrate`; "none" learns nothing from
        annotations: probabilities as they are, and equal weights. The report of one of them in full is
        `store.join(...).calibrate().calibration`.
      classes: the student's class list; None is the first store's.
      mapping: one mapping file a store, or None for it.
      min_coverage: share of the student's classes that every teacher must have.
      split ... cache_dir: as in `SoftLabelStore.join`.
    Returns: labels that are kept beside the first store's other joins; `report.notes` has a line on each teacher.
    Raises: ValueError: arguments that do not fit together; JoinError: stores that do not, or no window in common; and
      what `SoftLabelStore.join` raises.
    Example:
      >>> softlabels.join([store, other], "data_manifest.csv", weights=[2, 1], calibrate="none")
      JoinedLabels(14 rows, 3 classes, sigmoid)
    """
    options = JoinOptions.of(locals())
    shares, files = _shares(stores, weights), _mappings(mapping, len(stores))
    if calibrate != "none":
        parameter_names(calibrate, stores[0].activation)  # refuses what is no method
    student = stores[0].classes if classes is None else as_class_list(classes)
    joined = []
    for i, (store, file) in enumerate(zip(stores, files, strict=True)):
        alone = dataclasses.replace(options, mapping=file, missing="drop" if i else missing)  # no row, nothing said
        try:
            joined.append(join_store(store, manifest, classes=student, options=alone, root=root, cache_dir=cache_dir))
        except (ClassListError, JoinError) as e:
            if str(store.storage) in str(e):
                raise
            raise type(e)(f"store '{store.storage}': {e}") from e
    return _together(stores, joined, shares, calibrate, cache_folder(stores[0].storage, cache_dir))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Teacher:
    """One voice. raw: as its store has it; labels: calibrated, if that was asked for. met: (rows,) which of its rows
    meets each row, -1 where none does.
    """

    name: str
    raw: JoinedLabels
    labels: JoinedLabels
    weight: float
    met: np.ndarray

    def soft(self, rows: np.ndarray | slice, labels: JoinedLabels) -> np.ndarray:
        """(n, classes) float64 from its raw or its calibrated labels; NaN where it is silent."""
        met = self.met[rows]
        soft = np.full((len(met), len(labels.classes)), np.nan)
        soft[met >= 0] = labels.soft(met[met >= 0])
        return soft

    def of_classes(self, examples: Annotated, labels: JoinedLabels) -> np.ndarray:
        """(n, columns) float64 of annotated examples, in blocks: of all classes it would be much."""
        blocks = [examples.row[block] for block in row_blocks(len(examples), len(labels.classes), BLOCK)]
        return np.concatenate([self.soft(rows, labels)[:, examples.columns] for rows in blocks])

    def used(self, examples: Annotated, raw: np.ndarray) -> str:
        """The map that its calibration has for these examples; none where they are of clips that it does not map."""
        found = self.labels.calibration
        if found is None or np.array_equal(raw, self.of_classes(examples, self.labels), equal_nan=True):
            return "none"
        return found.used

    def prior(self) -> np.ndarray:
        """(classes,) what its calibration added to the log-odds of classes that are more frequent elsewhere."""
        prior = np.zeros(len(self.labels.classes))
        for step in self.labels._steps:
            if isinstance(step, Calibrated) and step.prior is not None and step.weak:
                prior = prior + step.prior
        return prior

    def note(self, stacked: float | None = None) -> str:
        """What a person should know of it; stacked: its weight where it is not that of a mean."""
        reached, lacks, found = np.count_nonzero(self.met >= 0), self.labels.report.unmatched, self.labels.calibration
        weight = self.weight if stacked is None else stacked
        parts = [f"{self.name}: weight {weight:.3g}, speaks of {reached:,} of {len(self.met):,} rows"]
        if lacks:
            parts.append(f"lacks {len(lacks)} of {len(self.labels.classes)} classes, such as {lacks[0]!r}")
        if found is None:
            parts.append("not calibrated")
        elif found.before is None or found.after is None or found.used == "none":
            parts.append(found.note or "its probabilities fit as they are")
        else:
            losses = f"{found.before.log_loss:.4f} -> {found.after.log_loss:.4f}"
            parts.append(f"calibrated, {found.used}: log-loss {losses} on {found.examples:,} examples held out")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ensemble:
    """All of them. found: what was learned of their weights; None where nobody asked. averaged: (rows,) bool, rows that
    keep the mean although there are weights. note: why not stacked.
    """

    teachers: list[_Teacher]
    found: Stacking | None = None
    averaged: np.ndarray | None = None
    note: str = ""

    def opinions(self, rows: np.ndarray | slice) -> Opinions:
        """What each said of some rows, calibrated, and their weighted mean; NaN where nobody spoke."""
        soft = np.stack([teacher.soft(rows, teacher.labels) for teacher in self.teachers])  # (teachers, n, classes)
        shares = np.array([teacher.weight for teacher in self.teachers])[:, None, None] * ~np.isnan(soft)
        total, weight = (shares * np.nan_to_num(soft)).sum(axis=0), shares.sum(axis=0)
        mean = np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)
        prior = np.stack([teacher.prior() for teacher in self.teachers])
        return Opinions(soft=soft, prior=prior, mean=mean, activation=self.teachers[0].labels.activation)

    def soft(self, rows: slice) -> np.ndarray:
        """(n, classes) float32: stacked or the mean; NaN where nobody spoke."""
        opinions = self.opinions(rows)
        if self.found is None or self.found.weights is None or self.averaged is None:
            return opinions.mean.astype(np.float32)
        averaged = self.averaged[rows, None]  # (n, 1)
        return np.where(averaged, opinions.mean, opinions.probabilities(self.found.weights)).astype(np.float32)

    def learn(self, arrays: JoinArrays, method: Method) -> "_Ensemble":
        """The same with weights learned from the annotated examples, where they are better than the mean."""
        labels = self.teachers[0].labels
        classes, activation, pooled = labels.classes, labels.activation, labels.windows != "each"

        def y_true(rows: np.ndarray) -> np.ndarray:
            hard = arrays.hard.rows(arrays.hard_group[rows], len(classes))
            return np.concatenate([hard, self.opinions(rows).mean.astype(np.float32)], axis=1)

        annotated = annotated_clips(arrays, y_true, classes, activation, pooled=pooled)
        examples = annotated.of_windows()
        lacking = what_is_lacking(report_on(annotated, classes, activation, asked="stacked"))
        if lacking:
            return dataclasses.replace(self, note=f"{lacking}: averaged")
        fold = examples.folds(min(FOLDS, examples.groups))
        raw = [teacher.of_classes(examples, teacher.raw) for teacher in self.teachers]
        used = [teacher.used(examples, soft) for teacher, soft in zip(self.teachers, raw, strict=True)]
        opinions = held_out_opinions(examples, np.stack(raw), used, fold, method, activation)
        found = stack(examples.hard, opinions, examples.recording, fold)
        weak = np.zeros(len(arrays), bool) if pooled or maps_weak(annotated) else arrays.weak_clips()[arrays.clip_row]
        return dataclasses.replace(self, found=found, averaged=weak)

    def notes(self) -> tuple[str, ...]:
        """A line on each teacher, and how their weights were found."""
        if self.found is None:
            return (*(teacher.note() for teacher in self.teachers), *([self.note] if self.note else []))
        weights = self.found.weights_of_all()
        lines = [
            f"{teacher.note(None if weights is None else weights[i])}; log-loss alone {loss:.4f}"
            for i, (teacher, loss) in enumerate(zip(self.teachers, self.found.alone, strict=True))
        ]
        used = "clearly better, so stacked" if self.found.weights is not None else "not clearly better, so averaged"
        figures = f"log-loss of annotations held out: mean {self.found.mean:.4f}, stacked {self.found.stacked:.4f}"
        return (*lines, f"{figures}: {used}")


def _together(
    stores: Sequence[StoreReader],
    joined: list[JoinedLabels],
    shares: list[float] | None,
    calibrate: Method,
    folder: Path,
) -> JoinedLabels:
    """Several joins as one, kept under the digest of theirs and of what is done to them."""
    fingerprint = sha256_of([ENSEMBLE_VERSION, [labels.fingerprint for labels in joined], shares, calibrate])
    path = folder / f"join-{fingerprint}"

    def build(temporary: Path) -> None:
        saved = [open_join(labels.path) for labels in joined]
        arrays = saved[0].arrays
        ensemble = _Ensemble(teachers=_teachers(stores, joined, shares, calibrate, [each.arrays for each in saved]))
        if shares is None and calibrate != "none":
            ensemble = ensemble.learn(arrays, calibrate)
        soft_path, shape = folder / f"soft-{fingerprint}.npy", arrays.soft.shape
        blocks = ((block,) for block in row_blocks(shape[0], shape[1], BLOCK))
        soft = open_or_build(
            soft_path,
            lambda: open_soft(soft_path, shape),
            lambda part: write_soft(part, shape, in_threads(ensemble.soft, blocks)),
        )
        arrays = dataclasses.replace(arrays, soft=soft)
        made: dict[str, Any] = {"fingerprint": fingerprint, "spec": [store.spec.fingerprint() for store in stores]}
        if any("embedding" in each.header for each in saved):
            made["embedding"] = [each.header.get("embedding") for each in saved]
        header = {**saved[0].header, **made, "report": _report(ensemble, arrays).to_json()}
        write_join(temporary, arrays, header, soft=soft_path)

    labels = open_or_build(path, lambda: JoinedLabels.open(path, root=joined[0].root), build)
    for note in labels.report.notes[len(joined[0].report.notes) :]:
        logger.info("join: %s", note)
    return labels


def _teachers(
    stores: Sequence[StoreReader],
    joined: list[JoinedLabels],
    shares: list[float] | None,
    calibrate: Method,
    arrays: list[JoinArrays],
) -> list[_Teacher]:
    """Each teacher with its own calibration and the rows that meet. Raises: JoinError: joins that do not fit."""
    teachers = []
    for i, (store, labels, each) in enumerate(zip(stores, joined, arrays, strict=True)):
        names = f"'{stores[0].storage}' and '{store.storage}'"
        _check_fit(names, arrays[0].clips, each.clips, joined[0], labels)
        met = _met(arrays[0], joined[0], each, labels)
        if not (met >= 0).any() and i:
            raise JoinError(
                f"{names}: expected windows that share half of the shorter one, got none among {len(met):,} rows "
                f"and {len(labels):,}; label this manifest with both teachers (`softlabels run`)"
            )
        name, share = f"teacher {i + 1}, {store.spec.teacher}", 1 / len(stores) if shares is None else shares[i]
        calibrated = labels if calibrate == "none" else labels.calibrate(calibrate)
        teachers.append(_Teacher(name=name, raw=labels, labels=calibrated, weight=share, met=met))
    return teachers


def _met(a: JoinArrays, labels_a: JoinedLabels, b: JoinArrays, labels_b: JoinedLabels) -> np.ndarray:
    """(rows of a,) int64: the row of b that each meets, see the module; -1 where there is none."""
    if labels_a.windows != "each":
        return meet(places(a.clip_row, 0), places(b.clip_row, 0), window_a_s=0, window_b_s=0)
    grid_a, grid_b = labels_a.window, labels_b.window
    return meet(_centres(a, grid_a), _centres(b, grid_b), window_a_s=grid_a.window_s, window_b_s=grid_b.window_s)


def _centres(arrays: JoinArrays, window: WindowSpec) -> np.ndarray:
    """(rows,) int64: clip and centre of each window as one number."""
    starts = arrays.clip_starts(np.arange(arrays.clips.num_rows), window)[arrays.clip_row]
    return places(arrays.clip_row, window.centre_us(starts + arrays.window_index.astype(np.int64) * window.hop_samples))


def _report(ensemble: _Ensemble, arrays: JoinArrays) -> JoinReport:
    """The first teacher's, with what hangs on the soft half counted again, and notes on the others."""
    teachers = ensemble.teachers
    reports = [teacher.labels.report for teacher in teachers]
    of_classes = [report.per_class for report, teacher in zip(reports, teachers, strict=True) if teacher.weight]
    how = [next((each.how for each in of_class if each.how), "") for of_class in zip(*of_classes, strict=True)]
    spoke = np.zeros(len(arrays), bool)
    for block in row_blocks(len(spoke), arrays.soft.shape[1], BLOCK):
        spoke[block] = ~np.isnan(arrays.soft[block]).all(axis=1)
    shared = [note for note in reports[0].notes if all(note in report.notes for report in reports)]
    further = [
        f"{teacher.name}: {note}"
        for teacher, report in zip(teachers, reports, strict=True)
        for note in report.notes
        if note not in shared
    ]
    return dataclasses.replace(
        reports[0],
        **figures(arrays, spoke, teachers[0].labels.classes, how, *arrays.annotated_sample(spoke)[1:]),
        canary="; ".join(f"teacher {i + 1}: {report.canary}" for i, report in enumerate(reports)),
        notes=(*shared, *further, *ensemble.notes()),
    )


def _shares(stores: Sequence[StoreReader], weights: Sequence[float] | None) -> list[float] | None:
    """The weights, so that they sum to 1; None if none were given.

    Raises: ValueError: not two stores alike, or not a weight for each.
    """
    strange = [type(store).__name__ for store in stores if not isinstance(store, StoreReader)]
    if strange or len(stores) < 2:
        got = f"a {strange[0]} among them" if strange else f"{len(stores)}"
        raise ValueError(
            f"stores: expected two or more, as `softlabels.open` gives them, got {got}; one alone is joined by "
            "`store.join(manifest)`"
        )
    if len({store.activation for store in stores}) > 1:
        listed = ", ".join(f"{store.activation} in '{store.storage}'" for store in stores)
        raise ValueError(
            f"stores: expected one activation in all of them, got {listed}; probabilities of independent classes and "
            "of exclusive ones have no mean: join each kind by itself"
        )
    if weights is None:
        return None
    given = np.asarray(weights, np.float64)
    if given.shape != (len(stores),) or not (np.isfinite(given) & (given >= 0)).all() or not given.any():
        raise ValueError(
            f"weights: expected {len(stores)} numbers, one a store, none below 0 and not all 0, got {weights!r}"
        )
    return (given / given.sum()).tolist()


def _mappings(mapping: Sequence[str | Path | None] | None, stores: int) -> list[str | Path | None]:
    if mapping is None:
        return [None] * stores
    if isinstance(mapping, str | Path) or len(mapping) != stores:
        raise ValueError(
            f"mapping: expected {stores} files, one a store (None where it needs none), for each names the classes of "
            f"its own teacher, got {mapping!r}"
        )
    return list(mapping)


def _check_fit(names: str, ours: pa.Table, theirs: pa.Table, first: JoinedLabels, other: JoinedLabels) -> None:
    """Hold what a join says of clips and classes against the first one's."""
    if not theirs["clip_id"].equals(ours["clip_id"]):
        raise JoinError(f"{names}: the manifest was changed while they were joined with it; join again")
    known = (ours["reason"].to_numpy() == "") & (theirs["reason"].to_numpy() == "")
    differ = np.flatnonzero(known & ~same_clip(ClipIdentity.of_table(ours), ClipIdentity.of_table(theirs)))
    if len(differ):
        raise JoinError(
            f"{names}: expected the same audio under the same clip_id, got {len(differ)} clips with another sha256: "
            f"{some(ours['clip_id'].take(differ).to_pylist())}; label one manifest with both teachers, and give "
            "what is new a new clip_id"
        )
    lacks = set(other.report.unmatched) ^ set(first.report.unmatched)
    if other.activation == "softmax" and lacks:
        raise JoinError(
            f"{names}: expected teachers of exclusive classes to have the same ones of the student's list, got "
            f"{len(lacks)} that only one of them has, such as {min(lacks)!r}: their shares have no mean; leave "
            "these classes out of classes=, or find them with mapping="
        )
