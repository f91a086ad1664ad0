"""Several small batches a Python call: the same batches, counts and errors as one a call, and fewer calls."""

import itertools
import logging
import threading
import traceback

import numpy as np
import pytest
import tensorflow as tf
from conftest import label, make_corpus

import softlabels
from softlabels.batches.frameworks import tf_dataset
from softlabels.batches.options import BatchOptions
from softlabels.batches.stream import Batches


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> softlabels.JoinedLabels:
    """17 rows of 800 samples."""
    corpus = make_corpus(tmp_path_factory.mktemp("calls"))
    return label(corpus, overlap_s=0.02).join(corpus.manifest)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The first batch of each Python call, and the one after its last; appended to while batches are made."""
    made, make = [], tf_dataset.batches_of_call

    def noted(batches: Batches, first: int, end: int) -> list:
        made.append((int(first), int(end)))
        return make(batches, first, end)

    monkeypatch.setattr(tf_dataset, "batches_of_call", noted)
    return made


def expected(labels: softlabels.JoinedLabels, count: int, **options: object) -> list[tuple]:
    batches = Batches(labels, BatchOptions(**options))
    return [batches.load(n) for n in range(count)]


def assert_same(got: list[tuple], wanted: list[tuple]) -> None:
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, theirs, strict=True)


@pytest.mark.parametrize(("workers", "most"), [(0, 17), (1, 2), (3, 2)])
def test_an_epoch_of_small_batches_is_made_in_few_calls(labels, calls, workers: int, most: int) -> None:
    (*batches,) = softlabels.make_dataset(labels, 1, workers=workers).as_numpy_iterator()
    assert len(batches) == 17
    assert len(calls) == most


@pytest.mark.parametrize(("batch_size", "together"), [(16, 16), (20, 16), (21, 15), (81, 4), (82, 1), (20_000, 1)])
def test_a_call_makes_a_mebibyte_or_one_batch(labels, batch_size: int, together: int) -> None:
    batches = Batches(labels, BatchOptions(batch_size=batch_size))
    assert tf_dataset.batches_a_call(batches) == together


def test_the_audio_that_features_are_made_of_counts_too(labels) -> None:
    batches = Batches(labels, BatchOptions(batch_size=81, features=lambda audio: np.repeat(audio, 3, axis=1)))
    assert tf_dataset.batches_a_call(batches) == 1


@pytest.mark.parametrize(("batch_size", "together"), [(1, 3), (2, 16), (5, 2), (17, 16)])
def test_batches_of_any_size_are_the_same_however_many_a_call_makes(
    labels, monkeypatch, batch_size: int, together: int
) -> None:
    monkeypatch.setattr(tf_dataset, "batches_a_call", lambda batches: together)
    options = {"batch_size": batch_size, "shuffle": True, "seed": 3, "features": lambda audio: audio[:, :7]}
    dataset = softlabels.make_dataset(labels, **options)
    two_passes = list(itertools.chain(dataset.as_numpy_iterator(), dataset.as_numpy_iterator()))
    assert_same(two_passes, expected(labels, 2 * len(dataset), **options))


@pytest.mark.parametrize("position", [1, 3, 9])
def test_a_resume_in_the_middle_of_a_call_goes_on_there_over_the_short_end_of_an_epoch(
    labels, monkeypatch, position: int
) -> None:
    monkeypatch.setattr(tf_dataset, "batches_a_call", lambda batches: 4)
    options = {"batch_size": 4, "shuffle": True, "seed": 3}  # 5 batches a pass, the last of one row
    dataset = softlabels.make_dataset(labels, **options)
    dataset.set_state({**dataset.get_state(), "position": position})
    assert_same(list(dataset.as_numpy_iterator()), expected(labels, position + 5, **options)[position:])
    assert dataset.get_state()["position"] == position + 5


@pytest.mark.parametrize("taken", [1, 16])
def test_what_an_abandoned_iterator_had_made_does_not_count(labels, taken: int) -> None:
    dataset = softlabels.make_dataset(labels, 1)
    batches = iter(dataset)
    for _ in range(taken):
        next(batches)
    del batches
    assert dataset.get_state()["position"] == taken


@pytest.mark.parametrize("bad", [0, 9, 16])
def test_a_batch_that_fails_fails_in_its_turn_and_the_others_are_there(labels, bad: int) -> None:
    first = Batches(labels, BatchOptions(batch_size=1)).arrays(bad)[0][0, 0]

    def features(audio: np.ndarray) -> np.ndarray:
        if audio[0, 0] == first:
            raise LookupError(f"no features of {first}")
        return audio[:, :3]

    dataset = softlabels.make_dataset(labels, 1, features)
    good = expected(labels, 17, batch_size=1, features=lambda audio: audio[:, :3])
    batches = dataset.as_numpy_iterator()
    assert_same([next(batches) for _ in range(bad)], good[:bad])
    assert dataset.get_state()["position"] == bad
    with pytest.raises(tf.errors.OpError, match=f"LookupError: no features of {first}"):
        next(batches)
    assert_same(list(itertools.islice(batches, 16 - bad)), good[bad + 1 :])


@pytest.mark.parametrize("rows", [[3], [5, 5, 0], range(17)])
@pytest.mark.parametrize("exclusive", [False, True])
def test_labels_begin_where_tensorflow_need_not_copy_them(labels, rows: list, exclusive: bool) -> None:
    read = labels.exclusive() if exclusive else labels
    for _ in range(8):
        y_true = read.y_true(list(rows))
        assert y_true.ctypes.data % 64 == 0
        assert y_true.flags.c_contiguous
        assert y_true.flags.writeable


@pytest.mark.parametrize("element", [{"row": [1, 0]}, {"clip_id": ["c0", "c3"], "start_s": [0.0, 0.01]}])
def test_attach_gives_autograph_nothing_to_complain_of(labels, element: dict) -> None:
    told: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = told.append  # type: ignore[method-assign]
    tf.get_logger().addHandler(handler)
    try:
        tf.data.Dataset.from_tensors({**element, "x": [0.0, 1.0]}).map(softlabels.attach(labels))
    finally:
        tf.get_logger().removeHandler(handler)
    assert [record.getMessage() for record in told] == []


@pytest.mark.parametrize("batch_size", [1, 4, 17])
def test_labels_attached_to_many_rows_are_cut_into_batches(labels, batch_size: int) -> None:
    rows = np.random.default_rng(0).permutation(17)
    many = tf.data.Dataset.from_tensor_slices({"row": rows, "x": rows}).batch(10 * batch_size)
    cut = many.map(softlabels.attach(labels)).rebatch(batch_size).as_numpy_iterator()
    starts = range(0, 17, batch_size)
    wanted = [(rows[i : i + batch_size], labels.y_true(rows[i : i + batch_size])) for i in starts]
    assert_same(list(cut), wanted)


@pytest.mark.parametrize("workers", [0, 2])
def test_autograph_has_nothing_to_do(labels, monkeypatch, workers: int) -> None:
    made, load = [], tf_dataset._Stream._load

    def noted(*args: object) -> object:
        made.append([frame.filename for frame in traceback.extract_stack()])
        return load(*args)

    monkeypatch.setattr(tf_dataset._Stream, "_load", noted)
    softlabels.make_dataset(labels, 1, workers=workers)
    assert made
    assert not [name for names in made for name in names if "__autograph_generated" in name]


def test_tensorflow_has_nothing_to_tune(labels) -> None:
    """Its tuner looks after 0.01, 0.02, 0.04, ... seconds, and the end of a pass may wait for its next look."""
    assert softlabels.make_dataset(labels).options().autotune.enabled is False


def test_what_follows_may_still_run_in_parallel(labels) -> None:
    both = threading.Barrier(2, timeout=20)  # breaks where one is done after the other

    def met(y_true: np.ndarray) -> np.ndarray:
        both.wait()
        return y_true

    dataset = softlabels.make_dataset(labels, 1).take(16).map(lambda x, y: y)
    dataset = dataset.map(lambda y: tf.numpy_function(met, [y], tf.float32), num_parallel_calls=tf.data.AUTOTUNE)
    assert len(list(dataset.prefetch(tf.data.AUTOTUNE))) == 16
