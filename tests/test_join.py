import json

import numpy as np
import pytest
from conftest import Corpus, label

import softlabels
from softlabels import JoinError, StoreError
from softlabels.records import shard as shard_module

CLASSES = ["Cus cus", "Aus aus_Alpha"]  # the student's: another order, one by scientific name only


def test_every_row_meets_the_label_of_its_own_window(corpus: Corpus, store) -> None:
    lines = corpus.manifest.read_text().splitlines(keepends=True)
    corpus.write_manifest(lines[0] + "".join(reversed(lines[1:])))  # positions now mean nothing
    labels = store.join(corpus.manifest)
    frame = store.to_pandas().set_index(["clip_id", "window_index"])
    assert list(labels.keys.clip_id.unique()) == ["c5", "c4", "c3", "c2", "c1", "c0"]
    for row, key in enumerate(zip(labels.keys.clip_id, labels.keys.window_index, strict=True)):
        np.testing.assert_array_equal(labels.soft([row])[0], frame.loc[key].probabilities)
        assert labels.keys.start_s[row] == frame.loc[key].start_s


def test_hard_labels_are_one_zero_or_not_annotated(corpus: Corpus, store) -> None:
    labels = store.join(corpus.manifest)
    hard = {clip_id: labels.hard([row])[0] for row, clip_id in enumerate(labels.keys.clip_id)}
    np.testing.assert_array_equal(hard["c0"], [1, 0, 0])
    np.testing.assert_array_equal(hard["c1"], [0, 1, 1])
    np.testing.assert_array_equal(hard["c2"], [0, 0, 0])
    np.testing.assert_array_equal(hard["c3"], [np.nan] * 3)


def test_a_class_that_may_be_in_a_clip_is_neither_present_nor_absent(corpus: Corpus, store, caplog) -> None:
    rows = "c0,c0.wav,Aus aus_Alpha;?Cus cus\nc1,c1.wav,?Bus bus_Beta\nc4,c4.wav,Bus bus_Beta;?Beta;?Xus xus_Xi\n"
    corpus.write_manifest("clip_id,path,label\n" + rows)
    labels = store.join(corpus.manifest)
    hard = {clip_id: labels.hard([row])[0] for row, clip_id in enumerate(labels.keys.clip_id)}
    np.testing.assert_array_equal(hard["c0"], [1, 0, np.nan])  # found as labels are, by a half of the name
    np.testing.assert_array_equal(hard["c1"], [0, np.nan, 0])
    np.testing.assert_array_equal(hard["c4"], [0, 1, 0])  # what it is sure of counts
    assert labels.report.rows_both == len(labels) == 5
    assert "1 of the names marked '?' are not in the class list and say nothing, such as 'Xus xus_Xi'" in caplog.text
    best = store.join(corpus.manifest, weak_labels="best")
    assert np.isnan(best.hard()[:3, 2]).all()


def test_what_may_be_in_a_clip_makes_another_join(corpus: Corpus, store) -> None:
    before = store.join(corpus.manifest)
    corpus.write_manifest(corpus.manifest.read_text().replace("Aus aus_Alpha,train", "Aus aus_Alpha;?Bus bus,train"))
    after = store.join(corpus.manifest)
    np.testing.assert_array_equal(after.hard([0])[0], [1, np.nan, 0])
    np.testing.assert_array_equal(before.hard([0])[0], [1, 0, 0])
    np.testing.assert_array_equal(after.soft(), before.soft())


def test_classes_are_matched_by_name_not_by_position(corpus: Corpus, store) -> None:
    corpus.write_manifest(corpus.manifest.read_text().replace("Bus bus_Beta;", ""))
    labels = store.join(corpus.manifest, classes=CLASSES)
    np.testing.assert_array_equal(labels.soft(), store.join(corpus.manifest).soft()[:, [2, 0]])
    np.testing.assert_array_equal(labels.hard([3])[0], [1, 0])
    assert labels.report.matched == {"scientific name": 1, "exact": 1}


def test_no_rows_are_no_rows(corpus: Corpus, store) -> None:
    assert store.join(corpus.manifest).y_true([]).shape == (0, 6)
    corpus.write_manifest("clip_id,path\nnew,new.wav\n")
    assert store.join(corpus.manifest, missing="drop").y_true().shape == (0, 6)


def test_y_true_is_hard_then_soft(corpus: Corpus, store) -> None:
    labels = store.join(corpus.manifest)
    rows = [5, 0, 13]
    y_true = labels.y_true(rows)
    assert y_true.shape == (3, 6)
    assert y_true.dtype == np.float32
    np.testing.assert_array_equal(y_true[:, :3], labels.hard(rows))
    np.testing.assert_array_equal(y_true[:, 3:], labels.soft(rows))
    assert labels.y_true().shape == (len(labels), 6)


def test_a_class_the_teacher_lacks_is_nan_never_zero(corpus: Corpus, store) -> None:
    corpus.write_manifest("clip_id,path,label\nc0,c0.wav,Dus dus_Delta\n")
    labels = store.join(corpus.manifest, classes=["Aus aus", "Dus dus_Delta"])
    assert np.isnan(labels.soft()[:, 1]).all()
    assert np.isfinite(labels.soft()[:, 0]).all()
    assert labels.report.unmatched == ("Dus dus_Delta",)


