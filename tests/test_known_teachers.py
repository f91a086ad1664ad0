"""Teachers by name, on made models with the signatures that BirdNET V3.0 and Perch v2 are published with.

Their weights were not at hand. A made model answers its loudness, the mean of |x|, times a number a class.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Corpus

import pipeline
import softlabels
from pipeline import RunOptions, TeacherChoice
from pipeline.cli.commands import main
from pipeline.models import first_opening
from pipeline.teachers.known.class_lists import coded_names, listed_names, sheet_names
from pipeline.teachers.known.models import BIRDNET_V3, KNOWN, PERCH_V2
from pipeline.teachers.loading import load_teacher
from pipeline.teachers.signatures.model import OpenModel, Tensor
from pipeline.teachers.signatures.passage import Handling, open_passage
from softlabels import ClassList, TeacherError
from softlabels.errors import ClassListError

tf = pytest.importorskip("tensorflow")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

V3, PERCH = 11_560, 14_795
SLOPES = {n: np.linspace(-4, 4, n, dtype=np.float32) for n in (V3, PERCH)}
MODELS = {"v3.tflite": "birdnet-v3", "v3": "birdnet-v3", "v3.onnx": "birdnet-v3", "perch.onnx": "perch-v2"}


@pytest.fixture(autouse=True)
def opened_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of our own need no process that can be lost; see test_first_opening.py."""
    monkeypatch.setattr(first_opening, "opened_before", lambda opening: True)


def v3_answer(x):
    """(1, samples) -> 11,560 probabilities and 1,280 numbers, as TensorFlow computes them."""
    loudness = tf.reduce_mean(tf.abs(x), axis=1, keepdims=True)
    return tf.sigmoid(loudness * SLOPES[V3]), loudness * np.ones(1280, np.float32)


def write_v3(folder: Path) -> None:
    """The TFLite file, whose outputs have no names and whose length is open, and the SavedModel, batch 1."""
    call = tf.function(v3_answer, input_signature=[tf.TensorSpec((1, None), tf.float32)])
    lite = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()])
    (folder / "v3.tflite").write_bytes(lite.convert())
    named = tf.function(
        lambda x: dict(zip(("predictions", "embeddings"), v3_answer(x), strict=True)),
        input_signature=[tf.TensorSpec((1, None), tf.float32, name="x")],
    )
    tf.saved_model.save(tf.Module(), str(folder / "v3"), signatures={"serving_default": named})


def write_onnx(path: Path, inputs: tuple, outputs: dict[str, tuple[int, ...]], nodes: dict[str, Callable]) -> None:
    """inputs: name and axes; outputs: name -> shape of a window's; nodes: name -> last nodes of it, from "loudness"."""
    from onnx import TensorProto, helper, numpy_helper

    made = [helper.make_node("Abs", [inputs[0]], ["abs"])]
    made += [helper.make_node("ReduceMean", ["abs"], ["loudness"], axes=[1], keepdims=1)]
    constants = []
    for name, shape in outputs.items():
        values = nodes[name](shape)
        constants.append(numpy_helper.from_array(values.astype(np.float32), f"{name} of one"))
        last = f"{name} flat"
        made.append(helper.make_node("Mul", ["loudness", f"{name} of one"], [last]))
        if name == "predictions":
            made.append(helper.make_node("Sigmoid", [last], [name]))
            continue
        constants.append(numpy_helper.from_array(np.array([-1, *shape]), f"{name} shape"))
        made.append(helper.make_node("Reshape", [last, f"{name} shape"], [name]))
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info(inputs[0], TensorProto.FLOAT, inputs[1:])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in outputs.items()],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def slopes(shape: tuple[int, ...]) -> np.ndarray:
    """(1, values): what a class, or another number of an output, is times the loudness."""
    size = int(np.prod(shape))
    return SLOPES.get(size, np.ones(size, np.float32))[None]


