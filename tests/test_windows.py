import numpy as np
import pytest

from softlabels.windows import WindowSpec, cut_windows, rescale_samples


def grid(window: int, hop: int) -> WindowSpec:
    return WindowSpec(rate_hz=8, window_samples=window, hop_samples=hop)


@pytest.mark.parametrize("hop", [1, 2, 3, 4])
@pytest.mark.parametrize("samples", range(1, 20))
def test_windows_cover_every_sample_and_the_last_one_is_needed(samples: int, hop: int) -> None:
    window = grid(4, hop)
    count = window.count(samples)
    assert (count - 1) * hop + 4 >= samples, "the last window reaches the end"
    assert count == 1 or (count - 2) * hop + 4 < samples, "without it the end would not be heard"


def test_an_empty_clip_has_no_window() -> None:
    assert grid(4, 4).count(0) == 0


def test_overlap_in_seconds_becomes_whole_samples() -> None:
    window = WindowSpec.from_overlap(48_000, 144_000, overlap_s=1.25)
    assert window.hop_samples == 84_000
    assert window.window_s == 3.0


@pytest.mark.parametrize("overlap_s", [-0.5, 3.0, 4.0])
def test_an_overlap_outside_the_window_is_refused(overlap_s: float) -> None:
    with pytest.raises(ValueError, match="shorter than the window of 3 s"):
        WindowSpec.from_overlap(48_000, 144_000, overlap_s=overlap_s)


def test_rescaling_rounds_half_up() -> None:
    assert rescale_samples(1, from_hz=2, to_hz=1) == 1  # 0.5
    assert rescale_samples(3, from_hz=2, to_hz=1) == 2  # 1.5
    assert rescale_samples(44_100, from_hz=44_100, to_hz=48_000) == 48_000


@pytest.mark.parametrize("block", [1, 3, 7, 100])
@pytest.mark.parametrize("hop", [2, 4])
def test_cutting_a_stream_equals_slicing_the_padded_clip(block: int, hop: int) -> None:
    samples = np.arange(1, 12, dtype=np.float32)
    window = grid(4, hop)
    count = window.count(len(samples))
    padded = np.pad(samples, (0, 100))
    expected = [padded[k * hop : k * hop + 4] for k in range(count)]
    blocks = (samples[i : i + block] for i in range(0, len(samples), block))
    np.testing.assert_array_equal(list(cut_windows(blocks, window, count)), expected)


@pytest.mark.parametrize("rate_hz", [0, -1, 10_000_001, 2**63, 48_000.0, "48000", None])
def test_a_rate_that_no_recorder_has_is_refused(rate_hz: object) -> None:
    with pytest.raises(ValueError, match="a rate from 1 to 10000000 Hz"):
        WindowSpec(rate_hz=rate_hz, window_samples=144_000, hop_samples=144_000)  # type: ignore[arg-type]
