"""Calibration: what it recovers, what it refuses to do, and that labels carry it wherever they go."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_labels import made_labels, sigmoid
from scipy import optimize

import softlabels
from softlabels.calibration.calibrate import calibrate
from softlabels.calibration.fit import Evidence, curvature, fit_classes, fit_shared
from softlabels.calibration.maps import Calibrated, parameter_names, terms
from softlabels.calibration.report import Bin, CalibrationReport, fit_of
from softlabels.classes.class_list import ClassList
from softlabels.evidence.examples import Annotated

# --- synthetic corpora: teacher probabilities, and labels drawn from a known map of them


def mapped(soft: np.ndarray, parameters: np.ndarray, method: str) -> np.ndarray:
    """(n, classes), (classes, k) -> probabilities in float64."""
    logits = parameters[:, -1] if parameter_names(method, "sigmoid")[-1] == "shift" else 0
    for term, slope in zip(terms(soft.astype(np.float64), method, "sigmoid"), parameters.T, strict=False):
        logits = logits + term * slope
    return sigmoid(logits)


def drawn(rng, rows: int, parameters: np.ndarray, method: str = "platt", spread: float = 2.5) -> tuple:
    """Labels that the map makes likely, and a teacher that says something else: (rows, classes) hard and soft."""
    soft = sigmoid(rng.normal(-2, spread, (rows, len(parameters)))).astype(np.float32)
    return (rng.random(soft.shape) < mapped(soft, parameters, method)).astype(np.float32), soft


def examples(hard: np.ndarray, soft: np.ndarray, group=None) -> Annotated:
    group = np.arange(len(hard)) if group is None else np.asarray(group)
    return Annotated(
        hard=hard,
        soft=soft,
        columns=np.arange(hard.shape[1]),
        row=np.arange(len(hard)),
        several=np.zeros(len(hard), bool),
        weak=np.zeros(len(hard), bool),
        recording=group,
        group=group,
        clips=len(hard),
        all_clips=len(hard),
    )


def applied(step: Calibrated, hard: np.ndarray, soft: np.ndarray) -> np.ndarray:
    return step.apply(hard, soft.copy(), np.zeros(len(soft), bool))[1]


def names(width: int) -> ClassList:
    return ClassList(tuple(f"class {i}" for i in range(width)))


def log_loss(hard: np.ndarray, soft: np.ndarray) -> float:
    soft = np.clip(soft.astype(np.float64), 2**-24, 1 - 2**-24)
    return float(-np.mean(hard * np.log(soft) + (1 - hard) * np.log(1 - soft)))


DISTORTIONS = {
    "slope": ("platt", [[2.0, 0.0]] * 4),
    "shift": ("platt", [[1.0, 1.5]] * 4),
    "both": ("platt", [[0.5, -1.0]] * 4),
    "per class": ("platt", [[0.6, -1.0], [1.0, 1.0], [1.5, 0.0], [1.2, 2.0]]),
    "temperature": ("temperature", [[0.6], [0.8], [1.0], [1.3]]),
    "beta": ("beta", [[0.7, 1.5, 0.5], [1.0, 1.0, 1.0], [1.3, 0.8, 0.0], [1.0, 0.5, 1.0]]),
}


@pytest.mark.parametrize("distortion", DISTORTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_known_distortions_are_recovered_within_three_standard_errors(distortion: str, seed: int) -> None:
    method, truth = DISTORTIONS[distortion][0], np.array(DISTORTIONS[distortion][1])
    hard, soft = drawn(np.random.default_rng(seed), 5000, truth, method)
    step, report = calibrate(examples(hard, soft), names(4), "sigmoid", method=method)
    found = np.broadcast_to(step.parameters, truth.shape)
    information = curvature(truth, Evidence.of(hard, soft, method, "sigmoid"))[2]  # (classes, k, k)
    errors = np.sqrt(np.diagonal(np.linalg.inv(information), axis1=1, axis2=2))
    assert np.abs((found - truth) / errors).max() < 3
    assert report.after.log_loss < report.before.log_loss
    assert report.after.calibration_error < report.before.calibration_error


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(200, 400),
    slope=st.sampled_from([0.4, 0.7, 1.0, 1.0, 1.5, 2.5]),
    shift=st.sampled_from([-2.0, -0.7, 0.0, 0.0, 0.7, 2.0]),
    spread=st.sampled_from([1.0, 2.5, 4.0]),
    classes=st.integers(1, 6),
    differing=st.sampled_from([0.0, 0.5]),
)
def test_held_out_log_loss_is_never_worse_by_a_hundredth_and_better_where_the_teacher_is_off(
    seed: int, rows: int, slope: float, shift: float, spread: float, classes: int, differing: float
) -> None:
    rng = np.random.default_rng(seed)
    truth = np.array([slope, shift]) + differing * rng.normal(0, [0.5 * slope, 2], (classes, 2))
    annotated = examples(*drawn(rng, rows, truth, spread=spread))
    step, _ = calibrate(annotated, names(classes), "sigmoid")
    hard, soft = drawn(rng, 4000, truth, spread=spread)
    before, after = log_loss(hard, soft), log_loss(hard, soft if step is None else applied(step, hard, soft))
    assert after < 1.01 * before
    to_gain = before - log_loss(hard, mapped(soft, truth, "platt"))
    if to_gain * annotated.hard.size > 40 and annotated.positives.sum() >= 10:  # nats; with fewer it may be chance
        assert after < before - to_gain / 2


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("method", ["platt", "temperature", "beta"])
def test_gradients_are_those_of_finite_differences(method: str, activation: str) -> None:
    if (method, activation) == ("beta", "softmax"):
        return
    rng = np.random.default_rng(0)
    hard, soft = drawn(rng, 50, np.ones((3, 1)), "temperature")
    soft[:5, 0] = hard[:5, 0] = np.nan
    if activation == "softmax":
        soft /= np.nansum(soft, axis=1, keepdims=True)
        hard = np.where(np.isnan(soft), np.nan, soft == np.nanmax(soft, axis=1, keepdims=True))
    evidence = Evidence.of(hard, soft, method, activation)
    at = rng.normal(1, 0.3, (3, len(evidence.terms)))
    for start in (at, at[:1]):  # a map for each class, one for all
        _, gradient, hessian = curvature(start, evidence)
        for c, k in np.ndindex(start.shape):
            step = np.zeros(start.shape)
            step[c, k] = 1e-5
            up, down = curvature(start + step, evidence), curvature(start - step, evidence)
            problem, i = divmod(c * start.shape[1] + k, gradient.shape[1])
            assert gradient[problem, i] == pytest.approx((up[0] - down[0])[problem] / 2e-5, rel=1e-5, abs=1e-5)
            differences = (up[1] - down[1])[problem] / 2e-5
            np.testing.assert_allclose(hessian[problem, i], differences, rtol=1e-5, atol=1e-5)


def test_a_softmax_temperature_and_shifts_are_recovered() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (5000, 4))
    soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = 0.5 * logits + np.array([0.5, 0.0, 0.0, -0.5])
    truth = np.exp(truth) / np.exp(truth).sum(axis=1, keepdims=True)
    hard = np.eye(4)[(rng.random((5000, 1)) > truth.cumsum(axis=1)).sum(axis=1)].astype(np.float32)
    annotated = examples(hard, soft.astype(np.float32))
    step, report = calibrate(annotated, names(4), "softmax", method="temperature")
    assert step.parameters.shape == (1, 1)
    assert step.parameters[0, 0] == pytest.approx(0.5, abs=0.05)
    step, report = calibrate(annotated, names(4), "softmax")
    assert report.used == "platt, per class"
    np.testing.assert_allclose(step.parameters[:, 0], 0.5, atol=0.08)
    np.testing.assert_allclose(np.diff(step.parameters[:, 1]), [-0.5, 0, -0.5], atol=0.15)
    after = applied(step, hard, soft.astype(np.float32))
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-5)
    assert np.abs(after - truth).mean() < 0.015


# --- priors and bounds


def test_a_class_with_few_positives_stays_near_the_shared_map_and_one_with_none_goes_down() -> None:
    truth = np.array([[1.0, 1.0]] * 6 + [[1.0, -1.0], [1.0, -30.0]])
    hard, soft = drawn(np.random.default_rng(1), 2000, truth)
    hard[np.flatnonzero(hard[:, 6])[3:], 6] = np.nan  # three positives are left
    evidence = Evidence.of(hard, soft, "platt", "sigmoid")
    shared = fit_shared(evidence, "platt")
    own = fit_classes(evidence, "platt", shared)
    assert shared[0] == pytest.approx([0.9, 0.6], abs=0.2)
    np.testing.assert_allclose(own[:6], truth[:6], atol=0.35)
    assert hard[:, 7].sum() == 0
    assert own[7, 1] < own[6, 1] < shared[0, 1]
    unseen = fit_classes(evidence.part(slice(0)), "platt", shared)
    np.testing.assert_array_equal(unseen, np.repeat(shared, 8, axis=0))


def test_a_class_that_the_teacher_has_upside_down_gets_one_probability() -> None:
    hard, soft = drawn(np.random.default_rng(0), 2000, np.array([[1.0, 0.0], [-1.0, -2.0]]))
    evidence = Evidence.of(hard, soft, "platt", "sigmoid")
    own = fit_classes(evidence, "platt", np.array([[1.0, 0.0]]))
    assert own[1, 0] == 0
    assert sigmoid(own[1, 1]) == pytest.approx(hard[:, 1].mean(), abs=0.03)
    _, gradient, _ = curvature(own, evidence)
    assert gradient[1, 1] + own[1, 1] / 1.5**2 == pytest.approx(0, abs=1e-3)  # the shift is at its best
    assert gradient[1, 0] > 0


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("method", ["platt", "temperature", "beta"])
def test_no_map_with_slopes_of_zero_or_more_is_likelier(method: str, activation: str) -> None:
    """Most classes upside down and few clips, so that slopes meet their bound on the way and at the end."""
    if (method, activation) == ("beta", "softmax"):
        return
    rng = np.random.default_rng(0)
    logits = rng.normal(-3, 2.5, (200, 60))
    soft = sigmoid(logits)
    if activation == "softmax":
        soft /= soft.sum(axis=1, keepdims=True)
        hard = np.eye(60)[(rng.gumbel(size=logits.shape) - 0.3 * logits + rng.normal(0, 1, 60)).argmax(axis=1)]
    else:
        hard = rng.random(soft.shape) < sigmoid(np.where(np.arange(60) % 3, -0.8 * logits - 4, logits))
    evidence = Evidence.of(hard.astype(np.float32), soft.astype(np.float32), method, activation)
    shared = np.full((1, len(evidence.terms)), 0.1)
    own = fit_classes(evidence, method, shared)
    is_shift = np.array(parameter_names(method, activation)) == "shift"
    assert own[:, ~is_shift].min() >= 0
    assert (own[:, ~is_shift] == 0).any()

    def posterior(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, _ = curvature(flat.reshape(own.shape), evidence)
        away = (flat.reshape(own.shape) - shared) / np.where(is_shift, 1.5, 0.5)
        gradient = gradient.reshape(own.shape) + away / np.where(is_shift, 1.5, 0.5)
        return value.sum() + (away**2).sum() / 2, gradient.ravel()

    bounds = [(None if shift else 0, None) for shift in is_shift] * len(own)
    best = optimize.minimize(
        posterior, np.tile(shared, (60, 1)).ravel(), jac=True, bounds=bounds, options={"ftol": 0, "maxiter": 2000}
    )
    assert posterior(own.ravel())[0] <= best.fun * (1 + 1e-9)
    np.testing.assert_allclose(own.ravel(), best.x, atol=3e-4)


def test_separable_labels_get_a_finite_map() -> None:
    soft = np.repeat([[0.1], [0.9]], 50, axis=0).astype(np.float32)
    step, _ = calibrate(examples((soft > 0.5).astype(np.float32), soft), names(1), "sigmoid", per_class=False)
    assert 1 < step.parameters[0, 0] < 4


# --- how maps are applied


@pytest.mark.parametrize("method", ["platt", "temperature", "beta"])
def test_zero_and_one_stay_finite_and_the_order_is_kept(method: str) -> None:
    soft = np.sort(np.concatenate([[0, 1e-45, 2e-8, 1 - 2**-24, 1], np.logspace(-12, 0, 4001)])).astype(np.float32)
    parameters = np.array([[1.7, 0.9, 0.3][: len(parameter_names(method, "sigmoid"))]])
    with np.errstate(all="raise", under="ignore"):
        step = Calibrated(method=method, activation="sigmoid", parameters=parameters)
        after = applied(step, soft, soft[:, None])
    expected = mapped(np.clip(soft, 2**-24, 1 - 2**-24)[:, None], parameters, method)
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert np.diff(after[:, 0].astype(np.float64)).min() > -2e-7  # but for rounding
    assert 0 <= after[0, 0] < after[-1, 0] <= 1


def test_a_softmax_row_keeps_its_sum_and_its_gaps() -> None:
    soft = np.array([[0.5, 0.25, np.nan, 0.0], [np.nan] * 4, [0.0] * 4], np.float32)
    step = Calibrated(method="temperature", activation="softmax", parameters=[[2.0]])
    after = applied(step, soft, soft)
    np.testing.assert_allclose(after[0], [0.6, 0.15, np.nan, 0], atol=1e-7)  # 4 : 1 of 0.75
    assert np.isnan(after[1]).all()
    assert (after[2] == 0).all()


@pytest.fixture
def corpus_of_two(tmp_path) -> softlabels.JoinedLabels:
    """400 clips of one window, half of them annotated, by a teacher that is wrong of each class in another way."""
    hard, soft = drawn(np.random.default_rng(0), 400, np.array([[2.0, 3.0], [0.6, 0.0]]))
    hard[1::2] = np.nan
    soft[7, 1] = np.nan
    return made_labels(tmp_path / "made", hard, soft)


def test_labels_carry_their_calibration_wherever_they_go(corpus_of_two, tmp_path) -> None:
    before = corpus_of_two.y_true()
    labels = corpus_of_two.calibrate()
    assert labels.calibration.used == "platt, per class"
    assert labels.fingerprint != corpus_of_two.fingerprint
    np.testing.assert_array_equal(corpus_of_two.y_true(), before)
    np.testing.assert_array_equal(labels.hard(), before[:, :2])
    np.testing.assert_array_equal(np.isnan(labels.soft()), np.isnan(before[:, 2:]))
    parameters = labels._steps[0].parameters
    expected = mapped(before[:, 2:], parameters, "platt")
    np.testing.assert_allclose(labels.soft(), expected, atol=1e-6)
    np.testing.assert_array_equal(labels.soft_at(["k3", "k7"], [0, 0]), labels.soft([3, 7]))
    rows = np.array([5, 399, 5, 0, 17])
    assert labels.y_true(rows).tobytes() == labels.y_true()[rows].tobytes()
    loaded = softlabels.load_labels(labels.save(tmp_path / "saved"))
    for again in (loaded, pickle.loads(pickle.dumps(labels)), pickle.loads(pickle.dumps(loaded.trust())).trust()):
        assert again.y_true().tobytes() == labels.y_true().tobytes()
        assert again.fingerprint == labels.fingerprint
        assert again.calibration == labels.calibration


def test_calibration_and_exclusive_classes_go_together_in_both_orders(corpus_of_two, tmp_path) -> None:
    first = corpus_of_two.calibrate().exclusive()
    odds = corpus_of_two.calibrate().soft([0]).astype(np.float64)[0]
    odds = np.append(odds / (1 - odds), 1)
    np.testing.assert_allclose(first.soft([0])[0], odds / odds.sum(), rtol=1e-5)
    second = corpus_of_two.exclusive().calibrate()
    assert (second.activation, second.calibration.used != "none") == ("softmax", True)
    sums = second.soft().sum(axis=1)  # NaN in rows of less than min_mass
    np.testing.assert_allclose(sums[~np.isnan(sums)], 1, atol=1e-5)
    assert first.fingerprint != second.fingerprint
    for labels in (first, second):
        assert softlabels.load_labels(labels.save(tmp_path / labels.fingerprint)).y_true().tobytes() == (
            labels.y_true().tobytes()
        )


def test_labels_are_calibrated_once(corpus_of_two) -> None:
    with pytest.raises(ValueError, match="the labels are calibrated already"):
        corpus_of_two.calibrate().calibrate()
    assert corpus_of_two.calibrate("none").calibrate().calibration.used == "platt, per class"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"method": "isotonic"},
            "method: expected 'platt', 'temperature', 'beta' or 'none', got 'isotonic'",
        ),
        ({"folds": 1}, "folds: expected 2 or more, got 1"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(corpus_of_two, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corpus_of_two.calibrate(**arguments)


def test_beta_is_refused_for_exclusive_classes(corpus_of_two) -> None:
    with pytest.raises(ValueError, match=r"these labels are distributions .* calibrate before exclusive\(\)"):
        corpus_of_two.exclusive().calibrate("beta")


# --- when nothing is done, and how it is said


def test_a_teacher_that_is_right_is_left_alone_and_the_report_says_so(caplog) -> None:
    hard, soft = drawn(np.random.default_rng(0), 300, np.array([[1.0, 0.0]] * 3))
    step, report = calibrate(examples(hard, soft), names(3), "sigmoid")
    assert step is None
    assert (report.used, report.before) == ("none", report.after)
    assert "'platt, per class' is not clearly better, held out: the labels stay as they are" in caplog.text


def test_the_shared_map_is_used_where_classes_do_not_differ(caplog) -> None:
    hard, soft = drawn(np.random.default_rng(2), 60, np.array([[1.5, 2.0]] * 3))
    step, report = calibrate(examples(hard, soft), names(3), "sigmoid")
    assert (report.used, step.parameters.shape) == ("platt, shared", (1, 2))
    assert "'platt, shared' is used (log-loss in nats: none" in caplog.text
    assert report.after.log_loss < report.before.log_loss


def test_too_few_annotations_change_nothing_and_are_counted(tmp_path, caplog) -> None:
    hard, soft = drawn(np.random.default_rng(0), 19, np.array([[2.0, 3.0]] * 2))
    labels = made_labels(tmp_path / "made", hard, soft)
    again = labels.calibrate()
    assert "expected 20 annotated clips or more, 10 positives and 10 negatives" in caplog.text
    assert (again.fingerprint, again.calibration.used) == (labels.fingerprint, "none")
    assert again.y_true().tobytes() == labels.y_true().tobytes()
    assert "got 19, " in str(again.calibration)


def test_clips_of_one_recording_are_not_enough(caplog) -> None:
    hard, soft = drawn(np.random.default_rng(0), 100, np.array([[2.0, 3.0]]))
    assert calibrate(examples(hard, soft, [0] * 100), names(1), "sigmoid")[0] is None
    assert "of 2 recordings or more; got 100, " in caplog.text


def test_two_recordings_of_one_class_each_can_be_measured() -> None:
    soft = np.repeat([[0.9, 0.1], [0.1, 0.9]], 30, axis=0).astype(np.float32)
    step, report = calibrate(examples((soft > 0.5).astype(np.float32), soft, [0] * 30 + [1] * 30), names(2), "sigmoid")
    assert report.folds == 2
    assert np.isfinite(report.after.log_loss)
    assert step is None or np.isfinite(step.parameters).all()


# --- which examples count


def test_a_clip_of_several_windows_counts_with_its_maxima(tmp_path) -> None:
    hard = np.array([[1, 0]] * 3 + [[0, np.nan]] * 3 + [[np.nan, np.nan]] * 3, np.float32)
    soft = np.array([[0.1, 0.2], [0.7, 0.1], [0.3, 0.4], [0.2, 0.9], [0.1, 0.9], [0.3, np.nan], *[[0.9, 0.9]] * 3])
    annotated = made_labels(tmp_path / "made", hard, soft, windows=3)._annotated()
    np.testing.assert_array_equal(annotated.hard, [[1, 0], [0, np.nan]])
    np.testing.assert_array_equal(annotated.soft, np.float32([[0.7, 0.4], [0.3, np.nan]]))
    assert annotated.clips == 2


def test_a_clip_annotated_in_time_counts_window_by_window(tmp_path) -> None:
    hard = np.array([[1, 0], [0, 0], [0, 0], [0, 0], [np.nan, 1], [np.nan, np.nan]], np.float32)
    soft = np.arange(1, 13).reshape(6, 2) / 20
    annotated = made_labels(tmp_path / "made", hard, soft, windows=2, in_time=True)._annotated()
    np.testing.assert_array_equal(annotated.hard, [[1, 0], [0, 0], [0, 0], [0, 0], [np.nan, 1]])
    np.testing.assert_array_equal(annotated.soft[:, 1], np.float32([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert annotated.group.tolist() == [0, 0, 1, 1, 2]
    assert not annotated.weak.any()


def test_a_clip_of_exclusive_classes_counts_with_its_surest_window(tmp_path) -> None:
    soft = np.array([[0.1, 0.1, 0.8], [0.6, 0.1, 0.3], [0.0, 0.3, 0.7], [0.2, 0.0, 0.8]])
    hard = np.array([[1, 0, 0]] * 2 + [[0, 0, 1]] * 2)
    made = made_labels(tmp_path / "a", hard, soft, windows=2, activation="softmax", classes=["a", "b", "rest"])
    np.testing.assert_array_equal(made._annotated().soft, np.float32([soft[1], soft[2]]))


def test_clips_that_the_teacher_was_trained_on_are_left_out(tmp_path) -> None:
    hard, soft = np.ones((4, 1)), np.full((4, 1), 0.5)
    made = made_labels(tmp_path / "made", hard, soft, split=["train", "teacher", "train", "teacher"])
    assert len(made._annotated()) == 2


def test_no_recording_is_in_two_folds_and_every_fold_has_its_share(tmp_path) -> None:
    rng = np.random.default_rng(0)
    hard = np.zeros((200, 3))
    hard[np.arange(200), rng.choice(3, 200, p=[0.1, 0.3, 0.6])] = 1
    paths = [f"{i // 2}.wav" for i in range(200)]
    annotated = made_labels(tmp_path / "made", hard, np.full((200, 3), 0.5), path=paths)._annotated()
    fold = annotated.folds(5)
    assert (fold[::2] == fold[1::2]).all()
    for positive in hard.T:
        shares = np.bincount(fold[positive == 1], minlength=5)
        assert shares.max() - shares.min() <= 4
    assert annotated.groups == 100


def test_the_folds_of_the_manifest_are_not_torn(tmp_path) -> None:
    folds = [str(i % 3) for i in range(60)]
    annotated = made_labels(tmp_path / "made", np.ones((60, 1)), np.full((60, 1), 0.5), fold=folds)._annotated()
    assert annotated.groups == 3
    one = made_labels(tmp_path / "one", np.ones((60, 1)), np.full((60, 1), 0.5), fold=["a"] * 60)._annotated()
    assert one.groups == 60  # one fold leaves nothing to hold out: the recordings count


def test_of_many_annotated_clips_a_part_is_looked_at(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("softlabels.evidence.examples.MAX_CLIPS", 10)
    monkeypatch.setattr("softlabels.evidence.examples._BLOCK", 7)
    made = made_labels(tmp_path / "made", np.ones((90, 2)), np.linspace(0, 1, 180).reshape(90, 2), windows=3)
    annotated = made._annotated()
    assert (len(annotated), annotated.clips) == (10, 10)
    np.testing.assert_array_equal(annotated.soft, made.soft(annotated.row + 2))  # their last windows are the surest
    assert np.unique(annotated.row // 9).tolist() == list(range(10))  # one of each tenth


# --- the report


def test_the_figures_are_those_worked_by_hand() -> None:
    said = np.array([[0.05, 0.95], [0.15, 0.95], [0.15, np.nan], [1.0, 0.5]])
    hard = np.array([[0, 1], [0, 0], [1, np.nan], [1, np.nan]])
    fit = fit_of(np.where(np.isnan(hard), np.nan, 0.5), said, hard)
    # bins: 0.05 (0 of 1 present), 0.15 twice (1 of 2), and 0.95, 0.95, 1.0 (2 of 3)
    error = (1 * 0.05 + 2 * abs(0.15 - 0.5) + 3 * abs(2.9 / 3 - 2 / 3)) / 6
    brier = (0.05**2 + 0.15**2 + 0.85**2 + 0 + 0.05**2 + 0.95**2) / 6
    assert (fit.log_loss, fit.brier, fit.calibration_error) == pytest.approx((0.5, brier, error))


def test_the_report_prints_and_saves(corpus_of_two, tmp_path) -> None:
    report = corpus_of_two.calibrate().calibration
    report.save(tmp_path / "report.json")
    values = json.loads((tmp_path / "report.json").read_text())
    assert CalibrationReport.from_json(values) == report
    assert sum(Bin(**b).count for b in values["per_class"][0]["reliability_after"]) == 200
    text = str(report)
    assert "platt, per class  (asked: platt, per class)" in text
    assert "200 examples of 200 clips, 200 recordings" in text
    assert "log-loss" in text
    assert "class 1" in text
