"""Beam search with trained decoders."""

from collections.abc import Sequence

import tensorflow as tf

from models.beam_search import BeamSearchConfig, Hypotheses, search
from models.layers.decoder import Decoder, Memory
from models.text.subwords import END, START
from models.text.words import PADDING


class SearchDecoder:
    """Trained decoders, one for each network of an ensemble, with the settings of their search.

    Several decoders write one sentence together: the log-probability of a token is the mean of
    theirs, and so are the attention weights.

    Args:
        decoders: The layers, which predict the same tokens.
        config: Settings of the beam search.
    """

    def __init__(self, decoders: Sequence[Decoder], config: BeamSearchConfig):
        self._decoders, self._config = list(decoders), config

    def generate(self, memories: Sequence[Memory], max_length: tf.Tensor) -> Hypotheses:
        """Searches for the most probable sentences.

        Args:
            memories: Memory of B rows for each decoder.
            max_length: Maximum number of tokens of each row, (B,) int32.
        """
        beams = [
            Memory(*(tf.repeat(tensor, self._config.beam_size, axis=0) for tensor in memory))
            for memory in memories
        ]
        states = [
            decoder.initial_states(memory)
            for decoder, memory in zip(self._decoders, memories, strict=True)
        ]

        def step(tokens, _, states_of_all):
            remaining, results = list(states_of_all), []
            for decoder, memory, own in zip(self._decoders, beams, states, strict=True):
                results.append(decoder.step(tokens, memory, remaining[: len(own)]))
                remaining = remaining[len(own) :]
            logits, attention, following = zip(*results, strict=True)
            following = [state for each in following for state in each]
            return _mean_log_probability(logits), _mean(attention), following

        return search(
            step,
            [state for each in states for state in each],
            memories[0].mask,
            vocabulary=self._decoders[0].embedding.input_dim,
            start=START,
            end=END,
            longest=max_length,
            settings=self._config,
            forbidden=[PADDING],
        )

    def attention(self, memories: Sequence[Memory], tokens: tf.Tensor) -> tf.Tensor:
        """Returns the attention weights (B, T, S) with which tokens (B, T) were predicted."""
        previous = tf.concat([tf.fill([tf.shape(tokens)[0], 1], START), tokens], axis=1)
        weights = _mean(
            [
                decoder(previous, memory.values, memory.mask, training=False)[1]
                for decoder, memory in zip(self._decoders, memories, strict=True)
            ]
        )
        return weights[:, :-1] * tf.cast(tokens != PADDING, tf.float32)[..., None]


def _mean_log_probability(logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the mean log-probabilities of several logits (N, V); those of a single one as is."""
    if len(logits) == 1:
        return logits[0]
    return _mean([tf.nn.log_softmax(each) for each in logits])


def _mean(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the mean of tensors of one shape."""
    return tensors[0] if len(tensors) == 1 else tf.reduce_mean(tf.stack(tensors), axis=0)
