"""A tape: any stretches, in any order, are those of the file; taken in order, they cost one decoding."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import softlabels.audio.decode
import softlabels.audio.tape
from softlabels.audio.decode import read_audio, stream_audio
from softlabels.audio.tape import Tape, TapeDeck
from softlabels.errors import AudioError


def blocks_of(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (samples[i : i + size] for i in range(0, len(samples), size))


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_within_reach_is_played_as_it_stands_in_the_file(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(seed)
    monkeypatch.setattr(softlabels.audio.tape, "KEPT_SAMPLES", int(random.integers(0, 40)))
    samples = np.arange(200, dtype=np.float32)
    tape = Tape(blocks_of(samples, int(random.integers(1, 30))))
    played = 0
    for start, stop in np.sort(random.integers(0, 201, (20, 2)), axis=1).tolist():
        if tape.reaches(start):
            found = list(tape.play(start, stop))
            np.testing.assert_array_equal(np.concatenate([np.zeros(0), *found]), samples[start:stop])
            played += 1
    assert played


def test_a_tape_keeps_enough_to_step_back_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softlabels.audio.tape, "KEPT_SAMPLES", 20)
    tape = Tape(blocks_of(np.arange(1000, dtype=np.float32), 10))
    for _ in tape.play(0, 495):
        assert sum(len(block) for _, block in tape._kept) < 40
    assert tape.reaches(480)
    assert not tape.reaches(470)


def test_a_file_that_ends_early_is_truncated() -> None:
    with pytest.raises(AudioError, match="truncated: the audio ends after 30 of 31 samples"):
        list(Tape(blocks_of(np.zeros(30, np.float32), 10)).play(5, 31))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames that were decoded."""
    frames: list[int] = []
    decode = softlabels.audio.decode._decode

    def noted(*arguments: object, **options: object) -> Iterator[np.ndarray]:
        for block in decode(*arguments, **options):
            frames.append(len(block))
            yield block

    monkeypatch.setattr(softlabels.audio.decode, "_decode", noted)
    return frames


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    """100 s at 8 kHz."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 800_000).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", samples, 8000)
    return tmp_path / "long.wav"


def test_stretches_taken_in_order_cost_one_decoding_and_are_the_same_bits(long_file: Path, decoded: list[int]) -> None:
    full = read_audio(long_file, rate_hz=12_000)
    decoded.clear()
    deck = TapeDeck()
    for start in range(0, 1_200_000, 100_000):
        stop = min(start + 130_000, 1_200_000)  # they overlap
        found = np.concatenate(list(stream_audio(long_file, rate_hz=12_000, start=start, stop=stop, deck=deck)))
        assert found.tobytes() == full[start:stop].tobytes()
    assert sum(decoded) == 800_000

    decoded.clear()
    back = np.concatenate(list(stream_audio(long_file, rate_hz=12_000, start=0, stop=1000, deck=deck)))
    assert back.tobytes() == full[:1000].tobytes()
    assert decoded, "a stretch that is gone is decoded again"


def test_a_file_that_was_written_to_is_not_played_from_the_old_tape(long_file: Path) -> None:
    deck = TapeDeck()
    list(stream_audio(long_file, rate_hz=12_000, start=0, stop=1000, deck=deck))
    soundfile.write(long_file, np.zeros(800_000, np.float32), 8000)
    found = np.concatenate(list(stream_audio(long_file, rate_hz=12_000, start=1000, stop=2000, deck=deck)))
    assert not found.any()


def test_a_tape_that_failed_is_not_kept(long_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deck, decode = TapeDeck(), softlabels.audio.decode._decode

    def failing(*arguments: object, **options: object) -> Iterator[np.ndarray]:
        yield from list(decode(*arguments, **options))[:2]
        raise AudioError("unreadable: a bad sector")

    with monkeypatch.context() as patch:
        patch.setattr(softlabels.audio.decode, "_decode", failing)
        with pytest.raises(AudioError, match="bad sector"):
            list(stream_audio(long_file, rate_hz=12_000, start=0, stop=1_000_000, deck=deck))
    full = read_audio(long_file, rate_hz=12_000)
    found = np.concatenate(list(stream_audio(long_file, rate_hz=12_000, start=0, stop=1_000_000, deck=deck)))
    assert found.tobytes() == full[:1_000_000].tobytes()


def test_nobody_shares_a_tape(long_file: Path) -> None:
    deck = TapeDeck()
    full = read_audio(long_file, rate_hz=12_000)
    streams = [stream_audio(long_file, rate_hz=12_000, start=0, stop=500_000, deck=deck) for _ in range(2)]
    pairs = list(zip(*streams, strict=True))
    for number in range(2):
        assert np.concatenate([pair[number] for pair in pairs]).tobytes() == full[:500_000].tobytes()
