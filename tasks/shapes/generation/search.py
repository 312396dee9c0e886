"""Beam search with a trained decoder."""

import tensorflow as tf

from models.beam_search import BeamSearchConfig, Hypotheses, search
from models.layers.decoder import Decoder, Memory
from models.text.subwords import END, START
from models.text.words import PADDING


class SearchDecoder:
    """A trained decoder with the settings of its search.

    Args:
        decoder: The layer.
        config: Settings of the beam search.
    """

    def __init__(self, decoder: Decoder, config: BeamSearchConfig):
        self._decoder, self._config = decoder, config

    def generate(self, memory: Memory, max_length: tf.Tensor) -> Hypotheses:
        """Searches for the most probable sentences.

        Args:
            memory: Memory of B rows.
            max_length: Maximum number of tokens of each row, (B,) int32.
        """
        beams = Memory(*(tf.repeat(tensor, self._config.beam_size, axis=0) for tensor in memory))
        return search(
            lambda tokens, _, states: self._decoder.step(tokens, beams, states),
            self._decoder.initial_states(memory),
            memory.mask,
            vocabulary=self._decoder.embedding.input_dim,
            start=START,
            end=END,
            longest=max_length,
            settings=self._config,
            forbidden=[PADDING],
        )

    def attention(self, memory: Memory, tokens: tf.Tensor) -> tf.Tensor:
        """Returns the attention weights (B, T, S) with which tokens (B, T) were predicted."""
        previous = tf.concat([tf.fill([tf.shape(tokens)[0], 1], START), tokens], axis=1)
        _, weights = self._decoder(previous, memory.values, memory.mask, training=False)
        return weights[:, :-1] * tf.cast(tokens != PADDING, tf.float32)[..., None]
