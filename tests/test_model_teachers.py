"""Keras, SavedModel and ONNX teachers on tiny models of our own: 0.1 s windows at 8 kHz, three classes."""

import dataclasses
import hashlib
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Corpus, shard_bytes

import pipeline
import softlabels
from pipeline import RunOptions, TeacherChoice
from pipeline.checking.regenerate import regenerate
from pipeline.cli.commands import main
from pipeline.models import first_opening
from pipeline.models.first_opening import Opening
from pipeline.models.model_files import copy_folder, private_folder
from pipeline.teachers import keras_model, onnx_model
from pipeline.teachers.backends.on_tensorflow import tensorflow_device
from pipeline.teachers.batch_teacher import confirm, largest_batch
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.scoring import wide_probabilities
from softlabels import TeacherError
from softlabels.errors import EnvironmentTrouble

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

HERE = RunOptions(backend="sequential")
TOO_LARGE = 1 << 56  # float32 values that no address space holds
MODELS = ("model.keras", "saved", "model.onnx")
WEIGHTS = np.random.default_rng(0).normal(size=(800, 3)).astype(np.float32) / 28


def write_keras(path: Path, *layers: object, shape: tuple[int | None, ...] = (800,)) -> None:
    keras.Sequential([keras.Input(shape), *layers]).save(path)


def write_dense(path: Path, *layers: object, weights: np.ndarray = WEIGHTS, shape: tuple[int, ...] = (800,)) -> None:
    """x -> x @ weights, after other layers."""
    last = keras.layers.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input(shape), *layers, last])
    last.set_weights([weights])
    model.save(path)


def write_saved_model(path: Path, function: Callable, *shape: int | None, signature: str = "serving_default") -> None:
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)
    call = tf.function(
        lambda x: {"scores": function(x, module.weights)}, input_signature=[tf.TensorSpec(shape, tf.float32)]
    )
    tf.saved_model.save(module, str(path), signatures={signature: call})


