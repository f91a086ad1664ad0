"""Several teachers at one join: met by time, averaged after each one's calibration, kept like any join."""

import hashlib
import math
import pickle

import numpy as np
import pytest
from conftest import Corpus
from conftest import label as label_first
from standin import StandIn

import pipeline
import softlabels
from softlabels import ClassList, JoinError
from softlabels.soft_label_store import SoftLabelStore


class Other(StandIn):
    """Hears windows of 0.06 s; has Gamma and Alpha but no Beta, and a Delta of its own."""

    name = "other"
    classes = ClassList(("Cus cus_Gamma", "Dus dus_Delta", "Aus aus_Alpha"))
    window_samples = 480
    digest = hashlib.sha256(b"other").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        """Answers NaN to windows that begin with 0.5."""
        scores = super().score(windows)[:, [2, 1, 0]] * 2 + 0.5
        scores[windows[:, 0] == 0.5] = np.nan
        return scores.astype(np.float32)


class Guess(StandIn):
    """Sure of everything, and knows nothing."""

    name = "guess"
    digest = hashlib.sha256(b"guess").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(windows[:, 1:400].sum(axis=1) * 1000 * k) * 3 for k in (1, 2, 3)], axis=1)


class Exclusive(StandIn):
    name = "exclusive"
    activation = "softmax"
    digest = hashlib.sha256(b"exclusive").hexdigest()


class ExclusiveOfTwo(Exclusive):
    classes = ClassList(("Aus aus_Alpha", "Bus bus_Beta"))
    digest = hashlib.sha256(b"exclusive of two").hexdigest()

    def score(self, windows: np.ndarray) -> np.ndarray:
        return super().score(windows)[:, :2]


def label(corpus: Corpus, teacher: type[StandIn], *, overlap_s: float = 0.0, manifest: str = "") -> SoftLabelStore:
    """The corpus labelled by a teacher of this file, in a store of its name."""
    store = corpus.folder / teacher.__name__
    pipeline.run(
        corpus.folder / (manifest or "data_manifest.csv"),
        store,
        teacher=f"test_ensemble:{teacher.__name__}",
        labelling=pipeline.LabelOptions(shard_windows=4, overlap_s=overlap_s),
        options=pipeline.RunOptions(backend="sequential"),
    )
    return softlabels.open(store)


@pytest.fixture
def other(corpus: Corpus, store: SoftLabelStore) -> SoftLabelStore:
    """A second teacher on the six clips, with a hop of 0.04 s."""
    return label(corpus, Other, overlap_s=0.02)


@pytest.fixture
def annotated(corpus: Corpus) -> Corpus:
    """Forty clips of one window for either teacher; hiss is Gamma, tones are not, and every fifth label is wrong.

    And forty of two windows or three that nobody annotated.
    """
    lines = ["clip_id,path,label"]
    for i in range(80):
        samples = 480 if i < 40 else 1200
        hiss = np.random.default_rng(i).uniform(-0.4, 0.4, samples).astype(np.float32)
        tone = 0.3 * np.sin(np.arange(samples) * (0.05 + i / 800)).astype(np.float32)
        corpus.write_samples(f"k{i}.wav", hiss if i % 4 < 2 else tone)
        label = "Cus cus_Gamma" if (i % 4 < 2) != (i % 5 == 0) else "noise"
        lines.append(f"k{i},k{i}.wav,{label if i < 40 else ''}")
    corpus.write_manifest("\n".join(lines) + "\n")
    return corpus


def nearest(keys, window_s: float, clip_id: str, centre_s: float, reach_s: float) -> int | None:
    """The row of a join whose centre is nearest, by looking at every one of them."""
    found = None
    for row, (clip, start_s) in enumerate(zip(keys.clip_id, keys.start_s, strict=True)):
        apart_s = abs(start_s + window_s / 2 - centre_s)
        if clip == clip_id and apart_s <= reach_s + 1e-5 and (found is None or apart_s < found[0] - 1e-7):
            found = (apart_s, row)
    return found and found[1]


