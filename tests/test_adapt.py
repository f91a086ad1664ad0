"""Adaptation: annotated clips teach the teacher; when that is believed, what it reaches, and that nothing leaks."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Corpus
from made_labels import sigmoid
from scipy import optimize

import pipeline
import softlabels
from softlabels.adaptation import components as components_module
from softlabels.adaptation.adapt import Adaptation, adapt
from softlabels.adaptation.components import StoredRows, find_components, sample_logits
from softlabels.adaptation.probe import BIAS_PENALTY, fit_probe, with_bias
from softlabels.classes.class_list import ClassList
from softlabels.evidence.examples import Annotated, Unannotated

# --- worlds with a known truth: components decide, the teacher sees them through a distortion

CLASSES = 4


def world(rng, rows: int, *, prevalence: float = 0.2, known: float = 0.5, slope: float = 1.0, k: int = 16) -> tuple:
    """Hidden components, labels that they make likely, and a teacher that knows a share of them.

    Returns: components (rows, k), hard and the teacher's probabilities, (rows, CLASSES) each, and the true ones.
    """
    components = rng.normal(0, 1, (rows, k)).astype(np.float32)
    weights = np.random.default_rng(99).normal(0, 1.5, (k, CLASSES))
    weights[:, 3] = 0
    weights[3, 3] = 4
    logits = components @ weights
    shift = [optimize.brentq(lambda b, x=x: sigmoid(x + b).mean() - prevalence, -40, 20) for x in logits.T]
    truth = sigmoid(logits + shift)
    hard = (rng.random(truth.shape) < truth).astype(np.float32)
    heard = components[:, : k // 2] @ weights[: k // 2] * known + rng.normal(0, 0.5, logits.shape)
    return components, hard, sigmoid(slope * (heard + shift)).astype(np.float32), truth


def examples(hard: np.ndarray, soft: np.ndarray, row: np.ndarray, group: np.ndarray | None = None) -> Annotated:
    none = np.zeros(len(hard), bool)
    return Annotated(
        hard=hard,
        soft=soft,
        columns=np.arange(hard.shape[1]),
        row=row,
        several=none,
        weak=none,
        recording=row if group is None else group,
        group=row if group is None else group,
        clips=len(hard),
        all_clips=len(hard),
    )


def taught(rng, components, hard, soft, row, *, blind: tuple[int, ...] = (), rest=None, group=None):
    """adapt() with `row` annotated and all others (or `rest`) not; -> what it is, the report, and all rows after it."""
    lacks = np.isin(np.arange(hard.shape[1]), blind)
    soft = np.where(lacks, np.nan, soft).astype(np.float32)
    others = np.setdiff1d(np.arange(len(hard)), row) if rest is None else rest
    unannotated = Unannotated(soft=soft[others], row=others, recording=others, weak=np.zeros(len(others), bool))
    names = ClassList(tuple(f"class {c}" for c in range(hard.shape[1])))
    annotated = examples(hard[row], soft[row], row, group)
    change, report = adapt(annotated, components, names, "sigmoid", blind=lacks, unannotated=unannotated)
    return change, report, soft if change is None else change.apply(np.arange(len(hard)), soft, components)


def log_loss(hard: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n,) nats of each row, its classes' mean."""
    p = np.clip(p.astype(np.float64), 1e-9, 1 - 1e-9)
    return -(hard * np.log(p) + (1 - hard) * np.log(1 - p)).mean(axis=1)


def test_what_the_teacher_gave_beside_its_classes_is_used(caplog) -> None:
    rng = np.random.default_rng(0)
    components, hard, soft, truth = world(rng, 4000)
    row = np.sort(rng.choice(4000, 300, replace=False))
    rest = np.setdiff1d(np.arange(4000), row)
    _, report, after = taught(rng, components, hard, soft, row)
    assert report.used == "adapted"
    raw, adapted, best = (log_loss(hard[rest], p[rest]).mean() for p in (soft, after, truth))
    assert adapted - best < 0.45 * (raw - best)
    assert report.candidates["adapted"].log_loss == pytest.approx(adapted, rel=0.15)
    assert report.after.average_precision > report.before.average_precision + 0.1


