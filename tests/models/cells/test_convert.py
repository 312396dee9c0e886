"""Weights go to Keras, PyTorch and ONNX and come back, and compute there what they compute here."""

import dataclasses

import keras
import numpy as np
import pytest

from models.cells import convert
from models.cells.recurrent import IMPLEMENTATIONS, GatedRNN, implementations_of
from models.cells.specs import CELLS, CellSpec
from tests.support.textbook import sigmoid

B, T, D, H = 3, 5, 4, 3
LENGTHS = np.array([5, 2, 3])  # right-padded

# Changes that no cell of the table has.
MORE = {
    "lstm, blind": {"equation": "lstm", "blind": {"input": "xh", "forget": "x", "output": "h"}},
    "lstm, half pinned": {"equation": "lstm", "pinned": {"input": 0.5, "output": 0.25}},
    "lstm, relu": {"equation": "lstm", "input_activation": "relu", "output_activation": "relu"},
    "lstm, clipped": {"equation": "lstm", "cell_clip": 0.3},
    "lstm, projected": {"equation": "lstm", "projection": 2},
    "coupled, projected": {"equation": "coupled", "projection": 1, "pinned": {"output": 1.0}},
    "coupled, pinned": {"equation": "coupled", "pinned": {"forget": 0.7}},
    "gru, no reset": {"equation": "gru", "pinned": {"reset": 1.0}, "input_activation": "identity"},
    "gru_before, pinned": {"equation": "gru_before", "pinned": {"reset": 0.5, "update": 0.0}},
}
SPECS = CELLS | {name: CellSpec(**arguments) for name, arguments in MORE.items()}

PEERS = {
    "keras": (convert.to_keras, convert.from_keras),
    "pytorch": (convert.to_pytorch, convert.from_pytorch),
    "onnx": (convert.to_onnx, convert.from_onnx),
}
DIRECTIONS = {
    "keras": ("forward", "backward", "both"),
    "pytorch": ("forward", "both"),
    "onnx": ("forward", "backward", "both"),
}
LSTMS = ["lstm", "coupled"]
EQUATIONS = {
    "keras": ["rnn", *LSTMS, "gru", "gru_before"],
    "pytorch": ["rnn", *LSTMS, "gru"],
    "onnx": ["rnn", *LSTMS, "gru", "gru_before"],
}


UNFOLDED = ("rnn", "lstm", "gru", "gru_before")  # which can hold any weights of a peer


def rejection_reason(peer, spec):
    """A word that a refusal must say; None where the peer can express the cell."""
    if spec.equation not in EQUATIONS[peer]:
        return spec.equation
    inner, outer = spec.input_activation, spec.output_activation
    values, defaults = spec.to_json(), CellSpec(spec.equation).to_json()
    words = {"equation", "bias", "pinned", "blind", "input_activation", "output_activation"}
    for field in values:
        if field in words or (field == "peepholes" and peer == "onnx"):
            continue
        if field == "projection" and peer == "pytorch" and spec.projection < H:
            continue
        if values[field] != defaults.get(field):
            return field
    if peer == "keras" and spec.equation in LSTMS and inner != outer:
        return "activation"
    allowed = ("tanh", "relu") if spec.equation == "rnn" else ("tanh",)
    if peer == "pytorch" and (inner not in allowed or outer != "tanh"):
        return "activation"
    return None


def expressible(peer):
    return [name for name, spec in SPECS.items() if rejection_reason(peer, spec) is None]


def made(name, seed=1, **kwargs):
    """A layer with random weights, unequal gates among them."""
    options = {"return_sequences": True, "return_state": True, **kwargs}
    layer = GatedRNN(H, SPECS.get(name, name) if isinstance(name, str) else name, **options)
    layer.build((None, None, D))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=w.shape, scale=0.7) for w in layer.get_weights()])
    return layer


def inputs():
    return np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")


def initial_state(layer):
    """For h and then c, (cells, B, its width): random."""
    rng, cells = np.random.default_rng(5), len(layer.cells)
    return [rng.normal(size=(cells, B, n)).astype("float32") for n in layer.cells[0].state_size]


def flat(states):
    """The same as a layer takes them: by cell, h and then c."""
    return [state[at] for at in range(len(states[0])) for state in states]


def run(layer, states, mask=None):
    """The outputs (B, T, ...) and the last states, shaped as the initial ones."""
    outputs, *lasts = layer(inputs(), initial_state=flat(states), mask=mask)
    each = len(states)
    return np.asarray(outputs), [np.stack(lasts[at::each]) for at in range(each)]


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=5e-6, rtol=1e-5)


