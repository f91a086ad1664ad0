"""Sixteen ways in which stored soft labels go wrong without anybody noticing, each made here and each noticed.

In the order in which the project lists them. A careless user edits, copies and renames; a broken tool writes shards
with receipts that fit them. What is asserted is an error, or a figure of the report.
"""

import dataclasses
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus, label

import pipeline
import softlabels
from softlabels import AudioError, JoinError, ManifestError, StoreError
from softlabels.batches.mixup import mixup
from softlabels.records.receipts import commit_generation
from softlabels.records.shard import ShardRows, encode_shard


def forge(store: softlabels.SoftLabelStore, shard: int, change: Callable[[ShardRows], ShardRows]) -> Path:
    """Let a broken tool commit changed rows under a receipt that fits them; the store's folder, to open again."""
    rows = change(store.read_shard(shard))
    data = encode_shard(rows, store.spec, shard=shard)
    receipt = store.receipt(shard)
    digest = hashlib.sha256(data).hexdigest()
    commit_generation(store.storage, data, dataclasses.replace(receipt, digest=digest, size=len(data)))
    return store.storage.root


def only_clips(corpus: Corpus, *rows: str, header: str = "clip_id,path,label") -> Path:
    return corpus.write_manifest("\n".join([header, *rows]) + "\n")


def relabelled(corpus: Corpus) -> softlabels.SoftLabelStore:
    """The corpus as it is now, labelled into a new store."""
    shutil.rmtree(corpus.folder / "store", ignore_errors=True)
    return label(corpus)


# 1. Wrong row for an id


def test_a_shard_that_holds_the_rows_of_another_one_is_refused(corpus: Corpus, store) -> None:
    folder = forge(store, 0, lambda _: store.read_shard(2))  # as many rows, of other clips
    with pytest.raises(StoreError, match="shard 0 of .*expected 4 windows as planned, in order, got 4"):
        softlabels.open(folder).join(corpus.manifest)


def test_a_clip_whose_id_now_names_another_file_is_refused(corpus: Corpus) -> None:
    corpus.write_audio("c0.wav", 0.4, seed=7)
    corpus.write_audio("c3.wav", 0.4, seed=8)
    store = relabelled(corpus)
    only_clips(corpus, "c3,c0.wav,Aus aus_Alpha", "c0,c3.wav,noise")  # an id table of another version of the corpus
    labels = store.join(corpus.manifest)
    with pytest.raises(AudioError, match="clip 'c3'"):
        labels.as_pydataset()[0]


def test_a_clip_whose_manifest_names_another_digest_than_was_labelled_is_refused(corpus: Corpus, store) -> None:
    only_clips(corpus, f"c3,c3.wav,Aus aus_Alpha,{'0' * 64}", header="clip_id,path,label,sha256")
    with pytest.raises(JoinError, match="c3"):
        store.join(corpus.manifest)


def test_an_id_given_to_two_clips_is_refused(corpus: Corpus, store) -> None:
    only_clips(corpus, "c0,c0.wav,", "c0,c3.wav,")
    with pytest.raises(ManifestError, match="line 3: clip_id 'c0': same clip_id as line 2"):
        store.join(corpus.manifest)


def test_an_id_that_lost_its_zeros_finds_no_row(corpus: Corpus) -> None:
    only_clips(corpus, "007,c0.wav,", "7,c3.wav,")
    store = relabelled(corpus)
    only_clips(corpus, "07,c0.wav,")
    with pytest.raises(JoinError, match="no label for 1 windows of the manifest: 07, window 0"):
        store.join(corpus.manifest)


# 2. Positional join


def test_rows_in_another_order_than_planned_are_refused(corpus: Corpus, store) -> None:
    def backwards(rows: ShardRows) -> ShardRows:
        turned = {name: values[::-1] for name, values in rows.keys().items()}
        return ShardRows(**turned, probabilities=rows.probabilities[::-1])

    with pytest.raises(StoreError, match="shard 0 of .*expected 4 windows as planned, in order"):
        softlabels.open(forge(store, 0, backwards)).join(corpus.manifest)


