"""A linear-chain conditional random field (CRF) on top of any sequence network.

A softmax per step scores each tag independently; a conditional random field (Lafferty
et al. 2001) scores whole sequences of tags, so that it can learn which tag may follow
which. It runs on every Keras backend. In a model of Keras layers:

    >>> import keras, numpy as np
    >>> from models.layers.crf import CRF, CRFLoss
    >>> words = keras.Input((None,), dtype="int32")
    >>> mask = keras.ops.not_equal(words, 0)
    >>> x = keras.layers.Embedding(100, 8)(words)
    >>> x = keras.layers.LSTM(8, return_sequences=True)(x, mask=mask)
    >>> logits = keras.layers.Dense(5)(x)
    >>> crf = CRF(5)
    >>> model = keras.Model(words, crf(logits, mask=mask))
    >>> model.compile("adam", loss=CRFLoss(crf))
    >>> sentences, tags = np.array([[7, 2, 9, 0]]), np.array([[1, 0, 4, 0]])
    >>> history = model.fit(sentences, tags, verbose=0)
    >>> tagger = keras.Model(words, crf(logits, mask=mask, decode=True))
    >>> tagger.predict(sentences, verbose=0).shape
    (1, 4)

The mask is passed explicitly: whether Keras propagates it through a layer depends on the
layer and on the version of Keras.

Shapes: B batch, T time, K tags.
"""

import numbers
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ..cells.cell import Tensor
from .fixed_lag import FixedLagDecoder


