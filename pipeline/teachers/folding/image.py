"""From spectra to the image that convolutions read: the power without `pow`, two branches side by side.

    power_by_logarithm   (x * x) ** p                         ->  exp(p * log(x * x)), as kernels for vectors have both
    stack_channels       CONCATENATION of single channels     ->  one after the other, and one transposition; what
                         scales and shifts each of them       ->  does so before, where it is one number

Only what is computed in between changes; where the pattern is another one, nothing does.
"""

import numpy as np
from ai_edge_litert.schema_py_generated import OperatorT

from pipeline.teachers.folding.graph import Graph


def power_by_logarithm(graph: Graph) -> int:
    """Rewrite the constant powers of squares; returns how many. 0 ** p stays 0: exp(p * -inf) is."""
    powers = [operator for operator in graph.operators if _of_a_square(graph, operator)]
    for power in powers:
        square, exponent = int(power.inputs[0]), graph.weights(power.inputs[1])
        shape = graph.shape(square)
        logarithm = graph.insert(power, "LOG", [square], shape)
        scaled = graph.insert(power, "MUL", [logarithm, graph.add_constant(exponent)], shape)
        graph.replace([power], graph.insert(power, "EXP", [scaled], shape))
    return len(powers)


def _of_a_square(graph: Graph, power: OperatorT) -> bool:
    if graph.kind(power) != "POW":
        return False
    square, exponent = graph.maker(power.inputs[0]), graph.constant(power.inputs[1])
    if square is None or graph.kind(square) != "MUL" or exponent is None:
        return False
    return square.inputs[0] == square.inputs[1] and exponent.size == 1 and bool(exponent.ravel()[0] > 0)


def stack_channels(graph: Graph) -> int:
    """Rewrite the joins of single channels, and what scales and shifts them; returns how many."""
    joins = [operator for operator in graph.operators if joins_channels(graph, operator)]
    for join in joins:
        chain = affine_after(graph, join)
        channels = [int(tensor) for tensor in join.inputs]
        for operator in chain:
            values = np.broadcast_to(graph.weights(operator.inputs[1]), (len(channels),))
            channels = [
                graph.insert(join, graph.kind(operator), [each, graph.add_constant(value.copy())], graph.shape(each))
                for each, value in zip(channels, values[:, None], strict=True)
            ]
        _, height, width, _ = graph.shape(channels[0])
        stacked = graph.insert(join, "CONCATENATION", channels, (len(channels), height, width, 1), axis=0)
        order = graph.add_constant(np.array([3, 1, 2, 0], np.int32))
        image = graph.insert(join, "TRANSPOSE", [stacked, order], (1, height, width, len(channels)))
        graph.replace([join, *chain], image)
    return len(joins)


def joins_channels(graph: Graph, operator: OperatorT) -> bool:
    """Whether it puts images of one channel, (1, height, width, 1), side by side."""
    if graph.kind(operator) != "CONCATENATION" or operator.builtinOptions.fusedActivationFunction:
        return False
    shapes = [graph.shape(tensor) for tensor in operator.inputs]
    single = len(shapes) > 1 and len(shapes[0]) == 4 and shapes[0][0] == shapes[0][3] == 1
    return single and len(set(shapes)) == 1 and operator.builtinOptions.axis in (3, -1)


def affine_after(graph: Graph, join: OperatorT) -> list[OperatorT]:
    """The MULs and ADDs of a constant a channel that follow, each read by nobody but the next."""
    chain, count = [join], len(join.inputs)
    while graph.has_one_reader(chain[-1].outputs[0]) and (readers := graph.readers(chain[-1].outputs[0])):
        reader = readers[0]
        values = graph.constant(reader.inputs[1]) if len(reader.inputs) == 2 else None
        plain = graph.kind(reader) in ("MUL", "ADD") and not reader.builtinOptions.fusedActivationFunction
        if not plain or values is None or values.shape not in ((), (1,), (count,)):
            break
        chain.append(reader)
    return chain[1:]