def test_labels_that_were_laid_beside_the_clips_by_position_are_refused(corpus: Corpus) -> None:
    names = ["Aus aus_Alpha", "Cus cus_Gamma"]
    sounds = [np.sin(np.arange(1600) / 40) * 0.9, np.random.default_rng(0).uniform(-0.02, 0.02, 1600)]
    for i in range(24):  # loud tones and faint noise, in turn, two windows each
        corpus.write_samples(f"s{i}.wav", np.roll(sounds[i % 2], i).astype(np.float32), subtype="FLOAT")
    only_clips(corpus, *(f"s{i},s{i}.wav,{names[i % 2]}" for i in range(24)))
    store = relabelled(corpus)
    assert store.join(corpus.manifest).report.canary.startswith("aligned")
    only_clips(corpus, *(f"s{i},s{i}.wav,{names[(i + 1) % 2]}" for i in range(24)))  # off by one row
    with pytest.raises(JoinError, match="the teacher's labels do not fit these annotations: alignment: misaligned"):
        store.join(corpus.manifest)


# 3. Zero-filled missing rows


def test_a_window_without_a_label_is_an_error_or_nan_but_never_zeros(corpus: Corpus, store) -> None:
    (store.storage.root / "receipts" / "00003.g0.json").unlink()
    unfinished = softlabels.open(store.storage.root)
    with pytest.raises(JoinError, match="has no label for 3 windows of the manifest: c4, window 0; c5, window 0"):
        unfinished.join(corpus.manifest)
    labels = unfinished.join(corpus.manifest, missing="hard")
    assert np.isnan(labels.soft()[-3:]).all()
    assert labels.report.rows_both + labels.report.rows_soft_only == 11
    assert labels.report.windows_missing == 3


@pytest.mark.parametrize("how", ["linear", "nearest", "overlap"])
def test_a_crop_that_no_window_covers_is_nan_never_zeros(corpus: Corpus, store, how: str) -> None:
    soft = store.join(corpus.manifest).soft_at(["c0", "c0", "c3"], [-0.05, 0.25, 0.4], how=how)
    assert np.isnan(soft).all()


@pytest.mark.parametrize("duration_s", [0.0, -0.05, 1e-6])
def test_a_crop_without_any_length_is_refused(corpus: Corpus, store, duration_s: float) -> None:
    with pytest.raises(ValueError, match="duration_s"):
        store.join(corpus.manifest).soft_at(["c3"], 0.1, duration_s, how="overlap")


# 4. Rows dropped without a count


def test_every_window_that_is_left_out_is_counted_and_named(corpus: Corpus) -> None:
    samples = np.full(3200, 0.1, np.float32)
    samples[900] = np.nan  # in the second window of four
    corpus.write_samples("c3.wav", samples, subtype="FLOAT")
    store = relabelled(corpus)
    corpus.write_manifest(corpus.manifest.read_text() + "new,new.wav,,train\n")
    report = store.join(corpus.manifest, missing="drop").report
    assert (report.rows, report.windows_missing, report.windows_quarantined) == (13, 1, 1)
    assert (report.missing_examples, report.quarantined_examples) == (("new, window 0",), ("c3, window 1",))
    assert report.rows == report.rows_both + report.rows_hard_only + report.rows_soft_only + report.rows_neither


def test_a_store_that_grew_after_it_was_opened_loses_no_rows_of_later_joins(corpus: Corpus) -> None:
    everything = corpus.manifest.read_text()
    only_clips(corpus, "c0,c0.wav,,train", header="clip_id,path,label,split")
    opened_early = relabelled(corpus)
    assert len(opened_early.index) == 3
    corpus.write_manifest(everything)
    grown = label(corpus)
    opened_early.join(corpus.manifest, missing="drop")
    labels = grown.join(corpus.manifest, missing="drop")
    assert (len(labels), labels.report.windows_missing) == (14, 0)


# 5. Class order changed


def test_a_reordered_class_list_of_the_store_is_refused(store) -> None:
    path = store.storage.root / "classes.txt"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    with pytest.raises(StoreError, match=r"classes\.txt was changed"):
        softlabels.open(store.storage.root)


def test_a_class_list_in_another_order_meets_by_name_and_is_reported(corpus: Corpus, store) -> None:
    labels = store.join(corpus.manifest, classes=["Cus cus_Gamma", "Bus bus_Beta", "Aus aus_Alpha"])
    np.testing.assert_array_equal(labels.soft(), store.join(corpus.manifest).soft()[:, ::-1])
    assert "the list has the teacher's classes in another order; they meet by name" in labels.report.notes[0]