@keras.saving.register_keras_serializable(package="gated")
class CRF(keras.layers.Layer):
    """A linear-chain conditional random field over K tags.

    The score of tags y for logits x is that of Collobert et al. (2011, eq. 12, with start
    and end scores): the start score of the first tag, the end score of the last, the logit
    of every tag and the transition score of every pair of neighbours. The probability of y
    is the exponential of its score, normalised over all sequences of tags.

    A mask may have gaps and may begin anywhere: the chain consists of the valid steps, in
    their order. Logits and tags at masked steps affect no value and no gradient, NaN
    included. Sums are computed in float32, or in float64 if that is the dtype of the layer.

    Weights:
        transitions: (K, K), from the tag of the row to that of the column.
        start, end: (K,), scores of the first and of the last tag.

    Args:
        classes: K, the number of tags.
        initializer: Initializer of all weights; with zeros the field starts as a softmax
            per step.
        regularizer: Regularizer of all weights.
        constraints: Which sequences are possible: `start` (K,), `transitions` (K, K) and `end`
            (K,) of bool, such as those of `models.text.entities.constraints`. All others have
            the probability 0, in the loss, in decoding and in marginals. None allows all.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        logits: (B, T, K), the scores of the network for each tag at each step.
        mask: (B, T) bool, true at valid steps; takes precedence over a mask that Keras
            propagates with the logits. None uses that mask, or else all steps. A warning is
            given if there is neither and the number of steps is variable, where batches are
            usually padded.
        decode: Whether to return tags.

    Returns:
        The logits, unchanged, with the mask attached for `CRFLoss`; or, with `decode`, the
        most probable tags, (B, T) int32, as of the method `decode`.

    Raises:
        ValueError: `classes` is not a positive integer, the shape of the constraints, of the
            logits or of the mask does not fit, or the constraints allow no sequence of one step.

    Example:
        >>> import numpy as np
        >>> from models.layers.crf import CRF
        >>> crf = CRF(3)
        >>> logits = np.array([[[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]], "float32")
        >>> tags, scores = crf.decode(logits)
        >>> np.array(tags).tolist(), np.array(scores).tolist()
        ([[1, 0]], [5.0])
    """

    def __init__(
        self,
        classes: int,
        *,
        initializer: Any = "zeros",
        regularizer: Any = None,
        constraints: Sequence | None = None,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        if isinstance(classes, bool) or not isinstance(classes, numbers.Integral) or classes < 1:
            raise ValueError(f"classes must be an integer of at least 1, got {classes!r}.")
        self.classes = classes = int(classes)
        self.initializer = keras.initializers.get(initializer)
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraints = _checked_constraints(constraints, classes)
        self.supports_masking = True
        # In mixed precision weights are float32 already; sums over time need more than 16 bits.
        self._float = "float64" if self.variable_dtype == "float64" else "float32"
        self.transitions, self.start, self.end = (
            self.add_weight(
                name=name,
                shape=shape,
                initializer=self.initializer,
                regularizer=self.regularizer,
                dtype=self._float,
                autocast=False,
            )
            for name, shape in (
                ("transitions", (classes, classes)),
                ("start", (classes,)),
                ("end", (classes,)),
            )
        )
        self.built = True

    def call(self, logits: Tensor, mask: Tensor | None = None, decode: bool = False) -> Tensor:
        if decode:
            return self.decode(logits, mask)[0]
        self._prepared(logits, mask)  # raises the errors that the loss would raise
        if (
            mask is None
            and getattr(logits, "_keras_mask", None) is None
            and logits.shape[1] is None
        ):
            warnings.warn(
                f"{self.name} was called without a mask on sequences of variable length: padded "
                "steps will count as tags. Pass mask=...; a mask of ones states that nothing is "
                "padded.",
                stacklevel=2,
            )
        # A copy, because Keras attaches the mask to the output, which must not be the input.
        return ops.copy(logits)

    def log_likelihood(self, logits: Tensor, tags: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the log-probability of sequences of tags.

        Args:
            logits: (B, T, K), as in a call.
            tags: (B, T) integers, at least 0 and below K.
            mask: (B, T) bool or None, as in a call.

        Returns:
            (B,): 0 for a row without valid steps, NaN where a tag is out of range, and -inf
            for tags that the constraints forbid.
        """
        logits, mask = self._prepared(logits, mask)
        tags = ops.where(mask, ops.cast(tags, "int32"), 0)
        in_range = ops.all(ops.logical_and(tags >= 0, tags < self.classes), axis=1)
        weights = self._weights()
        score = _score(logits, ops.clip(tags, 0, self.classes - 1), mask, *weights)
        value = ops.where(ops.any(mask, axis=1), score - _partition(logits, mask, *weights), 0.0)
        return ops.where(in_range, value, float("nan"))

    def decode(self, logits: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the most probable sequences of tags (Viterbi 1967).

        Args:
            logits: (B, T, K), as in a call.
            mask: (B, T) bool or None, as in a call.

        Returns:
            The tags, (B, T) int32, 0 at masked steps; and their scores, (B,), 0 for a row
            without valid steps.
        """
        logits, mask = self._prepared(logits, mask)
        return _viterbi(logits, mask, *self._weights())

    def fixed_lag_decoder(self, lag: int) -> FixedLagDecoder:
        """Returns what decodes each tag when the next `lag` steps are known."""
        return FixedLagDecoder(*self._weights(), lag)

    def marginals(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the marginal probability of each tag at each step (forward-backward).

        Args:
            logits: (B, T, K), as in a call.
            mask: (B, T) bool or None, as in a call.

        Returns:
            (B, T, K): sums to 1 over the tags at valid steps, and is 0 at masked ones.
        """
        logits, mask = self._prepared(logits, mask)
        transitions, start, end = self._weights()
        before, _ = _beginnings(logits, mask, transitions, start, ops.logsumexp)
        return _marginals(logits, mask, before, _endings(logits, mask, transitions, end))

    def _prepared(self, logits, mask):
        """The logits, (B, T, K), 0 at masked steps, and the mask, (B, T) bool."""
        if mask is None:
            mask = getattr(logits, "_keras_mask", None)
        logits = ops.cast(logits, self._float)
        if len(logits.shape) != 3 or logits.shape[-1] != self.classes:
            raise ValueError(
                f"{self.name}: logits must be (batch, time, {self.classes}), "
                f"got {tuple(logits.shape)}."
            )
        if mask is None:
            return logits, ops.ones_like(logits[..., 0], dtype="bool")
        mask = ops.cast(mask, "bool")
        if len(mask.shape) != 2:
            raise ValueError(f"{self.name}: mask must be (batch, time), got {tuple(mask.shape)}.")
        return ops.where(mask[..., None], logits, 0.0), mask

    def _weights(self):
        """Transitions, start and end as tensors, -inf where the constraints forbid them."""
        weights = (self.transitions, self.start, self.end)
        if self.constraints is None:
            # Copies, for backends whose ops reject variables.
            return [ops.copy(weight) for weight in weights]
        start, transitions, end = self.constraints
        return [
            ops.where(np.array(allowed), weight, float("-inf"))
            for allowed, weight in zip((transitions, start, end), weights, strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        constraints = {} if self.constraints is None else {"constraints": self.constraints}
        return {
            **super().get_config(),
            "classes": self.classes,
            "initializer": keras.initializers.serialize(self.initializer),
            "regularizer": keras.regularizers.serialize(self.regularizer),
            **constraints,
        }


class ConstrainedDecoder:
    """Decodes the most probable sequences of tags among those that constraints allow.

    It is a CRF without weights: the score of a sequence is the sum of its logits.

    Args:
        constraints: Which sequences are possible, as in `CRF`.
    """

    def __init__(self, constraints: Sequence):
        start = constraints[0]
        start, transitions, end = _checked_constraints(constraints, len(start))
        self._weights = [
            np.where(allowed, 0.0, -np.inf).astype("float32")
            for allowed in (transitions, start, end)
        ]

    def decode(self, logits: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns tags (B, T) int32, 0 at masked steps, and their scores (B,).

        Args:
            logits: (B, T, K).
            mask: (B, T) bool; None for all steps.
        """
        logits = ops.cast(logits, "float32")
        mask = ops.ones_like(logits[..., 0], dtype="bool") if mask is None else mask
        logits = ops.where(mask[..., None], logits, 0.0)
        return _viterbi(logits, mask, *map(ops.convert_to_tensor, self._weights))

    def fixed_lag_decoder(self, lag: int) -> FixedLagDecoder:
        """Returns what decodes each tag when the next `lag` steps are known."""
        return FixedLagDecoder(*self._weights, lag)


def _checked_constraints(constraints: Sequence | None, classes: int) -> list | None:
    """Returns start, transitions and end as lists of bool, which JSON can contain."""
    if constraints is None:
        return None
    start, transitions, end = (np.asarray(allowed, dtype=bool) for allowed in constraints)
    shapes = [allowed.shape for allowed in (start, transitions, end)]
    if shapes != [(classes,), (classes, classes), (classes,)]:
        raise ValueError(
            f"constraints must have the shapes ({classes},), ({classes}, {classes}) and "
            f"({classes},), got {shapes}."
        )
    if not (start & end).any():
        raise ValueError("constraints must allow a sequence of one step.")
    return [allowed.tolist() for allowed in (start, transitions, end)]


def _without_last_axis(sample_weight: Tensor | None, y_pred: Tensor) -> Tensor | None:
    """Returns weights (B,) of sequences for (B, 1), which Keras's losses take, too."""
    if sample_weight is None or len(sample_weight.shape) != 2:
        return sample_weight
    is_of_rows = sample_weight.shape[1] == 1 and y_pred.shape[1] != 1
    return sample_weight[:, 0] if is_of_rows else sample_weight


@keras.saving.register_keras_serializable(package="gated")
class CRFLoss(keras.losses.Loss):
    """Negative log-likelihood of the tags of each sequence: `compile(loss=CRFLoss(crf))`.

    Sequences have equal weight, whatever their length. Metrics receive the logits, not the
    decoded tags; use `CRFAccuracy` for the accuracy of the latter. A saved model cannot
    store which layer its loss refers to: load it with compile=False, and compile it with
    the loss of its own layer.

    Args:
        crf: CRF layer of the model, whose output the loss receives.
        reduction: Reduction over sequences, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the loss, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Tags, (B, T).
        y_pred: Output of the layer, (B, T, K); a mask attached by Keras is applied.
        sample_weight: (B,), weights of the sequences; or (B, T), where 0 masks a step and
            any other value does not.

    Raises:
        ValueError: `crf` is not a `CRF`, or the loss is restored from a config.
    """

    def __init__(
        self,
        crf: CRF,
        *,
        reduction: str | None = "sum_over_batch_size",
        name: str = "crf_loss",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not isinstance(crf, CRF):
            raise ValueError(f"crf must be the CRF layer of the model, got {crf!r}.")
        # Not the layer itself, whose weights Keras would save a second time with the loss.
        self._name_of_crf, self._log_likelihood = crf.name, crf.log_likelihood

    def __call__(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        # Keras would apply the mask to the values of the loss, which are per sequence.
        mask = getattr(y_pred, "_keras_mask", None)
        sample_weight = _without_last_axis(sample_weight, y_pred)
        if sample_weight is not None and len(sample_weight.shape) == 2:
            steps = ops.not_equal(sample_weight, 0)
            mask = steps if mask is None else ops.logical_and(mask, steps)
            sample_weight = None
        if mask is not None:
            y_pred = {"logits": ops.copy(y_pred), "mask": mask}  # a copy has no mask attached
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        inputs = y_pred if isinstance(y_pred, dict) else {"logits": y_pred}
        return -self._log_likelihood(tags=y_true, **inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "crf": self._name_of_crf, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CRFLoss":
        raise ValueError(
            f"CRFLoss cannot be restored from a file, as it refers to the layer {config['crf']!r}: "
            "load the model with compile=False and compile it with CRFLoss(that layer)."
        )


@keras.saving.register_keras_serializable(package="gated")
class CRFAccuracy(keras.metrics.Mean):
    """Share of valid steps whose decoded tag is correct: `compile(weighted_metrics=[...])`.

    As in `CRFLoss`, the mask is the one that Keras attaches to the logits, or weights
    (B, T) where 0 masks a step and any other value does not.

    Args:
        crf: CRF layer of the model, whose output the metric receives.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Mean`.

    Raises:
        ValueError: `crf` is not a `CRF`, or the metric is restored from a config.
    """

    def __init__(self, crf: CRF, name: str = "crf_accuracy", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        if not isinstance(crf, CRF):
            raise ValueError(f"crf must be the CRF layer of the model, got {crf!r}.")
        self._name_of_crf, self._decode = crf.name, crf.decode

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        mask = getattr(y_pred, "_keras_mask", None)
        sample_weight = _without_last_axis(sample_weight, y_pred)
        if sample_weight is not None and len(sample_weight.shape) == 2:
            steps = ops.not_equal(sample_weight, 0)
            mask = steps if mask is None else ops.logical_and(mask, steps)
        tags, _ = self._decode(ops.copy(y_pred), mask)
        correct = ops.reshape(ops.equal(tags, ops.cast(y_true, tags.dtype)), (-1,))
        # Flat, because Keras would first average each sequence, padding included.
        super().update_state(correct, None if mask is None else ops.reshape(mask, (-1,)))

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "crf": self._name_of_crf}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CRFAccuracy":
        raise ValueError(
            "CRFAccuracy cannot be restored from a file, as it refers to the layer "
            f"{config['crf']!r}: load the model with compile=False and compile it with "
            "CRFAccuracy(that layer)."
        )


def _viterbi(logits, mask, transitions, start, end):
    """The most probable tags, (B, T) int32, and their scores, (B,)."""
    alphas, last = _beginnings(logits, mask, transitions, start, _largest)
    score = ops.where(ops.any(mask, axis=1), _largest(last + end, axis=-1), 0.0)
    following = ops.transpose(transitions)

    def back(tag, alpha, is_last):
        onward = ops.where(is_last, end, ops.take(following, tag[:, 0], axis=0))
        return ops.cast(ops.argmax(alpha + onward, axis=-1, keepdims=True), "int32")

    initial = ops.zeros((ops.shape(logits)[0], 1), dtype="int32")
    tags, _ = _scan_valid_steps(back, initial, ops.flip(alphas, 1), ops.flip(mask, 1))
    return ops.where(mask, ops.flip(tags, 1)[..., 0], 0), score


def _score(logits, tags, mask, transitions, start, end):
    """Score of sequences of tags, (B,); tags are 0 at masked steps."""
    unary = ops.take_along_axis(logits, tags[..., None], axis=-1)[..., 0]
    unary += ops.where(_first(mask), ops.take(start, tags), 0.0)
    unary += ops.where(_last(mask), ops.take(end, tags), 0.0)
    # Valid steps move to the left, in their order, so that neighbours become adjacent.
    time = ops.shape(mask)[1]
    order = ops.argsort(ops.where(mask, 0, time) + ops.arange(time), axis=1)
    tags = ops.take_along_axis(tags, order, axis=1)
    mask = ops.take_along_axis(mask, order, axis=1)
    pairs = tags[:, :-1] * logits.shape[-1] + tags[:, 1:]
    binary = ops.take(ops.reshape(transitions, (-1,)), pairs)
    return ops.sum(unary, axis=1) + ops.sum(ops.where(mask[:, 1:], binary, 0.0), axis=1)


def _partition(logits, mask, transitions, start, end):
    """Log partition function: logsumexp of the scores of all sequences of tags, (B,).

    The gradient is the expectation of each potential (Lafferty et al. 2001), computed by
    forward-backward. It is given explicitly because XLA cannot differentiate the scan of
    TensorFlow.
    """

    @ops.custom_gradient
    def value(logits, transitions, start, end):
        before, last = _beginnings(logits, mask, transitions, start, ops.logsumexp)

        def gradient(*args: Any, upstream=None):
            upstream = args[0] if upstream is None else upstream
            after = _endings(logits, mask, transitions, end)
            unary = _marginals(logits, mask, before, after) * upstream[:, None, None]
            previous = ops.pad(before, [[0, 0], [1, 0], [0, 0]])[:, :-1]
            pairs = _softmax(previous[..., None] + transitions + after[:, :, None], axis=(2, 3))
            has_previous = ops.logical_and(mask, ops.logical_not(_first(mask)))
            pairs *= ops.where(has_previous, upstream[:, None], 0.0)[..., None, None]
            first = ops.where(_first(mask)[..., None], unary, 0.0)
            last_step = ops.where(_last(mask)[..., None], unary, 0.0)
            return unary, *(ops.sum(terms, axis=(0, 1)) for terms in (pairs, first, last_step))

        return ops.logsumexp(last + end, axis=-1), gradient

    return value(logits, transitions, start, end)


def _marginals(logits, mask, before, after):
    """Marginal probability of each tag, from the totals up to its step and from it on."""
    # Both totals contain the logits of the step.
    probabilities = _softmax(before + after - logits, axis=-1)
    return ops.where(mask[..., None], probabilities, 0.0)


def _beginnings(logits, mask, transitions, start, total):
    """Forward recursion: the total score of all prefixes, by their last tag.

    `total` is `ops.logsumexp`, or `_largest` for the best prefix. Returns the totals up to
    each step, (B, T, K), and up to the last, (B, K).
    """

    def step(alpha, x, is_first):
        return x + ops.where(is_first, start, total(alpha[:, :, None] + transitions, axis=1))

    initial = ops.zeros((ops.shape(logits)[0], logits.shape[-1]), dtype=logits.dtype)
    return _scan_valid_steps(step, initial, logits, mask)


def _endings(logits, mask, transitions, end):
    """Backward recursion: logsumexp of the scores of all suffixes by first tag, (B, T, K)."""
    reverse = ops.flip(logits, 1), ops.flip(mask, 1)
    totals, _ = _beginnings(*reverse, ops.transpose(transitions), end, ops.logsumexp)
    return ops.flip(totals, 1)


def _scan_valid_steps(step, state, values, mask):
    """Runs a recurrence over the valid steps; masked steps leave the state unchanged.

    Args:
        step: Function of the state, the values (B, F) and a flag (B, 1), true at the first
            valid step, that returns the next state.
        state: (B, N), before the first step.
        values: (B, T, F).
        mask: (B, T) bool.

    Returns:
        The states after each step, (B, T, N), and after the last, (B, N).
    """
    flags = ops.cast(ops.stack([mask, _first(mask)], axis=-1), values.dtype)
    # One tensor, because TensorFlow cannot scan two of unknown length; padded by one masked
    # step, because it cannot scan zero steps.
    packed = ops.pad(ops.concatenate([values, flags], axis=-1), [[0, 0], [0, 1], [0, 0]])

    def advance(state, inputs):
        following = step(state, inputs[:, :-2], inputs[:, -1:] > 0)
        following = ops.where(inputs[:, -2:-1] > 0, following, state)
        return following, following

    last, states = ops.scan(advance, state, ops.swapaxes(packed, 0, 1))
    return ops.swapaxes(states, 0, 1)[:, :-1], last


def _first(mask):
    """True at the first valid step of each row, (B, T) bool."""
    return ops.logical_and(mask, ops.cumsum(ops.cast(mask, "int32"), axis=1) == 1)


def _last(mask):
    """True at the last valid step of each row, (B, T) bool."""
    return ops.flip(_first(ops.flip(mask, 1)), 1)


def _largest(x, axis, keepdims=False):
    """Maximum that allows an empty batch, unlike `ops.max` without an initial value."""
    return ops.max(x, axis=axis, keepdims=keepdims, initial=float("-inf"))


def _softmax(x, axis):
    """Softmax over one or two axes, without the warning of Keras for a single class."""
    x = ops.exp(x - _largest(x, axis, keepdims=True))
    return x / ops.sum(x, axis=axis, keepdims=True)
