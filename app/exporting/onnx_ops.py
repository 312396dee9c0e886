"""Conversion of TensorFlow's ops to ONNX, one op at a time.

Only ops without state are converted; a loop is a recurrence (`app.exporting.onnx_model`).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from tasks.core.errors import UserError

OPSET = 18
_MAX, _MIN = np.iinfo(np.int64).max, np.iinfo(np.int64).min
# Ops of the same inputs and meaning.
_SAME = {
    "AddV2": "Add", "Add": "Add", "Sub": "Sub", "Mul": "Mul", "RealDiv": "Div", "Pow": "Pow",
    "Maximum": "Max", "Minimum": "Min", "Neg": "Neg", "Abs": "Abs", "Exp": "Exp", "Log": "Log",
    "Sqrt": "Sqrt", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "Relu": "Relu", "Elu": "Elu",
    "Erf": "Erf", "Softplus": "Softplus", "Sign": "Sign", "BiasAdd": "Add", "FloorMod": "Mod",
    "Less": "Less", "LessEqual": "LessOrEqual", "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual", "Equal": "Equal", "LogicalAnd": "And", "LogicalOr": "Or",
    "LogicalNot": "Not", "SelectV2": "Where", "Identity": "Identity", "StopGradient": "Identity",
    "Reciprocal": "Reciprocal",
}  # fmt: skip
_REDUCTIONS = {
    "Sum": "ReduceSum", "Mean": "ReduceMean", "Max": "ReduceMax", "Min": "ReduceMin",
    "Prod": "ReduceProd", "All": "ReduceMin", "Any": "ReduceMax",
}  # fmt: skip


class Graph:
    """Nodes of an ONNX graph, or of the body of a loop in one.

    Args:
        outer: The graph around a body, which has its constants; None for none.
    """

    def __init__(self, outer: "Graph | None" = None):
        self.nodes: list[onnx.NodeProto] = []
        self._numbers = outer._numbers if outer else itertools.count()
        self._constants = outer._constants if outer else {}

    @property
    def initializers(self) -> list[TensorProto]:
        """The constants that nodes read, those of bodies included."""
        used, pending = set(), [*self.nodes]
        while pending:
            node = pending.pop()
            used.update(node.input)
            for attribute in node.attribute:
                pending += attribute.g.node
        constants = self._constants.values()
        return [numpy_helper.from_array(array, name) for name, array in constants if name in used]

    def new_name(self) -> str:
        """Returns a name that no other value of the graph and its bodies has."""
        return f"v{next(self._numbers)}"

    def add(
        self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any
    ) -> list[str]:
        """Adds a node, and returns the names of its outputs."""
        names = [self.new_name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def add1(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output, and returns the name of the output."""
        return self.add(kind, inputs, **attributes)[0]

    def constant(self, values: object, dtype: object = None) -> str:
        """Returns the name of a constant."""
        array = np.ascontiguousarray(np.asarray(values, dtype)).reshape(np.shape(values))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = (self.new_name(), array)
        return self._constants[key][0]

    def integers(self, *values: int) -> str:
        """Returns the name of a constant vector of int64, as ONNX has shapes and axes."""
        return self.constant(values, np.int64)

    def cast(self, value: str, dtype: tf.DType) -> str:
        """Returns a value in another dtype."""
        return self.add1("Cast", value, to=onnx_type(dtype))