def write_perch(path: Path, shapes: dict[str, tuple[int, ...]] = PERCH_V2.published.shapes) -> None:
    write_onnx(path, ("inputs", "batch", 160_000), shapes, dict.fromkeys(shapes, slopes))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known")
    write_v3(folder)
    v3_outputs = {"embeddings": (1280,), "predictions": (V3,)}
    write_onnx(folder / "v3.onnx", ("x", "batch", "samples"), v3_outputs, dict.fromkeys(v3_outputs, slopes))
    write_perch(folder / "perch.onnx")
    rows = [f"{i};{2 * i + 3};Aus species{i}{' ' * (i < 8)};Alpha {i};Aves;Pici" for i in range(V3)]
    head = "\ufeffidx;id;sci_name;com_name;class;order"
    (folder / "birdnet-v3.csv").write_text("\r\n".join([head, *rows]) + "\r\n", encoding="utf-8")
    (folder / "perch-v2.csv").write_text("\n".join(["inat2024_fsd50k", *(f"Bus species{i}" for i in range(PERCH))]))
    return folder


@pytest.fixture
def clips(corpus: Corpus) -> Corpus:
    """Two seconds-long recordings by a recorder whose zero is a little off, one of them silent."""
    loud = np.random.default_rng(1).normal(size=11 * 32_000) * 0.1 + 0.05
    corpus.write_samples("loud.wav", loud.astype(np.float32), rate_hz=32_000)
    corpus.write_samples("quiet.wav", np.full(5 * 32_000, -3 / 32768, np.float32), rate_hz=32_000)
    corpus.write_manifest("clip_id,path\nloud,loud.wav\nquiet,quiet.wav")
    return corpus


def choice(models: Path, name: str, **changes) -> TeacherChoice:
    kind = MODELS[name]
    fields = {"kind": kind, "model": str(models / name), "labels": str(models / f"{kind}.csv")}
    return TeacherChoice(**{**fields, "model_sha256": digest_of(models / name), **changes})


def digest_of(path: Path) -> str | None:
    """What a SavedModel has to be confirmed with."""
    from pipeline.models.model_files import copy_folder, private_folder

    if not path.is_dir():
        return None
    with private_folder() as folder:
        return copy_folder(path, folder / "copy")


@pytest.mark.parametrize("model", MODELS)
def test_the_name_of_the_teacher_is_all_that_has_to_be_said(clips: Corpus, models: Path, model: str, capsys) -> None:
    teacher = choice(models, model)
    command = ["run", str(clips.manifest), "-o", str(clips.folder / "store"), "--backend", "sequential"]
    command += ["--teacher", teacher.kind, "--model", teacher.model, "--labels", teacher.labels]
    confirmed = ["--model-sha256", teacher.model_sha256] if teacher.model_sha256 else []
    assert main([*command, *confirmed]) == 0
    told = capsys.readouterr().err
    assert KNOWN[teacher.kind].licence in told
    assert ("8 names without the blanks at their ends" in told) == (teacher.kind == "birdnet-v3")

    store = softlabels.open(clips.folder / "store")
    spec, known = store.spec, KNOWN[teacher.kind]
    assert (spec.teacher, spec.window.rate_hz, spec.window.window_s) == (known.name, 32_000, known.window_s)
    assert (spec.scale, spec.offset, spec.peak) == ((0.97, -10, 0.25) if teacher.kind == "perch-v2" else (1, 0, 0))
    assert spec.batch_size == (32 if model == "perch.onnx" else 1)
    assert store.classes[7] == ("Aus species7_Alpha 7" if teacher.kind == "birdnet-v3" else "Bus species7")

    table = store.to_pandas()
    stored = np.stack(table.probabilities)
    windows = np.stack([window_of(clips, row, spec.window.window_samples) for row in table.itertuples()])
    np.testing.assert_allclose(stored, by_hand(teacher.kind, windows), rtol=2**-7, atol=1e-7)
    assert main(["inspect", str(clips.folder / "store")]) == 0
    reading = (
        "windows without their mean, windows scaled to a peak of 0.25, scores of output 'label', scores * 0.97 + -10"
    )
    assert (reading in capsys.readouterr().out) == (reading in (clips.folder / "store" / "README.md").read_text())
    assert (reading == store.spec.reading) == (teacher.kind == "perch-v2")
    named = ["--teacher", teacher.kind, "--model", teacher.model, "--labels", teacher.labels, *confirmed]
    again = ["verify", str(clips.folder / "store"), "--root", str(clips.folder), "--recompute", "1", "--jobs", "1"]
    assert main([*again, *named]) == 0, capsys.readouterr()


def window_of(clips: Corpus, row, samples: int) -> np.ndarray:
    import soundfile

    audio, _ = soundfile.read(clips.folder / f"{row.clip_id}.wav", dtype="float32")
    window = audio[row.window_index * samples :][:samples]
    return np.pad(window, (0, samples - len(window)))


