"""ONNX teachers, run by onnxruntime: any model that takes a waveform and gives one score a class."""

import re
from pathlib import Path

import numpy as np

from pipeline.teachers.batch_teacher import (
    BatchTeacher,
    OpenModel,
    Shape,
    check_settings,
    confirm,
    file_digest,
    files_digest,
)
from pipeline.teachers.litert import described, read_model
from pipeline.teachers.teacher import Teacher, TeacherChoice
from softlabels.errors import TeacherError

PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider", "cuda": "CUDAExecutionProvider"}
# cuDNN's quickest algorithm would be chosen by the clock, and TF32's 10 bits would be further off than D0 allows.
CUDA_OPTIONS = {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"}
# A tensor kept outside the file says so in StringStringEntryProto(key="location", value=PATH): onnx.proto, field 13
# of TensorProto. The length of PATH is one byte below 128, else two.
LOCATION = re.compile(rb"\x0a\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])")
OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def onnx_teacher(choice: TeacherChoice) -> Teacher:
    """The teacher of `--teacher onnx`, on one thread, because workers are many and threads can change bits.

    An ONNX file is a graph of known operators, not code, so its sha256 need not be confirmed; one that is given is
    compared before anything is loaded.

    Raises: TeacherError: settings or onnxruntime missing, another sha256, a model that does not fit, no such device.
      EnvironmentTrouble: no memory for it.
    """
    description = described(choice)
    path = description.model
    check_settings(choice)
    digest = onnx_digest(path)
    if choice.model_sha256:
        confirm(choice, digest)
    return BatchTeacher(choice, description, _open(path, choice.device or "cpu"), digest=digest)


def onnx_digest(path: Path) -> str:
    """sha256 of the file; of a list of files, as `files_digest` makes it, where it keeps tensors in others."""
    others = external_files(path)
    return files_digest(path.parent, [path, *others]) if others else file_digest(path)


def external_files(path: Path) -> list[Path]:
    """The files, in the model's folder or below it, in which it keeps tensors. Raises: TeacherError."""
    content = read_model(path)
    found = {_location(content, match) for match in LOCATION.finditer(content)}
    files = {path.parent / name for name in found if name}
    return sorted(file for file in files if file.is_file() and ".." not in file.relative_to(path.parent).parts)


def _location(content: bytes, match: re.Match[bytes]) -> str:
    size = match[1][0] if len(match[1]) == 1 else (match[1][0] & 0x7F) | match[1][1] << 7
    value = content[match.end() : match.end() + size].decode(errors="replace")
    return "" if "\x00" in value or value.startswith("/") else value  # no path that onnxruntime would take


def _open(path: Path, device: str) -> OpenModel:
    try:
        import onnxruntime as runtime
    except ImportError as e:
        raise TeacherError("teacher 'onnx' needs onnxruntime: `pip install softlabels[onnx]`") from e
    name, there = PROVIDERS[device], runtime.get_available_providers()
    if name not in there:
        raise TeacherError(
            f"--device {device}: expected onnxruntime's {name}, got only: {', '.join(there)}; "
            "`pip install onnxruntime-gpu` in place of onnxruntime brings it"
        )
    provider = (name, CUDA_OPTIONS if device != "cpu" else {})
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # what goes wrong comes as an exception
    try:
        session = runtime.InferenceSession(str(path), options, providers=[provider])
    except Exception as e:  # onnxruntime's exceptions have no common base
        raise TeacherError(f"model '{path}': onnxruntime cannot load it: {type(e).__name__}: {e}") from e
    if session.get_providers()[0] != name:  # it falls back without a word
        raise TeacherError(
            f"--device {device}: expected {name}, but onnxruntime could only start "
            f"{', '.join(session.get_providers())}; is CUDA in the version it wants there?"
        )
    inputs, outputs = session.get_inputs(), session.get_outputs()

    def forward(batch: np.ndarray) -> np.ndarray:
        return session.run([outputs[0].name], {inputs[0].name: batch})[0]

    return OpenModel(
        inputs=[(_dtype(node.type), _shape(node.shape)) for node in inputs],
        outputs=[(_dtype(node.type), _shape(node.shape)) for node in outputs],
        forward=forward,
        is_out_of_memory=lambda error: isinstance(error, MemoryError) or any(t in str(error) for t in OUT_OF_MEMORY),
    )


def _dtype(name: str) -> str:
    """onnxruntime's "tensor(float)" as NumPy calls it."""
    return {"tensor(float)": "float32", "tensor(double)": "float64"}.get(name, name)


def _shape(shape: list[int | str | None]) -> Shape:
    return tuple(size if isinstance(size, int) else None for size in shape)