def test_a_saved_join_whose_classes_were_reordered_is_refused(corpus: Corpus, store, tmp_path) -> None:
    header = store.join(corpus.manifest).save(tmp_path / "saved") / "join.json"
    content = json.loads(header.read_text())
    header.write_text(json.dumps({**content, "classes": content["classes"][::-1]}))
    with pytest.raises(JoinError, match=r"join\.json"):
        softlabels.load_labels(tmp_path / "saved")


# 6. Width-1 broadcast


def test_a_teacher_row_of_one_number_is_not_spread_over_all_classes(corpus: Corpus, store) -> None:
    folder = forge(store, 1, lambda rows: dataclasses.replace(rows, probabilities=rows.probabilities[:, :1]))
    with pytest.raises(StoreError, match="shard 1 of .*expected the columns"):
        softlabels.open(folder).join(corpus.manifest)


def test_labels_and_predictions_of_one_number_a_row_are_refused(corpus: Corpus, store) -> None:
    labels = store.join(corpus.manifest)
    with pytest.raises(ValueError, match=r"out: expected float32 of shape \(2, 6\), got float32 \(2, 1\)"):
        labels.y_true([0, 1], out=np.empty((2, 1), np.float32))
    loss = softlabels.DistillationLoss.for_labels(labels)
    for targets, predictions in ((6, 1), (1, 3), (2, 3)):
        with pytest.raises(ValueError, match="expected"):
            loss(np.zeros((2, targets), np.float32), np.full((2, predictions), 0.5, np.float32))


# 7. Float-key drift


def test_a_time_is_no_key(store) -> None:
    with pytest.raises(ValueError, match=r"got 0\.1; a time is no key"):
        store.take([("c3", 0.1)])


def test_times_that_drifted_find_the_window_they_mean(corpus: Corpus, store) -> None:
    labels = store.join(corpus.manifest)
    third = labels.keys.query("clip_id == 'c3' and window_index == 3").index
    drifted = [0.1 + 0.1 + 0.1, np.float32(0.3), 0.1 * 3 - 1e-6]
    assert (np.array(drifted) != 0.3).all()
    np.testing.assert_array_equal(labels.soft_at(["c3"] * 3, drifted), labels.soft(third.repeat(3)))


# 8. Shards of two teachers or temperatures mixed


def label_with_another_teacher(corpus: Corpus, store: Path) -> softlabels.SoftLabelStore:
    """It answers the same to these windows, but is not the stand-in."""
    labelling, options = pipeline.LabelOptions(shard_windows=4), pipeline.RunOptions(backend="sequential")
    pipeline.run(corpus.manifest, store, teacher="standin:not_finite", labelling=labelling, options=options)
    return softlabels.open(store)


def test_a_shard_of_another_teacher_is_refused(corpus: Corpus, store) -> None:
    other = label_with_another_teacher(corpus, corpus.folder / "other")
    receipt = other.receipt(1)
    commit_generation(store.storage, other.storage.get(receipt.file), receipt)
    with pytest.raises(StoreError, match="shard 1 of .*made with fingerprint"):
        softlabels.open(store.storage.root).join(corpus.manifest)


def test_another_teacher_cannot_add_to_a_store(corpus: Corpus, store) -> None:
    with pytest.raises(StoreError, match="--teacher standin:not_finite here, standin:teacher in the store"):
        label_with_another_teacher(corpus, store.storage.root)


def test_a_shard_softened_by_a_temperature_is_refused(corpus: Corpus, store) -> None:
    rows = store.read_shard(1)
    softened = dataclasses.replace(rows, probabilities=rows.probabilities ** np.float32(1 / 3))
    store.storage.put(store.receipts[1].file, encode_shard(softened, store.spec, shard=1))
    with pytest.raises(StoreError, match="shard 1 of .*digest mismatch"):
        store.join(corpus.manifest)


# 9. Stale store after re-windowing


def test_a_store_of_other_windows_is_not_added_to(corpus: Corpus, store) -> None:
    with pytest.raises(StoreError, match="--overlap 0.05 here, 0 in the store; .*label into another store"):
        label(corpus, overlap_s=0.05)


def test_a_join_of_the_windows_before_is_not_found_again(corpus: Corpus, store, tmp_path) -> None:
    before = store.join(corpus.manifest, cache_dir=tmp_path / "cache")
    shutil.rmtree(store.storage.root)
    after = label(corpus, overlap_s=0.05).join(corpus.manifest, cache_dir=tmp_path / "cache")
    assert len(after) > len(before)
    assert after.window.hop_samples == 400
    state = softlabels.make_dataset(before).get_state()
    with pytest.raises(ValueError, match="set_state: expected labels"):
        softlabels.make_dataset(after).set_state(state)


