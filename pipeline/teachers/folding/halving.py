"""Frames read with less: a low band from half of the samples, folded on their middle; another without being gathered.

    halve_spectra     a layer on frames of x that holds low frequencies only, its matrix even about their middle  ->
                      on frames of y, x low-passed and thinned: on y[n] + y[N - n], a quarter as wide
    convolve_frames   a layer on gathered frames  ->  a convolution over pieces of the signal, which copies none

The real part of a spectrum has the same weight for n and N - n of N samples x, where the window is symmetric, so the
two can be added first. A window rounded to float32 is not quite symmetric, though, and what that lets through of loud
sounds shows in bands where there is nothing else: so only a low band is folded, in which most of the power is. Such a
matrix is made again, from every second of its columns, by the filter that the signal goes through here. All of it is
looked at in the numbers of the layer: where it does not hold, nothing is changed.
"""

from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
from ai_edge_litert.schema_py_generated import OperatorT, Padding

from pipeline.teachers.folding.graph import NO_TENSOR, Graph
from pipeline.teachers.folding.rewrites import PI, Framing, cosine_of, framing_of

MOST_UNEVEN = 1e-6  # of the largest weight: by how much those of n and N - n may differ
MOST_UNLIKE = 2e-6  # of the largest weight: by how much the thinned layer's may differ from the layer's
MOST_PADDING = 0.1  # of half a frame: rather multiplied by zero than gathered from narrow pieces
THINNED = 2  # of so many samples one is left
REACH, SHAPE = 15, 13  # of the low-pass: taps on either side, and the shape of its Kaiser window
BLOCK = 16  # thinned samples that are made at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """count frames of `size` samples, `hop` apart, from the start of a signal, the tensor (1, length)."""

    signal: int
    length: int
    count: int
    hop: int
    size: int


def halve_spectra(graph: Graph) -> int:
    """Let the layers that read frames, whose matrix is even and low, read thinned and folded ones; returns how many."""
    found = [(layer, framing) for layer in graph.operators if (framing := _low_frames(graph, layer))]
    for layer, framing in found:
        weights, signal = graph.weights(layer.inputs[1]), int(framing.cut.inputs[0])
        frames = Frames(
            signal=signal, length=graph.shape(signal)[-1], count=framing.count, hop=framing.hop, size=framing.size
        )
        halve_frames(graph, layer, thin_signal(graph, layer, frames), weights[:, ::THINNED])
    graph.drop_unread()
    return len(found)


