"""Networks as ONNX models: every cell against ONNX Runtime, and what is not converted."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.exporting import network_graph
from models import CELLS, GatedRNN
from tasks.core.errors import UserError

onnx = pytest.importorskip("onnx", reason="requirements-onnx.txt is not installed")
runtime = pytest.importorskip("onnxruntime", reason="requirements-onnx.txt is not installed")
onnx_ops = pytest.importorskip("app.exporting.onnx_ops")
onnx_model = pytest.importorskip("app.exporting.onnx_model")

FEW = ["lstm", "gru", "rnn", "lstm_peephole", "janet", "mgu", "mut1"]
# Operators that compute the same; every other cell is a loop.
OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN", "lstm_peephole": "LSTM"}


def run(function, network, inputs):
    """The outputs of a function by ONNX Runtime, and the kinds of its recurrences."""
    graph = network_graph.trace(network, function)
    model = onnx_model.convert_network(graph, {"model": "test"})
    session = runtime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    kinds = {node.op_type for node in model.graph.node} & {"LSTM", "GRU", "RNN", "Scan"}
    return dict(zip(names, session.run(names, inputs), strict=True)), kinds


def function_of(network):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, 3], tf.float32, "x"),
            tf.TensorSpec([None, None], tf.bool, "mask"),
        ]
    )
    def function(x, mask):
        outputs = network(x, mask=mask)
        return {"first": outputs[0], "state": outputs[1]}

    return function


def check_cell(cell, direction):
    keras.utils.set_random_seed(1)
    layer = GatedRNN(4, cell, direction=direction, return_sequences=True, return_state=True)
    layer.build((None, None, 3))
    random = np.random.default_rng(2)
    for weight in layer.weights:
        weight.assign(random.normal(scale=0.5, size=weight.shape))
    x = random.normal(size=(3, 5, 3)).astype(np.float32)
    mask = np.arange(5) < np.array([[5], [3], [0]])
    expected = [np.asarray(value) for value in layer(x, mask=mask)]
    outputs, kinds = run(function_of(layer), layer, {"x": x, "mask": mask})
    for ours, theirs in zip(outputs.values(), expected, strict=False):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)
    return kinds


@pytest.mark.parametrize("cell", FEW)
def test_cells_compute_what_the_layer_does(cell):
    assert check_cell(cell, "both") == {OPERATORS.get(cell, "Scan")}


def test_a_layer_that_reads_backward_is_a_loop():
    assert check_cell("lstm", "backward") == {"Scan"}
    assert check_cell("lstm", "forward") == {"LSTM"}


@pytest.mark.slow
@pytest.mark.parametrize("cell", sorted(set(CELLS) - set(FEW)))
def test_all_other_cells_compute_what_the_layer_does(cell):
    check_cell(cell, "both")


SHAPE = tf.TensorSpec([None, None], tf.float32, "x")
OPS = {
    "slices": lambda x: x[:, 1:-1][:, ::-1],
    "last": lambda x: x[:, -1],
    "new axis": lambda x: x[:, tf.newaxis, ..., 0:2],
    "dynamic": lambda x: x[: tf.shape(x)[0] - 1],
    "row": lambda x: x[tf.shape(x)[0] - 1],
    "pad": lambda x: tf.pad(x, [[1, 0], [0, tf.shape(x)[1]]], constant_values=2.0),
    "any": lambda x: tf.cast(tf.reduce_any(x > 0.5, 1), tf.int32),
    "all": lambda x: tf.cast(tf.reduce_all(x > 0.5, 0, keepdims=True), tf.int32),
    "floor": lambda x: tf.cast(x * 10, tf.int32) % -3,
    "top": lambda x: tf.math.top_k(x, 2).indices,
    "cumsum": lambda x: tf.cumsum(x, 1, exclusive=True, reverse=True),
    "split": lambda x: tf.split(x, [1, 3], 1)[1] * tf.unstack(x, 4, 1)[2][:, None],
    "gather": lambda x: tf.gather(x, tf.argmax(x, 1, tf.int32), batch_dims=1),
    "matmul": lambda x: tf.matmul(x, x, transpose_a=True),
    "unlike": lambda x: tf.where(x == x[:1], tf.zeros_like(x), tf.math.rsqrt(x + 1)),
}


@pytest.mark.parametrize("name", OPS)
def test_an_op_computes_what_tensorflow_does(name):
    function = tf.function(lambda x: OPS[name](tf.ensure_shape(x, [None, 4])), [SHAPE])
    concrete = function.get_concrete_function()
    x = np.random.default_rng(3).uniform(-0.9, 1, size=(3, 4)).astype(np.float32)
    graph = onnx_ops.Graph()
    special = {"EnsureShape": lambda op, inputs: inputs}
    converter = onnx_ops.Converter(graph, concrete, {concrete.inputs[0].name: "x"}, special)
    (value,) = converter.convert(concrete.outputs)
    output = onnx.helper.make_tensor_value_info(
        value, onnx_ops.onnx_type(concrete.outputs[0].dtype), None
    )
    info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 4])
    proto = onnx.helper.make_graph(graph.nodes, "op", [info], [output], graph.initializers)
    opset = onnx.helper.make_opsetid("", onnx_ops.OPSET)
    model = onnx.helper.make_model(proto, opset_imports=[opset], ir_version=10)
    (result,) = runtime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(result, OPS[name](tf.constant(x)).numpy(), rtol=1e-6)


def test_an_op_without_a_counterpart_is_named():
    function = tf.function(lambda x: tf.linalg.det(x), [SHAPE])
    concrete = function.get_concrete_function()
    converter = onnx_ops.Converter(onnx_ops.Graph(), concrete, {concrete.inputs[0].name: "x"})
    with pytest.raises(UserError, match="the op MatrixDeterminant of the network"):
        converter.convert(concrete.outputs)