def test_a_clip_that_was_cut_anew_since_it_was_labelled_is_refused(corpus: Corpus, store) -> None:
    only_clips(corpus, "c3,c3.wav,Aus aus_Alpha,0.2,0.3", header="clip_id,path,label,start_s,end_s")
    with pytest.raises(JoinError, match="c3"):
        store.join(corpus.manifest)


def test_a_pickle_of_a_join_that_was_replaced_is_refused(corpus: Corpus, store, tmp_path) -> None:
    store.join(corpus.manifest).save(tmp_path / "saved")
    pickled = pickle.dumps(softlabels.load_labels(tmp_path / "saved"))
    shutil.rmtree(tmp_path / "saved")
    store.join(corpus.manifest, split="test").save(tmp_path / "saved")
    with pytest.raises(JoinError, match="fingerprint"):
        pickle.loads(pickled)


# 10. Truncated shard skipped


@pytest.mark.parametrize("kept", [0, 4, 500])
def test_a_truncated_shard_is_an_error(corpus: Corpus, store, kept: int) -> None:
    path = store.storage.path(store.receipts[1].file)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match="shard 1 of .*digest mismatch.*softlabels regenerate .* --shard 1"):
        softlabels.open(store.storage.root).join(corpus.manifest, missing="drop")


def test_a_lost_shard_is_an_error(corpus: Corpus, store) -> None:
    store.storage.path(store.receipts[1].file).unlink()
    with pytest.raises(StoreError, match="shard 1 of .* is gone"):
        softlabels.open(store.storage.root).join(corpus.manifest, missing="drop")


# 11. Noise in place of failed audio joined to a real row


def test_audio_that_cannot_be_decoded_has_no_row(corpus: Corpus) -> None:
    (corpus.folder / "c3.wav").write_bytes(b"RIFF\0\0\0\0WAVEjunk")
    labels = relabelled(corpus).join(corpus.manifest)
    assert "c3" not in set(labels.keys.clip_id)
    assert labels.report.quarantined_examples == ("c3, window 0",)


@pytest.mark.parametrize("damage", ["gone", "truncated", "no audio", "other noise of another length"])
def test_audio_that_fails_in_training_stops_it(corpus: Corpus, store, damage: str) -> None:
    path = corpus.folder / "c3.wav"
    if damage == "gone":
        path.unlink()
    elif damage == "other noise of another length":
        corpus.write_audio("c3.wav", 0.35, seed=99)
    else:
        path.write_bytes(path.read_bytes()[:-2000] if damage == "truncated" else b"junk")
    batches = store.join(corpus.manifest).as_pydataset(100)
    with pytest.raises(AudioError, match="clip 'c3'"):
        batches[0]


def test_other_audio_of_the_same_length_stops_training(corpus: Corpus, store) -> None:
    labels = store.join(corpus.manifest)
    corpus.write_audio("c3.wav", 0.4, seed=99)
    batches = labels.as_pydataset(100)
    with pytest.raises(AudioError, match="clip 'c3'"):
        batches[0]


# 12. Crop other than the teacher's window


@pytest.mark.parametrize("duration_s", [0.05, 0.2])
def test_a_crop_that_is_not_the_teachers_window_is_refused(corpus: Corpus, store, duration_s: float) -> None:
    labels = store.join(corpus.manifest)
    with pytest.raises(ValueError, match=r"expected crops of 0\.1 s, the teacher's window, got"):
        labels.soft_at(["c3"], 0.0, duration_s)


def test_rows_of_whole_clips_are_not_given_the_audio_of_a_window(corpus: Corpus, store) -> None:
    with pytest.raises(ValueError, match="windows='max' made one row of the windows of 4 clips"):
        store.join(corpus.manifest, windows="max").as_pydataset()


# 13. Teacher row of one parent on a mixed clip


def test_a_mixture_is_labelled_by_both_parents_or_not_at_all(corpus: Corpus, store) -> None:
    labels = store.join(corpus.manifest)
    y = labels.y_true([0, 3])
    y[1, 3:] = np.nan  # the teacher said nothing of the second parent
    _, mixed = mixup(np.zeros((2, 1), np.float32), y, 0.7)
    assert np.isnan(mixed[:, 3:]).all()
    with pytest.raises(ValueError, match="-1 is no row: pair only what has a partner"):
        mixup(np.zeros((2, 1), np.float32), y, 0.7, partner=[1, -1])


