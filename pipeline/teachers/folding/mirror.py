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
from pipeline.teachers.folding.image import affine_after, joins_channels

PIXELWISE = {"LOGISTIC", "MUL", "ADD", "SUB", "RELU", "RELU6", "TANH", "HARD_SWISH"}
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
    convolutions = (operator for operator in graph.operators if graph.kind(operator) == "CONV_2D")
    first = next((each for each in convolutions if graph.shape(each.inputs[0])[1] > 1), None)
    if first is None or not graph.has_one_reader(first.inputs[0]):
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
    for operator in graph.operators:
        kind = graph.kind(operator)
        if images.isdisjoint(operator.inputs):
            continue
        if kind == "MEAN" and _over_all_pixels(graph, operator):
            continue  # the same number
        images.update(map(int, operator.outputs))
        if kind in KERNELS:
            yield _mirror_kernel(graph, operator)
        elif not _bears_it(graph, operator, kind, images):
            raise _NotMirrored
    if images & set(graph.outputs):
        raise _NotMirrored


def _bears_it(graph: Graph, operator: OperatorT, kind: str, images: set[int]) -> bool:
    if kind == "PAD":  # what reads it takes it into account
        return all(graph.kind(reader) in KERNELS for reader in graph.readers(operator.outputs[0]))
    if kind in POOLS:
        return _pools_evenly(graph, operator)
    if kind == "CONCATENATION":
        return operator.builtinOptions.axis in (3, -1) and images.issuperset(operator.inputs)
    return kind in PIXELWISE and _by_pixel(graph, operator, images)


def _over_all_pixels(graph: Graph, mean: OperatorT) -> bool:
    axes = graph.constant(mean.inputs[1])
    return axes is not None and sorted(axes.ravel().tolist()) == [1, 2]


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
    pads_pixels = around is not None and around.shape == (4, 2) and not around[[0, 3]].any()
    if not pads_pixels or operator.builtinOptions.padding != Padding.VALID:
        raise _NotMirrored
    above, left = graph.weights(pad.inputs[1])[1:3, 0].tolist()
    return (above, left), int(pad.inputs[0])


def _reverse(graph: Graph, first: OperatorT) -> None:
    """Mirror the image itself; its channels, while each has memory of its own, as that takes less time."""
    axes, at = graph.add_constant(np.array([1, 2], np.int32)), first
    for join in graph.operators:
        if joins_channels(graph, join) and [join, *affine_after(graph, join)][-1].outputs[0] == first.inputs[0]:
            at = join
    for position in range(1 if at is first else len(at.inputs)):
        image = int(at.inputs[position])
        graph.redirect(at, position, graph.insert(at, "REVERSE_V2", [image, axes], graph.shape(image)))