def by_hand(kind: str, windows: np.ndarray) -> np.ndarray:
    """(windows, classes) probabilities, from the published rules."""
    wide = windows.astype(np.float64)
    if kind == "birdnet-v3":
        return 1 / (1 + np.exp(-np.abs(wide).mean(axis=1, keepdims=True) * SLOPES[V3]))
    wide = wide - wide.mean(axis=1, keepdims=True)
    peak = np.abs(wide).max(axis=1, keepdims=True)
    wide = wide / np.where(peak == 0, 1, peak) * 0.25
    logits = 0.97 * np.abs(wide).mean(axis=1, keepdims=True) * SLOPES[PERCH] - 10
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("model", ["v3.tflite", "v3", "v3.onnx"])
def test_birdnet_v3_takes_windows_of_any_length(models: Path, model: str) -> None:
    teacher = load_teacher(choice(models, model, window_s=1.25))
    assert (teacher.window_samples, teacher.batch_size) == (40_000, 1)
    window = np.random.default_rng(0).normal(size=(1, 40_000)).astype(np.float32)
    np.testing.assert_allclose(teacher.score(window), by_hand("birdnet-v3", window), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_the_embedding_comes_from_the_same_pass(models: Path, model: str) -> None:
    name = {"v3.tflite": "Identity_1"}.get(model, PERCH_V2.published.embedding if "perch" in model else "embeddings")
    teacher = load_teacher(choice(models, model, output=(f"embedding={name}",)))
    windows = np.random.default_rng(0).normal(size=(teacher.batch_size, teacher.window_samples)).astype(np.float32)
    scores, embeddings = teacher.score_with_embedding(windows)
    assert embeddings.shape == (teacher.batch_size, teacher.embedding_width)
    assert teacher.embedding_width == (1536 if "perch" in model else 1280)
    np.testing.assert_array_equal(scores, teacher.score(windows))
    assert np.ptp(embeddings, axis=1).max() == 0
    assert (embeddings > 0).all()


def published(model: dict[str, tuple], names: tuple[str, ...]) -> OpenModel:
    """A model with the outputs of these shapes, under other names."""
    outputs = [Tensor("float32", (None, *shape), name) for name, shape in zip(names, model.values(), strict=True)]
    forward = lambda x, wanted: [np.zeros((len(x), *list(model.values())[i]), np.float32) for i in wanted]  # noqa: E731
    return OpenModel(inputs=[Tensor("float32", (None, 16), "inputs")], outputs=outputs, forward=forward)


def test_perchs_names_over_other_shapes_are_another_model() -> None:
    """All 24 assignments of its names to its shapes, each in all 24 orders: one assignment is Perch v2."""
    shapes = PERCH_V2.published.shapes
    how = Handling(published=PERCH_V2.published, embed=True)
    for order in itertools.permutations(shapes):
        ordered = {name: shapes[name] for name in order}
        for names in itertools.permutations(order):
            if names == order:
                passage = open_passage("m", published(ordered, names), PERCH, how)
                roles = (order.index("label"), order.index("embedding"))
                assert (passage.roles.scores, passage.roles.embedding, passage.width) == (*roles, 1536)
            else:
                with pytest.raises(TeacherError, match="is published as .* this is another model; inputs: .*outputs: "):
                    open_passage("m", published(ordered, names), PERCH, how)


@pytest.mark.parametrize("names", [("predictions", "embeddings"), ("embeddings", "predictions"), ("a", "b"), ("", "")])
@pytest.mark.parametrize("order", [(V3, 1280), (1280, V3)])
def test_birdnet_v3s_outputs_are_told_by_name_or_by_their_one_shape(names: tuple[str, str], order) -> None:
    model = published({"one": (order[0],), "two": (order[1],)}, names)
    how = Handling(published=BIRDNET_V3.published, embed=True)
    swapped = names[0] in ("predictions", "embeddings") and (names[0] == "predictions") != (order[0] == V3)
    if swapped:
        with pytest.raises(TeacherError, match="'embeddings' .* is published as .batch, 1280.: this is another model"):
            open_passage("m", model, V3, how)
    else:
        passage = open_passage("m", model, V3, how)
        assert (passage.roles.scores, passage.roles.embedding) == (order.index(V3), order.index(1280))


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ({"a": (V3,), "b": (V3,)}, "2 of its outputs could be the scores"),
        ({"predictions": (1280,), "b": (V3,)}, "--output scores=predictions: got 'predictions' float32 .any, 1280."),
        ({"predictions": (V3,), "embeddings": (1024,)}, "is published as .batch, 1280."),
        ({"a": (6522,), "b": (1280,)}, "none of its outputs fits as scores"),
        ({"a": (V3, 1), "b": (1, 1280)}, "none of its outputs fits as scores"),
    ],
)
def test_what_is_not_birdnet_v3_is_refused(outputs, complaint) -> None:
    with pytest.raises(TeacherError, match=complaint):
        open_passage("m", published(outputs, tuple(outputs)), V3, Handling(published=BIRDNET_V3.published))


