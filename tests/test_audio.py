import dataclasses

import numpy as np
import pytest
import soundfile
import soxr

from softlabels import AudioError
from softlabels.audio.decode import DEFAULT_BUDGET, AudioBudget, AudioInfo, probe_audio, read_audio, stream_audio


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32).squeeze()


def test_a_wav_is_read_sample_by_sample(tmp_path) -> None:
    samples = noise(70_000)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    assert probe_audio(tmp_path / "a.wav") == AudioInfo(container="wav", frames=70_000, rate_hz=8000, channels=1)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", rate_hz=8000), samples)


def test_channels_are_averaged(tmp_path) -> None:
    samples = noise(1000, channels=3)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    expected = samples.astype(np.float64).mean(axis=1).astype(np.float32)
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", rate_hz=8000), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("rate_hz", [16_000, 24_000])
def test_where_a_stretch_begins_does_not_change_its_samples(tmp_path, name: str, rate_hz: int) -> None:
    soundfile.write(tmp_path / name, noise(200_000), 16_000)
    full = read_audio(tmp_path / name, rate_hz=rate_hz)
    for start, stop in [(0, 5), (1, 100_001), (65_536, 65_537), (131_072, len(full)), (150_000, 150_000)]:
        stretch = read_audio(tmp_path / name, rate_hz=rate_hz, start=start, stop=stop)
        np.testing.assert_array_equal(stretch, full[start:stop])


def test_the_file_is_resampled_not_the_window(tmp_path) -> None:
    samples = noise(100_000)
    soundfile.write(tmp_path / "a.wav", samples, 24_000, subtype="FLOAT")
    expected = soxr.resample(samples, 24_000, 48_000, quality="HQ")
    np.testing.assert_array_equal(
        read_audio(tmp_path / "a.wav", rate_hz=48_000, start=70_000, stop=90_000), expected[70_000:90_000]
    )


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_the_probed_length_of_a_compressed_file_is_what_decoding_gives(tmp_path, name: str) -> None:
    soundfile.write(tmp_path / name, noise(50_001), 16_000)
    info = probe_audio(tmp_path / name)
    assert sum(map(len, stream_audio(tmp_path / name, rate_hz=16_000, expected=info))) == info.frames


def test_m4a_and_bare_aac_are_read_through_pyav(tmp_path) -> None:
    av = pytest.importorskip("av", reason="needs the extra m4a")
    tone = np.sin(np.arange(24_000) * 0.05).astype(np.float32) * 0.5
    for name in ("a.m4a", "a.aac"):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("aac", rate=24_000, layout="mono")
            frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            frame.sample_rate = 24_000
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
        info = probe_audio(tmp_path / name)
        assert (info.container, info.rate_hz, info.channels) == ("m4a", 24_000, 1)
        samples = read_audio(tmp_path / name, rate_hz=24_000)
        assert len(samples) == info.frames
        assert 0.3 < np.abs(samples[4000:20_000]).max() < 0.7


def test_m4a_without_its_extra_says_how_to_convert(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(AudioError, match=r"unsupported-container: M4A needs .*softlabels\[m4a\].*ffmpeg -i IN"):
        probe_audio(tmp_path / "a.m4a")


def wav_header(*, rate_hz: int = 8000, channels: int = 1, data_bytes: int = 16) -> bytes:
    head = b"RIFF" + (36 + data_bytes).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    head += (1).to_bytes(2, "little") + channels.to_bytes(2, "little") + rate_hz.to_bytes(4, "little")
    head += (rate_hz * channels * 2).to_bytes(4, "little") + (channels * 2).to_bytes(2, "little")
    return head + (16).to_bytes(2, "little") + b"data" + data_bytes.to_bytes(4, "little")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing"),
        (b"", "empty"),
        (b"hello, this is text", "unsupported-container"),
        (b"fLaC garbage that is no stream info", "unreadable"),
        (wav_header(data_bytes=0), "empty"),
        (wav_header(rate_hz=1) + bytes(16), "bad-rate"),
        (wav_header(rate_hz=10_000_000) + bytes(16), "bad-rate"),
        (wav_header(channels=DEFAULT_BUDGET.max_channels + 1, data_bytes=680) + bytes(680), "too-many-channels"),
    ],
)
def test_a_file_that_cannot_be_used_has_a_reason(tmp_path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError) as caught:
        probe_audio(path)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (AudioBudget(max_hours=0.01), "too-long"),
        (AudioBudget(max_bytes=1000), "too-long"),
        (AudioBudget(max_channels=1), "too-many-channels"),
        (AudioBudget(min_rate_hz=16_001), "bad-rate"),
        (AudioBudget(max_rate_hz=15_999), "bad-rate"),
    ],
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3"])
def test_a_budget_is_checked_before_anything_is_decoded(tmp_path, name: str, budget: AudioBudget, reason: str) -> None:
    soundfile.write(tmp_path / name, np.zeros((16_000 * 40, 2)), 16_000)
    assert probe_audio(tmp_path / name).channels == 2
    with pytest.raises(AudioError) as caught:
        probe_audio(tmp_path / name, budget=budget)
    assert caught.value.reason == reason


