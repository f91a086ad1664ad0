"""Batches: the audio of a row beside the labels of the same row, in a known order."""

import multiprocessing

import keras
import numpy as np
import pytest
import soxr
from conftest import Corpus, label

import softlabels
from softlabels import AudioError
from softlabels.audio.decode import read_audio
from softlabels.batches.window_audio import WindowAudio


@pytest.fixture
def overlapping(corpus: Corpus) -> softlabels.SoftLabelStore:
    return label(corpus, overlap_s=0.02)


@pytest.fixture
def labels(corpus: Corpus, overlapping) -> softlabels.JoinedLabels:
    return overlapping.join(corpus.manifest)


def all_batches(dataset) -> tuple[np.ndarray, np.ndarray]:
    pairs = list(dataset.as_numpy_iterator())
    return np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])


def test_a_window_of_audio_is_what_the_teacher_heard(corpus: Corpus, labels) -> None:
    windows = WindowAudio(labels).read(np.arange(len(labels)))
    assert windows.shape == (len(labels), 800)
    for row, key in labels.keys.iterrows():
        clip = np.pad(read_audio(corpus.folder / f"{key.clip_id}.wav", rate_hz=8000), (0, 800))
        np.testing.assert_array_equal(windows[row], clip[key.window_index * 640 :][:800])


def test_at_another_rate_the_window_covers_the_same_time(corpus: Corpus, labels) -> None:
    windows = WindowAudio(labels, rate_hz=4000).read([labels.keys.query("clip_id == 'c3'").index[2]])
    clip = soxr.resample(read_audio(corpus.folder / "c3.wav", rate_hz=8000), 8000, 4000, quality="HQ")
    np.testing.assert_array_equal(windows[0], clip[640:1040])


def test_any_stretch_of_any_length_is_read(corpus: Corpus, labels) -> None:
    row = labels.keys.query("clip_id == 'c3'").index[2]
    clip = np.pad(read_audio(corpus.folder / "c3.wav", rate_hz=8000), (0, 800))
    read = WindowAudio(labels, window_samples=300).read([row, row, row], np.array([0, 123, 10**6]))
    np.testing.assert_array_equal(read, [clip[:300], clip[123:423], np.zeros(300)])


def test_batches_pair_each_windows_audio_with_its_own_labels(labels) -> None:
    x, y_true = all_batches(softlabels.make_dataset(labels, batch_size=4))
    np.testing.assert_array_equal(x, WindowAudio(labels).read(np.arange(len(labels))))
    np.testing.assert_array_equal(y_true, labels.y_true())


def test_shuffled_batches_hold_the_same_pairs_in_an_order_fixed_by_seed_and_epoch(labels) -> None:
    def first_samples(seed: int) -> list[list[float]]:
        dataset = softlabels.make_dataset(labels, batch_size=4, shuffle=True, seed=seed)
        return [all_batches(dataset)[0][:, 0].tolist() for _ in range(2)]

    one, again, other = first_samples(1), first_samples(1), first_samples(2)
    assert one == again
    assert one[0] != one[1], "another order every epoch"
    assert one != other
    plain = all_batches(softlabels.make_dataset(labels))[0][:, 0].tolist()
    assert sorted(one[0]) == sorted(one[1]) == sorted(plain)
    x, y_true = all_batches(softlabels.make_dataset(labels, batch_size=4, shuffle=True, seed=3))
    row_of = {value: row for row, value in enumerate(plain)}
    np.testing.assert_array_equal(y_true, labels.y_true([row_of[value] for value in x[:, 0].tolist()]))


