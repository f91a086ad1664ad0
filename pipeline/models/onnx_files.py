"""The files of an ONNX model: any tensor in its graph may say that its numbers are in a file of their own.

Read by the rules of protobuf's wire format (https://protobuf.dev/programming-guides/encoding) and of onnx.proto, so
that no order of fields, no nesting and no spelling of a path hides one. Tensors are skipped, not read.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipeline.models.model_files import copy_file, list_digest
from softlabels.errors import TeacherError

# message of onnx.proto -> number of a field in it -> the message there, wherever that leads to a tensor
NESTED = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        10: "TensorProto",
        6: "GraphProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
KEY, VALUE = 1, 2  # of StringStringEntryProto
DEEPEST = 100  # as protobuf's own readers
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5  # wire types


def copy_onnx(model: Path, folder: Path) -> tuple[Path, str]:
    """Copy a model and the files of its tensors to a private folder.

    Returns: the copy; the sha256 of the file, or where it keeps tensors in others, of the list of all, as `list_digest`
      makes it.
    Raises: TeacherError: no ONNX file, or a tensor in a file that is missing or outside the model's folder.
      EnvironmentTrouble: the copy cannot be written.
    """
    copy = folder / model.name
    digests = {model.name: copy_file(model, copy)}
    for name in sorted(external_names(model, copy.read_bytes()) - {model.name}):
        source = (model.parent / name).resolve()
        if not source.is_relative_to(model.parent.resolve()):
            raise _outside(model, name)
        digests[name] = copy_file(source, folder / name)
    return copy, digests[model.name] if len(digests) == 1 else list_digest(digests)


def external_names(model: Path, content: bytes) -> set[str]:
    """The paths, relative to the model's folder, of the files that hold tensors of a model.

    Raises: TeacherError: it is no ONNX file, or a path leads elsewhere.
    """
    try:
        if content[4:8] == b"ORTM":
            raise ValueError("it is in onnxruntime's own format")
        locations = set(_locations(memoryview(content)))
    except ValueError as e:
        raise TeacherError(f"model '{model}': expected an ONNX file: {e}") from e
    return {_name(model, location) for location in locations}


def _name(model: Path, location: bytes) -> str:
    text = location.decode(errors="replace")
    path = PurePosixPath(text)
    # onnxruntime takes a name with an asterisk for an address in memory.
    if not path.parts or path.is_absolute() or ".." in path.parts or any(mark in text for mark in "*\\\0\ufffd"):
        raise _outside(model, text)
    return path.as_posix()


def _outside(model: Path, name: str) -> TeacherError:
    return TeacherError(
        f"model '{model}': keeps a tensor in {name[:200]!r}: expected a file below the folder of the model, without "
        "'..' and without links that lead out of it; put them into one folder and save the model again"
    )


def _locations(content: memoryview) -> Iterator[bytes]:
    """Every path that any tensor of a model names. Raises: ValueError: no protobuf message."""
    to_read = [("ModelProto", content, 0)]
    while to_read:
        message, data, depth = to_read.pop()
        if depth > DEEPEST:
            raise ValueError(f"messages within more than {DEEPEST} others")
        if message == "StringStringEntryProto":
            entry = list(_fields(data))
            if any(number == KEY and value == b"location" for number, value in entry):
                yield from (bytes(value) for number, value in entry if number == VALUE)
            continue
        nested = NESTED[message]
        to_read += [(nested[number], value, depth + 1) for number, value in _fields(data) if number in nested]


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, bytes) of the fields of a message that have a length: texts and messages. Raises: ValueError."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, kind = (tag & 0xFFFFFFFF) >> 3, tag & 7  # as protobuf cuts it
        if kind == VARINT:
            _, position = _varint(data, position)
            continue
        if kind == LENGTH:
            size, position = _varint(data, position)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if kind == EIGHT_BYTES else 4
        else:
            raise ValueError(f"no field has the wire type {kind}")
        if size > end - position:
            raise ValueError(f"a field of {size} bytes where {end - position} are left")
        if kind == LENGTH:
            yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and the position after it. Raises: ValueError."""
    value = 0
    for i, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, position + i + 1
    raise ValueError("a number without an end")
