"""The rewrites of the second version of folding, each on a tiny model, and models that only look alike."""

from collections.abc import Callable

import numpy as np
import pytest
from test_fold import convert, kinds, score

from pipeline.teachers.folding.graph import Graph
from pipeline.teachers.folding.halving import halve_spectra, is_low, low_pass
from pipeline.teachers.folding.image import power_by_logarithm, stack_channels
from pipeline.teachers.folding.mirror import Axis, mirror_image
from pipeline.teachers.folding.rewrites import folded_weights
from pipeline.teachers.folding.versions import STEPS, folded_bytes

FRAME, HOP, BANDS = 2048, 278, 3
SAMPLES = 3_392  # 32 * 106, a little more than five frames need
HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)  # periodic, so even as a spectrum
RANDOM = np.random.default_rng(0)
AUDIO = RANDOM.uniform(-1, 1, (1, SAMPLES)).astype(np.float32)


def mel(lowest: int, highest: int) -> np.ndarray:
    """(bins, BANDS): triangles that lie in these bins."""
    width = (highest - lowest) / (BANDS + 1)
    away = np.abs(np.arange(FRAME // 2 + 1)[:, None] - lowest - width * np.arange(1, BANDS + 1)) / width
    return np.maximum(1 - away, 0).astype(np.float32)


LOW, HIGH = mel(1, 5), mel(20, 640)


def spectral(window: np.ndarray, weights: np.ndarray, hop: int = HOP) -> bytes:
    """(1, SAMPLES) -> (1, frames, BANDS): a layer on the real spectra of frames."""
    import tensorflow as tf

    def model(x):
        spectra = tf.signal.rfft(tf.signal.frame(x, FRAME, hop) * window)
        return tf.tensordot(tf.cast(spectra, tf.float32), weights, 1)

    return convert(model, None, SAMPLES)


def exact(audio: np.ndarray, window: np.ndarray, weights: np.ndarray, hop: int = HOP) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(audio[0].astype(np.float64), FRAME)[::hop]
    return (np.fft.rfft(frames * window).real @ weights)[None]


def columns(content: bytes) -> int:
    """Of the matrix of the layer."""
    graph = Graph(content)
    (layer,) = (operator for operator in graph.operators if graph.kind(operator) == "FULLY_CONNECTED")
    return graph.shape(layer.inputs[1])[1]


def test_a_low_band_reads_a_quarter_of_the_samples() -> None:
    content = spectral(HANN, LOW)
    folded = folded_bytes(content, STEPS["2"])
    assert columns(folded) == 556
    assert columns(folded_bytes(content, STEPS["1"])) == 2085
    expected = exact(AUDIO, HANN, LOW)
    for portable in (False, True):
        got = score(folded, AUDIO, portable=portable)
        np.testing.assert_allclose(got, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("weights", "hop"), [(HIGH, HOP), (HIGH, 280), (LOW, 139)], ids=["a wide band", "another hop", "an odd hop"]
)
def test_another_band_is_convolved_over_pieces(weights: np.ndarray, hop: int) -> None:
    content = spectral(HANN, weights, hop)
    folded = folded_bytes(content, STEPS["2"])
    assert "CONV_2D" in kinds(folded)
    assert {"GATHER", "FULLY_CONNECTED"}.isdisjoint(kinds(folded))
    expected = exact(AUDIO, HANN, weights, hop)
    for portable in (False, True):
        got = score(folded, AUDIO, portable=portable)
        np.testing.assert_allclose(got, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


def test_a_layers_bias_and_activation_come_along() -> None:
    import tensorflow as tf

    bias = np.array([-1, 5, 0.5], np.float32)

    def model(x):
        spectra = tf.signal.rfft(tf.signal.frame(x, FRAME, 280) * HANN)
        frames = tf.reshape(tf.cast(spectra, tf.float32), [-1, FRAME // 2 + 1])
        return tf.nn.relu(tf.matmul(frames, HIGH) + bias)

    content = convert(model, 1, SAMPLES)
    folded = folded_bytes(content, STEPS["2"])
    expected = np.maximum(exact(AUDIO, HANN, HIGH, 280)[0] + bias, 0)
    np.testing.assert_allclose(score(folded, AUDIO), expected, rtol=0, atol=3e-6 * np.abs(expected).max())


def test_frames_of_few_pieces_are_gathered_as_before() -> None:
    """Where pieces as long as the hop would make a frame much longer."""
    content = spectral(HANN, HIGH, 600)
    assert folded_bytes(content, STEPS["2"]) == folded_bytes(content, STEPS["1"])


@pytest.mark.parametrize(
    "window",
    [
        np.hanning(FRAME).astype(np.float32),  # even about a place between two samples
        (0.54 - 0.46 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32),  # even, but sample 0 counts
        HANN * np.linspace(1, 1.00001, FRAME, dtype=np.float32),  # leans a little
        np.roll(HANN, 1),
    ],
    ids=["symmetric Hann", "Hamming", "leaning", "shifted"],
)
def test_a_window_that_only_looks_even_is_left_alone(window: np.ndarray) -> None:
    content = spectral(window, LOW)
    assert folded_bytes(content, (halve_spectra,)) == folded_bytes(content, STEPS["1"])


def test_the_low_pass_makes_low_bands_again_and_no_others() -> None:
    taps = low_pass()
    assert (len(taps) % 2, taps.argmax(), taps.max()) == (1, len(taps) // 2, 1)
    np.testing.assert_array_equal(taps, taps[::-1])
    assert np.abs(taps[len(taps) // 2 + 2 :: 2]).max() == 0, "every second sample stays what it is"
    assert is_low(folded_weights(HANN, LOW.T))
    for lowest, highest in ((1, 640), (500, 520), (380, 420)):
        assert not is_low(folded_weights(HANN, mel(lowest, highest).T)), (lowest, highest)


# From spectra to an image


def power(x):
    return (x * x) ** 0.23


def rewritten(function: Callable, rewrite: Callable, *shape: int) -> tuple[bytes, bytes, object]:
    """(as it was, rewritten, what the rewrite says)."""
    content = convert(function, *shape)
    graph = Graph(content)
    said = rewrite(graph)
    return Graph(content).to_bytes(), graph.to_bytes(), said


@pytest.mark.parametrize("portable", [False, True])
def test_a_power_of_a_square_is_computed_by_its_logarithm(portable: bool) -> None:
    plain, other, count = rewritten(power, power_by_logarithm, 1, 64)
    assert (count, "POW" in kinds(other), "LOG" in kinds(other)) == (1, False, True)
    x = np.concatenate([np.zeros(2), np.geomspace(1e-15, 1e15, 62)]).astype(np.float32)[None]
    expected = (x.astype(np.float64) ** 2) ** 0.23
    np.testing.assert_allclose(score(other, x, portable=portable), expected, rtol=3e-6)
    assert score(other, x, portable=portable)[0, :2].tolist() == [0, 0]
    np.testing.assert_allclose(score(plain, x, portable=portable), expected, rtol=3e-6)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: x**0.23,  # of what may be negative
        lambda x: (x * (x + 1)) ** 0.23,
        lambda x: (x * x) ** -0.3,
        lambda x: (x * x) ** np.linspace(0.1, 1, 8, dtype=np.float32),
    ],
    ids=["no square", "two factors", "negative", "several"],
)
def test_another_power_is_left_alone(other: Callable) -> None:
    plain, same, count = rewritten(other, power_by_logarithm, 1, 8)
    assert (same, count) == (plain, 0)


SCALE, SHIFT = np.array([0.2, 3], np.float32), np.array([-0.6, 0.3], np.float32)


def joined(x, axis: int = 3):
    """(1, 6, 5, 1) -> (1, 6, 5, 2)."""
    import tensorflow as tf

    return tf.concat([tf.nn.relu(x), tf.abs(x)], axis)


def test_channels_are_scaled_on_their_own_and_transposed_together() -> None:
    plain, other, count = rewritten(lambda x: joined(x) * SCALE + SHIFT, stack_channels, 1, 6, 5, 1)
    assert (count, kinds(other)[-2:]) == (1, ["CONCATENATION", "TRANSPOSE"])
    x = RANDOM.normal(size=(1, 6, 5, 1)).astype(np.float32)
    np.testing.assert_array_equal(score(other, x), score(plain, x))


@pytest.mark.parametrize(
    ("other", "count"),
    [
        (lambda x: joined(x, 2) * 3.0, 0),
        (lambda x: joined(joined(x)) * 2.0, 1),
        (lambda x: joined(x) * np.arange(60, dtype=np.float32).reshape(1, 6, 5, 2), 1),  # what varies stays after it
    ],
    ids=["another axis", "wide channels", "a weight a pixel"],
)
def test_other_joins_give_the_same_answers(other: Callable, count: int) -> None:
    plain, same, said = rewritten(other, stack_channels, 1, 6, 5, 1)
    assert said == count
    assert said or same == plain
    x = RANDOM.normal(size=(1, 6, 5, 1)).astype(np.float32)
    np.testing.assert_array_equal(score(same, x), score(plain, x))


# Mirrored images


KERNEL, DEEP, LAST = (
    np.random.default_rng(n).normal(size=shape).astype(np.float32)
    for n, shape in ((4, (4, 8, 1, 4)), (5, (3, 3, 4, 1)), (6, (3, 3, 4, 5)))
)


def network(x, *, pad: int = 1, end: str = "mean", read_twice: bool = False):
    """(1, height, width, 1) -> (1, 5): a convolution, one after a PAD, squeeze and excite, and a last one."""
    import tensorflow as tf

    first = tf.nn.relu(tf.nn.conv2d(x * 2.0, KERNEL, 2, "SAME"))
    first = tf.nn.max_pool2d(first, [1, 2], [1, 2], "VALID")
    padded = tf.pad(first, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    deep = tf.nn.depthwise_conv2d(padded, DEEP, [1, 2, 2, 1], "VALID")
    deep = deep * tf.sigmoid(deep)
    deep = deep * tf.sigmoid(tf.reduce_mean(deep, [1, 2], keepdims=True)) + 0.1
    last = tf.nn.conv2d(deep, LAST, 1, "SAME")
    if read_twice:
        last = last + tf.reduce_max(x * 2.0)
    ends = {
        "mean": lambda: tf.reduce_mean(last, [1, 2]),
        "flat": lambda: tf.reshape(last, [1, -1]),
        "image": lambda: last,
    }
    return ends[end]()


@pytest.mark.parametrize("shape", [(1, 16, 31, 1), (1, 14, 32, 1)])  # the second is padded evenly, as SAME does
def test_a_mirrored_image_needs_no_pad(shape: tuple[int, ...]) -> None:
    plain, other, said = rewritten(network, mirror_image, *shape)
    assert said
    assert "PAD" in kinds(plain)
    assert "PAD" not in kinds(other)
    x = RANDOM.normal(size=shape).astype(np.float32)
    for portable in (False, True):
        expected = score(plain, x, portable=portable)
        np.testing.assert_allclose(score(other, x, portable=portable), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((1, 16, 32, 1), {"pad": 2}),
        ((1, 16, 32, 1), {"end": "flat"}),  # whoever reads it asks where a pixel is
        ((1, 16, 32, 1), {"end": "image"}),
        ((1, 16, 32, 1), {"read_twice": True}),
    ],
    ids=["wider", "no mean", "given out", "read twice"],
)
def test_an_image_that_cannot_be_mirrored_is_left_alone(shape: tuple[int, ...], how: dict) -> None:
    plain, same, said = rewritten(lambda x: network(x, **how), mirror_image, *shape)
    assert (same, said) == (plain, False)


def test_an_axis_mirrored_twice_is_itself() -> None:
    for size, kernel, stride in ((12, 3, 2), (31, 8, 2), (32, 8, 2), (7, 3, 1), (10, 4, 3)):
        outputs = -(-size // stride)
        axis = Axis(size, kernel, stride, outputs, Axis(size, kernel, stride, outputs, 0).same_before)
        assert Axis(size, kernel, stride, outputs, axis.mirrored_before).mirrored_before == axis.before
        read = np.pad(np.arange(size), 20, constant_values=-1)
        for j in range(outputs):  # what output j reads is what the mirrored one reads, from the other end
            there = read[20 + stride * j - axis.before :][:kernel]
            mirrored = read[::-1][20 + stride * (outputs - 1 - j) - axis.mirrored_before :][:kernel]
            assert there.tolist() == mirrored[::-1].tolist()
