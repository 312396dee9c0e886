"""Every cell of `CELLS`, by every implementation, keeps every promise below."""

import dataclasses
import gc
from collections.abc import Mapping

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.cells import recurrent
from models.cells.equations import EQUATIONS
from models.cells.implementations import block, derivative, loop
from models.cells.recurrent import DIRECTIONS, GatedRNN, implementations_of
from models.cells.specs import ACTIVATIONS, CELLS, CellSpec
from tests.support import textbook
from tests.support.cells import LATER_EQUATIONS, PLAIN, REST, random_states, slow_except
from tests.support.close import assert_close

B, T, D, H = 6, 5, 4, 3

# Changes that no cell of the table has, alone and together.
MORE = {
    "lstm, forget blind to x": {"equation": "lstm", "blind": {"forget": "x"}},
    "lstm, forget blind to h": {"equation": "lstm", "blind": {"forget": "h"}},
    "lstm, all gates blind": {
        "equation": "lstm",
        "blind": {"input": "xh", "forget": "x", "output": "h"},
        "peepholes": ["forget", "output"],
    },
    "lstm, half pinned": {"equation": "lstm", "pinned": {"input": 0.5, "output": 0.25}},
    "lstm, clipped": {"equation": "lstm", "cell_clip": 0.3, "peepholes": ["output"]},
    "lstm, relu": {"equation": "lstm", "input_activation": "relu", "output_activation": "relu"},
    "coupled, pinned": {"equation": "coupled", "pinned": {"forget": 0.7}},
    "full, pinned": {"equation": "full", "pinned": {"input": 1.0}, "cell_clip": 0.5},
    "full, blind": {"equation": "full", "blind": {"forget": "xh", "output": "h"}},
    "gru, no reset": {"equation": "gru", "pinned": {"reset": 1.0}, "input_activation": "relu"},
    "gru_before, pinned": {"equation": "gru_before", "pinned": {"reset": 0.5, "update": 0.5}},
    "mgu, blind": {"equation": "mgu", "blind": {"forget": "x"}},
    "janet, pinned": {"equation": "janet", "pinned": {"forget": 0.5}},
    "mut1, pinned": {"equation": "mut1", "pinned": {"reset": 0.5}, "blind": {"update": "x"}},
    "mut2, blind": {"equation": "mut2", "blind": {"reset": "h", "update": "x"}},
    "mut3, pinned": {"equation": "mut3", "pinned": {"update": 0.5}},
    "full, projected": {"equation": "full", "projection": 2, "zoneout": {"h": 0.3}},
    "coupled, projected": {"equation": "coupled", "projection": 4, "peepholes": ["output"]},
    "lstm, all at once": {
        "equation": "lstm",
        "peepholes": ["input", "forget", "output"],
        "cell_clip": 0.9,
        "projection": 2,
        "layer_norm": "products",
        "zoneout": {"h": 0.2, "c": 0.4},
        "recurrent_dropout": {"state": 0.3, "candidate": 0.2, "weights": 0.4},
    },
    "lstm, maps": {"equation": "lstm", "layer_norm": "maps", "peepholes": ["input", "output"]},
    "lstm, heads": {"equation": "lstm", "heads": 3, "recurrent_dropout": {"weights": 0.4}},
    "full, heads": {"equation": "full", "heads": 3},
    "full, diagonal": {"equation": "full", "recurrent_structure": "diagonal"},
    "gru_before, antisymmetric": {
        "equation": "gru_before",
        "recurrent_structure": "antisymmetric",
    },
    "full, antisymmetric": {"equation": "full", "recurrent_structure": "antisymmetric"},
    "full, orthogonal": {"equation": "full", "recurrent_structure": "orthogonal"},
    "full, rank": {"equation": "full", "recurrent_rank": 2},
    "gru, candidate blind": {"equation": "gru", "blind": {"candidate": "h"}},
    "fastgrnn, pinned": {"equation": "fastgrnn", "pinned": {"nu": 0.5}},
    "slstm, exponential": {"equation": "slstm", "gate_activations": {"forget": "identity"}},
    "janet, other constant": {"equation": "janet", "constants": {"beta": 0.25}},
    "cornn, other constants": {"equation": "cornn", "constants": {"step": 0.5, "damping": 0.0}},
    "lstm, blind, normalised": {
        "equation": "lstm",
        "layer_norm": "products",
        "blind": {"input": "x", "forget": "h", "output": "xh"},
    },
}
# Each activation in a place of each kind.
for activation in ACTIVATIONS:
    MORE[f"lstm, {activation}"] = {
        "equation": "lstm",
        "blind": {"input": "h", "candidate": "h"},  # the output may be unbounded
        "input_activation": activation,
        "output_activation": activation,
        "gate_activations": {"input": activation},
        "cell_clip": 2.0,
    }
# Layer normalisation, and all that training drops, in every equation.
DROPPED = {"state": 0.3, "candidate": 0.2, "weights": 0.4}
for equation in EQUATIONS:
    for placement in ("products", "maps"):
        MORE[f"{equation}, {placement}"] = {"equation": equation, "layer_norm": placement}
    arguments = {"equation": equation, "zoneout": {"h": 0.3}, "recurrent_dropout": DROPPED}
    MORE[f"{equation}, noisy"] = arguments
# Specs of equations that are tested slowly, but for the values and gradients of their cells.
LATER = {*REST, *(name for name in MORE if MORE[name]["equation"] in LATER_EQUATIONS)}
SPECS = CELLS | {name: CellSpec(**arguments) for name, arguments in MORE.items()}
every_spec = pytest.mark.parametrize("name", SPECS)
# One for each equation and one for each kind of change.
REPRESENTATIVE = (*PLAIN, "lstm, all at once", "lstm, maps", "gru, products", "full, noisy")
# All but every equation with each layer normalisation and with all that training drops.
ADDED = (" products", " maps", " noisy")
DISTINCT = (*CELLS, *(name for name in MORE if not name.endswith(ADDED)))
representative = pytest.mark.parametrize("name", slow_except(REPRESENTATIVE, SPECS))
every_cell = pytest.mark.parametrize("name", CELLS)


