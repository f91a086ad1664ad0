"""The outputs: which are the scores and the embedding, by their names, or by their shapes where only one fits.

Never by position: converters order outputs as they like.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.teachers.signatures.model import Shape, Tensor, shown
from softlabels.errors import TeacherError

ROLES = ("scores", "embedding")


@dataclass(frozen=True, slots=True)
class Roles:
    """Positions among a model's outputs; None where no embedding was asked for."""

    scores: int
    embedding: int | None = None

    @property
    def wanted(self) -> tuple[int, ...]:
        return (self.scores,) if self.embedding is None else (self.scores, self.embedding)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the outputs of a published model are called, where its file names them.

    scores, embedding: names; "" is none. shapes: of a window's outputs, by name.
    """

    scores: str
    embedding: str = ""
    shapes: Mapping[str, Shape] = field(default_factory=dict)


def check_published(path: str, outputs: Sequence[Tensor], published: Published) -> None:
    """Hold outputs against the shapes that their names are published with. Raises: TeacherError: another shape."""
    for output in outputs:
        expected = published.shapes.get(output.name)
        if expected is not None and output.shape[-len(expected) :] != expected:
            raise TeacherError(
                f"model '{path}': its output {output} is published as (batch, {', '.join(map(str, expected))}): this "
                f"is another model"
            )


def is_decided(output: Tensor) -> bool:
    """Whether an output declares what decides its role: its rank and its last axis."""
    return bool(output.shape) and output.shape[-1] is not None


def choose_roles(
    path: str,
    outputs: Sequence[Tensor],
    *,
    classes: int,
    single: bool,
    embed: bool = False,
    scores: str = "",
    embedding: str = "",
) -> Roles:
    """Which outputs are what.

    Args:
      path: what to call the model in an error.
      outputs: with their real shapes, where there is more than one.
      classes: as many as the labels name.
      single: the model takes one window at a time, so an answer may come without the axis of the batch.
      embed: an embedding is wanted.
      scores, embedding: names of outputs; "" is whichever fits.
    Raises: TeacherError: no output fits, more than one does, or the named one is not there or does not fit.
    """
    if len(outputs) == 1 and not scores:  # its shape is held against the classes when it answers
        found = 0
    else:
        found = _choose(path, outputs, "scores", scores, lambda each: _may_score(each, classes, single))
    if not embed:
        return Roles(found)
    if len(outputs) == 1:
        raise TeacherError(f"model '{path}': has one output only, its scores: it gives no embedding")
    fits = _may_embed(single)
    return Roles(found, _choose(path, outputs, "embedding", embedding, fits, taken=found))


def _may_score(output: Tensor, classes: int, single: bool) -> bool:
    """(batch, classes) or (batch, frames, classes); of a model of one window a time also without the batch."""
    ranks = (1, 2, 3) if single else (2, 3)
    return output.dtype == "float32" and len(output.shape) in ranks and output.shape[-1] == classes


def _may_embed(single: bool) -> Callable[[Tensor], bool]:
    """(batch, width); of a model of one window a time also (width,)."""
    return lambda output: output.dtype == "float32" and len(output.shape) in ((1, 2) if single else (2,))


def _choose(
    path: str, outputs: Sequence[Tensor], role: str, name: str, fits: Callable[[Tensor], bool], taken: int | None = None
) -> int:
    free = [i for i in range(len(outputs)) if i != taken]
    if name:
        named = [i for i in range(len(outputs)) if outputs[i].name == name]
        if len(named) == 1 and named[0] in free and fits(outputs[named[0]]):
            return named[0]
        raise TeacherError(f"model '{path}': --output {role}={name}: {_why_not(outputs, named, taken, role)}")
    fitting = [i for i in free if fits(outputs[i])]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise TeacherError(
            f"model '{path}': none of its outputs fits as {role}, {EXPECTED[role]}; export the model with one "
            "that does, or give the labels that belong to it"
        )
    both = shown([outputs[i] for i in fitting])
    raise TeacherError(
        f"model '{path}': {len(fitting)} of its outputs could be the {role}: {both}; say which with --output "
        f"{role}=NAME"
    )


def _why_not(outputs: Sequence[Tensor], named: list[int], taken: int | None, role: str) -> str:
    if len(named) != 1:
        return "no output has this name" if not named else f"{len(named)} outputs have this name"
    if named[0] == taken:
        return "the same output as the scores"
    return f"got {outputs[named[0]]}, {EXPECTED[role]}"


EXPECTED = {
    "scores": "expected float32 with a last axis as long as --labels, (batch, classes) or (batch, frames, classes)",
    "embedding": "expected float32 (batch, width)",
}
