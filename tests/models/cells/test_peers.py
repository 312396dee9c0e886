"""Against what others wrote: PyTorch's own LSTM and GRU, where it is installed."""

import numpy as np
import pytest
import tensorflow as tf

from models.cells.recurrent import GatedRNN, implementations_of
from models.cells.specs import CELLS

torch = pytest.importorskip("torch")

B, T, D, H = 3, 7, 4, 5

# Their order of blocks, by the names of ours.
ORDERS = {
    "lstm": (torch.nn.LSTM, ("input", "forget", "candidate", "output")),
    "gru": (torch.nn.GRU, ("reset", "update", "candidate")),
}


def converted(cell, order):
    """The weights of a cell as PyTorch has them: (G * H, ...), two biases."""
    read = {w.name: np.asarray(w) for w in cell.weights}

    def reorder(name):
        blocks = np.split(read[name], len(cell.spec.maps), axis=-1)
        return np.concatenate([blocks[cell.spec.maps.index(gate)] for gate in order], axis=-1)

    own = read.get("recurrent_bias", np.zeros(H, "float32"))
    second = [own if gate in cell.spec.definition.recurrent_bias else 0 * own for gate in order]
    weights = (reorder("kernel").T, reorder("recurrent_kernel").T, reorder("bias"))
    return [torch.tensor(w.copy()) for w in (*weights, np.concatenate(second))]


@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize(
    ("name", "implementation"),
    [(name, way) for name in ORDERS for way in implementations_of(CELLS[name], "cpu")],
)
def test_values_and_gradients_are_those_of_pytorch(name, implementation, direction):
    theirs_of, order = ORDERS[name]
    rng = np.random.default_rng(0)
    ours = GatedRNN(
        H,
        name,
        layers=2,
        direction=direction,
        return_sequences=True,
        return_state=True,
        implementation=implementation,
    )
    ours.build((None, None, D))
    ours.set_weights([rng.normal(size=w.shape, scale=0.7) for w in ours.get_weights()])
    theirs = theirs_of(D, H, 2, batch_first=True, bidirectional=direction == "both")
    parameters = [w for cell in ours.cells for w in converted(cell, order)]
    with torch.no_grad():
        for parameter, weight in zip(theirs.parameters(), parameters, strict=True):
            parameter.copy_(weight)

    xs = rng.normal(size=(B, T, D)).astype("float32")
    cells, each = len(ours.cells), len(ours.cells[0].state_size)
    states = rng.normal(size=(each, cells, B, H)).astype("float32")
    flat = [tf.constant(states[s, c]) for c in range(cells) for s in range(each)]
    x, their_x = tf.constant(xs), torch.tensor(xs, requires_grad=True)
    mix = rng.normal(size=(B, T, ours.output_size)).astype("float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs, *lasts = ours(x, initial_state=flat)
        loss = tf.reduce_sum(outputs * mix)
    start = torch.tensor(states)
    want, last = theirs(their_x, tuple(start) if each == 2 else start[0])
    (want * torch.tensor(mix)).sum().backward()

    np.testing.assert_allclose(outputs, want.detach(), atol=2e-6)
    last = torch.stack(last) if each == 2 else last[None]
    for at, state in enumerate(lasts):
        np.testing.assert_allclose(state, last[at % each, at // each].detach(), atol=2e-6)
    np.testing.assert_allclose(tape.gradient(loss, x), their_x.grad, atol=1e-5)
