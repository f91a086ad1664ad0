"""Half the spectra: frames folded on their middle; and a band that ends early, read from every second sample.

    thin_signal    a layer on frames of x that holds low frequencies only  ->  on frames of x low-passed and thinned
    halve_frames   a layer on frames, its matrix even about their middle   ->  on x[n] + x[N - n], half as wide

The second holds because of N samples x the real part of a spectrum has the same weight for n and N - n where the
window is symmetric, so the two are added first. The first holds because such a matrix is made again from every q-th of
its columns by the filter that the signal goes through here. Both are looked at in the numbers of the layer: where they
do not hold, nothing is changed.
"""

from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
from ai_edge_litert.schema_py_generated import OperatorT, Padding

from pipeline.teachers.folding.graph import Graph
from pipeline.teachers.folding.rewrites import PI, cosine_of, framing_of, piece_width, widen_pieces

MOST_UNEVEN = 1e-6  # of the largest weight: by how much those of n and N - n may differ
MOST_UNLIKE = 2e-6  # of the largest weight: by how much the thinned layer's may differ from the layer's
MOST_PADDING = 0.1  # of half a frame: rather multiplied by zero than gathered from narrow pieces
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


def halve_spectra(graph: Graph, layer: OperatorT) -> bool:
    """Let a layer on frames read folded ones, where its matrix is even; else only wider pieces. Whether it could."""
    framing, weights = framing_of(graph, layer), graph.weights(layer.inputs[1])
    if framing is None or not _is_even(weights):
        widen_pieces(graph, layer)
        return False
    signal = int(framing.cut.inputs[0])
    frames = Frames(
        signal=signal, length=graph.shape(signal)[-1], count=framing.count, hop=framing.hop, size=framing.size
    )
    for step in (2,):
        if is_low(weights, step) and frames.length % (BLOCK * step) == 0 and frames.hop % step == 0:
            frames, weights = thin_signal(graph, framing.cut, frames, step), weights[:, ::step]
    halve_frames(graph, layer, frames, weights, with_odd=frames.size == framing.size)
    return True


def _is_even(weights: np.ndarray) -> bool:
    """Whether columns n and N - n of (bands, N) weights are the same, and column 0 is zero."""
    wide = weights.astype(np.float64)
    apart = np.abs(wide[:, 1:] - wide[:, :0:-1]).max(initial=0)
    return weights.shape[1] % 4 == 0 and not wide[:, 0].any() and bool(apart <= MOST_UNEVEN * np.abs(wide).max())