def pairs(peer):
    return [(name, each) for name in expressible(peer) for each in DIRECTIONS[peer]]


def every_pair(peer):
    """Every cell of a peer; slow in all directions but the last, but for cells of an equation."""
    return pytest.mark.parametrize(
        ("name", "direction"),
        [
            pytest.param(
                name,
                direction,
                marks=()
                if name in UNFOLDED or direction == DIRECTIONS[peer][-1]
                else pytest.mark.slow,
            )
            for name, direction in pairs(peer)
        ],
    )


def both_ways():
    """Every cell in the last direction of each peer; the other directions are slow."""
    for peer in PEERS:
        for name, direction in pairs(peer):
            marks = () if direction == DIRECTIONS[peer][-1] else pytest.mark.slow
            yield pytest.param(peer, name, direction, marks=marks)


@pytest.mark.parametrize(("peer", "name", "direction"), list(both_ways()))
def test_weights_come_back_as_they_went(peer, name, direction):
    to, back = PEERS[peer]
    went = made(name, layers=2, direction=direction)
    came = made(name, layers=2, direction=direction, seed=2)
    theirs = to(went)
    back(came, theirs if peer == "onnx" else theirs.weights)
    for ours, again in zip(went.get_weights(), came.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, again)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", SPECS)
def test_what_a_peer_cannot_express_is_refused_by_name(name, peer):
    word = rejection_reason(peer, SPECS[name])
    if word is None:
        PEERS[peer][0](made(name))
        return
    for convert_it in (PEERS[peer][0], lambda layer: PEERS[peer][1](layer, {})):
        with pytest.raises(ValueError, match=word):
            convert_it(made(name))


@every_pair("keras")
def test_keras_computes_the_same(name, direction):
    ours = made(name, direction=direction)
    converted = convert.to_keras(ours)
    theirs = getattr(keras.layers, converted.kind)(
        **converted.arguments, return_sequences=True, return_state=True
    )
    if direction == "both":
        theirs = keras.layers.Bidirectional(theirs, merge_mode=ours.merge)
    theirs.build((None, None, D))
    theirs.set_weights(converted.weights)
    states = initial_state(ours)
    want, *lasts = theirs(inputs(), initial_state=flat(states))
    if direction == "backward":
        want = np.flip(want, 1)  # in the order in which it was read
    given, finals = run(ours, states)
    close(given, want)
    close(flat(finals), lasts)

    if name in UNFOLDED:
        rng = np.random.default_rng(3)
        theirs.set_weights([rng.normal(size=w.shape, scale=0.7) for w in converted.weights])
        convert.from_keras(ours, theirs.get_weights())
        want = theirs(inputs(), initial_state=flat(states))[0]
        close(run(ours, states)[0], np.flip(want, 1) if direction == "backward" else want)


def test_a_stack_of_keras_is_one_list():
    ours = made("gru", layers=2, return_state=False)
    converted = convert.to_keras(ours)
    parts = [keras.layers.GRU(**converted.arguments, return_sequences=True) for _ in range(2)]
    theirs = keras.Sequential([keras.Input((None, D)), *parts])
    theirs.set_weights(converted.weights)
    close(ours(inputs()), theirs(inputs()))


@every_pair("pytorch")
def test_pytorch_computes_the_same(name, direction):
    torch = pytest.importorskip("torch")
    ours = made(name, layers=2, direction=direction)
    converted = convert.to_pytorch(ours)
    theirs = getattr(torch.nn, converted.kind)(**converted.arguments, batch_first=True)
    states = initial_state(ours)
    start = tuple(map(torch.tensor, states)) if len(states) > 1 else torch.tensor(states[0])

    def compare(layer):
        with torch.no_grad():
            want, lasts = theirs(torch.tensor(inputs()), start)
        given, finals = run(layer, states)
        close(given, want)
        for ours, last in zip(finals, lasts if len(states) > 1 else [lasts], strict=True):
            close(ours, last)

    theirs.load_state_dict({name: torch.tensor(w) for name, w in converted.weights.items()})
    compare(ours)
    if name in UNFOLDED:
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.normal_(std=0.7)
        convert.from_pytorch(ours, {n: w.numpy() for n, w in theirs.state_dict().items()})
        compare(ours)


