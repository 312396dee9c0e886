"""From a trained model to a version that TensorFlow Serving serves: draft, gate, publish."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tasks import UserError
from tasks.shapes.task import Purpose, Task

# What a stock server on a CPU could not run, or what would make an answer depend on luck or state.
_REFUSED = ("PyFunc", "EagerPyFunc", "Cudnn", "Random", "Assign", "ReadFile", "WriteFile", "Xla")


def draft(task: Task, model: keras.Model, folder: Path) -> Path:
    """Writes the network of `model`, rebuilt for serving, as a SavedModel into `folder`.

    The name of the folder must be no number, for Serving looks at those.

    Args:
        task: The task that the model was built by.
        model: The trained model.
        folder: Where to; what is there of a draft that was never finished goes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    network = rebuilt(task, model, "serving")
    module = tf.Module()
    module.task = task  # owns the tables and the assets
    module.variables_of_network = [weight.value for weight in network.weights]
    tf.saved_model.save(
        module,
        str(folder),
        signatures=task.signatures(network),
        options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )
    gate(folder)
    return folder


def rebuilt(task: Task, model: keras.Model, purpose: Purpose) -> keras.Model:
    """The network of `model` for another purpose, with the weights of the same paths."""
    network = task.build(purpose)
    trained = {weight.path: weight for weight in model.weights}
    for weight in network.weights:
        weight.assign(trained[weight.path])
    return network


def gate(folder: Path) -> None:
    """Holds a SavedModel against what a stock TensorFlow Serving asks of it.

    Raises:
        ValueError: It would not serve; the text names the signature and the op.
    """
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0]
    for name, signature in graph.signature_def.items():
        if name.startswith("__"):  # TensorFlow's own, which initialises tables
            continue
        for key, tensor in (*signature.inputs.items(), *signature.outputs.items()):
            dims = [dim.size for dim in tensor.tensor_shape.dim]
            dtype = tf.as_dtype(tensor.dtype)
            if not dims or dims[0] != -1:
                raise ValueError(f"{name}: {key} must begin with a batch dimension, got {dims}.")
            if dtype not in (tf.string, tf.float32, tf.int32, tf.int64, tf.bool):
                raise ValueError(f"{name}: {key} is {dtype.name}, which clients cannot read.")
        for node in _reachable(graph, signature):
            if any(part in node.op for part in _REFUSED) or "GPU" in node.device:
                raise ValueError(
                    f"{name}: {node.name} is a {node.op} on {node.device or 'any device'}, "
                    "which a stock server on a CPU does not run."
                )
    for function in graph.graph_def.library.function:
        if function.attr["_XlaMustCompile"].b:
            raise ValueError(f"{function.signature.name} must be compiled by XLA, which is off.")


def _reachable(graph, signature) -> Iterator:
    """The nodes that a signature runs, those of the functions it calls included."""
    top = {node.name: node for node in graph.graph_def.node}
    bodies = {f.signature.name: f.node_def for f in graph.graph_def.library.function}
    names, met, nodes = [t.name.split(":")[0] for t in signature.outputs.values()], set(), []
    while names:
        name = names.pop()
        if name not in met:
            met.add(name)
            nodes.append(top[name])
            names += [i.lstrip("^").split(":")[0] for i in top[name].input]
    called = set()
    while nodes:
        node = nodes.pop()
        yield node
        for value in node.attr.values():
            for function in (value.func.name, *(f.name for f in value.list.func)):
                if function in bodies and function not in called:
                    called.add(function)
                    nodes += bodies[function]


def versions(folder: Path) -> list[int]:
    """The published versions in a task's folder, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit() and p.is_dir())


def find(saved_models: Path, task: str, version: int | None = None) -> Path:
    """Returns the folder of a published version, the newest if none is named.

    Raises:
        UserError: There is none.
    """
    folder = saved_models / task
    known = versions(folder)
    if not known:
        raise UserError(f"{folder} holds no version; run: python -m app.train {task}")
    if version is not None and version not in known:
        raise UserError(f"--version must be one of {known} in {folder}, got {version}.")
    return folder / str(known[-1] if version is None else version)


def publish(draft: Path) -> Path:
    """Makes a draft the newest version, and returns its folder.

    Serving loads any folder whose name is a number as soon as it appears, so a
    model gets its number in one rename, whole and judged, or not at all.
    """
    for path in (*draft.rglob("*"), draft):
        _sync(path)
    while True:
        version = draft.parent / str(max(versions(draft.parent), default=0) + 1)
        try:
            draft.rename(version)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue  # another run took that number
        _sync(draft.parent)
        return version


def _sync(path):
    """Has the disk hold what was written, so that a power cut leaves no half version."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
