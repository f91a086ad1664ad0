"""The stream of batches: the same bytes over runs, workers and frameworks, and resumed where it was left."""

import hashlib
import itertools
import json
from collections.abc import Iterable

import numpy as np
import pytest
from conftest import Corpus, label

import softlabels
from softlabels.batches.options import BatchOptions
from softlabels.batches.stream import Batches

OPTIONS = {"batch_size": 4, "shuffle": True, "seed": 5}


@pytest.fixture
def labels(corpus: Corpus) -> softlabels.JoinedLabels:
    return label(corpus).join(corpus.manifest)


def digest(batches: Iterable) -> str:
    """sha256 over the bytes of all batches, in order."""
    total = hashlib.sha256()
    for x, y_true in batches:
        total.update(np.asarray(x).tobytes())
        total.update(np.asarray(y_true).tobytes())
    return total.hexdigest()


def reference(labels: softlabels.JoinedLabels, epochs: int = 2, **options) -> str:
    batches = Batches(labels, BatchOptions(**OPTIONS, **options))
    return digest(batches.load(n) for n in range(epochs * len(batches)))


def passes(dataset, epochs: int = 2) -> Iterable:
    return itertools.chain.from_iterable(dataset.as_numpy_iterator() for _ in range(epochs))


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_tf_data_gives_the_same_bytes_with_any_number_of_workers(labels, workers: int) -> None:
    assert digest(passes(softlabels.make_dataset(labels, **OPTIONS, workers=workers))) == reference(labels)


def test_a_pydataset_gives_the_same_bytes(labels) -> None:
    dataset = labels.as_pydataset(**OPTIONS)

    def epochs() -> Iterable:
        for _ in range(2):
            yield from (dataset[i] for i in range(len(dataset)))
            dataset.on_epoch_end()

    assert digest(epochs()) == reference(labels)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_keras_hands_a_pydataset_of_any_number_of_workers_to_the_model_unchanged(labels, workers: int) -> None:
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    adapter = PyDatasetAdapter(labels.as_pydataset(**OPTIONS, workers=workers), shuffle=False)
    assert digest(adapter.get_numpy_iterator()) == reference(labels, epochs=1)


@pytest.mark.parametrize("crops", [None, "random"])
@pytest.mark.parametrize("workers", [0, 2])
def test_grain_gives_the_same_bytes_from_threads_and_worker_processes(labels, workers: int, crops: str | None) -> None:
    grain = pytest.importorskip("grain", reason="pip install softlabels[grain]")
    dataset = labels.as_grain(**OPTIONS, crops=crops, epochs=2).to_iter_dataset(grain.ReadOptions(num_threads=workers))
    assert digest(dataset) == reference(labels, crops=crops)


def test_a_pickled_source_gives_the_same_bytes(labels) -> None:
    import pickle

    from softlabels.batches.frameworks.grain_dataset import BatchSource

    source = pickle.loads(pickle.dumps(BatchSource(Batches(labels, BatchOptions(**OPTIONS)), 2)))
    assert digest(source[i] for i in range(len(source))) == reference(labels)


def test_another_run_and_a_store_in_other_shards_give_the_same_bytes(corpus: Corpus, labels, tmp_path) -> None:
    again = softlabels.open(corpus.folder / "store").join(corpus.manifest, cache_dir=tmp_path / "other")
    (corpus.folder / "store").rename(corpus.folder / "in-fours")
    in_twos = label(corpus, shard_windows=2).join(corpus.manifest)
    assert reference(labels) == reference(again) == reference(in_twos)


def test_a_state_resumes_bit_for_bit_and_neither_repeats_nor_skips_a_row(labels) -> None:
    whole = list(passes(softlabels.make_dataset(labels, **OPTIONS), epochs=3))
    assert len(whole) == 12
    for stop in range(9):
        first = softlabels.make_dataset(labels, **OPTIONS, workers=2)
        taken = list(itertools.islice(passes(first, epochs=3), stop)) if stop else []
        state = json.loads(json.dumps(first.get_state()))
        assert state["position"] == stop, "what was only prefetched does not count"
        second = softlabels.make_dataset(labels, **OPTIONS, workers=1)
        second.set_state(state)
        taken += list(passes(second, epochs=3))
        assert digest(taken[:12]) == digest(whole)


def test_after_a_resume_every_pass_has_as_many_batches_as_keras_expects(labels) -> None:
    dataset = softlabels.make_dataset(labels, **OPTIONS)
    dataset.set_state({**dataset.get_state(), "position": 3})
    assert [len(list(dataset)) for _ in range(2)] == [len(dataset)] * 2


def test_a_fit_is_counted_batch_by_batch(labels) -> None:
    import keras

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None) -> None:
            seen.append((batch, dataset.get_state()["position"]))

    seen: list = []
    dataset = softlabels.make_dataset(labels, **OPTIONS)
    model = keras.Sequential([keras.layers.Dense(3, activation="sigmoid")])
    model.compile("sgd", softlabels.DistillationLoss.for_labels(labels))
    model.fit(dataset, epochs=2, verbose=0, callbacks=[Stop()])
    assert [position for _, position in seen] == list(range(1, 9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "expected seed 5, got 6"),
        ({"batch_size": 8}, "expected batch_size 4, got 8"),
        ({"labels": "another"}, "expected labels"),
        ({"position": -1}, "expected position 'from 0 up', got -1"),
        ({"version": 1}, "expected version 2, got 1"),
    ],
)
def test_a_state_of_other_batches_is_refused(labels, change: dict, message: str) -> None:
    for dataset in (softlabels.make_dataset(labels, **OPTIONS), labels.as_pydataset(**OPTIONS)):
        with pytest.raises(ValueError, match=f"set_state: {message}"):
            dataset.set_state({**dataset.get_state(), **change})


def test_a_state_names_its_weights_as_any_cpu_would(labels) -> None:
    weights = np.arange(1.0, len(labels) + 1)
    total = np.cumsum(weights)
    state = softlabels.make_dataset(labels, sampling_weights=weights).get_state()
    assert state["weights"] == hashlib.sha256((total / total[-1]).tobytes()).hexdigest()


def test_a_pydataset_goes_on_at_the_epoch_its_state_says(labels) -> None:
    first = labels.as_pydataset(**OPTIONS)
    first.on_epoch_end()
    second = labels.as_pydataset(**OPTIONS)
    second.set_state(first.get_state())
    assert digest(second) == digest(first) != digest(labels.as_pydataset(**OPTIONS))
