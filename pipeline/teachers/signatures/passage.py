"""One forward pass, with what stands before and after it: windows in, one score a class out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.teachers.signatures.layout import Layout, layout_of
from pipeline.teachers.signatures.model import FACTORY, OpenModel, Tensor, listed
from pipeline.teachers.signatures.roles import Published, Roles, check_published, choose_roles, is_decided
from softlabels.errors import TeacherError

Pool = Literal["max", "mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """What is done around a model's forward pass; the defaults do nothing and leave all to the model.

    window_samples: of a model that takes any length.
    scores, embedding: names of outputs; "" is whichever fits. embed: an embedding is wanted.
    pool: how the scores of frames become one a window, as the model gives them, before anything else.
    scale, offset: scores become scale * score + offset, before the activation.
    published: what the outputs of a known model are called, where its file names them.
    remove_mean: of every window, first; peak: every window is scaled to this largest value; 0 leaves it as it is.
    """

    window_samples: int | None = None
    scores: str = ""
    embedding: str = ""
    embed: bool = False
    pool: Pool | Literal[""] = ""
    scale: float = 1.0
    offset: float = 0.0
    peak: float = 0.0
    remove_mean: bool = False
    published: Published | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A model's forward pass from windows to scores; made by `open_passage`."""

    path: str
    model: OpenModel
    layout: Layout
    roles: Roles
    handling: Handling
    classes: int
    width: int = 0  # of the embedding; 0 where none was asked for

    @property
    def is_declared(self) -> bool:
        """Whether the model declares just the scores that are wanted, so that there is nothing to try."""
        dtype, shape, _ = self.model.outputs[self.roles.scores]
        return dtype == "float32" and len(shape) == 2 and shape[1] == self.classes and self.handling == Handling()

    @property
    def spec_fields(self) -> dict[str, Any]:
        """What a spec has to name, so that the same model is read in the same way again."""
        how, names = self.handling, [each.name for each in self.model.outputs]
        once = [name if len(names) > 1 and Counter(names)[name] == 1 else "" for name in names]
        fields = {name: getattr(how, name) for name in ("pool", "scale", "offset", "peak", "remove_mean")}
        fields["scores_output"] = once[self.roles.scores]
        if self.roles.embedding is not None:
            fields["embedding_output"] = once[self.roles.embedding]
        return fields

    def scores(self, windows: np.ndarray) -> np.ndarray:
        """(batch, samples) -> (batch, classes) float32. Raises: TeacherError: the answer is of another shape."""
        return self._scores_of(self._answers(windows, self.roles.wanted[:1])[0], len(windows))

    def both(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(batch, samples) float32 -> (batch, classes) scores and (batch, width) embeddings, in one pass."""
        scores, embeddings = self._answers(windows, self.roles.wanted)
        if embeddings.dtype != np.float32 or embeddings.size != len(windows) * self.width:
            raise TeacherError(
                f"model '{self.path}': expected {len(windows)} float32 embeddings of {self.width} values, got "
                f"{embeddings.dtype} {embeddings.shape}"
            )
        return self._scores_of(scores, len(windows)), embeddings.reshape(len(windows), self.width)

    def _answers(self, windows: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
        shape = self.layout.shape(len(windows))
        return self.model.forward(normalised(windows, self.handling).reshape(shape), wanted)

    def _scores_of(self, answer: np.ndarray, batch: int) -> np.ndarray:
        how = self.handling
        frames = self._frames(answer, batch)  # (batch, frames, classes)
        if how.pool:
            scores = frames.max(axis=1) if how.pool == "max" else frames.mean(axis=1, dtype=np.float64)
        else:
            scores = frames[:, 0]
        if how.scale != 1 or how.offset != 0:
            scores = how.scale * scores.astype(np.float64) + how.offset  # rounded once
        return scores.astype(np.float32, copy=False)

    def _frames(self, answer: np.ndarray, batch: int) -> np.ndarray:
        """(batch, frames, classes): an answer with the axes that it lacks; one frame where the model has none."""
        if answer.ndim == 1 and self.layout.single:
            answer = answer[None]
        if answer.ndim == 2 and self.handling.pool and not self.layout.single:
            raise TeacherError(
                f"model '{self.path}': scores a window as a whole, {answer.shape}, and has no frames: leave out --pool"
            )
        if answer.ndim == 2:
            answer = answer[None] if self.layout.single and len(answer) != 1 else answer[:, None]
        if answer.dtype != np.float32 or answer.ndim != 3 or len(answer) != batch:
            raise TeacherError(
                f"model '{self.path}': expected one float32 output (batch, classes), got {answer.dtype} "
                f"{answer.shape} for {batch} windows; if it takes one window at a time, give --batch-size 1; {FACTORY}"
            )
        if answer.shape[2] != self.classes:
            raise TeacherError(
                f"model '{self.path}': {answer.shape[2]} outputs, but the labels name {self.classes} classes; give the "
                "class list that belongs to this model with --labels"
            )
        if answer.shape[1] != 1 and not self.handling.pool:
            raise TeacherError(
                f"model '{self.path}': scores {answer.shape[1]} frames a window, {answer.shape}: say with --pool max "
                "or --pool mean how they become one"
            )
        return answer


def open_passage(
    path: str, model: OpenModel, classes: int, handling: Handling, *, roles: Roles | None = None
) -> Passage:
    """Decide how a model is read.

    Args:
      path: what to call the model in an error.
      classes: as many as its labels name.
      roles: of its outputs, where they are known; None is as names and shapes say.
    Raises: TeacherError: it cannot be decided, or not as the handling says, with what the model has and the flags that
      would decide it.
    """
    layout = layout_of(path, model, handling.window_samples)
    outputs = model.outputs
    if len(outputs) > 1 and not all(map(is_decided, outputs)):
        outputs = _looked_at(model, layout)
    roles = roles or _roles(path, model, outputs, classes, layout, handling)
    width = 0 if roles.embedding is None else outputs[roles.embedding].shape[-1]
    return Passage(path, model, layout, roles, handling, classes, width or 0)


def _roles(
    path: str, model: OpenModel, outputs: Sequence[Tensor], classes: int, layout: Layout, handling: Handling
) -> Roles:
    embed = handling.embed or bool(handling.embedding)
    scores, embedding = handling.scores, handling.embedding
    try:
        if handling.published is not None:
            check_published(path, outputs, handling.published)
            there = {each.name for each in outputs} if len(outputs) > 1 else set()
            usual = handling.published
            if embed and not (embedding or usual.embedding):
                raise TeacherError(f"model '{path}': no output of it is known as an embedding: leave out --embedding")
            scores = scores or (usual.scores if usual.scores in there else "")
            embedding = embedding or (usual.embedding if embed and usual.embedding in there else "")
        how = {"scores": scores, "embedding": embedding}
        return choose_roles(path, outputs, classes=classes, single=layout.single, embed=embed, **how)
    except TeacherError as e:
        raise TeacherError(f"{e}; {listed(model.inputs, outputs)}") from e


def _looked_at(model: OpenModel, layout: Layout) -> list[Tensor]:
    """The outputs with the shapes that they have for silence, where the model leaves them open."""
    silence = np.zeros(layout.shape(layout.batch or 1), np.float32)
    answers = model.forward(silence, tuple(range(len(model.outputs))))
    return [
        each._replace(dtype=answer.dtype.name, shape=answer.shape)
        for each, answer in zip(model.outputs, answers, strict=True)
    ]


def normalised(windows: np.ndarray, handling: Handling) -> np.ndarray:
    """(batch, samples) float32 windows without their mean and scaled to a peak, as asked for. Silence stays silence.

    In float64 and rounded once, so that the mean of a constant is that constant, and nothing is left of it to scale.
    """
    if not handling.peak and not handling.remove_mean:
        return windows
    wide = windows.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a window that is not finite becomes NaN, and stays alone with it
        if handling.remove_mean:
            wide -= wide.mean(axis=1, keepdims=True)
        if handling.peak:
            loudest = np.abs(wide).max(axis=1, keepdims=True)
            wide *= handling.peak / np.where(loudest == 0, 1, loudest)
    return wide.astype(np.float32)
