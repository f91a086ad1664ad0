"""ONNX teachers, run by onnxruntime: any model that takes a waveform and gives one score a class."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.first_opening import Opening, try_in_child
from pipeline.models.model_files import private_folder
from pipeline.models.onnx_files import copy_onnx
from pipeline.teachers.batch_teacher import BatchTeacher, check_settings, confirm
from pipeline.teachers.description import described
from pipeline.teachers.signatures.model import OpenModel, Tensor
from pipeline.teachers.teacher import Teacher, TeacherChoice
from softlabels.errors import TeacherError

PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider", "cuda": "CUDAExecutionProvider"}
# cuDNN's quickest algorithm would be chosen by the clock, and TF32's 10 bits would be further off than D0 allows.
CUDA_OPTIONS = {"cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"}
OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def onnx_teacher(choice: TeacherChoice) -> Teacher:
    """The teacher of `--teacher onnx`, on one thread, because workers are many and threads can change bits.

    An ONNX file is a graph of known operators, not code, so its sha256 need not be confirmed; one that is given is
    compared before anything is loaded.

    Raises: TeacherError: settings or onnxruntime missing, another sha256, a model that does not fit, no such device.
      EnvironmentTrouble: no memory for it.
    """
    description, device = described(choice), choice.device or "cpu"
    check_settings(choice)
    with private_folder() as folder:
        copy, digest = copy_onnx(description.model, folder)
        if choice.model_sha256:
            confirm(choice, digest)
        shown, window = str(description.model), description.handling.window_samples
        try_in_child(Opening(kind="onnx", model=copy, digest=digest, shown=shown, device=device, window=window))
        return BatchTeacher(choice, description, open_onnx(copy, device, shown=shown), digest=digest)


def open_onnx(path: Path, device: str, *, shown: str = "") -> OpenModel:
    """A model as onnxruntime opens it. Raises: TeacherError: it cannot, or there is no such device."""
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
        raise TeacherError(f"model '{shown or path}': onnxruntime cannot load it: {type(e).__name__}: {e}") from e
    if session.get_providers()[0] != name:  # it falls back without a word
        raise TeacherError(
            f"--device {device}: expected {name}, but onnxruntime could only start "
            f"{', '.join(session.get_providers())}; is CUDA in the version it wants there?"
        )
    inputs, outputs = session.get_inputs(), session.get_outputs()

    def forward(batch: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
        return session.run([outputs[i].name for i in wanted], {inputs[0].name: batch})

    return OpenModel(
        inputs=[_tensor(node) for node in inputs],
        outputs=[_tensor(node) for node in outputs],
        forward=forward,
        runs_on=f"onnxruntime {runtime.__version__} by {name}",
        is_out_of_memory=lambda error: isinstance(error, MemoryError) or any(t in str(error) for t in OUT_OF_MEMORY),
    )


def _tensor(node: Any) -> Tensor:
    """onnxruntime's "tensor(float)" is what NumPy calls float32."""
    dtype = {"tensor(float)": "float32", "tensor(double)": "float64"}.get(node.type, node.type)
    return Tensor(dtype, tuple(size if isinstance(size, int) else None for size in node.shape), node.name)
