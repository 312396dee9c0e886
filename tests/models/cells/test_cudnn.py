"""cuDNN's op, which only a GPU runs, held to the definition without one.

An op of the same name is written here from cuDNN's documentation: it takes the
packed weights apart again and computes one step after another, each row as
long as it is told. What remains for a GPU is that cuDNN does what it documents.
"""

import itertools
import types

import numpy as np
import pytest
import tensorflow as tf

from models.cells.implementations import cudnn
from tests.models.cells.test_recurrent import (
    MASK,
    SPECS,
    B,
    D,
    H,
    T,
    initial_state,
    inputs,
    made,
    values_and_gradients,
)
from tests.support.cells import PLAIN

CLAIMED = [name for name, spec in SPECS.items() if cudnn.runs(spec, "gpu", "float32")]
every_claimed = pytest.mark.parametrize("name", CLAIMED)
every_mask = pytest.mark.parametrize("mask", [None, MASK], ids=["unmasked", "masked"])
DIRECTIONS = ["forward", "backward", "both"]


def cudnn_lstm(w, x, h, c):
    """Developer guide, `CUDNN_LSTM`: linear layers 0 to 3 are i, f, the new memory, o."""
    i, f, o = (tf.sigmoid(w(k, x, h)) for k in (0, 1, 3))
    c = f * c + i * tf.tanh(w(2, x, h))
    return o * tf.tanh(c), c


def cudnn_gru(w, x, h, c):
    """Developer guide, `CUDNN_GRU`: linear layers 0 to 2 are r, i (the update), h'."""
    r, i = tf.sigmoid(w(0, x, h)), tf.sigmoid(w(1, x, h))
    new = tf.tanh(w.of_x(2, x) + r * w.of_h(2, h))
    return (1 - i) * new + i * h, c


STEPS = {
    "lstm": (4, cudnn_lstm),
    "gru": (3, cudnn_gru),
    "rnn_tanh": (1, lambda w, x, h, c: (tf.tanh(w(0, x, h)), c)),
    "rnn_relu": (1, lambda w, x, h, c: (tf.nn.relu(w(0, x, h)), c)),
}


class Linear:
    """The linear layers of one direction: (R_k, W_k and two biases each)."""

    def __init__(self, matrices, biases, count):
        self.matrices, self.biases, self.count = matrices, biases, count

    def of_x(self, k, x):
        return x @ tf.transpose(self.matrices[k]) + self.biases[k]

    def of_h(self, k, h):
        return h @ tf.transpose(self.matrices[self.count + k]) + self.biases[self.count + k]

    def __call__(self, k, x, h):
        return self.of_x(k, x) + self.of_h(k, h)


def fake_op(*, input, input_h, input_c, params, sequence_lengths, rnn_mode, direction, is_training):
    """`CudnnRNNV3`, time-major, one layer."""
    count, step = STEPS[rnn_mode]
    turns = 2 if direction == "bidirectional" else 1
    features, units = input.shape[-1], input_h.shape[-1]
    assert is_training
    at = 0

    def taken(*shape):
        nonlocal at
        at += int(np.prod(shape))
        return tf.reshape(params[at - int(np.prod(shape)) : at], shape)

    matrices = []
    for _ in range(turns):
        own = [taken(units, features) for _ in range(count)]
        matrices.append(own + [taken(units, units) for _ in range(count)])
    biases = [[taken(units) for _ in range(2 * count)] for _ in range(turns)]
    assert at == params.shape[0]

    lengths = sequence_lengths.numpy()
    assert lengths.min() >= 1  # cuDNN refuses an empty row
    outputs, hs, cs = [], [], []
    for turn in range(turns):
        linear = Linear(matrices[turn], biases[turn], count)
        rows, last_h, last_c = [], [], []
        for row, length in enumerate(lengths):
            h, c = input_h[turn, row][None], input_c[turn, row][None]
            given = [tf.zeros([1, units])] * input.shape[0]
            for t in range(length)[:: -1 if turn else 1]:
                h, c = step(linear, input[t, row][None], h, c)
                given[t] = h
            rows.append(tf.concat(given, 0))
            last_h.append(h)
            last_c.append(c)
        outputs.append(tf.stack(rows, axis=1))
        hs.append(tf.concat(last_h, 0))
        cs.append(tf.concat(last_c, 0))
    return types.SimpleNamespace(
        output=tf.concat(outputs, -1), output_h=tf.stack(hs), output_c=tf.stack(cs)
    )


