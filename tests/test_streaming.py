"""Streamed audio: the bytes of reading each file from its start, for the cost of reading it once."""

import gc
import itertools
import multiprocessing
import pickle
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Corpus, label

import softlabels
import softlabels.audio.decode
import softlabels.audio.shelf
import softlabels.batches.order
from softlabels import AudioError
from softlabels.audio.decode import open_tape, read_audio
from softlabels.audio.shelf import Shelf
from softlabels.batches.options import BatchOptions
from softlabels.batches.order import recordings_order, say_cost
from softlabels.batches.rows import RowPlaces
from softlabels.batches.stream import Batches
from softlabels.batches.window_audio import WindowAudio

ORDERS = (False, True, "recordings")
SECONDS = {"a.flac": 7, "b.wav": 9, "c.mp3": 5, "d.wav": 20}  # a block of the decoder is 65,536 frames
RATES = {"a.flac": 48_000, "b.wav": 24_000, "c.mp3": 32_000, "d.wav": 8000}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Long recordings, two clips of one of them, of which the second comes first in the manifest and overlaps."""
    made = Corpus(tmp_path_factory.mktemp("long") / "corpus")
    for i, (name, seconds) in enumerate(SECONDS.items()):
        samples = np.random.default_rng(i).uniform(-0.4, 0.4, round(seconds * RATES[name])).astype(np.float32)
        made.write_samples(name, samples, rate_hz=RATES[name])
    made.write_manifest(
        "clip_id,path,start_s,end_s\nlate,a.flac,3.5,\nearly,a.flac,0,4.05\nb,b.wav,,\nc,c.mp3,,\nd,d.wav,,\n"
    )
    label(made)
    return made


@pytest.fixture
def labels(recordings: Corpus) -> softlabels.JoinedLabels:
    return softlabels.open(recordings.folder / "store").join(recordings.manifest)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and steps back that are short beside the recordings."""
    monkeypatch.setattr(softlabels.batches.order, "BLOCK_S", 3)
    monkeypatch.setattr(softlabels.batches.order, "MIX_S", 1)
    monkeypatch.setattr(softlabels.batches.window_audio, "BLOCK_S", 22)  # a decoder's block is long beside these
    monkeypatch.setattr(softlabels.batches.window_audio, "MIX_S", 1)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Seconds that were decoded, by file."""
    seconds: Counter = Counter()
    decode = softlabels.audio.decode._decode

    def noted(path: Path, container: str, rate_hz: int, **options: object) -> Iterator[np.ndarray]:
        for block in decode(path, container, rate_hz, **options):
            seconds[Path(path).name] += len(block) / rate_hz
            yield block

    monkeypatch.setattr(softlabels.audio.decode, "_decode", noted)
    return seconds


def from_the_start(labels: softlabels.JoinedLabels, corpus: Corpus, rate_hz: int) -> np.ndarray:
    """(rows, samples): every window, out of a file that was read as one."""
    whole = {name: read_audio(corpus.folder / name, rate_hz=rate_hz) for name in SECONDS}
    windows = np.zeros((len(labels), rate_hz // 10), np.float32)
    for row in range(len(labels)):
        sound = labels.sound_of(row)
        start = sound.start * rate_hz // 8000
        end = softlabels.windows.rescale_samples(sound.clip_end, from_hz=sound.audio.rate_hz, to_hz=rate_hz)
        samples = whole[sound.path][start : min(start + rate_hz // 10, end)]
        windows[row, : len(samples)] = samples
    return windows


def stream_of(batches: Batches, numbers: Iterator[int]) -> np.ndarray:
    return np.concatenate([batches.arrays(n)[0] for n in numbers])


@pytest.mark.parametrize("rate_hz", [8000, 4000])
@pytest.mark.parametrize("shuffle", ORDERS)
def test_every_order_gives_the_bytes_of_files_read_from_their_start(
    recordings, labels, small_blocks, shuffle, rate_hz: int
) -> None:
    expected = from_the_start(labels, recordings, rate_hz)
    batches = Batches(labels, BatchOptions(batch_size=64, rate_hz=rate_hz, shuffle=shuffle, seed=3))
    numbers = range(len(batches))
    rows = np.concatenate([batches.rows(n) for n in numbers])
    assert sorted(rows) == list(range(len(labels)))
    assert stream_of(batches, numbers).tobytes() == expected[rows].tobytes()
    jumped = [len(batches) - 2, 3, 4, 1]  # from a fresh start in the middle, and back
    batches = Batches(labels, BatchOptions(batch_size=64, rate_hz=rate_hz, shuffle=shuffle, seed=3))
    rows = np.concatenate([batches.rows(n) for n in jumped])
    assert stream_of(batches, jumped).tobytes() == expected[rows].tobytes()


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("shuffle", [False, "recordings"])
def test_an_epoch_costs_one_decoding_of_each_recording(labels, small_blocks, decoded, shuffle, workers: int) -> None:
    dataset = softlabels.make_dataset(labels, 16, rate_hz=4000, shuffle=shuffle, workers=workers)
    assert sum(len(x) for x, _ in dataset) == len(labels)
    again = 0 if shuffle else 4 * 65_536 / 48_000  # the manifest has the end of a.flac before its beginning
    assert 7 <= decoded.pop("a.flac") <= 7 + again + 1e-3
    assert decoded == pytest.approx({name: SECONDS[name] for name in ("b.wav", "c.mp3", "d.wav")}, abs=1e-3)


def test_a_file_at_its_own_rate_is_read_on_as_well(labels, small_blocks, decoded) -> None:
    batches = Batches(labels, BatchOptions(batch_size=16, rate_hz=8000))
    stream_of(batches, range(len(batches)))
    assert decoded["d.wav"] == 20
    decoded.clear()
    batches.audio.read([len(labels) - 1])
    assert decoded["d.wav"] == 0, "it is still there"
    WindowAudio(labels).read([len(labels) - 1])
    assert decoded["d.wav"] == pytest.approx(0.1)


def test_weights_in_the_order_of_recordings_cost_one_decoding_too(labels, small_blocks, decoded) -> None:
    weights = np.random.default_rng(0).random(len(labels)) ** 4
    options = BatchOptions(batch_size=16, rate_hz=4000, shuffle="recordings", sampling_weights=weights)
    batches, plain = Batches(labels, options), Batches(labels, BatchOptions(sampling_weights=weights))
    rows = np.concatenate([batches.rows(n) for n in range(len(batches))])
    assert sorted(rows) == sorted(np.concatenate([plain.rows(n) for n in range(len(plain))]))
    stream_of(batches, range(len(batches)))
    assert sum(decoded.values()) <= sum(SECONDS.values())


def test_crops_anywhere_are_those_of_the_file(recordings, labels) -> None:
    whole = {name: np.pad(read_audio(recordings.folder / name, rate_hz=4000), (0, 700)) for name in SECONDS}
    generator = np.random.default_rng(1)
    rows = generator.integers(0, len(labels), 40)
    audio, starts = WindowAudio(labels, rate_hz=4000, window_samples=700), generator.integers(0, 4000, 40)
    read = audio.read(rows, starts)
    for row, start, samples in zip(rows, starts, read, strict=True):
        np.testing.assert_array_equal(samples, whole[labels.sound_of(int(row)).path][start : start + 700])
    with pytest.raises(ValueError, match="starts: expected samples of the file from 0 up, got -1"):
        audio.read([0], np.array([-1]))


def test_memory_is_bounded_whatever_is_read(labels, small_blocks, monkeypatch) -> None:
    monkeypatch.setattr(softlabels.batches.window_audio, "BLOCK_S", 8)
    audio, kept = WindowAudio(labels, rate_hz=4000), []
    for shuffle in ORDERS:
        batches = Batches(labels, BatchOptions(batch_size=16, rate_hz=4000, shuffle=shuffle))
        for n in range(len(batches)):
            audio.read(batches.rows(n))
            kept.append(audio._here.shelf.kept)
            tapes = [each._tape for each in audio._here.shelf._recordings.values()]
            assert kept[-1] == sum(sum(len(block) for _, block in tape._kept) for tape in tapes if tape)
    assert 4000 * 8 < max(kept) <= 4000 * 16 + 2 * 16 * 400


def test_files_left_in_the_middle_are_few(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(softlabels.audio.shelf, "MOST_OPEN", 3)
    shelf = Shelf(4000, step_back=100, most=10**9)
    for n in range(9):
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, np.full(80_000, n / 10, np.float32), 8000)
        info, out = softlabels.audio.decode.probe_audio(path), np.empty(400, np.float32)
        with shelf.reading(path, softlabels.audio.decode.audio_state(path), info, samples=400) as recording:
            recording.fill(1000, out)
        assert out[200] == pytest.approx(n / 10, abs=1e-3)
        assert shelf.open == min(n + 1, 3)


def test_a_recording_that_fails_is_named_by_the_clip_it_came_to(recordings, labels, monkeypatch) -> None:
    decode = softlabels.audio.decode._decode

    def failing(*arguments: object, **options: object) -> Iterator[np.ndarray]:
        yield from itertools.islice(decode(*arguments, **options), 3)
        raise AudioError("unreadable: a bad sector")

    keys, audio = labels.keys, WindowAudio(labels, rate_hz=4000)
    early, late = (keys.index[keys.clip_id == name] for name in ("early", "late"))
    with monkeypatch.context() as patch:
        patch.setattr(softlabels.audio.decode, "_decode", failing)
        with pytest.raises(AudioError, match="clip 'late': a bad sector"):
            audio.read([early[0], late[-1]])
    assert audio.read([late[-1]]).any(), "what failed is not kept"


def test_a_file_is_closed_once_even_where_closing_fails(recordings, monkeypatch) -> None:
    closed: list[object] = []
    gc.collect()
    monkeypatch.setattr(
        soundfile.SoundFile, "close", lambda file: closed.append(file)
    )  # as at the end of Python, when it is half done
    path = recordings.folder / "a.flac"
    info = softlabels.audio.decode.probe_audio(path)
    closed.clear()
    tape = open_tape(path, info, 4000)
    next(tape.play(0, 1000))
    del tape
    (file,) = closed
    closed.clear()
    del file
    assert not closed, "a second time aborts the process"


def test_the_order_of_recordings_is_fixed_by_seed_and_epoch_alone(labels, small_blocks) -> None:
    def rows(seed: int, epoch: int, rate_hz: int = 4000) -> list[int]:
        batches = Batches(labels, BatchOptions(batch_size=10_000, rate_hz=rate_hz, shuffle="recordings", seed=seed))
        return batches.rows(epoch).tolist()

    assert rows(1, 2) == rows(1, 2, rate_hz=8000) != rows(1, 3)
    assert rows(1, 2) != rows(2, 2)
    with pytest.raises(ValueError, match="shuffle: expected False, True or 'recordings', got 'files'"):
        BatchOptions(shuffle="files")


def test_an_order_that_decodes_recordings_again_and_again_is_told_with_a_figure(labels, caplog) -> None:
    hour = np.arange(1200) * 3 * 8000
    enters_hz = np.array([8000, 8000], np.int64)
    places = RowPlaces(recording=np.zeros(1200, np.int32), start=hour, enters_hz=enters_hz)
    rows = np.random.default_rng(0).permutation(1200)
    audio = WindowAudio(labels, rate_hz=4000, window_samples=12_000)
    say_cost(places, rows[:640], 64, audio)
    assert re.search(
        r"shuffle=True: an epoch decodes about 1[89] hours .* recordings of 1.0 hours, .* 4000 Hz", caplog.text
    )
    caplog.clear()
    say_cost(places, rows[:640], 64, WindowAudio(labels))  # entered in the middle
    say_cost(places, np.arange(640), 640, audio)
    Batches(labels, BatchOptions(shuffle=True, rate_hz=4000))
    assert not caplog.text


def test_many_short_recordings_in_any_order_are_nothing_to_tell(labels, caplog) -> None:
    n = 100_000
    places = RowPlaces(recording=np.arange(n, dtype=np.int32), start=np.zeros(n, int), enters_hz=np.zeros(n, int))
    say_cost(places, np.random.default_rng(0).permutation(n)[:6400], 64, WindowAudio(labels))
    assert not caplog.text


def test_a_state_of_one_order_does_not_resume_another(labels) -> None:
    state = Batches(labels, BatchOptions(shuffle="recordings")).state(3)
    with pytest.raises(ValueError, match="set_state: expected shuffle True, got 'recordings'"):
        Batches(labels, BatchOptions(shuffle=True)).position_of(state)
    assert Batches(labels, BatchOptions(shuffle="recordings")).position_of(state) == 3


@pytest.mark.parametrize("seed", range(2))
def test_a_block_mixes_recordings_and_holds_as_much_audio_as_it_may(seed: int) -> None:
    generator, rate_hz, window = np.random.default_rng(seed), 10, 30
    counts = generator.choice([1, 2, 20, 300], 300)
    recording = generator.permutation(np.repeat(np.arange(300, dtype=np.int32), counts))
    start = np.zeros(len(recording), np.int64)
    for one in range(300):
        start[recording == one] = generator.permutation(counts[one]) * window
    places = RowPlaces(recording=recording, start=start, enters_hz=np.zeros(300, np.int64))
    order = recordings_order(places, rate_hz, window, generator)
    assert sorted(order) == list(range(len(recording)))
    recording, start = recording[order], start[order]
    end, most, neighbours = {}, 0, np.mean((recording[1:] == recording[:-1]) & (start[1:] == start[:-1] + window))
    left = Counter(recording.tolist())
    for one, at in zip(recording.tolist(), start.tolist(), strict=True):
        end[one] = max(end.get(one, 0), at + window)
        assert at >= end[one] - window - 20 * rate_hz, "no row comes later than what is kept"
        left[one] -= 1
        if not left[one]:
            del end[one]
        most = max(most, sum(min(stop, 20 * rate_hz + window) for stop in end.values()))
    assert 900 * rate_hz < most <= 1000 * rate_hz + 20 * rate_hz + window, "a block, and the rest of its last recording"
    assert neighbours < 0.1


def _samples_of(batches: Batches, numbers: Iterator[int], queue) -> None:
    queue.put(stream_of(batches, numbers).tobytes())


def test_forked_processes_that_take_turns_give_the_same_bytes(labels) -> None:
    batches = Batches(labels, BatchOptions(batch_size=64, rate_hz=4000, shuffle="recordings"))
    whole = [batches.arrays(n)[0] for n in range(4)]  # files are open here, which no child may read on
    context = multiprocessing.get_context("fork")
    queues = [context.Queue() for _ in range(2)]
    turns = [range(k, 4, 2) for k in range(2)]
    children = [
        context.Process(target=_samples_of, args=(batches, numbers, queue))
        for numbers, queue in zip(turns, queues, strict=True)
    ]
    for child in children:
        child.start()
    found = [queue.get(timeout=120) for queue in queues]
    for child in children:
        child.join()
    assert found == [np.concatenate(whole[k::2]).tobytes() for k in range(2)]


def test_what_is_pickled_gives_the_same_bytes_and_takes_no_open_files_along(labels) -> None:
    batches = Batches(labels, BatchOptions(batch_size=64, rate_hz=4000, shuffle="recordings"))
    first = batches.arrays(2)[0]
    assert pickle.loads(pickle.dumps(batches)).arrays(2)[0].tobytes() == first.tobytes()


@pytest.mark.storms
@pytest.mark.parametrize("shuffle", ORDERS)
def test_grains_worker_processes_give_the_same_bytes(labels, shuffle) -> None:
    grain = pytest.importorskip("grain", reason="pip install softlabels[grain]")
    from absl import flags

    flags.FLAGS(["pytest"], known_only=True)  # grain reads one of its own before it starts a process
    dataset = labels.as_grain(batch_size=64, rate_hz=4000, shuffle=shuffle, epochs=2).to_iter_dataset()
    dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=2))
    batches = Batches(labels, BatchOptions(batch_size=64, rate_hz=4000, shuffle=shuffle))
    expected = stream_of(batches, range(2 * len(batches)))
    assert np.concatenate([x for x, _ in dataset]).tobytes() == expected.tobytes()