def by_every_implementation(names, dtype="float32"):
    """Each of the cells with each implementation that says it can run it here."""
    pairs = [
        pytest.param(*pair, marks=pytest.mark.slow if pair[0] in LATER else ())
        for pair in implementation_pairs(names, dtype)
    ]
    return pytest.mark.parametrize(("name", "implementation"), pairs)


def implementation_pairs(names, dtype="float32"):
    return [(name, way) for name in names for way in implementations_of(SPECS[name], "cpu", dtype)]


# Right padding, left padding, holes, one step, no step, no padding.
MASK = np.array(
    [[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 1, 0, 0], [0] * 5, [1] * 5], bool
)


def inputs(seed=0, time=T):
    return np.random.default_rng(seed).normal(size=(B, time, D)).astype("float32")


def initial_state(layer, seed=5):
    return random_states(layer.cells, B, seed)


def made(name, features=D, **kwargs):
    """A layer with random weights, unequal gates among them."""
    spec = SPECS[name]
    options = {"return_sequences": True, "return_state": True, "seed": 0, **kwargs}
    layer = GatedRNN(H, spec, **options)
    layer.build((None, None, features))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape, scale=0.7) for w in layer.get_weights()])
    return layer


def drawn_once(layer, time=T):
    """Has every cell of a layer drop the same whenever it trains, and returns what."""
    noises = []
    for at, cell in enumerate(layer.cells):
        keras.utils.set_random_seed(at)
        noises.append(cell.draw(B, time))
        cell.draw = lambda batch, steps, at=at: noises[at]
    return noises


def random_mix(layer, xs, states, seed):
    """Random factors of the outputs and of the final states of a layer."""
    rng = np.random.default_rng(seed)
    shapes = [(*xs.shape[:2], layer.output_size), *(state.shape for state in states)]
    return [rng.normal(size=shape) for shape in shapes]


def values_and_gradients(layer, xs, states, mask, training=False, graph=True):
    """Outputs of a layer and the gradients of a random mix of them, in a `tf.function` or eager.

    Eager execution runs the same ops in a fraction of the time, most of which is tracing.
    """
    mix = random_mix(layer, xs, states, 2)
    drawn_once(layer)

    def run(xs, states):
        with tf.GradientTape() as tape:
            tape.watch([xs, states])
            given = layer(xs, initial_state=states, mask=mask, training=training)
            loss = sum(tf.reduce_sum(y * m) for y, m in zip(given, mix, strict=True))
        return given, tape.gradient(loss, [xs, states, [w.value for w in layer.trainable_weights]])

    if graph:
        run = tf.function(run, reduce_retracing=True, autograph=False)
    given, gradients = run(tf.constant(xs), [tf.constant(s) for s in states])
    return [np.asarray(y) for y in given], [np.asarray(g) for g in tf.nest.flatten(gradients)]


def test_every_equation_is_among_the_cells():
    assert sorted(SPECS[name].equation for name in (*PLAIN, *REST)) == sorted(EQUATIONS)


@pytest.mark.parametrize(
    ("name", "implementation", "features"),
    [
        pytest.param(
            name,
            implementation,
            features,
            marks=(
                ()
                if name in REPRESENTATIVE or (features == D and name not in LATER - {*REST})
                else pytest.mark.slow
            ),
        )
        for name, implementation in implementation_pairs(SPECS)
        for features in (D, H)
    ],
)
def test_agrees_with_the_textbook(name, implementation, features):
    layer = made(name, implementation=implementation, features=features)
    xs, states = inputs()[..., :features], initial_state(layer)
    for mask in (None, MASK):
        given = layer(xs, initial_state=states, mask=mask)
        outputs, lasts = textbook.run(layer.cells[0], xs, mask, states)
        for ours, theirs in zip(given, [outputs, *lasts], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=5e-6, rtol=1e-5)


@by_every_implementation([name for name in SPECS if SPECS[name].random])
def test_what_training_drops_agrees_with_the_textbook(name, implementation):
    layer = made(name, implementation=implementation)
    xs, states = inputs(), initial_state(layer)
    (noise,) = drawn_once(layer)
    given = layer(xs, initial_state=states, mask=MASK, training=True)
    outputs, lasts = textbook.run(layer.cells[0], xs, MASK, states, noise)
    for ours, theirs in zip(given, [outputs, *lasts], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6, rtol=1e-5)
    served = layer(xs, initial_state=states, mask=MASK)
    assert np.abs(np.asarray(served[0]) - outputs).max() > 1e-3


def test_an_orthogonal_matrix_is_orthogonal_and_one_of_low_rank_has_it():
    for changes, rank in (({"recurrent_structure": "orthogonal"}, 5), ({"recurrent_rank": 2}, 2)):
        cell = GatedRNN(5, CellSpec("gru", **changes)).cells[0]
        cell.build((None, D))
        whole = np.asarray(cell.matrices(cell.inference_noise())["recurrent"])
        for matrix in np.split(whole, 3, axis=1):
            assert np.linalg.matrix_rank(matrix, tol=1e-4) == rank
            if rank == 5:
                np.testing.assert_allclose(matrix @ matrix.T, np.eye(5), atol=1e-5)


