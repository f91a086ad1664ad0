"""The spectra of a TFLite model folded into the layers that read them: what every version of folding begins with.

Three rewrites, at the fixed batch that the file is made for:

    fix_shapes            operators that compute only integers from constants and shapes  ->  constants
    spectra_into_weights  frames -> MUL window -> RFFT2D -> real part -> FULLY_CONNECTED  ->  frames -> FULLY_CONNECTED
    widen_pieces          frames gathered from many small pieces  ->  from few wide ones

The second holds because a real part is linear: of N samples x, windowed by w, it is Re X[k] = sum over n of
cos(2 pi k n / N) w[n] x[n], so a layer with weights `mel` on it is a layer with weights `folded_weights` on x.
"""

import itertools
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
from ai_edge_litert.schema_py_generated import OperatorT

from pipeline.teachers.folding.graph import NO_TENSOR, Graph
from pipeline.teachers.interpreter import open_interpreter
from softlabels.errors import TeacherError

SAME_NUMBERS = {"RESHAPE", "EXPAND_DIMS", "SQUEEZE"}  # in the same order, under another shape
SHAPED_BY_VALUES = {"RANGE", "UNIQUE", "WHERE", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"}
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
MOST_PADDING = 0.02  # of a frame: what the layer may have to multiply by zero for wider pieces


def fold_spectra(graph: Graph) -> list[OperatorT]:
    """Fix the shapes and fold the spectra; returns the layers that read frames then.

    Raises: TeacherError: it has no spectrum that can be folded.
    """
    fix_shapes(graph)
    layers = spectra_into_weights(graph)
    if not layers:
        raise TeacherError(
            "nothing to fold: expected frames times a constant window, RFFT2D, its real part, and a FULLY_CONNECTED "
            "with constant weights"
        )
    return layers


def fix_shapes(graph: Graph) -> int:
    """Turn operators that compute only integers from constants and shapes into constants; returns how many.

    Their values are read out of one run of the model; that every run has them follows from the graph (`_settled`).
    """
    interpreter = open_interpreter("to fold", graph.content, portable=True, keep_all=True)
    interpreter.invoke()
    known, fixed = _settled(graph)
    for detail in interpreter.get_tensor_details():
        if detail["index"] in fixed:
            graph.set_shape(detail["index"], tuple(detail["shape"]))
    needless = [operator for operator in graph.operators if known.issuperset(operator.outputs)]
    for tensor in itertools.chain(*(operator.outputs for operator in needless)):
        graph.set_constant(tensor, interpreter.get_tensor(tensor))
    graph.operators = [operator for operator in graph.operators if not known.issuperset(operator.outputs)]
    return len(needless)


def _settled(graph: Graph) -> tuple[set[int], set[int]]:
    """The tensors whose integers, and those whose shape, are the same whatever the audio is.

    A shape is settled where the inputs' shapes are and the integers among them, for those say how to cut and reshape.
    """
    made = set(itertools.chain(*(operator.outputs for operator in graph.operators)))
    known = set(graph.tensors) - made - set(graph.inputs)
    fixed = known | set(graph.inputs)
    for operator in graph.operators:
        inputs, outputs = set(operator.inputs) - {NO_TENSOR}, set(operator.outputs)
        kind, shapes_fixed = graph.kind(operator), inputs <= fixed
        says_shape = inputs if kind in SHAPED_BY_VALUES else {i for i in inputs if not _is_of(graph, i, "fc")}
        if shapes_fixed and (says_shape <= known or kind == "SHAPE"):
            fixed |= outputs
        if (inputs <= known or (kind == "SHAPE" and shapes_fixed)) and all(_is_of(graph, i, "i") for i in outputs):
            known |= outputs
    return known, fixed


def _is_of(graph: Graph, tensor: int, kinds: str) -> bool:
    dtype = graph.dtype(tensor)
    return dtype is not None and dtype.kind in kinds


def spectra_into_weights(graph: Graph) -> list[OperatorT]:
    """Put window, transform and real part into the weights of the layer that reads them; returns those layers."""
    found = [(layer, windowing) for layer in graph.operators if (windowing := _windowing(graph, layer))]
    for layer, windowing in found:
        window, mel = graph.weights(windowing.inputs[1]), graph.weights(layer.inputs[1])
        graph.replace_input(layer, 1, folded_weights(window, mel))
        graph.redirect(layer, 0, windowing.inputs[0])
    graph.drop_unread()  # the transforms, which would count as readers of the frames
    return [layer for layer, _ in found]


def _windowing(graph: Graph, layer: OperatorT) -> OperatorT | None:
    """The MUL of frames by a window whose real spectrum this layer, and nothing else, reads; None if it does not."""
    if graph.kind(layer) != "FULLY_CONNECTED" or graph.constant(layer.inputs[1]) is None:
        return None
    real = _before(graph, layer, "CAST")
    transform = _before(graph, real, "RFFT2D") if real else None
    windowing = _before(graph, transform, "MUL") if transform else None
    if not transform or not windowing:
        return None
    window, size = graph.constant(windowing.inputs[1]), graph.constant(transform.inputs[1])
    frames, bins = graph.shape(windowing.inputs[0]), graph.shape(layer.inputs[1])[1]
    fits = (
        window is not None
        and window.shape == frames[-1:]
        and size is not None
        and size.tolist() == [1, len(window)]
        and bins == len(window) // 2 + 1
        and (not layer.builtinOptions.keepNumDims or frames[:-1] == graph.shape(layer.inputs[0])[:-1])
    )
    return windowing if fits else None


def _before(graph: Graph, operator: OperatorT, kind: str) -> OperatorT | None:
    """The operator of this kind whose numbers are the first input, for nobody else; its shape may have changed."""
    maker = graph.maker(operator.inputs[0])
    while maker is not None and graph.has_one_reader(maker.outputs[0]):
        if graph.kind(maker) == kind:
            return maker
        if graph.kind(maker) not in SAME_NUMBERS:
            return None
        maker = graph.maker(maker.inputs[0])
    return None


def folded_weights(window: np.ndarray, mel: np.ndarray) -> np.ndarray:
    """F[m, n] = window[n] * sum over k of cos(2 pi k n / N) mel[m, k].

    The same bits on every machine: the cosines come from `cosines`; each product and sum is one float64 operation of
    its own, which IEEE 754 rounds in one way only, in the order of k, which this loop sets; no matrix product, no
    reduction and no fused operation, whose order is the CPU's. Rounded to float32 once.

    Args:
      window: (N,) float32. mel: (bands, N // 2 + 1) float32.
    Returns: (bands, N) float32.
    """
    size = len(window)
    cosine, n = cosines(size), np.arange(size)
    total = np.zeros((len(mel), size))
    for k in range(mel.shape[1]):
        used = np.flatnonzero(mel[:, k])  # a mel band has few bins
        total[used] += cosine[k * n % size] * mel[used, k, None].astype(np.float64)  # (used, N)
    return (total * window.astype(np.float64)).astype(np.float32)


def cosines(size: int) -> np.ndarray:
    """(size,) float64: cos(2 pi j / size), correctly rounded: in decimals, as libm's differ between machines."""
    with localcontext(prec=60):
        return np.array([float(cosine_of(2 * PI * j / size)) for j in range(size)])


def cosine_of(angle: Decimal) -> Decimal:
    """By its power series, to 50 decimals and more; exact zeros come out as 1e-50 and are made zeros."""
    total = term = Decimal(1)
    square = angle * angle
    for n in itertools.count(2, 2):
        term = -term * square / (n * (n - 1))
        if abs(term) < Decimal("1e-58"):
            break
        total += term
    return total if abs(total) > Decimal("1e-45") else Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """How a model cuts its frames: cut (1, signal) -> split (1, pieces, width) -> gather -> join (1, count, size).

    count: frames; hop, size, signal: samples; width: samples a piece, which divides hop and size.
    """

    cut: OperatorT
    split: OperatorT
    gather: OperatorT
    join: OperatorT
    count: int
    hop: int
    size: int
    signal: int
    width: int


def widen_pieces(graph: Graph, layer: OperatorT) -> bool:
    """Gather the frames that a layer reads from wider pieces of the signal; returns whether that was possible.

    `tf.signal.frame` cuts the signal into pieces as long as the greatest common divisor of frame and hop: 523,264
    pieces of 2 samples for 511 frames of 2,048 at a hop of 278. Here a piece is the widest divisor of the hop that
    makes a frame at most `MOST_PADDING` longer; the layer's weights are zero on the excess.
    """
    framing = framing_of(graph, layer)
    width = _piece_width(framing) if framing else 0
    if not framing or width <= framing.width:
        return False
    stride, pieces = framing.hop // width, -(-framing.size // width)  # of one frame
    rows = stride * (framing.count - 1) + pieces
    picks = stride * np.arange(framing.count)[:, None] + np.arange(pieces)  # (count, pieces)
    weights = graph.weights(layer.inputs[1])
    excess = pieces * width - framing.size
    steps = [
        (framing.cut, 2, np.array([1, rows * width]), (1, rows * width)),
        (framing.split, 1, np.array([1, rows, width]), (1, rows, width)),
        (framing.gather, 1, picks, (1, framing.count, pieces, width)),
        (framing.join, 1, np.array([1, framing.count, pieces * width]), (1, framing.count, pieces * width)),
        (layer, 1, np.pad(weights, [(0, 0), (0, excess)]), graph.shape(layer.outputs[0])),
    ]
    for operator, position, value, shape in steps:
        graph.replace_input(operator, position, value)
        graph.set_shape(operator.outputs[0], shape)
    return True


def framing_of(graph: Graph, layer: OperatorT) -> Framing | None:
    """How the frames of a layer are cut, if it is as `tf.signal.frame` does and nobody else reads the steps."""
    steps, operator = [], layer
    for kind in ("RESHAPE", "GATHER", "RESHAPE", "STRIDED_SLICE"):
        operator = graph.maker(operator.inputs[0])
        if operator is None or graph.kind(operator) != kind or not graph.has_one_reader(operator.outputs[0]):
            return None
        steps.append(operator)
    join, gather, split, cut = steps
    picks, pieces = graph.constant(gather.inputs[1]), graph.shape(split.outputs[0])
    begin, stride = graph.constant(cut.inputs[1]), graph.constant(cut.inputs[3])
    if picks is None or picks.ndim != 2 or len(picks) < 2 or len(pieces) != 3 or pieces[0] != 1:
        return None
    evenly = (picks[1, 0] - picks[0, 0]) * np.arange(len(picks))[:, None] + np.arange(picks.shape[1])
    if not np.array_equal(picks, evenly) or gather.builtinOptions.axis != 1 or gather.builtinOptions.batchDims:
        return None
    if begin is None or begin.tolist() != [0, 0] or stride is None or stride.tolist() != [1, 1]:
        return None
    if cut.builtinOptions.endMask or cut.builtinOptions.offset:
        return None
    return Framing(
        cut=cut,
        split=split,
        gather=gather,
        join=join,
        count=len(picks),
        hop=int(picks[1, 0]) * pieces[2],
        size=picks.shape[1] * pieces[2],
        signal=pieces[1] * pieces[2],
        width=pieces[2],
    )


def _piece_width(framing: Framing) -> int:
    """The widest divisor of the hop that pads frames little and does not reach beyond the signal; samples."""
    for width in range(framing.hop, 0, -1):
        frame = -(-framing.size // width) * width
        inside = (framing.count - 1) * framing.hop + frame <= framing.signal
        if framing.hop % width == 0 and frame <= framing.size * (1 + MOST_PADDING) and inside:
            return width
    return framing.width
