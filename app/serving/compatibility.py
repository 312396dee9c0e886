"""The gate: what a SavedModel must be for a stock TensorFlow Serving to serve it.

The server has the ops of TensorFlow's core for a CPU and nothing else: no Python, no XLA,
no GPU. Nobody else's answer may depend on a request, so a graph neither draws numbers nor
keeps anything, and clients can read no type but those of `_READABLE`.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_READABLE = (tf.string, tf.float32, tf.int32, tf.int64, tf.bool)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_UNNAMED = re.compile(r"(args|output|inputs)(_\d+)+")  # what Keras and TensorFlow call the nameless
_PARTS = ("saved_model.pb", "variables/variables.index", "fingerprint.pb")

# Ops of TensorFlow's core, all with a kernel for CPUs in stock servers, all that our tasks need.
_FLOW = """
    Assert Const Identity IdentityN If NoOp PartitionedCall Placeholder ReadVariableOp
    StatefulPartitionedCall StatelessIf StatelessWhile TensorListFromTensor
    TensorListGetItem TensorListReserve TensorListSetItem TensorListStack VarHandleOp While
"""
_NUMBERS = """
    Add AddV2 All Any ArgMax BatchMatMulV2 BiasAdd Bitcast BitwiseAnd BroadcastTo Cast ConcatV2
    Cumsum DenseBincount EnsureShape Equal Exp ExpandDims Fill FloorDiv FloorMod GatherNd GatherV2
    Greater GreaterEqual IsFinite Less LessEqual Log LogSoftmax LogicalAnd LogicalNot LogicalOr
    MatMul Max Maximum Mean Min Minimum Mul Neg NotEqual OneHot OnesLike Pack Pad PadV2 Pow
    Prod Range RealDiv Relu Reshape ReverseV2 Rsqrt ScatterNd SegmentMin SelectV2 Shape
    Sigmoid Size Slice Softmax Split Sqrt Square Squeeze StopGradient StridedSlice Sub Sum
    Tanh TensorScatterUpdate Tile TopKV2 Transpose Unique UniqueV2 Unpack Where ZerosLike
"""
_RECURRENT = "BlockLSTMV2"  # an LSTM over all steps at once
_STRINGS = """
    HashTableV2 LookupTableFindV2 RaggedGather RaggedRange RaggedTensorToTensor ReduceJoin
    StaticRegexFullMatch StaticRegexReplace StringLength StringLower StringSplitV2 Substr
    UnicodeDecode UnicodeEncode UnicodeTranscode
"""
_CONVOLUTIONS = """
    AvgPool Conv2D DepthwiseConv2dNative Erfc MaxPool Relu6 SquaredDifference
"""
# Decoding raises for what is no image; a data set within the graph passes over such errors,
# so that bytes that are none harm nobody else's answer. It reads tensors, never files.
_IMAGES = """
    BatchDatasetV2 ConcatenateDataset DatasetToSingleElement DecodeJpeg DecodePng DecodeRaw
    ExtractJpegShape FilterDataset IgnoreErrorsDataset ParallelMapDatasetV2 Round
    ScaleAndTranslate TensorDataset TensorSliceDataset
"""
_GROUPS = (_FLOW, _NUMBERS, _RECURRENT, _STRINGS, _CONVOLUTIONS, _IMAGES)
OPS = frozenset(op for group in _GROUPS for op in group.split())
# What sets up tables and weights, once, before the first answer.
BEGINNING = frozenset(("AssignVariableOp", "InitializeTableFromTextFileV2"))


class IncompatibleModel(ValueError):
    """A SavedModel would not serve; the text names what in it and why."""


def check(folder: Path) -> None:
    """Holds a SavedModel against all of the contract.

    Raises:
        IncompatibleModel: It breaks a part of it.
    """
    for part in _PARTS:
        if not (folder / part).is_file():
            raise IncompatibleModel(f"{folder} has no {part}: it is not a whole SavedModel.")
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0]
    if "serving_default" not in graph.signature_def:
        raise IncompatibleModel(
            f"serving_default must be a signature, got {sorted(graph.signature_def)}."
        )
    for name, signature in graph.signature_def.items():
        if not _is_own(name):
            _check_signature(name, signature)
    check_graph(graph)
    _check_assets(folder, graph)


def check_graph(graph: MetaGraphDef) -> None:
    """Holds what a graph runs against what a server can run, whatever its signatures are called.

    Raises:
        IncompatibleModel: A part of it does not run there.
    """
    for name, signature in graph.signature_def.items():
        allowed = OPS | BEGINNING if _is_own(name) else OPS
        for node in _reachable(graph, signature):
            if node.op not in allowed:
                raise IncompatibleModel(
                    f"{name}: {node.name} is a {node.op}, which is not among the ops that are "
                    "known to run on any server (OPS in app/serving/compatibility.py)."
                )
            _check_device(name, node)
    for function in graph.graph_def.library.function:
        where = function.signature.name
        if function.attr["_XlaMustCompile"].b:
            raise IncompatibleModel(
                f"{where} must be compiled by XLA, which servers have switched off."
            )
        _check_constants(where, function.node_def)
    _check_constants("the graph", graph.graph_def.node)


def _is_own(name: str) -> bool:
    """Whether a signature is TensorFlow's own, which initialises tables."""
    return name.startswith("__")


def _check_signature(name: str, signature: SignatureDef) -> None:
    if not _NAME.fullmatch(name):
        raise IncompatibleModel(f"{name}: a signature's name must be like serving_default.")
    for key, tensor in (*signature.inputs.items(), *signature.outputs.items()):
        dims = [dim.size for dim in tensor.tensor_shape.dim]
        dtype = tf.as_dtype(tensor.dtype)
        if not _NAME.fullmatch(key) or _UNNAMED.fullmatch(key):
            raise IncompatibleModel(f"{name}: {key} is no name that tells what it is.")
        if tensor.tensor_shape.unknown_rank or not dims or dims[0] != -1:
            raise IncompatibleModel(f"{name}: {key} must begin with a batch dimension, got {dims}.")
        if dtype not in _READABLE:
            raise IncompatibleModel(f"{name}: {key} is {dtype.name}, which clients cannot read.")


def _check_device(name: str, node) -> None:
    if "GPU" in node.device or "TPU" in node.device:
        raise IncompatibleModel(f"{name}: {node.name}, a {node.op}, must run on {node.device}.")
    if node.attr["_XlaMustCompile"].b:
        raise IncompatibleModel(
            f"{name}: {node.name} must be compiled by XLA, which servers have off."
        )


def _check_constants(where: str, nodes: Iterable) -> None:
    """Refuses a constant that is a path of this machine, where no server would find it."""
    for node in nodes:
        if node.op != "Const" or node.attr["dtype"].type != tf.string.as_datatype_enum:
            continue
        for value in node.attr["value"].tensor.string_val:
            path = Path(value.decode("utf-8", "replace"))
            if path.is_absolute() and len(path.parts) > 2 and _is_there(path):
                raise IncompatibleModel(f"{where}: {node.name} is the path {path} of this machine.")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no path after all, but a long text or one with a NUL
        return False


def _check_assets(folder: Path, graph: MetaGraphDef) -> None:
    for asset in graph.asset_file_def:
        path = Path(asset.filename)
        if path.is_absolute() or ".." in path.parts or not (folder / "assets" / path).is_file():
            raise IncompatibleModel(
                f"the asset {asset.filename} must be a file in {folder / 'assets'}."
            )


def _reachable(graph: MetaGraphDef, signature: SignatureDef) -> Iterator:
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
