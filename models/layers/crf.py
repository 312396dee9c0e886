"""A linear-chain conditional random field, to stand on any network that reads a sequence.

A softmax per step judges each tag by itself; a conditional random field (Lafferty
et al. 2001) judges whole sequences of tags, so that it can learn which tag may
follow which. It runs on every Keras backend. In a model of Keras's own layers:

    >>> import keras, numpy as np
    >>> from models.layers.crf import CRF, CRFLoss
    >>> words = keras.Input((None,), dtype="int32")
    >>> x = keras.layers.Embedding(100, 8, mask_zero=True)(words)
    >>> x = keras.layers.LSTM(8, return_sequences=True)(x)
    >>> crf = CRF(5)
    >>> model = keras.Model(words, crf(keras.layers.Dense(5)(x)))
    >>> model.compile("adam", loss=CRFLoss(crf))
    >>> sentences, tags = np.array([[7, 2, 9, 0]]), np.array([[1, 0, 4, 0]])
    >>> history = model.fit(sentences, tags, verbose=0)
    >>> tagger = keras.Model(words, crf(model.layers[-2].output, decode=True))
    >>> tagger.predict(sentences, verbose=0).shape
    (1, 4)

Shapes: B batch, T time, K classes, which is to say tags.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="gated")
class CRF(keras.layers.Layer):
    """A linear-chain conditional random field over K tags.

    The score of tags y for logits x is that of Collobert et al. (2011): start of
    the first tag, end of the last, x of every tag and the transition between
    neighbours. Its exponential, over the sum for all sequences of tags, is the
    probability of y.

    A mask may have holes and may begin anywhere: the chain is that of the steps
    that it keeps, in their order. What stands at the others, in logits or tags,
    changes no value and no gradient, whatever it is, NaN included. Sums are of
    float32, or of float64 if that is the type of the layer.

    Weights:
        transitions: (K, K), from the tag of the row to that of the column.
        start, end: (K,), of the first tag and of the last.

    Args:
        classes: K.
        initializer: Of all weights; with zeros the field begins as a softmax per step.
        regularizer: Of all weights.
        **kwargs: `name`, `dtype` and `trainable` of a Keras layer.

    Call arguments:
        logits: (B, T, K), what the network says for each tag at each step.
        mask: (B, T) bool, true where there is a step; if None, the one that
            Keras carries along with the logits, or else all steps.
        decode: Whether to give tags.

    Returns:
        The logits as they are, along with the mask, for `CRFLoss`; or the most
        probable tags, as `decode` gives them.
    """

    def __init__(self, classes: int, *, initializer="zeros", regularizer=None, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
            raise ValueError(f"classes must be a whole number of at least 1, got {classes!r}.")
        self.classes = classes
        self.initializer = keras.initializers.get(initializer)
        self.regularizer = keras.regularizers.get(regularizer)
        self.supports_masking = True
        # Mixed precision has weights of float32 already; sums over time in 16 bits say nothing.
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

    def call(self, logits, mask=None, decode=False):
        if decode:
            return self.decode(logits, mask)[0]
        self._prepared(logits, mask)  # refuses what the loss would refuse
        # Another tensor: Keras hangs the mask on it, which is not to change the caller's.
        return ops.copy(logits)

    def log_likelihood(self, logits, tags, mask=None):
        """The log-probability of sequences of tags.

        Args:
            logits, mask: As for a call.
            tags: (B, T) of whole numbers, each below K.

        Returns:
            (B,): 0 for a row without any step, NaN where a tag is none of the K.
        """
        logits, mask = self._prepared(logits, mask)
        tags = ops.where(mask, ops.cast(tags, "int32"), 0)
        known = ops.all(ops.logical_and(tags >= 0, tags < self.classes), axis=1)
        weights = self._weights()
        score = _score(logits, ops.clip(tags, 0, self.classes - 1), mask, *weights)
        value = ops.where(ops.any(mask, axis=1), score - _partition(logits, mask, *weights), 0.0)
        return ops.where(known, value, float("nan"))

    def decode(self, logits, mask=None):
        """The most probable sequences of tags (Viterbi 1967).

        Args:
            logits, mask: As for a call.

        Returns:
            The tags, (B, T) int32, 0 at masked steps; and their scores, (B,), 0
            for a row without any step.
        """
        logits, mask = self._prepared(logits, mask)
        transitions, start, end = self._weights()
        alphas, last = _beginnings(logits, mask, transitions, start, _largest)
        score = ops.where(ops.any(mask, axis=1), _largest(last + end, axis=-1), 0.0)
        following = ops.transpose(transitions)

        def back(tag, alpha, is_last):
            onward = ops.where(is_last, end, ops.take(following, tag[:, 0], axis=0))
            return ops.cast(ops.argmax(alpha + onward, axis=-1, keepdims=True), "int32")

        none = ops.zeros((ops.shape(logits)[0], 1), dtype="int32")
        tags, _ = _over_steps(back, none, ops.flip(alphas, 1), ops.flip(mask, 1))
        return ops.where(mask, ops.flip(tags, 1)[..., 0], 0), score

    def marginals(self, logits, mask=None):
        """The probability of each tag at each step, by forward and backward sums.

        Args:
            logits, mask: As for a call.

        Returns:
            (B, T, K): sums to 1 over the tags, and is 0 at masked steps.
        """
        logits, mask = self._prepared(logits, mask)
        transitions, start, end = self._weights()
        before, _ = _beginnings(logits, mask, transitions, start, ops.logsumexp)
        return _shares(logits, mask, before, _endings(logits, mask, transitions, end))

    def _prepared(self, logits, mask):
        """The logits, (B, T, K) and 0 at masked steps, and the mask, (B, T) bool."""
        carried = getattr(logits, "_keras_mask", None)
        if carried is not None and mask is not None and carried is not mask:
            raise ValueError(
                f"{self.name}: the logits carry a mask of Keras's and `mask` is another; "
                "give one of them."
            )
        mask = carried if mask is None else mask
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
        """Transitions, start and end as tensors: not every backend takes variables everywhere."""
        return [ops.copy(weight) for weight in (self.transitions, self.start, self.end)]

    def get_config(self):
        return {
            **super().get_config(),
            "classes": self.classes,
            "initializer": keras.initializers.serialize(self.initializer),
            "regularizer": keras.regularizers.serialize(self.regularizer),
        }


@keras.saving.register_keras_serializable(package="gated")
class CRFLoss(keras.losses.Loss):
    """The negative log-likelihood of the tags, of each sequence: `compile(loss=CRFLoss(crf))`.

    Sequences count alike, however long. A metric beside it sees the logits, not
    the decoded tags, but for `CRFAccuracy`. A file of Keras's cannot tell which layer
    of a model its loss refers to: load the model with compile=False, and compile it
    with the loss of its own layer.

    Args:
        crf: The layer of the model that gave the logits.
        reduction, name, dtype: As `keras.losses.Loss` has them.

    Call arguments:
        y_true: Tags (B, T).
        y_pred: What the layer gave, (B, T, K); the mask that Keras carries along
            with it counts.
        sample_weight: (B,), the weights of the sequences; or (B, T), where 0
            masks a step and all else does not.
    """

    def __init__(self, crf: CRF, *, reduction="sum_over_batch_size", name="crf_loss", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not isinstance(crf, CRF):
            raise ValueError(f"crf must be the CRF layer of the model, got {crf!r}.")
        # Not the layer itself: Keras would save its weights as those of the loss.
        self._name_of_crf, self._log_likelihood = crf.name, crf.log_likelihood

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras would take the mask for weights of the values, and those are of sequences.
        mask = getattr(y_pred, "_keras_mask", None)
        if sample_weight is not None and len(sample_weight.shape) == 2:
            steps = ops.not_equal(sample_weight, 0)
            mask = steps if mask is None else ops.logical_and(mask, steps)
            sample_weight = None
        if mask is not None:
            y_pred = {"logits": ops.copy(y_pred), "mask": mask}  # a copy carries none of its own
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        told = y_pred if isinstance(y_pred, dict) else {"logits": y_pred}
        return -self._log_likelihood(tags=y_true, **told)

    def get_config(self):
        return {**super().get_config(), "crf": self._name_of_crf, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config):
        raise ValueError(
            f"the loss was that of a CRF layer named {config['crf']!r}, which no file can tell it: "
            "load the model with compile=False, and compile it with CRFLoss(that layer)."
        )


@keras.saving.register_keras_serializable(package="gated")
class CRFAccuracy(keras.metrics.Mean):
    """The share of steps whose decoded tag is right: `compile(weighted_metrics=[...])`.

    As of `CRFLoss`, the mask is the one that Keras carries along with the logits, or
    weights (B, T) of which 0 masks a step and all else does not.

    Args:
        crf: The layer of the model that gave the logits.
        name, dtype: As `keras.metrics.Mean` has them.
    """

    def __init__(self, crf: CRF, name="crf_accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if not isinstance(crf, CRF):
            raise ValueError(f"crf must be the CRF layer of the model, got {crf!r}.")
        self._name_of_crf, self._decode = crf.name, crf.decode

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = getattr(y_pred, "_keras_mask", None)
        if sample_weight is not None and len(sample_weight.shape) == 2:
            steps = ops.not_equal(sample_weight, 0)
            mask = steps if mask is None else ops.logical_and(mask, steps)
        tags, _ = self._decode(ops.copy(y_pred), mask)
        right = ops.reshape(ops.equal(tags, ops.cast(y_true, tags.dtype)), (-1,))
        # In one row, for Keras would take the mean of each sequence first, padding included.
        super().update_state(right, None if mask is None else ops.reshape(mask, (-1,)))

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype, "crf": self._name_of_crf}

    @classmethod
    def from_config(cls, config):
        raise ValueError(
            f"the metric was that of a CRF layer named {config['crf']!r}, which no file can tell "
            "it: load the model with compile=False, and compile it with CRFAccuracy(that layer)."
        )


def _score(logits, tags, mask, transitions, start, end):
    """The score of sequences of tags, (B,); at masked steps tags are 0."""
    own = ops.take_along_axis(logits, tags[..., None], axis=-1)[..., 0]
    own += ops.where(_first(mask), ops.take(start, tags), 0.0)
    own += ops.where(_last(mask), ops.take(end, tags), 0.0)
    # Kept steps to the left, in their order: so neighbours of the chain are neighbours.
    time = ops.shape(mask)[1]
    order = ops.argsort(ops.where(mask, 0, time) + ops.arange(time), axis=1)
    tags, mask = (ops.take_along_axis(each, order, axis=1) for each in (tags, mask))
    pairs = tags[:, :-1] * logits.shape[-1] + tags[:, 1:]
    moves = ops.take(ops.reshape(transitions, (-1,)), pairs)
    return ops.sum(own, axis=1) + ops.sum(ops.where(mask[:, 1:], moves, 0.0), axis=1)


def _partition(logits, mask, transitions, start, end):
    """The logsumexp of the scores of all sequences of tags, (B,).

    Its gradient is what the field expects of each potential (Lafferty et al. 2001),
    summed from both ends. It is told, for XLA cannot find it: it does not
    differentiate TensorFlow's scan.
    """

    @ops.custom_gradient
    def value(logits, transitions, start, end):
        before, last = _beginnings(logits, mask, transitions, start, ops.logsumexp)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            after = _endings(logits, mask, transitions, end)
            shares = _shares(logits, mask, before, after) * upstream[:, None, None]
            came = ops.pad(before, [[0, 0], [1, 0], [0, 0]])[:, :-1]
            moves = _softmax(came[..., None] + transitions + after[:, :, None], axis=(2, 3))
            moved = ops.logical_and(mask, ops.logical_not(_first(mask)))
            moves *= ops.where(moved, upstream[:, None], 0.0)[..., None, None]
            firsts = ops.where(_first(mask)[..., None], shares, 0.0)
            lasts = ops.where(_last(mask)[..., None], shares, 0.0)
            return shares, *(ops.sum(each, axis=(0, 1)) for each in (moves, firsts, lasts))

        return ops.logsumexp(last + end, axis=-1), gradient

    return value(logits, transitions, start, end)


def _shares(logits, mask, before, after):
    """The probability of each tag, of the totals up to its step and from it on."""
    shares = _softmax(before + after - logits, axis=-1)  # both have the logits of the step
    return ops.where(mask[..., None], shares, 0.0)


def _beginnings(logits, mask, transitions, start, total):
    """By its last tag, the total of the scores of all beginnings.

    `total` is `ops.logsumexp`, or `_largest` for the best of them. Returns that up
    to each step, (B, T, K), and up to the last, (B, K).
    """

    def step(alpha, x, is_first):
        return x + ops.where(is_first, start, total(alpha[:, :, None] + transitions, axis=1))

    none = ops.zeros((ops.shape(logits)[0], logits.shape[-1]), dtype=logits.dtype)
    return _over_steps(step, none, logits, mask)


def _endings(logits, mask, transitions, end):
    """By its first tag, the logsumexp of the scores of all endings from each step, (B, T, K)."""
    turned = ops.flip(logits, 1), ops.flip(mask, 1)
    totals, _ = _beginnings(*turned, ops.transpose(transitions), end, ops.logsumexp)
    return ops.flip(totals, 1)


def _over_steps(step, state, values, mask):
    """Runs a recurrence over the steps that a mask keeps; masked steps keep the state.

    Args:
        step: Of the state, the values (B, F) and whether it is the first step
            (B, 1), gives the next state.
        state: (B, N), before the first step, which is told that it is the first.
        values: (B, T, F).
        mask: (B, T) bool.

    Returns:
        The states after each step, (B, T, N), and after the last, (B, N).
    """
    marks = ops.cast(ops.stack([mask, _first(mask)], axis=-1), values.dtype)
    # In one tensor, for TensorFlow cannot scan two of unknown time; and with one masked step
    # more, for it cannot scan none.
    packed = ops.pad(ops.concatenate([values, marks], axis=-1), [[0, 0], [0, 1], [0, 0]])

    def advance(state, now):
        after = step(state, now[:, :-2], now[:, -1:] > 0)
        after = ops.where(now[:, -2:-1] > 0, after, state)
        return after, after

    last, every = ops.scan(advance, state, ops.swapaxes(packed, 0, 1))
    return ops.swapaxes(every, 0, 1)[:, :-1], last


def _first(mask):
    """Where the first kept step of each row is, (B, T) bool."""
    return ops.logical_and(mask, ops.cumsum(ops.cast(mask, "int32"), axis=1) == 1)


def _last(mask):
    """Where the last kept step of each row is, (B, T) bool."""
    return ops.flip(_first(ops.flip(mask, 1)), 1)


def _largest(x, axis, keepdims=False):
    """The maximum; that of Keras alone refuses an empty batch."""
    return ops.max(x, axis=axis, keepdims=keepdims, initial=float("-inf"))


def _softmax(x, axis):
    """The softmax over one axis or two; that of Keras warns of a single class."""
    x = ops.exp(x - _largest(x, axis, keepdims=True))
    return x / ops.sum(x, axis=axis, keepdims=True)