def halve_frames(
    graph: Graph, layer: OperatorT, frames: Frames, weights: np.ndarray, *, with_odd: bool
) -> None:
    """Add every frame to itself reversed, without sample 0, and let the layer read half the sum.

    The frames of the reversed signal are cut in the same way and picked in the opposite order. The middle sample is
    counted twice, so its weights are halved.
    """
    half = frames.size // 2
    last = frames.hop * (frames.count - 1)
    width = piece_width(frames.hop, half, frames.size - 1, MOST_PADDING) or 1
    pieces = -(-half // width)
    reversed_signal = graph.insert(
        layer, "REVERSE_V2", [frames.signal, graph.add_constant(np.array([1], np.int32))], (1, frames.length)
    )
    picks = frames.hop // width * np.arange(frames.count)[:, None] + np.arange(pieces)  # (count, pieces)
    starts = (1, frames.length - frames.size - last)  # of sample 1 of the first frame, and of the last one reversed
    cut = [
        _gather(graph, layer, signal, start, picks[::turn], width)
        for signal, start, turn in zip((frames.signal, reversed_signal), starts, (1, -1), strict=True)
    ]
    parts = [graph.insert(layer, "ADD", cut, (1, frames.count, pieces, width))]
    wide = weights.astype(np.float64)
    sides = wide[:, 1 : half + 1], wide[:, : half - 1 : -1]  # (bands, half): columns 1 to N / 2, and N - 1 to N / 2
    even, odd = (
        np.pad(side, [(0, 0), (0, pieces * width - half)]).reshape(len(wide), pieces, width)
        for side in ((sides[0] + sides[1]) / 2, (sides[0] - sides[1]) / 2)
    )
    even.reshape(len(wide), -1)[:, half - 1] /= 2
    columns = [even]
    if with_odd:
        axis = _integers(graph, 3)
        parts += [graph.insert(layer, "MEAN", [each, axis], (1, frames.count, pieces, 1), keepDims=True) for each in cut]
        columns += [odd.sum(axis=2, keepdims=True), -odd.sum(axis=2, keepdims=True)]
        parts = [graph.insert(layer, "CONCATENATION", parts, (1, frames.count, pieces, width + 2), axis=3)]
    matrix = np.concatenate(columns, axis=2).reshape(len(wide), -1)  # (bands, pieces * (width [+ 2]))
    joined = _reshape(graph, layer, parts[0], 1, frames.count, matrix.shape[1])
    graph.replace_input(layer, 1, matrix)
    graph.redirect(layer, 0, joined)


def _gather(graph: Graph, before: OperatorT, signal: int, start: int, picks: np.ndarray, width: int) -> int:
    """(1, *picks.shape, width): pieces of a signal of (1, length), counted from a sample on."""
    rows = int(picks.max()) + 1
    ends = [_integers(graph, 0, start), _integers(graph, 1, start + rows * width), _integers(graph, 1, 1)]
    cut = graph.insert(before, "STRIDED_SLICE", [signal, *ends], (1, rows * width))
    split = _reshape(graph, before, cut, 1, rows, width)
    chosen = graph.add_constant(picks.astype(np.int32))
    return graph.insert(before, "GATHER", [split, chosen], (1, *picks.shape, width), axis=1)


def _reshape(graph: Graph, before: OperatorT, tensor: int, *shape: int) -> int:
    return graph.insert(before, "RESHAPE", [tensor, _integers(graph, *shape)], shape)


def _integers(graph: Graph, *values: int) -> int:
    return graph.add_constant(np.array(values, np.int32))


def is_low(weights: np.ndarray, step: int) -> bool:
    """Whether the low-pass makes (bands, N) weights again out of every step-th column."""
    wide, taps = weights.astype(np.float64), low_pass(step)
    thinned = np.zeros((len(wide), wide.shape[1] + 2 * REACH))
    thinned[:, REACH:-REACH:step] = wide[:, ::step]
    again = np.stack([np.convolve(row, taps, "same") for row in thinned])
    return bool(np.abs(again - np.pad(wide, [(0, 0), (REACH, REACH)])).max() <= MOST_UNLIKE * np.abs(wide).max())


def low_pass(step: int) -> np.ndarray:
    """(2 REACH + 1,) float64: a windowed sinc that lets pass what every step-th sample can hold. In decimals, as libm's
    sines and Bessel functions differ between machines."""
    with localcontext(prec=60):
        taps = [_sinc(Decimal(t) / step) * _kaiser(Decimal(t) / (REACH + 1)) for t in range(REACH + 1)]
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


def thin_signal(graph: Graph, before: OperatorT, frames: Frames, step: int) -> Frames:
    """Every step-th sample of the low-passed signal, made `BLOCK` at once from blocks of the signal and their
    neighbours, with zeros around the signal: a convolution over blocks."""
    wide, blocks = BLOCK * step, frames.length // (BLOCK * step)
    taps = np.pad(low_pass(step), wide * 2)
    centre = REACH + wide * 2
    kernel = np.zeros((BLOCK, 1, 3, wide))
    for p in range(BLOCK):  # sample b * wide + i of the neighbourhood is i + (b - 1) * wide - step * p from its centre
        first = centre - wide - step * p
        kernel[p, 0] = taps[first : first + 3 * wide].reshape(3, wide)
    split = _reshape(graph, before, frames.signal, 1, 1, blocks, wide)
    constants = [graph.add_constant(kernel.astype(np.float32)), graph.add_constant(np.zeros(BLOCK, np.float32))]
    how = {"padding": Padding.SAME, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    passed = graph.insert(before, "CONV_2D", [split, *constants], (1, 1, blocks, BLOCK), **how)
    length = frames.length // step
    joined = _reshape(graph, before, passed, 1, length)
    return Frames(
        signal=joined, length=length, count=frames.count, hop=frames.hop // step, size=frames.size // step
    )