def onnx_type(dtype: tf.DType) -> int:
    """Returns ONNX's number of a dtype."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype.as_numpy_dtype))


class Converter:
    """Converts a function of TensorFlow into nodes.

    Args:
        graph: Graph to which nodes are added.
        function: The traced function.
        inputs: Name in the ONNX graph of each input of the function, by the name of its tensor.
        special: Converters of ops that are not converted here, by type: of the op and the names
            of its inputs to those of its outputs.
    """

    def __init__(
        self,
        graph: Graph,
        function: tf.types.experimental.ConcreteFunction,
        inputs: Mapping[str, str],
        special: Mapping[str, Callable[[tf.Operation, list[str]], list[str]]] | None = None,
    ):
        self._graph, self._special = graph, special or {}
        self._names = dict(inputs)
        self._handles = {}
        for outer, inner in function.graph.captures:
            if inner.dtype == tf.resource:
                self._handles[inner.name] = outer
            elif inner.dtype != tf.string:
                self._names[inner.name] = graph.constant(outer.numpy())

    def convert(self, tensors: Sequence[tf.Tensor]) -> list[str]:
        """Adds the nodes that tensors depend on, and returns the names of their values.

        Raises:
            UserError: An op cannot be converted.
        """
        needed, pending = set(), [tensor.op for tensor in tensors]
        while pending:
            op = pending.pop()
            if op.name not in needed:
                needed.add(op.name)
                pending += [tensor.op for tensor in op.inputs]
        for op in tensors[0].graph.get_operations():  # in the order of their dependence
            if op.name in needed:
                self._convert_op(op)
        return [self._names[tensor.name] for tensor in tensors]

    def _convert_op(self, op):
        if all(t.name in self._names or t.dtype == tf.resource for t in op.outputs):
            return
        values = [tf.get_static_value(tensor) for tensor in op.outputs]
        if op.type not in self._special and all(value is not None for value in values):
            outputs = [self._graph.constant(value) for value in values]
        elif op.type == "ReadVariableOp":
            handle, dtype = self._handles[op.inputs[0].name], op.outputs[0].dtype
            value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
            outputs = [self._graph.constant(value.numpy())]
        else:
            inputs = [self._names[tensor.name] for tensor in op.inputs]
            outputs = self._nodes(op, inputs)
        outputs = [outputs] if isinstance(outputs, str) else outputs
        for tensor, name in zip(op.outputs, outputs, strict=False):
            self._names[tensor.name] = name

    def _nodes(self, op, inputs):
        if op.type in self._special:
            return self._special[op.type](op, inputs)
        if op.type in _SAME:
            return self._graph.add1(_SAME[op.type], *inputs)
        if op.type in _REDUCTIONS:
            return self._reduce(op, inputs)
        method = getattr(self, f"_op_{op.type}", None)
        if method is None:
            raise UserError(f"ONNX: the op {op.type} of the network is not converted ({op.name}).")
        return method(op, inputs)

    def _static(self, op, index):
        """Returns the value of an input that must be a constant."""
        value = tf.get_static_value(op.inputs[index])
        if value is None:
            raise UserError(f"ONNX: {op.type} is only converted with constants ({op.name}).")
        return value

    def _shape(self, name):
        """Returns a shape, an int32 vector of TensorFlow, as ONNX has it."""
        return self._graph.cast(name, tf.int64)

    def _reduce(self, op, inputs):
        graph, value = self._graph, inputs[0]
        axes = np.atleast_1d(self._static(op, 1)).astype(np.int64)
        is_bool = op.inputs[0].dtype == tf.bool
        value = graph.cast(value, tf.int32) if is_bool else value
        keep = int(op.get_attr("keep_dims"))
        # Without axes nothing is reduced, where ONNX would reduce all by default.
        value = graph.add1(
            _REDUCTIONS[op.type], value, graph.constant(axes), keepdims=keep, noop_with_empty_axes=1
        )
        return graph.cast(value, tf.bool) if is_bool else value

    def _op_NotEqual(self, op, inputs):
        return self._graph.add1("Not", self._graph.add1("Equal", *inputs))

    def _op_Relu6(self, op, inputs):
        bounds = [self._graph.constant(value, np.float32) for value in (0, 6)]
        return self._graph.add1("Clip", *inputs, *bounds)

    def _op_Square(self, op, inputs):
        return self._graph.add1("Mul", inputs[0], inputs[0])

    def _op_SquaredDifference(self, op, inputs):
        return self._op_Square(op, [self._graph.add1("Sub", *inputs)])

    def _op_Rsqrt(self, op, inputs):
        return self._graph.add1("Reciprocal", self._graph.add1("Sqrt", *inputs))

    def _op_Softmax(self, op, inputs):
        return self._graph.add1("Softmax", *inputs, axis=-1)

    def _op_LogSoftmax(self, op, inputs):
        return self._graph.add1("LogSoftmax", *inputs, axis=-1)

    def _op_MatMul(self, op, inputs):
        return self._product(inputs, op.get_attr("transpose_a"), op.get_attr("transpose_b"), 2, 2)

    def _op_BatchMatMulV2(self, op, inputs):
        ranks = [tensor.shape.rank for tensor in op.inputs]
        return self._product(inputs, op.get_attr("adj_x"), op.get_attr("adj_y"), *ranks)

    def _product(self, inputs, first, second, *ranks):
        names = []
        for name, transposed, rank in zip(inputs, (first, second), ranks, strict=True):
            order = [*range(rank - 2), rank - 1, rank - 2]
            names.append(self._graph.add1("Transpose", name, perm=order) if transposed else name)
        return self._graph.add1("MatMul", *names)

    def _op_Cast(self, op, inputs):
        return self._graph.cast(inputs[0], op.outputs[0].dtype)

    def _op_Shape(self, op, inputs):
        return self._graph.cast(self._graph.add1("Shape", *inputs), op.outputs[0].dtype)

    def _op_Size(self, op, inputs):
        return self._graph.cast(self._graph.add1("Size", *inputs), op.outputs[0].dtype)

    def _op_Reshape(self, op, inputs):
        return self._graph.add1("Reshape", inputs[0], self._shape(inputs[1]), allowzero=1)

    def _op_BroadcastTo(self, op, inputs):
        return self._graph.add1("Expand", inputs[0], self._shape(inputs[1]))

    def _op_Fill(self, op, inputs):
        return self._graph.add1("Expand", inputs[1], self._shape(inputs[0]))

    def _op_Tile(self, op, inputs):
        return self._graph.add1("Tile", inputs[0], self._shape(inputs[1]))

    def _op_ZerosLike(self, op, inputs):
        zero = self._graph.constant(np.zeros((), op.outputs[0].dtype.as_numpy_dtype))
        return self._graph.add1("Expand", zero, self._graph.add1("Shape", *inputs))

    def _op_OnesLike(self, op, inputs):
        one = self._graph.constant(np.ones((), op.outputs[0].dtype.as_numpy_dtype))
        return self._graph.add1("Expand", one, self._graph.add1("Shape", *inputs))

    def _op_Range(self, op, inputs):
        return self._graph.add1("Range", *inputs)

    def _op_Transpose(self, op, inputs):
        return self._graph.add1("Transpose", inputs[0], perm=self._static(op, 1).tolist())

    def _op_ExpandDims(self, op, inputs):
        axis = self._graph.integers(int(self._static(op, 1)))
        return self._graph.add1("Unsqueeze", inputs[0], axis)

    def _op_Squeeze(self, op, inputs):
        axes = op.get_attr("squeeze_dims")
        return self._graph.add1("Squeeze", inputs[0], *([self._graph.integers(*axes)] * bool(axes)))

    def _op_Pack(self, op, inputs):
        axis = self._graph.integers(op.get_attr("axis"))
        parts = [self._graph.add1("Unsqueeze", name, axis) for name in inputs]
        rank = op.outputs[0].shape.rank
        return self._graph.add1("Concat", *parts, axis=op.get_attr("axis") % rank)

    def _op_Unpack(self, op, inputs):
        axis, count = op.get_attr("axis"), len(op.outputs)
        parts = self._graph.add("Split", inputs, count, axis=axis, num_outputs=count)
        return [self._graph.add1("Squeeze", part, self._graph.integers(axis)) for part in parts]

    def _op_ConcatV2(self, op, inputs):
        *parts, _ = inputs
        return self._graph.add1("Concat", *parts, axis=int(self._static(op, len(parts))))

    def _op_Split(self, op, inputs):
        axis, count = int(self._static(op, 0)), len(op.outputs)
        return self._graph.add("Split", inputs[1:], count, axis=axis, num_outputs=count)

    def _op_SplitV(self, op, inputs):
        sizes = self._shape(inputs[1])
        axis = int(self._static(op, 2))
        return self._graph.add("Split", [inputs[0], sizes], len(op.outputs), axis=axis)

    def _op_Pad(self, op, inputs):
        return self._pad(inputs, np.zeros((), op.outputs[0].dtype.as_numpy_dtype))

    def _op_PadV2(self, op, inputs):
        return self._pad(inputs, self._static(op, 2))

    def _pad(self, inputs, value):
        graph = self._graph
        widths = graph.add1("Transpose", self._shape(inputs[1]), perm=[1, 0])
        widths = graph.add1("Reshape", widths, graph.integers(-1))
        return graph.add1("Pad", inputs[0], widths, graph.constant(value))

    def _op_Cumsum(self, op, inputs):
        attributes = {name: int(op.get_attr(name)) for name in ("exclusive", "reverse")}
        return self._graph.add1("CumSum", *inputs, **attributes)

    def _op_ReverseV2(self, op, inputs):
        axes = np.atleast_1d(self._static(op, 1)).tolist()
        ends = [self._graph.integers(*[value] * len(axes)) for value in (-1, _MIN)]
        return self._graph.add1(
            "Slice",
            inputs[0],
            *ends,
            self._graph.integers(*axes),
            self._graph.integers(*[-1] * len(axes)),
        )

    def _op_ArgMax(self, op, inputs):
        index = self._graph.add1("ArgMax", inputs[0], axis=int(self._static(op, 1)), keepdims=0)
        return self._graph.cast(index, op.outputs[0].dtype)

    def _op_TopKV2(self, op, inputs):
        count = self._graph.add1("Reshape", self._shape(inputs[1]), self._graph.integers(1))
        values, indices = self._graph.add("TopK", [inputs[0], count], 2, axis=-1)
        return [values, self._graph.cast(indices, tf.int32)]

    def _op_UniqueV2(self, op, inputs):
        (axis,) = self._static(op, 1).tolist()
        value = self._graph.cast(inputs[0], tf.int64)  # ONNX Runtime has no kernel for int32
        rows, _, inverse, _ = self._graph.add("Unique", [value], 4, axis=axis)
        return [
            self._graph.cast(rows, op.outputs[0].dtype),
            self._graph.cast(inverse, op.outputs[1].dtype),
        ]

    def _op_GatherV2(self, op, inputs):
        graph, axis, batch = self._graph, int(self._static(op, 2)), op.get_attr("batch_dims")
        if not batch:
            return graph.add1("Gather", *inputs[:2], axis=axis)
        rank, index_rank = op.inputs[0].shape.rank, op.inputs[1].shape.rank
        if not batch == axis == rank - 1 or index_rank not in (rank - 1, rank):
            raise UserError(f"ONNX: GatherV2 is not converted with these axes ({op.name}).")
        if index_rank == rank:
            return graph.add1("GatherElements", *inputs[:2], axis=axis)
        index = graph.add1("Unsqueeze", inputs[1], graph.integers(-1))
        value = graph.add1("GatherElements", inputs[0], index, axis=axis)
        return graph.add1("Squeeze", value, graph.integers(-1))

    def _op_StridedSlice(self, op, inputs):
        graph, value = self._graph, inputs[0]
        masks = {
            name: op.get_attr(f"{name}_mask")
            for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
        }
        strides = self._static(op, 3).tolist()
        begin, end = (tf.get_static_value(op.inputs[index], partial=True) for index in (1, 2))
        count, rank = len(strides), op.inputs[0].shape.rank
        axis, axes, starts, ends, steps, shrunk, new = 0, [], [], [], [], [], []
        result_axis = 0

        def bit(name, index):
            return masks[name] >> index & 1

        for index in range(count):
            if bit("ellipsis", index):
                rest = sum(not bit("new_axis", later) for later in range(index + 1, count))
                result_axis += rank - rest - axis
                axis = rank - rest
                continue
            if bit("new_axis", index):
                new.append(result_axis)
                result_axis += 1
                continue
            is_shrunk, step = bit("shrink_axis", index), strides[index]
            start, stop = self._bound(inputs[1], begin, index), self._bound(inputs[2], end, index)
            if is_shrunk:
                if isinstance(start, str):
                    stop = graph.add1("Add", start, graph.integers(1))
                else:
                    stop = start + 1 if start != -1 else _MAX
                step = 1
                shrunk.append(axis)
            else:
                start = (0 if step > 0 else _MAX) if bit("begin", index) else start
                stop = (_MAX if step > 0 else _MIN) if bit("end", index) else stop
                result_axis += 1
            for values, item in ((axes, axis), (starts, start), (ends, stop), (steps, step)):
                values.append(item)
            axis += 1
        if axes:
            bounds = [self._bounds(values) for values in (starts, ends)]
            value = graph.add1(
                "Slice", value, *bounds, graph.integers(*axes), graph.integers(*steps)
            )
        if shrunk:
            value = graph.add1("Squeeze", value, graph.integers(*shrunk))
        if new:
            value = graph.add1("Unsqueeze", value, graph.integers(*new))
        return value

    def _bound(self, name, static, index):
        """Returns a bound of a slice: a number, or the name of a vector of one number."""
        value = None if static is None else np.asarray(static, object).reshape(-1)[index]
        if value is not None:
            return int(value)
        item = self._graph.add1("Gather", name, self._graph.integers(index))
        return self._graph.cast(item, tf.int64)

    def _bounds(self, values):
        if not any(isinstance(value, str) for value in values):
            return self._graph.integers(*values)
        parts = [v if isinstance(v, str) else self._graph.integers(v) for v in values]
        return self._graph.add1("Concat", *parts, axis=0)
