"""The input: which of its axes are windows, samples and a channel."""

from dataclasses import dataclass

from pipeline.teachers.signatures.model import FACTORY, OpenModel, Shape, listed, shown
from softlabels.errors import TeacherError


@dataclass(frozen=True, slots=True)
class Layout:
    """How windows become a model's input.

    axes: of the input, each "batch", "samples" or "channel".
    batch: windows a forward pass, None where the model takes any; samples: of a window.
    """

    axes: tuple[str, ...]
    batch: int | None
    samples: int

    @property
    def single(self) -> bool:
        """Whether the model never takes more than one window, so that its answer may come without an axis for it."""
        return self.batch == 1

    def shape(self, batch: int) -> tuple[int, ...]:
        """The shape of the input for so many windows."""
        sizes = {"batch": batch, "samples": self.samples, "channel": 1}
        return tuple(sizes[axis] for axis in self.axes)


def layout_of(path: str, model: OpenModel, window_samples: int | None) -> Layout:
    """The layout of a model's one input.

    Args:
      path: what to call the model in an error.
      window_samples: from `--window`; None is as long as the model says.
    Raises: TeacherError: it takes no waveform, none of known length, or another length than was asked for.
    """
    axes = _axes(model.inputs[0].shape) if len(model.inputs) == 1 and model.inputs[0].dtype == "float32" else None
    if axes is None:
        raise TeacherError(
            f"model '{path}': expected one float32 waveform input (batch, samples) or (batch, samples, 1), got "
            f"{shown(model.inputs)}; {FACTORY}"
        )
    sizes = dict(zip(axes, model.inputs[0].shape, strict=True))
    samples = sizes["samples"] or window_samples
    if samples is None:
        raise TeacherError(
            f"model '{path}': leaves the number of samples open, and with it the window: give its seconds with "
            f"--window; {listed(model.inputs, model.outputs)}"
        )
    if window_samples not in (None, samples):
        raise TeacherError(
            f"model '{path}': takes windows of {samples:,} samples only, --window asks for {window_samples:,}: leave "
            f"it out; {listed(model.inputs)}"
        )
    return Layout(axes, sizes.get("batch", 1), samples)


def _axes(shape: Shape) -> tuple[str, ...] | None:
    """The axes of a waveform of one channel, or None. Of two that could be the channel, the last is."""
    match shape:
        case (_,):
            return ("samples",)
        case (first, 1) if first != 1:
            return ("samples", "channel")
        case (_, _):
            return ("batch", "samples")
        case (_, _, 1):
            return ("batch", "samples", "channel")
        case (_, 1, _):
            return ("batch", "channel", "samples")
    return None
