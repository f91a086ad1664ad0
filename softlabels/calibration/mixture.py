"""calibrate(method="mixture"): windows from weak labels of long clips, under an assumption that often fails.

A clip with a label is a mixture: in a share of its windows the class sounds, in the others it does not, and these are
like the windows of clips without the label. Then the odds that a window comes from a labelled clip,

    (share * g(x) + 1 - share) * windows with / windows without,        g(x) = exp(slope * x + shift)

tell how much likelier each teacher's log-odds x is where the class sounds. Three parameters for all classes, fitted to
which windows come from labelled clips; the prevalence of a class is its labelled windows' share times `share`.

It fails by *leakage*: where the silent windows of a labelled clip are not like those of other clips (the bird is there,
only faint; the habitat; windows that overlap a song's edge), they are taken for singing ones, and every window of such
clips gets too much. Nothing in the weak labels shows that. So it is an option that has to be named. What is measured,
held out, is clips: one minus the product of all windows' absences against the clip's label.
"""

from dataclasses import dataclass, replace

import numpy as np

from softlabels.calibration.candidates import FROM_NONE, clearly_above_zero
from softlabels.calibration.maps import Calibrated, as_logits
from softlabels.calibration.measure import MIN_EXAMPLES, MIN_POSITIVES, log_report
from softlabels.calibration.report import CalibrationReport, fit_of

MIXTURE = "mixture"
_CENTRE, _SPREAD = np.array([1.0, 0.0, 0.0]), np.array([1.0, 5.0, 3.0])  # of slope, shift and the share's log-odds
_EDGE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeakWindows:
    """All windows of weakly labelled clips: (n, classes) float32 hard (their clip's) and soft; (n,) clip, recording."""

    hard: np.ndarray
    soft: np.ndarray
    clip: np.ndarray
    recording: np.ndarray

    def part(self, keep: np.ndarray) -> "WeakWindows":
        parts = (self.hard[keep], self.soft[keep], self.clip[keep], self.recording[keep])
        return WeakWindows(**dict(zip(("hard", "soft", "clip", "recording"), parts, strict=True)))


def calibrate_mixture(windows: WeakWindows, folds: int) -> tuple[Calibrated | None, CalibrationReport]:
    """The map of a mixture, None where clips held out do not speak for it; and the report, of clips."""
    _, first, of_window = np.unique(windows.clip, return_index=True, return_inverse=True)
    hard, recording = windows.hard[first], windows.recording[first]  # (clips, classes), (clips,)
    positives, negatives = int((hard == 1).sum()), int((hard == 0).sum())
    report = CalibrationReport(
        asked=MIXTURE,
        examples=len(first),
        clips=len(first),
        recordings=len(np.unique(recording)),
        groups=len(np.unique(recording)),
        positives=positives,
        negatives=negatives,
    )
    if len(first) < MIN_EXAMPLES or min(positives, negatives) < MIN_POSITIVES or report.groups < 2:
        note = (
            f"expected {MIN_EXAMPLES} weakly labelled clips of several windows or more, of 2 recordings or more, with "
        )
        note += f"{MIN_POSITIVES} positives and negatives; got {len(first)}: the labels stay as they are"
        report = replace(report, note=note)
        log_report("calibrate", report)
        return None, report
    numbers = np.unique(windows.recording, return_inverse=True)[1]
    fold = np.random.default_rng(0).permutation(numbers.max() + 1)[numbers] % min(folds, report.groups)  # (n,)
    held_out = np.empty(windows.soft.shape, np.float64)
    for number in np.unique(fold):
        here = fold == number
        held_out[here] = _mapped(fit_mixture(windows.part(~here)), windows.soft[here])
    clips = [of_clips(p, of_window) for p in (windows.soft.astype(np.float64), held_out)]
    losses = [_losses(hard, p) for p in clips]
    believed = clearly_above_zero((losses[0] - losses[1]).sum(axis=1), recording, FROM_NONE)
    before, after = (fit_of(loss, p, hard) for loss, p in zip(losses, clips, strict=True))
    report = replace(report, folds=int(fold.max()) + 1, before=before, after=after if believed else before)
    report = replace(report, used=MIXTURE if believed else "none", candidates={"none": before, MIXTURE: after})
    report = replace(report, note="" if believed else f"'{MIXTURE}' is not clearly better on clips held out")
    log_report("calibrate", report)
    if not believed:
        return None, report
    return Calibrated(method="platt", activation="sigmoid", parameters=fit_mixture(windows)), report


def fit_mixture(windows: WeakWindows) -> np.ndarray:
    """(classes, 2) slope and shift of each class: the slope is shared, the shift holds the prevalence of the class."""
    from scipy.optimize import minimize

    known = ~np.isnan(windows.hard) & ~np.isnan(windows.soft)
    x = np.where(known, as_logits(np.nan_to_num(windows.soft, nan=0.5), "sigmoid"), 0)
    labelled = known & (windows.hard == 1)
    with_it, without = labelled.sum(axis=0), (known & ~labelled).sum(axis=0)
    used = (with_it > 0) & (without > 0)  # (classes,)
    odds = np.log(np.maximum(with_it, 1)) - np.log(np.maximum(without, 1))

    def posterior(parameters: np.ndarray) -> float:
        slope, shift, share = parameters
        sings, silent = -np.logaddexp(0, -share), -np.logaddexp(0, share)  # log of share and of 1 - share
        logits = np.logaddexp(sings + slope * x[:, used] + shift, silent) + odds[used]
        losses = np.logaddexp(0, logits) - labelled[:, used] * logits
        return float(losses[known[:, used]].sum() + (((parameters - _CENTRE) / _SPREAD) ** 2).sum() / 2)

    bounds = [(0.0, None), (None, None), (None, None)]
    start = np.array([1.0, -float(np.mean(x[known])) if known.any() else 0.0, -1.0])
    slope, shift, share = minimize(posterior, start, method="L-BFGS-B", bounds=bounds).x
    prevalence = np.clip(with_it / np.maximum(with_it + without, 1) / (1 + np.exp(-share)), 1e-6, 1 - 1e-6)
    return np.stack([np.full(len(odds), slope), shift + np.log(prevalence) - np.log1p(-prevalence)], axis=1)


def _mapped(parameters: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """(n, classes) float64 probabilities."""
    return 1 / (1 + np.exp(-(as_logits(soft, "sigmoid") * parameters[:, 0] + parameters[:, 1])))


def of_clips(p: np.ndarray, of_window: np.ndarray) -> np.ndarray:
    """(n, classes) of windows -> (clips, classes): that any of them has the class, if they were independent."""
    absent = np.zeros((of_window.max(initial=-1) + 1, p.shape[1]))
    np.add.at(absent, of_window, np.log1p(-np.clip(np.nan_to_num(p), 0, 1 - _EDGE)))
    return -np.expm1(absent)


def _losses(hard: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(clips, classes) nats, 0 where unknown."""
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return np.where(np.isnan(hard), 0, -np.where(hard == 1, np.log(p), np.log1p(-p)))
