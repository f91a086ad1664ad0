"""Convolutions of the mirrored image: what a PAD puts on one side, SAME does without a copy on the other.

Padded by one on all sides, a convolution of 3 x 3 at a stride of 2 over an even number of pixels never reads what is
below and to the right. SAME pads that side only. Mirrored, image and kernels, the two are the same, and the copy that
PAD makes of the whole image is not needed. Everything that follows the image has to bear being mirrored: convolutions
with mirrored kernels, what is done pixel by pixel, and means over all pixels. Where anything else follows, nothing is
changed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from ai_edge_litert.schema_py_generated import OperatorT, Padding

from pipeline.teachers.folding.graph import NO_TENSOR, Graph
from pipeline.teachers.folding.image import joins_channels

PIXELWISE = {"LOGISTIC", "MUL", "ADD", "RELU"}
KERNELS = {"CONV_2D", "DEPTHWISE_CONV_2D"}
POOLS = {"AVERAGE_POOL_2D", "MAX_POOL_2D"}


class _NotMirrored(Exception):
    """Something does not bear it."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of an image, and how a kernel goes along it: output j starts at pixel stride * j - before."""

    size: int
    kernel: int
    stride: int
    outputs: int
    before: int

    @property
    def mirrored_before(self) -> int:
        return self.stride * (self.outputs - 1) + self.kernel - self.size - self.before

    @property
    def same_before(self) -> int | None:
        """What SAME puts before; None where it would give another number of outputs."""
        if self.outputs != -(-self.size // self.stride):
            return None
        return max(self.stride * (self.outputs - 1) + self.kernel - self.size, 0) // 2


def mirror_image(graph: Graph) -> bool:
    """Mirror all that follows the first image, where that makes PADs needless; returns whether it did."""
    first = next((operator for operator in graph.operators if graph.kind(operator) == "CONV_2D"
                  and graph.shape(operator.inputs[0])[1] > 1), None)  # fmt: skip
    if first is None:
        return False
    try:
        edits = list(_edits(graph, int(first.inputs[0])))
    except _NotMirrored:
        return False
    if not any(needless for _, needless in edits):
        return False
    for edit, _ in edits:
        edit()
    _reverse(graph, first)
    return True


def _edits(graph: Graph, image: int) -> Iterator[tuple[Callable[[], None], bool]]:
    """What has to be done, and whether it makes a PAD needless. Raises: _NotMirrored: it cannot be."""
    images = {image}
    for operator in list(graph.operators):
        read = [int(tensor) for tensor in operator.inputs if tensor in images]
        if not read:
            continue
        if set(graph.outputs) & {*map(int, operator.outputs), image}:
            raise _NotMirrored
        kind = graph.kind(operator)
        if kind == "MEAN":
            axes = graph.constant(operator.inputs[1])
            if axes is None or sorted(axes.ravel().tolist()) != [1, 2]:
                raise _NotMirrored
            continue
        images.update(map(int, operator.outputs))
        if kind in KERNELS:
            yield _mirror_kernel(graph, operator)
        elif kind == "PAD":
            if any(graph.kind(reader) not in KERNELS for reader in graph.readers(operator.outputs[0])):
                raise _NotMirrored
        elif kind in POOLS:
            if not _pools_evenly(graph, operator):
                raise _NotMirrored
        elif kind == "CONCATENATION":
            if operator.builtinOptions.axis not in (3, -1):
                raise _NotMirrored
        elif kind not in PIXELWISE or not _by_pixel(graph, operator, images):
            raise _NotMirrored


def _by_pixel(graph: Graph, operator: OperatorT, images: set[int]) -> bool:
    """Whether all that it reads is mirrored, or the same for every pixel."""
    height_width = graph.shape(operator.outputs[0])[1:3]
    for tensor in set(map(int, operator.inputs)) - {NO_TENSOR}:
        shape = (1, 1, 1, 1, *graph.shape(tensor))[-4:]
        if shape[1:3] != (height_width if tensor in images else (1, 1)):
            return False
    return True


def _pools_evenly(graph: Graph, pool: OperatorT) -> bool:
    how, (_, height, width, _) = pool.builtinOptions, graph.shape(pool.inputs[0])
    steps = (how.strideH, how.strideW)
    return steps == (how.filterHeight, how.filterWidth) and height % steps[0] == width % steps[1] == 0


def _mirror_kernel(graph: Graph, operator: OperatorT) -> tuple[Callable[[], None], bool]:
    how, weights = operator.builtinOptions, graph.constant(operator.inputs[1])
    if weights is None or how.dilationWFactor != 1 or how.dilationHFactor != 1:
        raise _NotMirrored
    padded, source = _padding(graph, operator)
    outputs, sizes = graph.shape(operator.outputs[0])[1:3], graph.shape(source)[1:3]
    wider = []  # by how many pixels the kernel grows, for SAME to begin where it has to
    for side, stride in enumerate((how.strideH, how.strideW)):
        axis = Axis(sizes[side], weights.shape[1 + side], stride, outputs[side], 0)
        before = padded[side] if padded else (axis.same_before if how.padding == Padding.SAME else 0)
        if before is None:
            raise _NotMirrored
        wanted = Axis(axis.size, axis.kernel, stride, axis.outputs, before).mirrored_before
        wider.append(_growth(axis, wanted, valid=how.padding == Padding.VALID and not padded))
    mirrored = np.pad(weights[:, ::-1, ::-1], [(0, 0), (0, wider[0]), (0, wider[1]), (0, 0)])

    def edit() -> None:
        if mirrored.shape[1:3] != (1, 1):
            graph.replace_input(operator, 1, mirrored)
        if padded:
            graph.redirect(operator, 0, source)
            graph.edit(operator, padding=Padding.SAME)

    return edit, bool(padded)


def _growth(axis: Axis, wanted: int, *, valid: bool) -> int:
    """By how many zeros a kernel has to be longer at its end. Raises: _NotMirrored: no number does."""
    if valid:
        if wanted != 0:
            raise _NotMirrored
        return 0
    for more in (0, 1):
        if Axis(axis.size, axis.kernel + more, axis.stride, axis.outputs, 0).same_before == wanted:
            return more
    raise _NotMirrored


def _padding(graph: Graph, operator: OperatorT) -> tuple[tuple[int, int] | None, int]:
    """(pixels above, pixels left) that a PAD before it puts there, if there is one, and the image without them."""
    pad = graph.maker(operator.inputs[0])
    if pad is None or graph.kind(pad) != "PAD":
        return None, int(operator.inputs[0])
    around = graph.constant(pad.inputs[1])
    if around is None or around.shape != (4, 2) or around[[0, 3]].any() or operator.builtinOptions.padding != Padding.VALID:
        raise _NotMirrored
    return (int(around[1, 0]), int(around[2, 0])), int(pad.inputs[0])


def _reverse(graph: Graph, first: OperatorT) -> None:
    """Mirror the image itself; its channels, while each has memory of its own, as that takes less time."""
    maker = graph.maker(first.inputs[0])
    while maker is not None and graph.kind(maker) in ("MUL", "ADD") and graph.constant(maker.inputs[1]) is not None:
        maker = graph.maker(maker.inputs[0])
    at = maker if maker is not None and joins_channels(graph, maker) else first
    axes = graph.add_constant(np.array([1, 2], np.int32))
    for position in range(len(at.inputs) if at is maker else 1):
        image = int(at.inputs[position])
        graph.redirect(at, position, graph.insert(at, "REVERSE_V2", [image, axes], graph.shape(image)))
