"""Network of N→N: the logits of K tags for each word, from words and their characters.

Shapes: B batch, T time (words), C characters of a word, D features, K tags of all annotations.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from ..cells.recurrent import GatedRNN
from ..cells.specs import CellSpec
from ..layers.characters import CharacterReader
from ..layers.crf import CRF
from ..layers.lookahead import Lookahead
from ..layers.temperature import Temperature
from ..layers.word_dropout import RareWordDropout
from ..layers.word_vectors import countable_ids, embed_words
from ..text.words import PADDING


def tagger(
    *,
    vocabulary: int,
    alphabet: int,
    tags: int | Mapping[str, int],
    cell: CellSpec | Mapping | str,
    units: int,
    layers: int,
    embedding: int,
    vectors: Mapping[str, Any] | None = None,
    characters: int,
    character_embedding: int,
    affixes: int = 0,
    affix_embedding: int = 24,
    crf: bool = False,
    direction: str = "both",
    lookahead: int = 0,
    constraints: Sequence | None = None,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    implementation: str = "auto",
    dtype: str = "float32",
) -> keras.Model:
    """Builds a model of {"ids": (B, T), "characters": (B, T, C)} int32 to logits (B, T, K) float32.

    Both inputs are 0 at padding. A word is represented by its embedding and by its vector
    from `CharacterReader`; gated cells then read the words in both directions, or forward. The
    output of the layer "encoder", (B, T, 2 * units) or (B, T, units), holds a vector of each word
    in its context, for reuse in other models. Without a CRF, the layer "calibration" divides the
    logits by a temperature, 1 until it is assigned. Several annotations share all layers but
    these two: each has a layer "logits_NAME" and a layer "calibration_NAME", and the logits of all
    of them are side by side.

    Args:
        vocabulary: One more than the largest id of a word of the training part.
        alphabet: One more than the largest id of a character.
        tags: K, or the number of tags of each of several annotations, by name.
        cell: Cell spec or name, as accepted by `models.cells.specs.find`, for words and
            characters.
        units: Units per direction of each layer.
        layers: Number of recurrent layers.
        embedding: D, features of a word.
        vectors: Arguments of `WordVectors` but the vocabulary, which replaces the embedding; None
            for an embedding that is learnt.
        characters: Units per direction of the character reader; with 0 the model reads words
            only, and "ids" is its only input.
        character_embedding: Features of a character.
        affixes: Length of the longest affix, as in `CharacterReader`.
        affix_embedding: Features of an embedded affix, as in `CharacterReader`.
        crf: Whether the logits pass through a layer "crf", for its loss and decoding; only for
            one annotation.
        direction: "both", or "forward" for a network that can read a stream.
        lookahead: With "forward", the number of words after a word whose outputs its logits see,
            too, by the layer "lookahead".
        constraints: Constraints of the CRF, as in `CRF`; None for none.
        dropout: Share of features dropped in training.
        word_dropout: Strength of `RareWordDropout`; 0 for none.
        implementation: Implementation of `GatedRNN`.
        dtype: A Keras dtype policy, such as "mixed_bfloat16".

    Raises:
        ValueError: A CRF has several annotations.
    """
    if crf and isinstance(tags, Mapping):
        raise ValueError(f"a CRF has the tags of one annotation, got {sorted(tags)}.")
    ids = keras.Input((None,), dtype="int32", name="ids")
    inputs = {"ids": ids}
    mask = ops.not_equal(ids, PADDING)
    x = _dropped(ids, vocabulary, word_dropout, vectors) if word_dropout else ids
    x = embed_words(vocabulary, embedding, vectors, dtype)(x)
    if characters:
        inputs["characters"] = keras.Input((None, None), dtype="int32", name="characters")
        read = CharacterReader(
            alphabet,
            character_embedding,
            characters,
            cell,
            affixes=affixes,
            affix_embedding=affix_embedding,
            implementation=implementation,
            dtype=dtype,
            name="character_reader",
        )(inputs["characters"])
        x = keras.layers.Concatenate(dtype=dtype, name="words")([x, read])
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="words_dropout")(x)
    x = GatedRNN(
        units,
        cell,
        layers=layers,
        direction=direction,
        dropout=dropout if layers > 1 else 0.0,
        return_sequences=True,
        implementation=implementation,
        dtype=dtype,
        name="encoder",
    )(x, mask=mask)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="encoder_dropout")(x)
    if lookahead:
        x = Lookahead(lookahead, dtype=dtype, name="lookahead")(x, mask=mask)
    if isinstance(tags, Mapping):
        return keras.Model(inputs, _logits_of_annotations(x, tags), name="tagger")
    logits = keras.layers.Dense(tags, dtype="float32", name="logits")(x)
    if crf:
        logits = CRF(tags, constraints=constraints, name="crf")(logits, mask=mask)
    else:
        logits = Temperature(dtype="float32", name="calibration")(logits)
    return keras.Model(inputs, logits, name="tagger")


def _dropped(ids, vocabulary, strength, vectors):
    """The ids of words, of which training replaces some rare ones by that of unknown words."""
    countable = countable_ids(ids, vocabulary, vectors)
    x = RareWordDropout(vocabulary, strength, name="word_dropout")(countable)
    if vectors is None:
        return x
    return ops.where(ops.equal(x, countable), ids, x)  # uncounted words are not dropped


def _logits_of_annotations(x, tags):
    """The logits of all annotations, side by side."""
    heads = []
    for name, count in tags.items():
        logits = keras.layers.Dense(count, dtype="float32", name=f"logits_{name}")(x)
        heads.append(Temperature(dtype="float32", name=f"calibration_{name}")(logits))
    return keras.layers.Concatenate(dtype="float32", name="annotations")(heads)
