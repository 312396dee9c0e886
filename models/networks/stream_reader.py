"""A trained network that reads forward, taken apart to read a text in pieces.

Shapes: B batch, T time, D features, S numbers of all states of the cells.
"""

import itertools
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from .ensemble import is_ensemble, members


class StreamReader:
    """What precedes the recurrent layer of a network, the layer itself, and what follows.

    All networks of an ensemble are read; their states are joined.

    Args:
        model: The network.
        layer: Name of its recurrent layer, a `GatedRNN` of direction "forward".
        after: Name of the layer whose output `head` starts from.
        until: Name of the layer, of each network and of an ensemble, whose output `head` returns;
            None for the output of the network.

    Attributes:
        output_size: Features of the outputs of the recurrent layers of all networks.
        initial: Initial states, (1, S).
    """

    def __init__(self, model: keras.Model, layer: str, after: str, until: str | None = None):
        networks = members(model)
        self._layers = [network.get_layer(layer) for network in networks]
        self._features = [
            keras.Model(network.input, keras.tree.flatten(reader.input)[0])
            for network, reader in zip(networks, self._layers, strict=True)
        ]
        self._heads = [
            keras.Model(network.get_layer(after).output, _output(network, until))
            for network in networks
        ]
        self._tail = None
        if is_ensemble(model):
            self._tail = keras.Model(model.get_layer("logits").input, _output(model, until))
        self._sizes = [size for each in self._layers for size in each.state_size]
        self.output_size = sum(each.output_size for each in self._layers)
        with tf.init_scope():
            initial = [state for each in self._layers for state in each.get_initial_state(1)]
            self.initial = tf.concat(initial, axis=1)

    # Its Python statements need no conversion, which takes most of the time of an export.
    @tf.autograph.experimental.do_not_convert
    def advance(
        self,
        inputs: tf.Tensor | Mapping[str, tf.Tensor],
        states: tf.Tensor,
        mask: tf.Tensor,
        skip: int = 0,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads the next steps.

        Args:
            inputs: Inputs of the network, (B, `skip` + T, ...).
            states: Previous states, (B, S).
            mask: (B, T) bool, true at valid steps, which come first.
            skip: First steps of the inputs that were read before, on which later features depend.

        Returns:
            The outputs of the recurrent layers, (B, T, `output_size`), and the states, (B, S).
        """
        states = split_features(states, self._sizes)
        outputs, finals = [], []
        for features, layer in zip(self._features, self._layers, strict=True):
            own, states = states[: len(layer.state_size)], states[len(layer.state_size) :]
            output, final = layer.advance(features(inputs, training=False)[:, skip:], own, mask)
            outputs.append(output)
            finals += final
        return tf.concat(outputs, axis=-1), tf.concat(finals, axis=1)

    def by_network(self, outputs: tf.Tensor) -> list[tf.Tensor]:
        """Returns joined outputs (..., `output_size`) as those of each network."""
        return split_features(outputs, [layer.output_size for layer in self._layers])

    def head(self, outputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the output of the network for those of the layer `after` of each network."""
        results = [
            head(part, training=False) for head, part in zip(self._heads, outputs, strict=True)
        ]
        return results[0] if self._tail is None else self._tail(results, training=False)


def _output(model: keras.Model, layer: str | None) -> keras.KerasTensor:
    return model.get_layer(layer).output if layer else model.output


def split_features(values: tf.Tensor, sizes: Sequence[int]) -> list[tf.Tensor]:
    """Returns the parts of values (..., D) that have sizes of their last axis."""
    starts = itertools.accumulate(sizes, initial=0)
    return [values[..., start : start + size] for start, size in zip(starts, sizes, strict=False)]
