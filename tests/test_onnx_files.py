"""Which files an ONNX model is made of: wherever in its graph a tensor is, and however its path is written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.models.model_files import private_folder
from pipeline.models.onnx_files import NESTED, copy_onnx, external_names
from softlabels import TeacherError

onnx = pytest.importorskip("onnx")
from onnx import ModelProto, TensorProto, helper  # noqa: E402


def outside(location: str = "w.bin") -> TensorProto:
    """A tensor whose numbers are in a file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def in_a_constant(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["w"], value=outside()))


def in_a_branch_of_a_branch(model: ModelProto) -> None:
    deepest = helper.make_graph([], "c", [], [], [outside()])
    middle = helper.make_graph([helper.make_node("If", ["b"], ["y"], then_branch=deepest)], "b", [], [])
    model.graph.node.append(helper.make_node("If", ["b"], ["y"], then_branch=middle))


def in_a_list_of_graphs(model: ModelProto) -> None:
    graphs = [helper.make_graph([], "a", [], []), helper.make_graph([], "b", [], [], [outside()])]
    model.graph.node.append(helper.make_node("Own", [], ["y"], domain="own", graphs=graphs))


def in_a_list_of_tensors(model: ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("Own", [], ["y"], domain="own", tensors=[outside("other/v.bin"), outside()])
    )


def in_sparse_values(model: ModelProto) -> None:
    model.graph.sparse_initializer.add(values=outside(), dims=[4])


def in_sparse_indices(model: ModelProto) -> None:
    sparse = onnx.SparseTensorProto(indices=outside(), dims=[4])
    model.graph.node.append(helper.make_node("Constant", [], ["w"], sparse_value=sparse))


def in_a_function(model: ModelProto) -> None:
    constant = helper.make_node("Constant", [], ["w"], value=outside())
    model.functions.append(helper.make_function("own", "F", [], ["w"], [constant], []))


def in_a_default_of_a_function(model: ModelProto) -> None:
    function = helper.make_function(
        "own", "F", [], ["w"], [], [], attribute_protos=[helper.make_attribute("a", outside())]
    )
    model.functions.append(function)


def in_training(model: ModelProto) -> None:
    model.training_info.add(initialization=helper.make_graph([], "t", [], [], [outside()]))


PLACES = [value for name, value in dict(globals()).items() if name.startswith("in_")]


@pytest.mark.parametrize("put", PLACES, ids=lambda put: put.__name__)
def test_a_tensor_outside_is_found_wherever_it_is(put: Callable[[ModelProto], None]) -> None:
    model = ModelProto(ir_version=8)
    put(model)
    assert "w.bin" in external_names(Path("m.onnx"), model.SerializeToString())


def message(number: int, content: bytes, size: bytes | None = None) -> bytes:
    """A field with a length, as protobuf writes it."""
    return bytes([number << 3 | 2]) + (size or bytes([len(content)])) + content


KEY, VALUE = message(1, b"location"), message(2, b"w.bin")
SPELLINGS = {
    "path first": message(13, VALUE + KEY),
    "key twice": message(13, message(1, b"offset") + VALUE + KEY),
    "with other fields between": message(
        13, KEY + b"\x18\x01" + b"\x25abcd" + b"\x29abcdefgh" + message(15, b"x") + VALUE
    ),
    "a length in two bytes": message(13, KEY + message(2, b"w.bin", b"\x85\x00")),
    "a length in five bytes": message(13, KEY + message(2, b"w.bin", b"\x85\x80\x80\x80\x00")),
    "a number in five bytes": b"\xea\x80\x80\x80\x00" + bytes([len(KEY + VALUE)]) + KEY + VALUE,
    "a number with bits too many": b"\xea\x80\x80\x80\x70" + bytes([len(KEY + VALUE)]) + KEY + VALUE,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_path_is_found_however_it_is_written(spelling: str) -> None:
    tensor = message(8, b"w") + SPELLINGS[spelling]
    content = b"\x08\x08" + message(7, message(5, tensor))
    assert external_names(Path("m.onnx"), content) == {"w.bin"}
    try:
        parsed = ModelProto.FromString(content)
    except Exception:  # a reader that is stricter than ours opens no such file
        return
    entries = {entry.key: entry.value for entry in parsed.graph.initializer[0].external_data}
    assert entries.get("location", "w.bin") == "w.bin"


def test_a_long_path_is_read_to_its_end() -> None:
    name = "folder/" * 40 + "w.bin"
    model = ModelProto(ir_version=8)
    model.graph.initializer.append(outside(name))
    assert external_names(Path("m.onnx"), model.SerializeToString()) == {name}


def test_the_table_of_messages_is_that_of_onnx() -> None:
    """Every way from a model to a tensor, in the version of onnx that is installed."""
    leads = {"TensorProto"}
    found: dict[str, dict[int, str]] = {"TensorProto": {13: "StringStringEntryProto"}}
    descriptors = dict(onnx.onnx_ml_pb2.DESCRIPTOR.message_types_by_name)
    while True:
        for name, descriptor in descriptors.items():
            fields = {f.number: f.message_type.name for f in descriptor.fields if f.message_type is not None}
            if name != "TensorProto" and leads & set(fields.values()):
                found[name] = {number: kind for number, kind in fields.items() if kind in leads | set(found)}
        if leads == set(found):
            break
        leads = set(found)
    for name, nested in NESTED.items():
        assert found[name] == {number: kind for number, kind in found[name].items() if number in nested}, name


ELSEWHERE = ["sub/../w.bin", "../w.bin", "sub/..", "/etc/passwd", "", ".", "w\0.bin", "sub\\w.bin", "\ufffdw.bin"]


@pytest.mark.parametrize("location", [*ELSEWHERE, "*/_ORT_MEM_ADDR_/*"])
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, location: str) -> None:
    model = ModelProto(ir_version=8)
    model.graph.initializer.append(outside(location))
    with pytest.raises(TeacherError, match="expected a file below the folder of the model"):
        external_names(tmp_path / "m.onnx", model.SerializeToString())