def mean_in_loops(joined: list, weights: list[float]) -> np.ndarray:
    """(rows, classes): what an ensemble is, window by window and class by class."""
    first = joined[0]
    window_s = [labels.window.window_s for labels in joined]
    said = [labels.soft() for labels in joined]
    keys = [labels.keys for labels in joined]
    mean = np.full(said[0].shape, np.nan)
    for row in range(len(first)):
        clip_id, start_s = keys[0].clip_id[row], keys[0].start_s[row]
        for c in range(len(first.classes)):
            total = weight = 0.0
            for i in range(len(joined)):
                reach_s = max(window_s[0], window_s[i]) / 2
                met = nearest(keys[i], window_s[i], clip_id, start_s + window_s[0] / 2, reach_s)
                if met is not None and not math.isnan(said[i][met, c]):
                    total += weights[i] * float(said[i][met, c])
                    weight += weights[i]
            if weight:
                mean[row, c] = total / weight
    return mean


def test_a_mean_of_teachers_is_what_loops_over_windows_and_classes_say(corpus, store, other) -> None:
    joined = [store.join(corpus.manifest), other.join(corpus.manifest, classes=store.classes)]
    assert np.isnan(joined[1].soft()[:, 1]).all(), "Beta is unknown to the second teacher"
    for weights in ([0.25, 0.75], [0.5, 0.5]):
        labels = softlabels.join([store, other], corpus.manifest, weights=weights, calibrate="none")
        np.testing.assert_allclose(labels.soft(), mean_in_loops(joined, weights), rtol=1e-7)
        assert np.isfinite(labels.soft()).all()
        np.testing.assert_array_equal(labels.soft()[:, 1], joined[0].soft()[:, 1])
        np.testing.assert_array_equal(labels.hard(), joined[0].hard())
        assert labels.keys.equals(joined[0].keys)


def test_the_first_store_gives_the_windows_and_the_classes(corpus, store, other) -> None:
    labels = softlabels.join([other, store], corpus.manifest, calibrate="none", classes=store.classes)
    joined = [other.join(corpus.manifest, classes=store.classes), store.join(corpus.manifest)]
    assert labels.window == other.spec.window
    assert len(labels) > len(store)
    np.testing.assert_allclose(labels.soft(), mean_in_loops(joined, [1, 1]), rtol=1e-7)
    corpus.write_manifest(corpus.manifest.read_text().replace("Bus bus_Beta;", ""))
    labels = softlabels.join([other, store], corpus.manifest, calibrate="none")
    assert labels.classes == other.classes
    np.testing.assert_array_equal(labels.soft()[:, 1], other.join(corpus.manifest).soft()[:, 1])


def test_what_a_join_notes_of_one_teacher_alone_has_its_name(annotated, monkeypatch) -> None:
    monkeypatch.setattr(
        "softlabels.joins.check.harm_notes", lambda annotated, _: ["both", f"mean {np.nanmean(annotated.soft):.4f}"]
    )
    stores = [label_first(annotated), label(annotated, Other)]
    joined = [store.join(annotated.manifest, classes=stores[0].classes).report.notes for store in stores]
    notes = softlabels.join(stores, annotated.manifest).report.notes
    assert set(joined[0]) - set(joined[1])
    assert set(joined[0]) & set(joined[1])
    for i, of_one in enumerate(joined):
        for note in of_one:
            shared = note in joined[1 - i]
            assert (note if shared else f"teacher {i + 1}, {stores[i].spec.teacher}: {note}") in notes


def test_each_teacher_is_calibrated_by_itself_before(annotated) -> None:
    stores = [label_first(annotated), label(annotated, Other)]
    joined = [store.join(annotated.manifest, classes=stores[0].classes).calibrate() for store in stores]
    assert all(labels.calibration.used.startswith("platt") for labels in joined)
    labels = softlabels.join(stores, annotated.manifest)
    np.testing.assert_allclose(labels.soft(), mean_in_loops(joined, [1, 1]), rtol=1e-6)
    *notes, weighing = labels.report.notes[-3:]
    assert weighing.endswith("not clearly better, so averaged"), "two that say the same have no weights to learn"
    for i, (note, one) in enumerate(zip(notes, joined, strict=True)):
        assert note.startswith(f"teacher {i + 1}, {stores[i].spec.teacher}: weight 0.5, speaks of 120 of 120 rows")
        assert f"calibrated, {one.calibration.used}: log-loss {one.calibration.before.log_loss:.4f} -> " in note
    assert "lacks 1 of 3 classes, such as 'Bus bus_Beta'" in notes[1]
    assert labels.report.canary == "; ".join(f"teacher {i}: {joined[i - 1].report.canary}" for i in (1, 2))
    assert labels.calibration is None
    assert labels.calibrate().calibration.examples == 40, "the mean may be calibrated in its turn"


