"""Keras teachers: a `.keras` file on any backend of Keras, or a SavedModel folder, run by TensorFlow."""

import contextlib
import functools
import logging
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.first_opening import Opening, try_in_child
from pipeline.models.model_files import copy_file, copy_folder, private_folder
from pipeline.teachers.backends import on_jax, on_torch
from pipeline.teachers.backends.on_jax import jax_device, jax_pass, jax_place
from pipeline.teachers.backends.on_torch import torch_device, torch_pass, torch_place
from pipeline.teachers.batch_teacher import BatchTeacher, check_settings, confirm
from pipeline.teachers.description import described
from pipeline.teachers.signatures.model import OpenModel, Tensor
from pipeline.teachers.teacher import Teacher, TeacherChoice
from softlabels.errors import TeacherError

logger = logging.getLogger(__name__)
OTHERS = {  # backends of Keras beside TensorFlow: a model and its device -> its pass, what is too much, where it runs
    "jax": lambda model, device: (jax_pass(model, device), on_jax.is_out_of_memory, jax_place(device)),
    "torch": lambda model, device: (torch_pass(model, device), on_torch.is_out_of_memory, torch_place(device)),
}


def keras_teacher(choice: TeacherChoice) -> Teacher:
    """The teacher of `--teacher keras`: a `.keras` file, on the backend that Keras has, or a SavedModel folder.

    It sets TensorFlow or PyTorch to one thread, if that is still to be had, because workers are many and threads can
    change bits; and on a GPU to deterministic kernels without TF32. Both hold for the whole process.

    Raises: TeacherError: settings missing, the model not confirmed by its sha256 or not one that fits, no such device.
      EnvironmentTrouble: no memory for it.
    """
    description = described(choice)
    path, shown = description.model, str(description.model)
    check_settings(choice)
    with private_folder() as folder:
        copy = folder / path.name
        digest = (copy_folder if path.is_dir() else copy_file)(path, copy)
        if choice.model_sha256 or digest not in description.sha256:
            confirm(choice, digest)
        device, window = choice.device or "cpu", description.handling.window_samples
        try_in_child(Opening(kind="keras", model=copy, digest=digest, shown=shown, device=device, window=window))
        with keras_device(path, choice.device) as place:
            return BatchTeacher(choice, description, open_keras(copy, place, shown=shown), digest=digest)


@contextlib.contextmanager
def keras_device(path: Path, device: str | None) -> Iterator[str]:
    """Make ready what runs a model, and inside the block place everything on a device; yields its name there.

    Raises: TeacherError: it is not there.
    """
    backend = "tensorflow" if path.is_dir() else keras_backend()
    ready = {"jax": jax_device, "torch": torch_device, "tensorflow": tensorflow_device}[backend]
    with ready("gpu" if device in ("gpu", "cuda") else "cpu") as name:
        yield name


def keras_backend() -> str:
    """What Keras runs on here. Raises: TeacherError: nothing that is known here."""
    try:
        import keras
    except ImportError as e:
        raise TeacherError(
            f"teacher 'keras' needs Keras and its backend: {e}; install it, or set KERAS_BACKEND to tensorflow, jax or "
            "torch, whichever is installed"
        ) from e
    backend: str = keras.backend.backend()
    if backend not in ("tensorflow", *OTHERS):
        raise TeacherError(
            f"teacher 'keras' runs on TensorFlow, JAX or PyTorch, got KERAS_BACKEND={backend}: set it to "
            "tensorflow, jax or torch"
        )
    return backend


