"""TFLite models over LiteRT: any model that takes a waveform and gives one score a class."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.teachers import Outputs, Teacher, TeacherChoice
from softlabels.classes import ClassList
from softlabels.errors import ClassListError, TeacherError
from softlabels.spec import Activation

BATCH_SIZE = 1  # the fastest on a CPU core for BirdNET, and its bits depend on nothing then


class LiteRTTeacher:
    """One interpreter on one thread. Attributes as in `Teacher`.

    Raises: TeacherError: the file is not a TFLite model from (batch, samples) to (batch, classes) float32,
      or has another number of outputs than there are classes.
    """

    batch_size = BATCH_SIZE

    def __init__(
        self,
        model: Path,
        classes: ClassList,
        *,
        name: str,
        rate_hz: int,
        activation: Activation,
        outputs: Outputs,
        portable: bool = False,
        notice: str = "",
    ) -> None:
        self.name, self.classes, self.rate_hz = name, classes, rate_hz
        self.activation, self.outputs, self.notice = activation, outputs, notice
        content = _read_model(model)
        self.digest = hashlib.sha256(content).hexdigest()
        self._interpreter = _interpreter(model, content, portable=portable)
        self._input, self._output = _check_signature(model, self._interpreter, len(classes))
        self.window_samples = int(self._input["shape"][1])

    def score(self, windows: np.ndarray) -> np.ndarray:
        """(1, window_samples) float32 -> (1, classes) float32."""
        self._interpreter.set_tensor(self._input["index"], windows)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output["index"])


def load_litert(choice: TeacherChoice) -> Teacher:
    """The teacher of `--teacher litert`; a TFLite file says neither its rate nor its activation."""
    needed = {
        "--model": choice.model,
        "--labels": choice.labels,
        "--rate": choice.rate_hz,
        "--activation": choice.activation,
        "--outputs": choice.outputs,
    }
    missing = [flag for flag, value in needed.items() if not value]
    if missing:
        raise TeacherError(
            f"teacher 'litert' needs {', '.join(missing)}: the TFLite file, its class list (one name a line), the "
            "sample rate in Hz, sigmoid or softmax, and whether the model gives logits or probabilities"
        )
    model = Path(choice.model)
    return LiteRTTeacher(
        model,
        read_labels(choice.labels),
        name=model.stem,
        rate_hz=choice.rate_hz,
        activation=choice.activation,
        outputs=choice.outputs,
        portable=choice.portable,
    )


def read_labels(path: str | Path) -> ClassList:
    """The class list of a model. Raises: TeacherError."""
    try:
        return ClassList.from_file(path)
    except ClassListError as e:
        raise TeacherError(f"labels: {e}") from e


def _read_model(model: Path) -> bytes:
    try:
        content = model.read_bytes()
    except OSError as e:
        raise TeacherError(f"model '{model}': cannot be read: {e.strerror or e}") from e
    if content[4:8] != b"TFL3":
        raise TeacherError(f"model '{model}': expected a TFLite file (TFL3 at byte 4), got {content[:8]!r}")
    return content


def _interpreter(model: Path, content: bytes, *, portable: bool):  # -> ai_edge_litert.interpreter.Interpreter
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if portable else OpResolverType.AUTO
    with _native_stderr() as said:
        try:
            interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=resolver)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as e:
            raise TeacherError(f"model '{model}': LiteRT cannot load it: {e} {said()}".rstrip()) from e
    return interpreter


def _check_signature(model: Path, interpreter, classes: int) -> tuple[dict, dict]:
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(inputs[0]["shape"]) != 2 or inputs[0]["dtype"] != np.float32:
        got = "; ".join(f"{i['dtype'].__name__} {i['shape_signature'].tolist()}" for i in inputs)
        raise TeacherError(
            f"model '{model}': expected one float32 waveform input (batch, samples), got {got}; a model that wants "
            "spectrograms is a `--teacher module:factory`"
        )
    if len(outputs) != 1 or len(outputs[0]["shape"]) != 2 or outputs[0]["dtype"] != np.float32:
        got = "; ".join(f"{o['dtype'].__name__} {o['shape_signature'].tolist()}" for o in outputs)
        raise TeacherError(f"model '{model}': expected one float32 output (batch, classes), got {got}")
    if inputs[0]["shape"][0] != BATCH_SIZE:
        raise TeacherError(f"model '{model}': expected a batch of {BATCH_SIZE}, got {inputs[0]['shape'].tolist()}")
    if outputs[0]["shape"][1] != classes:
        raise TeacherError(
            f"model '{model}': {outputs[0]['shape'][1]} outputs, but the labels name {classes} classes; "
            "give the class list that belongs to this model with --labels"
        )
    return inputs[0], outputs[0]


@contextlib.contextmanager
def _native_stderr() -> Iterator:
    """Hold back what native code prints (LiteRT greets on every load); yields a way to read it."""
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield lambda: held.seek(0) or held.read().decode(errors="replace").strip()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