def convolve_frames(graph: Graph) -> int:
    """Let a convolution over pieces as long as the hop do what a layer on gathered frames does; returns how many."""
    found = [(layer, framing) for layer in graph.operators if (framing := _frames_of(graph, layer))]
    count = 0
    for layer, framing in found:
        hop, pieces = framing.hop, -(-framing.size // framing.hop)
        rows, weights = framing.count - 1 + pieces, graph.weights(layer.inputs[1])
        signal = int(framing.cut.inputs[0])
        if pieces * hop > framing.size * (1 + MOST_PADDING) or rows * hop > graph.shape(signal)[-1]:
            continue
        kernel = np.pad(weights, [(0, 0), (0, pieces * hop - framing.size)]).reshape(len(weights), 1, pieces, hop)
        cut = _pieces(graph, layer, signal, 0, (1, 1, rows, hop))
        constants = [graph.add_constant(kernel), _bias(graph, layer, len(weights))]
        how = {"padding": Padding.VALID, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
        how["fusedActivationFunction"] = layer.builtinOptions.fusedActivationFunction
        shape = (1, 1, framing.count, len(weights))
        frames = graph.insert(layer, "CONV_2D", [cut, *constants], shape, **how)
        graph.replace([layer], _reshape(graph, layer, frames, *graph.shape(layer.outputs[0])))
        count += 1
    graph.drop_unread()
    return count


def _bias(graph: Graph, layer: OperatorT, bands: int) -> int:
    given = int(layer.inputs[2]) if len(layer.inputs) > 2 else NO_TENSOR
    return graph.add_constant(np.zeros(bands, np.float32)) if given == NO_TENSOR else given


def _frames_of(graph: Graph, layer: OperatorT) -> Framing | None:
    """How the frames that a layer with constant weights reads are cut."""
    if graph.kind(layer) != "FULLY_CONNECTED":
        return None
    framing, weights = framing_of(graph, layer), graph.constant(layer.inputs[1])
    fits = framing is not None and weights is not None and weights.shape[1] == framing.size
    return framing if fits else None


def _low_frames(graph: Graph, layer: OperatorT) -> Framing | None:
    """The same, where they can be thinned and the matrix is even about their middle."""
    framing = _frames_of(graph, layer)
    if framing is None or framing.hop % THINNED:
        return None
    weights, length = graph.weights(layer.inputs[1]), graph.shape(framing.cut.inputs[0])[-1]
    return framing if length % (BLOCK * THINNED) == 0 and _is_even(weights) and is_low(weights) else None


def _is_even(weights: np.ndarray) -> bool:
    """Whether columns n and N - n of (bands, N) weights are the same, and column 0 is zero."""
    wide = weights.astype(np.float64)
    apart = np.abs(wide[:, 1:] - wide[:, :0:-1]).max(initial=0)
    return weights.shape[1] % 4 == 0 and not wide[:, 0].any() and bool(apart <= MOST_UNEVEN * np.abs(wide).max())


def halve_frames(graph: Graph, layer: OperatorT, frames: Frames, weights: np.ndarray) -> None:
    """Add every frame to itself reversed, without sample 0, and let the layer read half the sum.

    The frames of the reversed signal are cut in the same way and picked in the opposite order.

    Args:
      weights: (bands, N) of the layer, for N samples of a frame.
    """
    half, last = frames.size // 2, frames.hop * (frames.count - 1)
    width = _piece_width(frames.hop, half)
    pieces = -(-half // width)
    axis = _integers(graph, 1)
    reversed_signal = graph.insert(layer, "REVERSE_V2", [frames.signal, axis], (1, frames.length))
    picks = frames.hop // width * np.arange(frames.count)[:, None] + np.arange(pieces)  # (count, pieces)
    starts = (1, frames.length - frames.size - last)  # of sample 1 of the first frame, and of the last one reversed
    cut = [
        _gather(graph, layer, signal, start, picks[::turn], width)
        for signal, start, turn in zip((frames.signal, reversed_signal), starts, (1, -1), strict=True)
    ]  # both (1, count, pieces, width)
    added = graph.insert(layer, "ADD", cut, (1, frames.count, pieces, width))
    graph.replace_input(layer, 1, np.pad(_half(weights), [(0, 0), (0, pieces * width - half)]))
    graph.redirect(layer, 0, _reshape(graph, layer, added, 1, frames.count, pieces * width))


def _half(weights: np.ndarray) -> np.ndarray:
    """(bands, N / 2) float64: what samples 1 to N / 2 weigh together with those opposite.

    The middle sample is opposite itself and counted twice, so it weighs half.
    """
    wide, half = weights.astype(np.float64), weights.shape[1] // 2
    even = (wide[:, 1 : half + 1] + wide[:, : half - 1 : -1]) / 2  # samples 1 to N / 2, and N - 1 to N / 2
    even[:, -1] /= 2
    return even


def _piece_width(hop: int, half: int) -> int:
    """The widest divisor of the hop that makes half a frame little longer; samples."""
    return next(w for w in range(hop, 0, -1) if hop % w == 0 and -(-half // w) * w <= half * (1 + MOST_PADDING))


def _gather(graph: Graph, before: OperatorT, signal: int, start: int, picks: np.ndarray, width: int) -> int:
    """(1, *picks.shape, width): pieces of a signal of (1, length), counted from a sample on."""
    split = _pieces(graph, before, signal, start, (1, int(picks.max()) + 1, width))
    chosen = graph.add_constant(picks.astype(np.int32))
    return graph.insert(before, "GATHER", [split, chosen], (1, *picks.shape, width), axis=1)


def _pieces(graph: Graph, before: OperatorT, signal: int, start: int, shape: tuple[int, ...]) -> int:
    """As many samples of a signal, (1, length), as fit into a shape, from one of them on."""
    end = start + int(np.prod(shape))
    bounds = [_integers(graph, 0, start), _integers(graph, 1, end), _integers(graph, 1, 1)]
    return _reshape(graph, before, graph.insert(before, "STRIDED_SLICE", [signal, *bounds], (1, end - start)), *shape)


def _reshape(graph: Graph, before: OperatorT, tensor: int, *shape: int) -> int:
    return graph.insert(before, "RESHAPE", [tensor, _integers(graph, *shape)], shape)


def _integers(graph: Graph, *values: int) -> int:
    return graph.add_constant(np.array(values, np.int32))


def is_low(weights: np.ndarray) -> bool:
    """Whether the low-pass makes (bands, N) weights again out of every second column."""
    wide, taps = weights.astype(np.float64), low_pass()
    thinned = np.zeros((len(wide), wide.shape[1] + 2 * REACH))
    thinned[:, REACH:-REACH:THINNED] = wide[:, ::THINNED]
    again = np.stack([np.convolve(row, taps, "same") for row in thinned])
    return bool(np.abs(again - np.pad(wide, [(0, 0), (REACH, REACH)])).max() <= MOST_UNLIKE * np.abs(wide).max())


def low_pass() -> np.ndarray:
    """(2 REACH + 1,) float64: a windowed sinc that lets pass what every second sample can hold. In decimals, as libm's
    sines and Bessel functions differ between machines."""
    with localcontext(prec=60):
        taps = [_sinc(Decimal(t) / THINNED) * _kaiser(Decimal(t) / (REACH + 1)) for t in range(REACH + 1)]
        side = np.array([float(tap) for tap in taps])
    return np.concatenate([side[:0:-1], side])


def _sinc(t: Decimal) -> Decimal:
    return cosine_of(PI * t - PI / 2) / (PI * t) if t else Decimal(1)


def _kaiser(t: Decimal) -> Decimal:
    """Kaiser's window at t from -1 to 1: I0(SHAPE sqrt(1 - t^2)) / I0(SHAPE)."""
    return _bessel(SHAPE * SHAPE * (1 - t * t)) / _bessel(Decimal(SHAPE * SHAPE))


def _bessel(square: Decimal) -> Decimal:
    """I0 of the root of `square`, by its power series."""
    total = term = Decimal(1)
    for k in range(1, 100):
        term = term * square / (4 * k * k)
        total += term
    return total


def thin_signal(graph: Graph, before: OperatorT, frames: Frames) -> Frames:
    """Every second sample of the low-passed signal, made `BLOCK` at once from blocks of the signal and their
    neighbours, with zeros around the signal: a convolution over blocks."""
    wide, blocks = BLOCK * THINNED, frames.length // (BLOCK * THINNED)
    taps = np.pad(low_pass(), wide * 2)
    centre = REACH + wide * 2
    kernel = np.zeros((BLOCK, 1, 3, wide))
    for p in range(BLOCK):  # its centre is sample THINNED * p of the block in the middle
        first = centre - wide - THINNED * p
        kernel[p, 0] = taps[first : first + 3 * wide].reshape(3, wide)
    split = _reshape(graph, before, frames.signal, 1, 1, blocks, wide)
    constants = [graph.add_constant(kernel.astype(np.float32)), graph.add_constant(np.zeros(BLOCK, np.float32))]
    how = {"padding": Padding.SAME, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    passed = graph.insert(before, "CONV_2D", [split, *constants], (1, 1, blocks, BLOCK), **how)
    length = frames.length // THINNED
    joined = _reshape(graph, before, passed, 1, length)
    return Frames(
        signal=joined, length=length, count=frames.count, hop=frames.hop // THINNED, size=frames.size // THINNED
    )
