"""Folding on tiny models of our own, against float64 NumPy; the cache of derived models. BirdNET is elsewhere."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.teachers.folding import derived
from pipeline.teachers.folding.derived import fixed_windows, folded_model, hold_against
from pipeline.teachers.folding.embedding import with_embedding
from pipeline.teachers.folding.graph import Graph
from pipeline.teachers.folding.image import power_by_logarithm
from pipeline.teachers.folding.rewrites import (
    cosines,
    fix_shapes,
    folded_weights,
    spectra_into_weights,
    widen_pieces,
)
from pipeline.teachers.folding.versions import STEPS, folded_bytes, folded_digest
from pipeline.teachers.interpreter import answer, open_interpreter, output
from softlabels import TeacherError

SAMPLES, FRAME, HOP = 200, 64, 26  # tf.signal.frame cuts pieces of 2 samples; 5 pieces of 13 make a frame of 65
WINDOW = np.hanning(FRAME).astype(np.float32)
MEL = np.random.default_rng(0).uniform(-1, 1, (FRAME // 2 + 1, 3)).astype(np.float32)
AUDIO = np.random.default_rng(1).uniform(-1, 1, (1, SAMPLES)).astype(np.float32)


def convert(function: Callable, *shape: int | None) -> bytes:
    """A TFLite file of a function of one float32 input."""
    import tensorflow as tf

    concrete = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()


def spectrum(x):
    """(batch, samples) -> (batch, frames, bins) complex, as BirdNET computes it."""
    import tensorflow as tf

    return tf.signal.rfft(tf.signal.frame(x, FRAME, HOP) * WINDOW)


def real_layer(x):
    """(batch, samples) -> (batch, 3): real part, a linear layer, squared, the loudest frame."""
    import tensorflow as tf

    return tf.reduce_max(tf.tensordot(tf.cast(spectrum(x), tf.float32), MEL, 1) ** 2, axis=1)


def expected(audio: np.ndarray) -> np.ndarray:
    """`real_layer` in float64."""
    frames = np.lib.stride_tricks.sliding_window_view(audio[0].astype(np.float64), FRAME)[::HOP]
    return np.max((np.fft.rfft(frames * WINDOW).real @ MEL) ** 2, axis=0)[None]


@pytest.fixture(scope="module")
def model() -> bytes:
    """`real_layer` for any batch, so that it computes its shapes when it runs."""
    return convert(real_layer, None, SAMPLES)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "softlabels" / "models"


def score(content: bytes, audio: np.ndarray, *, portable: bool = False) -> np.ndarray:
    return answer(open_interpreter("tiny", content, portable=portable), audio)


def kinds(content: bytes) -> list[str]:
    graph = Graph(content)
    return [graph.kind(operator) for operator in graph.operators]


def gathered(graph: Graph) -> list[tuple[int, ...]]:
    """(1, frames, pieces, samples) of every GATHER."""
    return [graph.shape(operator.outputs[0]) for operator in graph.operators if graph.kind(operator) == "GATHER"]


def test_fixing_shapes_leaves_no_shape_arithmetic_and_the_very_same_answer(model: bytes) -> None:
    graph = Graph(model)
    assert fix_shapes(graph) >= 20
    fixed = graph.to_bytes()
    assert {"SHAPE", "PACK", "CONCATENATION", "FLOOR_DIV"} & set(kinds(model))
    assert not {"SHAPE", "PACK", "CONCATENATION", "FLOOR_DIV"} & set(kinds(fixed))
    assert score(fixed, AUDIO).tobytes() == score(model, AUDIO).tobytes()


@pytest.mark.parametrize("kind", ["WHERE", "UNIQUE"])
def test_a_shape_that_depends_on_the_audio_stays_computed(kind: str) -> None:
    import tensorflow as tf

    def count(x):
        found = tf.where(x > 0) if kind == "WHERE" else tf.unique(x[0]).y
        return tf.cast(tf.shape(found)[:1], tf.float32)[None] + x[:, :1] * 0

    graph = Graph(convert(count, 1, 8))
    fix_shapes(graph)
    content = graph.to_bytes()
    assert kind in kinds(content)
    for positive in (2, 5):
        audio = np.where(np.arange(8) < positive, np.arange(8) + 1, 0).astype(np.float32)[None]
        assert score(content, audio).tolist() == [[positive + (kind == "UNIQUE")]]


def test_a_real_spectrum_folds_into_the_layer_that_reads_it(model: bytes) -> None:
    graph = Graph(model)
    fix_shapes(graph)
    assert len(spectra_into_weights(graph)) == 1
    folded = graph.to_bytes()
    assert not {"RFFT2D", "CAST", "SQUEEZE"} & set(kinds(folded))
    np.testing.assert_allclose(score(folded, AUDIO), expected(AUDIO), rtol=1e-5)


def test_wide_pieces_make_the_same_frames(model: bytes) -> None:
    graph = Graph(model)
    fix_shapes(graph)
    (layer,) = spectra_into_weights(graph)
    narrow = graph.to_bytes()
    assert widen_pieces(graph, layer)
    wide = graph.to_bytes()
    assert wide == folded_bytes(model, STEPS["1"])
    assert [gathered(Graph(narrow)), gathered(Graph(wide))] == [[(1, 6, 32, 2)], [(1, 6, 5, 13)]]
    np.testing.assert_allclose(score(wide, AUDIO), score(narrow, AUDIO), rtol=1e-6)
    assert not widen_pieces(graph, layer), "there is nothing left to widen"


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("batch", [None, 1])
def test_a_folded_model_answers_as_float64_does(batch: int | None, portable: bool) -> None:
    folded = folded_bytes(convert(real_layer, batch, SAMPLES), STEPS["2"])
    np.testing.assert_allclose(score(folded, AUDIO, portable=portable), expected(AUDIO), rtol=1e-5)


def test_layers_that_share_their_constants_keep_their_own() -> None:
    """Two windows over one mel matrix: the folded weights of one must not become the other's."""
    import tensorflow as tf

    def two(x):
        frames = tf.reshape(x[:, : 2 * FRAME], (1, 2, FRAME))
        spectra = [tf.cast(tf.signal.rfft(frames * window), tf.float32) for window in (WINDOW, WINDOW**2)]
        return tf.concat([tf.reduce_max(tf.tensordot(part, MEL, 1), axis=1) for part in spectra], axis=1)

    frames = AUDIO[0, : 2 * FRAME].reshape(2, FRAME).astype(np.float64)
    parts = [(np.fft.rfft(frames * window).real @ MEL).max(axis=0) for window in (WINDOW, WINDOW.astype(float) ** 2)]
    folded = folded_bytes(convert(two, 1, SAMPLES), STEPS["2"])
    assert "RFFT2D" not in kinds(folded)
    np.testing.assert_allclose(score(folded, AUDIO)[0], np.concatenate(parts), rtol=1e-4, atol=1e-5)