def test_annotated_clips_get_what_had_not_seen_them() -> None:
    rng = np.random.default_rng(1)
    components, hard, soft, _ = world(rng, 2000)
    row = np.sort(rng.choice(2000, 120, replace=False))
    rest = np.setdiff1d(np.arange(2000), row)
    _, report, after = taught(rng, components, hard, soft, row)
    on_annotated, elsewhere = (log_loss(hard[part], after[part]) for part in (row, rest))
    error = on_annotated.std() / np.sqrt(len(row))
    assert on_annotated.mean() > elsewhere.mean() - 2 * error, "they repeat their own labels"
    assert report.after.log_loss == pytest.approx(on_annotated.mean(), rel=1e-4)


def test_the_label_of_a_clip_never_reaches_its_own_soft_label() -> None:
    rng = np.random.default_rng(2)
    components, hard, soft, _ = world(rng, 1500)
    row, folds = np.sort(rng.choice(1500, 200, replace=False)), np.arange(200) % 5
    _, _, before = taught(rng, components, hard, soft, row, group=folds)
    other = hard.copy()
    other[row[7]] = 1 - other[row[7]]
    _, _, after = taught(rng, components, other, soft, row, group=folds)
    moved = np.abs(after[row] - before[row]).max(axis=1)
    assert moved[folds != 2].max() > 0.02, "the others were taught with it"
    assert moved[7] == pytest.approx(0, abs=1e-6), "its own fold was not"


def test_a_class_that_the_teacher_lacks_is_taught_to_it() -> None:
    rng = np.random.default_rng(3)
    components, hard, soft, _ = world(rng, 3000)
    row = np.sort(rng.choice(3000, 300, replace=False))
    rest = np.setdiff1d(np.arange(3000), row)
    _, report, after = taught(rng, components, hard, soft, row, blind=(3,))
    assert not np.isnan(after[:, 3]).any()
    assert "1 classes that the teacher lacks were taught to it: 'class 3'" in str(report)
    known = log_loss(hard[rest, 3:], after[rest, 3:]).mean()
    constant = log_loss(hard[rest, 3:], np.full((len(rest), 1), hard[row, 3].mean())).mean()
    assert known < 0.6 * constant


def test_a_class_that_nothing_tells_of_stays_without_a_label() -> None:
    rng = np.random.default_rng(4)
    components, hard, soft, _ = world(rng, 2000)
    hard[:, 3] = rng.random(2000) < 0.2
    row = np.sort(rng.choice(2000, 200, replace=False))
    _, _, after = taught(rng, components, hard, soft, row, blind=(3,))
    assert np.isnan(after[:, 3]).all()
    assert not np.isnan(after[:, :3]).any()


@pytest.mark.parametrize("annotated", [40, 120])
def test_on_random_labels_nothing_is_taught(annotated: int) -> None:
    adopted = 0
    rng = np.random.default_rng(5)
    components, hard, soft, _ = world(rng, 1000)
    for _ in range(25):
        row = np.sort(rng.choice(1000, annotated, replace=False))
        shuffled = hard.copy()
        shuffled[row] = hard[rng.permutation(row)]
        _, report, after = taught(rng, components, shuffled, soft, row, blind=(3,), rest=row[:0])
        adopted += report.used == "adapted" or not np.isnan(after[:, 3]).all()
    assert adopted <= 1  # `bench_adapt.py` draws 200


