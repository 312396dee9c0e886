"""Checks that stock TensorFlow Serving can run a SavedModel.

The server has the CPU kernels of TensorFlow's core ops and nothing else: no Python, no XLA, no
GPU. A response must not depend on other requests, so a graph keeps no state, and draws no random
numbers but those that a seed in the request determines. Clients can read only the dtypes in
`_READABLE`.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_READABLE = (tf.string, tf.float32, tf.int32, tf.int64, tf.bool)
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_GENERATED = re.compile(r"(args|output|inputs)(_\d+)+")  # names that Keras and TensorFlow generate
_FILES = ("saved_model.pb", "variables/variables.index", "fingerprint.pb")

# Ops of TensorFlow's core that the tasks need; stock servers have a CPU kernel for each.
_FLOW = """
    Assert Const Identity IdentityN If NoOp PartitionedCall Placeholder ReadVariableOp
    StatefulPartitionedCall StatelessIf StatelessWhile TensorListFromTensor
    TensorListGetItem TensorListReserve TensorListSetItem TensorListStack VarHandleOp While
"""
_NUMBERS = """
    Add AddV2 All Any ArgMax BatchMatMulV2 BiasAdd Bitcast BitwiseAnd BroadcastTo Cast ConcatV2
    Cumsum DenseBincount EnsureShape Equal Exp ExpandDims Fill FloorDiv FloorMod GatherNd GatherV2
    Greater GreaterEqual IsFinite Less LessEqual Log LogSoftmax LogicalAnd LogicalNot LogicalOr
    LowerBound MatMul Max Maximum Mean Min Minimum Mul Neg NotEqual OneHot OnesLike Pack Pad PadV2
    Pow Prod Range RealDiv Relu Reshape ReverseV2 Rsqrt ScatterNd SegmentMin SelectV2 Shape Sigmoid
    Size Slice Softmax Softplus Split SplitV Sqrt Square Squeeze StopGradient StridedSlice Sub Sum
    Tanh TensorScatterUpdate Tile TopKV2 Transpose Unique UniqueV2 Unpack UnsortedSegmentSum Where
    ZerosLike
"""
# An LSTM over all steps in one op; activations and structures of matrices of cells.
_RECURRENT = "BlockLSTMV2 Elu Erf MatrixDiagV3 MatrixSolve"
_STRINGS = """
    HashTableV2 LookupTableFindV2 RaggedGather RaggedRange RaggedTensorToTensor ReduceJoin
    StaticRegexFullMatch StaticRegexReplace StringJoin StringLength StringLower StringSplitV2
    StringUpper Substr UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeTranscode
"""
# The state of a stream is a string: base64 of the bytes of numbers, with a checksum.
_STREAMS = "DecodeBase64 EncodeBase64 StringJoin StringToHashBucketStrong"
# Random numbers that are a function of the seed in a request.
_SAMPLING = "StatelessRandomGetKeyCounter StatelessRandomUniformV2"
_CONVOLUTIONS = """
    AvgPool Conv2D DepthwiseConv2dNative Erfc MaxPool Relu6 SquaredDifference
"""
# Decoding fails for bytes that are not an image. A data set inside the graph skips such errors,
# so that other rows of the batch are not affected. It reads tensors, never files.
_IMAGES = """
    BatchDatasetV2 ConcatenateDataset DatasetToSingleElement DecodeJpeg DecodePng DecodeRaw
    ExtractJpegShape FilterDataset IgnoreErrorsDataset ParallelMapDatasetV2 Round
    ScaleAndTranslate TensorDataset TensorSliceDataset
"""
_GROUPS = (_FLOW, _NUMBERS, _RECURRENT, _STRINGS, _STREAMS, _SAMPLING, _CONVOLUTIONS, _IMAGES)
OPS = frozenset(op for group in _GROUPS for op in group.split())
# Ops that initialise tables and weights once, before the first request.
INITIALIZATION_OPS = frozenset(("AssignVariableOp", "InitializeTableFromTextFileV2"))


class IncompatibleModel(ValueError):
    """A SavedModel that stock TensorFlow Serving cannot run; the message says which part."""


def check(folder: Path) -> None:
    """Checks a SavedModel: its files, signatures, graph and assets.

    Raises:
        IncompatibleModel: A server could not run it, or clients could not use it.
    """
    for name in _FILES:
        if not (folder / name).is_file():
            raise IncompatibleModel(f"{folder} is not a complete SavedModel: it has no {name}.")
    saved_model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = saved_model.meta_graphs[0]
    if "serving_default" not in graph.signature_def:
        raise IncompatibleModel(
            f"serving_default must be a signature, got {sorted(graph.signature_def)}."
        )
    for name, signature in graph.signature_def.items():
        if not _is_internal(name):
            _check_signature(name, signature)
    check_graph(graph)
    _check_assets(folder, graph)


def check_graph(graph: MetaGraphDef) -> None:
    """Checks everything that the signatures of a graph run; their names do not matter.

    Raises:
        IncompatibleModel: A server could not run an op or a function, or find a file.
    """
    for name, signature in graph.signature_def.items():
        allowed = OPS | INITIALIZATION_OPS if _is_internal(name) else OPS
        for node in _reachable(graph, signature):
            if node.op not in allowed:
                raise IncompatibleModel(
                    f"{name}: {node.name}: op {node.op} is not in the list of ops supported by "
                    "stock TensorFlow Serving (OPS in app/serving/compatibility.py)."
                )
            _check_placement(name, node)
    for function in graph.graph_def.library.function:
        name = function.signature.name
        if function.attr["_XlaMustCompile"].b:
            raise IncompatibleModel(f"{name} must be compiled by XLA, which is off in servers.")
        _check_constants(name, function.node_def)
    _check_constants("the graph", graph.graph_def.node)


def _is_internal(name: str) -> bool:
    """Returns whether a signature is TensorFlow's own, which initialises tables."""
    return name.startswith("__")