def test_these_are_claimed():
    assert {"lstm", "gru", "rnn", "rnn_relu", "leaky", "lstm_coupled", "greff_np"} <= set(CLAIMED)
    assert not {"lstm_peephole", "janet", "lstm_zoneout", "rnn_identity"} & set(CLAIMED)


def cases():
    """With a mask: every cell in both directions, a cell of each equation in one; others slow."""
    for name, direction, is_masked in itertools.product(CLAIMED, DIRECTIONS, (True, False)):
        is_fast = is_masked and (name in PLAIN or direction == "both")
        marks = () if is_fast else pytest.mark.slow
        masked = "masked" if is_masked else "unmasked"
        mask = MASK if is_masked else None
        yield pytest.param(name, mask, direction, marks=marks, id=f"{name}-{masked}-{direction}")


@pytest.mark.parametrize(("name", "mask", "direction"), list(cases()))
def test_it_gives_the_values_and_gradients_of_the_definition(name, mask, direction, monkeypatch):
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", fake_op)
    found, rng = [], np.random.default_rng(4)
    mix = None
    for implementation in ("reference", "cudnn"):
        layer = made(name, implementation=implementation, direction=direction)
        xs = tf.constant(inputs())
        states = [tf.constant(s) for s in initial_state(layer)]
        with tf.GradientTape() as tape:
            tape.watch([xs, states])
            given = layer(xs, initial_state=states, mask=mask)
            mix = mix or [rng.normal(size=y.shape) for y in given]
            loss = sum(tf.reduce_sum(y * m) for y, m in zip(given, mix, strict=True))
        wrt = [xs, states, [w.value for w in layer.trainable_weights]]
        found.append([*given, *tf.nest.flatten(tape.gradient(loss, wrt))])
    for ours, theirs in zip(*found, strict=True):
        scale = max(1, np.abs(np.asarray(theirs)).max(initial=0))
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale)


def test_the_op_itself_is_traced_with_its_gradient():
    layer = made("gru", implementation="cudnn", direction="both", layers=2)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, D]), tf.TensorSpec([None, None], bool)]
    )
    def step(xs, mask):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(xs, mask=mask, training=True)[0])
        return tape.gradient(loss, [w.value for w in layer.trainable_weights])

    graph = step.get_concrete_function().graph.as_graph_def()
    ops = [node.op for f in graph.library.function for node in f.node_def]
    assert ops.count("CudnnRNNV3") >= 2
    assert ops.count("CudnnRNNBackpropV3") == 2


@pytest.mark.gpu
@every_claimed
@every_mask
def test_a_gpu_gives_the_values_and_gradients_of_the_loop(name, mask):
    found = []
    for implementation in ("loop", "cudnn"):
        layer = made(name, implementation=implementation, direction="both", layers=2)
        states = initial_state(layer)
        found.append(values_and_gradients(layer, inputs(), states, mask, training=True))
    for ours, theirs in zip(*map(tf.nest.flatten, found), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(1, np.abs(theirs).max(initial=0)))


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "time"), [(0, T), (B, 0)])
def test_a_gpu_answers_nothing_with_nothing(rows, time):
    layer = made("lstm", implementation="cudnn", direction="both")
    outputs = layer(tf.zeros([rows, time, D]), mask=tf.zeros([rows, time], tf.bool))[0]
    assert outputs.shape == (rows, time, 2 * H)