def test_an_unknown_class_in_the_manifest_is_an_error(corpus: Corpus, store) -> None:
    with pytest.raises(JoinError, match="1 labels are not in the class list of 2: 'Bus bus_Beta'"):
        store.join(corpus.manifest, classes=CLASSES)


def test_a_class_named_twice_in_one_clip_is_an_error(corpus: Corpus, store) -> None:
    corpus.write_manifest("clip_id,path,label\nc0,c0.wav,Aus aus_Alpha;Aus aus\n")
    with pytest.raises(JoinError, match="1 clips name one class twice, under two names: 'c0': Aus aus_Alpha, Aus aus"):
        store.join(corpus.manifest)


def test_missing_rows_are_an_error_unless_something_else_is_asked_for(corpus: Corpus, store) -> None:
    corpus.write_manifest(corpus.manifest.read_text() + "new,new.wav,Aus aus_Alpha,train\n")
    with pytest.raises(JoinError, match=r"no label for 1 windows of the manifest: new, window 0; run `softlabels run`"):
        store.join(corpus.manifest)
    dropped = store.join(corpus.manifest, missing="drop")
    assert (len(dropped), dropped.report.windows_missing) == (14, 1)
    kept = store.join(corpus.manifest, missing="hard")
    assert (len(kept), kept.report.rows_hard_only) == (15, 1)
    np.testing.assert_array_equal(kept.hard([14])[0], [1, 0, 0])
    assert np.isnan(kept.soft([14])).all()


def test_windows_of_an_unfinished_store_are_missing(corpus: Corpus, store) -> None:
    (store.storage.root / "receipts" / "00003.g0.json").unlink()
    reopened = softlabels.open(store.storage.root)
    with pytest.raises(JoinError, match="no label for 3 windows"):
        reopened.join(corpus.manifest)
    assert len(reopened.join(corpus.manifest, missing="hard")) == 14


def test_quarantined_windows_are_left_out_and_counted(corpus: Corpus) -> None:
    (corpus.folder / "c0.wav").unlink()
    store = label(corpus)
    for missing in ("error", "drop", "hard"):
        labels = store.join(corpus.manifest, missing=missing)
        assert "c0" not in set(labels.keys.clip_id)
        assert (labels.report.windows_quarantined, labels.report.windows_missing) == (1, 0)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_pooled_windows_give_one_row_a_clip(corpus: Corpus, store, pool: str) -> None:
    labels = store.join(corpus.manifest, windows=pool)
    expected = store.per_clip(pool=pool).loc[labels.keys.clip_id].to_numpy()
    assert list(labels.keys.clip_id) == ["c0", "c1", "c2", "c3", "c4", "c5"]
    np.testing.assert_allclose(labels.soft(), expected, rtol=1e-6)


def test_a_split_keeps_only_its_clips(corpus: Corpus, store) -> None:
    assert set(store.join(corpus.manifest, split="test").keys.clip_id) == {"c4", "c5"}
    with pytest.raises(JoinError, match="no clip has split 'valid'; it has 'test', 'train'"):
        store.join(corpus.manifest, split="valid")


def test_the_report_adds_up_prints_and_saves(corpus: Corpus, store, tmp_path) -> None:
    report = store.join(corpus.manifest).report
    assert (report.clips, report.rows, report.rows_both, report.rows_soft_only) == (6, 14, 7, 7)
    assert "hard and soft label" in str(report)
    assert "50.0%" in str(report)
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["rows_both"] == 7


def test_the_array_is_built_once_and_found_again(corpus: Corpus, store, monkeypatch) -> None:
    first = store.join(corpus.manifest, classes=None).soft()
    again = softlabels.open(store.storage.root)
    monkeypatch.setattr(type(again), "read_shard", lambda *_: pytest.fail("a shard was read"))
    np.testing.assert_array_equal(again.join(corpus.manifest).soft(), first)


def test_every_choice_has_an_array_of_its_own(corpus: Corpus, store) -> None:
    corpus.write_manifest(corpus.manifest.read_text().replace("Bus bus_Beta;", ""))
    for options in ({}, {"classes": CLASSES}, {"windows": "max"}, {"windows": "mean"}, {"split": "train"}):
        store.join(corpus.manifest, **options)
    assert len(list((store.storage.root / "joins").glob("*.npy"))) == 5


def test_values_that_are_no_probabilities_are_refused(corpus: Corpus, store, monkeypatch) -> None:
    read = shard_module._read_vectors  # every reading holds what comes out of a file against 0 and 1

    def wrong(*arguments: object) -> np.ndarray:
        bad = read(*arguments).copy()
        bad[0, 0] = 1.5
        return bad

    monkeypatch.setattr(shard_module, "_read_vectors", wrong)
    with pytest.raises(StoreError, match="expected probabilities from 0 to 1, got .* to 1.5"):
        store.join(corpus.manifest)
    assert not list((store.storage.root / "joins").glob("*.npy")), "no half-built array is left"


@pytest.mark.parametrize("rows", [[-1], [14], [0.5], [[0]], [True]])
def test_rows_outside_the_join_are_refused(corpus: Corpus, store, rows) -> None:
    with pytest.raises(ValueError, match="rows: expected row numbers from 0 to 13"):
        store.join(corpus.manifest).y_true(rows)


@pytest.mark.parametrize("options", [{"missing": "ignore"}, {"windows": "median"}])
def test_an_unknown_choice_is_refused(corpus: Corpus, store, options: dict) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        store.join(corpus.manifest, **options)