def in_onnx_runtime(node, states, lengths=None):
    """Y (B, T, directions * H) and the last states (states, directions, B, H)."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    feeds = {"X": np.swapaxes(inputs(), 0, 1)}
    feeds |= {f"initial_{s}": state for s, state in zip("hc", states, strict=False)}
    if lengths is not None:
        feeds["sequence_lens"] = lengths.astype("int32")
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    here = {*feeds, *node.weights}
    last = ["Y_h", "Y_c"][: len(states)]
    given = [n if n in here else "" for n in names[: 8 if node.kind == "LSTM" else 6]]
    operator = onnx.helper.make_node(node.kind, given, ["Y", *last], **node.arguments)
    ranks = zip(["Y", *last], (4, 3, 3), strict=False)
    type_of, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    graph = onnx.helper.make_graph(
        [operator],
        "one",
        [
            type_of(name, kinds.INT32 if name == "sequence_lens" else kinds.FLOAT, array.shape)
            for name, array in feeds.items()
        ],
        [type_of(name, kinds.FLOAT, [None] * rank) for name, rank in ranks],
        [onnx.numpy_helper.from_array(array, name) for name, array in node.weights.items()],
    )
    opset = onnx.helper.make_opsetid("", 14)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.checker.check_model(model)
    session = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    outputs, *lasts = session.run(None, feeds)
    return outputs.transpose(2, 0, 1, 3).reshape(B, T, -1), np.asarray(lasts)


@pytest.mark.parametrize(
    ("name", "direction", "lengths"),
    [
        pytest.param(
            *(name, direction, lengths),
            # Every cell in both directions with padding, and each direction by itself without.
            marks=() if (direction == "both") == (lengths is not None) else pytest.mark.slow,
            id=f"{name}-{direction}-{'full' if lengths is None else 'padded'}",
        )
        for name, direction in pairs("onnx")
        for lengths in (None, LENGTHS)
    ],
)
def test_onnx_runtime_computes_the_same(name, direction, lengths):
    mask = np.arange(T) < (np.full(B, T) if lengths is None else lengths)[:, None]
    for implementation in IMPLEMENTATIONS[1:]:
        if implementation not in implementations_of(SPECS[name]):
            continue
        ours = made(name, direction=direction, implementation=implementation)
        states = initial_state(ours)
        (node,) = convert.to_onnx(ours)
        want, lasts = in_onnx_runtime(node, states, lengths)
        outputs, finals = run(ours, states, None if lengths is None else mask)
        close(outputs[mask], want[mask])
        close(finals, lasts)


def in_haste(kind, weights, xs):
    """The outputs of Haste's modules, as their documentation has them, step by step."""
    outputs, h, c = [], np.zeros((B, H)), np.zeros((B, H))
    for x in np.swapaxes(xs, 0, 1):
        z = x @ weights["kernel"] + weights["bias"]
        if kind == "IndRNN":
            h = np.tanh(z + h * weights["recurrent_scale"])
        elif kind == "LSTM":
            i, g, f, o = np.split(z + h @ weights["recurrent_kernel"], 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            recurrent = h @ weights["recurrent_kernel"] + weights["recurrent_bias"]
            (u, r, g), (hu, hr, hg) = np.split(z, 3, axis=1), np.split(recurrent, 3, axis=1)
            g = np.tanh(g + sigmoid(r + hr) * hg)
            h = sigmoid(u + hu) * h + (1 - sigmoid(u + hu)) * g
        outputs.append(h)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize(
    "cell",
    [
        "lstm",
        "lstm_slim_1",
        "lstm_coupled",
        "gru",
        {"equation": "rnn", "recurrent_structure": "diagonal"},
    ],
)
def test_haste_computes_the_same(cell):
    layer = made(cell)
    exported = convert.to_haste(layer)
    assert exported.arguments == {"input_size": D, "hidden_size": H}
    outputs = in_haste(exported.kind, exported.weights, inputs().astype("float64"))
    close(np.asarray(layer(inputs())[0]), outputs)
    again = made(cell, seed=2)
    convert.from_haste(again, exported.weights)
    for ours, theirs in zip(layer.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("rnn", {}, "IndRNN has the recurrent_structure 'diagonal', got 'full'"),
        ("indrnn", {}, r"has \(input_activation, output_activation\) of .*'tanh'"),
        ("lstm_independent", {}, "LSTM has no recurrent_structure"),
        ("lstm", {"layers": 2}, "have one layer, got layers=2"),
        ("lstm", {"direction": "both"}, "has the directions"),
        ("mgu", {}, "Haste has no 'mgu'"),
    ],
)
def test_what_haste_cannot_compute_is_refused(cell, options, message):
    with pytest.raises(ValueError, match=message):
        convert.to_haste(made(cell, **options))


