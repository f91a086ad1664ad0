"""Where batches take x from: kept or streamed sound, one stream, chosen by size; features that are kept or refused."""

import dataclasses
import functools
import hashlib
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus, label, make_corpus
from test_kept_audio import flip, kept_file

import softlabels
import softlabels.batches.sources.kept_features as kept_features
import softlabels.batches.sources.sound_source as sound_source
import softlabels.kept.in_parts as in_parts
from softlabels import AudioError, JoinedLabels, JoinError
from softlabels.batches.frameworks.grain_dataset import BatchSource
from softlabels.batches.options import BatchOptions
from softlabels.batches.stream import Batches
from softlabels.batches.window_audio import WindowAudio
from softlabels.errors import StorageFullError
from softlabels.sound.kept_audio import KeptAudio

HOW = {"batch_size": 4, "rate_hz": 4000, "shuffle": True, "seed": 3}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, softlabels.SoftLabelStore]:
    made = make_corpus(tmp_path_factory.mktemp("labelled"))
    return made, label(made)


@pytest.fixture
def labels(labelled, tmp_path: Path) -> JoinedLabels:
    """Labels that keep nothing yet."""
    corpus, store = labelled
    return store.join(corpus.manifest, cache_dir=tmp_path / "kept")


def digest(batches) -> str:
    found = hashlib.sha256()
    for x, y in batches:
        found.update(np.ascontiguousarray(x).tobytes() + np.ascontiguousarray(y).tobytes())
    return found.hexdigest()


# --- kept or streamed


def test_kept_float32_and_streamed_sound_are_one_stream_through_every_door(labels: JoinedLabels) -> None:
    found = set()
    for audio in ("stream", "cache-float32", None):
        how = {**HOW, "audio": audio}
        for workers in (0, 2):
            found.add(digest(softlabels.make_dataset(labels, workers=workers, **how).as_numpy_iterator()))
        sequence = labels.as_pydataset(**how)
        found.add(digest(sequence[i] for i in range(len(sequence))))
        source = pickle.loads(pickle.dumps(BatchSource(Batches(labels, BatchOptions(**how)), 1)))
        found.add(digest(source[i] for i in range(len(source))))
    assert len(found) == 1
    assert found != {digest(softlabels.make_dataset(labels, audio="cache", **HOW).as_numpy_iterator())}


@pytest.mark.parametrize(
    "how", [{"crops": "random"}, {"window_s": 0.05}, {"window_s": 0.17}, {"crops": "random", "window_s": 0.03}]
)
def test_crops_of_kept_and_of_streamed_sound_are_the_same(labels: JoinedLabels, how: dict) -> None:
    kept, streamed = (Batches(labels, BatchOptions(**HOW, **how, audio=audio)) for audio in ("cache-float32", "stream"))
    assert isinstance(kept.audio, KeptAudio)
    assert digest(map(kept.load, range(9))) == digest(map(streamed.load, range(9)))


@pytest.mark.parametrize("audio", ["yes", "cache-int16", "", True, 0])
def test_a_way_that_is_none_is_refused(audio: object) -> None:
    with pytest.raises(ValueError, match="audio: expected 'cache', 'cache-float32', 'stream' or None, got"):
        BatchOptions(audio=audio)


@pytest.fixture
def room(monkeypatch):
    """Set what is free, and let the least sound be enough."""
    monkeypatch.setattr(sound_source, "LEAST_S", 0)
    usage = sound_source.shutil.disk_usage(".")

    def set_free(free: int) -> None:
        monkeypatch.setattr(sound_source.shutil, "disk_usage", lambda _: usage._replace(free=free))

    return set_free


