"""TFLite models over LiteRT: any model that takes a waveform and gives one score a class."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.models.first_opening import Opening, try_in_child
from pipeline.models.model_files import read_model
from pipeline.teachers.folding.derived import FOLDING, folded_model
from pipeline.teachers.interpreter import answer, open_interpreter, output
from pipeline.teachers.teacher import Outputs, Teacher, TeacherChoice
from softlabels.classes.class_list import Activation, ClassList
from softlabels.errors import ClassListError, TeacherError

BATCH_SIZE = 1  # the fastest on a CPU core for BirdNET, and its bits depend on nothing then


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A model, and what no model file says of itself."""

    model: Path
    classes: ClassList
    rate_hz: int
    activation: Activation
    outputs: Outputs


class LiteRTTeacher:
    """One interpreter on one thread. Attributes as in `Teacher`.

    embedding_width: of the input of its last layer, where that was asked for (embedded); else 0.
    folding, source_digest: how the model was folded and the sha256 of the file, where it computes with a folded one;
      "" where it computes with the file as it is. digest: of what it computes with.

    Raises: TeacherError: the file is not a TFLite model from (batch, samples) to (batch, classes) float32,
      or has another number of outputs than there are classes.
    """

    batch_size = BATCH_SIZE

    def __init__(
        self,
        description: Description,
        *,
        name: str,
        portable: bool = False,
        folded: bool = False,
        embedded: bool = False,
        notice: str = "",
    ) -> None:
        self.name, self.notice, self.classes, self.rate_hz = name, notice, description.classes, description.rate_hz
        self.activation, self.outputs, model = description.activation, description.outputs, description.model
        content = read_model(model)
        if content[4:8] != b"TFL3":
            raise TeacherError(f"model '{model}': expected a TFLite file (TFL3 at byte 4), got {content[:8]!r}")
        self.digest = hashlib.sha256(content).hexdigest()
        opening = Opening(kind="litert", model=content, digest=self.digest, shown=str(model), portable=portable)
        try_in_child(opening)
        self.folding = self.source_digest = ""
        if folded:
            self.folding, self.source_digest = FOLDING, self.digest
            content, self.digest = folded_model(str(model), content)
        self._interpreter = open_interpreter(str(model), content, portable=portable)
        self.window_samples = _check_signature(model, self._interpreter, len(description.classes))
        self.embedding_width = 0
        if embedded:
            self._interpreter = open_interpreter(str(model), _embedded(str(model), content), portable=portable)
            self.embedding_width = int(self._interpreter.get_output_details()[1]["shape"][-1])

    def score(self, windows: np.ndarray) -> np.ndarray:
        """(1, window_samples) float32 -> (1, classes) float32."""
        return answer(self._interpreter, windows)

    def score_with_embedding(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, and (1, embedding_width) float32, the input of the last layer."""
        scores = answer(self._interpreter, windows)
        return scores, output(self._interpreter, 1)


def load_litert(choice: TeacherChoice) -> Teacher:
    """The teacher of `--teacher litert`; a TFLite file says neither its rate nor its activation."""
    description = described(choice)
    return LiteRTTeacher(description, name=description.model.stem, portable=choice.portable)


def described(choice: TeacherChoice) -> Description:
    """The model of a choice. Raises: TeacherError: something is missing that no model file says of itself."""
    model, labels, rate_hz = choice.model, choice.labels, choice.rate_hz
    activation, outputs = choice.activation, choice.outputs
    if model and labels and rate_hz and activation and outputs:
        classes = read_labels(labels)
        return Description(model=Path(model), classes=classes, rate_hz=rate_hz, activation=activation, outputs=outputs)
    given = {"--model": model, "--labels": labels, "--rate": rate_hz, "--activation": activation, "--outputs": outputs}
    missing = ", ".join(flag for flag, value in given.items() if not value)
    raise TeacherError(
        f"teacher {choice.kind!r} needs {missing}: the model, its class list (one name a line), the sample rate in Hz, "
        "sigmoid or softmax, and whether the model gives logits or probabilities"
    )


def read_labels(path: str | Path) -> ClassList:
    """The class list of a model. Raises: TeacherError."""
    try:
        return ClassList.from_file(path)
    except ClassListError as e:
        raise TeacherError(f"labels: {e}") from e


def _embedded(model: str, content: bytes) -> bytes:
    from pipeline.teachers.folding.embedding import with_embedding  # here, because the schema takes long to import

    try:
        return with_embedding(content)
    except TeacherError as e:
        raise TeacherError(f"model '{model}': {e}; leave out --embedding") from e


def _check_signature(model: Path, interpreter: Any, classes: int) -> int:
    """Samples a window."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if not _is_one_table(inputs):
        raise TeacherError(
            f"model '{model}': expected one float32 waveform input (batch, samples), got {_shown(inputs)}; a model "
            "that wants spectrograms is a `--teacher module:factory`"
        )
    if not _is_one_table(outputs):
        raise TeacherError(f"model '{model}': expected one float32 output (batch, classes), got {_shown(outputs)}")
    (batch, samples), (_, found) = inputs[0]["shape"], outputs[0]["shape"]
    if batch != BATCH_SIZE:
        raise TeacherError(f"model '{model}': expected a batch of {BATCH_SIZE}, got {inputs[0]['shape'].tolist()}")
    if found != classes:
        raise TeacherError(
            f"model '{model}': {found} outputs, but the labels name {classes} classes; give the class list that "
            "belongs to this model with --labels"
        )
    return int(samples)


def _is_one_table(tensors: list[dict[str, Any]]) -> bool:
    return len(tensors) == 1 and len(tensors[0]["shape"]) == 2 and tensors[0]["dtype"] == np.float32


def _shown(tensors: list[dict[str, Any]]) -> str:
    return "; ".join(f"{each['dtype'].__name__} {each['shape_signature'].tolist()}" for each in tensors)
