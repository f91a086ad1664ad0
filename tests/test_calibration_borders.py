"""Calibration at the borders: one-sided labels, long clips, classes in turn, few recordings, samples that are none."""

import numpy as np
import pytest
from conftest import Corpus, label
from made_labels import made_labels, sigmoid

import softlabels
from softlabels.calibration.candidates import clearly_above_zero
from softlabels.calibration.fit import Evidence, fit_classes, fit_shared
from softlabels.evidence.agreement import one_of_each_stretch


def log_loss(hard: np.ndarray, soft: np.ndarray) -> float:
    soft = np.clip(soft.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-1e3 * np.mean(hard * np.log(soft) + (1 - hard) * np.log(1 - soft)))


def drawn(rng, rows: int, classes: int, *, slope: float = 1.0, shift: float = 0.0, mean: float = -3.0) -> tuple:
    """Hard labels, and a teacher whose log-odds are off by a slope and a shift."""
    truth = rng.normal(mean, 2.5, (rows, classes))
    return (rng.random(truth.shape) < sigmoid(truth)).astype(np.float32), sigmoid((truth - shift) / slope)


# --- one-sided labels


@pytest.mark.parametrize("negatives", [0, 1, 4])
@pytest.mark.parametrize("positives", [3, 60])
def test_a_class_annotated_only_where_it_is_keeps_the_map_of_all(
    tmp_path, caplog, positives: int, negatives: int
) -> None:
    rng = np.random.default_rng(0)
    hard, soft = drawn(rng, 600, 4, slope=2.0, shift=1.0)
    there = np.flatnonzero(hard[:, 3] == 1)[:positives]
    absent = np.flatnonzero(hard[:, 3] == 0)[:negatives]
    told = np.full(600, np.nan)
    told[there], told[absent] = 1, 0
    hard[:, 3] = told
    labels = made_labels(tmp_path / "made", hard, soft).calibrate()
    (step,) = labels._steps
    shared = fit_shared(Evidence.of(hard, soft.astype(np.float32), "platt", "sigmoid"), "platt")
    np.testing.assert_allclose(np.broadcast_to(step.parameters, (4, 2))[3], shared[0])
    assert "1 classes are annotated where they are, but in less than 5 clips where they are not" in caplog.text
    assert "class 3" in " ".join(labels.calibration.warnings)


def test_with_absences_enough_a_class_has_a_map_of_its_own() -> None:
    hard, soft = drawn(np.random.default_rng(1), 600, 2, slope=2.0)
    hard[np.flatnonzero(hard[:, 1] == 0)[30:], 1] = np.nan
    evidence = Evidence.of(hard, soft.astype(np.float32), "platt", "sigmoid")
    shared = fit_shared(evidence, "platt")
    assert not np.allclose(fit_classes(evidence, "platt", shared)[1], shared[0])


def test_a_class_without_a_positive_is_named(tmp_path, caplog) -> None:
    hard, soft = drawn(np.random.default_rng(0), 300, 3, slope=2.0)
    hard[:, 1] = 0
    labels = made_labels(tmp_path / "made", hard, soft).calibrate()
    assert "1 classes have no annotated positive" in caplog.text
    assert "class 1" in str(labels.calibration)


# --- long clips