def fitted(labels, joined: list, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """-> weights and shift of Gamma's log-odds, by least squares, and the largest residual."""
    y, *x = (np.log(p) - np.log1p(-p) for p in (each.soft(rows)[:, 2].astype(float) for each in (labels, *joined)))
    terms = np.stack([*x, np.ones(len(y))], axis=1)
    found = np.linalg.lstsq(terms, y, rcond=None)[0]
    return found, np.abs(terms @ found - y).max()


def test_a_teacher_that_knows_nothing_gets_no_weight_where_the_annotated_clips_say_so(annotated) -> None:
    stores = [label_first(annotated), label(annotated, Guess)]
    joined = [store.join(annotated.manifest).calibrate("temperature") for store in stores]
    labels = softlabels.join(stores, annotated.manifest, calibrate="temperature")
    first, second, weighing = labels.report.notes[-3:]
    assert weighing.endswith(": clearly better, so stacked")
    weights, residual = fitted(labels, joined, np.arange(len(labels)))
    assert residual < 1e-4, "also where nobody annotated"
    assert f"weight {weights[0]:.3g}, speaks" in first
    assert weights[0] > 0.5
    assert weights[1] < 0.2
    assert "; log-loss alone 0." in second
    assert softlabels.load_labels(labels.save(annotated.folder / "saved")).report == labels.report
    for choice in ({"weights": [1, 1]}, {"calibrate": "none"}):
        mean = softlabels.join(stores, annotated.manifest, **{"calibrate": "temperature"} | choice)
        assert "stacked" not in mean.report.notes[-1]
        plain = [store.join(annotated.manifest) for store in stores] if "weights" not in choice else joined
        np.testing.assert_allclose(mean.soft(), mean_in_loops(plain, [1, 1]), rtol=1e-6)


class ExclusiveGuess(Guess):
    name = "exclusive guess"
    activation = "softmax"
    digest = hashlib.sha256(b"exclusive guess").hexdigest()


def test_exclusive_teachers_are_stacked_and_their_rows_keep_their_sum(annotated) -> None:
    header, *lines = annotated.manifest.read_text().splitlines()
    for i in range(40):  # three labels are wrong, each in another fold
        name = "Cus cus_Gamma" if (i % 4 < 2) != (i % 16 == 3) else "Aus aus_Alpha"
        lines[i] = f"k{i},k{i}.wav,{name}"
    annotated.write_manifest("\n".join([header, *lines]))
    stores = [label(annotated, Exclusive), label(annotated, ExclusiveGuess)]
    labels = softlabels.join(stores, annotated.manifest, canary=False)  # who knows nothing is refused
    assert labels.report.notes[-1].endswith(": clearly better, so stacked")
    np.testing.assert_allclose(labels.soft().sum(axis=1), 1, atol=1e-3)  # the stores round
    a, b = (float(note.split("weight ")[1].split(",")[0]) for note in labels.report.notes[-3:-1])
    assert a > 0.9
    assert b < 0.5, "of log shares that its calibration made nearly flat"


def test_teachers_are_averaged_where_labels_are_random_or_few(annotated) -> None:
    stores, text = [label_first(annotated), label(annotated, Guess)], annotated.manifest.read_text()
    header, *lines = text.splitlines()
    clips, labels = zip(*(line.rsplit(",", 1) for line in lines[:40]), strict=True)
    shuffled = np.random.default_rng(1).permutation(labels)
    annotated.write_manifest("\n".join([header, *map(",".join, zip(clips, shuffled, strict=True)), *lines[40:]]))
    joined = [store.join(annotated.manifest).calibrate() for store in stores]
    mixed = softlabels.join(stores, annotated.manifest)
    assert mixed.report.notes[-1].endswith(": not clearly better, so averaged")
    np.testing.assert_allclose(mixed.soft(), mean_in_loops(joined, [1, 1]), rtol=1e-6)
    annotated.write_manifest("\n".join([header, *lines[:10], *(f"{clip}," for clip in clips[10:]), *lines[40:]]))
    few = softlabels.join(stores, annotated.manifest)
    assert few.report.notes[-1].startswith("expected 20 annotated clips or more")
    assert few.report.notes[-1].endswith("got 10, 4, 26 and 10: averaged")
    joined = [store.join(annotated.manifest) for store in stores]
    np.testing.assert_allclose(few.soft(), mean_in_loops(joined, [1, 1]), rtol=1e-6)


def test_a_teacher_with_shorter_windows_is_weighed_as_it_is_where_it_could_not_be_calibrated(annotated) -> None:
    for i in range(40):  # one window for the first teacher, two for the second, of which nobody knows which
        audio = np.random.default_rng(i).uniform(-0.4, 0.4, 800) if i % 4 < 2 else np.full(800, 0.1)
        annotated.write_samples(f"k{i}.wav", audio.astype(np.float32))
    stores = [label_first(annotated), label(annotated, Other)]
    joined = [store.join(annotated.manifest, classes=stores[0].classes).calibrate() for store in stores]
    assert joined[0].calibration.used.startswith("platt")
    assert joined[1].calibration.used == "none"
    labels = softlabels.join(stores, annotated.manifest)
    said = softlabels.join(stores, annotated.manifest, calibrate="none", weights=[0, 1]).soft()[:40, [0, 2]]
    losses = -np.where(labels.hard()[:40, [0, 2]] == 1, np.log(said), np.log1p(-said))
    assert f"log-loss alone {losses.mean():.4f}" in labels.report.notes[-2]


def test_windows_of_weakly_labelled_clips_have_the_mean_if_no_such_window_was_annotated(annotated) -> None:
    text = annotated.manifest.read_text()
    annotated.write_manifest(text.replace("k50.wav,", "k50.wav,Cus cus_Gamma"))
    stores = [label_first(annotated), label(annotated, Guess)]
    joined = [store.join(annotated.manifest).calibrate("temperature") for store in stores]
    labels = softlabels.join(stores, annotated.manifest, calibrate="temperature")
    assert labels.report.notes[-1].endswith(": clearly better, so stacked")
    mean = mean_in_loops(joined, [1, 1])
    np.testing.assert_allclose(labels.soft()[40:], mean[40:], rtol=1e-6)
    assert fitted(labels, joined, np.arange(40))[1] < 1e-4
    assert np.abs(labels.soft()[:40, 2] - mean[:40, 2]).max() > 0.1
    pooled = softlabels.join(stores, annotated.manifest, calibrate="temperature", windows="max")
    assert "log-loss of annotations held out: mean 0." in pooled.report.notes[-1], "a row is a clip, and none is weak"


def test_a_class_is_the_mean_of_those_that_have_it_and_nan_if_none_has(corpus, store, other) -> None:
    names = ["Aus aus_Alpha", "Bus bus_Beta", "Cus cus_Gamma", "Eus eus"]
    labels = softlabels.join([store, other], corpus.manifest, calibrate="none", classes=names)
    assert np.isnan(labels.soft()).all(axis=0).tolist() == [False, False, False, True]
    assert labels.report.unmatched == ("Eus eus",)
    classes = ["Aus aus_Alpha", "Bus bus_Beta", "Cus cus_Gamma", "Dus dus_Delta"]
    both = softlabels.join([store, other], corpus.manifest, calibrate="none", classes=classes)
    assert np.isfinite(both.soft()).all()
    assert both.report.unmatched == ()
    alone = softlabels.join([store, other], corpus.manifest, calibrate="none", classes=classes, weights=[1, 0])
    assert np.isnan(alone.soft()).all(axis=0).tolist() == [False, False, False, True]
    assert alone.report.unmatched == ("Dus dus_Delta",)


def test_what_one_teacher_could_not_label_is_what_the_other_says(corpus) -> None:
    samples = np.random.default_rng(3).uniform(-0.4, 0.4, 3200).astype(np.float32)
    samples[0:800:480] = 0.5  # both windows of the other that meet the first one of c3
    corpus.write_samples("c3.wav", samples, subtype="FLOAT")
    stores = [label_first(corpus), label(corpus, Other)]
    assert stores[1].census.quarantined == 2
    labels = softlabels.join(stores, corpus.manifest, calibrate="none")
    joined = [store.join(corpus.manifest, classes=stores[0].classes) for store in stores]
    np.testing.assert_allclose(labels.soft(), mean_in_loops(joined, [1, 1]), rtol=1e-7)
    row = labels.keys.index[(labels.keys.clip_id == "c3") & (labels.keys.window_index == 0)]
    np.testing.assert_array_equal(labels.soft(row), joined[0].soft(row))
    assert "speaks of 13 of 14 rows" in labels.report.notes[-1]
    pooled = softlabels.join(stores, corpus.manifest, windows="max", calibrate="none")
    assert "speaks of 6 of 6 rows" in pooled.report.notes[-1], "what is left of c3 begins later"


def test_a_row_the_first_teacher_never_scored_is_what_the_second_says(corpus, store) -> None:
    corpus.write_audio("c6.wav", 0.1, seed=6)
    corpus.write_manifest(corpus.manifest.read_text() + "c6,c6.wav,Aus aus_Alpha,train\n")
    other = label(corpus, Other)
    with pytest.raises(JoinError, match="no label for 1 windows of the manifest: c6, window 0"):
        softlabels.join([store, other], corpus.manifest)
    labels = softlabels.join([store, other], corpus.manifest, missing="hard", calibrate="none")
    alone = store.join(corpus.manifest, missing="hard")
    assert (alone.report.rows_hard_only, labels.report.rows_hard_only) == (1, 0)
    assert (alone.report.rows_both, labels.report.rows_both) == (7, 8)
    said = other.join(corpus.manifest, classes=store.classes)
    row = said.keys.index[said.keys.clip_id == "c6"][0]
    np.testing.assert_array_equal(labels.soft([14]), said.soft([row]))
    turned = softlabels.join([other, store], corpus.manifest, classes=store.classes, calibrate="none")
    assert len(turned) == len(other), "only the first teacher has to have labelled everything"


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_pooled_rows_meet_by_clip(corpus, store, other, pooling: str) -> None:
    labels = softlabels.join([store, other], corpus.manifest, windows=pooling, calibrate="none", weights=[1, 3])
    a, b = (each.per_clip(pooling) for each in (store, other))
    for row, clip_id in enumerate(labels.keys.clip_id):
        expected = [
            a.loc[clip_id, name] if name not in b else (float(a.loc[clip_id, name]) + 3.0 * b.loc[clip_id, name]) / 4
            for name in labels.classes
        ]
        np.testing.assert_allclose(labels.soft([row])[0], expected, rtol=1e-6)


# --- kept like any join


def test_the_same_ensemble_is_found_again_and_built_again_to_the_bit(corpus, store, other, monkeypatch) -> None:
    labels = softlabels.join([store, other], corpus.manifest, weights=[1, 2])
    soft = (labels.path.parent / f"soft-{labels.fingerprint}.npy").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("softlabels.joins.ensemble.write_soft", lambda *_: pytest.fail("averaged again"))
        patch.setattr(softlabels.JoinedLabels, "calibrate", lambda *_: pytest.fail("calibrated again"))
        again = softlabels.join([store, other], corpus.manifest, weights=[10, 20])
    assert (again.fingerprint, again.report, again.path) == (labels.fingerprint, labels.report, labels.path)
    anew = softlabels.join([store, other], corpus.manifest, weights=[1, 2], cache_dir=corpus.folder / "cache")
    assert anew.path.parent == corpus.folder / "cache"
    assert (anew.path.parent / f"soft-{labels.fingerprint}.npy").read_bytes() == soft
    monkeypatch.setattr("softlabels.joins.ensemble.BLOCK", 7)
    small = softlabels.join([store, other], corpus.manifest, weights=[1, 2], cache_dir=corpus.folder / "small")
    np.testing.assert_array_equal(small.y_true(), labels.y_true())


def test_every_choice_and_the_growth_of_either_store_make_another_ensemble(corpus, store, other) -> None:
    def fingerprint(**choices: object) -> str:
        return softlabels.join(choices.pop("stores", [store, other]), corpus.manifest, **choices).fingerprint

    made = [fingerprint(), fingerprint(weights=[1, 2]), fingerprint(calibrate="none"), fingerprint(split="train")]
    made.append(fingerprint(stores=[store, other, other]))
    corpus.write_audio("c6.wav", 0.1, seed=6)
    (corpus.folder / "longer.csv").write_text(corpus.manifest.read_text() + "c6,c6.wav,,train\n")
    label(corpus, Other, manifest="longer.csv", overlap_s=0.02)
    made.append(fingerprint())
    pipeline.run(
        corpus.folder / "longer.csv",
        store.storage.root,
        teacher="standin:teacher",
        options=pipeline.RunOptions(backend="sequential"),
    )
    made.append(fingerprint())
    assert len(set(made)) == len(made)


def test_an_ensemble_is_pickled_saved_and_loaded_without_its_stores(corpus, store, other, tmp_path) -> None:
    labels = softlabels.join([store, other], corpus.manifest, calibrate="none")
    expected = labels.y_true()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(labels)).y_true(), expected)
    saved = labels.exclusive().save(tmp_path / "saved")
    for gone in (store, other):
        gone.storage.root.rename(tmp_path / f"gone {gone.spec.teacher}")
    loaded = softlabels.load_labels(saved)
    assert loaded.report == labels.report
    assert loaded.activation == "softmax"
    np.testing.assert_allclose(np.nansum(loaded.soft(), axis=1), 1, rtol=1e-6)