def test_dropout_masks_have_their_rates_and_are_drawn_again():
    spec = CellSpec(
        "lstm",
        projection=5,
        zoneout={"h": 0.3, "c": 0.6},
        recurrent_dropout={"state": 0.2, "candidate": 0.4, "weights": 0.5},
    )
    cell = GatedRNN(8, spec).cells[0]
    cell.build((None, D))
    noise, again = cell.draw(200, 30), cell.draw(200, 30)
    for name, shape, values, share in (
        ("state", (200, 5), (0, 1 / 0.8), 0.8),
        ("candidate", (30, 200, 8), (0, 1 / 0.6), 0.6),
        ("h", (30, 200, 5), (0, 1), 0.3),
        ("c", (30, 200, 8), (0, 1), 0.6),
        ("recurrent", (5, 32), (0, 2), 0.5),
    ):
        drawn, other = (
            np.asarray({**each.always, **each.steps, **each.weights}[name])
            for each in (noise, again)
        )
        assert drawn.shape == shape
        np.testing.assert_allclose(np.unique(drawn), values, rtol=1e-6)
        assert abs(np.mean(drawn > 0) - share) < 0.12
        assert not np.array_equal(drawn, other)
    assert "projection" not in noise.weights


def check_loop(name, training, graph, monkeypatch):
    monkeypatch.setattr(loop, "cores", lambda: 2)
    monkeypatch.setattr(loop, "MIN_ROWS", 1)
    monkeypatch.setattr(loop, "FEW_ROWS", 0 if training else B + 1)
    mask = MASK if training else None
    found, xs = [], inputs().astype("float64")
    for implementation in ("reference", "loop"):
        layer = made(name, implementation=implementation, dtype="float64")
        states = [s.astype("float64") for s in initial_state(layer)]
        traced = graph and implementation == "loop"
        found.append(values_and_gradients(layer, xs, states, mask, training, traced))
    for ours, theirs in zip(*found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10, rtol=1e-8)
            assert np.isfinite(a).all()


def kinds_of_changes(spec):
    """The kinds of the changes of a cell, whatever their gates and numbers."""
    plain, kinds = CellSpec(spec.equation), {"none"}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.name in ("equation", "bias") or value == getattr(plain, field.name):
            continue  # weights are random, biases among them
        if field.name in ("zoneout", "recurrent_dropout"):
            kinds |= {(field.name, key) for key in value}
        elif field.name == "peepholes":
            kinds |= {(field.name, gate == "output") for gate in value}
        else:
            values = value.values() if isinstance(value, Mapping) else [value]
            kinds |= {(field.name, each if isinstance(each, str) else "") for each in values}
    return kinds


def one_of_each(names):
    """Those cells that have a kind of change that none before has with the same equation."""
    found, seen = [], set()
    for name in names:
        pairs = {(SPECS[name].equation, kind) for kind in kinds_of_changes(SPECS[name])}
        if not pairs <= seen:
            found.append(name)
            seen |= pairs
    return found


LOOPED = {*one_of_each(CELLS), *(name for name in DISTINCT if name not in CELLS), *REPRESENTATIVE}


@pytest.mark.parametrize("name", slow_except(LOOPED, SPECS))
def test_the_loop_gives_the_values_and_gradients_of_the_definition(name, monkeypatch):
    check_loop(name, True, False, monkeypatch)


@pytest.mark.parametrize("name", slow_except(REPRESENTATIVE, SPECS))
def test_the_loop_gives_the_gradients_of_the_definition_when_served(name, monkeypatch):
    check_loop(name, False, False, monkeypatch)


# A graph is made of the steps that eager execution runs: one for each form of its loops.
IN_GRAPH = ("lstm", "gru", "mut1", "greff_fgr", "lstm, all at once", "lstm, maps", "full, noisy")


@pytest.mark.parametrize("name", slow_except(IN_GRAPH, SPECS))
def test_the_loop_gives_the_gradients_of_the_definition_in_a_graph(name, monkeypatch):
    check_loop(name, True, True, monkeypatch)


@pytest.mark.parametrize("name", slow_except(["lstm_peephole", "gru"], SPECS))
def test_the_loop_gives_the_gradients_of_the_definition_in_a_served_graph(name, monkeypatch):
    check_loop(name, False, True, monkeypatch)