def long_clips(rng, clips: int, windows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A perfect teacher on windows; the label of a clip is whether any of its windows has the class."""
    truth, soft = drawn(rng, clips * windows, 3, mean=-6.0)
    per_clip = truth.reshape(clips, windows, 3).max(axis=1)
    return truth, np.repeat(per_clip, windows, axis=0), soft


@pytest.mark.parametrize("windows", [2, 20, 100])
def test_a_perfect_teacher_is_left_alone_on_the_windows_of_long_clips(tmp_path, caplog, windows: int) -> None:
    truth, weak, soft = long_clips(np.random.default_rng(0), 300, windows)
    labels = made_labels(tmp_path / "made", weak, soft, windows=windows)
    after = labels.calibrate()
    assert after.calibration.used == "none"
    assert log_loss(truth, after.soft()) == log_loss(truth, labels.soft())
    assert "300 annotated clips of several windows do not say in which of them" in caplog.text


@pytest.fixture
def mixed(tmp_path):
    """150 clips of one window and 100 of four, a teacher whose log-odds are halved; in_time -> labels."""

    def make(in_time: list[bool]) -> tuple[softlabels.JoinedLabels, np.ndarray]:
        rng = np.random.default_rng(0)
        hard, soft = drawn(rng, 550, 3, slope=2.0, shift=1.0)
        windows = np.array([1] * 150 + [4] * 100)
        clip = np.repeat(np.arange(250), windows)
        weak = np.repeat(~np.array(in_time), windows) & (clip >= 150)
        for c in range(250):
            if weak[clip == c].any():
                hard[clip == c] = hard[clip == c].max(axis=0)
        return made_labels(tmp_path / f"made{sum(in_time)}", hard, soft, windows=windows, in_time=in_time), weak

    return make


def test_windows_of_weakly_labelled_clips_stay_and_others_are_mapped(mixed) -> None:
    labels, weak = mixed([False] * 250)
    after = labels.calibrate()
    assert after.calibration.examples == 150
    np.testing.assert_array_equal(after.soft()[weak], labels.soft()[weak])
    assert np.abs(after.soft()[~weak] - labels.soft()[~weak]).max() > 0.01
    rows = np.array([549, 3, 149, 150, 3])
    assert after.y_true(rows).tobytes() == after.y_true()[rows].tobytes()


def test_windows_annotated_in_time_speak_for_those_of_other_long_clips(mixed) -> None:
    labels, weak = mixed([False] * 200 + [True] * 50)
    after = labels.calibrate()
    assert after.calibration.examples == 150 + 200
    assert np.abs(after.soft()[weak] - labels.soft()[weak]).max() > 0.01


def test_a_silent_clip_annotated_in_time_counts_window_by_window(corpus: Corpus, tmp_path) -> None:
    store = label(corpus, overlap_s=0.02)
    ids = store.to_pandas().clip_id
    several = ids.value_counts().index[0]
    whole = tmp_path / "extents.csv"
    whole.write_text(f"clip_id,start_s,end_s\n{several},0,1000\n")
    boxes = tmp_path / "boxes.csv"
    other = next(i for i in ids.unique() if i != several)
    boxes.write_text(f"clip_id,start_s,end_s,label\n{other},0,0.05,{store.classes[0]}\n")
    labels = store.join(corpus.manifest, annotations=boxes, annotated_extents=whole, canary=False)
    rows = np.flatnonzero(labels.keys.clip_id == several)
    assert len(rows) > 1
    assert (labels.hard(rows) == 0).all()  # nothing sounds in it
    annotated = labels._annotated()
    assert np.isin(rows, annotated.row).all()
    assert not annotated.weak[np.isin(annotated.row, rows)].any()


# --- many clips, classes in turn


@pytest.mark.parametrize(("clips", "most", "turn"), [(10_000, 1000, 10), (3000, 1000, 3), (5000, 500, 100)])
def test_of_classes_that_come_in_turn_none_is_lost(clips: int, most: int, turn: int) -> None:
    drawn = one_of_each_stretch(np.arange(clips), most)
    assert len(drawn) == most
    assert (np.diff(drawn) > 0).all()
    counts = np.bincount(drawn % turn, minlength=turn)
    expected = most / turn
    assert counts.min() > expected - 4 * np.sqrt(expected)


def test_of_a_long_class_list_the_classes_with_positives_are_looked_at(tmp_path) -> None:
    rng = np.random.default_rng(0)
    hard, soft = np.zeros((200, 500), np.float32), sigmoid(rng.normal(-4, 1, (200, 500)))
    hard[np.arange(200), 5 + np.arange(200) % 3 * 100] = 1
    soft = np.where(hard == 1, 0.4, soft)
    labels = made_labels(tmp_path / "made", hard, soft)
    from softlabels.labels.arrays import annotated_clips

    found = annotated_clips(
        labels._saved.arrays, labels.y_true, labels.classes, "sigmoid", pooled=False, max_values=4000
    )
    assert found.columns.tolist() == [5, 105, 205]
    assert found.clips == 200


# --- few recordings


@pytest.mark.parametrize("recordings", [2, 3, 5, 30])
def test_noise_is_clearly_above_zero_as_often_as_two_standard_errors_say(recordings: int) -> None:
    rng = np.random.default_rng(recordings)
    recording = np.arange(60) % recordings
    # What windows of a recording share is most of it, so a recording is one observation.
    accepted = np.mean(
        [
            clearly_above_zero(rng.normal(0, 0.1, 60) + rng.normal(0, 1, recordings)[recording], recording, 2.0)
            for _ in range(2000)
        ]
    )
    assert accepted < 0.0228 + 4 * np.sqrt(0.0228 / 2000)


def test_recordings_are_the_unit_inside_folds_of_the_manifest(tmp_path) -> None:
    hard, soft = drawn(np.random.default_rng(0), 60, 2)
    folds = [str(i % 2) for i in range(60)]
    annotated = made_labels(tmp_path / "made", hard, soft, fold=folds)._annotated()
    assert (annotated.groups, len(np.unique(annotated.recording))) == (2, 60)


# --- annotated clips that are no random sample


def skewed(rng, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Five classes, each half as frequent as the one before, and a teacher that is unsure of itself."""
    frequent = 0.3 * 0.5 ** np.arange(5)
    which = rng.choice(6, rows, p=[*frequent, 1 - frequent.sum()])
    hard = (which[:, None] == np.arange(5)).astype(np.float32)
    evidence = rng.normal(0, 2.5, (rows, 5)) + np.where(hard == 1, 3.1, -3.1)
    return which, hard, sigmoid(0.6 * (evidence + np.log(frequent / (1 - frequent))) - 1)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_annotations_over_a_skewed_pool_are_corrected(tmp_path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    which, truth, soft = skewed(rng, 6000)
    chosen = np.concatenate([np.flatnonzero(which == c)[:60] for c in range(6)])
    hard = np.full(truth.shape, np.nan, np.float32)
    hard[chosen] = truth[chosen]
    rest = np.isnan(hard[:, 0])
    labels = made_labels(tmp_path / "made", hard, soft)
    after = labels.calibrate()
    (step,) = after._steps
    uncorrected = softlabels.calibration.maps.Calibrated(
        method=step.method, activation="sigmoid", parameters=step.parameters
    )
    without = uncorrected.apply(truth, soft.astype(np.float32), np.zeros(len(soft), bool))[1]
    found = log_loss(truth[rest], after.soft()[rest])
    assert found < 0.95 * log_loss(truth[rest], without[rest])
    assert "no random sample: corrected" in " ".join(after.calibration.warnings)
    assert 1e3 * after.calibration.after.log_loss == pytest.approx(found, rel=0.25)


def test_a_random_sample_is_not_corrected(tmp_path) -> None:
    corrected = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        _, truth, soft = skewed(rng, 3000)
        hard = np.full(truth.shape, np.nan, np.float32)
        chosen = rng.choice(3000, 240, replace=False)
        hard[chosen] = truth[chosen]
        labels = made_labels(tmp_path / f"made{seed}", hard, soft).calibrate()
        corrected.append(any("no random sample" in warning for warning in labels.calibration.warnings))
    assert sum(corrected) <= 1


# --- the mixture, an option for weak labels


def sung(rng, clips: int, windows: int, *, leak: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where two classes sound, the labels of the clips, and a teacher that is unsure of itself.

    leak: how much higher its log-odds are in the silent windows of a clip with the class.
    """
    there = np.repeat(rng.random((clips, 2)) < 0.3, windows, axis=0)
    truth = there & (rng.random(there.shape) < 0.25)
    weak = np.repeat(truth.reshape(clips, windows, 2).any(axis=1), windows, axis=0)
    evidence = rng.normal(0, 2, truth.shape) + np.where(truth, 4, 0) + leak * (weak & ~truth)
    return truth.astype(np.float32), weak.astype(np.float32), sigmoid(0.4 * evidence - 1)


def test_a_mixture_learns_windows_from_weak_labels_where_nothing_leaks(tmp_path) -> None:
    truth, weak, soft = sung(np.random.default_rng(0), 300, 10)
    labels = made_labels(tmp_path / "made", weak, soft, windows=10)
    after = labels.calibrate("mixture")
    assert after.calibration.used == "mixture"
    assert log_loss(truth, after.soft()) < 0.5 * log_loss(truth, labels.soft())
    assert after.soft().mean() == pytest.approx(truth.mean(), rel=0.2)
    with pytest.raises(ValueError, match="calibrated already"):
        after.calibrate()


def test_a_mixture_takes_leaking_windows_for_singing_ones(tmp_path) -> None:
    """Its failure, stated: weak labels cannot show it."""
    truth, weak, soft = sung(np.random.default_rng(0), 300, 10, leak=2.0)
    after = made_labels(tmp_path / "made", weak, soft, windows=10).calibrate("mixture")
    assert after.soft().mean() > 1.5 * truth.mean()


def test_a_mixture_needs_weak_labels_and_independent_windows(tmp_path, caplog) -> None:
    hard, soft = drawn(np.random.default_rng(0), 100, 2)
    labels = made_labels(tmp_path / "made", hard, soft)
    assert labels.calibrate("mixture").calibration.used == "none"
    assert "expected 20 weakly labelled clips of several windows or more" in caplog.text
    with pytest.raises(ValueError, match="'mixture' is of windows of independent classes"):
        labels.exclusive().calibrate("mixture")


def test_a_mixture_changes_nothing_on_random_labels(tmp_path) -> None:
    rng = np.random.default_rng(0)
    _, weak, soft = sung(rng, 200, 6)
    weak = np.repeat(rng.permutation(weak[::6]), 6, axis=0)
    labels = made_labels(tmp_path / "made", weak, soft, windows=6)
    after = labels.calibrate("mixture").soft()
    assert np.abs(after - after.mean(axis=0)).max() < 0.1 or (after == labels.soft()).all()