@pytest.mark.parametrize("rate_hz", [16_000, 48_000, 11_025])
def test_a_sample_that_is_not_finite_stays_where_it_is_through_the_resampler(tmp_path, rate_hz: int) -> None:
    samples = noise(200_000)
    soundfile.write(tmp_path / "clean.wav", samples, 24_000, subtype="FLOAT")
    samples[[70_000, 70_001, 131_072]] = np.nan, np.inf, -np.inf
    soundfile.write(tmp_path / "spoiled.wav", samples, 24_000, subtype="FLOAT")
    clean, spoiled = (read_audio(tmp_path / f"{name}.wav", rate_hz=rate_hz) for name in ("clean", "spoiled"))
    assert len(spoiled) == len(clean)
    bad = np.flatnonzero(~np.isfinite(spoiled)) / rate_hz
    assert 2 <= len(bad) <= 8
    assert np.all(np.min(np.abs(bad[:, None] - np.array([70_000, 70_001, 131_072]) / 24_000), axis=1) < 1.5 / 11_025)
    away = np.abs(np.arange(len(clean)) / rate_hz - 131_072 / 24_000) > 0.05
    away &= np.abs(np.arange(len(clean)) / rate_hz - 70_000 / 24_000) > 0.05
    np.testing.assert_allclose(spoiled[away], clean[away], atol=1e-5)


def test_a_directory_is_unreadable(tmp_path) -> None:
    with pytest.raises(AudioError, match="unreadable: .*directory"):
        probe_audio(tmp_path)


def test_a_truncated_flac_is_not_silently_shorter(tmp_path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(100_000), 8000)
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError) as caught:
        read_audio(tmp_path / "a.flac", rate_hz=8000)
    assert caught.value.reason in ("truncated", "unreadable")


def test_a_file_that_is_not_what_was_probed_is_refused(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1000), 8000)
    probed = probe_audio(tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.wav", noise(900), 8000)
    with pytest.raises(AudioError, match="truncated: the header promises 1000 frames, 900"):
        list(stream_audio(tmp_path / "a.wav", rate_hz=8000, expected=probed))
    soundfile.write(tmp_path / "a.wav", noise(1100), 8000)
    with pytest.raises(AudioError, match="changed-since-probe: 1100 frames or more, the probe saw 1000"):
        list(stream_audio(tmp_path / "a.wav", rate_hz=8000, expected=probed))


@pytest.mark.parametrize(("name", "rate_hz"), [("a.wav", 4000), ("a.flac", 16_000), ("a.ogg", 8001), ("a.mp3", 11_025)])
def test_a_rate_that_is_not_the_files_own_is_refused(tmp_path, name: str, rate_hz: int) -> None:
    soundfile.write(tmp_path / name, noise(1000), 8000)  # every window would be other audio
    probed = dataclasses.replace(probe_audio(tmp_path / name), rate_hz=rate_hz)
    with pytest.raises(AudioError, match=f"changed-since-probe: a rate of 8000 Hz, the probe saw {rate_hz} Hz"):
        list(stream_audio(tmp_path / name, rate_hz=8000, expected=probed))
    with pytest.raises(AudioError, match="changed-since-probe: a rate of"):
        list(stream_audio(tmp_path / name, rate_hz=rate_hz, expected=probed))


def test_an_audio_error_survives_the_way_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(AudioError("empty: 0 bytes")))
    assert (error.reason, error.detail) == ("empty", "0 bytes")
