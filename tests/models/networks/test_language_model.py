"""The language model of a reader, and the reader that starts from it.

The oracles are the same network on reversed and on longer rows, a softmax in NumPy, and the
language model itself.
"""

import keras
import numpy as np
import pytest

from models.cells.recurrent import GatedRNN
from models.cells.specs import CELLS
from models.layers.sampled_softmax import SampledSoftmax
from models.networks.language_model import reader_language_model
from models.networks.transfer import initialise_reader
from tests.support.cells import slow_except

IDS = np.array([[2, 5, 3, 1, 4, 2], [4, 2, 2, 0, 0, 0]])


def network(cell="lstm", layers=1, embedding=5, units=4, direction="both"):
    keras.utils.set_random_seed(1)
    sizes = {"units": units, "layers": layers, "embedding": embedding}
    return reader_language_model(vocabulary=6, cell=cell, direction=direction, **sizes)


def losses(model, ids):
    """The losses of a two-sided network, whose padding and unknown words have no meaning."""
    targets = np.concatenate(
        [np.pad(ids[:, 1:], [(0, 0), (0, 1)]), np.pad(ids[:, :-1], [(0, 0), (1, 0)])], 1
    )
    return model({"ids": ids, "targets": targets}).numpy()


def test_the_backward_losses_are_the_forward_ones_of_the_reversed_row():
    model = network(layers=2)
    sides = [
        [*model.get_layer(side).cells, model.get_layer(f"{side}_projection")]
        for side in ("forward", "backward")
    ]
    for forward, backward in zip(*sides, strict=True):
        backward.set_weights(forward.get_weights())
    row = IDS[:1]
    forward, backward = np.split(losses(model, row), 2, axis=1)
    of_reversed = losses(model, row[:, ::-1])
    np.testing.assert_allclose(of_reversed[:, :5], backward[:, :0:-1], atol=1e-5)
    np.testing.assert_allclose(of_reversed[:, 7:], forward[:, -2::-1], atol=1e-5)


def test_padding_changes_no_loss():
    model = network()
    padded, alone = losses(model, IDS)[1], losses(model, IDS[1:, :3])[0]
    np.testing.assert_allclose(padded[[0, 1, 7, 8]], alone[[0, 1, 4, 5]], atol=1e-5)


def test_the_softmax_is_exact_outside_training_and_estimated_in_training():
    embedding = keras.layers.Embedding(9, 3)
    embedding.build()
    layer = SampledSoftmax(embedding, first=2, samples=200_000, seed=1)
    drawn = np.random.default_rng(0)
    table, bias = drawn.normal(size=(9, 3)), drawn.normal(size=9)
    embedding.embeddings.assign(table)
    layer.bias.assign(bias)
    features = drawn.normal(size=(2, 4, 3)).astype("float32")
    targets = np.array([[2, 3, 8, 4], [5, 6, 7, 2]])
    logits = (features @ table.T + bias)[..., 2:]
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(logs, targets[..., None] - 2, axis=-1)[..., 0]
    np.testing.assert_allclose(layer(features, targets), expected, atol=1e-5)
    np.testing.assert_allclose(layer(features, targets, training=True), expected, atol=0.02)


CASES = [(cell, layers) for cell in CELLS for layers in (1, 2)]


@pytest.mark.parametrize("case", slow_except([("lstm", 2), ("sru", 1)], CASES))
def test_a_reader_computes_at_first_what_the_language_model_does(case):
    cell, layers = case
    model = network(cell, layers, embedding=4)  # as many features as units, which some cells add
    sources = {side: model.get_layer(side) for side in ("forward", "backward")}
    embedded = model.get_layer("embedding")(IDS)
    mask = IDS != 0
    more = np.random.default_rng(0).normal(size=(*IDS.shape, 3)).astype("float32")
    reader = GatedRNN(4, cell, layers=layers, direction="both", return_sequences=True)
    inputs = keras.ops.concatenate([embedded, more], axis=-1)
    reader(inputs, mask=mask)
    initialise_reader(reader, sources)
    expected = [sources[side](embedded, mask=mask) for side in sources]
    np.testing.assert_allclose(
        reader(inputs, mask=mask), keras.ops.concatenate(expected, axis=-1), atol=1e-5
    )


def test_a_direction_without_a_source_keeps_its_weights():
    model = network(layers=2, direction="forward")
    reader = GatedRNN(4, "lstm", layers=2, direction="both", return_sequences=True)
    reader.build((None, None, 7))
    before = [cell.get_weights() for cell in reader.cells]
    initialise_reader(reader, {"forward": model.get_layer("forward")})
    for number, (cell, old) in enumerate(zip(reader.cells, before, strict=True)):
        is_equal = all(map(np.array_equal, cell.get_weights(), old))
        assert is_equal == bool(number % 2)


def test_sizes_that_differ_are_an_error():
    model = network(units=5, direction="forward")
    reader = GatedRNN(4, "lstm")
    reader.build((None, None, 7))
    with pytest.raises(ValueError):
        initialise_reader(reader, {"forward": model.get_layer("forward")})
