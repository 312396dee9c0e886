"""The signature `entities` of a tagger whose tags mark entities.

    entities(text: string[B]) -> starts, ends, byte_starts, byte_ends: int32[B, E],
        types: string[B, E], probability: float32[B, E], count: int32[B], truncated: bool[B]

The outputs of a text with `count` entities are padded with 0 and "" beyond it.
"""

from collections.abc import Sequence

import tensorflow as tf

from models.text.entity_tags import TagReader
from models.text.offsets import token_offsets


def entity_outputs(
    text: tf.Tensor,
    tokens: tf.RaggedTensor,
    lengths: tf.Tensor,
    ids: tf.Tensor,
    probability: tf.Tensor,
    tags: Sequence[str],
) -> dict[str, tf.Tensor]:
    """Returns the outputs of the signature.

    Args:
        text: (B,) strings.
        tokens: (B, T) strings, ragged: the first tokens of the texts, which have tags.
        lengths: Number of all tokens of each text, (B,).
        ids: Indices of the tags of the N tokens, (N,) int32.
        probability: Of the tags, (N,).
        tags: The tags.
    """
    rows = tokens.value_rowids()
    reader = TagReader(tags)
    first, last, types = reader.borders(ids, rows)
    begins, ends = (tf.where(border)[:, 0] for border in (first, last))
    in_entity = tf.where(types >= 0)[:, 0]
    number = tf.gather(tf.cumsum(tf.cast(first, tf.int32)) - 1, in_entity)  # entity of each token
    offsets = token_offsets(text, tokens)
    flat = {
        "starts": tf.gather(offsets.starts, begins),
        "ends": tf.gather(offsets.ends, ends),
        "byte_starts": tf.gather(offsets.byte_starts, begins),
        "byte_ends": tf.gather(offsets.byte_ends, ends),
        "types": tf.gather(tf.constant(reader.types), tf.gather(types, begins)),
        "probability": tf.math.segment_min(tf.gather(probability, in_entity), number),
    }
    entity_rows = tf.gather(rows, begins)
    outputs = {}
    for name, values in flat.items():
        ragged = tf.RaggedTensor.from_value_rowids(
            values, entity_rows, nrows=tokens.nrows(), validate=False
        )
        outputs[name] = ragged.to_tensor()
    return {
        **outputs,
        "count": tf.cast(ragged.row_lengths(), tf.int32),
        "truncated": tf.cast(lengths, tf.int64) > tokens.row_lengths(),
    }
