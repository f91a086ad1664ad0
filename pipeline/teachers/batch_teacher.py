"""What every teacher that works in batches needs: its settings, a digest that is confirmed before a byte is loaded, and
the largest batch that fits in memory. How Keras and ONNX models are opened is in files of their own.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.teachers.litert import Description
from pipeline.teachers.teacher import TeacherChoice
from softlabels.errors import EnvironmentTrouble, TeacherError

logger = logging.getLogger(__name__)
BATCH_SIZE = 32
FACTORY = "a model that wants anything else, such as spectrograms, is a `--teacher module:factory`"
Shape = tuple[int | None, ...]  # None where the model leaves it open; empty where it leaves the rank open


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """A model that is loaded and not yet tried.

    inputs, outputs: (dtype, shape) of each, as the model declares them.
    forward: (batch, samples) or (batch, samples, 1) float32 -> (batch, classes), for any batch the model takes.
    is_out_of_memory: whether an exception of `forward` says that the batch is too large for this machine.
    """

    inputs: list[tuple[str, Shape]]
    outputs: list[tuple[str, Shape]]
    forward: Callable[[np.ndarray], np.ndarray]
    is_out_of_memory: Callable[[Exception], bool]


class BatchTeacher:
    """A model that scores waveforms in batches of one size. Attributes as in `Teacher`.

    Raises: TeacherError: the model is not one from (batch, samples[, 1]) to (batch, classes) float32, it has another
      number of outputs than there are classes, or its answers depend on what else is in a batch. EnvironmentTrouble: it
      does not fit in memory.
    """

    notice = ""

    def __init__(self, choice: TeacherChoice, description: Description, model: OpenModel, *, digest: str) -> None:
        self.name, self.digest = description.model.stem, digest
        self.classes, self.rate_hz = description.classes, description.rate_hz
        self.activation, self.outputs = description.activation, description.outputs
        self._path, self._model = str(description.model), model
        batch, self.window_samples, channels = waveform_shape(self._path, model)
        self._shape = (self.window_samples, *channels)
        self.batch_size = self._fit(choice, batch)
        if not choice.batch_fixed:  # else another process has looked
            self._check_independence()

    def score(self, windows: np.ndarray) -> np.ndarray:
        """(batch_size, window_samples) float32 -> (batch_size, classes) float32.

        Raises: EnvironmentTrouble: the memory that was enough for this batch size is no longer there.
        """
        try:
            return self._forward(windows, self.batch_size)
        except Exception as e:
            if self._model.is_out_of_memory(e):
                raise _no_memory(self._path, self.batch_size) from e
            raise

    def _forward(self, windows: np.ndarray, batch_size: int) -> np.ndarray:
        return self._model.forward(windows.reshape(batch_size, *self._shape))  # (batch, samples[, 1])

    def _fit(self, choice: TeacherChoice, of_model: int | None) -> int:
        """The batch size: the wanted one, or where it may be another, the largest half of a half that fits."""
        if of_model is not None and choice.batch_size not in (None, of_model):
            raise TeacherError(
                f"model '{self._path}': takes batches of {of_model} windows only, got --batch-size "
                f"{choice.batch_size}: leave it out"
            )
        wanted = of_model or choice.batch_size or BATCH_SIZE
        least = wanted if choice.batch_fixed or of_model is not None else 1
        return largest_batch(self._path, wanted, self._try, self._model.is_out_of_memory, least=least)

    def _check_independence(self) -> None:
        """Score one quiet window among silence and among noise. Raises: TeacherError: that makes a difference."""
        if self.batch_size == 1:
            return
        batches = (_batch_of_one(self.batch_size, self.window_samples, loud) for loud in (0.0, 0.9))
        alone, among = (self._forward(batch, self.batch_size)[0].copy() for batch in batches)
        if not np.allclose(alone, among, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise TeacherError(
                f"model '{self._path}': its answer to a window depends on the others in its batch, by up to "
                f"{np.nanmax(np.abs(alone - among)):.3g}, as with a layer that normalises over the batch; label with "
                "--batch-size 1, or export the model without it"
            )

    def _try(self, batch_size: int) -> None:
        """Score silence: what does not hold now must not turn up after hours."""
        try:
            answer = self._forward(np.zeros((batch_size, self.window_samples), np.float32), batch_size)
        except Exception as e:
            if self._model.is_out_of_memory(e):
                raise
            raise TeacherError(
                f"model '{self._path}': cannot score a batch of {batch_size} windows: {type(e).__name__}: {e}"
            ) from e
        _check_answer(self._path, answer, (batch_size, len(self.classes)))


def _batch_of_one(batch_size: int, samples: int, loud: float) -> np.ndarray:
    """(batch, samples): a window that is half quiet noise, half silence; the others noise of an amplitude, or 0."""
    noise = np.random.Generator(np.random.PCG64(2025)).uniform(-1, 1, (batch_size, samples)).astype(np.float32)
    noise[1:] *= np.float32(loud)
    noise[0] *= np.float32(1e-3)
    noise[0, samples // 2 :] = 0
    return noise


def check_settings(choice: TeacherChoice) -> None:
    """Raises: TeacherError, ValueError: a setting is out of place."""
    if choice.portable:
        raise TeacherError(f"teacher {choice.kind!r} has no portable kernels: leave out --portable")
    if choice.batch_size is not None and choice.batch_size < 1:
        raise ValueError(f"--batch-size: expected 1 or more, got {choice.batch_size}")
    if choice.device not in (None, "cpu", "gpu", "cuda"):
        raise ValueError(f"--device: expected cpu or gpu, got {choice.device!r}")


def confirm(choice: TeacherChoice, digest: str) -> None:
    """Hold a model against the digest its user gave; before it is loaded, because loading may run code in it.

    Raises: TeacherError: another digest, or none.
    """
    given = (choice.model_sha256 or "").lower().removeprefix("sha256:")
    if not given:
        raise TeacherError(
            f"model '{choice.model}': a model file is code that runs with your rights, and this one, "
            f"sha256:{digest}, is not confirmed; if you trust it, add --model-sha256 {digest}"
        )
    if given != digest:
        raise TeacherError(
            f"model '{choice.model}': expected sha256:{given}, got sha256:{digest}; use the file that was meant, or "
            "if you trust this one, give its own digest with --model-sha256"
        )


def waveform_shape(path: str, model: OpenModel) -> tuple[int | None, int, list[int]]:
    """The shape of a model's one input: batch or None, samples, and what comes after: nothing, or 1.

    Raises: TeacherError: it takes no waveform, not one of known length, or gives more than one output.
    """
    if len(model.inputs) != 1 or not _is_waveform(*model.inputs[0]):
        got = "; ".join(f"{dtype} {_shown(shape)}" for dtype, shape in model.inputs) or "none"
        raise TeacherError(
            f"model '{path}': expected one float32 waveform input (batch, samples) or (batch, samples, 1), got {got}; "
            f"{FACTORY}"
        )
    if len(model.outputs) != 1:
        raise TeacherError(
            f"model '{path}': expected one output (batch, classes), got {len(model.outputs)}: export the model with "
            "its scores alone, or wrap it as a `--teacher module:factory`"
        )
    batch, samples, *channels = model.inputs[0][1]
    if samples is None:
        raise TeacherError(
            f"model '{path}': its input {_shown(model.inputs[0][1])} leaves the number of samples open, and with it "
            "the window; export the model with a fixed one, or wrap it as a `--teacher module:factory`"
        )
    return batch, samples, [1 for _ in channels]


def _is_waveform(dtype: str, shape: Shape) -> bool:
    return dtype == "float32" and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 1))


def _shown(shape: Shape) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})" if shape else "of any shape"


def largest_batch(
    path: str, wanted: int, attempt: Callable[[int], None], is_out_of_memory: Callable[[Exception], bool], *, least: int
) -> int:
    """The first of wanted, wanted / 2, wanted / 4 ... that is no less than `least` and fits in memory.

    Args:
      path: what to call the model in an error.
      wanted: windows a batch.
      attempt: scores a batch of so many windows.
      is_out_of_memory: whether what `attempt` raised says that the batch is too large.
      least: the smallest that will do; `wanted` where nothing else will.
    Raises: EnvironmentTrouble: not even the least fits. Whatever else `attempt` raises.
    """
    size = wanted
    while True:
        try:
            attempt(size)
        except Exception as e:
            if not is_out_of_memory(e):
                raise
            if size // 2 < least:
                raise _no_memory(path, size) from e
            logger.warning("model '%s': no memory for a batch of %d windows, trying %d", path, size, size // 2)
            size //= 2
        else:
            return size


def _no_memory(path: str, batch_size: int) -> EnvironmentTrouble:
    return EnvironmentTrouble(
        f"model '{path}': no memory for a batch of {batch_size} windows, and no other size will do; free memory, use "
        "fewer --jobs, or label into another store with a smaller --batch-size"
    )


def _check_answer(path: str, answer: np.ndarray, expected: tuple[int, int]) -> None:
    if answer.dtype != np.float32 or answer.ndim != 2 or len(answer) != expected[0]:
        raise TeacherError(
            f"model '{path}': expected one float32 output (batch, classes), got {answer.dtype} {answer.shape} for "
            f"{expected[0]} windows; {FACTORY}"
        )
    if answer.shape != expected:
        raise TeacherError(
            f"model '{path}': {answer.shape[1]} outputs, but the labels name {expected[1]} classes; give the class "
            "list that belongs to this model with --labels"
        )