@contextlib.contextmanager
def tensorflow_device(device: str | None) -> Iterator[str]:
    """Make TensorFlow ready, and inside the block place everything on a device; yields its TensorFlow name.

    Raises: TeacherError: it is not there.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what goes wrong comes as an exception
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    on_gpu = device in ("gpu", "cuda")
    if on_gpu and not gpus:
        there = ", ".join(sorted({found.device_type.lower() for found in tf.config.list_physical_devices()}))
        raise TeacherError(f"--device {device}: expected a GPU that TensorFlow can use, got only: {there}")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)  # else the first process takes all of it
    except RuntimeError:
        logger.warning("TensorFlow was already in use and keeps its threads: labels may differ in their last bits")
    if on_gpu:
        tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(False)  # 10 bits would be further off than D0 allows
    name = "/GPU:0" if on_gpu else "/CPU:0"
    with tf.device(name):
        yield name


def open_keras(path: Path, device: str, *, shown: str = "") -> OpenModel:
    """A `.keras` file or a SavedModel folder as TensorFlow opens it. Raises: TeacherError: it cannot."""
    return (_open_saved_model if path.is_dir() else _open_keras_file)(path, device, shown or str(path))


def _open_keras_file(path: Path, device: str, shown: str) -> OpenModel:
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):  # Keras reads HDF5 too, and there safe_mode is void
        raise TeacherError(
            f"model '{shown}': expected a `.keras` file as model.save() writes it, or a SavedModel folder; an HDF5 "
            "file is loaded and saved again first"
        )
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as e:  # a model's own layers may raise anything
        raise _cannot_load(shown, e) from e
    outputs = getattr(model, "outputs", None) or []
    names = getattr(model, "output_names", None) or [""] * len(outputs)

    def call(batch: Any, wanted: tuple[int, ...]) -> Any:
        answers = keras.tree.flatten(model(batch, training=False))
        return [answers[i] for i in wanted]

    if (backend := keras_backend()) in OTHERS:
        forward, full, runs_on = OTHERS[backend](model, device)
    else:
        forward = _compiled(call, device)
        full, runs_on = _is_out_of_memory, _place(device)
    return OpenModel(
        inputs=[Tensor(each.dtype, tuple(each.shape), each.name) for each in getattr(model, "inputs", None) or []],
        outputs=[Tensor(each.dtype, tuple(each.shape), name) for each, name in zip(outputs, names, strict=True)],
        forward=forward,
        is_out_of_memory=full,
        runs_on=runs_on,
    )


def _cannot_load(path: str, error: Exception) -> TeacherError:
    if "safe_mode" in str(error) or "safe_mode" in str(error.__cause__ or error.__context__):
        return TeacherError(
            f"model '{path}': holds Python code that nobody can check (a Lambda layer), which Keras's safe mode "
            "refuses, and it stays on; use a layer of Keras, export the model as a SavedModel, or wrap it as a "
            "`--teacher module:factory`"
        )
    reason = str(error).partition("\n")[0][:300]  # Keras goes on with the whole configuration
    return TeacherError(
        f"model '{path}': Keras cannot load it: {type(error).__name__}: {reason}; a model with layers of its own is "
        "exported as a SavedModel, or wrapped as a `--teacher module:factory`"
    )


def _open_saved_model(path: Path, device: str, shown: str) -> OpenModel:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as e:  # TensorFlow raises OSError, ValueError and its own
        raise TeacherError(f"model '{shown}': expected a SavedModel folder: {type(e).__name__}: {e}") from e
    signatures = _signatures(shown, loaded.signatures)
    inputs = {of: _inputs(each) for of, each in signatures.items()}
    outputs = {(of, name): spec for of, each in signatures.items() for name, spec in each.structured_outputs.items()}

    def call(batch: Any, wanted: tuple[int, ...]) -> Any:
        _ = loaded  # a signature does not keep the variables alive
        asked = [list(outputs)[i] for i in wanted]
        answers = {of: signatures[of](**{inputs[of][0].name: batch}) for of, _ in asked}
        return [answers[of][name] for of, name in asked]

    return OpenModel(
        inputs=next(iter(inputs.values())),
        outputs=[_tensor(f"{of}:{name}".lstrip(":"), spec) for (of, name), spec in outputs.items()],
        forward=_compiled(call, device),
        is_out_of_memory=_is_out_of_memory,
        runs_on=_place(device),
    )


def _signatures(path: str, signatures: Mapping[str, Any]) -> Mapping[str, Any]:
    """The default one as "", or else all there are, by name, if they take the same input."""
    if "serving_default" in signatures:
        return {"": signatures["serving_default"]}
    if len(signatures) == 1:
        return {"": next(iter(signatures.values()))}
    kinds = {tuple((each.dtype, each.shape) for each in _inputs(signature)) for signature in signatures.values()}
    if len(kinds) == 1 and len(kinds.pop()) == 1:
        return {of: signatures[of] for of in sorted(signatures)}
    raise TeacherError(
        f"model '{path}': expected a signature 'serving_default', or several that take the same input, got "
        f"{', '.join(sorted(signatures)) or 'none'}; Keras's model.export() writes one"
    )


def _inputs(signature: Any) -> list[Tensor]:
    return [_tensor(name, spec) for name, spec in signature.structured_input_signature[1].items()]


def _tensor(name: str, spec: Any) -> Tensor:
    return Tensor(spec.dtype.name, tuple(spec.shape) if spec.shape.rank is not None else (), name)


def _compiled(call: Callable, device: str) -> Callable[[np.ndarray, tuple[int, ...]], list[np.ndarray]]:
    """One compiled graph a batch shape and choice of outputs, without what only the others need."""
    import tensorflow as tf

    @functools.cache
    def graph(wanted: tuple[int, ...]) -> Any:
        return tf.function(lambda batch: call(batch, wanted), autograph=False, reduce_retracing=False)

    def forward(batch: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
        with tf.device(device):
            return [np.asarray(answer) for answer in graph(wanted)(tf.constant(batch))]

    return forward


def _place(device: str) -> str:
    """What a device is, for receipts."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU") if "GPU" in device else []
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    return f"TensorFlow {tf.__version__} on {details.get('device_name', device.strip('/'))}"


def _is_out_of_memory(error: Exception) -> bool:
    import tensorflow as tf

    return isinstance(error, tf.errors.ResourceExhaustedError | MemoryError) or "CUDA_ERROR_OUT_OF_MEMORY" in str(error)
