"""Labelled trees, written as s-expressions, to words and parents in core TensorFlow ops.

    (3 (2 It) (4 (2 's) (4 good)))

A node is a label and a word, or a label and nodes; this is the format of the Stanford Sentiment
Treebank (Socher et al. 2013). Brackets separate tokens, as blanks do. Nodes are in the order of
their opening brackets, so that node 0 is the root.

Shapes: B texts, T tokens, N nodes of the largest tree.
"""

from typing import NamedTuple

import tensorflow as tf

_OPEN, _CLOSE, _ATOM, _END = 0, 1, 2, 3


class Trees(NamedTuple):
    """Batch of trees.

    Attributes:
        words: (B, N) string, "" at nodes that have other nodes below them, and at padding.
        labels: (B, N) string, "" at padding.
        parents: (B, N) int32, the index of each node's parent; -1 for the root and at padding.
        present: (B, N) bool, false at padding.
        valid: (B,) bool, whether the text is a tree. Other rows have no nodes.
    """

    words: tf.Tensor
    labels: tf.Tensor
    parents: tf.Tensor
    present: tf.Tensor
    valid: tf.Tensor


def parse(text: tf.Tensor, max_nodes: int | None = None) -> Trees:
    """Parses texts (B,), in time that grows with T log T.

    Args:
        text: (B,) strings.
        max_nodes: Most nodes of a tree; texts with more are not valid. None for no limit.

    Example:
        >>> trees = parse(tf.constant(["(3 (2 It) (4 (2 's) (4 good)))", "(3 It"]))
        >>> trees.words[0].numpy().tolist(), trees.parents[0].numpy().tolist()
        ([b'', b'It', b'', b"'s", b'good'], [-1, 0, 0, 2, 2])
        >>> trees.valid.numpy().tolist()
        [True, False]
    """
    tokens, kinds, depths, valid = _read(text, max_nodes)
    starts = (kinds == _OPEN) & valid[:, None]
    counts = tf.reduce_sum(tf.cast(starts, tf.int32), axis=1)
    count = tf.reduce_max(tf.concat([counts, [0]], axis=0))  # 0 without texts
    length = tf.shape(tokens)[1]
    places = tf.sort(tf.where(starts, tf.range(length), length), axis=1)[:, :count]
    present = places < length
    places = tf.where(present, places, length - 3)

    def gather(values, offset):
        return tf.gather(values, places + offset, batch_dims=1)

    is_leaf = gather(kinds, 2) == _ATOM
    return Trees(
        tf.where(present & is_leaf, gather(tokens, 2), ""),
        tf.where(present, gather(tokens, 1), ""),
        _parents(tf.where(present, gather(depths, 0), 0), count),
        present,
        valid,
    )


def relabel(text: tf.Tensor, labels: tf.Tensor, max_nodes: int | None = None) -> tf.Tensor:
    """Returns texts (B,) with other labels at the nodes, "" for texts that are not trees.

    Args:
        text: (B,) strings.
        labels: (B, N) string, the label of each node, in the order of `parse`.
        max_nodes: As for `parse`.

    Example:
        >>> relabel(tf.constant(["(3 (2 It)(4 good) )"]), tf.constant([["a", "b", "c"]])).numpy()[0]
        b'(a (b It) (c good))'
    """
    tokens, kinds, _, valid = _read(text, max_nodes)
    before = tf.pad(kinds, [(0, 0), (1, 0)], constant_values=_END)[:, :-1]
    is_label = (kinds == _ATOM) & (before == _OPEN) & valid[:, None]
    node = tf.cumsum(tf.cast(kinds == _OPEN, tf.int32), axis=1) - 1
    labels = tf.pad(labels, [(0, 0), (0, 1)], constant_values="")  # there may be no node at all
    node = tf.where(is_label, node, 0)
    tokens = tf.where(is_label, tf.gather(labels, node, batch_dims=1), tokens)
    result = tf.strings.reduce_join(tokens, axis=1, separator=" ")
    for pattern, rewrite in ((r"\( ", "("), (r" \)", ")"), (r"\s+$", "")):
        result = tf.strings.regex_replace(result, pattern, rewrite)
    return tf.where(valid, result, "")


def _read(
    text: tf.Tensor, max_nodes: int | None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the tokens of texts, their kinds, and the depths after them, all (B, T), and `valid`.

    Each row ends with at least three empty tokens, so that one can look ahead.
    """
    tokens = tf.strings.split(tf.strings.regex_replace(text, r"([()])", r" \1 "))
    if max_nodes is not None:
        # A node has at most four tokens. More are not read: they would make every row as long.
        tokens = tokens[:, : 4 * max_nodes + 1]
    tokens = tf.pad(tokens.to_tensor(""), [(0, 0), (0, 3)], constant_values="")
    kinds = tf.where(tokens == "", _END, _ATOM)
    kinds = tf.where(tokens == "(", _OPEN, tf.where(tokens == ")", _CLOSE, kinds))
    steps = tf.cast(kinds == _OPEN, tf.int32) - tf.cast(kinds == _CLOSE, tf.int32)
    depths = tf.cumsum(steps, axis=1)
    valid = _is_valid(kinds, depths)
    if max_nodes is not None:
        valid &= tf.reduce_sum(tf.cast(kinds == _OPEN, tf.int32), axis=1) <= max_nodes
    return tokens, kinds, depths, valid


def _is_valid(kinds: tf.Tensor, depths: tf.Tensor) -> tf.Tensor:
    """Whether the tokens of each row, (B, T) kinds and depths after them, are one tree."""
    before = tf.pad(kinds, [(0, 0), (1, 0)], constant_values=_END)[:, :-1]
    after = tf.pad(kinds, [(0, 0), (0, 1)], constant_values=_END)[:, 1:]
    is_label = (kinds == _ATOM) & (before == _OPEN)
    label_before = tf.pad(is_label, [(0, 0), (1, 0)])[:, :-1]
    is_word = (kinds == _ATOM) & label_before
    follows = {
        _OPEN: after == _ATOM,
        _CLOSE: after != _ATOM,
        _ATOM: (is_label & ((after == _OPEN) | (after == _ATOM))) | (is_word & (after == _CLOSE)),
        _END: after == _END,
    }
    valid = tf.reduce_all(tf.stack([(kinds != k) | rule for k, rule in follows.items()]), axis=0)
    # A tree ends where its depth returns to 0, and begins with a bracket: no depth is 0 before.
    valid &= (depths > 0) == ((kinds != _END) & (after != _END))
    return tf.reduce_all(valid, axis=1) & (kinds[:, 0] == _OPEN)


def _parents(depths: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The last node before each that is one less deep, (B, N); of the depths 0 and 1, -1."""
    count = tf.cast(count, tf.int64)  # its square may exceed 32 bits
    keys = tf.cast(depths, tf.int64) * count + tf.range(count)  # by depth, then by position
    ordered = tf.sort(keys, axis=1)
    above = tf.searchsorted(ordered, keys - count) - 1
    parents = tf.gather(ordered, tf.maximum(above, 0), batch_dims=1) % tf.maximum(count, 1)
    return tf.where(depths > 1, tf.cast(parents, tf.int32), -1)