def test_sound_is_kept_where_streaming_costs_more_and_there_is_room(labels: JoinedLabels, room, caplog) -> None:
    caplog.set_level(logging.INFO)
    assert isinstance(sound_source.audio_of(labels, None), WindowAudio)  # WAV at its own rate: entered anywhere
    room(150_000)
    assert isinstance(sound_source.audio_of(labels, 4000), WindowAudio)
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "streamed" in r.getMessage()]
    assert "every epoch decodes 0.0 hours" in said
    assert "audio='cache' keeps them all the same" in said
    room(10**9)
    caplog.clear()
    kept = sound_source.audio_of(labels, 4000)
    assert isinstance(kept, KeptAudio)
    assert kept_file(labels).name.startswith("audio-f4-")  # the very samples: nobody asked for others
    assert any("decoded once, not in every epoch" in record.getMessage() for record in caplog.records)
    room(0)
    assert isinstance(sound_source.audio_of(labels, 4000), KeptAudio)  # it is there


def test_no_more_is_kept_unasked_than_is_stated(labels: JoinedLabels, room, monkeypatch) -> None:
    monkeypatch.setattr(sound_source, "MOST_BYTES", 1000)
    assert isinstance(sound_source.audio_of(labels, 16000), WindowAudio)
    assert isinstance(sound_source.audio_of(labels, 16000, audio="cache"), KeptAudio)


def test_little_sound_is_not_kept_unasked(labels: JoinedLabels) -> None:
    softlabels.make_dataset(labels, **HOW)
    assert not list(labels.path.parent.glob("*audio*"))


def test_where_nothing_can_be_kept_sound_is_streamed_unless_asked_for(
    labels: JoinedLabels, room, monkeypatch, caplog
) -> None:
    for error in (JoinError("joins cannot be kept"), StorageFullError("no room")):

        def refuse(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(sound_source, "KeptAudio", refuse)
        assert isinstance(sound_source.audio_of(labels, 4000), WindowAudio)
        assert f"audio: {error}; it is streamed instead" in caplog.text
        with pytest.raises(type(error)):
            sound_source.audio_of(labels, 4000, audio="cache")


# --- features

CALLS: list[int] = []


def mean_and_peak(x: np.ndarray) -> np.ndarray:
    CALLS.append(len(x))
    return np.stack([x.mean(axis=1), np.abs(x).max(axis=1)], axis=1)[:, :, None]


class Scaled:
    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x[:, :7] * 100).astype(np.int16)


FEATURES = [mean_and_peak, Scaled(), functools.partial(functools.partial(mean_and_peak)), lambda x: x[:, 0] > 0]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("audio", ["cache", "cache-float32", "stream"])
def test_features_are_made_once_and_are_what_is_made_in_every_epoch(labels: JoinedLabels, features, audio: str) -> None:
    how = {**HOW, "features": features, "audio": audio}
    expected = digest(map(Batches(labels, BatchOptions(**how)).load, range(8)))
    batches = Batches(labels, BatchOptions(**how, keep_features="1"))
    if features is not FEATURES[3]:  # a lambda stays in its process
        batches = pickle.loads(pickle.dumps(batches))
    CALLS.clear()
    again = Batches(labels, BatchOptions(**how, keep_features="1"))
    assert digest(map(batches.load, range(8))) == digest(map(again.load, range(8))) == expected
    assert sum(CALLS) <= 2  # two windows of silence, for the shape


def test_longer_windows_have_features_of_their_own(labels: JoinedLabels) -> None:
    how = {**HOW, "features": mean_and_peak, "window_s": 0.17}
    expected = digest(map(Batches(labels, BatchOptions(**how)).load, range(4)))
    for _ in range(2):
        assert digest(map(Batches(labels, BatchOptions(**how, keep_features="1")).load, range(4))) == expected


