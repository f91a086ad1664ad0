"""calibrate(): teacher probabilities -> probabilities that fit the annotated clips, held out before it is believed.

Three candidates are measured on folds that none of them has seen: the labels as they are, one map for all classes,
and a map for each class. A map replaces the labels as they are only where its log-loss is lower by more than two
standard errors, and the shared map by more than one; the winner is then fitted on everything. With one instead of two,
200 annotated rows of a teacher that was right already became worse by more than 1 % in 2 of 100 random corpora.

What a probability of a window is worth is learned from windows: clips of one, and windows annotated in time. The maxima
of long clips are no substitute: a map that is right for maxima made a perfect teacher worse on its windows.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from softlabels.calibration.candidates import Fit, best_of, held_out, map_fits
from softlabels.calibration.fit import Evidence
from softlabels.calibration.maps import Calibrated, Method
from softlabels.calibration.measure import MIN_EXAMPLES, log_report, measured, report_on, what_is_lacking
from softlabels.calibration.report import CalibrationReport
from softlabels.calibration.shift import prevalences
from softlabels.classes.class_list import Activation, ClassList
from softlabels.evidence.examples import Annotated, Unannotated


def calibrate(
    annotated: Annotated,
    classes: ClassList,
    activation: Activation,
    *,
    unannotated: Unannotated | None = None,
    method: Method = "platt",
    per_class: bool = True,
    folds: int = 5,
) -> tuple[Calibrated | None, CalibrationReport]:
    """Fit a calibration and measure it; arguments as in `JoinedLabels.calibrate`.

    unannotated: tells how frequent the classes are where nobody annotated; None does not ask.
    Returns: the step to apply, None where the labels are best left as they are; and the report.
    """
    if folds < 2:
        raise ValueError(f"folds: expected 2 or more, got {folds}")
    fits = map_fits(method, activation, per_class, len(classes))
    report = report_on(annotated, classes, activation, asked=[*fits, "none"][max(0, len(fits) - 1)])
    lacking = what_is_lacking(report)
    if lacking:
        report = replace(report, note=f"{lacking}: the labels stay as they are")
        log_report("calibrate", report)
        return None, report
    examples = annotated.of_windows()
    folds = min(folds, examples.groups)
    candidates = held_out(examples, examples.folds(folds), fits, method, activation)
    best, step = best_of(candidates, examples.recording), None
    if best:
        step = fitted_map(examples, list(fits.values())[:best], method, activation, len(classes))
        step = replace(step, weak=maps_weak(annotated))
        if unannotated is not None and activation == "sigmoid":
            step = replace(step, prior=_prior(step, examples, candidates[best].probabilities, unannotated))
    prior = None if step is None or step.prior is None else np.broadcast_to(step.prior, len(classes))
    report = measured(replace(report, folds=folds), examples, classes, candidates, best, prior)
    log_report("calibrate", report)
    return step, report


def _prior(step: Calibrated, examples: Annotated, held_out: np.ndarray, unannotated: Unannotated) -> np.ndarray | None:
    """(classes,) what the map is off by where nobody annotated; None where that is nothing."""
    mapped = step.parameters if len(step.parameters) == 1 else step.parameters[examples.columns]
    here = ~unannotated.weak | step.weak
    soft = unannotated.soft[here]
    replace(step, parameters=mapped).apply(soft, soft, np.zeros(len(soft), bool))
    shift = prevalences(examples.hard, held_out, soft).log_odds_shift()
    if not shift.any():
        return None
    if len(step.parameters) > 1:
        for_all = np.zeros(len(step.parameters))
        for_all[examples.columns] = shift
        return for_all
    return shift


def fitted_map(
    examples: Annotated, fits: Sequence[Fit], method: Method, activation: Activation, classes: int
) -> Calibrated:
    """The last of some maps, fitted on all examples, for all classes; those not looked at have the shared map."""
    evidence, parameters, shared = Evidence.of(examples.hard, examples.soft, method, activation), np.empty(0), None
    for fit in fits:
        parameters = fit(evidence, parameters)
        shared = parameters if shared is None else shared
    if len(parameters) > 1:
        for_all = np.repeat(np.asarray(shared), classes, axis=0)
        for_all[examples.columns] = parameters
        parameters = for_all
    return Calibrated(method=method, activation=activation, parameters=parameters)


def maps_weak(annotated: Annotated) -> bool:
    """Whether what is learned holds for windows of long clips that were not annotated in time: if such were heard."""
    return not annotated.weak.any() or int((annotated.several & ~annotated.weak).sum()) >= MIN_EXAMPLES
