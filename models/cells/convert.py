"""Weights from and to Keras, PyTorch and ONNX, by the names of gates, in NumPy.

    theirs = convert.to_pytorch(ours)  # `ours` is a `GatedRNN` that has been built
    module = getattr(torch.nn, theirs.kind)(**theirs.arguments)
    module.load_state_dict({name: torch.tensor(w) for name, w in theirs.weights.items()})

    convert.from_pytorch(ours, {name: w.numpy() for name, w in module.state_dict().items()})

What a peer has no word for is folded into its weights where that is exact: a gate
that is pinned to p has zero weights and the bias logit(p) there, one that is
blind has zeros, and the input gate of "coupled" is the negated forget gate, for
sigmoid(-z) = 1 - sigmoid(z). On the way back the peer's weights must be of that
form. Whatever would be lost, either way, is refused by a ValueError.

Shapes: D input features (of a layer), H units, G maps (gates and candidate) of the peer.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .equations import CANDIDATE
from .recurrent import GatedRNN


class ExportedWeights(NamedTuple):
    """What a peer has: its class or operator, what to make that with, its weights."""

    kind: str
    arguments: Mapping
    weights: Sequence | Mapping


@dataclasses.dataclass(frozen=True)
class LayerFormat:
    """How a peer has an equation.

    Attributes:
        kind: Its name for it.
        order: The order of the maps in its weights.
        activations: The (input, output) activations it can have, as its arguments.
        arguments: Its other arguments.
        peepholes: The order of the gates in its peephole weight, if it has one.
        projects: Whether it can project h.
    """

    kind: str
    order: tuple[str, ...]
    activations: Mapping[tuple[str, str], Mapping]
    arguments: Mapping = dataclasses.field(default_factory=dict)
    peepholes: tuple[str, ...] = ()
    projects: bool = False


@dataclasses.dataclass(frozen=True)
class Library:
    """A library: its forms by equation, and its directions as its arguments."""

    name: str
    forms: Mapping[str, LayerFormat]
    directions: Mapping[str, Mapping]


# Activations are keyed (input, output); the output's is "tanh" where an equation has none.
_KERAS_WORDS = {"tanh": "tanh", "relu": "relu", "identity": "linear"}
_KERAS_ONE = {(a, "tanh"): {"activation": word} for a, word in _KERAS_WORDS.items()}
_KERAS_LSTM = LayerFormat(
    "LSTM",
    ("input", "forget", CANDIDATE, "output"),
    {(a, a): {"activation": word} for a, word in _KERAS_WORDS.items()},  # one for both
)
_UPDATE_RESET = ("update", "reset", CANDIDATE)
KERAS = Library(
    "Keras",
    {
        "rnn": LayerFormat("SimpleRNN", (CANDIDATE,), _KERAS_ONE),
        "lstm": _KERAS_LSTM,
        "coupled": _KERAS_LSTM,
        "gru": LayerFormat("GRU", _UPDATE_RESET, _KERAS_ONE, {"reset_after": True}),
        "gru_before": LayerFormat("GRU", _UPDATE_RESET, _KERAS_ONE, {"reset_after": False}),
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
    """The activations of an operator, in one direction of it."""
    # Affine is alpha x + beta, and ONNX Runtime takes both for 0 if they are not told.
    count = names.count("Affine")
    scales = {"activation_alpha": [1.0] * count, "activation_beta": [0.0] * count}
    return {"activations": list(names), **(scales if count else {})}


_ONNX_WORDS = {"tanh": "Tanh", "relu": "Relu", "identity": "Affine"}
_ONNX_RNN = {(a, "tanh"): _onnx_functions(word) for a, word in _ONNX_WORDS.items()}
_ONNX_GRU = {(a, "tanh"): _onnx_functions("Sigmoid", word) for a, word in _ONNX_WORDS.items()}
_INPUT_OUTPUT_FORGET = ("input", "output", "forget")
_ONNX_LSTM = LayerFormat(
    "LSTM",
    (*_INPUT_OUTPUT_FORGET, CANDIDATE),
    {
        (a, b): _onnx_functions("Sigmoid", _ONNX_WORDS[a], _ONNX_WORDS[b])
        for a in _ONNX_WORDS
        for b in _ONNX_WORDS
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
# What an attribute that is left out means; "activations" in one direction, by operator.
_ONNX_DEFAULTS = {"direction": "forward", "linear_before_reset": 0, "input_forget": 0}
_ONNX_ACTIVATIONS = {
    "RNN": ["Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
}


def to_keras(layer: GatedRNN) -> ExportedWeights:
    """Keras's LSTM, GRU or SimpleRNN.

    Returns:
        kind and arguments of one layer, for direction "both" to be put into
        `Bidirectional(..., merge_mode=layer.merge)`; and as weights what
        `get_weights()` gives of it or of a stack, for each layer and direction
        (D, G * H), (H, G * H), and (G * H,) or, of a GRU with `reset_after`,
        (2, G * H). A backward layer of Keras's gives its sequence in the order
        in which it reads.

    Raises:
        ValueError: Keras has no layer that computes the same.
    """
    form, arguments = _form(KERAS, layer)
    weights = []
    for cell in layer.cells:
        parts = _parts(cell, form)
        both = np.stack([parts["bias"], parts["recurrent_bias"]])
        bias = both if form.arguments.get("reset_after") else parts["bias"]
        weights += [parts["input"], parts["recurrent"], bias]
    return ExportedWeights(form.kind, {"units": layer.units, **arguments}, weights)


def from_keras(layer: GatedRNN, weights: Sequence) -> None:
    """Takes the weights of a layer of Keras's or of a stack, as `to_keras` gives them.

    They do not tell its activations, which must be those that `to_keras` tells.

    Raises:
        ValueError: Shapes differ, or the layer cannot hold the weights.
    """
    form, _ = _form(KERAS, layer)
    _check_shapes(KERAS, dict(enumerate(to_keras(layer).weights)), dict(enumerate(weights)))
    cell_blocks = []
    for start in range(0, len(weights), 3):
        input, recurrent, bias = weights[start : start + 3]
        bias, second = bias if form.arguments.get("reset_after") else (bias, np.zeros_like(bias))
        parts = {"input": input, "recurrent": recurrent, "bias": bias, "recurrent_bias": second}
        cell_blocks.append(_blocks(form, parts))
    _take(layer, KERAS, cell_blocks)


def to_pytorch(layer: GatedRNN) -> ExportedWeights:
    """PyTorch's LSTM, GRU or RNN.

    Returns:
        kind, arguments, and its state dict: for each layer and direction
        "weight_ih_l0" (G * H, D), "weight_hh_l0" (G * H, H or P), "bias_ih_l0" and
        "bias_hh_l0" (G * H,), and "weight_hr_l0" (P, H) of a projection, with the
        layer's number and "_reverse" for backward.

    Raises:
        ValueError: PyTorch has no module that computes the same.
    """
    form, arguments = _form(PYTORCH, layer)
    if layer.direction == "both" and layer.merge != "concat":
        raise ValueError(f"PyTorch merges directions by 'concat', got merge={layer.merge!r}.")
    weights = {}
    for names, cell in zip(_pytorch_names(layer), layer.cells, strict=True):
        parts = _parts(cell, form)
        if layer.spec.projection:
            parts["projection"] = cell.projection.numpy()
        weights |= {name: parts[part].T for part, name in names.items()}
    sizes = {"input_size": layer.cells[0].kernel.shape[0], "hidden_size": layer.units}
    if layer.spec.projection:
        sizes["proj_size"] = layer.spec.projection
    return ExportedWeights(form.kind, {**sizes, "num_layers": layer.layers, **arguments}, weights)


def from_pytorch(layer: GatedRNN, state_dict: Mapping) -> None:
    """Takes a state dict of NumPy arrays, as `to_pytorch` gives it.

    It does not tell the nonlinearity of an RNN, which must be that of the layer.

    Raises:
        ValueError: Names or shapes differ, or the layer cannot hold the weights.
    """
    form, _ = _form(PYTORCH, layer)
    _check_shapes(PYTORCH, to_pytorch(layer).weights, state_dict)
    cell_blocks = []
    for names in _pytorch_names(layer):
        parts = {part: state_dict[name].T for part, name in names.items()}
        projection = {"h": {"projection": parts.pop("projection")}} if "projection" in parts else {}
        cell_blocks.append({**_blocks(form, parts), **projection})
    _take(layer, PYTORCH, cell_blocks)


def _pytorch_names(layer):
    """For each cell, the name of each of its parts in a state dict."""
    parts = {"input": "weight_ih", "recurrent": "weight_hh"}
    parts |= {"bias": "bias_ih", "recurrent_bias": "bias_hh"}
    if layer.spec.projection:
        parts["projection"] = "weight_hr"
    ends = ("", "_reverse") if layer.direction == "both" else ("",)
    suffixes = [f"_l{index}{end}" for index in range(layer.layers) for end in ends]
    return [{part: name + suffix for part, name in parts.items()} for suffix in suffixes]


def to_onnx(layer: GatedRNN) -> list[ExportedWeights]:
    """ONNX's operators LSTM, GRU or RNN, one for each layer.

    Returns:
        For each layer its operator, its attributes, and the arrays W (N, G * H, D),
        R (N, G * H, H), B (N, 2 * G * H) and, with peepholes, P (N, 3 * H), of N
        directions.

    Raises:
        ValueError: ONNX has no operator that computes the same.
    """
    form, arguments = _form(ONNX, layer)
    directions = len(layer.cells) // layer.layers
    operators = []
    for start in range(0, len(layer.cells), directions):
        parts = [_parts(cell, form) for cell in layer.cells[start : start + directions]]
        arrays = {
            "W": np.stack([p["input"].T for p in parts]),
            "R": np.stack([p["recurrent"].T for p in parts]),
            "B": np.stack([np.concatenate([p["bias"], p["recurrent_bias"]]) for p in parts]),
        }
        if layer.spec.peepholes:
            arrays["P"] = np.stack([p["peephole"] for p in parts])
        attributes = {n: v * directions if isinstance(v, list) else v for n, v in arguments.items()}
        operators.append(
            ExportedWeights(form.kind, {"hidden_size": layer.units, **attributes}, arrays)
        )
    return operators


def from_onnx(layer: GatedRNN, operators: Sequence[ExportedWeights]) -> None:
    """Takes the weights of ONNX's operators, one for each layer, as `to_onnx` gives them.

    Of a `node` with the inputs "W" and "R", told by their names, that is

        ExportedWeights(
            node.op_type,
            {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            {"W": w, "R": r},
        )

    B, P and attributes that are at ONNX's defaults may be left out, and `layout`
    is of no matter. "coupled" also takes gates that `input_forget` couples.

    Raises:
        ValueError: Operators, attributes, names or shapes differ, or the layer
            cannot hold the weights.
    """
    form, _ = _form(ONNX, layer)
    expected, cell_blocks = to_onnx(layer), []
    if len(operators) != len(expected):
        raise ValueError(f"ONNX: expected {len(expected)} operators, got {len(operators)}.")
    for want, (kind, attributes, arrays) in zip(expected, operators, strict=True):
        if kind != want.kind:
            raise ValueError(f"ONNX: expected the operator {want.kind!r}, got {kind!r}.")
        couples = _check_attributes(layer, want, attributes)
        optional, directions = {"B": np.zeros_like(want.weights["B"])}, len(want.weights["B"])
        if form.peepholes:
            optional["P"] = np.zeros((directions, len(form.peepholes) * layer.units))
        arrays = {**optional, **arrays}
        _check_shapes(ONNX, {**optional, **want.weights}, arrays)
        for direction in range(directions):
            bias, second = np.split(arrays["B"][direction], 2)
            parts = {"input": arrays["W"][direction].T, "recurrent": arrays["R"][direction].T}
            parts |= {"bias": bias, "recurrent_bias": second}
            if form.peepholes:
                parts["peephole"] = arrays["P"][direction]
            blocks = _blocks(form, parts)
            if couples:  # f = 1 - i, whatever stands in the place of f
                blocks["forget"] = _negated(blocks["input"])
            cell_blocks.append(blocks)
    _take(layer, ONNX, cell_blocks)


def _check_attributes(layer, want, attributes):
    """Checks that attributes are as they must be; tells whether `input_forget` is on."""
    default = {"hidden_size": layer.units, **_ONNX_DEFAULTS}
    default["activations"] = _ONNX_ACTIVATIONS[want.kind] * (len(layer.cells) // layer.layers)
    expected = {**default, **want.arguments}
    actual = {**default, **{name: _text(value) for name, value in attributes.items()}}
    actual.pop("layout", None)  # of inputs and outputs alone
    couples = layer.spec.equation == "coupled" and bool(actual["input_forget"])
    if couples:
        expected["input_forget"] = actual["input_forget"]
    _check_equal(f"ONNX: the attributes of {want.kind}", expected, actual)
    return couples


def _text(value):
    """An attribute as Python has it; the `onnx` package gives strings as bytes."""
    if isinstance(value, (list, tuple)):
        return [_text(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value


def _check_shapes(peer, expected, actual):
    shapes = [
        {name: np.shape(array) for name, array in each.items()} for each in (expected, actual)
    ]
    _check_equal(f"{peer.name}: the shapes of the weights", *shapes)


def _check_equal(what, expected, actual):
    wrong = [name for name in expected | actual if expected.get(name) != actual.get(name)]
    if wrong:
        want, got = ({name: each.get(name) for name in wrong} for each in (expected, actual))
        raise ValueError(f"{what} must be {want}, got {got}.")


def _form(peer, layer):
    """The form of a layer at a peer, and its arguments; what the peer cannot do is refused."""
    spec, name = layer.spec, peer.name
    if not layer.built:
        raise ValueError(f"{layer.name} has no weights yet: build it, or call it on inputs.")
    if spec.equation not in peer.forms:
        raise ValueError(f"{name} has no {spec.equation!r}; of ours it has {list(peer.forms)}.")
    form = peer.forms[spec.equation]
    # All that there is a word or a fold for; any other field must be at its default.
    expressed = {"equation", "bias", "pinned", "blind", "input_activation", "output_activation"}
    if form.peepholes:
        expressed.add("peepholes")
    if form.projects:
        expressed.add("projection")
    defaults = type(spec)(spec.equation).to_json()
    for field, value in spec.to_json().items():
        if field not in expressed and value != defaults[field]:
            raise ValueError(
                f"{name}'s {form.kind} has no {field}, which must be {defaults[field]!r}, "
                f"got {value!r}."
            )
    if spec.projection >= layer.units:
        raise ValueError(
            f"{name}'s projection must be to fewer than the {layer.units} units, "
            f"got projection={spec.projection}."
        )
    activations = (spec.input_activation, spec.output_activation)
    if activations not in form.activations:
        raise ValueError(
            f"{name}'s {form.kind} has (input_activation, output_activation) of "
            f"{list(form.activations)}, got {activations}."
        )
    if layer.direction not in peer.directions:
        raise ValueError(
            f"{name} has the directions {list(peer.directions)}, got {layer.direction!r}."
        )
    if layer.go_backwards:
        raise ValueError(
            f"{name} does not reverse its inputs: go_backwards must be False, got True; "
            f"of the directions {list(peer.directions)} one may do."
        )
    direction = peer.directions[layer.direction]
    return form, {**form.activations[activations], **form.arguments, **direction}


def _held(spec):
    """Each weight of a `GatedCell`: its name, the part of a map it is, the maps of its blocks."""
    held = [
        ("kernel", "input", spec.input_maps),
        ("recurrent_kernel", "recurrent", spec.recurrent_maps),
        ("bias", "bias", spec.maps),
        ("recurrent_bias", "recurrent_bias", spec.definition.recurrent_bias),
    ]
    for name, (_, maps) in spec.definition.products.items():  # of h behind a gate
        held.append((f"{name}_product", "recurrent", maps))
    held += [(f"{gate}_peephole", "peephole", (gate,)) for gate in spec.peepholes]
    held += [("projection", "projection", ("h",))] if spec.projection else []
    return [each for each in held if each[2]]


def _folded(cell, weights):
    """All that a peer could have, {map: {part: array}}, from the weights of a cell by name."""
    spec, (D, _), H = cell.spec, weights["kernel"].shape, cell.units
    shapes = {"input": (D, H), "recurrent": (cell.output_size, H)}
    shapes |= dict.fromkeys(("bias", "recurrent_bias", "peephole"), (H,))
    dtype = weights["bias"].dtype
    blocks = {
        name: {part: np.zeros(shape, dtype) for part, shape in shapes.items()}
        for name in (*spec.definition.gates, CANDIDATE)
    }
    for weight, part, maps in _held(spec):
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
    # sigmoid(40) is 1 in every precision, where infinity would have no gradient but NaN.
    return 40.0 * (2 * p - 1) if p in (0, 1) else np.log(p / (1 - p))


def _order(form, part):
    return form.peepholes if part == "peephole" else form.order


def _parts(cell, form):
    """A cell's weights as a peer orders them: "input" (D, G * H), "bias" (G * H,), and so on."""
    blocks = _folded(cell, {weight.name: weight.numpy() for weight in cell.weights})
    return {
        part: np.concatenate([blocks[name][part] for name in _order(form, part)], axis=-1)
        for part in blocks[CANDIDATE]
        if _order(form, part)
    }


def _blocks(form, parts):
    """The inverse of such parts: {map: {part: array}}."""
    blocks = {name: {} for name in form.order}
    for part, joined in parts.items():
        order = _order(form, part)
        for name, block in zip(order, np.split(joined, len(order), axis=-1), strict=True):
            blocks[name][part] = block
    return blocks


def _take(layer, peer, cell_blocks):
    """Gives each cell its weights from the blocks found at a peer, or raises and gives none."""
    taken = []
    for cell, blocks in zip(layer.cells, cell_blocks, strict=True):
        dtype = cell.bias.numpy().dtype
        for name, block in blocks.items():
            block.update({part: np.asarray(array, dtype) for part, array in block.items()})
            second = "recurrent_bias" in block
            if (
                second and name not in cell.spec.definition.recurrent_bias
            ):  # two biases that merely add up
                block["bias"] = block["bias"] + block["recurrent_bias"]
                block["recurrent_bias"] = np.zeros_like(block["bias"])
        weights = {
            weight: np.concatenate([blocks[name][part] for name in maps], axis=-1)
            for weight, part, maps in _held(cell.spec)
        }
        again = _folded(cell, weights)
        for name, block in blocks.items():
            for part, array in block.items():
                if not np.array_equal(array, again[name][part], equal_nan=True):
                    raise ValueError(
                        f"A cell {cell.spec.to_json()} cannot hold the {part} weights that "
                        f"{peer.name} has of {name!r}. What is blind, or has no peephole, has "
                        "zeros there; what is pinned to p zeros, and the bias logit(p); the "
                        "'input' of 'coupled' the negated weights of 'forget'. Expected "
                        f"{again[name][part].ravel()[:3]}..., got {array.ravel()[:3]}..."
                    )
        taken.append(weights)
    for cell, weights in zip(layer.cells, taken, strict=True):
        for variable in cell.weights:
            variable.assign(weights[variable.name])