SCENARIOS = {
    "as it is": {},
    "sure of itself": {"slope": 3.0},
    "unsure": {"slope": 0.3},
    "deaf": {"known": 0.0},
    "rare": {"prevalence": 0.02},
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_report_says_what_held_out_clips_show(scenario: str) -> None:
    reported, shown, variances = [], [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        components, hard, soft, _ = world(rng, 3000, **SCENARIOS[scenario])
        row = np.sort(rng.choice(3000, 300, replace=False))
        rest = np.setdiff1d(np.arange(3000), row)
        _, report, after = taught(rng, components, hard, soft, row)
        reported.append(report.after.log_loss)
        shown.append(log_loss(hard[rest], after[rest]).mean())
        variances.append(log_loss(hard[row], after[row]).var() / len(row))
    error = np.sqrt(np.sum(variances)) / len(variances)
    assert abs(np.mean(shown) - np.mean(reported)) < 2 * error


def test_balanced_annotations_over_a_skewed_pool_are_noticed() -> None:
    rng = np.random.default_rng(6)
    components, hard, soft, _ = world(rng, 8000, prevalence=0.05)
    chosen = [np.flatnonzero(hard[:, c] == 1)[:60] for c in range(CLASSES)]
    row = np.unique(np.concatenate([*chosen, np.flatnonzero(hard.max(axis=1) == 0)[:60]]))
    rest = np.setdiff1d(np.arange(8000), row)
    change, report, after = taught(rng, components, hard, soft, row)
    uncorrected = Adaptation(**{**{n: getattr(change, n) for n in change.__slots__}, "prior": np.zeros(CLASSES)})
    without = uncorrected.apply(np.arange(8000), soft, components)
    assert "no random sample" in " ".join(report.warnings)
    found = log_loss(hard[rest], after[rest]).mean()
    assert found < 0.9 * log_loss(hard[rest], without[rest]).mean()
    assert report.after.log_loss == pytest.approx(found, rel=0.35)


def test_too_few_clips_change_nothing() -> None:
    rng = np.random.default_rng(7)
    components, hard, soft, _ = world(rng, 500)
    change, report, _ = taught(rng, components, hard, soft, np.arange(5))
    assert change is None
    assert "got 5, " in report.note


def test_clips_of_one_recording_are_not_enough() -> None:
    rng = np.random.default_rng(8)
    components, hard, soft, _ = world(rng, 300)
    row = np.arange(100)
    unannotated = Unannotated(soft=soft[200:], row=row[:0], recording=row[:0], weak=np.zeros(100, bool))
    one = examples(hard[row], soft[row], row, np.zeros(100, int))
    names = ClassList(tuple("abcd"))
    change, report = adapt(one, components, names, "sigmoid", blind=np.zeros(4, bool), unannotated=unannotated)
    assert change is None
    assert "2 recordings or more" in report.note


def test_exclusive_classes_are_taught_together() -> None:
    rng = np.random.default_rng(9)
    components = rng.normal(0, 1, (2000, 12)).astype(np.float32)
    weights = np.random.default_rng(1).normal(0, 1.2, (12, 3))
    logits = components @ weights
    truth = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    hard = np.eye(3, dtype=np.float32)[(rng.random((2000, 1)) > truth.cumsum(axis=1)).sum(axis=1)]
    soft = np.exp(components[:, :5] @ weights[:5])  # it has an ear for a part of it
    soft = (soft / soft.sum(axis=1, keepdims=True)).astype(np.float32)
    row = np.sort(rng.choice(2000, 200, replace=False))
    nobody = Unannotated(soft=soft[:0], row=row[:0], recording=row[:0], weak=np.zeros(0, bool))
    change, report = adapt(
        examples(hard[row], soft[row], row),
        components,
        ClassList(tuple("abc")),
        "softmax",
        blind=np.zeros(3, bool),
        unannotated=nobody,
    )
    assert report.used == "adapted"
    after = change.apply(np.arange(2000), soft, components)
    np.testing.assert_allclose(after.sum(axis=1), 1, atol=1e-5)
    rest = np.setdiff1d(np.arange(2000), row)
    right = [(p[rest].argmax(axis=1) == hard[rest].argmax(axis=1)).mean() for p in (soft, after)]
    assert right[1] >= right[0]
    losses = [-np.log((p[rest] * hard[rest]).sum(axis=1)).mean() for p in (soft, after)]
    assert losses[1] < losses[0]


# --- the probe and the components


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_the_probe_is_the_optimum_that_scipy_finds(activation: str) -> None:
    rng = np.random.default_rng(0)
    inputs = with_bias(rng.normal(0, 1, (80, 5)))
    hard = np.eye(3)[rng.integers(0, 3, 80)].astype(np.float32)
    if activation == "sigmoid":
        hard[:9, 1] = np.nan
    offset = rng.normal(0, 1, (80, 3))
    held = np.array([0.3] * 5 + [BIAS_PENALTY])

    def posterior(flat: np.ndarray) -> float:
        weights = flat.reshape(3, 6)
        logits = offset + inputs @ weights.T
        if activation == "softmax":
            losses = np.log(np.exp(logits).sum(axis=1)) - (hard * logits).sum(axis=1)
        else:
            losses = np.logaddexp(0, logits) - np.where(np.isnan(hard), 0, hard) * logits
            losses = np.where(np.isnan(hard), 0, losses)
        return losses.sum() + (held * weights**2).sum() / 2

    found = fit_probe(inputs, hard, offset, np.ones(3, bool), activation, penalty=0.3)
    best = optimize.minimize(posterior, np.zeros(18), method="BFGS", options={"gtol": 1e-7})
    assert posterior(found.ravel()) <= best.fun + 1e-4
    np.testing.assert_allclose(found.ravel(), best.x, atol=2e-2)


def test_classes_that_may_not_change_do_not() -> None:
    rng = np.random.default_rng(0)
    hard = (rng.random((50, 2)) < 0.5).astype(np.float32)
    weights = fit_probe(
        with_bias(rng.normal(0, 1, (50, 3))), hard, np.zeros((50, 2)), np.array([True, False]), "sigmoid", penalty=1.0
    )
    assert weights[0].any()
    assert not weights[1].any()


def test_components_are_the_principal_ones_half_whitened() -> None:
    rng = np.random.default_rng(0)
    logits = (rng.normal(0, 1, (500, 20)) * 0.7 ** np.arange(20)) @ rng.normal(0, 1, (20, 90)) + 5
    mean, basis = find_components(logits.astype(np.float32), 8)
    found = (logits - mean) @ basis
    left, singular, _ = np.linalg.svd(logits - logits.mean(axis=0), full_matrices=False)
    expected = left[:, :8] * np.sqrt(500) * np.sqrt(singular[:8] / singular[0])
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=2e-3)


def test_of_many_small_shards_enough_are_looked_at() -> None:
    shards = SimpleNamespace(
        activation="sigmoid",
        read_shard=lambda number: SimpleNamespace(probabilities=np.full((2, 3), number / 1000), components=None),
    )
    rows = StoredRows(shard=np.repeat(np.arange(900), 2).astype(np.int32), row=np.tile([0, 1], 900).astype(np.int32))
    assert len(sample_logits(shards, rows)) == 1800
    large = StoredRows(shard=np.repeat(np.arange(300), 900).astype(np.int32), row=np.zeros(270_000, np.int32))
    assert len(sample_logits(shards, large)) == 8192


# --- from a store


WIDE = 60


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> tuple[Path, Path]:
    """A store of a teacher with 60 classes, 160 clips of one window (three of two), and its corpus."""
    corpus = Corpus(tmp_path_factory.mktemp("wide"))
    rng = np.random.default_rng(0)
    lines = ["clip_id,path,label,split"]
    for i in range(160):
        pitch = rng.uniform(0.05, 0.6)
        seconds = 0.2 if i % 50 == 9 else 0.1
        wave = 0.3 * np.sin(pitch * np.arange(round(8000 * seconds))) + rng.normal(0, 0.02, round(8000 * seconds))
        corpus.write_samples(f"w{i}.wav", wave.astype(np.float32))
        low = pitch < 0.3
        label = "" if i % 2 else ("class 0" if low else "noise") + (";new" if 0.2 < pitch < 0.4 else "")
        lines.append(f"w{i},w{i}.wav,{label.replace('noise;', '')},{'train' if i < 150 else 'test'}")
    corpus.write_manifest("\n".join(lines) + "\n")
    pipeline.run(
        corpus.manifest,
        corpus.folder / "store",
        teacher="standin:bands",
        labelling=pipeline.LabelOptions(shard_windows=16),
        options=pipeline.RunOptions(backend="sequential"),
    )
    return corpus.folder / "store", corpus.manifest


def join(wide, **options) -> softlabels.JoinedLabels:
    store, manifest = wide
    return softlabels.open(store).join(manifest, classes=["class 0", "class 5", "new"], canary=False, **options)


def test_a_join_is_adapted_from_its_store_and_keeps_it_wherever_it_goes(wide, tmp_path) -> None:
    labels = join(wide, min_coverage=0.5)
    adapted = labels.adapt()
    assert adapted.calibration.used == "adapted"
    assert adapted.fingerprint != labels.fingerprint
    np.testing.assert_array_equal(adapted.hard(), labels.hard())
    assert np.isnan(labels.soft()[:, 2]).all()
    assert not np.isnan(adapted.soft()[:, 2]).any()
    rows = np.array([5, 150, 5, 0])
    assert adapted.y_true(rows).tobytes() == adapted.y_true()[rows].tobytes()
    loaded = softlabels.load_labels(adapted.save(tmp_path / "saved"))
    for again in (loaded, pickle.loads(pickle.dumps(adapted)), labels.adapt(), labels.recommended()):
        assert again.y_true().tobytes() == adapted.y_true().tobytes()
        assert again.calibration == adapted.calibration
    assert adapted.exclusive().soft().shape == (len(labels), 4)
    assert softlabels.DistillationLoss.for_labels(adapted).activation == "sigmoid"


def test_what_was_changed_already_is_refused(wide) -> None:
    labels = join(wide)
    for changed in (labels.exclusive(), labels.adapt(), labels.adapt().exclusive()):
        with pytest.raises(ValueError, match="start again from the labels that join gave"):
            changed.adapt()
    with pytest.raises(ValueError, match="calibrated already"):
        labels.adapt().calibrate()


def test_without_the_store_labels_are_calibrated_only(wide, tmp_path, caplog) -> None:
    store, _ = wide
    saved = join(wide).save(tmp_path / "labels")
    moved = store.with_name("moved")
    store.rename(moved)
    try:
        labels = softlabels.load_labels(saved)
        with pytest.raises(softlabels.StoreError, match="no store at"):
            labels.adapt()
        assert labels.recommended().calibration.asked == "platt, per class"
        assert "calibrated only" in caplog.text
        assert labels.adapt(store=moved).calibration.used == "adapted"
    finally:
        moved.rename(store)


@pytest.mark.parametrize("value", [1e30, 3e38, -1e35])
def test_components_that_are_beyond_all_measure_are_named(wide, monkeypatch, value: float, tmp_path) -> None:
    def forged(store: object, rows: StoredRows) -> np.ndarray:
        logits = np.random.default_rng(0).normal(size=(20, 70)).astype(np.float32)
        logits[::3, ::2] = value  # as a stranger's shard may say, whose digests all fit
        return logits

    monkeypatch.setattr(components_module, "sample_logits", forged)
    labels = join(wide, cache_dir=tmp_path)
    message = "no principal components: .*softlabels verify"
    with np.errstate(all="ignore"), pytest.raises(softlabels.StoreError, match=message):
        labels.adapt()


def test_another_store_is_refused(wide, corpus, tmp_path) -> None:
    from conftest import label

    with pytest.raises(softlabels.JoinError, match="another spec"):
        join(wide).adapt(store=label(corpus))


def test_pooled_windows_are_refused_where_there_were_several(wide) -> None:
    with pytest.raises(softlabels.JoinError, match="join with windows='each'"):
        join(wide, windows="max").adapt()


def test_a_store_of_some_classes_is_adapted_by_its_components(wide, tmp_path) -> None:
    _, manifest = wide
    kept = tmp_path / "kept.txt"
    kept.write_text("class 0\nclass 5\n")
    adapted = {}
    for components in (0, 24):
        pipeline.run(
            manifest,
            tmp_path / f"store{components}",
            teacher="standin:bands",
            labelling=pipeline.LabelOptions(shard_windows=16, keep_classes=kept, components=components),
            options=pipeline.RunOptions(backend="sequential"),
        )
        labels = softlabels.open(tmp_path / f"store{components}").join(
            manifest, classes=["class 0", "class 5", "new"], canary=False
        )
        adapted[components] = labels.adapt().calibration
    full = join(wide).adapt().calibration
    assert adapted[24].used == "adapted"
    assert adapted[24].after.log_loss == pytest.approx(full.after.log_loss, rel=0.3)
    assert adapted[0].candidates["adapted"].log_loss > 1.5 * adapted[24].candidates["adapted"].log_loss