UNITS = 4  # of xLSTM, which has as many features


def in_xlstm(weights, heads, xs):
    """The outputs of xLSTM's sLSTMLayer before its normalisation, as its source has them.

    Its vanilla backend: i, f, z, o = fgate(x), igate(x), zgate(x), ogate(x).
    """
    size = UNITS // heads
    kernel = weights["slstm_cell._recurrent_kernel_"].reshape(heads, 4, size, size)
    bias = weights["slstm_cell._bias_"].reshape(4, UNITS)
    h, c, n, m = (np.zeros((B, UNITS)) for _ in range(4))
    outputs = []
    for step, x in enumerate(np.swapaxes(xs, 0, 1)):
        raw = []
        for gate, name in enumerate(("fgate", "igate", "zgate", "ogate")):
            product = np.einsum("bkd,kod->bko", x.reshape(B, heads, -1), weights[f"{name}.weight"])
            product += np.einsum("bki,koi->bko", h.reshape(B, heads, size), kernel[:, gate])
            raw.append(product.reshape(B, UNITS) + bias[gate])
        i, f, z, o = raw
        retained = m + np.log(sigmoid(f))
        m = i if step == 0 else np.maximum(i, retained)
        c = np.exp(retained - m) * c + np.exp(i - m) * np.tanh(z)
        n = np.exp(retained - m) * n + np.exp(i - m)
        h = sigmoid(o) * c / n
        outputs.append(h)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("heads", [1, 2])
