"""Trees are parsed in the graph as they are by a parser that reads one token after another."""

import random

import pytest
import tensorflow as tf

from models.text import trees

VALID = ["(3 (2 It) (4 (2 's) (4 good)))", " ( x(y a )(z b)(w(v c)) ) ", "(1 word)", "(2 -LRB-)"]
INVALID = [
    "", " ", "(", ")", "a", "()", "(1)", "(1 a", "(1 a))", "1 a)", "(1 a) (2 b)", "(1 a b)",
    "((1 a))", "(1 (2 a) b)", "(1 a (2 b))", ")(1 a)(", "(1 (2 a))) (", "(1 (2 a) () )", "(1 a) b",
]  # fmt: skip


def read(text):
    """Returns (label, word or None, nodes) of a valid text, by recursive descent."""
    tokens = iter(text.replace("(", " ( ").replace(")", " ) ").split())

    def node():
        label, word, below = next(tokens), "", []
        while (token := next(tokens)) != ")":
            if token == "(":
                below.append(node())
            else:
                word = token
        return label, word, below

    assert next(tokens) == "("
    return node()


def listed(node, parent=-1, rows=None):
    """The label, word and parent of each node, in the order of the text."""
    rows = [] if rows is None else rows
    label, word, below = node
    index = len(rows)
    rows.append((label, word, parent))
    for child in below:
        listed(child, index, rows)
    return rows


def drawn(rng, depth):
    """A random tree as text."""
    if not depth or rng.random() < 0.3:
        return f"({rng.randrange(5)} w{rng.randrange(9)})"
    return (
        f"({rng.randrange(5)} {' '.join(drawn(rng, depth - 1) for _ in range(rng.randint(1, 4)))})"
    )


def test_words_labels_and_parents_are_those_of_a_recursive_parser():
    rng = random.Random(0)
    texts = [*VALID, *(drawn(rng, depth) for depth in range(6) for _ in range(4))]
    batch = trees.parse(tf.constant([texts[0], "(not a tree", *texts[1:]]))
    assert batch.valid.numpy().tolist() == [True, False] + [True] * (len(texts) - 1)
    rows = [row for row in range(len(texts) + 1) if row != 1]
    for row, text in zip(rows, texts, strict=True):
        expected = listed(read(text))
        count = len(expected)
        assert batch.present[row].numpy().tolist() == [
            index < count for index in range(batch.present.shape[1])
        ]
        for index, (label, word, parent) in enumerate(expected):
            assert batch.labels[row, index] == label.encode()
            assert batch.words[row, index] == word.encode()
            assert batch.parents[row, index] == parent
    for values, empty in ((batch.labels, b""), (batch.words, b""), (batch.parents, -1)):
        assert set(values.numpy()[~batch.present.numpy()].tolist()) == {empty}


@pytest.mark.parametrize("alone", [True, False])
def test_texts_that_are_not_trees_have_no_nodes(alone):
    batches = [[text] for text in INVALID] if alone else [[*INVALID, VALID[0]]]
    for texts in batches:
        batch = trees.parse(tf.constant(texts))
        assert not batch.valid[: len(INVALID)].numpy().any(), texts
        assert not batch.present[: len(INVALID)].numpy().any()
        assert batch.words.shape == batch.parents.shape == (len(texts), 0 if alone else 5)


def test_a_batch_without_texts_is_parsed():
    batch = trees.parse(tf.constant([], tf.string))
    assert batch.parents.shape[0] == batch.valid.shape[0] == 0


def test_other_labels_are_written_at_the_nodes_of_a_tree():
    labels = tf.constant([[f"l{node}" for node in range(5)]] * 3)
    texts = tf.constant([VALID[0], "(1 a b)", VALID[1]])
    assert trees.relabel(texts, labels).numpy().tolist() == [
        b"(l0 (l1 It) (l2 (l3 's) (l4 good)))",
        b"",
        b"(l0 (l1 a) (l2 b) (l3 (l4 c)))",
    ]
    assert trees.relabel(tf.constant(["("]), labels[:1, :0]).numpy().tolist() == [b""]


def test_trees_with_too_many_nodes_are_not_valid():
    rng = random.Random(1)
    texts = [*VALID, *(drawn(rng, depth) for depth in range(6))]
    counts = [len(listed(read(text))) for text in texts]
    for limit in sorted({*counts, 1}):
        batch = trees.parse(tf.constant(texts), limit)
        assert batch.valid.numpy().tolist() == [count <= limit for count in counts]
        assert batch.parents.shape[1] <= limit