def test_a_dataset_knows_its_length_shapes_and_dtypes(labels) -> None:
    dataset = softlabels.make_dataset(labels, batch_size=4, features=lambda x: x[:, :5, None].astype(np.float64))
    assert len(dataset) == -(-len(labels) // 4) == len(list(dataset))
    x, y_true = dataset.element_spec
    assert (x.shape.as_list(), x.dtype.name) == ([None, 5, 1], "float64")
    assert (y_true.shape.as_list(), y_true.dtype.name) == ([None, 6], "float32")


def test_features_must_keep_the_batch(labels) -> None:
    with pytest.raises(ValueError, match=r"features: expected an array with the batch as first axis.*got \(1600,\)"):
        softlabels.make_dataset(labels, features=lambda x: x.reshape(-1))


def test_an_empty_join_is_refused(corpus: Corpus, overlapping) -> None:
    corpus.write_manifest("clip_id,path\nnew,new.wav\n")
    empty = overlapping.join(corpus.manifest, missing="drop")
    with pytest.raises(ValueError, match="expected at least one row"):
        softlabels.make_dataset(empty)


def test_a_pooled_row_has_no_audio_of_its_own(corpus: Corpus, overlapping) -> None:
    with pytest.raises(ValueError, match="windows='max' made one row of the windows of 4 clips, such as 'c0'"):
        softlabels.make_dataset(overlapping.join(corpus.manifest, windows="max"))
    corpus.write_manifest("clip_id,path\nc1,c1.wav\n")
    assert len(softlabels.make_dataset(overlapping.join(corpus.manifest, windows="max"))) == 1


def test_a_file_that_changed_since_it_was_labelled_stops_training(corpus: Corpus, labels) -> None:
    corpus.write_audio("c3.wav", 0.35)
    with pytest.raises(AudioError, match="changed-since-probe: clip 'c3'"):
        WindowAudio(labels).read(np.arange(len(labels)))


def test_a_clip_that_was_never_heard_has_no_audio(corpus: Corpus, overlapping) -> None:
    corpus.write_manifest("clip_id,path\nnew,new.wav\n")
    hard_only = overlapping.join(corpus.manifest, missing="hard")
    with pytest.raises(AudioError, match="clip 'new' was never heard by the teacher"):
        WindowAudio(hard_only).read([0])


def test_audio_is_found_below_another_root(corpus: Corpus, labels, tmp_path) -> None:
    corpus.folder.rename(tmp_path / "moved")
    moved = softlabels.open(tmp_path / "moved" / "store")
    found = moved.join(tmp_path / "moved" / "data_manifest.csv")
    assert WindowAudio(found).read([0]).shape == (1, 800)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(AudioError, match="missing"):
        WindowAudio(moved.join(tmp_path / "moved" / "data_manifest.csv", root=tmp_path / "elsewhere")).read([0])


def test_workers_that_are_none_are_refused(labels) -> None:
    with pytest.raises(ValueError, match="workers: expected 0 or more, got -1"):
        softlabels.make_dataset(labels, workers=-1)


def test_features_may_not_change_shape_between_batches(labels) -> None:
    with pytest.raises(ValueError, match=r"features: expected shape \(4, 3\), as for other batches, got \(4, 4\)"):
        labels.as_pydataset(4, features=lambda x: x[:, : 3 + (len(x) == 4)])[0]


def test_rows_are_drawn_by_sampling_weights_in_an_order_fixed_by_seed_and_epoch(labels) -> None:
    weights = np.zeros(len(labels))
    weights[[2, 5]] = 1, 3
    batches = labels.as_pydataset(100, shuffle=True, seed=7, sampling_weights=weights)._batches
    first, second = batches.rows(0), batches.rows(1)
    assert set(first) == {2, 5}
    assert len(first) == len(labels)
    assert first.tolist() != second.tolist()
    assert batches.rows(0).tolist() == first.tolist()
    drawn = np.concatenate([batches.rows(n) for n in range(60)])
    assert np.mean(drawn == 5) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("weights", [[1.0], [np.nan] * 17, [-1.0] + [1.0] * 16, [0.0] * 17])
def test_weights_that_are_none_are_refused(labels, weights: list) -> None:
    with pytest.raises(ValueError, match="sampling_weights: expected 17 finite numbers from 0 up"):
        softlabels.make_dataset(labels, sampling_weights=np.array(weights))


def test_a_fitted_keras_model_takes_every_form_of_the_batches(labels) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(3, activation="sigmoid")])
    model.compile("sgd", softlabels.DistillationLoss.for_labels(labels))
    for batches in (softlabels.make_dataset(labels, 4), labels.as_pydataset(4), labels.as_pydataset(4, workers=2)):
        history = model.fit(batches, epochs=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()


def _first_batch(batches, queue) -> None:
    queue.put(batches[0][1].shape)


def test_a_forked_process_reads_audio_too(labels) -> None:
    batches = labels.as_pydataset(4)
    batches[0]  # threads of this process, which no child inherits
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_first_batch, args=(batches, queue))
    child.start()
    assert queue.get(timeout=60) == (4, 6)
    child.join()


def test_a_file_that_is_overwritten_during_training_stops_it(corpus: Corpus, labels) -> None:
    audio = WindowAudio(labels)
    audio.read(np.arange(len(labels)))
    corpus.write_audio("c3.wav", 0.4, seed=99)  # as long as it was
    with pytest.raises(AudioError, match="changed-since-probe: clip 'c3'"):
        audio.read(np.arange(len(labels)))