@pytest.mark.parametrize("graph", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["lstm_peephole", "lstm, all at once"])
def test_any_cut_into_strips_gives_what_one_does(name, graph, monkeypatch):
    found = []
    monkeypatch.setattr(loop, "MIN_ROWS", 1)
    for cores in (1, 4, B + 3):  # uneven strips; more cores than rows
        monkeypatch.setattr(loop, "cores", lambda cores=cores: cores)
        layer = made(name, implementation="loop", dtype="float64", direction="both")
        states = [s.astype("float64") for s in initial_state(layer)]
        xs = inputs().astype("float64")
        found.append(values_and_gradients(layer, xs, states, MASK, True, graph))
    for cut in found[1:]:
        for whole, strips in zip(tf.nest.flatten(found[0]), tf.nest.flatten(cut), strict=True):
            np.testing.assert_allclose(whole, strips, atol=1e-12)


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("name", ["lstm_peephole", "gru", "lstm, all at once"])
def test_any_number_of_steps_at_a_time_gives_what_one_does(name, training, monkeypatch):
    results = []
    for steps in (1, 2, T - 1, T, T + 1):
        monkeypatch.setattr(loop, "CHUNK", steps)
        monkeypatch.setattr(loop, "UNROLLED", steps)
        layer = made(name, implementation="loop", dtype="float64")
        states = [s.astype("float64") for s in initial_state(layer)]
        xs = inputs().astype("float64")
        results.append(values_and_gradients(layer, xs, states, MASK, training, True))
    for others in results[1:]:
        for one, other in zip(tf.nest.flatten(results[0]), tf.nest.flatten(others), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("time", [1, loop.UNROLLED, 3 * loop.UNROLLED + 1])
@pytest.mark.parametrize("name", ["lstm_peephole", "gru", "lstm, forget blind to x"])
def test_rows_of_an_unknown_number_agree_with_the_textbook_over_several_iterations(name, time):
    layer, xs = made(name, implementation="loop"), inputs(time=time)
    states = initial_state(layer)
    unknown = [tf.TensorSpec([None, None, D])]
    outputs = tf.function(lambda x: layer(x, initial_state=states)[0], input_signature=unknown)(xs)
    expected, _ = textbook.run(layer.cells[0], xs, None, states)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("checkpoint_every", [None, 2])
@pytest.mark.parametrize("name", ["lstm_peephole", "gru"])
def test_texts_of_any_length_are_compiled_by_xla(name, checkpoint_every):
    layer = made(name, implementation="loop", checkpoint_every=checkpoint_every)

    def gradients(xs):
        with tf.GradientTape() as tape:
            tape.watch(xs)
            loss = tf.reduce_sum(tf.sin(layer(xs, training=True)[0]))
        return tape.gradient(loss, [xs, *layer.trainable_variables])

    unknown = [tf.TensorSpec([None, None, D])]
    compiled = tf.function(gradients, input_signature=unknown, jit_compile=True)
    for steps in (1, T, loop.CHUNK + 3):
        xs = tf.constant(np.random.default_rng(steps).normal(size=(2, steps, D)), tf.float32)
        for own, expected in zip(compiled(xs), gradients(xs), strict=True):
            np.testing.assert_allclose(own, expected, atol=1e-4)


def check_checkpoints(name, every, graph, **options):
    found, xs = [], inputs().astype("float64")
    for checkpoint_every, implementation in ((None, "reference"), (every, "auto")):
        layer = made(
            name,
            implementation=implementation,
            checkpoint_every=checkpoint_every,
            dtype="float64",
            **options,
        )
        states = [s.astype("float64") for s in initial_state(layer)]
        traced = graph and checkpoint_every
        found.append(values_and_gradients(layer, xs, states, MASK, True, traced))
    for ours, theirs in zip(*found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("name", slow_except(IN_GRAPH, SPECS))
def test_checkpoints_give_the_values_and_gradients_of_the_definition(name):
    check_checkpoints(name, 2, graph=False)


@pytest.mark.parametrize("every", [1, 2, T, T + 1])
@pytest.mark.parametrize("name", slow_except(["full, noisy"], IN_GRAPH))
def test_checkpoints_give_the_gradients_of_the_definition_in_a_graph(name, every):
    check_checkpoints(name, every, graph=True, direction="both")


def test_checkpoints_are_of_every_kth_step(monkeypatch):
    """The steps whose values are computed: all forward, then those of one chunk at a time."""
    chunks = []

    class Recorder(loop._Recurrence):
        def __init__(self, cell, mask, noise, training, hoist):
            super().__init__(cell, mask, noise, training, hoist)
            chunks.append((training, mask.shape[0]))

    monkeypatch.setattr(loop, "_Recurrence", Recorder)
    layer = made("lstm", checkpoint_every=2)
    values_and_gradients(layer, inputs(), initial_state(layer), MASK, True, graph=False)
    forward, backward = [2, 2, 1], [1, 2, 2]
    assert chunks[1:] == [*((False, n) for n in forward), *((True, n) for n in backward)]


def test_every_strip_has_checkpoints(monkeypatch):
    made_of = []

    class Recorder(loop._CheckpointedRecurrence):
        def __init__(self, cell, mask, noise, hoist, every):
            super().__init__(cell, mask, noise, hoist, every)
            made_of.append(every)

    monkeypatch.setattr(loop, "cores", lambda: 3)
    monkeypatch.setattr(loop, "MIN_ROWS", 1)
    monkeypatch.setattr(loop, "_CheckpointedRecurrence", Recorder)
    layer = made("gru", checkpoint_every=2)
    layer(inputs(), training=True)
    layer(inputs(), training=False)
    assert made_of == [2, 2, 2]


def test_no_step_at_all_has_checkpoints():
    layer = made("lstm", checkpoint_every=2)
    given, gradients = values_and_gradients(
        layer, inputs(time=0), initial_state(layer), None, training=True
    )
    assert given[0].shape == (B, 0, H) and gradients[0].shape == (B, 0, D)


def test_other_backends_have_no_checkpoints(monkeypatch):
    layer = GatedRNN(H, checkpoint_every=2)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert layer.implementation_for(training=True) == "reference"


@pytest.mark.parametrize("implementation", ["reference", "block"])
def test_checkpoints_with_another_implementation_are_refused(implementation):
    layer = GatedRNN(H, "lstm", implementation=implementation, checkpoint_every=2)
    with pytest.raises(ValueError, match=f"needs an implementation of .*, got '{implementation}'"):
        layer(inputs())


@pytest.mark.parametrize("name", [n for n in SPECS if block.runs(SPECS[n], "cpu", "float32")])
@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
def test_the_block_gives_the_values_and_gradients_of_the_definition(name, mask):
    found = []
    for implementation in ("reference", "block"):
        layer = made(name, implementation=implementation)
        states, graph = initial_state(layer), implementation == "block" and name in PLAIN
        found.append(values_and_gradients(layer, inputs(), states, mask, True, graph))
    for ours, theirs in zip(*found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(b).max(initial=0)))


@pytest.mark.parametrize("pinned", [{"input": 0.7}, {"forget": 0.1, "output": 0.3}])
@by_every_implementation(["greff_fgr"], "float64")
def test_a_pinned_gate_has_its_value_in_float64(pinned, name, implementation):
    """Of the equation "full", whose gates are states; and in weights of the same form."""
    spec = CellSpec("full", pinned=pinned)
    layer = GatedRNN(H, spec, return_state=True, implementation=implementation, dtype="float64")
    states = dict(zip(spec.definition.states, layer(inputs().astype("float64"))[1:], strict=True))
    for gate, value in pinned.items():
        np.testing.assert_array_equal(states[gate], value)


def test_an_initial_bias_has_its_value_in_float64():
    layer = GatedRNN(H, CellSpec("lstm", bias={"forget": 0.7}), dtype="float64")
    layer.build((None, None, D))
    np.testing.assert_array_equal(np.asarray(layer.cells[0].bias)[H : 2 * H], 0.7)


@by_every_implementation((*PLAIN, *REST), "float64")
def test_gradients_are_those_of_finite_differences(name, implementation):
    layer = made(name, implementation=implementation, dtype="float64")
    xs, states = inputs().astype("float64"), initial_state(layer)
    states = [s.astype("float64") for s in states]
    mix, rng = random_mix(layer, xs, states, 3), np.random.default_rng(4)

    def loss():
        given = layer(xs, initial_state=states, mask=MASK)
        return sum(float(np.sum(np.asarray(y) * m)) for y, m in zip(given, mix, strict=True))

    with tf.GradientTape() as tape:
        given = layer(xs, initial_state=states, mask=MASK)
        total = sum(tf.reduce_sum(y * m) for y, m in zip(given, mix, strict=True))
    weights = layer.trainable_weights
    gradients = tape.gradient(total, [w.value for w in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        value = weight.numpy()
        direction = rng.normal(size=value.shape)
        ends = []
        for step in (1e-5, -1e-5):
            weight.assign(value + step * direction)
            ends.append(loss())
        weight.assign(value)
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("training", [False, True], ids=["served", "training"])
@by_every_implementation(["lstm_peephole", "gru"])
def test_gradients_are_the_same_when_outputs_are_only_gathered_from(name, implementation, training):
    """TensorFlow hands the gradient of what is gathered from on as slices."""
    layer = made(name, implementation=implementation)
    xs, states = tf.constant(inputs()), [tf.constant(s) for s in initial_state(layer)]
    places = tf.constant([4, 1, 1, 5, 1, 4])  # some more than once, some never
    picked = tf.one_hot(places, B)
    rng = np.random.default_rng(4)

    def gradients(take):
        with tf.GradientTape() as tape:
            tape.watch([xs, states])
            given = layer(xs, initial_state=states, mask=MASK, training=training)
            taken = [take(y) for y in given]
            loss = sum(tf.reduce_sum(tf.sin(y) * m) for y, m in zip(taken, mix, strict=True))
        return tape.gradient(loss, [xs, *states, *(w.value for w in layer.trainable_weights)])

    mix = [rng.normal(size=y.shape) for y in layer(xs, initial_state=states, mask=MASK)]
    wanted = gradients(lambda y: tf.einsum("pb,b...->p...", picked, y))
    for run in (gradients, tf.function(gradients)):
        for a, b in zip(run(lambda y: tf.gather(y, places)), wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
    assert all(np.abs(g).max() > 1e-3 for g in wanted)


@pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
@by_every_implementation(["lstm", "gru", "rnn"])
def test_agrees_with_keras(name, implementation, mask):
    theirs, order = {
        "lstm": (keras.layers.LSTM, ("input", "forget", "candidate", "output")),
        "gru": (keras.layers.GRU, ("update", "reset", "candidate")),
        "rnn": (keras.layers.SimpleRNN, ("candidate",)),
    }[name]
    ours = made(name, implementation=implementation)
    oracle = theirs(H, return_sequences=True, return_state=True)
    oracle.build((B, T, D))
    maps = ours.spec.maps

    def reorder(weight):
        blocks = np.split(np.asarray(weight), len(maps), axis=-1)
        return np.concatenate([blocks[maps.index(gate)] for gate in order], axis=-1)

    weights = {w.name: w for w in ours.cells[0].weights}
    converted = [reorder(weights[k]) for k in ("kernel", "recurrent_kernel", "bias")]
    if name == "gru":  # Keras has a second bias for every gate, ours only where it is not a sum
        own = {"candidate": np.asarray(weights["recurrent_bias"])}
        second = np.concatenate([own.get(gate, np.zeros(H)) for gate in order])
        converted[-1] = np.stack([converted[-1], second])
    oracle.set_weights(converted)
    states, xs = initial_state(ours), inputs()
    for a, b in zip(
        ours(xs, initial_state=states, mask=mask),
        oracle(xs, initial_state=states, mask=mask),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=2e-6)


@by_every_implementation((*PLAIN, *REST))
def test_what_stands_in_padding_changes_nothing(name, implementation):
    layer, xs = made(name, implementation=implementation), inputs()
    states, broken = initial_state(layer), xs.copy()
    broken[~MASK] = np.nan
    plain = values_and_gradients(layer, xs, states, MASK, graph=False)
    padded = values_and_gradients(layer, broken, states, MASK, graph=False)
    assert np.isnan(broken).any()
    for ours, theirs in zip(plain, padded, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.any(padded[1][0][~MASK])  # the gradient of the padding itself


@by_every_implementation((*PLAIN, *REST))
def test_the_past_never_sees_the_future(name, implementation):
    layer, xs = made(name, implementation=implementation), inputs()
    changed = xs.copy()
    changed[:, 3:] += 1.0
    before, after = np.asarray(layer(xs)[0]), np.asarray(layer(changed)[0])
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.abs(before[:, 3:] - after[:, 3:]).max() > 1e-3


@by_every_implementation((*PLAIN, *REST))
def test_backward_is_forward_over_the_reversed_input(name, implementation):
    forward = made(name, implementation=implementation)
    backward = made(name, implementation=implementation, direction="backward")
    kept = made(name, implementation=implementation, go_backwards=True)
    xs, states = inputs(), initial_state(forward)
    want = [np.asarray(y) for y in forward(xs[:, ::-1], initial_state=states, mask=MASK[:, ::-1])]
    for layer, order in ((backward, -1), (kept, 1)):
        given = [np.asarray(y) for y in layer(xs, initial_state=states, mask=MASK)]
        np.testing.assert_array_equal(given[0][:, ::order], want[0])
        for a, b in zip(given[1:], want[1:], strict=True):
            np.testing.assert_array_equal(a, b)
    assert np.abs(want[0] - np.asarray(forward(xs)[0])).max() > 1e-3


@representative
def test_stepping_the_cell_by_hand_equals_the_layer(name):
    layer, xs = made(name), inputs()
    states = initial_state(layer)
    want, *lasts = layer(xs, initial_state=states)
    for t in range(T):
        output, states = layer.cells[0](xs[:, t], states)
        np.testing.assert_allclose(output, want[:, t], atol=1e-5, rtol=1e-5)
    for a, b in zip(states, lasts, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)


def test_a_cell_that_drops_is_trained_with_what_was_drawn_for_the_sequence():
    layer, xs = made("lstm, all at once"), inputs()
    states, (noise,) = initial_state(layer), drawn_once(layer)
    want, *lasts = layer(xs, initial_state=states, training=True)
    for t in range(T):
        output, states = layer.cells[0](xs[:, t], states, training=True, noise=noise.at_step(t))
        np.testing.assert_allclose(output, want[:, t], atol=1e-5, rtol=1e-5)
    for a, b in zip(states, lasts, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)
    with pytest.raises(
        ValueError, match="drawn once for a sequence; train the cell in a `GatedRNN"
    ):
        keras.layers.RNN(layer.cells[0])(xs, training=True)


@representative
def test_the_cell_runs_in_keras_own_loop(name):
    layer, xs = made(name), inputs()
    theirs = keras.layers.RNN(layer.cells[0], return_sequences=True)
    np.testing.assert_allclose(theirs(xs, mask=MASK), layer(xs, mask=MASK)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("merge", ["concat", "sum"])
@by_every_implementation(["lstm"])
def test_layers_and_directions_are_single_ones_put_together(direction, merge, name, implementation):
    whole = made(name, layers=2, direction=direction, merge=merge, implementation=implementation)
    xs, states, at = inputs(), initial_state(whole), 0
    outputs, *lasts = whole(xs, initial_state=states, mask=MASK)
    reads = ["forward", "backward"] if direction == "both" else [direction]
    for _ in range(2):
        given = []
        for read in reads:
            single = GatedRNN(H, "lstm", direction=read, return_sequences=True, return_state=True)
            single.build(xs.shape)
            single.set_weights(whole.cells[at // 2].get_weights())
            output, *last = single(xs, initial_state=states[at : at + 2], mask=MASK)
            given.append(np.asarray(output))
            for a, b in zip(last, lasts[at : at + 2], strict=True):
                np.testing.assert_allclose(a, b, atol=1e-6)
            at += 2
        xs = np.concatenate(given, -1) if merge == "concat" else sum(given)
    assert xs.shape[-1] == whole.output_size
    np.testing.assert_allclose(outputs, xs, atol=1e-6)


@by_every_implementation(["lstm"])
def test_without_sequences_it_gives_the_last_output_of_each_direction(name, implementation):
    layer = made(name, direction="both", implementation=implementation)
    only = made(name, direction="both", implementation=implementation, return_sequences=False)
    xs = inputs()
    _, forward, _, backward, _ = layer(xs, mask=MASK)
    np.testing.assert_allclose(
        only(xs, mask=MASK)[0], np.concatenate([forward, backward], -1), atol=1e-6
    )


@by_every_implementation(["lstm", "gru"])
def test_time_major_is_the_same_with_axes_exchanged(name, implementation):
    options = {"layers": 2, "direction": "both", "implementation": implementation}
    plain, major = made(name, **options), made(name, time_major=True, **options)
    xs = inputs()
    want = [np.asarray(y) for y in plain(xs, mask=MASK)]
    given = [np.asarray(y) for y in major(xs.swapaxes(0, 1), mask=MASK.T)]
    np.testing.assert_array_equal(given[0].swapaxes(0, 1), want[0])
    for a, b in zip(given[1:], want[1:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("implementation", "training"),
    [
        *((name, training) for name in ("portable", "loop", "block") for training in (False, True)),
        ("reference", True),  # which does the same in inference
    ],
)
def test_any_number_of_rows_and_steps_has_an_answer(implementation, training):
    layer = made("lstm_peephole", direction="both", implementation=implementation)
    signature = [tf.TensorSpec([None, None, D]), tf.TensorSpec([None, None], "bool")]

    @tf.function(input_signature=signature)
    def run(xs, mask):
        with tf.GradientTape() as tape:
            given = layer(xs, mask=mask, training=training)
            loss = sum(tf.reduce_sum(y) for y in given)
        return given, tape.gradient(loss, [w.value for w in layer.trainable_weights])

    for rows, time in ((0, 4), (3, 0), (0, 0), (1, 1), (2, 700)):
        given, gradients = run(tf.ones([rows, time, D]), tf.ones([rows, time], tf.bool))
        assert given[0].shape == (rows, time, 2 * H)
        assert all(np.isfinite(np.asarray(x)).all() for x in (*given, *gradients))
        if not rows * time:
            assert not any(np.asarray(g).any() for g in gradients)


@pytest.mark.parametrize("name", slow_except(PLAIN))
def test_a_saved_layer_computes_the_same(name, tmp_path):
    ids = keras.Input((None, D))
    model = keras.Model(ids, GatedRNN(H, name, direction="both", layers=2, dropout=0.1)(ids))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(inputs()), loaded(inputs()))


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 2, "direction": "both", "merge": "sum", "dropout": 0.25},
        {"go_backwards": True, "return_sequences": True, "return_state": True},
        {"time_major": True, "implementation": "reference", "direction": "backward"},
        {"checkpoint_every": 16},
        {"kernel_initializer": "he_normal", "recurrent_initializer": "identity"},
        {"cell": {"equation": "lstm", "bias": {"output": 2.0}, "peepholes": ["forget"]}},
    ],
)
def test_a_config_loses_nothing(options):
    layer = GatedRNN(H, **{"cell": "gru", **options})
    again = GatedRNN.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    for key, value in options.items():
        if key in ("cell", "kernel_initializer", "recurrent_initializer"):
            continue
        assert getattr(again, key) == value
    assert again.spec == layer.spec


def test_a_mask_that_keras_carries_is_honoured_and_handed_on():
    ids = np.array([[2, 3, 0, 0], [4, 0, 0, 0]])
    embed = keras.layers.Embedding(5, D, mask_zero=True)
    layer = GatedRNN(H, return_sequences=True)
    carried = layer(embed(ids))
    np.testing.assert_array_equal(carried, layer(np.asarray(embed(ids)), mask=ids != 0))
    np.testing.assert_array_equal(carried._keras_mask, ids != 0)


def test_an_explicit_mask_takes_precedence_over_an_attached_one():
    embed, layer = keras.layers.Embedding(5, D, mask_zero=True), GatedRNN(H)
    x, mask = embed(np.array([[2, 0, 3]])), np.array([[True, True, False]])
    np.testing.assert_array_equal(layer(x, mask=mask), layer(np.asarray(x), mask=mask))


def test_dropout_between_layers_only_drops_while_training():
    layer, xs = made("lstm", layers=2, dropout=0.5), inputs()
    np.testing.assert_array_equal(layer(xs)[0], layer(xs, training=False)[0])
    assert np.abs(np.asarray(layer(xs, training=True)[0] - layer(xs)[0])).max() > 1e-3


def test_every_block_of_a_weight_is_drawn_by_itself():
    for initializer in ("glorot_uniform", keras.initializers.GlorotUniform(seed=7)):
        layer = GatedRNN(64, "lstm", kernel_initializer=initializer)
        layer.build((None, None, 32))
        blocks = np.split(np.asarray(layer.cells[0].kernel), 4, axis=-1)
        limit = np.sqrt(6 / (32 + 64))  # the fans of one gate, not of four
        for at, each in enumerate(blocks):
            assert 0.9 * limit < np.abs(each).max() <= limit
            assert not any(np.array_equal(each, other) for other in blocks[:at])


@every_spec
def test_gates_start_where_the_spec_says(name):
    units, spec = 402, SPECS[name]  # a multiple of the number of heads
    # Orthogonal matrices of that size take long, and only biases are looked at.
    layer = GatedRNN(units, spec, kernel_initializer="zeros", recurrent_initializer="zeros")
    layer.build((None, None, D))
    blocks = np.split(np.asarray(layer.cells[0].bias), len(spec.maps))
    started = dict(zip(spec.maps, blocks, strict=True))
    for gate, each in started.items():
        law = spec.bias.get(gate, 0.0)
        if isinstance(law, float):
            np.testing.assert_array_equal(each, law)
    if name == "lstm_chrono":
        np.testing.assert_array_equal(started["input"], -started["forget"])
    if "chrono" in name:
        lags = np.exp(started["forget" if name == "lstm_chrono" else "update"])
        assert 1 <= lags.min() < 50 and 950 < lags.max() <= 999
        assert 450 < lags.mean() < 550


def test_a_uniform_bias_is_drawn_for_each_unit():
    layer = GatedRNN(400, CellSpec("gru", bias={"reset": "uniform:-1,3"}))
    layer.build((None, None, D))
    update, reset, _ = np.split(np.asarray(layer.cells[0].bias), 3)
    assert not update.any()
    assert -1 <= reset.min() < -0.8 and 2.8 < reset.max() <= 3 and 0.7 < reset.mean() < 1.3


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.parametrize("implementation", ["reference", "loop"])
@pytest.mark.parametrize(("name", "gate"), [("slstm", "input"), ("rwkv", "key")])
def test_a_mean_of_values_with_vanishing_weights_is_a_number(name, gate, implementation, dtype):
    layer, far = (
        GatedRNN(
            H,
            CellSpec(name, bias={gate: bias}),
            return_sequences=True,
            implementation=implementation,
            dtype=dtype,
        )
        for bias in (0.0, -150.0)
    )
    xs = tf.constant(inputs())
    layer(xs), far(xs)
    for new, old in zip(far.weights, layer.weights, strict=True):
        if not new.path.endswith("bias"):
            new.assign(old)
    with tf.GradientTape() as tape:
        tape.watch(xs)
        outputs = tf.cast(far(xs), "float32")
        loss = tf.reduce_sum(outputs * outputs)
    # The first step is a mean of one value, whatever its weight.
    np.testing.assert_allclose(outputs[:, 0], layer(xs)[:, 0], atol=1e-6)
    for values in (outputs, *tape.gradient(loss, [xs, *far.trainable_weights])):
        assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("name", "count"),
    [  # by hand, with D = 4 and H = 3: a block of a gate is 12 + 9 + 3
        ("rnn", 24),
        ("leaky", 24),
        ("leaky_learnt", 24 + 3),
        ("lstm", 4 * 24),
        ("lstm_1997", 3 * 24),
        ("lstm_peephole", 4 * 24 + 9),
        ("greff_nig", 3 * 24 + 6),
        ("greff_cifg", 3 * 24 + 6),
        ("greff_fgr", 4 * 24 + 9 + 9 * 9),
        ("gru", 3 * 24 + 3),
        ("gru_before", 3 * 24),
        ("mgu", 2 * 24),
        ("janet", 2 * 24),
        ("mut1", 15 + 24 + 9 + 3 + 12),
        ("mut2", 24 + 12 + 24 + 12),
        ("mut3", 3 * 24),
    ],
)
def test_parameters_are_counted_honestly(name, count):
    layer = GatedRNN(H, name)
    layer.build((None, None, D))
    assert layer.count_params() == count


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float64"])
@by_every_implementation(["lstm", "gru_layer_norm"], "bfloat16")
def test_other_float_types_stay_near_float32(dtype, name, implementation):
    layer, plain = made(name, implementation=implementation, dtype=dtype), made(name)
    xs = inputs()
    given, want = layer(xs, mask=MASK), plain(xs, mask=MASK)
    assert keras.backend.standardize_dtype(given[0].dtype) == layer.compute_dtype
    for a, b in zip(given, want, strict=True):
        np.testing.assert_allclose(np.asarray(a, "float32"), b, atol=0.06)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "up"}, r"direction must be one of \['forward', .*\], got 'up'"),
        ({"merge": "mean"}, "merge must be one of .*, got 'mean'"),
        ({"implementation": "cuda"}, "implementation must be one of .*, got 'cuda'"),
        ({"layers": 0}, "layers must be an integer of at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be an integer of at least 1, got 0"),
        ({"units": 0}, "units must be an integer of at least 1, got 0"),
        ({"cell": "lstmm"}, r"cell must be one of .*'greff_cifg', .*got 'lstmm'"),
        ({"unknown": True}, "unknown"),
    ],
)
def test_a_wrong_argument_says_what_would_be_right(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        GatedRNN(**{"units": H, **options})


def test_a_wrong_number_of_states_is_an_error():
    with pytest.raises(ValueError, match=r"must be a list of 4 states .*got 1"):
        GatedRNN(H, direction="both")(inputs(), initial_state=[np.zeros((B, H), "float32")])


def test_a_model_trains_with_jit_compile():
    with pytest.warns(UserWarning, match="jit_compile"):
        model = keras.Sequential([GatedRNN(H, "lstm_peephole")])
        model.compile("sgd", "mse", jit_compile=True)
        model.fit(inputs(), np.zeros((B, H)), verbose=0)
    assert GatedRNN(H, implementation="reference").supports_jit


def test_the_implementation_is_reported():
    assert GatedRNN(H).implementation_for("cpu") == "portable"
    assert GatedRNN(H).implementation_for("gpu") == "cudnn"
    assert GatedRNN(H, "lstm_peephole").implementation_for("gpu") == "portable"
    for name in implementations_of(CELLS["lstm"], "cpu"):
        assert GatedRNN(H, implementation=name).implementation_for("gpu") == name
    layer = GatedRNN(H, checkpoint_every=16)
    assert layer.implementation_for("gpu", training=True) == "loop"
    assert layer.implementation_for("gpu") == "cudnn"
    assert layer.explain_implementation("cpu").startswith("in training loop, because of check")


@pytest.mark.parametrize(
    ("name", "implementation", "dtype"),
    [("gru", "block", "float32"), ("lstm", "block", "mixed_bfloat16"), ("mgu", "cudnn", "float32")],
)
def test_an_implementation_that_cannot_run_a_cell_is_refused(name, implementation, dtype):
    layer = GatedRNN(H, name, implementation=implementation, dtype=dtype)
    with pytest.raises(ValueError, match=f"must be one of .*'auto', .*got '{implementation}'"):
        layer(inputs())


# Implementations that XLA can compile: "block" and "cudnn" are ops for which it has no kernel.
FAST = [("lstm", "auto"), ("gru", "reference"), ("lstm_zoneout", "loop")]
COMPILED = [
    pytest.param(
        name, implementation, marks=() if (name, implementation) in FAST else pytest.mark.slow
    )
    for name in (*REPRESENTATIVE, "lstm_zoneout")
    for implementation in ("auto", "loop", "reference")
]


@pytest.mark.parametrize(("name", "implementation"), COMPILED)
def test_values_and_gradients_are_compiled_by_xla(name, implementation):
    dtype = "float32" if name == "lstm" else "float64"  # "block" would run an LSTM of float32
    layer = made(name, implementation=implementation, dtype=dtype)
    drawn_once(layer)
    xs, states = tf.cast(inputs(), dtype), [tf.cast(s, dtype) for s in initial_state(layer)]

    def run(training):
        with tf.GradientTape() as tape:
            tape.watch([xs, states])
            outputs = layer(xs, initial_state=states, mask=MASK, training=training)
            loss = sum(tf.reduce_sum(tf.sin(output)) for output in outputs)
        if not training:
            return outputs
        variables = [weight.value for weight in layer.trainable_weights]
        return outputs, tape.gradient(loss, [xs, states, variables])

    for training in (False, True):
        compiled = tf.function(run, jit_compile=True)(training)
        pairs = zip(tf.nest.flatten(compiled), tf.nest.flatten(run(training)), strict=True)
        for one, other in pairs:
            assert_close(one, other, 1e-5)


def test_a_model_of_the_definition_is_compiled_by_xla():
    losses = []
    for jit_compile in (True, False):
        layer = made("lstm", implementation="reference", return_state=False, return_sequences=False)
        model = keras.Sequential([keras.Input((None, D)), layer])
        model.compile("sgd", "mse", jit_compile=jit_compile)
        losses.append([model.train_on_batch(inputs(), np.ones((B, H))) for _ in range(2)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_xla_never_gets_the_op_of_cudnn(monkeypatch):
    monkeypatch.setattr(recurrent, "_gpu_is_visible", lambda: True)
    layer = made("lstm", return_state=False)
    assert layer.implementation_for() == "cudnn"
    outputs = tf.function(layer, jit_compile=True)(inputs())
    monkeypatch.undo()
    np.testing.assert_allclose(outputs, layer(inputs()), atol=1e-6)


@pytest.mark.parametrize("name", ["lstm", "lstm_zoneout"])
def test_the_derivative_is_planned_once_for_eager_training(name, monkeypatch):
    layer, made_plans = made(name), []

    class CountedPlan(derivative.Plan):
        def __init__(self, *arguments):
            made_plans.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(derivative, "Plan", CountedPlan)
    gradients = []
    for training in (True, False, True, False):
        keras.utils.set_random_seed(1)
        with tf.GradientTape() as tape:
            outputs = layer(inputs(), training=training)
            loss = sum(tf.reduce_sum(output) for output in outputs)
        gradients.append(tape.gradient(loss, [w.value for w in layer.trainable_weights]))
    assert len(made_plans) == (2 if CELLS[name].random else 1)  # zoneout has rates or masks
    for one, other in zip(gradients[1], gradients[3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_eager_execution_runs_a_single_loop():
    assert loop.cores() == 1
    with tf.Graph().as_default():
        assert loop.cores() >= 1


def test_the_plan_of_a_cell_is_forgotten_with_it():
    layer = made("gru")
    layer(inputs(), training=True)
    before = len(derivative._PLANS)
    del layer
    gc.collect()
    assert len(derivative._PLANS) < before
