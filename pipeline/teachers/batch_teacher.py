"""What every teacher that works in batches needs: its settings, a digest that is confirmed before a byte is loaded, and
the largest batch that fits in memory. How Keras and ONNX models are opened is in files of their own.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from pipeline.teachers.description import Description
from pipeline.teachers.signatures.model import OpenModel
from pipeline.teachers.signatures.passage import open_passage
from pipeline.teachers.teacher import TeacherChoice
from softlabels.errors import EnvironmentTrouble, TeacherError

logger = logging.getLogger(__name__)
BATCH_SIZE = 32
_Answer = TypeVar("_Answer")


class BatchTeacher:
    """A model that scores waveforms in batches of one size. Attributes as in `Teacher`.

    runs_on: what computes it, on which device.
    spec_fields: what its model is asked and what is done around it, for the spec. embedding_width: 0 is none.

    Raises: TeacherError: the model is not one from waveforms to (batch, classes) float32, what it has does not decide
      which output is which, it has another number of outputs than there are classes, or its answers depend on what else
      is in a batch. EnvironmentTrouble: it does not fit in memory.
    """

    def __init__(self, choice: TeacherChoice, description: Description, model: OpenModel, *, digest: str) -> None:
        self.name, self.notice, self.digest = description.name, description.notice, digest
        self.classes, self.rate_hz = description.classes, description.rate_hz
        self.activation, self.outputs = description.activation, description.outputs
        self._path, self._model, self.runs_on = str(description.model), model, model.runs_on
        self._passage = open_passage(self._path, model, len(description.classes), description.handling)
        self.window_samples, self.embedding_width = self._passage.layout.samples, self._passage.width
        self.spec_fields = self._passage.spec_fields | {"taxonomy_year": description.taxonomy_year}
        self.batch_size = self._fit(choice, description.batch_size or self._passage.layout.batch)
        if not choice.batch_fixed:  # else another process has looked
            self._check_independence()

    def score(self, windows: np.ndarray) -> np.ndarray:
        """(batch_size, window_samples) float32 -> (batch_size, classes) float32.

        Raises: EnvironmentTrouble: the memory that was enough for this batch size is no longer there.
        """
        return self._in_memory(self._passage.scores, windows)

    def score_with_embedding(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same, and (batch_size, embedding_width) float32 embeddings of the same pass; where there are any."""
        return self._in_memory(self._passage.both, windows)

    def _in_memory(self, forward: Callable[[np.ndarray], _Answer], windows: np.ndarray) -> _Answer:
        try:
            return forward(windows.reshape(self.batch_size, self.window_samples))
        except Exception as e:
            if self._model.is_out_of_memory(e):
                raise _no_memory(self._path, self.batch_size) from e
            raise

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
        alone, among = (self._passage.scores(batch)[0].copy() for batch in batches)
        if not np.allclose(alone, among, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise TeacherError(
                f"model '{self._path}': its answer to a window depends on the others in its batch, by up to "
                f"{np.nanmax(np.abs(alone - among)):.3g}, as with a layer that normalises over the batch; label with "
                "--batch-size 1, or export the model without it"
            )

    def _try(self, batch_size: int) -> None:
        """Score silence: what does not hold now must not turn up after hours."""
        silence = np.zeros((batch_size, self.window_samples), np.float32)
        try:
            (self._passage.both if self.embedding_width else self._passage.scores)(silence)
        except TeacherError:
            raise
        except Exception as e:
            if self._model.is_out_of_memory(e):
                raise
            raise TeacherError(
                f"model '{self._path}': cannot score a batch of {batch_size} windows: {type(e).__name__}: {e}"
                + "; if it takes one window at a time, give --batch-size 1" * (batch_size > 1)
            ) from e


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