def test_a_dataset_of_an_ensemble_has_its_labels(corpus, store, other) -> None:
    labels = softlabels.join([store, other], corpus.manifest, calibrate="none")
    batches = list(softlabels.make_dataset(labels, batch_size=5))
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), labels.y_true())
    np.testing.assert_allclose(labels.soft_at(["c0"], [0.1]), labels.soft([1]), rtol=1e-6)


# --- what does not fit


def test_arguments_that_do_not_fit_are_refused(corpus, store, other) -> None:
    def refused(message: str, stores: object = (store, other), **choices: object) -> None:
        with pytest.raises(ValueError, match=message):
            softlabels.join(stores, corpus.manifest, **choices)

    refused(r"stores: expected two or more, .* got 1; .*store.join\(manifest\)", [store])
    refused("stores: expected two or more, as `softlabels.open` gives them, got a str among them", [store, "path"])
    for weights in ([1], [1, 2, 3], [1, -1], [0, 0], [1, math.nan], [1, math.inf], 2):
        refused("weights: expected 2 numbers, one a store, none below 0 and not all 0, got ", weights=weights)
    refused("method: expected 'platt', 'temperature', 'beta' or 'none', got 'isotonic'", calibrate="isotonic")
    for mapping in ("mapping.csv", ["mapping.csv"]):
        refused("mapping: expected 2 files, one a store", mapping=mapping)
    refused(
        "expected one activation in all of them, got sigmoid in .*store', softmax in ",
        [store, label(corpus, Exclusive)],
    )


