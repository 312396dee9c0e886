"""The network of trees reads nodes below before those above, and no padding."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import models
from models.networks.language_model import language_model
from models.networks.tree_network import tree_classifier, tree_reader
from models.text.words import UNKNOWN

NODES = np.array([[3, 1, 2, 4], [2, 3, 0, 0]])
PARENTS = np.array([[-1, 0, 0, 2], [-1, 0, -1, -1]])


@pytest.mark.parametrize(("layers", "arity"), [(1, None), (2, 2)])
def test_the_output_of_the_root_is_that_of_its_node_and_reads_all_nodes(layers, arity):
    keras.utils.set_random_seed(0)
    sizes = {"features": 5, "outputs": 3, "cell": "gru", "units": 6, "embedding": 4}
    root, nodes = (
        tree_reader(**sizes, layers=layers, arity=arity, return_sequences=each)
        for each in (False, True)
    )
    nodes.set_weights(root.get_weights())
    outputs = np.asarray(root([NODES, PARENTS]))
    by_node = np.asarray(nodes([NODES, PARENTS]))
    assert outputs.shape == (2, 3) and by_node.shape == (2, 4, 3)
    np.testing.assert_allclose(outputs, by_node[:, 0], atol=1e-6)
    alone = np.asarray(nodes([NODES[1:, :2], PARENTS[1:, :2]]))
    np.testing.assert_allclose(by_node[1:, :2], alone, atol=1e-6)  # whatever the padding
    changed = NODES.copy()
    changed[0, 3] = 1  # a leaf below node 2
    after = np.asarray(nodes([changed, PARENTS]))
    differs = np.abs(after - by_node).max(axis=-1) > 1e-6
    assert differs.tolist() == [[True, False, True, True], [False] * 4]


def test_every_network_is_loaded_in_a_process_that_has_imported_none(tmp_path):
    sizes = {"cell": "gru", "units": 4, "embedding": 3}
    networks = {
        "trees": tree_classifier(
            vocabulary=9, classes=3, layers=1, head=[keras.layers.Dense(3)], inner=2, **sizes
        ),
        "reader": tree_reader(features=5, outputs=3, **sizes),
        "language_model": language_model(vocabulary=9, excluded=[0, 1], layers=2, **sizes),
    }
    for name, network in networks.items():
        network.save(tmp_path / f"{name}.keras")
    # Each module that registers a class of Keras, whatever network has it.
    root = Path(models.__file__).parent
    modules = [
        f"models.{'.'.join(path.relative_to(root).with_suffix('').parts)}"
        for path in root.rglob("*.py")
        if "register_keras_serializable" in path.read_text(encoding="utf-8")
    ]
    program = (
        "import sys, models\n"
        f"for name in {list(networks)}:\n"
        f"    models.load({str(tmp_path)!r} + '/' + name + '.keras')\n"
        f"print(sorted(set({modules}) - set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root.parent, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_word_dropout_replaces_words_but_neither_inner_nodes_nor_padding():
    keras.utils.set_random_seed(0)
    inner, parents = 2, np.array([[-1, 0, 0, 2, 2], [-1, 0, 0, -1, -1]])
    nodes = np.array([[inner, 3, inner, 4, 5], [inner, 4, 3, 0, 0]])
    model = tree_classifier(
        vocabulary=6,
        classes=3,
        cell="lstm",
        units=4,
        layers=2,
        embedding=4,
        head=[],
        inner=inner,
        arity=2,
        word_dropout=1 - 1e-7,
    )
    unknown = np.where(nodes > inner, UNKNOWN, nodes)
    expected, words = (model({"ids": ids, "parents": parents}) for ids in (unknown, nodes))
    dropped = model({"ids": nodes, "parents": parents}, training=True)
    np.testing.assert_allclose(dropped, expected, atol=1e-6)
    assert np.abs(words - expected).max() > 1e-3
