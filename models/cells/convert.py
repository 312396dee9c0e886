"""Conversion of weights from and to other libraries, by names of gates, in NumPy.

The libraries are Keras, PyTorch, ONNX, Haste and xLSTM.

    exported = convert.to_pytorch(layer)  # `layer` is a built `GatedRNN`
    module = getattr(torch.nn, exported.kind)(**exported.arguments)
    module.load_state_dict({name: torch.tensor(w) for name, w in exported.weights.items()})

    convert.from_pytorch(layer, {name: w.numpy() for name, w in module.state_dict().items()})

A feature that a library does not have is folded into its weights if that is exact: a gate that
is pinned to p gets zero weights and the bias logit(p), a blind gate gets zeros, and the input
gate of "coupled" gets the negated weights of the forget gate, because
sigmoid(-z) = 1 - sigmoid(z). Weights from a library must be of that form. A conversion that
would lose anything, in either direction, raises a ValueError.

Shapes: D input features of a layer, H units, P units of a projected h, G maps (gates and
candidate) of the library, N directions.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .equations import CANDIDATE
from .recurrent import GatedRNN


class ExportedWeights(NamedTuple):
    """Weights of a layer or operator of another library.

    Attributes:
        kind: Name of its class or operator, such as "LSTM".
        arguments: Arguments of its constructor, or attributes of the operator.
        weights: NumPy arrays in the order of `get_weights()` (Keras), or by name.
    """

    kind: str
    arguments: Mapping[str, Any]
    weights: Sequence[np.ndarray] | Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class LayerFormat:
    """Format of an equation in a library.

    Attributes:
        kind: Name of its class or operator.
        order: Order of the maps in its weights.
        activations: Arguments that select activations, by (input, output) activation.
        arguments: Further arguments.
        peepholes: Order of the gates in its peephole weight; empty if it has no peepholes.
        projects: Whether it can project h.
        structure: `CellSpec.recurrent_structure` of its matrices.
        has_heads: Whether its recurrent matrices can have heads.
    """

    kind: str
    order: tuple[str, ...]
    activations: Mapping[tuple[str, str], Mapping]
    arguments: Mapping = dataclasses.field(default_factory=dict)
    peepholes: tuple[str, ...] = ()
    projects: bool = False
    structure: str = "full"
    has_heads: bool = False


@dataclasses.dataclass(frozen=True)
class Library:
    """A library of recurrent layers.

    Attributes:
        name: Its name.
        formats: Formats by equation.
        directions: Arguments that select a direction, by direction.
    """

    name: str
    formats: Mapping[str, LayerFormat]
    directions: Mapping[str, Mapping]


# Activations are keyed by (input, output); the latter is "tanh" if an equation has none.
_KERAS_ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "identity": "linear"}
_KERAS_INPUT_ACTIVATION = {
    (a, "tanh"): {"activation": name} for a, name in _KERAS_ACTIVATIONS.items()
}
_KERAS_LSTM = LayerFormat(
    "LSTM",
    ("input", "forget", CANDIDATE, "output"),
    {(a, a): {"activation": name} for a, name in _KERAS_ACTIVATIONS.items()},  # a single argument
)
_UPDATE_RESET = ("update", "reset", CANDIDATE)
KERAS = Library(
    "Keras",
    {
        "rnn": LayerFormat("SimpleRNN", (CANDIDATE,), _KERAS_INPUT_ACTIVATION),
        "lstm": _KERAS_LSTM,
        "coupled": _KERAS_LSTM,
        "gru": LayerFormat("GRU", _UPDATE_RESET, _KERAS_INPUT_ACTIVATION, {"reset_after": True}),
        "gru_before": LayerFormat(
            "GRU", _UPDATE_RESET, _KERAS_INPUT_ACTIVATION, {"reset_after": False}
        ),
    },
    {"forward": {"go_backwards": False}, "backward": {"go_backwards": True}, "both": {}},
)

_TANH = {("tanh", "tanh"): {}}
_PYTORCH_LSTM = LayerFormat("LSTM", ("input", "forget", CANDIDATE, "output"), _TANH, projects=True)
_NONLINEARITIES = {(a, "tanh"): {"nonlinearity": a} for a in ("tanh", "relu")}
PYTORCH = Library(
    "PyTorch",
    {
        "rnn": LayerFormat("RNN", (CANDIDATE,), _NONLINEARITIES),
        "lstm": _PYTORCH_LSTM,
        "coupled": _PYTORCH_LSTM,
        "gru": LayerFormat("GRU", ("reset", "update", CANDIDATE), _TANH),
    },
    {"forward": {"bidirectional": False}, "both": {"bidirectional": True}},
)


def _onnx_functions(*names):
    """Attributes that select the activations of an operator, for one direction."""
    # Affine is alpha x + beta. ONNX Runtime sets both to 0 if they are not specified.
    count = names.count("Affine")
    scales = {"activation_alpha": [1.0] * count, "activation_beta": [0.0] * count}
    return {"activations": list(names), **(scales if count else {})}


_ONNX_FUNCTION_NAMES = {"tanh": "Tanh", "relu": "Relu", "identity": "Affine"}
_ONNX_RNN = {(a, "tanh"): _onnx_functions(name) for a, name in _ONNX_FUNCTION_NAMES.items()}
_ONNX_GRU = {
    (a, "tanh"): _onnx_functions("Sigmoid", name) for a, name in _ONNX_FUNCTION_NAMES.items()
}
_INPUT_OUTPUT_FORGET = ("input", "output", "forget")
_ONNX_LSTM = LayerFormat(
    "LSTM",
    (*_INPUT_OUTPUT_FORGET, CANDIDATE),
    {
        (a, b): _onnx_functions("Sigmoid", _ONNX_FUNCTION_NAMES[a], _ONNX_FUNCTION_NAMES[b])
        for a in _ONNX_FUNCTION_NAMES
        for b in _ONNX_FUNCTION_NAMES
    },
    peepholes=_INPUT_OUTPUT_FORGET,
)
ONNX = Library(
    "ONNX",
    {
        "rnn": LayerFormat("RNN", (CANDIDATE,), _ONNX_RNN),
        "lstm": _ONNX_LSTM,
        "coupled": _ONNX_LSTM,
        "gru": LayerFormat("GRU", _UPDATE_RESET, _ONNX_GRU, {"linear_before_reset": 1}),
        "gru_before": LayerFormat("GRU", _UPDATE_RESET, _ONNX_GRU, {"linear_before_reset": 0}),
    },
    {
        "forward": {"direction": "forward"},
        "backward": {"direction": "reverse"},
        "both": {"direction": "bidirectional"},
    },
)
_HASTE_LSTM = LayerFormat("LSTM", ("input", CANDIDATE, "forget", "output"), _TANH)
HASTE = Library(
    "Haste",
    {
        "rnn": LayerFormat("IndRNN", (CANDIDATE,), _TANH, structure="diagonal"),
        "lstm": _HASTE_LSTM,
        "coupled": _HASTE_LSTM,
        "gru": LayerFormat("GRU", _UPDATE_RESET, _TANH),
    },
    {"forward": {}},
)
XLSTM = Library(
    "xLSTM",
    {
        "slstm": LayerFormat(
            "sLSTMLayer", ("input", "forget", CANDIDATE, "output"), _TANH, has_heads=True
        )
    },
    {"forward": {}},
)
# The layer feeds its "fgate" to the input gate and its "igate" to the forget gate, and will not
# change that, because of the published weights: https://github.com/NX-AI/xlstm/issues/98
_XLSTM_KERNELS = {
    "input": "fgate.weight",
    "forget": "igate.weight",
    CANDIDATE: "zgate.weight",
    "output": "ogate.weight",
}
_XLSTM_RECURRENT, _XLSTM_BIAS = "slstm_cell._recurrent_kernel_", "slstm_cell._bias_"
# Defaults of attributes; those of "activations" for one direction, by operator.
_ONNX_DEFAULTS = {"direction": "forward", "linear_before_reset": 0, "input_forget": 0}
_ONNX_ACTIVATIONS = {
    "RNN": ["Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
}


def to_keras(layer: GatedRNN) -> ExportedWeights:
    """Returns the weights of Keras's LSTM, GRU or SimpleRNN.

    A backward layer of Keras returns its sequence in reading order.

    Args:
        layer: A built layer.

    Returns:
        The class and the arguments of one layer, which for direction "both" is wrapped in
        `Bidirectional(..., merge_mode=layer.merge)`; and the arrays of `get_weights()` of the
        layer or of a stack: for each layer and direction (D, G * H), (H, G * H), and (G * H,)
        or, for a GRU with `reset_after`, (2, G * H).

    Raises:
        ValueError: Keras has no layer that computes the same, or the layer is not built.
    """
    layer_format, arguments = _find_format(KERAS, layer)
    weights = []
    for cell in layer.cells:
        parts = _parts(cell, layer_format)
        bias = parts["bias"]
        if layer_format.arguments.get("reset_after"):
            bias = np.stack([bias, parts["recurrent_bias"]])
        weights += [parts["input"], parts["recurrent"], bias]
    return ExportedWeights(layer_format.kind, {"units": layer.units, **arguments}, weights)


def from_keras(layer: GatedRNN, weights: Sequence[np.ndarray]) -> None:
    """Sets the weights of a layer to those of a Keras layer or of a stack of them.

    Weights do not contain the activations, which must be those that `to_keras` returns.

    Args:
        layer: A built layer.
        weights: Arrays in the format of `to_keras`.

    Raises:
        ValueError: Shapes differ, or the cell cannot represent the weights; none is changed.
    """
    layer_format, _ = _find_format(KERAS, layer)
    _check_shapes(KERAS, dict(enumerate(to_keras(layer).weights)), dict(enumerate(weights)))
    cell_blocks = []
    for start in range(0, len(weights), 3):
        input, recurrent, bias = weights[start : start + 3]
        recurrent_bias = np.zeros_like(bias)
        if layer_format.arguments.get("reset_after"):
            bias, recurrent_bias = bias
        parts = {"input": input, "recurrent": recurrent}
        parts |= {"bias": bias, "recurrent_bias": recurrent_bias}
        cell_blocks.append(_blocks(layer_format, parts))
    _assign(layer, KERAS, cell_blocks)


def to_pytorch(layer: GatedRNN) -> ExportedWeights:
    """Returns the weights of PyTorch's LSTM, GRU or RNN.

    Args:
        layer: A built layer.

    Returns:
        The class, its arguments, and its state dict: for each layer and direction
        "weight_ih_l0" (G * H, D), "weight_hh_l0" (G * H, H or P), "bias_ih_l0" and
        "bias_hh_l0" (G * H,), and with a projection "weight_hr_l0" (P, H). The number is that
        of the layer; backward weights end in "_reverse".

    Raises:
        ValueError: PyTorch has no module that computes the same, or the layer is not built.
    """
    layer_format, arguments = _find_format(PYTORCH, layer)
    if layer.direction == "both" and layer.merge != "concat":
        raise ValueError(f"PyTorch merges directions by 'concat', got merge={layer.merge!r}.")
    weights = {}
    for names, cell in zip(_pytorch_names(layer), layer.cells, strict=True):
        parts = _parts(cell, layer_format)
        if layer.spec.projection:
            parts["projection"] = cell.projection.numpy()
        weights |= {name: parts[part].T for part, name in names.items()}
    arguments = {"num_layers": layer.layers, **arguments}
    if layer.spec.projection:
        arguments = {"proj_size": layer.spec.projection, **arguments}
    sizes = {"input_size": layer.cells[0].kernel.shape[0], "hidden_size": layer.units}
    return ExportedWeights(layer_format.kind, {**sizes, **arguments}, weights)


def from_pytorch(layer: GatedRNN, state_dict: Mapping[str, np.ndarray]) -> None:
    """Sets the weights of a layer to those of a PyTorch module.

    A state dict does not contain the nonlinearity of an RNN, which must be that of the layer.

    Args:
        layer: A built layer.
        state_dict: Arrays by name, in the format of `to_pytorch`.

    Raises:
        ValueError: Names or shapes differ, or the cell cannot represent the weights; none is
            changed.
    """
    layer_format, _ = _find_format(PYTORCH, layer)
    _check_shapes(PYTORCH, to_pytorch(layer).weights, state_dict)
    cell_blocks = []
    for names in _pytorch_names(layer):
        parts = {part: state_dict[name].T for part, name in names.items()}
        projection = {"h": {"projection": parts.pop("projection")}} if "projection" in parts else {}
        cell_blocks.append({**_blocks(layer_format, parts), **projection})
    _assign(layer, PYTORCH, cell_blocks)


def _pytorch_names(layer):
    """Names in a state dict by part, for each cell."""
    parts = {"input": "weight_ih", "recurrent": "weight_hh"}
    parts |= {"bias": "bias_ih", "recurrent_bias": "bias_hh"}
    if layer.spec.projection:
        parts["projection"] = "weight_hr"
    ends = ("", "_reverse") if layer.direction == "both" else ("",)
    suffixes = [f"_l{index}{end}" for index in range(layer.layers) for end in ends]
    return [{part: name + suffix for part, name in parts.items()} for suffix in suffixes]


def to_onnx(layer: GatedRNN) -> list[ExportedWeights]:
    """Returns the weights of ONNX's operators LSTM, GRU or RNN, one for each layer.

    Args:
        layer: A built layer.

    Returns:
        For each layer its operator, its attributes, and the arrays W (N, G * H, D),
        R (N, G * H, H), B (N, 2 * G * H) and, with peepholes, P (N, 3 * H).

    Raises:
        ValueError: ONNX has no operator that computes the same, or the layer is not built.
    """
    layer_format, arguments = _find_format(ONNX, layer)
    directions = len(layer.cells) // layer.layers
    operators = []
    for start in range(0, len(layer.cells), directions):
        parts = [_parts(cell, layer_format) for cell in layer.cells[start : start + directions]]
        arrays = {
            "W": np.stack([p["input"].T for p in parts]),
            "R": np.stack([p["recurrent"].T for p in parts]),
            "B": np.stack([np.concatenate([p["bias"], p["recurrent_bias"]]) for p in parts]),
        }
        if layer.spec.peepholes:
            arrays["P"] = np.stack([p["peephole"] for p in parts])
        attributes = {n: v * directions if isinstance(v, list) else v for n, v in arguments.items()}
        attributes = {"hidden_size": layer.units, **attributes}
        operators.append(ExportedWeights(layer_format.kind, attributes, arrays))
    return operators


def from_onnx(layer: GatedRNN, operators: Sequence[ExportedWeights]) -> None:
    """Sets the weights of a layer to those of ONNX operators.

    The operator of a `node` with inputs W and R is

        ExportedWeights(
            node.op_type,
            {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            {"W": w, "R": r},
        )

    B, P and attributes that have ONNX's defaults may be omitted, and `layout` is ignored. A
    layer of "coupled" cells also accepts operators whose gates `input_forget` couples.

    Args:
        layer: A built layer.
        operators: For each layer its operator, in the format of `to_onnx`.

    Raises:
        ValueError: Operators, attributes, names or shapes differ, or the cell cannot
            represent the weights; none is changed.
    """
    layer_format, _ = _find_format(ONNX, layer)
    expected, cell_blocks = to_onnx(layer), []
    if len(operators) != len(expected):
        raise ValueError(f"ONNX: expected {len(expected)} operators, got {len(operators)}.")
    for want, (kind, attributes, arrays) in zip(expected, operators, strict=True):
        if kind != want.kind:
            raise ValueError(f"ONNX: expected the operator {want.kind!r}, got {kind!r}.")
        is_coupled = _check_attributes(layer, want, attributes)
        directions = len(want.weights["B"])
        optional = {"B": np.zeros_like(want.weights["B"])}
        if layer_format.peepholes:
            optional["P"] = np.zeros((directions, len(layer_format.peepholes) * layer.units))
        arrays = {**optional, **arrays}
        _check_shapes(ONNX, {**optional, **want.weights}, arrays)
        for direction in range(directions):
            bias, recurrent_bias = np.split(arrays["B"][direction], 2)
            parts = {"input": arrays["W"][direction].T, "recurrent": arrays["R"][direction].T}
            parts |= {"bias": bias, "recurrent_bias": recurrent_bias}
            if layer_format.peepholes:
                parts["peephole"] = arrays["P"][direction]
            blocks = _blocks(layer_format, parts)
            if is_coupled:  # f = 1 - i, whatever the weights of f
                blocks["forget"] = _negated(blocks["input"])
            cell_blocks.append(blocks)
    _assign(layer, ONNX, cell_blocks)


def to_haste(layer: GatedRNN) -> ExportedWeights:
    """Returns the weights of Haste's LSTM, GRU or IndRNN for PyTorch.

    Args:
        layer: A built layer.

    Returns:
        The class, its arguments, and its state dict: "kernel" (D, G * H), "bias" (G * H,), and
        "recurrent_kernel" (H, G * H), of a GRU also "recurrent_bias" (G * H,); of an IndRNN
        "recurrent_scale" (H,) instead.

    Raises:
        ValueError: Haste has no module that computes the same, or the layer is not built.
    """
    layer_format, _ = _find_format(HASTE, layer)
    if layer.layers > 1:
        raise ValueError(f"Haste's modules have one layer, got layers={layer.layers}.")
    parts = _parts(layer.cells[0], layer_format)
    weights = {name: parts[part] for part, name in _haste_names(layer_format).items()}
    if "recurrent_scale" in weights:
        weights["recurrent_scale"] = weights["recurrent_scale"][0]
    sizes = {"input_size": layer.cells[0].kernel.shape[0], "hidden_size": layer.units}
    return ExportedWeights(layer_format.kind, sizes, weights)


def from_haste(layer: GatedRNN, state_dict: Mapping[str, np.ndarray]) -> None:
    """Sets the weights of a layer to those of a module of Haste for PyTorch.

    Zoneout and dropout are not weights; those of the layer stay as they are.

    Args:
        layer: A built layer.
        state_dict: Arrays by name, in the format of `to_haste`.

    Raises:
        ValueError: Names or shapes differ, or the cell cannot represent the weights; none is
            changed.
    """
    layer_format, _ = _find_format(HASTE, layer)
    _check_shapes(HASTE, to_haste(layer).weights, state_dict)
    parts = {part: state_dict[name] for part, name in _haste_names(layer_format).items()}
    if layer_format.structure == "diagonal":
        parts["recurrent"] = parts["recurrent"][None]
    _assign(layer, HASTE, [_blocks(layer_format, parts)])


def to_xlstm(layer: GatedRNN) -> ExportedWeights:
    """Returns the weights of the `sLSTMLayer` of xLSTM (Beck et al. 2024), for PyTorch.

    Args:
        layer: A built layer of an sLSTM, with D = H. With K heads, each gate must read only the
            H / K features that belong to its head, as the gates of xLSTM do.

    Returns:
        The class, arguments of its config, and its state dict without the group normalisation,
        which follows the cell: "fgate.weight", "igate.weight", "zgate.weight" and "ogate.weight"
        (K, H / K, H / K), "slstm_cell._recurrent_kernel_" (K, 4 H / K, H / K) and
        "slstm_cell._bias_" (4 * H,), those two in the format of the backend "vanilla".

    Raises:
        ValueError: xLSTM has no layer that computes the same, or the layer is not built.
    """
    layer_format, heads, H = *_xlstm_format(layer), layer.units
    cell, size = layer.cells[0], H // heads
    blocks = _fold(cell, {weight.name: weight.numpy() for weight in cell.weights})
    weights = {}
    for name, key in _XLSTM_KERNELS.items():
        by_head = blocks[name]["input"].reshape(heads, size, heads, size)
        weights[key] = np.stack([by_head[k, :, k].T for k in range(heads)])
        if not np.array_equal(_over_heads(weights[key]), blocks[name]["input"]):
            raise ValueError(
                f"xLSTM's gates read the features of their own head only, of {heads}: the kernel "
                f"of {name!r} must be 0 elsewhere."
            )
    # (in, K, out) of each gate to (K, gate, out, in).
    by_gate = np.stack([blocks[name]["recurrent"] for name in layer_format.order])
    recurrent = by_gate.reshape(-1, size, heads, size).transpose(2, 0, 3, 1)
    weights[_XLSTM_RECURRENT] = recurrent.reshape(heads, -1, size)
    weights[_XLSTM_BIAS] = np.concatenate([blocks[name]["bias"] for name in layer_format.order])
    arguments = {"embedding_dim": H, "num_heads": heads, "conv1d_kernel_size": 0}
    return ExportedWeights(layer_format.kind, {**arguments, "backend": "vanilla"}, weights)


def from_xlstm(layer: GatedRNN, state_dict: Mapping[str, np.ndarray]) -> None:
    """Sets the weights of a layer to those of an `sLSTMLayer` of xLSTM, for PyTorch.

    Args:
        layer: A built layer of an sLSTM with D = H, and as many heads.
        state_dict: Arrays by name, in the format of `to_xlstm`, or with the recurrent kernel and
            the bias in that of the backend "cuda". Convolutions before the gates and the group
            normalisation after the cell are not part of it: weights of other names are rejected.

    Raises:
        ValueError: Names or shapes differ, or the cell cannot represent the weights; none is
            changed.
    """
    layer_format, heads, H = *_xlstm_format(layer), layer.units
    size, gates = H // heads, len(layer_format.order)
    shapes = dict.fromkeys(_XLSTM_KERNELS.values(), (heads, size, size))
    shapes |= {_XLSTM_RECURRENT: (heads, gates * size, size), _XLSTM_BIAS: (gates * H,)}
    of_cuda = {**shapes, _XLSTM_RECURRENT: (heads, size, gates * size)}
    actual = {name: np.shape(array) for name, array in state_dict.items()}
    _check_equal(
        "xLSTM: the shapes of the weights", of_cuda if actual == of_cuda else shapes, actual
    )
    recurrent, bias = np.asarray(state_dict[_XLSTM_RECURRENT]), np.asarray(state_dict[_XLSTM_BIAS])
    if actual == of_cuda:
        recurrent = recurrent.reshape(heads, size, gates, size)
        bias = bias.reshape(heads, gates, size).swapaxes(0, 1)
    else:
        recurrent = recurrent.reshape(heads, gates, size, size).transpose(0, 3, 1, 2)
    bias = bias.reshape(gates, H)
    blocks = {
        name: {
            "input": _over_heads(np.asarray(state_dict[_XLSTM_KERNELS[name]])),
            "recurrent": recurrent[:, :, gate].swapaxes(0, 1).reshape(size, H),
            "bias": bias[gate],
        }
        for gate, name in enumerate(layer_format.order)
    }
    _assign(layer, XLSTM, [blocks])


def _xlstm_format(layer):
    """The format of a layer in xLSTM, and its number of heads."""
    layer_format, _ = _find_format(XLSTM, layer)
    features = layer.cells[0].kernel.shape[0]
    if layer.layers > 1 or features != layer.units:
        raise ValueError(
            "xLSTM's sLSTMLayer has one layer, with as many units as input features, "
            f"got layers={layer.layers}, {layer.units} units and {features} features."
        )
    if layer.spec.pinned:
        raise ValueError(f"xLSTM's gates cannot be pinned, got {dict(layer.spec.pinned)}.")
    return layer_format, layer.spec.heads


def _over_heads(weight):
    """The matrix (H, H) of a layer that multiplies by head, from its weight (K, H / K, H / K)."""
    heads, size, _ = weight.shape
    whole = np.zeros((heads, size, heads, size), weight.dtype)
    for k in range(heads):
        whole[k, :, k] = weight[k].T
    return whole.reshape(heads * size, heads * size)


def _haste_names(layer_format):
    """Names in a state dict by part."""
    is_diagonal = layer_format.structure == "diagonal"
    names = {"input": "kernel", "bias": "bias"}
    names["recurrent"] = "recurrent_scale" if is_diagonal else "recurrent_kernel"
    return names | ({"recurrent_bias": "recurrent_bias"} if layer_format.kind == "GRU" else {})


def _check_attributes(layer, want, attributes):
    """Checks the attributes of an operator; returns whether `input_forget` is set."""
    default = {"hidden_size": layer.units, **_ONNX_DEFAULTS}
    default["activations"] = _ONNX_ACTIVATIONS[want.kind] * (len(layer.cells) // layer.layers)
    expected = {**default, **want.arguments}
    actual = {**default, **{name: _text(value) for name, value in attributes.items()}}
    actual.pop("layout", None)  # concerns inputs and outputs only
    is_coupled = layer.spec.equation == "coupled" and bool(actual["input_forget"])
    if is_coupled:
        expected["input_forget"] = actual["input_forget"]
    _check_equal(f"ONNX: the attributes of {want.kind}", expected, actual)
    return is_coupled


def _text(value):
    """An attribute with strings instead of bytes, which the `onnx` package returns."""
    if isinstance(value, (list, tuple)):
        return [_text(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value


def _check_shapes(library, expected, actual):
    shapes = [
        {name: np.shape(array) for name, array in each.items()} for each in (expected, actual)
    ]
    _check_equal(f"{library.name}: the shapes of the weights", *shapes)


def _check_equal(what, expected, actual):
    wrong = [name for name in expected | actual if expected.get(name) != actual.get(name)]
    if wrong:
        want, got = ({name: each.get(name) for name in wrong} for each in (expected, actual))
        raise ValueError(f"{what} must be {want}, got {got}.")


def _find_format(library, layer):
    """The format of a layer in a library, and the arguments of the layer.

    Raises a ValueError if the library cannot compute the same.
    """
    spec, name = layer.spec, library.name
    if not layer.built:
        raise ValueError(f"{layer.name} has no weights yet: build it, or call it on inputs.")
    if spec.equation not in library.formats:
        raise ValueError(
            f"{name} has no {spec.equation!r}; its equations are {list(library.formats)}."
        )
    layer_format = library.formats[spec.equation]
    _check_spec(library, layer_format, layer)
    if layer.direction not in library.directions:
        raise ValueError(
            f"{name} has the directions {list(library.directions)}, got {layer.direction!r}."
        )
    if layer.go_backwards:
        raise ValueError(
            f"{name} does not reverse its inputs: go_backwards must be False, got True; "
            f"use one of the directions {list(library.directions)} instead."
        )
    activations = layer_format.activations[spec.input_activation, spec.output_activation]
    direction = library.directions[layer.direction]
    return layer_format, {**activations, **layer_format.arguments, **direction}


def _check_spec(library, layer_format, layer):
    """Checks that a format can express all fields of a spec."""
    spec, name = layer.spec, library.name
    # Fields that have an argument or a fold; any other must have its default.
    expressible = {"equation", "bias", "pinned", "blind", "input_activation", "output_activation"}
    if layer_format.peepholes:
        expressible.add("peepholes")
    if layer_format.projects:
        expressible.add("projection")
    if layer_format.has_heads:
        expressible.add("heads")
    if layer_format.structure != "full":
        expressible.add("recurrent_structure")
        if spec.recurrent_structure != layer_format.structure:
            raise ValueError(
                f"{name}'s {layer_format.kind} has the recurrent_structure "
                f"{layer_format.structure!r}, got {spec.recurrent_structure!r}."
            )
    plain = type(spec)(spec.equation)
    for field, value in spec.to_json().items():
        default = getattr(plain, field)
        if field not in expressible and getattr(spec, field) != default:
            raise ValueError(
                f"{name}'s {layer_format.kind} has no {field}, which must be "
                f"{list(default) if isinstance(default, tuple) else default!r}, got {value!r}."
            )
    if spec.projection >= layer.units:
        raise ValueError(
            f"{name}'s projection must be smaller than the {layer.units} units, "
            f"got projection={spec.projection}."
        )
    activations = (spec.input_activation, spec.output_activation)
    if activations not in layer_format.activations:
        raise ValueError(
            f"{name}'s {layer_format.kind} has (input_activation, output_activation) of "
            f"{list(layer_format.activations)}, got {activations}."
        )


def _weight_layout(cell):
    """For each weight of a cell: its name, its part of a map, the maps of its blocks."""
    spec = cell.spec
    layout = [
        ("kernel", "input", spec.input_maps),
        ("recurrent_kernel", "recurrent", spec.recurrent_maps),
    ]
    if cell.use_bias:
        layout += [
            ("bias", "bias", spec.maps),
            ("recurrent_bias", "recurrent_bias", spec.definition.recurrent_bias),
        ]
    for name, (_, maps) in spec.definition.products.items():  # of h times a gate
        layout.append((f"{name}_product", "recurrent", maps))
    layout += [(f"{gate}_peephole", "peephole", (gate,)) for gate in spec.peepholes]
    layout += [("projection", "projection", ("h",))] if spec.projection else []
    return [(name, part, maps) for name, part, maps in layout if maps]


def _fold(cell, weights):
    """All blocks that a library could have, {map: {part: array}}, from the weights of a cell."""
    spec, (D, _), H = cell.spec, weights["kernel"].shape, cell.units
    shapes = {"input": (D, H), "recurrent": (cell.output_size, H)}
    shapes |= dict.fromkeys(("bias", "recurrent_bias", "peephole"), (H,))
    dtype = weights["kernel"].dtype
    blocks = {
        name: {part: np.zeros(shape, dtype) for part, shape in shapes.items()}
        for name in (*spec.definition.gates, CANDIDATE)
    }
    for weight, part, maps in _weight_layout(cell):
        for name, block in zip(maps, np.split(weights[weight], len(maps), axis=-1), strict=True):
            blocks.setdefault(name, {})[part] = block
    for gate, value in spec.pinned.items():
        blocks[gate]["bias"] = np.full((H,), _logit(value), dtype)
    if spec.equation == "coupled":
        blocks["input"] = _negated(blocks["forget"])
    return blocks


def _negated(block):
    return {part: -array for part, array in block.items()}


def _logit(p):
    # sigmoid(40) is 1 in every precision; an infinite bias would have the gradient NaN.
    return 40.0 * (2 * p - 1) if p in (0, 1) else np.log(p / (1 - p))


def _order(layer_format, part):
    return layer_format.peepholes if part == "peephole" else layer_format.order


def _parts(cell, layer_format):
    """The weights of a cell in a format, by part: "input" (D, G * H), "bias" (G * H,) etc."""
    blocks = _fold(cell, {weight.name: weight.numpy() for weight in cell.weights})
    return {
        part: np.concatenate([blocks[name][part] for name in _order(layer_format, part)], axis=-1)
        for part in blocks[CANDIDATE]
        if _order(layer_format, part)
    }


def _blocks(layer_format, parts):
    """The inverse of `_parts`: {map: {part: array}}."""
    blocks = {name: {} for name in layer_format.order}
    for part, joined in parts.items():
        order = _order(layer_format, part)
        for name, block in zip(order, np.split(joined, len(order), axis=-1), strict=True):
            blocks[name][part] = block
    return blocks


def _assign(layer, library, cell_blocks):
    """Assigns the blocks of a library to each cell, or raises before any is assigned."""
    cell_weights = [
        _unfold(cell, library, blocks)
        for cell, blocks in zip(layer.cells, cell_blocks, strict=True)
    ]
    for cell, weights in zip(layer.cells, cell_weights, strict=True):
        for variable in cell.weights:
            variable.assign(weights[variable.name])


def _unfold(cell, library, blocks):
    """The weights of a cell by name, from the blocks of a library; the inverse of `_fold`."""
    dtype = cell.kernel.numpy().dtype
    own_biases = cell.spec.definition.recurrent_bias
    for name, block in blocks.items():
        block.update({part: np.asarray(array, dtype) for part, array in block.items()})
        if "recurrent_bias" in block and name not in own_biases:  # only their sum matters
            block["bias"] = block["bias"] + block["recurrent_bias"]
            block["recurrent_bias"] = np.zeros_like(block["bias"])
    weights = {
        weight: np.concatenate([blocks[name][part] for name in maps], axis=-1)
        for weight, part, maps in _weight_layout(cell)
    }
    folded = _fold(cell, weights)
    for name, block in blocks.items():
        for part, array in block.items():
            if not np.array_equal(array, folded[name][part], equal_nan=True):
                raise ValueError(
                    f"A cell {cell.spec.to_json()} cannot represent the {part} weights that "
                    f"{library.name} has of {name!r}. Blind gates, gates without a peephole and "
                    "cells without biases have zeros there; gates pinned to p have zeros and the "
                    "bias logit(p); the gate 'input' of 'coupled' has the negated weights of "
                    "'forget'. Expected "
                    f"{folded[name][part].ravel()[:3]}..., got {array.ravel()[:3]}..."
                )
    return weights