@pytest.mark.parametrize("model", ["v3.tflite", "perch.onnx"])
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"labels": None}, "not on this machine: .*give --labels: a .tflite or .onnx file or a SavedModel folder"),
        ({"model": None, "labels": None}, "not on this machine: .*give --model and --labels"),
        ({"rate_hz": 48_000}, "sets rate_hz itself: leave out --rate"),
        ({"activation": "softmax"}, "sets activation itself"),
        ({"outputs": "logits"}, "sets outputs itself"),
        ({"scale": 2.0}, "sets scale itself: leave out --scale"),
        ({"peak": 0.5}, "sets peak itself: leave out --peak"),
        ({"pool": "max"}, "sets pool itself"),
        ({"remove_mean": True}, "sets remove_mean itself: leave out --remove-mean"),
        ({"fold": False}, "leave out --no-fold"),
        ({"output": ("scores=nothing",)}, "no output has this name"),
        ({"model": "model.pt"}, "expected a .tflite or .onnx file or a SavedModel folder, got --model 'model.pt'"),
    ],
)
def test_what_a_known_teacher_cannot_use_is_a_clear_error(models: Path, model: str, changes, complaint) -> None:
    with pytest.raises(TeacherError, match=complaint):
        load_teacher(choice(models, model, **changes))


@pytest.mark.parametrize(("model", "labels"), [("v3.onnx", "perch-v2.csv"), ("perch.onnx", "birdnet-v3.csv")])
def test_the_class_list_of_another_model_is_refused(models: Path, model: str, labels: str) -> None:
    with pytest.raises(TeacherError, match=r"(got|fits as scores).*--labels"):
        load_teacher(choice(models, model, labels=str(models / labels)))


def test_a_name_that_is_not_known_says_which_are() -> None:
    with pytest.raises(
        TeacherError, match=r"'birdnet_v3': expected birdnet, birdnet-v3, perch-v2, nighthawk, litert, "
    ):
        load_teacher(TeacherChoice(kind="birdnet_v3"))


