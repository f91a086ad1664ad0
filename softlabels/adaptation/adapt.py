"""adapt(): what annotated clips teach the teacher, measured on recordings that it was not taught with.

Three ways compete: the labels as they are; the calibration that `calibrate` would choose; and on top of it a probe on
the components of all that the teacher gave, which also reaches classes that the teacher has no name for. A later one is
used where it is clearly better on held-out recordings. The annotated clips themselves get what probes gave that had not
seen them: otherwise they would only repeat their hard labels.
"""

from dataclasses import dataclass, replace

import numpy as np

from softlabels.adaptation.lesson import ERRORS, Lesson
from softlabels.adaptation.probe import with_bias
from softlabels.calibration.calibrate import fitted_map
from softlabels.calibration.candidates import Candidate, best_of, clearly_above_zero, held_out, map_fits
from softlabels.calibration.maps import Calibrated, Method, as_logits, as_probabilities
from softlabels.calibration.measure import log_report, measured, report_on, what_is_lacking
from softlabels.calibration.report import CalibrationReport
from softlabels.calibration.shift import prevalences
from softlabels.classes.class_list import Activation, ClassList
from softlabels.evidence.examples import Annotated, Unannotated
from softlabels.kept.soft_file import CheckedRows
from softlabels.tables import some

ADAPTED = "adapted"
Rows = np.ndarray | CheckedRows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adaptation:
    """How the soft half is changed, for all classes.

    step: the calibration below the probe; None changes nothing. weights: (classes, k + 1) of the probe.
    base: (classes,) float64, the log-odds that it starts from where the teacher lacks a class and was taught it; NaN
    elsewhere. prior: (classes,) added to the logits. row, held_out: (n,) annotated rows, ascending, and (n, columns)
    their logits by probes that had not seen them; columns: of which classes.
    """

    activation: Activation
    step: Calibrated | None
    weights: np.ndarray
    base: np.ndarray
    prior: np.ndarray
    row: np.ndarray
    held_out: np.ndarray
    columns: np.ndarray

    def apply(self, rows: np.ndarray, soft: np.ndarray, components: np.ndarray) -> np.ndarray:
        """(n, classes) float32 adapted probabilities of (n,) rows; soft: (n, classes) as joined; components: (n, k)."""
        before = soft.copy()
        if self.step is not None:
            self.step.apply(before, before, np.zeros(len(before), bool))
        logits = np.where(np.isnan(self.base), as_logits(before, self.activation), self.base)  # NaN where unknown
        logits += with_bias(components) @ self.weights.T
        if len(self.row):
            place = np.minimum(np.searchsorted(self.row, rows), len(self.row) - 1)
            seen = np.flatnonzero(self.row[place] == rows)
            logits[np.ix_(seen, self.columns)] = self.held_out[place[seen]]
        return as_probabilities(logits + self.prior, before, self.activation)


