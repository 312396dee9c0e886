"""Formats of exported networks: how each is written, and how it is run to compare its predictions.

A runner computes the outputs of a network, by name, from its inputs, NumPy arrays by name.
"""

import contextlib
import importlib.util
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import models
from app.exporting import network_graph
from tasks.core.errors import UserError
from tasks.core.task import Task

Runner = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
_UNSUPPORTED = re.compile(r"'(tf\.\w+)' op is neither a custom op nor a flex op")


def write_onnx(task: Task, network: keras.Model, path: Path, metadata: Mapping[str, str]) -> Runner:
    """Writes a network as an ONNX model.

    Args:
        task: The task that built the network.
        network: The network, built for serving.
        path: File to write.
        metadata: Entries of the file's metadata.

    Returns:
        What runs the file, with ONNX Runtime.

    Raises:
        UserError: The task has no function of ids, an op has no counterpart, or a package is
            not installed.
    """
    signature = task.id_signature(network)  # no package helps a task without one
    for package in ("onnx", "onnxruntime"):
        if not importlib.util.find_spec(package):
            raise UserError(
                f"{package} is not installed; run: pip install -r requirements-onnx.txt"
            )
    import onnxruntime

    from app.exporting import onnx_model

    graph = network_graph.trace(network, signature)
    path.write_bytes(onnx_model.convert_network(graph, metadata).SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs):
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


def write_litert(task: Task, network: keras.Model, path: Path, length: int) -> Runner:
    """Writes a network as a LiteRT model of one text of a fixed number of words.

    Args:
        task: The task that built the network.
        network: The network, built for serving.
        path: File to write.
        length: Number of words; shorter texts are padded.

    Returns:
        What runs the file, text by text.

    Raises:
        UserError: The task has no function of ids, or the converter does not support an op.
    """
    signature = task.id_signature(network)
    if len(signature.input_signature) > 1:
        raise UserError(
            "LiteRT has no op for the distinct words of a text, whose characters are read once; "
            "train with --characters 0, or export to ONNX."
        )
    specs = [
        tf.TensorSpec([1, length, *spec.shape[2:]], spec.dtype, spec.name)
        for spec in signature.input_signature
    ]
    function = tf.function(signature.python_function, input_signature=specs, autograph=False)
    with network_graph.unrolled(network):
        concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], network)
    # Weights become constants here. Converted as a SavedModel, the temperature of a tagger would
    # remain a variable, which nothing in the file initialises.
    converter.experimental_lower_to_saved_model = False
    try:
        content = converter.convert()
    except Exception as error:  # the converter's own class is not public
        ops = sorted(set(_UNSUPPORTED.findall(str(error))))
        if not ops:
            raise
        raise UserError(f"LiteRT: its converter does not support {', '.join(ops)}.") from error
    path.write_bytes(content)
    interpreter = _interpreter(content)
    interpreter.allocate_tensors()
    (place,) = (detail["index"] for detail in interpreter.get_input_details())
    outputs = [detail["index"] for detail in interpreter.get_output_details()]
    names = sorted(concrete.structured_outputs)  # the order of its flat outputs

    def run(inputs):
        rows = []
        for row in inputs["ids"]:
            interpreter.set_tensor(place, row[None])
            interpreter.invoke()
            rows.append([interpreter.get_tensor(index) for index in outputs])
        columns = zip(*rows, strict=True)
        return dict(zip(names, map(np.concatenate, columns), strict=True))

    return run


def _interpreter(content: bytes):
    with contextlib.suppress(ImportError):
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(model_content=content)
    with warnings.catch_warnings():  # TensorFlow's own is deprecated in favour of that package
        warnings.simplefilter("ignore")
        return tf.lite.Interpreter(model_content=content)


def copy_keras(task: Task, version: Path, path: Path) -> Runner | None:
    """Copies the `.keras` file of a version.

    Returns:
        What runs the copy from ids on; None for a task without a function of ids.
    """
    shutil.copyfile(version / "assets.extra" / "model.keras", path)
    network = models.load(path)  # with Keras's safe mode
    try:
        function = task.id_signature(network)
    except UserError:
        return None
    names = [spec.name for spec in function.input_signature]

    def run(inputs):
        outputs = function(*(tf.constant(inputs[name]) for name in names))
        return {name: value.numpy() for name, value in outputs.items()}

    return run
