"""A TFLite file open for editing: what makes a tensor, who reads it, what the file holds for it; and back to bytes."""

import hashlib
import itertools

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from softlabels.errors import TeacherError

NO_TENSOR = -1  # where an operator leaves an input out
KINDS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
OPTIONS = ("padding", "strideH", "strideW", "axis", "keepDims", "fusedActivationFunction")  # that rewrites give
DTYPES: dict[int, np.dtype] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.COMPLEX64: np.dtype("<c8"),
    schema.TensorType.INT32: np.dtype("<i4"),
    schema.TensorType.INT64: np.dtype("<i8"),
}


class Graph:
    """Tensors are numbered as in the file; operators are the schema's own objects, in the order they run in.

    Raises: TeacherError: the model has several graphs.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self._model = schema.ModelT.InitFromPackedBuf(content)
        if len(self._model.subgraphs) != 1:
            raise TeacherError(f"nothing to fold: expected a model of one graph, got {len(self._model.subgraphs)}")
        self._main = self._model.subgraphs[0]
        self.operators: list[schema.OperatorT] = self._main.operators
        self.inputs: list[int] = list(self._main.inputs)
        self.outputs: list[int] = list(self._main.outputs)

    @property
    def tensors(self) -> range:
        return range(len(self._main.tensors))

    def kind(self, operator: schema.OperatorT) -> str:
        """Such as "RESHAPE"."""
        code = self._model.operatorCodes[operator.opcodeIndex]
        return KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)]  # the old field ends at 127

    def dtype(self, tensor: int) -> np.dtype | None:
        """None where it is no type that is edited here."""
        return DTYPES.get(self._main.tensors[tensor].type)

    def shape(self, tensor: int) -> tuple[int, ...]:
        shape = self._main.tensors[tensor].shape
        return tuple(map(int, shape)) if shape is not None else ()

    def set_shape(self, tensor: int, shape: tuple[int, ...]) -> None:
        self._main.tensors[tensor].shape = np.array(shape, np.int32)
        self._main.tensors[tensor].shapeSignature = None

    def constant(self, tensor: int) -> np.ndarray | None:
        """What the file holds for a tensor; None where it is computed, given, empty or of another type."""
        data = self._model.buffers[self._main.tensors[tensor].buffer].data
        if data is None or not len(data) or self.dtype(tensor) is None:
            return None
        return np.frombuffer(data.tobytes(), self.dtype(tensor)).reshape(self.shape(tensor))

    def weights(self, tensor: int) -> np.ndarray:
        """The constant of a tensor that is known to have one."""
        value = self.constant(tensor)
        if value is None:
            raise TeacherError(f"cannot be folded: expected tensor {tensor} to be a constant")
        return value

    def set_constant(self, tensor: int, value: np.ndarray) -> None:
        """Let the file hold this value for a tensor that an operator computed."""
        self._main.tensors[tensor].buffer = self._add_buffer(value.astype(self.dtype(tensor)))
        self.set_shape(tensor, value.shape)

    def replace_input(self, operator: schema.OperatorT, position: int, value: np.ndarray) -> None:
        """Give an operator a constant of its own; others may read the one that it had."""
        old = self._main.tensors[operator.inputs[position]]
        new = schema.TensorT()
        new.type, new.name = old.type, old.name
        new.buffer = self._add_buffer(value.astype(DTYPES[old.type]))
        self._main.tensors.append(new)
        self.set_shape(len(self._main.tensors) - 1, value.shape)
        self.redirect(operator, position, len(self._main.tensors) - 1)

    def add_constant(self, value: np.ndarray) -> int:
        """A tensor of its own that the file holds; float32 or int32."""
        kind = next(number for number, dtype in DTYPES.items() if dtype == value.dtype)
        tensor = self._add_tensor(kind, value.shape)
        self._main.tensors[tensor].buffer = self._add_buffer(value)
        return tensor

    def insert(
        self, before: schema.OperatorT, kind: str, inputs: list[int], shape: tuple[int, ...], **options: object
    ) -> int:
        """The tensor that a new operator makes: of this shape and of its first input's type.

        Args:
          before: the operator that it runs before.
          options: fields of the schema's options of that kind.
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self._opcode(kind)
        name = "Reducer" if kind == "MEAN" else "".join(part.title() for part in kind.split("_"))
        name += "Options"
        if hasattr(schema.BuiltinOptions, name):
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = getattr(schema, name + "T")()
            vars(operator.builtinOptions).update(options)
        tensor = self._add_tensor(self._main.tensors[inputs[0]].type, shape)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([tensor], np.int32)
        self.operators.insert(self.operators.index(before), operator)
        return tensor

    def replace(self, operators: list[schema.OperatorT], tensor: int) -> None:
        """Drop operators that follow each other, and let who makes `tensor` make what the last of them made."""
        maker = self.maker(tensor)
        if maker is None:
            raise TeacherError(f"cannot be folded: expected an operator to make tensor {tensor}")
        maker.outputs = operators[-1].outputs
        self.operators = [operator for operator in self.operators if operator not in operators]

    def edit(self, operator: schema.OperatorT, **options: int) -> None:
        """Change options of an operator that is there."""
        vars(operator.builtinOptions).update(options)

    def _opcode(self, kind: str) -> int:
        number = vars(schema.BuiltinOperator)[kind]
        for index, code in enumerate(self._model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == number:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1

    def _add_tensor(self, kind: int, shape: tuple[int, ...]) -> int:
        new = schema.TensorT()
        new.type, new.buffer = kind, 0
        self._main.tensors.append(new)
        self.set_shape(len(self._main.tensors) - 1, shape)
        return len(self._main.tensors) - 1

    def redirect(self, operator: schema.OperatorT, position: int, tensor: int) -> None:
        """Let an operator read another tensor."""
        operator.inputs = np.array(operator.inputs, np.int32)
        operator.inputs[position] = tensor

    def _add_buffer(self, value: np.ndarray) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def maker(self, tensor: int) -> schema.OperatorT | None:
        return next((operator for operator in self.operators if tensor in operator.outputs), None)

    def readers(self, tensor: int) -> list[schema.OperatorT]:
        return [operator for operator in self.operators if tensor in operator.inputs]

    def has_one_reader(self, tensor: int) -> bool:
        """Whether one operator reads it, once, and it is no output of the model."""
        read = itertools.chain(self.outputs, *(operator.inputs for operator in self.operators))
        return sum(1 for other in read if other == tensor) == 1

    def to_bytes(self) -> bytes:
        """The model as a file, without operators and constants that nobody reads."""
        self.drop_unread()
        self._main.operators = self.operators
        self._model.buffers = [AlignedBuffer(buffer) for buffer in self._model.buffers]
        builder = flatbuffers.Builder(len(self.content) + 2**23)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def digest(self, options: tuple[str, ...] = ()) -> str:
        """sha256 of the operators, tensors and constants that are read.

        Not of the packed file: versions of flatbuffers lay it out differently. The options of the operators are left
        out, as versions of the schema add to them, but for those that are named: `OPTIONS` where rewrites edit them.
        """
        digest, read = hashlib.sha256(), self.drop_unread()
        for operator in self.operators:
            numbers = [list(map(int, tensors)) for tensors in (operator.inputs, operator.outputs)]
            digest.update(repr((self.kind(operator), numbers)).encode())
            chosen = [(name, int(getattr(operator.builtinOptions, name, 0))) for name in options]
            digest.update(repr(chosen).encode() if chosen else b"")
        for number in sorted(read - {NO_TENSOR}):
            tensor = self._main.tensors[number]
            digest.update(repr((int(number), tensor.type, self.shape(number))).encode())
            data = self._model.buffers[tensor.buffer].data
            digest.update(b"" if data is None else data)
        return digest.hexdigest()

    def drop_unread(self) -> set[int]:
        """Drop operators whose results nobody reads, and what the file holds for nobody; returns the tensors read."""
        read = set(self.outputs)
        kept = []
        for operator in reversed(self.operators):
            if read.intersection(operator.outputs):
                kept.append(operator)
                read.update(operator.inputs)
        self.operators = kept[::-1]
        held = {self._main.tensors[tensor].buffer for tensor in read - {NO_TENSOR}}
        for number in {tensor.buffer for tensor in self._main.tensors} - held:
            self._model.buffers[number].data = None  # the numbers stay, so that nothing has to be renumbered
        return read


class AlignedBuffer(schema.BufferT):
    """A buffer on 16 bytes, as the schema says (force_align: 16) and the code generated from it forgets."""

    def __init__(self, buffer: schema.BufferT) -> None:
        super().__init__(data=buffer.data, offset=buffer.offset, size=buffer.size)

    def Pack(self, builder: flatbuffers.Builder) -> int:
        if self.data is not None:
            builder.Prep(16, len(self.data))
        return super().Pack(builder)
