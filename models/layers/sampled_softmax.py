"""Softmax over many words whose normaliser is estimated in training.

Shapes: B batch, T time, D features, V words, K samples.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..cells.cell import Tensor

_EXCLUDED = -1e9  # logit of an id that is never predicted


class SampledSoftmax(keras.layers.Layer):
    """Negative log-likelihood of words under a softmax whose weights are an embedding.

    In training, the sum over all words is estimated from the word itself and K others, the same at
    all steps of a batch, by importance sampling (Bengio & Senécal 2003; Jean et al. 2015, sec. 3):
    the time of a step does not grow with the vocabulary. The samples are drawn from a log-uniform
    distribution over the ids, which suits ids in the order of frequency. Outside training the sum
    is exact.

    The embedding is a layer of the same network; a network with this layer is not saved.

    Weights:
        bias: (V,).

    Args:
        embedding: The built layer of the embedding, V words of D features.
        first: The first id that is predicted; those before it have the probability 0.
        samples: K.
        seed: Seed of the samples; None draws one.
        **kwargs: `name` and `dtype` of a Keras layer.

    Call arguments:
        features: (B, T, D).
        targets: (B, T) int32, the words; the results of ids below `first` have no meaning.
        training: Whether the sum is estimated.

    Returns:
        (B, T) float32.
    """

    def __init__(
        self,
        embedding: keras.layers.Embedding,
        first: int,
        samples: int,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.embedding, self.first, self.samples = embedding, first, samples
        self._seed = keras.random.SeedGenerator(seed)
        self._size = embedding.input_dim - first  # words that are predicted
        self.bias = self.add_weight(
            shape=(embedding.input_dim,), initializer="zeros", name="bias", dtype="float32"
        )
        self.built = True

    def call(self, features: Tensor, targets: Tensor, training: bool = False) -> Tensor:
        features = ops.cast(features, "float32")
        table = ops.cast(self.embedding.embeddings, "float32")
        if not training:
            return self._exact(features, targets, table)
        own = ops.sum(features * ops.take(table, targets, axis=0), axis=-1)
        own = own + ops.take(self.bias, targets)
        samples, log_expected = self._draw()
        others = ops.matmul(features, ops.transpose(ops.take(table, samples, axis=0)))
        others = others + (ops.take(self.bias, samples) - log_expected)
        others = ops.where(ops.equal(targets[..., None], samples), _EXCLUDED, others)
        return ops.logaddexp(own, ops.logsumexp(others, axis=-1)) - own

    def _exact(self, features: Tensor, targets: Tensor, table: Tensor) -> Tensor:
        """Returns the result step by step, so that the logits of one step are in memory."""
        excluded = ops.arange(self.embedding.input_dim) < self.first

        def step(inputs: tuple[Tensor, Tensor]) -> Tensor:
            own_features, words = inputs
            logits = ops.matmul(own_features, ops.transpose(table)) + self.bias
            logits = ops.where(excluded, _EXCLUDED, logits)
            own = ops.take_along_axis(logits, words[:, None], axis=-1)[:, 0]
            return ops.logsumexp(logits, axis=-1) - own

        by_step = ops.map(step, (ops.swapaxes(features, 0, 1), ops.transpose(targets)))
        return ops.transpose(by_step)

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Returns K ids, and the logarithm of the expected occurrences of each among them."""
        scale = math.log(self._size + 1)
        uniform = keras.random.uniform((self.samples,), seed=self._seed)
        ranks = ops.cast(ops.exp(uniform * scale), "int32") - 1
        ranks = ops.clip(ranks, 0, self._size - 1)
        rank = ops.cast(ranks, "float32")
        probability = ops.log1p(1.0 / (rank + 1.0)) / scale
        return ranks + self.first, ops.log(self.samples * probability)

    def compute_output_shape(
        self, features_shape: Sequence[int | None], targets_shape: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        return tuple(targets_shape)