def test_xlstm_computes_the_same(heads):
    rng = np.random.default_rng(0)
    spec = {"equation": "slstm", "heads": heads}
    layer, other = (GatedRNN(UNITS, spec, return_sequences=True) for _ in range(2))
    xs = rng.normal(size=(B, 5, UNITS)).astype("float32")
    layer(xs), other(xs)
    size = UNITS // heads
    names = ("fgate", "igate", "zgate", "ogate")
    weights = {f"{name}.weight": rng.normal(size=(heads, size, size)) for name in names}
    weights["slstm_cell._recurrent_kernel_"] = rng.normal(size=(heads, 4 * size, size))
    weights["slstm_cell._bias_"] = rng.normal(size=4 * UNITS)
    weights = {name: array.astype("float32") for name, array in weights.items()}
    convert.from_xlstm(layer, weights)
    close(np.asarray(layer(xs)), in_xlstm(weights, heads, xs.astype("float64")))
    exported = convert.to_xlstm(layer)
    assert exported.arguments["num_heads"] == heads and exported.arguments["embedding_dim"] == UNITS
    assert list(exported.weights) == list(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(exported.weights[name], array)
    # The backend "cuda" has (K, in, gate, out) and (K, gate, out).
    kernel = weights["slstm_cell._recurrent_kernel_"].reshape(heads, 4, size, size)
    weights["slstm_cell._recurrent_kernel_"] = kernel.transpose(0, 3, 1, 2).reshape(heads, size, -1)
    bias = weights["slstm_cell._bias_"].reshape(4, heads, size)
    weights["slstm_cell._bias_"] = bias.transpose(1, 0, 2).ravel()
    convert.from_xlstm(other, weights)
    for ours, theirs in zip(layer.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_xlstm_cannot_compute_is_refused():
    def built(features=UNITS, **changes):
        layer = GatedRNN(UNITS, {"equation": "slstm", **changes})
        layer.build((None, None, features))
        return layer

    for layer, message in (
        (built(features=UNITS + 1), f"got layers=1, {UNITS} units and {UNITS + 1} features"),
        (built(heads=2), "the features of their own head only, of 2: the kernel of 'input'"),
        (built(layer_norm="maps"), "sLSTMLayer has no layer_norm"),
        (made("lstm"), "xLSTM has no 'lstm'"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.to_xlstm(layer)
    layer = built()
    before = layer.get_weights()
    weights = dict(convert.to_xlstm(layer).weights)
    for name, array in (
        ("group_norm.weight", np.ones(UNITS)),
        ("igate.weight", np.ones((2, 1, 1))),
    ):
        with pytest.raises(ValueError, match="the shapes of the weights must be"):
            convert.from_xlstm(layer, {**weights, name: array})
    for array, start in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, start)


def test_gates_that_onnx_couples_come_as_coupled():
    ours = made("greff_cifg", direction="both")
    (node,) = convert.to_onnx(ours)
    rng = np.random.default_rng(3)
    arrays = {name: rng.normal(size=w.shape).astype("float32") for name, w in node.weights.items()}
    node = convert.ExportedWeights("LSTM", {**node.arguments, "input_forget": 1}, arrays)
    spec = CellSpec("coupled", peepholes=("forget", "output"))
    ours = GatedRNN(H, spec, direction="both", return_sequences=True, return_state=True)
    ours.build((None, None, D))
    convert.from_onnx(ours, [node])
    want, lasts = in_onnx_runtime(node, initial_state(ours))
    outputs, finals = run(ours, initial_state(ours))
    close(outputs, want)
    close(finals, lasts)


def test_onnx_attributes_may_be_left_out_or_be_bytes():
    ours = made("lstm")
    (node,) = convert.to_onnx(ours)
    explicit = {"activations": [b"Sigmoid", b"Tanh", b"Tanh"], "direction": b"forward", "layout": 1}
    for attributes in ({}, explicit):
        came = made("lstm", seed=2)
        arrays = {name: node.weights[name] for name in ("W", "R")}
        convert.from_onnx(came, [convert.ExportedWeights("LSTM", attributes, arrays)])
        np.testing.assert_array_equal(came.cells[0].kernel, ours.cells[0].kernel)
        assert not np.any(came.cells[0].bias)


def test_an_invalid_weight_is_an_error_and_changes_nothing():
    ours = made("lstm", layers=2)
    before, weights = ours.get_weights(), convert.to_pytorch(ours).weights
    missing = {name: w for name, w in weights.items() if name != "bias_hh_l1"}
    narrow = {**weights, "weight_ih_l0": weights["weight_ih_l0"][:, :-1]}
    for states, message in (
        (missing, r"{'bias_hh_l1': \(12,\)}, got {'bias_hh_l1': None}"),
        ({**weights, "weight_hr_l0": np.ones((2, H))}, r"{'weight_hr_l0': None}, got"),
        (narrow, r"{'weight_ih_l0': \(12, 4\)}, got {'weight_ih_l0': \(12, 3\)}"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.from_pytorch(ours, states)
    with pytest.raises(ValueError, match=r"{5: \(12,\)}, got {5: None}"):
        convert.from_keras(ours, before[:-1])
    first, second = convert.to_onnx(ours)
    with pytest.raises(ValueError, match="expected 2 operators, got 1"):
        convert.from_onnx(ours, [first])
    with pytest.raises(ValueError, match=r"{'clip': None}, got {'clip': 3.0}"):
        convert.from_onnx(ours, [first, second._replace(arguments={"clip": 3.0})])
    with pytest.raises(ValueError, match=r"'LSTM', got 'GRU'"):
        convert.from_onnx(ours, [first, second._replace(kind="GRU")])
    for ours_now, then in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours_now, then)


@pytest.mark.parametrize(
    ("name", "gate"), [("lstm_1997", "forget"), ("lstm_coupled", "input"), ("lstm, blind", "input")]
)
def test_weights_that_a_cell_has_no_place_for_are_refused(name, gate):
    weights = convert.to_keras(made("lstm")).weights
    with pytest.raises(ValueError, match=f"of '{gate}'"):
        convert.from_keras(made(name), weights)


def test_peepholes_that_a_cell_does_not_have_are_refused():
    with pytest.raises(ValueError, match="peephole weights that ONNX has of 'input'"):
        convert.from_onnx(made("lstm"), convert.to_onnx(made("lstm_peephole")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "backward"}, r"directions \['forward', 'both'\], got 'backward'"),
        ({"direction": "both", "merge": "sum"}, "'concat', got merge='sum'"),
        ({"go_backwards": True}, "go_backwards must be False"),
    ],
)
def test_a_reading_that_pytorch_does_not_have_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        convert.to_pytorch(made("lstm", **options))


@pytest.mark.parametrize("peer", PEERS)
def test_what_specs_may_once_tell_is_refused_until_a_peer_is_given_a_word_for_it(peer):
    @dataclasses.dataclass(frozen=True)
    class Later(CellSpec):
        colour: str = "none"

    layer = made("lstm")
    layer.spec = Later("lstm")
    PEERS[peer][0](layer)
    layer.spec = Later("lstm", colour="red")
    with pytest.raises(ValueError, match="has no colour, which must be 'none', got 'red'"):
        PEERS[peer][0](layer)


def test_a_layer_without_weights_is_an_error():
    with pytest.raises(ValueError, match="has no weights yet"):
        convert.to_keras(GatedRNN(H))
