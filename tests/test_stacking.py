"""Stacked teachers on simulated ones: what they gain, and that nothing is found where there is nothing."""

import dataclasses
import logging

import numpy as np
import pytest
from loss_reference import sigmoid, softmax
from scipy.optimize import minimize
from test_calibrate import examples, log_loss, names

from softlabels.calibration.calibrate import calibrate
from softlabels.calibration.stacking import Opinions, Stacking, fit_weights, held_out_opinions, stack

CLASSES, TEST = 10, 2000


def one_hot(rng: np.random.Generator, rows: int) -> np.ndarray:
    """(rows, classes) one class each."""
    return np.eye(CLASSES)[rng.integers(CLASSES, size=rows)]


def teacher(rng, present: np.ndarray, skill: float, noise=0.0, slope: float = 1.0) -> np.ndarray:
    """Probabilities by evidence of so many standard deviations, and, with slope 1 and no common noise, calibrated."""
    evidence = skill * present + noise + rng.normal(size=present.shape)
    return sigmoid(slope * (skill * evidence - skill**2 / 2 - np.log(CLASSES - 1))).astype(np.float32)


def teachers_of(scenario: str, rng, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """-> hard (rows, classes) and soft (teachers, rows, classes)."""
    hard = one_hot(rng, rows)
    nothing, common = np.zeros_like(hard), rng.normal(size=hard.shape)
    soft = np.stack(
        {
            "useless": lambda: [teacher(rng, hard, 3.0, slope=0.6), teacher(rng, nothing, 2.0)],
            "independent": lambda: [teacher(rng, hard, 2.5, slope=0.6), teacher(rng, hard, 2.5, slope=1.5)],
            "alike": lambda: [teacher(rng, hard, 2.0, common), teacher(rng, hard, 2.0, common)],
            "lacking": lambda: [teacher(rng, hard, 2.5, slope=0.6), teacher(rng, hard, 2.5)],
            "three": lambda: [teacher(rng, here, 2.0) for here in (hard, hard, nothing)],
        }[scenario]()
    )
    if scenario == "lacking":
        soft[1, :, CLASSES // 2 :] = np.nan
    if scenario == "three":
        soft[:2][rng.random((2, rows)) < 0.3] = np.nan
    return hard, soft


def learned(hard: np.ndarray, soft: np.ndarray, group=None) -> tuple[Stacking, list]:
    """What a join finds out from annotated examples, and the calibration of each teacher."""
    spoken = np.where(np.isnan(soft).all(axis=0), np.nan, hard).astype(np.float32)
    annotated, steps, used = examples(spoken, np.float32(0) * spoken, group), [], []
    for one in soft:
        own = dataclasses.replace(annotated, hard=np.where(np.isnan(one), np.nan, spoken), soft=one)
        step, report = calibrate(own, names(CLASSES), "sigmoid")
        steps.append(step)
        used.append(report.used)
    fold = annotated.folds(5)
    opinions = held_out_opinions(annotated, soft.astype(np.float64), used, fold, "platt", "sigmoid")
    return stack(annotated.hard, opinions, annotated.recording, fold), steps


def spoken(soft: np.ndarray, steps: list) -> Opinions:
    """What calibrated teachers say of new rows."""
    said = np.stack([one if step is None else mapped(step, one) for one, step in zip(soft, steps, strict=True)])
    count = np.maximum((said == said).sum(axis=0), 1)
    return Opinions(
        soft=said.astype(np.float64),
        prior=np.zeros((len(soft), CLASSES)),
        mean=np.nan_to_num(said).sum(axis=0) / count,
        activation="sigmoid",
    )


def mapped(step, soft: np.ndarray) -> np.ndarray:
    return step.apply(soft, soft.copy(), np.zeros(len(soft), bool))[1]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("scenario", "rows", "most"),  # most: of the mean's log-loss, on recordings that nobody annotated
    [
        ("useless", 60, 0.65),
        ("useless", 300, 0.6),
        ("independent", 60, 0.7),
        ("independent", 300, 0.6),
        ("alike", 300, 1.0),
        ("lacking", 300, 0.85),
        ("three", 300, 0.8),
    ],
)
def test_stacked_teachers_beat_their_mean_where_nobody_annotated(scenario: str, rows: int, most: float, seed) -> None:
    rng = np.random.default_rng([seed, rows])
    hard, soft = teachers_of(scenario, rng, rows + TEST)
    found, steps = learned(hard[:rows], soft[:, :rows])
    assert found.weights is not None or scenario == "alike"
    opinions, hard = spoken(soft[:, rows:], steps), hard[rows:]
    known = ~np.isnan(soft[:, rows:]).all(axis=0)
    mean = log_loss(hard[known], opinions.mean[known])
    if found.weights is not None:
        assert log_loss(hard[known], opinions.probabilities(found.weights)[known]) <= most * mean
    if scenario == "useless":
        alone = log_loss(hard, opinions.soft[0])
        assert found.stacked < found.mean < found.alone[1]
        assert log_loss(hard, opinions.probabilities(found.weights)) <= alone * (1.1 if rows < 100 else 1.03)


def test_the_held_out_log_loss_is_that_of_rows_which_nobody_annotated() -> None:
    apart = []
    for seed in range(8):
        rng = np.random.default_rng([3, seed])
        hard, soft = teachers_of("independent", rng, 300 + TEST)
        found, steps = learned(hard[:300], soft[:, :300])
        p = np.clip(spoken(soft[:, 300:], steps).probabilities(found.weights), 2**-24, 1 - 2**-24)
        losses = -np.where(hard[300:] == 1, np.log(p), np.log1p(-p)).mean(axis=1)
        apart.append((found.stacked - losses.mean()) / (losses.std() * np.sqrt(1 / 300 + 1 / TEST)))
    assert np.abs(apart).max() < 3
    assert abs(np.mean(apart)) < 2 / np.sqrt(len(apart))


@pytest.mark.parametrize(("rows", "size"), [(30, 1), (200, 1), (200, 25)])
def test_of_random_labels_nothing_is_learned(rows: int, size: int, caplog) -> None:
    """Ten draws here; of 200 in each of eight settings none was adopted either (2026-11-25)."""
    caplog.set_level(logging.ERROR)
    for seed in range(10):
        rng = np.random.default_rng([7, seed, rows, size])
        hard, soft = teachers_of("independent", rng, rows)
        found, _ = learned(rng.permutation(hard), soft, np.arange(rows) // size)
        assert found.weights is None, seed


def test_weights_are_the_optimum_that_scipy_finds_and_never_below_0() -> None:
    rng = np.random.default_rng(1)
    hard, soft = teachers_of("useless", rng, 400)
    soft = np.stack([soft[0], 1 - soft[0] * 0.9, soft[1]]).astype(np.float64)  # the second is upside down
    opinions = Opinions(soft=soft, prior=np.zeros((3, CLASSES)), mean=soft.mean(axis=0), activation="sigmoid")
    found = fit_weights(hard, opinions)[7]
    z = np.log(np.clip(soft, 2**-24, 1 - 2**-24)) - np.log1p(-np.clip(soft, 2**-24, 1 - 2**-24))

    def posterior(x):
        logits = np.tensordot(x[:3], z, axes=1) + x[3]
        penalty = ((x[:3] - 1 / 3) ** 2).sum() / 2 + (x[3] / 3) ** 2 / 2
        return (np.logaddexp(0, logits) - hard * logits).sum() + penalty

    best = minimize(posterior, [1 / 3] * 3 + [0], bounds=[(0, None)] * 3 + [(None, None)], method="L-BFGS-B")
    np.testing.assert_allclose(found, best.x, atol=2e-3)
    assert found[1] == 0


def test_each_set_of_teachers_has_its_own_weights_and_one_alone_is_left_as_it_is() -> None:
    rng = np.random.default_rng(2)
    hard, soft = teachers_of("three", rng, 400)
    soft = soft.astype(np.float64)
    soft[2, rng.random(400) < 0.3] = np.nan
    mean = np.nan_to_num(soft).sum(axis=0) / np.maximum((soft == soft).sum(axis=0), 1)
    opinions = Opinions(soft=soft, prior=np.zeros((3, CLASSES)), mean=mean, activation="sigmoid")
    weights = fit_weights(hard, opinions)
    assert np.isnan(weights[[0, 1, 2, 4]]).all(), "nobody, and each one alone"
    assert (weights[0b011, [0, 1]] > 0.7).all(), "both are needed where both spoke"
    np.testing.assert_array_equal(weights[[0b011, 0b101, 0b110], [2, 1, 0]], 0.0)
    row = np.flatnonzero(np.isnan(soft[:2]).all(axis=(0, 2)) & ~np.isnan(soft[2, :, 0]))[0]
    np.testing.assert_array_equal(opinions.probabilities(weights)[row], soft[2, row])
    few = fit_weights(np.where(np.arange(400)[:, None] < 15, hard, np.nan), opinions)
    np.testing.assert_array_equal(opinions.probabilities(few), mean)
    nobody = np.isnan(soft).all(axis=(0, 2))
    assert nobody.any()
    np.testing.assert_array_equal(opinions.probabilities(weights)[nobody], mean[nobody])


def test_a_correction_for_other_frequencies_is_no_opinion_and_is_kept() -> None:
    rng = np.random.default_rng(4)
    hard = one_hot(rng, 300)
    soft = np.stack([teacher(rng, hard, 1.0), teacher(rng, hard, 1.0)]).astype(np.float64)
    plain = Opinions(soft=soft, prior=np.zeros((2, CLASSES)), mean=soft.mean(axis=0), activation="sigmoid")
    weights = fit_weights(hard, plain)
    shift = rng.normal(size=(2, CLASSES))
    odds = soft / (1 - soft) * np.exp(shift)[:, None]
    moved = Opinions(soft=odds / (1 + odds), prior=shift, mean=soft.mean(axis=0), activation="sigmoid")
    expected = plain.stacked(weights) + shift.mean(axis=0)
    np.testing.assert_allclose(moved.probabilities(weights), sigmoid(expected), rtol=1e-9)


def test_exclusive_teachers_are_stacked_too_and_rows_keep_their_sum() -> None:
    rng = np.random.default_rng(5)
    hard = one_hot(rng, 600)
    logits = [2.0 * (hard * skill + rng.normal(size=hard.shape)) for skill in (2.5, 2.5, 0.0)]
    soft = np.stack([softmax(each) for each in logits]) * 0.9  # a tenth is left for classes that nobody asked for
    soft[1, ::7] = np.nan
    soft[:, ::35] = np.nan
    nobody = np.isnan(soft).all(axis=0)
    mean = np.where(nobody, np.nan, np.nan_to_num(soft).sum(axis=0) / np.maximum((soft == soft).sum(axis=0), 1))
    opinions = Opinions(soft=soft, prior=np.zeros((3, CLASSES)), mean=mean, activation="softmax")
    annotated = np.where(nobody, np.nan, hard)[:300]
    known = ~nobody.any(axis=1)[:300]
    found = stack(
        annotated[known], opinions.part(np.flatnonzero(known)), np.arange(known.sum()), np.arange(known.sum()) % 5
    )
    assert found.weights is not None
    assert found.stacked < 0.7 * found.mean
    p, rows = opinions.probabilities(found.weights), ~nobody.any(axis=1)
    np.testing.assert_allclose(p[rows].sum(axis=1), 0.9, rtol=1e-6)
    assert np.isnan(p[~rows]).all()
    assert (hard * np.log(p))[300:][rows[300:]].sum() > (hard * np.log(mean))[300:][rows[300:]].sum()
