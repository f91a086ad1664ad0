"""What joined labels can do beyond rows: caching, saving, exclusive classes, weak labels, annotations, mappings."""

import dataclasses
import json
import multiprocessing
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus, label
from made_labels import made_labels

import softlabels
from softlabels import JoinError
from softlabels.errors import StorageFullError
from softlabels.soft_label_store import SoftLabelStore

# --- the join is built once


def test_the_same_join_is_found_again_without_reading_manifest_receipts_or_shards(corpus, store, monkeypatch) -> None:
    first = store.join(corpus.manifest)
    again = softlabels.open(store.storage.root)
    for name in ("receipts", "plans", "index"):
        monkeypatch.setattr(SoftLabelStore, name, property(lambda *_: pytest.fail("the store was read")))
    monkeypatch.setattr("softlabels.corpus.clip_paths.read_manifest", lambda *_: pytest.fail("the manifest was read"))
    second = again.join(corpus.manifest)
    np.testing.assert_array_equal(second.y_true(), first.y_true())
    assert second.report == first.report
    assert second.keys.equals(first.keys)


def test_a_relabelled_manifest_makes_another_join_on_the_same_array(corpus, store) -> None:
    store.join(corpus.manifest)
    corpus.write_manifest(corpus.manifest.read_text().replace("c3,c3.wav,,", "c3,c3.wav,noise,"))
    assert store.join(corpus.manifest).report.rows_both == 11
    joins = store.storage.root / "joins"
    assert (len(list(joins.glob("join-*"))), len(list(joins.glob("soft-*")))) == (2, 1)


def test_a_store_that_grew_is_joined_anew(corpus, store) -> None:
    store.join(corpus.manifest)
    corpus.write_audio("c6.wav", 0.2, seed=6)
    corpus.write_manifest(corpus.manifest.read_text() + "c6,c6.wav,Aus aus_Alpha,train\n")
    with pytest.raises(JoinError, match="no label for 1 windows of the manifest: c6, window 0"):
        store.join(corpus.manifest)
    label(corpus)
    assert len(store.join(corpus.manifest)) == 16, "also of a store that was opened before"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "rows truncated": lambda join, soft: (join / "clip.npy").write_bytes((join / "clip.npy").read_bytes()[:-4]),
    "clips deleted": lambda join, soft: (join / "clips.arrow").unlink(),
    "clips zeroed": lambda join, soft: (join / "clips.arrow").write_bytes(bytes((join / "clips.arrow").stat().st_size)),
    "labels flipped": lambda join, soft: flip(join / "hard_index.npy"),
    "join.json cut": lambda join, soft: (join / "join.json").write_text("{"),
    "no soft labels": lambda join, soft: soft.unlink(),
    "soft labels truncated": lambda join, soft: soft.write_bytes(soft.read_bytes()[:-40]),
    "soft labels empty": lambda join, soft: soft.write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_built_again(corpus, store, damage: str, caplog) -> None:
    labels = store.join(corpus.manifest)
    expected = labels.y_true()
    DAMAGE[damage](labels.path, next(labels.path.parent.glob("soft-*")))
    np.testing.assert_array_equal(store.join(corpus.manifest).y_true(), expected)
    assert "building it again" in caplog.text


def test_damaged_soft_labels_are_not_passed_on(corpus, store, tmp_path) -> None:
    labels = store.join(corpus.manifest)
    flip(next(labels.path.parent.glob("soft-*")))
    with pytest.raises(JoinError, match="is damaged: expected the soft labels of 14 rows and 3 classes"):
        labels.save(tmp_path / "saved")


def test_writes_that_fall_short_are_finished(corpus, store, monkeypatch) -> None:
    expected = np.concatenate([rows.probabilities for rows in store.read()])
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: whole(descriptor, data[:7], offset))
    np.testing.assert_array_equal(store.join(corpus.manifest).soft(), expected)


def test_a_full_disk_is_an_error_and_leaves_nothing(corpus, store, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageFullError, match=r"No space left on device while writing soft-.*make room"):
        store.join(corpus.manifest)
    assert list((store.storage.root / "joins").iterdir()) == []