def test_other_audio_under_the_same_clip_id_is_refused(corpus, store) -> None:
    corpus.write_audio("c2.wav", 0.25, seed=99)
    other = label(corpus, Other)
    with pytest.raises(JoinError, match="same audio under the same clip_id, got 1 clips with another sha256: 'c2'; "):
        softlabels.join([store, other], corpus.manifest)


def test_stores_without_a_window_in_common_are_refused(corpus, store) -> None:
    corpus.write_audio("x.wav", 0.2, seed=9)
    (corpus.folder / "others.csv").write_text("clip_id,path\nx,x.wav\n")
    other = label(corpus, Other, manifest="others.csv")
    with pytest.raises(JoinError, match="expected windows that share half of the shorter one, got none among 14 rows"):
        softlabels.join([store, other], corpus.manifest)


def test_a_store_whose_list_does_not_fit_is_named(corpus, store, other) -> None:
    with pytest.raises(
        JoinError, match=r"store '.*Other': the teacher has only 2 of the 3 classes, expected at least 90"
    ):
        softlabels.join([store, other], corpus.manifest, min_coverage=0.9)


def test_each_store_has_a_mapping_of_its_own(corpus, store, other) -> None:
    mapping = corpus.folder / "mapping.csv"
    mapping.write_text("student_class,teacher_class\nBus bus_Beta,Dus dus_Delta\n")
    labels = softlabels.join([store, other], corpus.manifest, mapping=[None, mapping], calibrate="none")
    joined = [store.join(corpus.manifest), other.join(corpus.manifest, classes=store.classes, mapping=mapping)]
    np.testing.assert_allclose(labels.soft(), mean_in_loops(joined, [1, 1]), rtol=1e-7)


def test_exclusive_teachers_of_different_classes_have_no_mean(corpus) -> None:
    stores = [label(corpus, Exclusive), label(corpus, ExclusiveOfTwo)]
    with pytest.raises(JoinError, match="got 1 that only one of them has, such as 'Cus cus_Gamma'"):
        softlabels.join(stores, corpus.manifest)
    corpus.write_manifest(corpus.manifest.read_text().replace(";Cus cus_Gamma", ""))
    labels = softlabels.join(stores, corpus.manifest, classes=["Aus aus_Alpha", "Bus bus_Beta", "Eus eus"])
    joined = [store.join(corpus.manifest, classes=labels.classes) for store in stores]
    np.testing.assert_allclose(labels.soft(), mean_in_loops(joined, [1, 1]), rtol=1e-6)
    assert np.nansum(labels.soft(), axis=1).max() <= 1 + 1e-6