def test_a_mixed_clip_has_no_row_of_its_own(corpus: Corpus, store) -> None:
    with pytest.raises(ValueError, match=r"clip_ids: 'c0\+c3' is not a clip of this join"):
        store.join(corpus.manifest).soft_at(["c0+c3"], 0.0)


def test_a_crop_across_windows_of_other_hard_labels_has_none(corpus: Corpus, store, tmp_path) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("clip_id,start_s,end_s,label\nc3,0.0,0.08,Aus aus_Alpha\n")
    labels = store.join(corpus.manifest, annotations=boxes, annotated_extents="clips")
    np.testing.assert_array_equal(labels.y_true_at(["c3"], 0.05)[0, :3], [np.nan, 0, 0])


# 14. NaN / negative / > 1 teacher values


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5, np.inf])
@pytest.mark.parametrize("windows", ["each", "max", "mean"])
def test_teacher_values_that_are_no_probabilities_are_refused(corpus: Corpus, store, value: float, windows) -> None:
    def spoilt(rows: ShardRows) -> ShardRows:
        probabilities = rows.probabilities.copy()
        probabilities[2, 1] = value
        return dataclasses.replace(rows, probabilities=probabilities)

    folder = forge(store, 1, spoilt)
    with pytest.raises(StoreError, match="shard 1 of .*expected probabilities from 0 to 1"):
        softlabels.open(folder).join(corpus.manifest, windows=windows)


# 15. Resume that repeats or skips rows


def test_a_resumed_epoch_has_every_row_once(corpus: Corpus, store) -> None:
    labels = store.join(corpus.manifest)
    options = {"batch_size": 4, "shuffle": True, "seed": 1}
    first = softlabels.make_dataset(labels, **options)
    taken = [y for _, y in first.take(2).as_numpy_iterator()]
    second = softlabels.make_dataset(labels, **options)
    second.set_state(json.loads(json.dumps(first.get_state())))
    taken += [y for _, y in second.take(2).as_numpy_iterator()]
    rows = np.concatenate(taken)[:, 3:]
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(labels.soft(), axis=0))


@pytest.mark.parametrize("change", [{"batch_size": 2}, {"seed": 2}, {"shuffle": False}])
def test_a_resume_with_other_batches_is_refused(corpus: Corpus, store, change: dict) -> None:
    labels = store.join(corpus.manifest)
    options = {"batch_size": 4, "shuffle": True, "seed": 1}
    state = softlabels.make_dataset(labels, **options).get_state()
    with pytest.raises(ValueError, match=f"set_state: expected {next(iter(change))}"):
        softlabels.make_dataset(labels, **{**options, **change}).set_state(state)


def test_a_resume_with_the_rows_of_another_split_is_refused(corpus: Corpus, store) -> None:
    state = softlabels.make_dataset(store.join(corpus.manifest, split="train")).get_state()
    with pytest.raises(ValueError, match="set_state: expected labels"):
        softlabels.make_dataset(store.join(corpus.manifest)).set_state(state)


# 16. Validation clips in the training join


def test_rows_of_several_splits_in_one_join_are_reported(corpus: Corpus, store) -> None:
    report = store.join(corpus.manifest).report
    assert report.splits == {"test": 3, "train": 11}
    assert any("rows of several splits are joined (test 3, train 11)" in note for note in report.notes)
    assert store.join(corpus.manifest, split="train").report.splits == {"train": 11}


def test_a_validation_recording_under_another_name_in_the_training_split_is_reported(corpus: Corpus) -> None:
    shutil.copy(corpus.folder / "c5.wav", corpus.folder / "copy.wav")
    corpus.write_manifest(corpus.manifest.read_text() + "copy,copy.wav,,train\n")
    report = relabelled(corpus).join(corpus.manifest, split="train").report
    assert report.shared_audio == 1
    assert report.shared_audio_examples == ("copy ('train') and c5 ('test')",)


def test_a_recording_shared_with_a_split_that_was_never_labelled_is_reported(corpus: Corpus) -> None:
    only_clips(corpus, "c0,c0.wav,,train", header="clip_id,path,label,split")
    store = relabelled(corpus)
    only_clips(corpus, "c0,c0.wav,,train", "v0,c0.wav,,test", header="clip_id,path,label,split")
    assert store.join(corpus.manifest, split="train").report.shared_audio == 1