@pytest.mark.parametrize("output", ["scores", "scores=", "=x", "logits=x", ""])
def test_an_output_is_a_role_and_a_name(models: Path, output: str) -> None:
    with pytest.raises(ValueError, match=r"--output: expected scores=NAME or embedding=NAME, .* got "):
        load_teacher(choice(models, "perch.onnx", output=(output,)))
    with pytest.raises(ValueError, match="each at most once"):
        load_teacher(choice(models, "perch.onnx", output=("scores=label", "scores=label")))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"peak": 0.0}, "--peak: expected above 0, at most 1, got 0"),
        ({"peak": 1.5}, "--peak: expected above 0, at most 1, got 1.5"),
        ({"scale": 0.0}, "--scale: expected above 0, got 0"),
        ({"scale": float("inf")}, "--scale: expected above 0, got inf"),
        ({"offset": float("nan")}, "--offset: expected a number, got nan"),
        ({"window_s": -1.0}, "--window: expected above 0, got -1"),
    ],
)
def test_numbers_that_no_teacher_has_are_a_value_error(changes, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        TeacherChoice(kind="onnx", **changes)


def test_class_lists_are_read_as_they_are_published(tmp_path: Path) -> None:
    sheet = tmp_path / "labels.csv"
    sheet.write_text("\ufeffid;sci_name;com_name;gbif\n3;Aus a ;Alpha;1\n5;Bus b; Beta\t;2\n", encoding="utf-8")
    assert sheet_names(sheet).names == ("Aus a_Alpha", "Bus b_Beta")
    assert sheet_names(sheet).remark == "2 names without the blanks at their ends"
    plain = tmp_path / "en_us.txt"
    plain.write_text("Aus a_Alpha\nBus b_Beta")
    assert sheet_names(plain).names == sheet_names(sheet).names == listed_names(plain).names
    assert sheet_names(plain).remark == ""
    headed = tmp_path / "headed.csv"
    headed.write_text("inat2024_fsd50k\nAus a\nWaves_and_surf\n")
    assert listed_names(headed).names == ("Aus a", "Waves_and_surf")
    assert (listed_names(headed).taxonomy_year, listed_names(plain).taxonomy_year) == (2024, 0)
    (tmp_path / "species.txt").write_text("bus\naus\n")
    (tmp_path / "ebird_taxonomy.csv").write_text(
        '"","code","name","sci_name"\n"1","aus","Alpha","Aus a"\n"2","bus","Beta","Bus b"\n'
    )
    assert coded_names(tmp_path / "species.txt").names == ("Bus b_Beta", "Aus a_Alpha")


@pytest.mark.parametrize(
    ("read", "text", "complaint"),
    [
        (sheet_names, "idx;sci_name;com_name\n0;Aus a;Alpha\n2;Bus b;Beta", "expected idx 1 in row 1, got '2'"),
        (sheet_names, "idx;name\n0;Aus a", "expected a column sci_name"),
        (sheet_names, "sci_name,com_name\nAus a,", "expected a scientific and a common name in every row, row 0"),
        (sheet_names, "sci_name;com_name\nAus a;Alpha\nAus a;Alpha", "'Aus a_Alpha' is given 2 times"),
        (sheet_names, "sci_name;com_name\n", "expected a column sci_name"),
        (listed_names, "", "the file is empty"),
        (listed_names, "Aus a\nAus a", "'Aus a' is given 2 times"),
        (coded_names, "aus", "table of codes .*expected a UTF-8 CSV file"),
    ],
)
def test_a_class_list_that_is_none_is_a_clear_error(tmp_path: Path, read, text, complaint) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ClassListError, match=complaint):
        ClassList.of_file("labels.csv", read(tmp_path / "labels.csv"))


