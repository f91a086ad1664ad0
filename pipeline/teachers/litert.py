"""TFLite models over LiteRT: any model that takes a waveform and gives one score a class."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.models.first_opening import Opening, try_in_child
from pipeline.models.model_files import read_model
from pipeline.teachers.description import Description, described
from pipeline.teachers.folding.derived import folded_model
from pipeline.teachers.interpreter import open_interpreter
from pipeline.teachers.signatures.layout import layout_of
from pipeline.teachers.signatures.model import OpenModel, Tensor
from pipeline.teachers.signatures.passage import open_passage
from pipeline.teachers.signatures.roles import Roles
from pipeline.teachers.teacher import Teacher, TeacherChoice
from softlabels.errors import TeacherError

BATCH_SIZE = 1  # the fastest on a CPU core for BirdNET, and its bits depend on nothing then


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
        self, description: Description, *, portable: bool = False, folding: str = "", embedded: bool = False
    ) -> None:
        self.name, self.notice, self.classes = description.name, description.notice, description.classes
        self.activation, self.outputs, model = description.activation, description.outputs, description.model
        self.rate_hz, handling = description.rate_hz, description.handling
        content = read_model(model)
        if content[4:8] != b"TFL3":
            raise TeacherError(f"model '{model}': expected a TFLite file (TFL3 at byte 4), got {content[:8]!r}")
        self.digest = hashlib.sha256(content).hexdigest()
        how: dict[str, Any] = {"portable": portable, "window": handling.window_samples}
        try_in_child(Opening(kind="litert", model=content, digest=self.digest, shown=str(model), **how))
        self.folding, self.source_digest = folding, self.digest if folding else ""
        if folding:
            content, self.digest = folded_model(str(model), content, folding, sha256=self.digest)
        opened = open_litert(str(model), _embedded(str(model), content) if embedded else content, **how)
        roles = Roles(scores=0, embedding=1) if embedded else None  # in the order of a file that was made here
        self._passage = open_passage(str(model), opened, len(self.classes), handling, roles=roles)
        self.window_samples, self.embedding_width = self._passage.layout.samples, self._passage.width
        self.spec_fields = {} if embedded else self._passage.spec_fields | {"taxonomy_year": description.taxonomy_year}
        silence = np.zeros((BATCH_SIZE, self.window_samples), np.float32)
        if not self._passage.is_declared:  # it must not turn up after hours
            self._passage.both(silence) if self.embedding_width else self._passage.scores(silence)

    def score(self, windows: np.ndarray) -> np.ndarray:
        """(1, window_samples) float32 -> (1, classes) float32."""
        return self._passage.scores(windows)

    def score_with_embedding(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, and (1, embedding_width) float32 embeddings of the same pass; where there are any."""
        return self._passage.both(windows)


def open_litert(shown: str, content: bytes, *, portable: bool = False, window: int | None = None) -> OpenModel:
    """A TFLite model as LiteRT opens it, for one window a time.

    Args:
      shown: what to call the model in an error.
      content: the bytes of the file.
      portable: LiteRT's own kernels.
      window: samples, of a model that takes any number.
    Raises: TeacherError: LiteRT cannot load it, or it takes no waveform, one of unknown length, or other batches.
    """

    def fit(interpreter: Any) -> None:
        (inputs, outputs), details = _tensors(interpreter), interpreter.get_input_details()
        layout = layout_of(shown, OpenModel(inputs=inputs, outputs=outputs, forward=_never), window)
        if layout.batch not in (None, BATCH_SIZE):
            raise TeacherError(f"model '{shown}': expected a batch of {BATCH_SIZE}, got {list(inputs[0].shape)}")
        if layout.shape(BATCH_SIZE) != tuple(details[0]["shape"]):
            interpreter.resize_tensor_input(details[0]["index"], layout.shape(BATCH_SIZE))

    interpreter = open_interpreter(shown, content, portable=portable, fit=fit)
    to, given = (
        interpreter.get_input_details()[0]["index"],
        [each["index"] for each in interpreter.get_output_details()],
    )

    def forward(batch: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
        interpreter.set_tensor(to, batch)
        interpreter.invoke()
        return [interpreter.get_tensor(given[i]) for i in wanted]

    inputs, outputs = _tensors(interpreter)
    return OpenModel(inputs=inputs, outputs=outputs, forward=forward)


def _tensors(interpreter: Any) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Inputs and outputs, by the names that the file's one signature gives them, if it has one."""
    inputs, outputs, names = interpreter.get_input_details(), interpreter.get_output_details(), {}
    signatures = interpreter.get_signature_list()
    if len(outputs) > 1 and len(signatures) == 1:
        runner = interpreter.get_signature_runner(next(iter(signatures)))
        names = {each["index"]: name for name, each in runner.get_output_details().items()}
    return [_tensor(each, each["name"]) for each in inputs], [
        _tensor(each, names.get(each["index"], each["name"])) for each in outputs
    ]


def _tensor(details: dict[str, Any], name: str) -> Tensor:
    shape = tuple(None if size < 0 else int(size) for size in details["shape_signature"])
    return Tensor(details["dtype"].__name__, shape or tuple(map(int, details["shape"])), name)


def _never(batch: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
    raise NotImplementedError


def load_litert(choice: TeacherChoice) -> Teacher:
    """The teacher of `--teacher litert`; a TFLite file says neither its rate nor its activation."""
    return LiteRTTeacher(described(choice), portable=choice.portable)


def _embedded(model: str, content: bytes) -> bytes:
    from pipeline.teachers.folding.embedding import with_embedding  # here, because the schema takes long to import

    try:
        return with_embedding(content)
    except TeacherError as e:
        raise TeacherError(f"model '{model}': {e}; leave out --embedding") from e
