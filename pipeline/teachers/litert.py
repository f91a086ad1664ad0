"""TFLite models over LiteRT: any model that takes a waveform and gives one score a class."""

from pathlib import Path

import numpy as np

from pipeline.teachers.folding.derived import FOLD_VERSION, folded_model
from pipeline.teachers.interpreter import answer, open_interpreter
from pipeline.teachers.teacher import Outputs, Teacher, TeacherChoice
from softlabels.classes.class_list import Activation, ClassList
from softlabels.digests import sha256_of_bytes
from softlabels.errors import ClassListError, TeacherError

BATCH_SIZE = 1  # the fastest on a CPU core for BirdNET, and its bits depend on nothing then


class LiteRTTeacher:
    """One interpreter on one thread. Attributes as in `Teacher`.

    fold, source_digest: the version of the fold and the sha256 of the file, where it computes with a folded model;
      "" where it computes with the file as it is. digest: of what it computes with.

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
        fold: bool = False,
        notice: str = "",
    ) -> None:
        self.name, self.classes, self.rate_hz = name, classes, rate_hz
        self.activation, self.outputs, self.notice = activation, outputs, notice
        content = _read_model(model)
        self.digest = sha256_of_bytes(content)
        self.fold = self.source_digest = ""
        if fold:
            self.fold, self.source_digest = FOLD_VERSION, self.digest
            content, self.digest = folded_model(str(model), content)
        self._interpreter = open_interpreter(str(model), content, portable=portable)
        self.window_samples = _check_signature(model, self._interpreter, len(classes))

    def score(self, windows: np.ndarray) -> np.ndarray:
        """(1, window_samples) float32 -> (1, classes) float32."""
        return answer(self._interpreter, windows)


def load_litert(choice: TeacherChoice) -> Teacher:
    """The teacher of `--teacher litert`; a TFLite file says neither its rate nor its activation."""
    require_description(choice)
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


def require_description(choice: TeacherChoice) -> None:
    """Raises: TeacherError: something is missing that no model file says of itself."""
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
            f"teacher {choice.kind!r} needs {', '.join(missing)}: the model, its class list (one name a line), the "
            "sample rate in Hz, sigmoid or softmax, and whether the model gives logits or probabilities"
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


def _check_signature(model: Path, interpreter, classes: int) -> int:
    """Samples a window."""
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
    return int(inputs[0]["shape"][1])
