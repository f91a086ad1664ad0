"""Teachers: models that score windows of audio. What they all promise, and how one is chosen.

A teacher of your own is any object with the attributes of `Teacher`; a function that makes it is named as
`--teacher module:factory` and is called with the path from `--model`, or without an argument.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from pipeline.options import check_numbers, option
from pipeline.teachers.signatures.passage import Pool
from softlabels.classes.class_list import Activation, ClassList

Outputs = Literal["logits", "probabilities"]


@runtime_checkable
class Teacher(Protocol):
    """What the pipeline needs to know of a model, and the one thing it has to do.

    name: shown to people and kept in the spec; digest: sha256 of what it computes with.
    rate_hz, window_samples: the audio it wants, mono float32 in [-1, 1].
    activation: "sigmoid" or "softmax"; outputs: whether `score` gives logits (before it) or probabilities.
    batch_size: windows per call of `score`, always exactly so many.
    notice: a licence or warning that people have to see once; may be empty.

    A teacher that has embeddings too says so with `embedding_width` and `score_with_embedding`, see `embedding_width`.
    """

    name: str
    digest: str
    classes: ClassList
    rate_hz: int
    window_samples: int
    activation: Activation
    outputs: Outputs
    batch_size: int
    notice: str

    def score(self, windows: np.ndarray) -> np.ndarray:
        """(batch_size, window_samples) float32 -> (batch_size, classes) float32."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherChoice:
    """Which teacher, as the command line says it; small and picklable, so workers load their own.

    All but `kind` is None where the kind does not need it.
    output: which of the model's outputs is what, `scores=NAME` or `embedding=NAME`; () is whichever fits.
    window_s, pool, scale, offset, peak, remove_mean: see `Handling` in `signatures.passage`.
    fold: False for BirdNET's file as it is; None is what the store says, and for a new one folded.
    folding: the version of folding, as stores name it; "" is the newest.
    batch_size: windows per forward pass, halved while memory does not suffice unless batch_fixed.
    """

    kind: str = option(
        "birdnet",
        "one of `softlabels teachers`, or litert, keras, onnx or module:factory; default birdnet",
        flags="--teacher",
    )
    model: str | None = option(None, "the model file, or SavedModel folder; birdnet finds its own")
    labels: str | None = option(None, "the model's class names, one a line or a table, in its outputs' order")
    labels_column: str | None = option(
        None, "of a table as --labels, where its header fits several or none", metavar="NAME"
    )
    rate_hz: int | None = option(None, "litert, keras, onnx: the sample rate of the model", metavar="HZ")
    activation: Activation | None = option(None, "independent or exclusive classes")
    outputs: Outputs | None = option(None, "before or after the activation")
    output: tuple[str, ...] = option(
        (), "which output is what, scores=NAME or embedding=NAME; else the one that fits", metavar="ROLE=NAME"
    )
    window_s: float | None = option(None, "of a model that takes any length", metavar="SECONDS")
    pool: Pool | None = option(None, "how the scores of frames become one a window")
    scale: float | None = option(None, "scores become SCALE * score + OFFSET, before the activation; default 1")
    offset: float | None = option(None, "default 0")
    peak: float | None = option(None, "scale every window to this largest value, 0 to 1; silence stays silence")
    remove_mean: bool = option(False, "take the mean off every window, before --peak")
    portable: bool = option(False, "equal bytes on any x86-64 CPU, for 3 x the time")
    fold: bool | None = option(None, "birdnet: its file as it is, at half the speed; a store keeps to one")
    folding: str = ""
    model_sha256: str | None = option(
        None, "keras: confirms the model, because loading one may run code in it", metavar="HEX"
    )
    batch_size: int | None = option(None, "keras, onnx: default 32; halved while memory does not suffice", metavar="N")
    batch_fixed: bool = False
    device: str | None = option(None, "keras, onnx: default cpu", choices=["cpu", "gpu"])
    embedding: bool = option(False, "keep the teacher's embedding too, as --output embedding=NAME does; fixed")

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", tuple(self.output))  # from JSON and from the command line it is a list
        named = any(text.startswith("embedding=") for text in self.output)
        object.__setattr__(self, "embedding", self.embedding or named)
        numbers = {name: getattr(self, name) for name in ("window_s", "scale", "offset", "peak")}
        check_numbers({name: value for name, value in numbers.items() if value is not None})


def embedding_width(teacher: Teacher) -> int:
    """How many numbers its embedding of a window has; 0 where it has none, as most teachers of people's own.

    One that has some has an attribute `embedding_width`, and `score_with_embedding(windows)`, which gives from one pass
    the very scores of `score`, and (batch_size, embedding_width) float32. It is asked only where a store wants it.
    """
    width = getattr(teacher, "embedding_width", 0)
    return width if hasattr(teacher, "score_with_embedding") and type(width) is int and width > 0 else 0


def derivation(teacher: Teacher) -> dict[str, Any]:
    """The fields of a spec that only some teachers have: how the model was folded, which of its outputs are read, and
    what is done around its forward pass."""
    folded = {"fold": getattr(teacher, "folding", ""), "source_digest": getattr(teacher, "source_digest", "")}
    return folded | getattr(teacher, "spec_fields", {})