def test_a_spectrum_that_somebody_else_reads_too_is_left_alone() -> None:
    import tensorflow as tf

    def also_abs(x):
        found = spectrum(x)
        return tf.tensordot(tf.cast(found, tf.float32), MEL, 1)[:, 0] + tf.reduce_sum(tf.abs(found))

    with pytest.raises(TeacherError, match="nothing to fold: expected frames times a constant window, RFFT2D"):
        folded_bytes(convert(also_abs, 1, SAMPLES), ())


@pytest.mark.parametrize("size", [8, 50, 1024])
def test_cosines_are_correct_to_the_last_bit_or_its_neighbour(size: int) -> None:
    libm = np.array([math.cos(2 * math.pi * j / size) for j in range(size)])
    np.testing.assert_allclose(cosines(size), libm, rtol=0, atol=1e-15)
    if size % 4 == 0:
        assert cosines(size)[[0, size // 4, size // 2, 3 * size // 4]].tolist() == [1, 0, -1, 0]


def test_folded_weights_are_the_matrix_product() -> None:
    n, k = np.arange(FRAME), np.arange(FRAME // 2 + 1)
    product = MEL.T.astype(np.float64) @ np.cos(2 * np.pi * np.outer(k, n) / FRAME) * WINDOW
    np.testing.assert_allclose(folded_weights(WINDOW, MEL.T), product, rtol=1e-6, atol=1e-7)


def test_a_folded_model_is_the_same_twice_and_its_constants_are_aligned(model: bytes) -> None:
    from ai_edge_litert import schema_py_generated as schema

    folded = folded_bytes(model, STEPS["2"])
    assert folded_bytes(model, STEPS["2"]) == folded
    assert folded_digest(folded, "2") == folded_digest(folded_bytes(model, STEPS["2"]), "2")
    root = schema.Model.GetRootAs(folded)
    offsets = [root.Buffers(i)._tab.Vector(root.Buffers(i)._tab.Offset(4)) for i in range(root.BuffersLength())
               if not root.Buffers(i).DataIsNone()]  # fmt: skip
    assert offsets
    assert all(offset % 16 == 0 for offset in offsets)


def test_the_digest_knows_every_constant(model: bytes) -> None:
    graph = Graph(folded_bytes(model, STEPS["2"]))
    digest = graph.digest()
    layer = next(operator for operator in graph.operators if graph.kind(operator) == "FULLY_CONNECTED")
    weights = graph.constant(layer.inputs[1]).copy()
    weights[0, 7] = np.nextafter(weights[0, 7], np.float32(9))
    graph.set_constant(layer.inputs[1], weights)
    assert graph.digest() != digest


def test_a_model_is_derived_once_and_then_read_from_the_cache(model: bytes, cache: Path, monkeypatch) -> None:
    first = folded_model("tiny.tflite", model)
    (file,) = cache.iterdir()
    assert file.read_bytes() == first[0]
    monkeypatch.setattr(derived, "_derive", None)
    assert folded_model("tiny.tflite", model) == first


def test_every_version_is_kept_under_its_own_name(model: bytes, cache: Path) -> None:
    """And a later one that rewrites nothing more of a model computes the same as the first."""
    made = [folded_model("tiny.tflite", model, version)[0] for version in ("1", "2")]
    assert sorted("-fold1-" in file.name for file in cache.iterdir()) == [False, True]
    assert folded_model("tiny.tflite", model)[0] == made[1]
    assert made[0] == made[1], "np.hanning is even about another sample than a spectrum is"


def test_a_rewrite_after_which_the_answers_are_others_is_left_out(model: bytes, cache: Path, monkeypatch) -> None:
    def wrong(graph: Graph) -> None:
        layer = next(operator for operator in graph.operators if graph.kind(operator) == "FULLY_CONNECTED")
        graph.replace_input(layer, 1, graph.constant(layer.inputs[1]) * 1.5)

    right = folded_model("tiny.tflite", model, "1")[0]
    monkeypatch.setitem(STEPS, "2", (power_by_logarithm, wrong))
    assert folded_bytes(model, STEPS["2"]) != right
    assert folded_model("tiny.tflite", model, "2")[0] == right
    monkeypatch.setattr(derived, "MOST_DIFFERENCE", 0)
    with pytest.raises(TeacherError, match="expected the folded model to answer within 0 of the file"):
        derived._derive("tiny.tflite", model, "2")


def test_a_damaged_file_in_the_cache_is_made_again(model: bytes, cache: Path) -> None:
    first = folded_model("tiny.tflite", model)
    (file,) = cache.iterdir()
    file.write_bytes(first[0][:-1] + b"?")
    assert folded_model("tiny.tflite", model) == first
    assert file.read_bytes() == first[0]


def test_without_a_writable_cache_the_model_is_folded_all_the_same(model: bytes, tmp_path, monkeypatch, caplog) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "RFFT2D" not in kinds(folded_model("tiny.tflite", model)[0])
    assert "cannot be kept and is made again each time" in caplog.text


def test_nothing_to_fold_names_the_model_and_the_flag(cache: Path) -> None:
    content = convert(lambda x: x[:, :3] * 2.0, 1, 8)
    with pytest.raises(TeacherError, match=r"'tiny\.tflite': nothing to fold: .*--no-fold takes the file as it is"):
        folded_model("tiny.tflite", content)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (lambda x: x[:, :3] * 2.0 + 0.002, r"a logit 0\.002 off and the same highest class"),
        (lambda x: x[:, :3] * -2.0, "fixed window 0.* and another highest class"),
        (lambda x: (-1 - x[:, :3] ** 2) ** 0.5, "a logit nan off"),
    ],
)
def test_a_derived_model_that_answers_differently_is_refused(other: Callable, complaint: str) -> None:
    original = convert(lambda x: x[:, :3] * 2.0, 1, 8)
    hold_against("tiny.tflite", original, original)
    with pytest.raises(TeacherError, match=complaint):
        hold_against("tiny.tflite", original, convert(other, 1, 8))


def test_the_fixed_windows_are_audio() -> None:
    windows = fixed_windows(480)
    assert windows.shape == (12, 480)
    assert windows.dtype == np.float32
    assert np.abs(windows).max() <= 1


# The embedding made an output


HIDDEN, TOP = (
    np.random.default_rng(n).normal(size=shape).astype(np.float32) for n, shape in ((2, (6, 5)), (3, (5, 3)))
)


def hidden_of(x):
    import tensorflow as tf

    return tf.nn.relu(tf.reduce_mean(tf.reshape(x, [1, -1, 6]), axis=1) @ HIDDEN)  # (1, 5)


@pytest.mark.parametrize("ends_in", ["nothing", "sigmoid", "softmax", "reshape"])
def test_the_input_of_the_last_layer_is_given_out_beside_the_same_scores(ends_in: str) -> None:
    import tensorflow as tf

    ends = {"nothing": lambda x: x, "sigmoid": tf.sigmoid, "softmax": tf.nn.softmax}
    content = convert(lambda x: ends.get(ends_in, lambda y: tf.reshape(y, [3]))(hidden_of(x) @ TOP), 1, 24)
    audio = AUDIO[:, :24]
    plain, asked = (open_interpreter("m", model) for model in (content, with_embedding(content)))
    np.testing.assert_array_equal(answer(asked, audio), answer(plain, audio))
    np.testing.assert_allclose(output(asked, 1), hidden_of(audio).numpy(), rtol=1e-6, atol=1e-6)
    assert output(asked, 1).shape == (1, 5)
    assert Graph(with_embedding(content)).digest() == Graph(content).digest(), "nothing else is computed"
    assert with_embedding(content) == with_embedding(content)


@pytest.mark.parametrize("form", ["no layer", "frames", "computed weights", "after more"])
def test_a_model_that_does_not_end_in_a_layer_on_one_row_has_no_embedding(form: str) -> None:
    import tensorflow as tf

    forms = {
        "no layer": lambda x: x * 2.0,
        "frames": lambda x: tf.reshape(x, [4, 6]) @ HIDDEN,  # a row a frame
        "computed weights": lambda x: x[:, :6] @ (HIDDEN * tf.reduce_max(x)),
        "after more": lambda x: tf.exp(hidden_of(x) @ TOP) * 2.0,
    }
    with pytest.raises(TeacherError, match="no embedding: expected a last FULLY_CONNECTED layer"):
        with_embedding(convert(forms[form], 1, 24))