def adapt(
    annotated: Annotated,
    components: Rows,
    classes: ClassList,
    activation: Activation,
    *,
    blind: np.ndarray,
    unannotated: Unannotated,
    method: Method = "platt",
    folds: int = 5,
) -> tuple[Adaptation | None, CalibrationReport]:
    """Teach, and measure.

    Args:
      annotated: the hard labels of classes in `blind` count although their soft ones are NaN.
      components: (rows of the join, k) float32. blind: (classes,) bool, what the teacher lacks.
      unannotated: tells how frequent the classes are where nobody annotated.
    Returns: what to do, None where the labels are best left as they are; and the report.
    """
    report = report_on(annotated, classes, activation, asked=ADAPTED)
    examples = annotated.of_windows()
    examples = examples.part(~np.isnan(components[examples.row]).any(axis=1))
    lacking = what_is_lacking(report) or ("" if examples.groups > 1 else "nothing is stored of the annotated clips")
    if lacking:
        report = replace(report, note=f"{lacking}: the labels stay as they are")
        log_report("adapt", report)
        return None, report
    folds = min(folds, examples.groups)
    fold, fits = examples.folds(folds), map_fits(method, activation, True, len(classes))
    unseen = blind[examples.columns] & (activation == "sigmoid")
    sighted = examples.of_columns(~unseen)
    candidates = held_out(sighted, fold, fits, method, activation)
    best = best_of(candidates, examples.recording)
    lesson = Lesson(
        examples=examples,
        inputs=with_bias(components[examples.row]),
        unseen=unseen,
        fits=list(fits.values())[:best],
        method=method,
        activation=activation,
    )
    offset, logits, penalty = lesson.held_out(fold)
    candidates.append(Candidate.of(ADAPTED, ERRORS, logits[:, ~unseen], candidates[0].evidence))
    chosen = _chosen(candidates, best, examples.recording)
    used = np.where(unseen, lesson.reached(offset, logits), lesson.able & (chosen == len(candidates) - 1))
    change = None
    if best or used.any():
        change = _fitted(lesson, sighted, used, penalty, len(classes))
        change = replace(change, held_out=logits[:, used])
        prior = _prior(change, examples, np.where(used, logits, offset), components, unannotated)
        change = replace(change, prior=prior)
    moved = None if change is None or not change.prior.any() else change.prior
    report = measured(replace(report, folds=folds), sighted, classes, candidates, chosen, moved)
    report = _with_reached(report, [classes.names[c] for c in examples.columns[used & unseen].tolist()])
    log_report("adapt", report)
    return change, report


def _chosen(candidates: list[Candidate], best: int, recording: np.ndarray) -> int:
    """Which candidate is used: the probe, the last one, if it clearly beats the best of the others, believed or not.

    Against the labels as they are alone, a calibration that few clips do not speak for would come in with it.
    """
    probe, rival = candidates[-1], min(candidates[:-1], key=lambda candidate: candidate.log_loss)
    gains = (rival.losses - probe.losses).sum(axis=1, dtype=np.float64)
    return len(candidates) - 1 if clearly_above_zero(gains, recording, ERRORS) else best


def _with_reached(report: CalibrationReport, names: list[str]) -> CalibrationReport:
    """The report, with the classes that the teacher lacked before."""
    reach = f"{len(names)} classes that the teacher lacks were taught to it: {some(names)}"
    return replace(report, warnings=(*report.warnings, reach)) if names else report


def _fitted(lesson: Lesson, sighted: Annotated, used: np.ndarray, penalty: float, classes: int) -> Adaptation:
    """The adaptation taught on all examples, but for prior and held_out; used: (columns,) bool, what is probed."""
    examples, everything = lesson.examples, np.ones(len(lesson.examples), bool)
    weights, base = np.zeros((classes, lesson.inputs.shape[1])), np.full(classes, np.nan)
    if used.any():
        weights[examples.columns] = lesson.probe(everything, lesson.offset(everything), penalty) * used[:, None]
    reached = used & lesson.unseen
    base[examples.columns[reached]] = lesson.base(everything)[reached]
    step = None
    if lesson.fits:
        step = fitted_map(sighted, lesson.fits, lesson.method, lesson.activation, classes)
    return Adaptation(
        activation=lesson.activation,
        step=step,
        weights=weights,
        base=base,
        prior=np.zeros(classes),
        row=examples.row,
        held_out=np.empty((0, 0)),
        columns=examples.columns[used],
    )


def _prior(
    change: Adaptation, examples: Annotated, held_out: np.ndarray, components: Rows, unannotated: Unannotated
) -> np.ndarray:
    """(classes,) what the adapted labels are off by where nobody annotated."""
    prior = np.zeros(len(change.prior))
    if change.activation == "softmax":
        return prior
    rows = unannotated.row
    elsewhere = change.apply(rows, unannotated.soft, components[rows])[:, examples.columns]
    said = as_probabilities(held_out, held_out, "sigmoid")
    prior[examples.columns] = prevalences(examples.hard, said, elsewhere).log_odds_shift()
    return prior
