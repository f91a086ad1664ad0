"""A model's embedding: what its last layer makes the scores of, made an output of the file beside them.

Nothing that is computed changes: a tensor that was there is given out too. The file is not taken apart for it, as by
`graph`, which takes longer than to load a model: a list of outputs that is longer by one is put after its end.
"""

import struct

from ai_edge_litert import schema_py_generated as schema

from pipeline.teachers.folding.graph import KINDS
from pipeline.teachers.folding.rewrites import SAME_NUMBERS
from softlabels.errors import TeacherError

_ACTIVATIONS = {*SAME_NUMBERS, "LOGISTIC", "SOFTMAX"}  # what may follow a last layer
_OUTPUTS = 8  # of a graph: where its table of fields says where the field with its outputs is


def with_embedding(content: bytes) -> bytes:
    """The same TFLite model with two outputs: its scores, and the input of its last layer, a row a window.

    Args:
      content: a model of one graph and one output; one batch size.
    Raises: TeacherError: it does not end in a layer with constant weights on a row of float32 numbers.
    """
    graph = schema.Model.GetRootAs(content).Subgraphs(0)
    outputs = [*graph.OutputsAsNumpy().tolist(), last_input(content)]
    field = graph._tab.Pos + graph._tab.Offset(_OUTPUTS)  # it holds how far after it the list is
    padding = -len(content) % 4
    distance = struct.pack("<I", len(content) + padding - field)
    longer = struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs)
    return b"".join([content[:field], distance, content[field + 4 :], bytes(padding), longer])


def last_input(content: bytes) -> int:
    """The tensor that the last layer reads. Raises: TeacherError: there is none like that."""
    model = schema.Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    operators = map(graph.Operators, range(graph.OperatorsLength()))
    maker = {int(operator.Outputs(0)): operator for operator in operators if operator.OutputsLength() == 1}
    layer = maker.get(graph.Outputs(0))
    while layer is not None and _kind(model, layer) in _ACTIVATIONS:
        layer = maker.get(layer.Inputs(0))
    if layer is not None and _kind(model, layer) == "FULLY_CONNECTED":
        row, weights = graph.Tensors(layer.Inputs(0)), graph.Tensors(layer.Inputs(1))
        width = row.Shape(row.ShapeLength() - 1) if row.ShapeLength() else 0
        is_row = row.Type() == schema.TensorType.FLOAT32 and row.ShapeAsNumpy().prod() == width > 0
        if is_row and model.Buffers(weights.Buffer()).DataLength():
            return int(layer.Inputs(0))
    raise TeacherError("no embedding: expected a last FULLY_CONNECTED layer with constant weights on (1, n) float32")


def _kind(model: schema.Model, operator: schema.Operator) -> str:
    code = model.OperatorCodes(operator.OpcodeIndex())
    return KINDS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]  # the old field ends at 127