def test_anything_that_changes_features_makes_others(corpus: Corpus, store) -> None:
    labels = store.join(corpus.manifest)

    def files() -> int:
        return len(list(labels.path.parent.glob("features-*.npy")))

    def made(**changed: object) -> Batches:
        return Batches(labels, BatchOptions(**{**HOW, "features": mean_and_peak, "keep_features": "1", **changed}))

    made()
    for same in ({"batch_size": 3}, {"seed": 9}, {"shuffle": False}, {"audio": "stream"}, {"audio": "cache-float32"}):
        made(**same)
        assert files() == 1, same
    others = [{"keep_features": "2"}, {"rate_hz": 8000}, {"audio": "cache"}, {"window_s": 0.05}]
    others += [{"features": lambda x: mean_and_peak(x)}, {"features": lambda x: mean_and_peak(x) + 0}]  # of one line
    for number, other in enumerate(others, 2):
        made(**other)
        assert files() == number, other
    corpus.write_audio("c3.wav", 0.4, seed=50)
    with pytest.raises(AudioError, match="changed-since-probe: clip 'c3'"):
        made()


def test_damaged_features_are_an_error_and_never_x(labels: JoinedLabels) -> None:
    options = BatchOptions(**HOW, features=mean_and_peak, keep_features="1")
    Batches(labels, options)
    flip(kept_file(labels, "features"), 130)
    with pytest.raises(JoinError, match="is damaged: the checksums of 1 of its pages differ"):
        Batches(labels, options).load(0)


def random_level(x: np.ndarray) -> np.ndarray:
    return x * np.random.default_rng().uniform(0.5, 1)


def by_the_batch(x: np.ndarray) -> np.ndarray:
    return x / (np.abs(x).max() + 1)


def complex_ones(x: np.ndarray) -> np.ndarray:
    return np.fft.rfft(x)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"features": random_level}, "features gave two answers for the same sound: what is random"),
        ({"features": by_the_batch}, "features of a window depend on the others of its batch"),
        ({"features": complex_ones}, "expected features that are numbers, got complex64"),
        ({"features": lambda x: x[:, :0]}, "expected features that are numbers"),
        ({"features": np.negative}, "the source of .* cannot be read"),
        ({"features": None}, "expected features=, a function whose arrays are kept, got None"),
        ({"crops": "random"}, "crops='random' takes other sound in every epoch"),
        ({"keep_features": ""}, "expected a version, a text such as 'log-mel 1', or None, got ''"),
        ({"keep_features": True}, "expected a version, a text such as 'log-mel 1', or None, got True"),
        ({"keep_features": 1}, "expected a version"),
    ],
)
def test_features_that_cannot_be_kept_are_refused(labels: JoinedLabels, changed: dict, expected: str) -> None:
    how = {**HOW, "features": mean_and_peak, "keep_features": "1", "audio": "stream", **changed}
    with pytest.raises(ValueError, match=f"keep_features: {expected}"):
        Batches(labels, BatchOptions(**how))
    assert not list(labels.path.parent.glob("*features*"))


def test_features_are_gone_on_with_after_a_failure(labels: JoinedLabels, monkeypatch) -> None:
    monkeypatch.setattr(kept_features, "PART_ROWS", 3)
    monkeypatch.setattr(in_parts, "THREADS", 1)
    options = BatchOptions(**HOW, features=mean_and_peak, keep_features="1")
    real, written = kept_features.made_of, []

    def made_of(features, x, example):
        written.append(len(x))
        if len(written) == 4:
            raise KeyboardInterrupt
        return real(features, x, example)

    monkeypatch.setattr(kept_features, "made_of", made_of)
    with pytest.raises(KeyboardInterrupt):
        Batches(labels, options)
    Batches(labels, options)
    assert written[-2:] == [3, 2]  # the fourth part, which failed, and the last
    assert len(written) < 2 * 5


@pytest.mark.storms
def test_processes_make_the_same_features(labels: JoinedLabels, monkeypatch) -> None:
    monkeypatch.setattr(kept_features, "PART_ROWS", 3)
    monkeypatch.setattr(kept_features, "PROCESS_S", 1e-9)
    options = BatchOptions(**HOW, features=lambda x: x[:, :3] * 2, keep_features="1")  # travels without its module
    truth = digest(map(Batches(labels, dataclasses.replace(options, keep_features=None)).load, range(4)))
    assert digest(map(Batches(labels, options).load, range(4))) == truth