def test_the_teachers_are_listed_with_what_each_needs(capsys) -> None:
    assert main(["teachers"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}\n" in printed for name in ("birdnet", *KNOWN))
    assert printed.count("licence") == printed.count("\nneeds") == len(KNOWN) + 1
    assert main(["teachers", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["teachers"]
    assert [each["teacher"] for each in listed] == ["birdnet", *KNOWN]
    for each in listed[1:]:
        assert each["sources"], "a fact without a source"
        assert "made model" in each["tried"] or each["teacher"] == "nighthawk"


def test_an_embedding_is_kept_by_a_known_teacher_and_by_one_whose_output_is_named(clips: Corpus, models: Path) -> None:
    """The second is the first, said in full; a stranger's store is then scored again with what its spec knows."""
    here = RunOptions(backend="sequential")
    known = choice(models, "perch.onnx", embedding=True, batch_size=2)
    pipeline.run(clips.manifest, clips.folder / "known", teacher=known, options=here)
    (clips.folder / "labels.txt").write_text("".join(f"Bus species{i}\n" for i in range(PERCH)))
    said = TeacherChoice(
        kind="onnx",
        model=known.model,
        labels=str(clips.folder / "labels.txt"),
        rate_hz=32_000,
        activation="sigmoid",
        outputs="logits",
        output=("scores=label", "embedding=embedding"),
        peak=0.25,
        remove_mean=True,
        scale=0.97,
        offset=-10.0,
        batch_size=2,
    )
    pipeline.run(clips.manifest, clips.folder / "said", teacher=said, options=here)
    stores = [softlabels.open(clips.folder / name) for name in ("known", "said")]
    tables = [store.to_pandas() for store in stores]
    assert [store.spec.embedding for store in stores] == [1536, 1536]
    said_spec, known_spec = (dataclasses.asdict(store.spec) for store in reversed(stores))
    differing = {name: (said_spec[name], known_spec[name]) for name in said_spec if said_spec[name] != known_spec[name]}
    assert differing == {
        "teacher": ("perch", "perch-v2"),
        "taxonomy_year": (0, 2024),
    }  # only the published list has one
    for name in ("probabilities", "embedding"):
        np.testing.assert_array_equal(*(np.stack(table[name]) for table in tables))

    moved = clips.folder.parent / "moved"
    (clips.folder / "said").rename(moved)
    named = ["--teacher", "onnx", "--model", said.model, "--labels", said.labels, "--outputs", "logits"]
    assert main(["verify", str(moved), "--root", str(clips.folder), "--recompute", "1", "--jobs", "1", *named]) == 0


def test_a_store_is_not_gone_on_with_in_another_way(clips: Corpus, models: Path) -> None:
    made = {"peak": 0.25, "remove_mean": True, "scale": 0.97, "offset": -10.0, "batch_size": 1}
    plain = {"rate_hz": 32_000, "activation": "sigmoid", "outputs": "logits", "labels": str(clips.folder / "all.txt")}
    (clips.folder / "all.txt").write_text("".join(f"Bus species{i}\n" for i in range(PERCH)))
    stated = ["sci_name,ebird2025", *(f"Bus species{i},x" for i in range(PERCH))]
    (clips.folder / "stated.csv").write_text("\n".join(stated))
    first = TeacherChoice(kind="onnx", model=str(models / "perch.onnx"), **plain, **made)
    clips.write_manifest("clip_id,path\nquiet,quiet.wav")
    pipeline.run(clips.manifest, clips.folder / "s", teacher=first, options=RunOptions(backend="sequential"))
    for changes, differs in (
        ({"peak": 0.5}, "--peak 0.5 here, 0.25 in the store"),
        ({"scale": 1.5}, "--scale 1.5 here, 0.97 in the store"),
        ({"remove_mean": False}, "without --remove-mean here, with it in the store"),
        ({"peak": None, "offset": None}, "--offset 0 here, -10 in the store; --peak 0 here, 0.25 in the store"),
        (
            {"labels": str(clips.folder / "stated.csv")},
            "year of the class list's taxonomy .* 2025 here, 0 in the store",
        ),
    ):
        with pytest.raises(softlabels.StoreError, match=f"made with other settings: {differs}; use the store"):
            pipeline.run(clips.manifest, clips.folder / "s", teacher=dataclasses.replace(first, **changes))


def test_a_model_of_any_length_is_first_opened_with_its_window(models: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_teacher(choice(models, "v3.tflite")).window_samples == 96_000
    assert len(list((tmp_path / "softlabels" / "opened").iterdir())) == 1
    load_teacher(choice(models, "v3.tflite"))
    monkeypatch.setattr(first_opening, "try_in_child", pytest.fail)
    content = (models / "v3.tflite").read_bytes()
    how = {"kind": "litert", "model": content, "digest": hashlib.sha256(content).hexdigest(), "shown": "v3"}
    assert first_opening.opened_before(first_opening.Opening(**how, window=96_000))
    assert not first_opening.opened_before(first_opening.Opening(**how, window=48_000))
    assert not first_opening.opened_before(first_opening.Opening(**how))


def test_a_strangers_store_is_scored_again_from_the_output_that_its_spec_names(corpus: Corpus) -> None:
    twins = {"a": (3,), "b": (3,)}
    weights = {name: lambda shape, n=n: np.array([[-8.0, 8, 16]]) * n for n, name in enumerate(twins, 1)}
    write_onnx(corpus.folder / "twins.onnx", ("x", "batch", 800), twins, weights)
    (corpus.folder / "labels.txt").write_text("A a_x\nB b_y\nC c_z")
    named = ["--teacher", "onnx", "--model", str(corpus.folder / "twins.onnx"), "--outputs", "logits"]
    named += ["--labels", str(corpus.folder / "labels.txt")]
    run = ["run", str(corpus.manifest), "-o", str(corpus.folder / "s"), "--backend", "sequential", "--batch-size", "1"]
    described = [*named, "--rate", "8000", "--activation", "sigmoid"]
    assert main([*run, *described]) == 2
    assert main([*run, *described, "--output", "scores=b"]) == 0
    assert softlabels.open(corpus.folder / "s").spec.scores_output == "b"
    moved = (corpus.folder / "s").rename(corpus.folder.parent / "moved")
    assert main(["verify", str(moved), "--root", str(corpus.folder), "--recompute", "1", "--jobs", "1", *named]) == 0