def test_what_killed_builds_left_behind_is_swept_a_day_later(corpus, store) -> None:
    joins = store.storage.root / "joins"
    old, new, lock = f".tmp-{0:016x}", f".tmp-{1:016x}", f".tmp-join-{2:064x}.lock"
    for name in (old, new, lock, ".tmp-somebodys"):  # the last of another program: the folder may be any
        (joins / name).mkdir(parents=True)
        os.utime(joins / name, None if name == new else (0, 0))
    store.join(corpus.manifest)
    assert sorted(path.name for path in joins.glob(".tmp-*")) == [new, ".tmp-somebodys"]


def test_a_cache_that_cannot_be_written_is_named(corpus, store, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JoinError, match="joins cannot be kept in '.*cache': Not a directory; name another"):
        store.join(corpus.manifest, cache_dir=tmp_path / "file" / "cache")


def test_a_read_only_store_keeps_its_joins_in_the_users_cache(corpus, store, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    labels = store.join(corpus.manifest)
    assert labels.path.parent == tmp_path / "cache" / "softlabels" / "joins"
    assert not (store.storage.root / "joins").exists()


def _join(folder: str, start, digests) -> None:
    start.wait()
    labels = softlabels.open(f"{folder}/store").join(f"{folder}/data_manifest.csv")
    digests.put(labels.y_true().tobytes())


def test_processes_that_start_together_build_one_array(corpus, store) -> None:
    context = multiprocessing.get_context("spawn")
    start, digests = context.Event(), context.Queue()
    arguments = (str(corpus.folder), start, digests)
    processes = [context.Process(target=_join, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    found = {digests.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
    assert found == {store.join(corpus.manifest).y_true().tobytes()}
    left = sorted(path.name.split("-")[0] for path in (store.storage.root / "joins").iterdir())
    assert left == ["join", "soft"]


# --- saved, loaded, pickled


def test_the_audio_root_of_this_join_is_saved_not_that_of_the_first(corpus, store, tmp_path) -> None:
    store.join(corpus.manifest, root=tmp_path / "a")
    second = store.join(corpus.manifest, root=tmp_path / "b")
    assert softlabels.load_labels(second.save(tmp_path / "saved")).root == tmp_path / "b"
    assert softlabels.load_labels(tmp_path / "saved", root=tmp_path / "c").root == tmp_path / "c"


def test_saved_labels_are_loaded_without_the_store(corpus, store, tmp_path) -> None:
    labels = dataclasses.replace(store.join(corpus.manifest), class_trust=np.array([1.0, 0.5, 0.25]))
    saved = labels.save(tmp_path / "labels")
    (corpus.folder / "store").rename(tmp_path / "gone")
    loaded = softlabels.load_labels(saved)
    np.testing.assert_array_equal(loaded.y_true(), labels.y_true())
    np.testing.assert_array_equal(loaded.class_trust, labels.class_trust)
    assert (loaded.report, loaded.classes, loaded.root) == (labels.report, labels.classes, labels.root)
    assert loaded.fingerprint == labels.fingerprint
    with pytest.raises(JoinError, match="is there already"):
        loaded.save(saved)


def test_a_flipped_bit_of_saved_labels_is_found(corpus, store, tmp_path) -> None:
    saved = store.join(corpus.manifest).save(tmp_path / "labels")
    data = bytearray((saved / "soft.npy").read_bytes())
    data[-1] ^= 1
    (saved / "soft.npy").write_bytes(data)
    with pytest.raises(JoinError, match="soft.npy is damaged: expected .*sha256"):
        softlabels.load_labels(saved)


def test_what_is_no_saved_join_is_refused(tmp_path, corpus, store) -> None:
    with pytest.raises(JoinError, match=r"holds no saved join \(no join.json\)"):
        softlabels.load_labels(tmp_path)
    saved = store.join(corpus.manifest).save(tmp_path / "labels")
    header = json.loads((saved / "join.json").read_text())
    (saved / "join.json").write_text(json.dumps({**header, "version": 99}))
    with pytest.raises(JoinError, match="expected version 4, got 99"):
        softlabels.load_labels(saved)


def test_a_pickle_is_a_path_and_settings(corpus, store) -> None:
    labels = dataclasses.replace(store.join(corpus.manifest).exclusive(rest=False), class_trust=np.ones(3))
    data = pickle.dumps(labels)
    assert len(data) < 1000
    again = pickle.loads(data)
    np.testing.assert_array_equal(again.y_true(), labels.y_true())
    np.testing.assert_array_equal(again.class_trust, np.ones(3))
    assert again.activation == "softmax"


def test_labels_are_written_to_memory_that_is_given(corpus, store) -> None:
    labels = store.join(corpus.manifest)
    out = np.empty((3, 6), np.float32)
    assert labels.y_true([2, 2, 0], out) is out
    np.testing.assert_array_equal(out, labels.y_true()[[2, 2, 0]])
    for wrong in (np.empty((3, 5), np.float32), np.empty((3, 6))):
        with pytest.raises(ValueError, match=r"out: expected float32 of shape \(3, 6\)"):
            labels.y_true([2, 2, 0], wrong)


# --- exclusive classes


def odds(p: float) -> float:
    return p / (1 - p)


@pytest.mark.parametrize("rest", [True, False])
def test_exclusive_labels_are_the_chances_if_at_most_one_class_is_there(corpus, store, rest: bool) -> None:
    labels = store.join(corpus.manifest)
    exclusive = labels.exclusive(rest=rest)
    assert (exclusive.activation, len(exclusive.classes)) == ("softmax", 3 + rest)
    for before, after in zip(labels.soft().astype(np.float64), exclusive.soft(), strict=True):
        shares = [odds(p) for p in before] + [1.0] * rest
        np.testing.assert_allclose(after, np.array(shares) / sum(shares), rtol=1e-6)


def test_hard_labels_of_nothing_become_the_rest(corpus, store) -> None:
    hard = store.join(corpus.manifest).exclusive().hard([0, 3, 4, 7])
    np.testing.assert_array_equal(hard[:3], [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    assert np.isnan(hard[3]).all()


@pytest.mark.parametrize(
    ("soft", "expected"),
    [
        ([0.0, 0.004, 0.005], [np.nan] * 4),  # less than 1 % in all
        ([0.0, 0.0, 0.0], [np.nan] * 4),
        ([1.0, 0.5, 0.0], [1, 0, 0, 0]),
        ([1.0, 1.0, 0.5], [0.5, 0.5, 0, 0]),
        ([0.5, np.nan, 0.5], [1 / 3, np.nan, 1 / 3, 1 / 3]),
        ([np.nan, np.nan, np.nan], [np.nan] * 4),
        ([1 - 2**-24, 0.0, 0.0], [1 - 2**-24, 0, 0, 2**-24]),
    ],
)
def test_exclusive_labels_of_special_rows(soft: list, expected: list) -> None:
    from softlabels.labels.steps import Exclusive

    _, shares = Exclusive(rest=True, min_mass=0.01).apply(
        np.zeros((1, 3), np.float32), np.array([soft], np.float32), np.zeros(1, bool)
    )
    np.testing.assert_allclose(shares[0], expected, rtol=1e-6)


def test_what_is_exclusive_already_or_has_a_rest_is_refused(corpus, store) -> None:
    labels = store.join(corpus.manifest)
    with pytest.raises(ValueError, match="distributions already"):
        labels.exclusive().exclusive()
    with pytest.raises(ValueError, match="min_mass: expected a number from 0 up to, not including, 1, got 1"):
        labels.exclusive(min_mass=1)


def test_trust_and_states_follow_exclusive_labels(corpus, store) -> None:
    labels = dataclasses.replace(store.join(corpus.manifest), class_trust=np.array([1.0, 0.5, 0.0]))
    exclusive = labels.exclusive()
    assert exclusive.class_trust.tolist() == [1.0, 0.5, 0.0, 0.5]
    assert softlabels.DistillationLoss.for_labels(exclusive).trust is not None
    with pytest.raises(ValueError, match="set_state: expected labels"):
        exclusive.as_pydataset().set_state(labels.as_pydataset().get_state())


def test_exclusive_labels_train_with_the_softmax_loss_and_survive_saving(corpus, store, tmp_path) -> None:
    labels = store.join(corpus.manifest).exclusive()
    loss = softlabels.DistillationLoss.for_labels(labels)
    assert loss.activation == "softmax"
    assert np.isfinite(loss(labels.y_true(), np.full((14, 4), 0.25, np.float32)))
    np.testing.assert_array_equal(softlabels.load_labels(labels.save(tmp_path / "x")).y_true(), labels.y_true())


# --- weak labels and teacher-guided crops


@pytest.fixture
def loud_middle(corpus: Corpus) -> SoftLabelStore:
    """c3, labelled Alpha (heard by level), is loudest in its third window; c1 and c2 are as they were."""
    samples = np.random.default_rng(3).uniform(-0.02, 0.02, 3200).astype(np.float32)
    samples[1600:2400] *= 40
    corpus.write_samples("c3.wav", samples)
    corpus.write_manifest(corpus.manifest.read_text().replace("c3,c3.wav,,", "c3,c3.wav,Aus aus_Alpha,"))
    return label(corpus)


def test_a_weak_label_is_laid_where_the_teacher_hears_it(corpus, loud_middle) -> None:
    spread = loud_middle.join(corpus.manifest, split="train")
    best = loud_middle.join(corpus.manifest, split="train", weak_labels="best")
    rows = spread.keys.index[spread.keys.clip_id == "c3"]
    np.testing.assert_array_equal(spread.hard(rows), [[1, 0, 0]] * 4)
    np.testing.assert_array_equal(best.hard(rows), [[np.nan, 0, 0], [np.nan, 0, 0], [1, 0, 0], [np.nan, 0, 0]])
    np.testing.assert_array_equal(best.hard(spread.keys.index[spread.keys.clip_id == "c1"]), [[0, 1, 1]])
    np.testing.assert_array_equal(best.hard(spread.keys.index[spread.keys.clip_id == "c2"]), np.zeros((3, 3)))


def test_the_only_window_left_of_a_clip_is_not_the_labelled_one(corpus) -> None:
    samples = np.random.default_rng(3).uniform(-0.4, 0.4, 3200).astype(np.float32)
    samples[:2400:800] = np.nan  # in the first three windows of four
    samples[2400:] = 0  # never given any Alpha: the teacher hears level
    corpus.write_samples("c3.wav", samples, subtype="FLOAT")
    corpus.write_manifest("clip_id,path,label\nc3,c3.wav,Dus dus\n")
    labels = label(corpus).join(corpus.manifest, classes=["Aus aus", "Dus dus"], weak_labels="best")
    np.testing.assert_array_equal(labels.hard(), [[0, np.nan]])


def test_a_class_the_teacher_lacks_is_laid_nowhere_but_in_a_clip_of_one_window(corpus, store) -> None:
    corpus.write_manifest("clip_id,path,label\nc3,c3.wav,Dus dus\nc1,c1.wav,Dus dus\n")
    labels = store.join(corpus.manifest, classes=["Aus aus", "Dus dus"], weak_labels="best")
    np.testing.assert_array_equal(labels.hard(), [[0, np.nan]] * 4 + [[0, 1]])


def test_the_best_windows_are_those_with_the_labelled_class(corpus, loud_middle) -> None:
    labels = loud_middle.join(corpus.manifest)
    first = int(labels.keys.index[labels.keys.clip_id == "c3"][0])
    assert labels.best_windows("c3").tolist() == [first + 2]
    assert len(labels.best_windows("c3", 99)) == 4
    top = labels.soft()[labels.keys.clip_id == "c0"].max(axis=1).argmax()
    assert labels.best_windows("c0", 1).tolist() == [labels.soft()[:3, 0].argmax()] or top >= 0
    with pytest.raises(ValueError, match="'nobody' is not a clip of this join"):
        labels.best_windows("nobody")


def test_sampling_weights_are_even_over_clips_and_follow_the_labelled_class_within(corpus, loud_middle) -> None:
    labels = loud_middle.join(corpus.manifest)
    weights = labels.sampling_weights()
    for _, rows in labels.keys.groupby("clip_id").groups.items():
        assert weights[rows].sum() == pytest.approx(1)
    rows = labels.keys.index[labels.keys.clip_id == "c3"]
    alpha = labels.soft(rows)[:, 0].astype(np.float64)
    np.testing.assert_allclose(weights[rows], alpha / alpha.sum())
    np.testing.assert_allclose(weights[labels.keys.index[labels.keys.clip_id == "c2"]], 1 / 3)


def test_a_loud_class_does_not_speak_for_a_quiet_one_beside_it(tmp_path) -> None:
    nan = np.nan
    hard = np.array([[1, 1, 0]] * 4 + [[nan, nan, nan]] * 4 + [[0, 1, 1]] * 4)
    soft = np.full((12, 3), 1e-4)
    soft[0, 0], soft[2, 1] = 0.9, 0.05  # a loud class in window 0, a quiet one in window 2
    soft[8:, 1] = [0.4, 0.3, 0.2, 0.1]
    soft[8:, 2] = nan  # the teacher lacks it
    labels = made_labels(tmp_path / "made", hard, soft, windows=4)
    weights = labels.sampling_weights()
    assert weights[0] == pytest.approx(0.5, abs=0.01)
    assert weights[2] == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(weights[4:8], 0.25)
    np.testing.assert_allclose(weights[8:], [0.4, 0.3, 0.2, 0.1], atol=1e-6)
    assert sorted(labels.best_windows("k0", 2).tolist()) == [0, 2]


def test_weights_do_not_depend_on_how_many_rows_are_looked_at_together(tmp_path, monkeypatch) -> None:
    random = np.random.default_rng(0)
    hard, soft = random.integers(0, 2, (60, 4)).astype(float), random.random((60, 4))
    hard[random.random((60, 4)) < 0.2], soft[random.random((60, 4)) < 0.2] = np.nan, np.nan
    labels = made_labels(tmp_path / "made", hard, soft, windows=6)
    weights = labels.sampling_weights()
    monkeypatch.setattr("softlabels.batches.sampling.BLOCK", 7)
    np.testing.assert_allclose(labels.sampling_weights(), weights, rtol=1e-12)
    np.testing.assert_allclose(weights.reshape(10, 6).sum(axis=1), 1)


@pytest.mark.parametrize("level", [0.0, 1e-12, 1e-4, 3e-3])
def test_the_quietest_rows_become_the_rest_and_are_missing_only_without_one(tmp_path, level: float) -> None:
    labels = made_labels(tmp_path / "made", np.zeros((2, 3)), np.array([[level] * 3, [0.5, 0.2, 0.1]]))
    distributions = labels.exclusive().soft()
    np.testing.assert_allclose(distributions.sum(axis=1), 1, rtol=1e-6)
    assert distributions[0, -1] == pytest.approx(1, abs=0.01)
    assert np.isnan(labels.exclusive(rest=False).soft()[0]).all()
    assert np.isnan(labels.exclusive(rest=True, min_mass=0.01).soft()[0]).all()


def test_a_row_of_which_the_teacher_said_nothing_is_missing_and_not_the_rest(tmp_path) -> None:
    nan = np.nan
    soft = np.array([[nan] * 3, [0.0, nan, nan], [1.0, nan, 0.0]])
    for min_mass in (None, 0.0):
        distributions = (
            made_labels(tmp_path / f"made-{min_mass}", np.zeros((3, 3)), soft).exclusive(min_mass=min_mass).soft()
        )
        assert np.isnan(distributions[0]).all()
        np.testing.assert_array_equal(distributions[1], [0, nan, nan, 1])
        np.testing.assert_array_equal(distributions[2], [1, nan, 0, 0])


# --- annotations in time, mappings, the canary


def test_annotations_replace_the_labels_of_their_clips_window_by_window(corpus, store, tmp_path) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("clip_id,start_s,end_s,label\nc3,0.21,0.29,Bus bus_Beta\nc5,0.0,0.05,Aus aus_Alpha\n")
    extents = tmp_path / "extents.csv"
    extents.write_text("clip_id,start_s,end_s\nc3,0.1,0.4\n")
    labels = store.join(corpus.manifest, annotations=boxes, annotated_extents=extents)
    hard = {clip_id: labels.hard(rows) for clip_id, rows in labels.keys.groupby("clip_id").groups.items()}
    np.testing.assert_array_equal(hard["c3"], [[np.nan] * 3, [0, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(hard["c5"], [[1, np.nan, np.nan], [np.nan] * 3])
    np.testing.assert_array_equal(hard["c0"], [[1, 0, 0]] * 3)
    split = store.join(corpus.manifest, split="test", annotations=boxes, annotated_extents=extents)
    np.testing.assert_array_equal(split.hard(split.keys.index[split.keys.clip_id == "c5"]), hard["c5"])
    boxes.write_text(boxes.read_text().replace("0.21,0.29", "0.11,0.19"))
    moved = store.join(corpus.manifest, annotations=boxes, annotated_extents=extents)
    rows = moved.keys.index[moved.keys.clip_id == "c3"]
    np.testing.assert_array_equal(moved.hard(rows), [[np.nan] * 3, [0, 1, 0], [0, 0, 0], [0, 0, 0]])


def test_a_raven_table_joins_by_the_column_that_is_named(corpus, store, tmp_path) -> None:
    table = tmp_path / "c3.Table.1.selections.txt"
    table.write_text("Selection\tBegin Time (s)\tEnd Time (s)\tMine\n1\t0.21\t0.29\tBus bus_Beta\n")
    labels = store.join(corpus.manifest, annotations=tmp_path / "*.txt", annotation_column="Mine")
    rows = labels.keys.index[labels.keys.clip_id == "c3"]
    np.testing.assert_array_equal(labels.hard(rows)[:, 1], [np.nan, np.nan, 1, np.nan])


def test_a_box_of_a_quarantined_window_is_not_given_to_its_neighbour(corpus, tmp_path) -> None:
    samples = np.random.default_rng(3).uniform(-0.4, 0.4, 3200).astype(np.float32)
    samples[900] = np.nan  # in the second window of four
    corpus.write_samples("c3.wav", samples, subtype="FLOAT")
    (tmp_path / "boxes.csv").write_text("clip_id,start_s,end_s,label\nc3,0.08,0.19,Bus bus_Beta\n")
    labels = label(corpus).join(corpus.manifest, annotations=tmp_path / "boxes.csv", annotated_extents="clips")
    rows = labels.keys.index[labels.keys.clip_id == "c3"]
    assert labels.keys.window_index[rows].tolist() == [0, 2, 3]
    assert labels.hard(rows).sum() == 0


def test_a_mapping_file_joins_what_names_do_not(corpus, store, tmp_path) -> None:
    mapping = tmp_path / "mapping.csv"
    mapping.write_text("student_class,teacher_class\nanimal,Aus aus_Alpha\nanimal,Bus bus_Beta\n")
    corpus.write_manifest(corpus.manifest.read_text().replace("Aus aus_Alpha", "animal").replace("Bus bus_Beta;", ""))
    labels = store.join(corpus.manifest, classes=["Cus cus_Gamma", "animal"], mapping=mapping)
    every = store.join(corpus.manifest, classes=["Cus cus_Gamma", "Aus aus", "Bus bus", "animal"]).soft()
    np.testing.assert_array_equal(labels.soft()[:, 1], every[:, 1:3].max(axis=1))
    assert labels.report.matched == {"exact": 1, "mapping": 1}


@pytest.fixture
def telling(corpus: Corpus) -> SoftLabelStore:
    """80 clips of two loudnesses, each annotated with what the stand-in hears by level."""
    lines = ["clip_id,path,label"]
    for i in range(80):
        level = (0.9, 0.01)[i % 2]
        samples = np.random.default_rng(i).uniform(-level, level, 800).astype(np.float32)
        corpus.write_samples(f"k{i}.wav", samples, subtype="FLOAT")
        lines.append(f"k{i},k{i}.wav,{('Aus aus_Alpha', 'Bus bus_Beta')[i % 2]}")
    corpus.write_manifest("\n".join(lines) + "\n")
    return label(corpus)


def test_labels_that_do_not_belong_to_the_rows_are_refused(corpus, telling) -> None:
    assert telling.join(corpus.manifest).report.canary.startswith("aligned")
    text = corpus.manifest.read_text()
    swapped = text.replace("Alpha", "X").replace("Aus aus_X", "Bus bus_Y").replace("Bus bus_Beta", "Aus aus_Alpha")
    corpus.write_manifest(swapped.replace("Bus bus_Y", "Bus bus_Beta"))
    with pytest.raises(JoinError, match="the teacher's labels do not fit these annotations: .*misaligned"):
        telling.join(corpus.manifest)
    assert telling.join(corpus.manifest, canary=False).report.canary == "not tested"


def test_a_join_that_does_not_convince_goes_on_and_says_what_to_look_at(corpus, caplog) -> None:
    """Loud and faint clips by a teacher that is sure of both: of 160 labels the last 60 are dealt out at random."""
    lines, names = ["clip_id,path,label"], ("Aus aus_Alpha", "Cus cus_Gamma")
    dealt = np.random.default_rng(1).permutation(np.arange(160) % 2)
    for i in range(160):
        tone = np.sin(np.arange(800) / 40 + i) * 30
        noise = np.random.default_rng(i).uniform(-0.01, 0.01, 800)
        corpus.write_samples(f"k{i}.wav", (tone, noise)[i % 2].astype(np.float32), subtype="FLOAT")
        lines.append(f"k{i},k{i}.wav,{names[i % 2 if i < 100 else dealt[i]]}")
    corpus.write_manifest("\n".join(lines) + "\n")
    report = label(corpus).join(corpus.manifest, classes=names).report
    assert report.canary.startswith("not convinced")
    assert "\n" not in report.canary
    note = next(note for note in report.notes if note.startswith("alignment: not convinced"))
    assert f"join: {note}" in caplog.text
    named = re.findall(r"k(\d+), window 0", note)
    assert len(named) == 3
    assert all(int(i) >= 100 for i in named)
    assert "per_clip()" in note


def test_too_little_to_test_is_reported(corpus, store) -> None:
    assert store.join(corpus.manifest).report.canary.startswith("not testable")


# --- what the report says of splits


def test_rows_of_several_splits_are_noted_and_counted(corpus, store, caplog) -> None:
    report = store.join(corpus.manifest).report
    assert report.splits == {"test": 3, "train": 11}
    assert "rows of several splits are joined (test 3, train 11)" in caplog.text
    caplog.clear()
    assert store.join(corpus.manifest, split="train").report.notes == ()
    assert caplog.text == ""


def test_audio_that_is_in_another_split_too_is_noted(corpus) -> None:
    (corpus.folder / "copy.wav").write_bytes((corpus.folder / "c0.wav").read_bytes())
    corpus.write_manifest(corpus.manifest.read_text() + "c9,copy.wav,Aus aus_Alpha,test\n")
    report = label(corpus).join(corpus.manifest, split="train").report
    assert report.shared_audio == 1
    assert report.shared_audio_examples == ("c9 ('test') and c0 ('train')",)
    assert "same audio as one of another split" in report.notes[0]


def test_stretches_of_one_file_that_do_not_overlap_may_lie_in_two_splits(corpus) -> None:
    corpus.write_manifest(
        "clip_id,path,start_s,end_s,split\na,c3.wav,0,0.2,train\nb,c3.wav,0.2,0.4,test\nc,c3.wav,0.3,0.4,train\n"
    )
    report = label(corpus).join(corpus.manifest, split="train").report
    assert report.shared_audio_examples == ("c ('train') and b ('test')",)


def test_a_label_torn_from_two_classes_is_an_error(corpus, store) -> None:
    corpus.write_manifest("clip_id,path,label\nc0,c0.wav,Aus aus_Beta\n")
    with pytest.raises(
        JoinError,
        match=r"1 labels are a class by a part of their name only: 'Aus aus_Beta' \(clip 'c0'\): 'aus aus' is",
    ):
        store.join(corpus.manifest)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_coverage": float("nan")}, "min_coverage: expected a number from 0 to 1, got nan"),
        ({"windows": "max", "weak_labels": "best"}, "windows='max': annotations in time and weak_labels='best'"),
        ({"weak_labels": "all"}, "weak_labels: expected one of 'spread', 'best', got 'all'"),
        ({"annotated_extents": "clips"}, "annotated_extents: expected `annotations` beside them"),
    ],
)
def test_options_that_contradict_are_refused(corpus, store, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        store.join(corpus.manifest, **options)
