"""A model's embedding: what its last layer makes the scores of, made an output of the file beside them.

Nothing that is computed changes: a tensor that was there is given out too.
"""

import math

from pipeline.teachers.folding.graph import NO_TENSOR, Graph
from pipeline.teachers.folding.rewrites import SAME_NUMBERS
from softlabels.errors import TeacherError

_ACTIVATIONS = {*SAME_NUMBERS, "LOGISTIC", "SOFTMAX", "DEQUANTIZE"}  # what may follow a last layer


def with_embedding(content: bytes) -> bytes:
    """The same TFLite model with two outputs: its scores, and the input of its last layer, a row a window.

    Args:
      content: a model of one output; one batch size.
    Raises: TeacherError: it does not end in a layer with constant weights on a row of float32 numbers.
    """
    graph = Graph(content)
    embedding = last_input(graph)
    graph.outputs.append(embedding)
    return graph.to_bytes()


def last_input(graph: Graph) -> int:
    """The tensor that the last layer reads. Raises: TeacherError: there is none like that."""
    layer = graph.maker(graph.outputs[0])
    while layer is not None and graph.kind(layer) in _ACTIVATIONS:
        layer = graph.maker(layer.inputs[0])
    if layer is not None and graph.kind(layer) == "FULLY_CONNECTED" and graph.constant(layer.inputs[1]) is not None:
        found = int(layer.inputs[0])
        dtype, shape = graph.dtype(found), graph.shape(found)
        if found != NO_TENSOR and dtype is not None and dtype.kind == "f" and math.prod(shape) == max(shape, default=0):
            return found
    raise TeacherError("no embedding: expected a last FULLY_CONNECTED layer with constant weights on (1, n) float32")