def _check_signature(name: str, signature: SignatureDef) -> None:
    if not _NAME.fullmatch(name):
        raise IncompatibleModel(
            f"signature {name!r}: its name must be lower_snake_case, like serving_default."
        )
    for key, tensor in (*signature.inputs.items(), *signature.outputs.items()):
        dims = [dim.size for dim in tensor.tensor_shape.dim]
        dtype = tf.as_dtype(tensor.dtype)
        if _GENERATED.fullmatch(key):
            raise IncompatibleModel(
                f"{name}: {key!r} is an auto-generated name; give inputs and outputs descriptive "
                "names."
            )
        if not _NAME.fullmatch(key):
            raise IncompatibleModel(
                f"{name}: {key!r}: the name of an input or output must be lower_snake_case."
            )
        if tensor.tensor_shape.unknown_rank or not dims or dims[0] != -1:
            raise IncompatibleModel(f"{name}: {key} must begin with a batch dimension, got {dims}.")
        if dtype not in _READABLE:
            readable = ", ".join(kind.name for kind in _READABLE)
            raise IncompatibleModel(
                f"{name}: {key} must have a dtype that clients can read, one of {readable}, got "
                f"{dtype.name}."
            )


def _check_placement(signature: str, node: NodeDef) -> None:
    if "GPU" in node.device or "TPU" in node.device:
        raise IncompatibleModel(
            f"{signature}: {node.name}: op {node.op} must run on {node.device}, but a server may "
            "have only CPUs."
        )
    if node.attr["_XlaMustCompile"].b:
        raise IncompatibleModel(
            f"{signature}: {node.name} must be compiled by XLA, which is off in servers."
        )


def _check_constants(owner: str, nodes: Iterable[NodeDef]) -> None:
    """Rejects constants that are paths of this machine, which no server would find."""
    for node in nodes:
        if node.op != "Const" or node.attr["dtype"].type != tf.string.as_datatype_enum:
            continue
        for value in node.attr["value"].tensor.string_val:
            path = Path(value.decode("utf-8", "replace"))
            if path.is_absolute() and len(path.parts) > 2 and _exists(path):
                raise IncompatibleModel(
                    f"{owner}: constant {node.name} is a path of this machine, {path}."
                )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a long text or one with a NUL, rather than a path
        return False


def _check_assets(folder: Path, graph: MetaGraphDef) -> None:
    for asset in graph.asset_file_def:
        path = Path(asset.filename)
        if path.is_absolute() or ".." in path.parts or not (folder / "assets" / path).is_file():
            raise IncompatibleModel(
                f"the asset {asset.filename} must be a file in {folder / 'assets'}."
            )


def _reachable(graph: MetaGraphDef, signature: SignatureDef) -> Iterator[NodeDef]:
    """Yields the nodes that a signature runs, including those of the functions it calls."""
    nodes = _ancestors(graph, signature)
    bodies = {
        function.signature.name: function.node_def for function in graph.graph_def.library.function
    }
    visited = set()
    while nodes:
        node = nodes.pop()
        yield node
        for value in node.attr.values():
            for name in (value.func.name, *(function.name for function in value.list.func)):
                if name in bodies and name not in visited:
                    visited.add(name)
                    nodes += bodies[name]


def _ancestors(graph: MetaGraphDef, signature: SignatureDef) -> list[NodeDef]:
    """Returns the top-level nodes that the outputs of a signature depend on."""
    top_level = {node.name: node for node in graph.graph_def.node}
    names = [tensor.name.split(":")[0] for tensor in signature.outputs.values()]
    visited, nodes = set(), []
    while names:
        name = names.pop()
        if name not in visited:
            visited.add(name)
            nodes.append(top_level[name])
            names += [source.lstrip("^").split(":")[0] for source in top_level[name].input]
    return nodes
