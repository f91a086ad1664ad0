"""What a model takes and gives: decided by names and shapes, never by position, or refused with what would decide it.

Models of NumPy: 12 samples a window; the scores of a window are its sum times 1, 2, 3.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.teachers.signatures.model import OpenModel, Tensor
from pipeline.teachers.signatures.passage import Handling, Passage, normalised, open_passage
from softlabels import TeacherError

SAMPLES, CLASSES = 12, 3
TIMES = np.array([1, 2, 3], np.float32)
WINDOWS = np.random.default_rng(0).normal(size=(4, SAMPLES)).astype(np.float32)


def model(shape, outputs: dict[str, tuple] | list[tuple[str, tuple]], answer: Callable | None = None) -> OpenModel:
    """A model whose outputs, named with their declared shapes, are made by `answer` from (batch, samples) windows."""
    named = list(outputs.items()) if isinstance(outputs, dict) else outputs
    made = answer or (lambda name, x: scored(x))

    def forward(batch: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
        assert batch.ndim == len(shape)
        assert all(size in (None, found) for size, found in zip(shape, batch.shape, strict=True))
        return [made(named[i][0], batch.reshape(-1, SAMPLES)) for i in wanted]

    tensors = [Tensor("float32", declared, name) for name, declared in named]
    return OpenModel(inputs=[Tensor("float32", shape, "audio")], outputs=tensors, forward=forward)


def scored(x: np.ndarray) -> np.ndarray:
    return x.sum(axis=1, keepdims=True) * TIMES


def opened(opened_model: OpenModel, **handling) -> Passage:
    return open_passage("m", opened_model, CLASSES, Handling(**handling))


@pytest.mark.parametrize(
    ("shape", "window", "batch"),
    [
        ((None, 12), None, None),
        ((4, 12), None, 4),
        ((1, 12), None, 1),
        ((None, 12, 1), None, None),
        ((None, 1, 12), None, None),
        ((1, 1, 12), None, 1),
        ((12,), None, 1),
        ((12, 1), None, 1),
        ((None,), 12, 1),
        ((None, 1), 12, 1),
        ((1, None), 12, 1),
        ((None, None), 12, None),
        ((None, None, 1), 12, None),
        ((None, 12), 12, None),
    ],
)
def test_a_waveform_with_and_without_batch_and_channel_is_taken(shape, window, batch) -> None:
    passage = opened(model(shape, {"y": (None, 3)}), window_samples=window)
    assert (passage.layout.batch, passage.layout.samples) == (batch, SAMPLES)
    windows = WINDOWS[: batch or 3]
    np.testing.assert_array_equal(passage.scores(windows), scored(windows))


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [Tensor("float32", (None, 12), "a"), Tensor("float32", (1,), "week")],
        [Tensor("float64", (None, 12), "a")],
        [Tensor("int16", (12,), "a")],
        [Tensor("float32", (None, 3, 12), "a")],
        [Tensor("float32", (None, 12, 2), "a")],
        [Tensor("float32", (None, 8, 12, 1), "a")],
        [Tensor("float32", (), "a")],
    ],
)
def test_what_is_no_waveform_is_refused_with_what_the_model_takes(inputs) -> None:
    strange = OpenModel(inputs=inputs, outputs=[Tensor("float32", (None, 3), "y")], forward=lambda x, wanted: [])
    with pytest.raises(TeacherError, match="'m': expected one float32 waveform input .*, got ") as raised:
        opened(strange)
    assert all(str(each) in str(raised.value) for each in inputs)
    assert "--teacher module:factory" in str(raised.value)


@pytest.mark.parametrize("shape", [(None,), (1, None), (None, None), (None, None, 1), (2, 1, None)])
def test_an_open_length_wants_a_window(shape) -> None:
    with pytest.raises(
        TeacherError, match=r"samples open, .* --window; inputs: 'audio' float32 \(.*any.*; outputs: 'y'"
    ):
        opened(model(shape, {"y": (None, 3)}))


@pytest.mark.parametrize("shape", [(12,), (1, 12), (None, 12, 1)])
def test_a_fixed_length_takes_no_other_window(shape) -> None:
    with pytest.raises(TeacherError, match=r"windows of 12 samples only, --window asks for 13: leave it out; inputs: "):
        opened(model(shape, {"y": (None, 3)}), window_samples=13)


FOUR = {"label": (None, 3), "embedding": (None, 5), "spatial": (None, 4, 2, 5), "spectrogram": (None, 6, 7)}


def answer_four(name: str, x: np.ndarray) -> np.ndarray:
    if name == "label":
        return scored(x)
    number = {"embedding": 1, "spatial": 2, "spectrogram": 3}[name]
    return np.broadcast_to(number * x.max(), (len(x), *FOUR[name][1:])).astype(np.float32)


@pytest.mark.parametrize("embed", [False, True])
def test_the_order_of_outputs_means_nothing(embed: bool) -> None:
    for order in itertools.permutations(FOUR):
        passage = opened(model((None, 12), {name: FOUR[name] for name in order}, answer_four), embed=embed)
        assert passage.spec_fields["scores_output"] == "label"
        np.testing.assert_array_equal(passage.scores(WINDOWS), scored(WINDOWS))
        assert passage.width == (5 if embed else 0)
        if embed:
            scores, embeddings = passage.both(WINDOWS)
            np.testing.assert_array_equal(scores, scored(WINDOWS))
            np.testing.assert_array_equal(embeddings, answer_four("embedding", WINDOWS))


def test_a_named_output_has_to_fit_whatever_is_named() -> None:
    several = model((None, 12), FOUR, answer_four)
    for scores, embedding in itertools.product([*FOUR, "nothing", "LABEL"], repeat=2):
        if (scores, embedding) == ("label", "embedding"):
            assert opened(several, scores=scores, embedding=embedding).width == 5
            continue
        with pytest.raises(TeacherError, match=r"'m': --output (scores|embedding)=.*; inputs: ") as raised:
            opened(several, scores=scores, embedding=embedding)
        text = str(raised.value)
        assert all(f"'{name}' float32" in text for name in (*FOUR, "audio"))


@pytest.mark.parametrize(
    ("outputs", "handling", "complaint"),
    [
        (
            {"a": (None, 3), "b": (None, 3)},
            {},
            r"2 of its outputs could be the scores: 'a' .*, 'b' .*--output scores=NAME",
        ),
        ({"a": (None, 3), "b": (None, 7, 3)}, {}, "2 of its outputs could be the scores"),
        ({"a": (None, 4), "b": (None, 2)}, {}, r"none of its outputs fits as scores.*--labels.*'a' .*'b' "),
        ({"a": (None, 4), "b": (3, None, 2)}, {}, "none of its outputs fits as scores"),
        (
            {"a": (None, 3), "b": (None, 5), "c": (None, 6)},
            {"embed": True},
            "2 of its outputs could be the embedding: 'b'",
        ),
        ({"a": (None, 3), "b": (None, 5, 2)}, {"embed": True}, "none of its outputs fits as embedding"),
        ({"a": (None, 3)}, {"embed": True}, "has one output only, .*: it gives no embedding"),
        ({"a": (None, 3)}, {"scores": "b"}, "--output scores=b: no output has this name; inputs: .*; outputs: 'a'"),
        ([("a", (None, 3)), ("a", (None, 3))], {"scores": "a"}, "--output scores=a: 2 outputs have this name"),
    ],
)
def test_what_cannot_be_decided_is_refused_with_what_would_decide_it(outputs, handling, complaint) -> None:
    with pytest.raises(TeacherError, match=complaint) as raised:
        opened(model((None, 12), outputs), **handling)
    assert "inputs: 'audio' float32 (any, 12); outputs: 'a' float32 (" in str(raised.value)


def test_of_outputs_without_a_declared_shape_those_for_silence_decide() -> None:
    open_shapes = {name: () if name == "spatial" else (None, None) for name in FOUR}
    passage = opened(model((None, 12), open_shapes, answer_four), embed=True)
    assert (passage.spec_fields["scores_output"], passage.spec_fields["embedding_output"]) == ("label", "embedding")
    assert passage.width == 5


def frames(name: str, x: np.ndarray) -> np.ndarray:
    """(batch, 2, 3): the scores, and minus twice the scores."""
    return np.stack([scored(x), -2 * scored(x)], axis=1)


@pytest.mark.parametrize("declared", [(None, 2, 3), (None, None, 3), (4, 2, 3)])
@pytest.mark.parametrize(
    ("pool", "expected"), [("max", lambda s: np.maximum(s, -2 * s)), ("mean", lambda s: (-s / 2).astype(np.float32))]
)
def test_scores_of_frames_are_pooled(declared, pool, expected) -> None:
    passage = opened(model((None, 12), {"y": declared}, frames), pool=pool)
    np.testing.assert_allclose(passage.scores(WINDOWS), expected(scored(WINDOWS)), rtol=1e-6)
    assert passage.spec_fields["pool"] == pool


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_a_frame_that_is_not_a_number_is_not_pooled_away(pool) -> None:
    def hole(name: str, x: np.ndarray) -> np.ndarray:
        made = frames(name, x)
        made[1, 0, 2] = np.nan
        return made

    scores = opened(model((None, 12), {"y": (None, 2, 3)}, hole), pool=pool).scores(WINDOWS)
    assert np.argwhere(np.isnan(scores)).tolist() == [[1, 2]]


def test_frames_want_a_pool_and_a_pool_wants_frames() -> None:
    with pytest.raises(
        TeacherError, match=r"scores 2 frames a window, \(4, 2, 3\): say with --pool max or --pool mean"
    ):
        opened(model((None, 12), {"y": (None, 2, 3)}, frames)).scores(WINDOWS)
    with pytest.raises(
        TeacherError, match=r"scores a window as a whole, \(4, 3\), and has no frames: leave out --pool"
    ):
        opened(model((None, 12), {"y": (None, 3)}), pool="max").scores(WINDOWS)


@pytest.mark.parametrize("shape", [(12,), (1, 12)])
@pytest.mark.parametrize("answered", [(3,), (1, 3), (1, 1, 3), (2, 3), (1, 2, 3)])
def test_a_model_of_one_window_may_answer_without_the_axis_of_the_batch(shape, answered) -> None:
    pool = "max" if 2 in answered else ""

    def answer(name: str, x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(scored(x)[0], answered)

    scores = opened(model(shape, {"y": answered, "z": (1, 9)}, answer), pool=pool).scores(WINDOWS[:1])
    np.testing.assert_array_equal(scores, scored(WINDOWS[:1]))


@pytest.mark.parametrize(
    ("answered", "complaint"),
    [
        ((3, 4), "expected one float32 output"),
        ((1, 3), "expected one float32 output .* for 4 windows; if it takes one window at a time, give --batch-size 1"),
        ((4, 2), "2 outputs, but the labels name 3 classes"),
        ((4, 3, 2), "2 outputs, but the labels name 3 classes"),
        ((4, 1, 1, 3), "expected one float32 output"),
        ((3,), "expected one float32 output"),
    ],
)
def test_an_answer_of_another_shape_is_refused(answered, complaint) -> None:
    passage = opened(model((None, 12), {"y": ()}, lambda name, x: np.zeros(answered, np.float32)))
    with pytest.raises(TeacherError, match=complaint):
        passage.scores(WINDOWS)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int8])
def test_an_answer_of_another_type_is_refused(dtype) -> None:
    passage = opened(model((None, 12), {"y": (None, 3)}, lambda name, x: scored(x).astype(dtype)))
    with pytest.raises(TeacherError, match=f"expected one float32 output .*, got {np.dtype(dtype).name}"):
        passage.scores(WINDOWS)


@pytest.mark.parametrize(("scale", "offset"), [(0.97, -10.0), (2.0, 0.0), (1.0, 3.5)])
def test_scores_are_scaled_and_shifted_and_rounded_once(scale, offset) -> None:
    passage = opened(model((None, 12), {"y": (None, 3)}), scale=scale, offset=offset)
    wide = scale * scored(WINDOWS).astype(np.float64) + offset
    np.testing.assert_array_equal(passage.scores(WINDOWS), wide.astype(np.float32))


@pytest.mark.parametrize("peak", [0.25, 1.0, 1e-3])
@pytest.mark.parametrize("remove_mean", [False, True])
def test_windows_are_brought_to_a_peak_each_by_itself(peak: float, remove_mean: bool) -> None:
    windows = WINDOWS * np.array([[1], [1e-6], [300], [1]], np.float32) + np.float32(0.5 if remove_mean else 0)
    made = normalised(windows, Handling(peak=peak, remove_mean=remove_mean))
    np.testing.assert_allclose(np.abs(made).max(axis=1), peak, rtol=1e-6)
    if remove_mean:
        np.testing.assert_allclose(made.mean(axis=1), 0, atol=1e-6 * peak)
    else:
        np.testing.assert_allclose(made / made[:, :1], windows / windows[:, :1], rtol=1e-5)
    for i in range(len(windows)):
        alone = normalised(windows[i : i + 1], Handling(peak=peak, remove_mean=remove_mean))
        np.testing.assert_array_equal(alone[0], made[i])


@pytest.mark.parametrize("constant", [0.0, 0.1, -1 / 32768, 1e-30, np.float32(1 / 3)])
def test_silence_stays_silence_with_an_offset_too(constant: float) -> None:
    silence = np.full((2, 1000), constant, np.float32)
    assert not normalised(silence, Handling(peak=0.25, remove_mean=True)).any()
    assert not normalised(silence * 0, Handling(peak=0.25)).any()


def test_a_window_that_is_not_finite_spoils_itself_only() -> None:
    windows = WINDOWS.copy()
    windows[1, 3], windows[2, 4] = np.nan, np.inf
    made = normalised(windows, Handling(peak=0.5, remove_mean=True))
    assert np.isnan(made[1:3]).any(axis=1).all()
    np.testing.assert_array_equal(made[[0, 3]], normalised(WINDOWS[[0, 3]], Handling(peak=0.5, remove_mean=True)))


def test_a_model_that_is_left_as_it_is_is_given_the_very_windows() -> None:
    assert normalised(WINDOWS, Handling()) is WINDOWS