def write_onnx(
    path: Path, weights: np.ndarray, *shape: object, kind: str = "FLOAT", hungry: bool = False, **save
) -> None:
    """x -> x @ weights; a hungry one also allocates far too much for more than four windows."""
    from onnx import TensorProto, helper, numpy_helper

    constants, nodes = {"w": weights}, [helper.make_node("MatMul", ["x", "w"], ["xw" if hungry else "y"])]
    if hungry:
        constants |= {"zero": np.array([0]), "four": np.array(4), "huge": np.array([TOO_LARGE]), "one": np.array([1])}
        chain = [
            ("Shape", ["x"], "shape"),
            ("Gather", ["shape", "zero"], "batch"),
            ("Greater", ["batch", "four"], "many"),
            ("Where", ["many", "huge", "one"], "size"),
            ("ConstantOfShape", ["size"], "zeros"),
            ("ReduceSum", ["zeros"], "nothing"),
            ("Add", ["xw", "nothing"], "y"),
        ]
        nodes += [helper.make_node(op, inputs, [output]) for op, inputs, output in chain]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", getattr(TensorProto, kind), shape)],
        [helper.make_tensor_value_info("y", getattr(TensorProto, kind), [*shape[:-1], 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path, **save)


@pytest.fixture(autouse=True)
def opened_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of our own need no process that can be lost; see test_first_opening.py."""
    monkeypatch.setattr(first_opening, "opened_before", lambda opening: True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    layers = keras.layers
    write_dense(folder / "model.keras")
    write_dense(folder / "column.keras", layers.Flatten(), shape=(800, 1))
    write_keras(folder / "open.keras", layers.Reshape((-1, 1)), layers.GlobalAveragePooling1D(), shape=(None,))
    write_keras(folder / "image.keras", layers.Flatten(), layers.Dense(3), shape=(8, 8, 3))
    write_keras(folder / "frames.keras", layers.Reshape((800, 1)), layers.Dense(3))
    write_keras(folder / "lambda.keras", layers.Lambda(lambda x: x[:, :3]))
    two = keras.Input((800,))
    keras.Model(two, [two[:, :3], two]).save(folder / "two.keras")
    (folder / "text.keras").write_text("this is no model")
    write_dense(folder / "old.h5")
    shutil.copy(folder / "old.h5", folder / "disguised.keras")
    write_saved_model(folder / "saved", tf.matmul, None, 800)
    write_saved_model(folder / "batch4", tf.matmul, 4, 800)
    write_saved_model(folder / "spectrum", lambda x, w: x[:, 0, :3], None, 8, 9)
    (folder / "empty").mkdir()
    write_onnx(folder / "model.onnx", WEIGHTS, "batch", 800)
    write_onnx(folder / "hungry.onnx", WEIGHTS, "batch", 800, hungry=True)
    write_onnx(folder / "open.onnx", WEIGHTS, "batch", "samples")
    write_onnx(folder / "image.onnx", WEIGHTS[:3], "batch", 8, 8, 3)
    write_onnx(folder / "double.onnx", WEIGHTS.astype(np.float64), "batch", 800, kind="DOUBLE")
    write_onnx(folder / "batch4.onnx", WEIGHTS, 4, 800)
    write_onnx(
        folder / "split.onnx", WEIGHTS, "batch", 800, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    (folder / "text.onnx").write_text("this is no model")
    (folder / "labels.txt").write_text("A a_x\nB b_y\nC c_z")
    (folder / "four.txt").write_text("A a_x\nB b_y\nC c_z\nD d_w")
    (folder / "twice.txt").write_text("A a_x\nB b_y\nA a_x")
    return folder


@pytest.fixture
def hungry_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras has no memory for more than four windows; a real allocator takes ten seconds to say so."""
    compiled = keras_model.tensorflow_pass

    def hungry(call: Callable, device: str) -> Callable[..., list[np.ndarray]]:
        forward = compiled(call, device)

        def checked(batch: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
            if len(batch) > 4:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return forward(batch, wanted)

        return checked

    monkeypatch.setattr(keras_model, "tensorflow_pass", hungry)


def folder_digest(folder: Path) -> str:
    with private_folder() as private:
        return copy_folder(folder, private / "copy")


def choice(models: Path, model: str, *, labels: str = "labels.txt", **changes) -> TeacherChoice:
    """The teacher of a model, confirmed."""
    path = models / model
    digest = ""
    if path.is_dir():
        digest = folder_digest(path)
    elif path.is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    fields = {
        "kind": "onnx" if model.endswith(".onnx") else "keras",
        "model": str(path),
        "labels": str(models / labels),
        "rate_hz": 8000,
        "activation": "sigmoid",
        "outputs": "logits",
        "model_sha256": digest if model != "split.onnx" else None,
        "batch_size": 4,
    }
    return TeacherChoice(**{**fields, **changes})


@pytest.mark.parametrize("model", MODELS)
def test_a_models_labels_are_those_of_its_arithmetic_and_are_made_again_to_the_byte(
    corpus: Corpus, models: Path, model: str
) -> None:
    teacher = choice(models, model)
    summary = pipeline.run(corpus.manifest, corpus.folder / "store", teacher=teacher, options=HERE)
    assert summary.labelled == 14
    store = softlabels.open(corpus.folder / "store")
    assert (store.spec.batch_size, store.spec.teacher) == (4, Path(model).stem)
    assert store.spec.teacher_digest == teacher.model_sha256

    samples, _ = soundfile.read(corpus.folder / "c3.wav", dtype="float32")
    expected = wide_probabilities(samples.reshape(4, 800) @ WEIGHTS, "sigmoid").astype(np.float32)
    table = store.to_pandas()
    stored = np.stack(table[table.clip_id == "c3"].probabilities)
    np.testing.assert_allclose(stored, expected, rtol=2**-8)

    before = shard_bytes(corpus.folder / "store")
    for path in (corpus.folder / "store" / "shards").iterdir():
        path.unlink()
    results = regenerate(store, range(store.planned_shards), jobs=1)
    assert {(result.problem, result.likeness, result.restored) for result in results} == {("", "identical", True)}
    assert shard_bytes(corpus.folder / "store") == before


@pytest.mark.parametrize("model", ["saved", "model.onnx"])
def test_a_store_that_was_moved_is_scored_again_by_the_model_that_its_user_names(
    corpus: Corpus, models: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rate, activation and batch size are in its spec."""
    teacher = choice(models, model)
    pipeline.run(corpus.manifest, corpus.folder / "store", teacher=teacher, options=HERE)
    moved = shutil.move(corpus.folder / "store", tmp_path / "moved")
    named = ["--teacher", teacher.kind, "--model", str(models / model), "--labels", teacher.labels]
    command = ["verify", str(moved), "--recompute", "1", "--jobs", "1", "--root", str(corpus.folder), *named]
    confirmed = ["--model-sha256", teacher.model_sha256]
    assert main([*command, *confirmed, "--outputs", "logits"]) == 0
    assert main([*command, *confirmed]) == 1
    assert "needs --outputs" in capsys.readouterr().out
    assert main([*command, "--outputs", "logits"]) == (1 if model == "saved" else 0)
    assert ("is not confirmed" in capsys.readouterr().out) == (model == "saved")
    assert main([*command, *confirmed, "--outputs", "probabilities"]) == 1


@pytest.mark.parametrize("model", [*MODELS, "column.keras", "batch4", "batch4.onnx", "split.onnx"])
def test_every_form_of_waveform_model_gives_the_same_scores(models: Path, model: str) -> None:
    windows = np.random.default_rng(1).normal(size=(4, 800)).astype(np.float32)
    teacher = load_teacher(choice(models, model))
    assert (teacher.window_samples, teacher.batch_size) == (800, 4)
    np.testing.assert_allclose(teacher.score(windows), windows @ WEIGHTS, rtol=1e-4, atol=1e-5)
    assert teacher.score(windows).tobytes() == teacher.score(windows).tobytes()


def test_a_keras_model_of_two_outputs_gives_the_one_that_fits_or_is_named(models: Path) -> None:
    windows = np.random.default_rng(1).normal(size=(4, 800)).astype(np.float32)
    teacher = load_teacher(choice(models, "two.keras"))
    np.testing.assert_array_equal(teacher.score(windows), windows[:, :3])
    again = load_teacher(choice(models, "two.keras", output=(f"scores={teacher.spec_fields['scores_output']}",)))
    np.testing.assert_array_equal(again.score(windows), windows[:, :3])


@pytest.mark.parametrize("model", ["model.keras", "saved"])
def test_a_keras_model_is_confirmed_by_its_digest_before_a_byte_is_loaded(
    models: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(keras.saving, "load_model", never)
    monkeypatch.setattr(tf.saved_model, "load", never)
    good = choice(models, model)
    with pytest.raises(TeacherError, match=f"not confirmed; if you trust it, add --model-sha256 {good.model_sha256}"):
        load_teacher(dataclasses.replace(good, model_sha256=None))
    with pytest.raises(TeacherError, match=f"expected sha256:{'0' * 64}, got sha256:{good.model_sha256}"):
        load_teacher(dataclasses.replace(good, model_sha256="0" * 64))
    with pytest.raises(TeacherError, match="AssertionError: loaded"):
        load_teacher(dataclasses.replace(good, model_sha256=f"sha256:{good.model_sha256.upper()}"))


@pytest.mark.parametrize("model", [*MODELS, "split.onnx"])
def test_what_was_confirmed_is_what_is_loaded_whatever_becomes_of_the_file(
    models: Path, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shutil.copytree if (models / model).is_dir() else shutil.copy)(models / model, tmp_path / model)
    shutil.copy(models / "w.bin", tmp_path)
    windows = np.random.default_rng(1).normal(size=(4, 800)).astype(np.float32)

    def swapped(teacher: TeacherChoice, digest: str) -> None:
        confirm(teacher, digest)
        for path in tmp_path.rglob("*"):
            if path.is_file():
                path.write_bytes(b"another model")

    for kind in (keras_model, onnx_model):
        monkeypatch.setattr(kind, "confirm", swapped)
    confirmed = choice(tmp_path, model, labels=str(models / "labels.txt"))
    if model == "split.onnx":
        confirmed = dataclasses.replace(confirmed, model_sha256=load_teacher(choice(models, model)).digest)
    teacher = load_teacher(confirmed)
    assert (tmp_path / "w.bin").read_bytes() == b"another model"
    np.testing.assert_allclose(teacher.score(windows), windows @ WEIGHTS, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [*MODELS, "split.onnx"])
def test_a_copy_of_the_model_is_tried_in_a_child_before_it_is_opened(
    models: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(opening: Opening) -> None:
        assert models not in Path(opening.model).parents
        raise TeacherError(f"{opening.kind} {opening.digest} {opening.shown}")

    for kind in (keras_model, onnx_model):
        monkeypatch.setattr(kind, "try_in_child", tried)
    teacher = choice(models, model)
    with pytest.raises(TeacherError, match=f"^{teacher.kind} {teacher.model_sha256 or ''}.*{teacher.model}$"):
        load_teacher(teacher)


def test_an_onnx_model_needs_no_digest_but_keeps_to_one_that_is_given(models: Path) -> None:
    unconfirmed = choice(models, "model.onnx", model_sha256=None)
    assert load_teacher(unconfirmed).digest == choice(models, "model.onnx").model_sha256
    with pytest.raises(TeacherError, match="expected sha256:00, got sha256:"):
        load_teacher(dataclasses.replace(unconfirmed, model_sha256="00"))


def test_one_changed_weight_changes_the_digest(models: Path, tmp_path: Path) -> None:
    changed = WEIGHTS.copy()
    changed[0, 0] += 1e-6
    write_dense(tmp_path / "model.keras", weights=changed)
    write_onnx(tmp_path / "model.onnx", changed, "batch", 800)
    for name in ("model.keras", "model.onnx"):
        before = load_teacher(choice(models, name)).digest
        assert load_teacher(choice(tmp_path, name, labels=str(models / "labels.txt"))).digest != before


def test_tensors_outside_the_onnx_file_are_part_of_its_digest(models: Path, tmp_path: Path) -> None:
    for name in ("split.onnx", "w.bin", "labels.txt"):
        shutil.copy(models / name, tmp_path)
    before = load_teacher(choice(tmp_path, "split.onnx")).digest
    assert before == load_teacher(choice(models, "split.onnx")).digest
    content = bytearray((tmp_path / "w.bin").read_bytes())
    content[0] ^= 1
    (tmp_path / "w.bin").write_bytes(content)
    assert load_teacher(choice(tmp_path, "split.onnx")).digest != before


def test_the_digest_of_a_folder_is_that_of_the_documented_shell_command(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    (folder / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/a b", "Z", ".hidden"):
        (folder / name).write_text(name)
    command = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    printed = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert folder_digest(folder) == printed.split()[0]
    before = folder_digest(folder)
    (folder / "Z").rename(folder / "Y")
    assert folder_digest(folder) != before
    (folder / "elsewhere").symlink_to(tmp_path)
    with pytest.raises(TeacherError, match="a link to a folder, 'elsewhere'"):
        folder_digest(folder)


WAVEFORM = r"expected one float32 waveform input \(batch, samples\) or \(batch, samples, 1\), got "


@pytest.mark.parametrize(
    ("model", "changes", "complaint"),
    [
        ("none.keras", {}, r"none\.keras': cannot be read: No such file"),
        ("none.onnx", {}, r"none\.onnx': cannot be read: No such file"),
        ("text.keras", {}, "expected a `.keras` file"),
        ("old.h5", {}, "expected a `.keras` file"),
        ("disguised.keras", {}, "expected a `.keras` file"),
        ("lambda.keras", {}, "Python code that nobody can check .* safe mode refuses, and it stays on"),
        ("empty", {}, "expected a SavedModel folder"),
        ("text.onnx", {}, "expected an ONNX file: "),
        ("image.keras", {}, WAVEFORM + r"'.+' float32 \(any, 8, 8, 3\); .* `--teacher module:factory`"),
        ("spectrum", {}, WAVEFORM + r"'x' float32 \(any, 8, 9\)"),
        ("image.onnx", {}, WAVEFORM + r"'x' float32 \(any, 8, 8, 3\)"),
        ("double.onnx", {}, WAVEFORM + r"'x' float64 \(any, 800\)"),
        ("open.keras", {}, r"leaves the number of samples open, .* --window; inputs: '.+' float32 \(any, any\)"),
        ("open.onnx", {}, r"leaves the number of samples open, .* --window; inputs: 'x' float32 \(any, any\)"),
        ("two.keras", {"labels": "four.txt"}, r"none of its outputs fits as scores, .* \(any, 3\), .* \(any, 800\)"),
        ("frames.keras", {}, r"scores 800 frames a window, \(4, 800, 3\): say with --pool max or --pool mean"),
        ("batch4", {"batch_size": 8}, "takes batches of 4 windows only, got --batch-size 8"),
        ("batch4.onnx", {"batch_size": 8}, "takes batches of 4 windows only, got --batch-size 8"),
    ],
)
def test_a_model_that_does_not_fit_is_a_clear_error(models: Path, model: str, changes: dict, complaint: str) -> None:
    with pytest.raises(TeacherError, match=complaint):
        load_teacher(choice(models, model, **changes))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"labels": "four.txt"}, "3 outputs, but the labels name 4 classes"),
        ({"labels": "twice.txt"}, "'A a_x' is given 2 times"),
        ({"labels": "none.txt"}, "there is no such file"),
        ({"activation": None, "rate_hz": None}, "needs --rate, --activation"),
        ({"outputs": None}, "needs --outputs"),
        ({"portable": True}, "has no portable kernels: leave out --portable"),
        ({"fold": False}, "leave out --no-fold"),
        ({"device": "gpu"}, r"--device gpu: expected .*, got only: .*(cpu|CPUExecutionProvider)"),
    ],
)
def test_settings_that_do_not_fit_are_a_clear_error(models: Path, model: str, changes: dict, complaint: str) -> None:
    if "device" in changes and tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(TeacherError, match=complaint):
        load_teacher(choice(models, model, **changes))


def test_a_callers_wrong_setting_is_a_value_error(models: Path) -> None:
    with pytest.raises(ValueError, match="--batch-size: expected 1 or more, got 0"):
        load_teacher(choice(models, "model.onnx", batch_size=0))
    with pytest.raises(ValueError, match="--device: expected cpu or gpu, got 'tpu'"):
        load_teacher(choice(models, "model.onnx", device="tpu"))


def test_a_signature_that_cannot_be_told_is_a_clear_error(tmp_path: Path, models: Path) -> None:
    write_saved_model(tmp_path / "only", tf.matmul, None, 800, signature="infer")
    labels = str(models / "labels.txt")
    assert load_teacher(choice(tmp_path, "only", labels=labels)).window_samples == 800
    module = tf.Module()
    calls = [
        tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec((None, size), tf.float32)])
        for size in (800, 900)
    ]
    tf.saved_model.save(module, str(tmp_path / "both"), signatures=dict(zip("ab", calls, strict=True)))
    with pytest.raises(TeacherError, match="a signature 'serving_default', or several that take the same .*, got a, b"):
        load_teacher(choice(tmp_path, "both", labels=labels))


def test_outputs_of_several_signatures_are_chosen_as_of_one(tmp_path: Path, models: Path) -> None:
    """BirdNET's own SavedModel has its scores in one signature and its embedding in another."""
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)
    spec = tf.TensorSpec((None, 800), tf.float32)
    basic = tf.function(lambda inputs: {"scores": inputs @ module.weights}, input_signature=[spec])
    embeddings = tf.function(lambda x: {"embeddings": x[:, :5]}, input_signature=[spec])
    again = tf.function(lambda x: {"scores": -x @ module.weights}, input_signature=[spec])
    labels = str(models / "labels.txt")

    def load(name: str, *output: str, **signatures: Callable):
        tf.saved_model.save(module, str(tmp_path / name), signatures=signatures)
        return load_teacher(choice(tmp_path, name, labels=labels, output=output, embedding=True))

    windows = np.random.default_rng(0).normal(size=(4, 800)).astype(np.float32)
    teacher = load("two", basic=basic, embeddings=embeddings)
    scores, embedding = teacher.score_with_embedding(windows)
    np.testing.assert_allclose(scores, windows @ WEIGHTS, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(embedding, windows[:, :5])
    with pytest.raises(TeacherError, match="'again:scores' .*'basic:scores' .*--output scores=NAME"):
        load("three", basic=basic, embeddings=embeddings, again=again)
    named = "scores=again:scores", "embedding=embeddings:embeddings"
    teacher = load("three", *named, basic=basic, embeddings=embeddings, again=again)
    np.testing.assert_allclose(teacher.score_with_embedding(windows)[0], -windows @ WEIGHTS, rtol=1e-4, atol=1e-5)


def test_without_onnxruntime_the_error_says_what_to_install(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TeacherError, match=r"pip install softlabels\[onnx\]"):
        load_teacher(choice(models, "model.onnx"))


def test_another_keras_backend_is_a_clear_error(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(TeacherError, match="runs on TensorFlow, JAX or PyTorch, got KERAS_BACKEND=openvino"):
        load_teacher(choice(models, "model.keras"))


@pytest.mark.usefixtures("hungry_keras")
@pytest.mark.parametrize("model", ["model.keras", "hungry.onnx"])
def test_a_batch_that_does_not_fit_is_halved_and_the_store_keeps_to_what_fitted(
    corpus: Corpus, models: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = choice(models, model, batch_size=None)
    with caplog.at_level(logging.WARNING):
        pipeline.run(corpus.manifest, corpus.folder / "store", teacher=teacher, options=HERE)
    assert "no memory for a batch of 32 windows, trying 16" in caplog.text
    assert "no memory for a batch of 4 windows" not in caplog.text
    store = softlabels.open(corpus.folder / "store")
    assert store.spec.batch_size == 4
    assert store.hints()["teacher"]["batch_size"] == 4, "or workers would look for a size of their own"

    caplog.clear()
    again = pipeline.run(corpus.manifest, corpus.folder / "store", teacher=teacher, options=HERE)
    assert (again.new_windows, again.labelled) == (0, 14)
    assert "no memory" not in caplog.text


@pytest.mark.usefixtures("hungry_keras")
@pytest.mark.parametrize("model", ["model.keras", "hungry.onnx"])
def test_where_a_store_has_fixed_the_batch_size_no_memory_is_an_error(models: Path, model: str) -> None:
    with pytest.raises(EnvironmentTrouble, match="no memory for a batch of 8 windows, and no other size will do"):
        load_teacher(choice(models, model, batch_size=8, batch_fixed=True))


@pytest.mark.usefixtures("hungry_keras")
@pytest.mark.parametrize("model", ["model.keras", "hungry.onnx"])
def test_memory_that_is_gone_later_is_the_machines_fault_not_the_clips(models: Path, model: str) -> None:
    teacher = load_teacher(choice(models, model))
    teacher.batch_size = 8
    with pytest.raises(EnvironmentTrouble, match="no memory for a batch of 8 windows"):
        teacher.score(np.zeros((8, 800), np.float32))


@pytest.mark.parametrize(
    ("wanted", "least", "fits", "expected"),
    [(32, 1, 100, 32), (32, 1, 16, 16), (32, 1, 5, 4), (7, 1, 3, 3), (7, 1, 2, 1), (32, 1, 0, None), (8, 8, 7, None)],
)
def test_a_batch_is_halved_until_it_fits(wanted: int, least: int, fits: int, expected: int | None) -> None:
    def attempt(size: int) -> None:
        if size > fits:
            raise MemoryError

    def find() -> int:
        return largest_batch("m", wanted, attempt, lambda error: isinstance(error, MemoryError), least=least)

    if expected is None:
        with pytest.raises(EnvironmentTrouble, match=f"'m': no memory for a batch of {least} windows"):
            find()
    else:
        assert find() == expected


def test_a_batch_of_another_size_is_refused(models: Path) -> None:
    teacher = load_teacher(choice(models, "model.keras"))
    with pytest.raises(ValueError, match="cannot reshape"):
        teacher.score(np.zeros((3, 800), np.float32))


def test_tensorflow_is_set_to_one_thread_and_a_gpu_to_repeatable_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def record(name: str) -> Callable[..., None]:
        return lambda *values: calls.append((name, *values))

    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", record("intra"))
    monkeypatch.setattr(tf.config.threading, "set_inter_op_parallelism_threads", record("inter"))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", record("growth"))
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", record("deterministic"))
    monkeypatch.setattr(tf.config.experimental, "enable_tensor_float_32_execution", record("tf32"))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    with tensorflow_device(None) as device:
        assert device == "/CPU:0"
    assert calls == [("intra", 1), ("inter", 1), ("growth", "a GPU", True)]
    with tensorflow_device("gpu") as device:
        assert device == "/GPU:0"
    assert calls[3:] == [*calls[:3], ("deterministic",), ("tf32", False)]


def test_onnxruntime_that_falls_back_from_the_gpu_is_a_clear_error(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(TeacherError, match="--device gpu: expected CUDAExecutionProvider, but .* only start CPUExec"),
    ):
        load_teacher(choice(models, "model.onnx", device="gpu"))
