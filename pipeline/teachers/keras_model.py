"""Keras teachers: a `.keras` file on any backend of Keras, or a SavedModel folder, run by TensorFlow."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.models.first_opening import Opening, try_in_child
from pipeline.models.model_files import copy_file, copy_folder, private_folder
from pipeline.teachers.backends import on_jax, on_tensorflow, on_torch
from pipeline.teachers.backends.on_jax import jax_device, jax_pass, jax_place
from pipeline.teachers.backends.on_tensorflow import tensorflow_device, tensorflow_pass, tensorflow_place
from pipeline.teachers.backends.on_torch import torch_device, torch_pass, torch_place
from pipeline.teachers.batch_teacher import BatchTeacher, check_settings, confirm
from pipeline.teachers.description import described
from pipeline.teachers.signatures.model import OpenModel, Tensor
from pipeline.teachers.teacher import Teacher, TeacherChoice
from softlabels.errors import TeacherError

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
        forward = tensorflow_pass(call, device)
        full, runs_on = on_tensorflow.is_out_of_memory, tensorflow_place(device)
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
        forward=tensorflow_pass(call, device),
        is_out_of_memory=on_tensorflow.is_out_of_memory,
        runs_on=tensorflow_place(device),
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