def digest(path: Path) -> str:
    with private_folder() as folder:
        return copy_onnx(path, folder)[1]


@pytest.mark.parametrize("link", ["file", "folder", "pipe", "nothing"])
def test_a_file_elsewhere_is_refused_however_it_is_reached(tmp_path: Path, link: str) -> None:
    folder, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (elsewhere / "w.bin").write_bytes(b"12345678")
    model = ModelProto(ir_version=8)
    model.graph.initializer.append(outside("sub/w.bin"))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    if link == "folder":
        (folder / "sub").symlink_to(elsewhere)
    else:
        (folder / "sub").mkdir()
    if link == "file":
        (folder / "sub" / "w.bin").symlink_to(elsewhere / "w.bin")
    if link == "pipe":
        __import__("os").mkfifo(folder / "sub" / "w.bin")
    with pytest.raises(TeacherError, match="links that lead out of it" if link in ("file", "folder") else "w.bin': "):
        digest(folder / "m.onnx")


def test_every_file_is_part_of_the_digest_and_of_the_copy(tmp_path: Path) -> None:
    model = ModelProto(ir_version=8)
    model.graph.sparse_initializer.add(values=outside("sub/v.bin"), dims=[4])
    model.graph.initializer.append(outside())
    (tmp_path / "sub").mkdir()
    for name, content in (("m.onnx", model.SerializeToString()), ("sub/v.bin", b"1" * 8), ("w.bin", b"2" * 8)):
        (tmp_path / name).write_bytes(content)
    digests = {digest(tmp_path / "m.onnx")}
    for name in ("sub/v.bin", "w.bin"):
        (tmp_path / name).write_bytes(b"3" * 8)
        digests.add(digest(tmp_path / "m.onnx"))
    assert len(digests) == 3
    with private_folder() as folder:
        copy, _ = copy_onnx(tmp_path / "m.onnx", folder)
        assert copy.parent.stat().st_mode & 0o077 == 0
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {"m.onnx", "sub/v.bin", "w.bin"}


def nested(*numbers: int) -> bytes:
    """A message in a message: graph, node, attribute and graph again."""
    content = b""
    for number in reversed(numbers):
        size = len(content)
        content = message(number, content, bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]))
    return content


RANDOM = np.random.default_rng(0)
NO_MODELS = {
    "text": b"this is no model",
    "onnxruntime's own": b"\x24\0\0\0ORTM" + b"\0" * 40,
    "a length beyond the end": b"\x3a\x7f",
    "a number without an end": b"\xff" * 40,
    "a group": b"\x3b\x3c",
    "too deep": nested(7, *[1, 5, 6] * 40),
    "noise": RANDOM.bytes(4096),
}


@pytest.mark.parametrize("kind", NO_MODELS)
def test_what_is_no_model_is_a_clear_error(kind: str) -> None:
    with pytest.raises(TeacherError, match="expected an ONNX file"):
        external_names(Path("m.onnx"), NO_MODELS[kind])
