"""What is seen of a layer at work is what it computes, by name, and looking costs nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.cells.printing import equations
from models.cells.recurrent import DIRECTIONS, GatedRNN
from models.cells.specs import CELLS, GATE_ACTIVATIONS
from models.cells.tracing import trace
from models.layers.characters import CharacterReader
from models.layers.decoder import Decoder
from models.layers.grid import Sweep
from tests.support.cells import PLAIN, random_states, slow_except
from tests.support.close import assert_close
from tests.support.textbook import FUNCTIONS, Weights, normalized, oracle

B, T, D, H = 3, 5, 4, 3
# Right padding, a hole and no step at the end; no step at all; no padding.
MASK = np.array([[1, 0, 1, 1, 0], [0] * 5, [1] * 5], bool)
every_cell = pytest.mark.parametrize("name", CELLS)


def made(name, **kwargs):
    layer = GatedRNN(H, CELLS[name], **{"return_sequences": True, "return_state": True, **kwargs})
    layer.build((None, None, D))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape, scale=0.7) for w in layer.get_weights()])
    return layer


def inputs(seed=0):
    return np.random.default_rng(seed).normal(size=(B, T, D)).astype("float32")


def initial_state(layer):
    return random_states(layer.cells, B, 5)


def combined(cell, gates, candidate, states, x):
    """The states after one step of one row, computed from the recorded gates and candidate.

    Of an equation without `mix` that is not computed here, they are those of the textbook, and
    the recorded values must be as well.
    """
    spec = cell.spec
    read = {weight.name: np.asarray(weight) for weight in cell.weights}
    g = {**spec.pinned, **gates}

    def let_out(c):
        if spec.layer_norm != "none":
            c = normalized(c) * read["cell_gain"] + read["cell_shift"]
        return FUNCTIONS[spec.output_activation](c)

    h, kind = states["h"], spec.equation
    if kind in ("lstm", "coupled", "full"):
        written = 1 - g["forget"] if kind == "coupled" else g["input"]
        c = g["forget"] * states["c"] + written * candidate
        limit = spec.cell_clip
        after = {"c": np.clip(c, -limit, limit) if limit else c}
        after["h"] = g["output"] * let_out(after["c"])
        if kind == "full":
            after |= {name: g[name] + np.zeros(H) for name in ("input", "forget", "output")}
    elif oracle(kind).mix is None:
        weights = Weights(cell)
        after = dict(zip(states, oracle(kind).step(weights, x, *states.values()), strict=True))
        for gate, value in {**gates, "candidate": candidate}.items():
            assert_close(value, weights.seen[gate], 2e-6, gate)
    else:
        old, new = oracle(kind).mix(g)
        after = {"h": old * h + new * candidate}
    if "projection" in read:
        after["h"] = after["h"] @ read["projection"]
    for name, stays in spec.zoneout.items():
        after[name] = stays * states[name] + (1 - stays) * after[name]
    return after


@every_cell
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_traced_values_combine_to_the_next_state(name, direction):
    layer = made(name, direction=direction)
    (cell,) = layer.cells
    with trace(layer) as seen:
        layer(inputs(), initial_state=initial_state(layer), mask=MASK)
    (each,) = seen
    for row in range(B):
        one = each.row(row)
        states = one.first
        for t in range(T) if direction == "forward" else reversed(range(T)):
            if MASK[row, t]:
                gates = {gate: values[t] for gate, values in one.gates.items()}
                x = inputs()[row, t].astype("float64")
                states = combined(cell, gates, one.candidate[t], states, x)
            assert set(states) == set(one.states)
            for state, values in states.items():
                assert_close(one.states[state][t], values, 2e-6, state)


@every_cell
def test_the_names_are_those_of_the_printed_equations(name):
    layer = made(name)
    with trace(layer) as seen:
        layer(inputs())
    spec = CELLS[name]
    lines = {line.split(" = ")[0] for line in equations(spec)}
    gates = [g for g in spec.definition.gates if spec.activation(g) in GATE_ACTIVATIONS]
    want = {line for line in lines if line.removesuffix("_2") in gates}
    assert set(seen[0].gates) == want
    assert seen[0].candidate.shape == (B, T, H)
    assert all(values.shape == (B, T, H) for values in seen[0].gates.values())
    assert all(np.min(values) >= 0 and np.max(values) <= 1 for values in seen[0].gates.values())


@pytest.mark.parametrize("name", slow_except(PLAIN))
@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
def test_looking_changes_nothing(name, mask):
    layer = made(name, direction="both", layers=2)
    states = initial_state(layer)
    plain = layer(inputs(), initial_state=states, mask=mask)
    with trace(layer) as seen:
        looked = layer(inputs(), initial_state=states, mask=mask)
    for one, other in zip(plain, looked, strict=True):
        assert_close(one, other, 2e-6)
    places = [(each.layer, each.backward) for each in seen]
    assert places == [(0, False), (0, True), (1, False), (1, True)]
    size = layer.cells[0].output_size
    last = np.concatenate([seen[2].states["h"], seen[3].states["h"]], axis=-1)
    there = np.ones([B, T], bool) if mask is None else mask
    assert last.shape == (B, T, 2 * size)
    assert_close(last[there], np.asarray(looked[0])[there], 1e-6)


@pytest.mark.parametrize(("direction", "twin"), [("forward", "backward"), ("backward", "forward")])
def test_values_of_a_layer_that_goes_backwards_stand_in_the_order_of_its_input(direction, twin):
    same_as(made("gru", direction=twin), made("gru", direction=direction, go_backwards=True))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_values_stand_in_the_same_order_where_time_comes_first(direction):
    same_as(made("gru", direction=direction), made("gru", direction=direction, time_major=True))


def same_as(plain, layer):
    """Two layers see the same at the same steps."""
    with trace(plain) as wanted:
        plain(inputs())
    with trace(layer) as seen:
        layer(np.swapaxes(inputs(), 0, 1) if layer.time_major else inputs())
    for one, other in zip(wanted, seen, strict=True):
        np.testing.assert_allclose(one.gates["reset"], other.gates["reset"], atol=1e-6)
        np.testing.assert_allclose(one.states["h"], other.states["h"], atol=1e-6)


def test_every_layer_of_a_model_is_traced_under_its_path():
    words = keras.Input((None, None), dtype="int32", name="words")
    x = CharacterReader(9, 4, 3, "gru", name="character_reader")(words)
    memory = GatedRNN(4, "lstm", direction="both", return_sequences=True, name="encoder")(x)
    logits, _ = Decoder(11, 8, 8, "janet", layers=2, name="decoder")(words[:, :, 0], memory)
    model = keras.Model(words, logits)
    given = np.random.default_rng(0).integers(1, 9, (2, 3, 4))
    plain = model(given)
    with trace(model) as seen:
        looked = model(given)
    np.testing.assert_allclose(plain, looked, atol=1e-5)
    assert [(each.place, each.backward) for each in seen] == [
        ("character_reader/reader", False),
        ("character_reader/reader", True),
        ("encoder", False),
        ("encoder", True),
        ("decoder/layer_0", False),
        ("decoder/layer_1", False),
    ]
    assert [sorted(each.gates) for each in seen[-1:]] == [["forget", "forget_2"]]
    sweep = Sweep("gru", "columns", name="sweep")
    with trace(sweep) as seen:
        sweep(np.zeros([1, 4, 5, 6], "float32"))
    assert [each.place for each in seen] == []  # it had no layer before it was built
    with trace(sweep) as seen:
        sweep(np.zeros([1, 4, 5, 6], "float32"))
    assert [each.states["h"].shape for each in seen] == [(5, 4, 3)] * 2


def test_nothing_is_kept_when_it_is_over():
    """Whatever ends it; and a block within another sees by itself."""
    layer = made("lstm")
    with pytest.raises(RuntimeError, match="on purpose"), trace(layer) as seen:
        layer(inputs())
        with trace(layer) as inner:
            layer(inputs())
        layer(inputs())
        raise RuntimeError("on purpose")
    layer(inputs())
    assert (len(seen), len(inner)) == (2, 1)
    assert layer._tracer is None


@pytest.mark.parametrize("name", ["lstm", "janet", "gru"])
def test_a_layer_that_is_not_watched_is_traced_as_if_there_were_no_watching(name):
    layer = made(name, implementation="reference")

    def ops_of():
        @tf.function
        def run(xs):
            return layer(xs, mask=MASK)

        graph = run.get_concrete_function(tf.TensorSpec([B, T, D])).graph
        whole = [graph, *(f.graph for f in graph._functions.values() if hasattr(f, "graph"))]
        return sorted(op.type for each in whole for op in each.get_operations())

    before = ops_of()
    with trace(layer):
        layer(inputs())
    assert ops_of() == before and len(before) > 10


def test_traced_values_can_be_differentiated():
    """The gradient at the last step's gates reaches the input by what was seen."""
    layer, xs = made("gru"), tf.constant(inputs())
    with tf.GradientTape() as tape, trace(layer) as seen:
        tape.watch(xs)
        layer(xs)
        total = tf.reduce_sum(seen[0].gates["update"][:, 2])
    gradient = tape.gradient(total, xs).numpy()
    assert np.abs(gradient[:, :3]).max() > 0 and not gradient[:, 3:].any()
