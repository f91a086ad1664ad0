"""From candidates to a CalibrationReport: what there was to learn from, how each fits, what a person should know."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from softlabels.calibration.candidates import Candidate
from softlabels.calibration.fit import MIN_NEGATIVES
from softlabels.calibration.report import CalibrationReport, class_calibrations, fit_of
from softlabels.classes.class_list import Activation, ClassList
from softlabels.evidence.examples import Annotated
from softlabels.tables import some

MIN_EXAMPLES, MIN_POSITIVES = 20, 10
logger = logging.getLogger(__name__)


def report_on(annotated: Annotated, classes: ClassList, activation: Activation, *, asked: str) -> CalibrationReport:
    """What there is to learn from, before anything is fitted."""
    examples = annotated.of_windows()
    positives, negatives = examples.positives, examples.negatives
    names = [classes.names[c] for c in examples.columns.tolist()]
    warnings = []
    if annotated.clips < annotated.all_clips:
        warnings.append(f"{annotated.clips:,} of {annotated.all_clips:,} annotated clips were looked at")
    if annotated.weak.any():
        weak = len(np.unique(annotated.row[annotated.weak]))
        warnings.append(
            f"{weak:,} annotated clips of several windows do not say in which of them their label holds: nothing is "
            "learned from them; annotate some in time (annotations=)"
        )
    if activation == "sigmoid" and len(examples):
        lacking = [name for name, n in zip(names, positives.tolist(), strict=True) if not n]
        onesided = [
            name
            for name, n, absent in zip(names, positives.tolist(), negatives.tolist(), strict=True)
            if n and absent < MIN_NEGATIVES
        ]
        if lacking:
            warnings.append(f"{len(lacking)} classes have no annotated positive: {some(lacking)}")
        if onesided:
            warnings.append(
                f"{len(onesided)} classes are annotated where they are, but in less than {MIN_NEGATIVES} clips where "
                f"they are not, and keep the map of all classes: {some(onesided)}"
            )
    return CalibrationReport(
        asked=asked,
        examples=len(examples),
        clips=annotated.clips,
        recordings=len(np.unique(examples.recording)),
        groups=examples.groups,
        positives=int(positives.sum()),
        negatives=int(negatives.sum()),
        warnings=tuple(warnings),
    )


def what_is_lacking(found: CalibrationReport) -> str:
    """What is missing for a fit; "" where there is enough."""
    labels = min(found.positives, found.negatives)
    if found.examples >= MIN_EXAMPLES and labels >= MIN_POSITIVES and found.groups >= 2:
        return ""
    return (
        f"expected {MIN_EXAMPLES} annotated clips or more, {MIN_POSITIVES} positives and {MIN_POSITIVES} negatives "
        f"among them, of 2 recordings or more; got {found.examples}, {found.positives}, {found.negatives} and "
        f"{found.groups}"
    )


def measured(
    report: CalibrationReport,
    examples: Annotated,
    classes: ClassList,
    candidates: Sequence[Candidate],
    best: int,
    prior: np.ndarray | None,
) -> CalibrationReport:
    """The report with what was used, how it fits, and, where something else was asked for, the losses that decided.

    prior: (classes,) added to the log-odds, for classes that are more or less frequent where nobody annotated. Then
    all figures are those of clips like these: each annotated one counts as often as there are such.
    """
    chosen, note = candidates[best], ""
    if chosen.name != report.asked:
        losses = "; ".join(f"{each.name} {each.log_loss:.1f}" for each in candidates)
        used = f"'{chosen.name}' is used" if best else "the labels stay as they are"
        note = f"'{report.asked}' is not clearly better, held out: {used} (log-loss in nats: {losses})"
    names = [classes.names[c] for c in examples.columns.tolist()]
    warnings, weights, after = report.warnings, None, chosen
    if prior is not None:
        prior = prior[examples.columns]
        was, now = examples.prevalence, moved_prevalence(examples.prevalence, prior)
        weights = as_frequent(examples.hard, now)
        after = Candidate.of(chosen.name, chosen.errors, chosen.logits + prior, chosen.evidence)
        moved = [f"{name} {w:.1%} -> {n:.1%}" for name, w, n, p in zip(names, was, now, prior, strict=True) if p]
        warnings = (
            *warnings,
            f"{len(moved)} classes are not as frequent in the clips without annotations as in the annotated ones, so "
            f"these are no random sample: corrected ({some(moved)})",
        )
    per_row = chosen.evidence.activation == "softmax"
    fits = {
        each.name: fit_of(each.losses, each.probabilities, examples.hard, per_row=per_row, weights=weights)
        for each in (*candidates[:best], after, *candidates[best + 1 :])
    }
    first, last = ((each.losses, each.probabilities) for each in (candidates[0], after))
    return replace(
        report,
        used=chosen.name,
        before=fits[candidates[0].name],
        after=fits[chosen.name],
        candidates=fits,
        per_class=class_calibrations(names, examples.hard, first, last, weights),
        note=note,
        warnings=warnings,
    )


def moved_prevalence(prevalence: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """(columns,) prevalences after their log-odds have moved by `prior`."""
    odds = prevalence * np.exp(prior)
    return odds / (odds + 1 - prevalence)


def as_frequent(hard: np.ndarray, prevalence: np.ndarray) -> np.ndarray:
    """(n, columns) how many clips each example stands for, so that every class is as frequent as its `prevalence`.

    Of all weights that do that the most even ones (entropy balancing, Hainmueller 2012), the same for all classes of an
    example: where a rare class was sought out, it is the clips with none of the classes that stand for many.
    """
    from scipy.optimize import minimize

    gaps = (hard == 1) - np.asarray(prevalence, np.float64)  # (n, columns)

    def dual(tilt: np.ndarray) -> tuple[float, np.ndarray]:
        logits = gaps @ tilt
        top = logits.max()
        shares = np.exp(logits - top)
        total = shares.sum()
        return float(np.log(total) + top + 1e-4 * tilt @ tilt), shares @ gaps / total + 2e-4 * tilt

    tilt = minimize(dual, np.zeros(hard.shape[1]), jac=True, method="L-BFGS-B").x
    logits = gaps @ tilt
    shares = np.exp(logits - logits.max())
    return np.broadcast_to((shares * len(hard) / shares.sum())[:, None], hard.shape)


def log_report(who: str, report: CalibrationReport) -> None:
    """What a person should know of it."""
    for warning in report.warnings:
        logger.warning("%s: %s", who, warning)
    logger.log(logging.WARNING if report.note else logging.INFO, "%s: %s", who, report.note or report.used)
