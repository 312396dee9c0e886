"""A network as an ONNX model, from ids on.

A cell becomes an operator LSTM, GRU or RNN of ONNX where one computes the same for all of its
steps, and otherwise a loop, `Scan`, whose body is one step of its definition.

Shapes: B batch, T time, D input features, H units, N directions.
"""

from collections.abc import Mapping, Sequence

import onnx
import tensorflow as tf
from onnx import helper

from app.exporting import onnx_ops
from app.exporting.network_graph import RECURRENCE, NetworkGraph, Recurrence
from app.exporting.onnx_ops import OPSET, Converter, Graph
from models.cells import convert

_IR_VERSION = 10  # of the file format: the newest that runtimes of 2024 read


def convert_network(network: NetworkGraph, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Returns a network as an ONNX model.

    Args:
        network: The traced network.
        metadata: Entries of the file's metadata.

    Raises:
        UserError: An op of the network has no counterpart.
    """
    graph = Graph()
    inputs, names = [], {}
    for tensor in network.function.inputs[: len(network.function.structured_input_signature[0])]:
        name = tensor.op.name
        names[tensor.name] = name
        inputs.append(_value_info(name, tensor))
    recurrences = _Recurrences(graph, network.recurrences)
    converter = Converter(graph, network.function, names, {RECURRENCE: recurrences.convert})
    values = converter.convert(list(network.outputs.values()))
    outputs = []
    for (name, tensor), value in zip(network.outputs.items(), values, strict=True):
        graph.nodes.append(helper.make_node("Identity", [value], [name]))
        outputs.append(_value_info(name, tensor))
    graph_proto = helper.make_graph(graph.nodes, "network", inputs, outputs, graph.initializers)
    model = helper.make_model(
        graph_proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="app.export",
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def _value_info(name: str, tensor: tf.Tensor) -> onnx.ValueInfoProto:
    axes = ("batch", "time", "characters")
    shape = [axes[i] if size is None else size for i, size in enumerate(tensor.shape)]
    return helper.make_tensor_value_info(name, onnx_ops.onnx_type(tensor.dtype), shape)


class _Recurrences:
    """Converts the placeholder ops of recurrences."""

    def __init__(self, graph: Graph, recurrences: Mapping[str, Recurrence]):
        self._graph, self._recurrences = graph, recurrences

    def convert(self, op: tf.Operation, inputs: Sequence[str]) -> list[str]:
        recurrence = self._recurrences[op.name]
        x, *rest = inputs
        mask = rest.pop(0) if recurrence.has_mask else None
        operator = _operator(recurrence)
        if operator is not None:
            return self._native(recurrence, operator, x, mask, rest)
        results, both = [], len(recurrence.cells) == 2
        per_cell = len(rest) // len(recurrence.cells)
        for number, cell in enumerate(recurrence.cells):
            states = rest[number * per_cell : (number + 1) * per_cell]
            reverse = both and number == 1
            results += self._scan(cell, op.inputs[0].shape[-1], x, mask, states, reverse)
        return results

    def _scan(self, cell, features, x, mask, states, reverse):
        """Adds a loop over a cell's step; returns its output at each step and its final states."""
        step = tf.function(
            lambda x, *states: cell.step(x, list(states), cell.inference_noise()), autograph=False
        )
        function = step.get_concrete_function(
            tf.TensorSpec([None, features], tf.float32),
            *(tf.TensorSpec([None, size], tf.float32) for size in cell.state_size),
        )
        body = Graph(self._graph)
        x_tensor, *state_tensors = function.inputs[: 1 + len(states)]
        old = [self._graph.new_name() for _ in states]
        x_name, mask_name = self._graph.new_name(), self._graph.new_name()
        names = {x_tensor.name: x_name}
        names |= {tensor.name: name for tensor, name in zip(state_tensors, old, strict=True)}
        new = Converter(body, function, names).convert(list(function.outputs[: len(states)]))
        if mask is not None:
            valid = body.add1("Unsqueeze", mask_name, body.integers(-1))
            new = [body.add1("Where", valid, a, b) for a, b in zip(new, old, strict=True)]
        # Values of a body must be its own, where a state may be an input of the step.
        new = [body.add1("Identity", name) for name in new]
        output = body.add1("Identity", new[0])
        float32, boolean = onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
        ins = [
            helper.make_tensor_value_info(name, float32, ["batch", size])
            for name, size in zip(old, cell.state_size, strict=True)
        ]
        ins.append(helper.make_tensor_value_info(x_name, float32, ["batch", features]))
        scanned = [x]
        if mask is not None:
            ins.append(helper.make_tensor_value_info(mask_name, boolean, ["batch"]))
            scanned.append(mask)
        sizes = [*cell.state_size, cell.output_size]
        outs = [
            helper.make_tensor_value_info(name, float32, ["batch", size])
            for name, size in zip([*new, output], sizes, strict=True)
        ]
        direction = int(reverse)
        *finals, outputs = self._graph.add(
            "Scan",
            [*states, *scanned],
            len(states) + 1,
            body=helper.make_graph(body.nodes, self._graph.new_name(), ins, outs),
            num_scan_inputs=len(scanned),
            scan_input_axes=[1] * len(scanned),
            scan_input_directions=[direction] * len(scanned),
            scan_output_axes=[1],
            scan_output_directions=[direction],
        )
        return [outputs, *finals]

    def _native(self, recurrence, operator, x, mask, states):
        """Adds an operator of ONNX; a mask must be that of padding, which follows valid steps."""
        graph, both = self._graph, len(recurrence.cells) == 2
        weights = {name: graph.constant(array) for name, array in operator.weights.items()}
        lengths = ""
        if mask is not None:
            lengths = graph.add1(
                "ReduceSum", graph.cast(mask, tf.int32), graph.integers(1), keepdims=0
            )
        per_cell = len(recurrence.cells[0].state_size)
        initial = []
        for index in range(per_cell):
            parts = [
                graph.add1("Unsqueeze", states[index + start], graph.integers(0))
                for start in range(0, len(states), per_cell)
            ]
            initial.append(graph.add1("Concat", *parts, axis=0))
        time_first = graph.add1("Transpose", x, perm=[1, 0, 2])
        inputs = [time_first, weights["W"], weights["R"], weights["B"], lengths, *initial]
        if "P" in weights:
            inputs.append(weights["P"])
        attributes = dict(operator.arguments)
        outputs, *finals = graph.add(operator.kind, inputs, 1 + per_cell, **attributes)
        count = len(recurrence.cells)
        by_direction = graph.add("Split", [outputs], count, axis=1, num_outputs=count)
        finals = [graph.add("Split", [final], count, axis=0, num_outputs=count) for final in finals]
        results = []
        for number, output in enumerate(by_direction):
            output = graph.add1("Squeeze", output, graph.integers(1))
            output = graph.add1("Transpose", output, perm=[1, 0, 2])
            last = [graph.add1("Squeeze", final[number], graph.integers(0)) for final in finals]
            if mask is not None and not (both and number):
                # After the last valid step ONNX has zeros, and this project the last output.
                valid = graph.add1("Unsqueeze", mask, graph.integers(-1))
                repeated = graph.add1("Unsqueeze", last[0], graph.integers(1))
                output = graph.add1("Where", valid, output, repeated)
            results += [output, *last]
        return results


def _operator(recurrence: Recurrence) -> convert.ExportedWeights | None:
    """Returns the operator that computes a recurrence, with its weights; None if there is none."""
    layer = recurrence.layer
    if layer.direction == "backward" or layer.go_backwards:
        return None  # whose padding comes first
    try:
        return convert.to_onnx(layer)[recurrence.number]
    except ValueError:
        return None
