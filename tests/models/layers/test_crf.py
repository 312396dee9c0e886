"""The conditional random field, against the enumeration of all paths."""

import importlib.util
import itertools
import os
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from models.layers.crf import CRF, ConstrainedDecoder, CRFAccuracy, CRFLoss
from tests.support.cells import slow_except

# Every kind of mask, in one batch.
MASKS = {
    "full": [1, 1, 1, 1, 1],
    "padded right": [1, 1, 1, 0, 0],
    "padded left": [0, 0, 1, 1, 1],
    "holes": [1, 0, 1, 0, 1],
    "holes and padding": [0, 1, 0, 1, 0],
    "the first step": [1, 0, 0, 0, 0],
    "the last step": [0, 0, 0, 0, 1],
    "one step": [0, 0, 1, 0, 0],
    "none": [0, 0, 0, 0, 0],
}
MASK = np.array(list(MASKS.values()), bool)
WEIGHTS = ("transitions", "start", "end")


def drawn(classes, dtype="float64"):
    """A field with random weights, logits, and tags."""
    rng = np.random.default_rng(classes)
    crf = CRF(classes, dtype=dtype)
    crf.set_weights([rng.normal(size=w.shape) for w in crf.get_weights()])
    logits = rng.normal(size=(*MASK.shape, classes)).astype(dtype)
    return crf, logits, rng.integers(0, classes, MASK.shape)


def paths(logits, weights):
    """All sequences of tags for logits (T, K), (K**T, T), and their scores, by plain addition."""
    transitions, start, end = weights
    every = list(itertools.product(range(len(start)), repeat=len(logits)))
    scores = [
        start[path[0]]
        + end[path[-1]]
        + sum(x[tag] for x, tag in zip(logits, path, strict=True))
        + sum(transitions[move] for move in itertools.pairwise(path))
        for path in every
    ]
    return np.array(every), np.array(scores)


def likelihood(logits, tags, mask, weights):
    """The log-likelihood of each row, by enumeration."""
    found = np.zeros(len(mask))
    for row, keep in enumerate(mask):
        if keep.any():
            every, scores = paths(logits[row][keep], weights)
            own = scores[(every == tags[row][keep]).all(axis=1)].item()
            found[row] = own - np.log(np.exp(scores).sum())
    return found


def check_enumeration(classes, dtype, atol):
    crf, logits, tags = drawn(classes, dtype)
    weights = [w.astype("float64") for w in crf.get_weights()]
    spoilt = np.where(MASK[..., None], logits, np.nan).astype(dtype)
    given = crf.log_likelihood(spoilt, np.where(MASK, tags, -100), MASK)
    want = likelihood(logits, tags, MASK, weights)
    np.testing.assert_allclose(ops.convert_to_numpy(given), want, atol=atol)
    best, score = (ops.convert_to_numpy(x) for x in crf.decode(spoilt, MASK))
    marginals = ops.convert_to_numpy(crf.marginals(spoilt, MASK))
    assert best.dtype == np.int32
    assert score.dtype == marginals.dtype == dtype
    np.testing.assert_array_equal(best[~MASK], 0)
    np.testing.assert_array_equal(marginals[~MASK], 0)
    assert score[-1] == 0  # the row without any step
    for row, keep in enumerate(MASK[:-1]):
        every, scores = paths(logits[row][keep], weights)
        np.testing.assert_array_equal(best[row][keep], every[scores.argmax()])
        np.testing.assert_allclose(score[row], scores.max(), atol=atol)
        shares = np.exp(scores) / np.exp(scores).sum()
        counted = [shares @ (every == tag) for tag in range(classes)]
        np.testing.assert_allclose(marginals[row][keep], np.transpose(counted), atol=atol)


@pytest.mark.parametrize("classes", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype, atol", [("float32", 1e-5), ("float64", 1e-12)])
def test_agrees_with_the_enumeration_of_all_paths(classes, dtype, atol):
    check_enumeration(classes, dtype, atol)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_agrees_with_it_and_trains_on_other_backends(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    script = (
        "from tests.models.layers import test_crf as t\n"
        "t.check_enumeration(3, 'float32', 1e-5)\n"
        "t.check_any_batch()\n"
        "model, crf = t.tagger()\n"
        "before, _, after = t.fitted(model, crf)\n"
        "assert after < before\n"
        "print(t.keras.backend.backend(), 'agrees')"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert answer.stdout == f"{backend} agrees\n", answer.stderr


def test_gradients_are_finite_differences_of_the_enumeration():
    import tensorflow as tf

    crf, logits, tags = drawn(3)
    weights = crf.get_weights()
    factors = np.linspace(0.5, 2.0, len(MASK))  # so that no two rows count alike
    spoilt = tf.constant(np.where(MASK[..., None], logits, np.nan))
    with tf.GradientTape() as tape:
        tape.watch(spoilt)
        value = tf.reduce_sum(factors * crf.log_likelihood(spoilt, tags, MASK))
    given = tape.gradient(value, [spoilt, *(w.value for w in crf.weights)])

    def differences(at, step=1e-5):
        parts, found = [logits, *weights], np.zeros([logits, *weights][at].shape)
        for index in np.ndindex(found.shape):
            ends = []
            for sign in (1, -1):
                moved = [part.copy() for part in parts]
                moved[at][index] += sign * step
                ends.append(factors @ likelihood(moved[0], tags, MASK, moved[1:]))
            found[index] = (ends[0] - ends[1]) / (2 * step)
        return found

    for at, name in enumerate(("logits", *WEIGHTS)):
        want = differences(at)
        np.testing.assert_allclose(given[at], want, atol=1e-8, err_msg=name)
        assert np.abs(want).max() > 0.1
    np.testing.assert_array_equal(given[0].numpy()[~MASK], 0)


def check_any_batch():
    for batch, time in [(0, 3), (2, 0), (0, 0), (0, 1), (2, 1)]:
        crf, logits = CRF(3), np.ones((batch, time, 3), "float32")
        tags = np.zeros((batch, time), "int32")
        for mask in (None, tags == 0, tags == 1):
            value = ops.convert_to_numpy(crf.log_likelihood(logits, tags, mask))
            steps = time if mask is None else mask.sum(axis=1)
            np.testing.assert_allclose(value, np.full(batch, -np.log(3) * steps), atol=1e-6)
            best, score = crf.decode(logits, mask)
            assert tuple(best.shape) == (batch, time)
            np.testing.assert_allclose(ops.convert_to_numpy(score), np.full(batch, 1.0 * steps))
            assert tuple(crf.marginals(logits, mask).shape) == (batch, time, 3)


def test_any_batch_will_do():
    check_any_batch()


@pytest.mark.parametrize("jit", slow_except([False], [False, True]), ids=["graph", "xla"])
def test_a_graph_of_unknown_shapes_gives_what_eager_gives(jit):
    import tensorflow as tf

    crf, logits, tags = drawn(3)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, 3), tf.float64),
            tf.TensorSpec((None, None), tf.int64),
            tf.TensorSpec((None, None), tf.bool),
        ],
        jit_compile=jit,
    )
    def everything(logits, tags, mask):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = crf.log_likelihood(logits, tags, mask)
        gradient = tape.gradient(value, logits)
        return value, *crf.decode(logits, mask), crf.marginals(logits, mask), gradient

    for batch, time in [MASK.shape, (3, 1)] if jit else [MASK.shape, (0, 3), (2, 0), (3, 1)]:
        arguments = logits[:batch, :time], tags[:batch, :time], MASK[:batch, :time]
        arguments = [np.resize(part, (batch, time, *part.shape[2:])) for part in arguments]
        given = everything(*arguments)
        x, y, mask = arguments
        wants = (crf.log_likelihood(x, y, mask), *crf.decode(x, mask), crf.marginals(x, mask))
        for have, want in zip(given, wants, strict=False):
            np.testing.assert_allclose(have, want, atol=1e-12)
        assert given[-1].shape == x.shape


def test_long_sequences_and_great_logits_stay_finite_and_right():
    import tensorflow as tf

    rng, time = np.random.default_rng(0), 2000
    crf = CRF(4, initializer=keras.initializers.RandomNormal(stddev=3.0, seed=0))
    logits = (rng.normal(size=(2, time, 4)) * [[[3.0]], [[1e4]]]).astype("float32")
    tags = rng.integers(0, 4, (2, time))

    @tf.function
    def everything(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = crf.log_likelihood(logits, tags)
        return value, tape.gradient(value, logits), crf.marginals(logits), crf.decode(logits)[0]

    value, gradient, marginals, best = (x.numpy() for x in everything(tf.constant(logits)))
    transitions, start, end = (w.astype("float64") for w in crf.get_weights())
    for row, x in enumerate(logits.astype("float64")):
        alpha = start + x[0]
        for now in x[1:]:
            alpha = np.logaddexp.reduce(alpha[:, None] + transitions, axis=0) + now
        own = x[np.arange(time), tags[row]].sum() + start[tags[row, 0]] + end[tags[row, -1]]
        own += transitions[tags[row, :-1], tags[row, 1:]].sum()
        np.testing.assert_allclose(value[row], own - np.logaddexp.reduce(alpha + end), rtol=1e-4)
    np.testing.assert_allclose(marginals.sum(-1), 1.0, atol=1e-5)
    # What differs from the given tags is what the gradient moves: both ways to the marginals.
    np.testing.assert_allclose(gradient[0], np.eye(4)[tags[0]] - marginals[0], atol=2e-3)
    assert np.isfinite(gradient).all()
    # Where logits drown the transitions, the best path takes the largest of each step.
    wide = np.sort(logits[1], axis=-1)
    clear = wide[:, -1] - wide[:, -2] > 100
    np.testing.assert_array_equal(best[1][clear], logits[1].argmax(-1)[clear])


def test_a_tag_that_is_none_of_them_is_not_taken_for_another():
    value = CRF(3).log_likelihood(np.zeros((4, 2, 3)), [[0, 1], [0, -1], [3, 0], [2, 2]])
    np.testing.assert_array_equal(np.isnan(value), [False, True, True, False])


# In a model


def tagger(field=True, dtype="float32", units=8):
    """Ids to logits, 0 at padding, and the field on it: a network that reads forward only."""
    keras.utils.set_random_seed(0)
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(4, units, mask_zero=True, dtype=dtype)(words)
    x = keras.layers.LSTM(units, return_sequences=True, dtype=dtype)(x)
    x = keras.layers.Dense(2, dtype=dtype, name="logits")(x)
    crf = CRF(2, dtype=dtype) if field else None
    return keras.Model(words, crf(x) if field else x), crf


def decoder(model, crf):
    return keras.Model(model.input, crf(model.get_layer("logits").output, decode=True))


def test_variable_length_without_a_mask_is_reported():
    logits = keras.Input((None, 3))
    with pytest.warns(UserWarning, match="field was called without a mask on sequences of vari"):
        CRF(3, name="field")(logits)


@pytest.mark.parametrize("length", [None, 4])
def test_a_mask_or_a_fixed_length_gives_no_warning(length):
    logits = keras.Input((length, 3))
    mask = keras.Input((length,), dtype="bool") if length is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CRF(3)(logits, mask=mask)


def alternating(count=512, longest=8):
    """Tags that alternate, of which one word, anywhere in a sentence, tells one."""
    rng = np.random.default_rng(0)
    steps, length = np.arange(longest), rng.integers(4, longest + 1, (count, 1))
    tags = (steps + rng.integers(0, 2, (count, 1))) % 2
    is_marked = steps == rng.integers(0, length)
    ids = np.where(steps < length, np.where(is_marked, 1 + tags, 3), 0)
    return ids.astype("int32"), np.where(ids > 0, tags, 0)


def fitted(model, crf, epochs=1, **options):
    ids, tags = alternating()
    loss = CRFLoss(crf) if crf else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss=loss, **options)
    before = model.evaluate(ids, tags, verbose=0)
    history = model.fit(ids, tags, batch_size=64, epochs=epochs, verbose=0)
    return before, history, model.evaluate(ids, tags, verbose=0)


def solved(best):
    """The share of the sentences with every tag right."""
    ids, tags = alternating()
    return ((best == tags) | (ids == 0)).all(axis=1).mean()


def test_learns_what_no_softmax_per_step_can_and_survives_saving(tmp_path):
    ids, tags = alternating()
    softmax, _ = tagger(field=False)
    fitted(softmax, None, epochs=12)
    model, crf = tagger()
    fitted(model, crf, epochs=12)
    best = decoder(model, crf).predict(ids, verbose=0)
    assert solved(best) > 0.98
    assert solved(softmax.predict(ids, verbose=0).argmax(-1)) < 0.7

    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=f"refers to the layer '{crf.name}': .* compile=False"):
        keras.saving.load_model(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    field = again.layers[-1]
    np.testing.assert_array_equal(decoder(again, field).predict(ids, verbose=0), best)
    assert len(again.trainable_variables) == len(model.trainable_variables)
    for each, own in ((model, crf), (again, field)):
        each.compile("adam", loss=CRFLoss(own))
        each.fit(ids, tags, batch_size=64, shuffle=False, verbose=0)
    for have, want in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(have, want, atol=1e-6)

    decoder(model, crf).save(tmp_path / "decoder.keras")
    tags = keras.saving.load_model(tmp_path / "decoder.keras").predict(ids, verbose=0)
    np.testing.assert_array_equal(tags, decoder(model, crf).predict(ids, verbose=0))


def test_decodes_in_a_saved_model_of_stock_ops(tmp_path):
    import tensorflow as tf
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    from app.serving import compatibility

    model, crf = tagger()
    crf.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in crf.get_weights()])
    serving = decoder(model, crf)
    serving.export(tmp_path / "exported", verbose=False)

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)])
    def everything(ids):
        logits = model(ids)
        tags, score = crf.decode(logits)
        return {"tags": tags, "score": score, "marginals": crf.marginals(logits)}

    tf.saved_model.save(model, tmp_path / "saved", {"serving_default": everything})
    compatibility.check(tmp_path / "saved")
    # Keras gives outputs names that tell nothing, but its graph has to run as well.
    exported = (tmp_path / "exported/saved_model.pb").read_bytes()
    compatibility.check_graph(SavedModel.FromString(exported).meta_graphs[0])
    exported, saved = (tf.saved_model.load(tmp_path / name) for name in ("exported", "saved"))
    for ids in (alternating()[0][:5], np.ones((1, 1)), np.ones((2, 11))):
        ids = tf.constant(ids, tf.int32)
        want, score = crf.decode(model(ids))
        np.testing.assert_array_equal(exported.serve(ids), want)
        given = saved.signatures["serving_default"](ids)
        np.testing.assert_array_equal(given["tags"], want)
        np.testing.assert_allclose(given["score"], score, atol=1e-5)
        np.testing.assert_allclose(given["marginals"], crf.marginals(model(ids)), atol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_sums_are_of_float32_whatever_the_network_computes_in(dtype):
    model, crf = tagger(dtype=dtype)
    before, _, after = fitted(model, crf, epochs=2)
    assert after < before
    logits = model(alternating()[0][:3])
    assert logits.dtype == dtype.removeprefix("mixed_")
    assert {weight.dtype for weight in crf.weights} == {"float32"}
    assert crf.marginals(logits).dtype == crf.decode(logits)[1].dtype == "float32"
    assert {weight.dtype for weight in CRF(2, dtype="bfloat16").weights} == {"float32"}


def test_trains_compiled_by_xla():
    model, crf = tagger()
    before, _, after = fitted(model, crf, epochs=2, jit_compile=True)
    assert after < before


def test_the_loss_is_the_mean_over_sequences_of_what_mask_and_weights_leave():
    crf, logits, tags = drawn(3, "float32")
    values = likelihood(logits, tags, MASK, crf.get_weights())
    full = likelihood(logits, tags, np.ones_like(MASK), crf.get_weights())
    weights = np.linspace(0.0, 2.0, len(MASK))
    marked = crf(logits, mask=ops.convert_to_tensor(MASK))
    loss = CRFLoss(crf)
    for given, want in (
        (loss(tags, logits), -full.mean()),
        (loss(tags, marked), -values.mean()),
        (loss(tags, logits, sample_weight=MASK), -values.mean()),
        (loss(tags, logits, sample_weight=0.5 * MASK), -values.mean()),
        (loss(tags, marked, sample_weight=np.ones(MASK.shape)), -values.mean()),
        (loss(tags, marked, sample_weight=weights), -(weights * values).mean()),
        (CRFLoss(crf, reduction="sum")(tags, marked), -values.sum()),
        (CRFLoss(crf, reduction=None)(tags, marked), -values),
    ):
        np.testing.assert_allclose(given, want, rtol=1e-5, atol=1e-5)


def test_weights_of_sequences_and_of_steps_reach_the_loss_through_fit():
    model, crf = tagger()
    ids, tags = alternating(8)
    model.compile("sgd", loss=CRFLoss(crf))
    values = np.asarray(crf.log_likelihood(model(ids), tags))
    given = model.evaluate(ids, tags, sample_weight=np.arange(8.0), batch_size=8, verbose=0)
    np.testing.assert_allclose(given, -(np.arange(8.0) * values).mean(), rtol=1e-5)
    some = np.arange(8) % 3 > 0
    given = model.evaluate(ids, tags, sample_weight=(ids > 0) & some, batch_size=8, verbose=0)
    values = crf.log_likelihood(np.asarray(model(ids)), tags, (ids > 0) & some)
    np.testing.assert_allclose(given, -np.mean(values), rtol=1e-5)


def test_weights_of_sequences_may_have_a_second_axis_as_in_keras():
    model, crf = tagger()
    ids, tags = alternating(8)
    weights, results = np.arange(8.0), []
    for each in (weights, weights[:, None]):
        model.compile("sgd", loss=CRFLoss(crf), weighted_metrics=[CRFAccuracy(crf)])
        results.append(model.evaluate(ids, tags, sample_weight=each, batch_size=8, verbose=0))
    np.testing.assert_allclose(*results, rtol=1e-6)


def best_paths(logits, mask, weights):
    """The tags of the best sequence of each row by enumeration, -1 at masked steps."""
    found = np.full(mask.shape, -1)
    for row, keep in enumerate(mask):
        if keep.any():
            every, scores = paths(logits[row][keep], weights)
            found[row, keep] = every[scores.argmax()]
    return found


def test_accuracy_is_counted_of_the_decoded_tags_where_mask_and_weights_leave_steps():
    crf, logits, tags = drawn(3, "float32")
    weights = crf.get_weights()
    marked = crf(logits, mask=ops.convert_to_tensor(MASK))
    some = np.random.default_rng(1).random(MASK.shape) < 0.6
    steps = np.where(some, np.linspace(-2.0, 3.0, some.size).reshape(some.shape), 0.0)
    every = np.ones_like(MASK)
    for name, given, step_weights, mask in (
        ("all", logits, None, every),
        ("carried", marked, None, MASK),
        ("weights", logits, MASK, MASK),
        ("both", marked, steps, MASK & some),
    ):
        right = (best_paths(logits, mask, weights) == tags)[mask].mean()
        plain = (logits.argmax(-1) == tags)[mask].mean()
        assert abs(right - plain) > 0.01, name  # the transitions count
        metric = CRFAccuracy(crf)
        metric.update_state(tags, given, sample_weight=step_weights)
        np.testing.assert_allclose(metric.result(), right, rtol=1e-6, err_msg=name)


def test_accuracy_counts_steps_alike_over_all_batches_of_fit():
    model, crf = tagger()
    crf.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in crf.get_weights()])
    ids, tags = alternating(50)
    ids[20:, 4:] = 0  # so that not all batches have as many steps
    model.compile("sgd", loss=CRFLoss(crf), weighted_metrics=[CRFAccuracy(crf, name="right")])
    logits, weights = np.asarray(model(ids)), crf.get_weights()
    for step_weights, mask in ((None, ids > 0), (ids % 2 > 0, ids % 2 > 0)):
        right = (best_paths(logits, mask, weights) == tags)[mask].mean()
        given = model.evaluate(
            ids, tags, sample_weight=step_weights, batch_size=16, verbose=0, return_dict=True
        )
        np.testing.assert_allclose(given["right"], right, rtol=1e-6)
    assert (logits.argmax(-1) == tags)[mask].mean() != right


def test_accuracy_of_another_crf_or_none_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"crf must be the CRF layer of the model, got 'crf'"):
        CRFAccuracy("crf")
    model, crf = tagger()
    config = CRFAccuracy(crf, name="right").get_config()
    assert config["name"] == "right"
    with pytest.raises(ValueError, match=rf"layer '{crf.name}': .*CRFAccuracy\(that layer\)"):
        CRFAccuracy.from_config(config)
    model.compile("sgd", loss=CRFLoss(crf), weighted_metrics=[CRFAccuracy(crf)])
    model.fit(*alternating(8), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert len(again.weights) == len(model.weights)


def test_a_call_gives_the_logits_as_they_are_and_the_mask_along():
    crf, logits, _ = drawn(3, "float32")
    logits, mask = ops.convert_to_tensor(logits), ops.convert_to_tensor(MASK)
    given = crf(logits, mask=mask)
    np.testing.assert_array_equal(given, logits)
    assert given._keras_mask is mask
    assert not hasattr(logits, "_keras_mask")
    np.testing.assert_array_equal(crf.decode(given)[0], crf.decode(logits, mask)[0])
    np.testing.assert_array_equal(crf(logits, mask=mask, decode=True), crf.decode(given)[0])
    other = ops.logical_not(mask)  # takes precedence over the attached one
    np.testing.assert_array_equal(crf.decode(given, other)[0], crf.decode(logits, other)[0])


def test_a_config_loses_nothing():
    crf = CRF(3, initializer="glorot_normal", regularizer="l2", dtype="float64", name="field")
    again = CRF.from_config(crf.get_config())
    assert again.get_config() == crf.get_config()
    assert (again.classes, again.name, again.compute_dtype) == (3, "field", "float64")
    assert isinstance(again.initializer, keras.initializers.GlorotNormal)
    assert len(again.losses) == len(WEIGHTS)


def test_a_subclassed_model_loads_without_its_loss(tmp_path):
    @keras.saving.register_keras_serializable(package="test")
    class Tagger(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.tagging = CRF(2)

        def call(self, x):
            return self.tagging(x)

    model, x = Tagger(), np.ones((2, 3, 2), "float32")
    model.compile(keras.optimizers.SGD(1.0), loss=CRFLoss(model.tagging))
    model.fit(x, np.ones((2, 3)), verbose=0)
    assert np.abs(model.tagging.start).max() > 0.1
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for have, want in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("classes", [0, -1, 2.0, True, None])
def test_a_wrong_number_of_classes_is_an_error(classes):
    with pytest.raises(ValueError, match=f"classes must be .* at least 1, got {classes!r}"):
        CRF(classes)


def test_invalid_arguments_are_an_error():
    with pytest.raises(ValueError, match="initializer"):
        CRF(2, initializer="no such")
    with pytest.raises((TypeError, ValueError), match="no_such"):
        CRF(2, no_such=1)
    with pytest.raises(ValueError, match=r"crf must be the CRF layer of the model, got 3"):
        CRFLoss(3)
    for shape in ((2, 3), (2, 3, 5), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match=r"logits must be \(batch, time, 4\), got"):
            CRF(4)(np.zeros(shape))
    with pytest.raises(ValueError, match=r"mask must be \(batch, time\), got \(2,\)"):
        CRF(4).decode(np.zeros((2, 3, 4)), np.ones(2, bool))


def drawn_constraints(classes):
    """Constraints that allow the path of tag 0, and others at random."""
    rng = np.random.default_rng(7)
    start, end = (rng.random(classes) < 0.6 for _ in range(2))
    transitions = rng.random((classes, classes)) < 0.5
    start[0] = end[0] = transitions[0, 0] = True
    return start, transitions, end


def legal_paths(logits, weights, constraints):
    """The paths that the constraints allow, and their scores, by enumeration."""
    start, transitions, end = constraints
    every, scores = paths(logits, weights)
    keep = [
        start[path[0]] and end[path[-1]] and all(map(transitions.item, path[:-1], path[1:]))
        for path in every
    ]
    return every[keep], scores[keep]


@pytest.mark.parametrize("dtype, atol", [("float32", 1e-5), ("float64", 1e-12)])
def test_constraints_leave_only_the_paths_that_they_allow(dtype, atol):
    import tensorflow as tf

    constraints = drawn_constraints(3)
    _, logits, _ = drawn(3, dtype)
    crf = CRF(3, dtype=dtype, constraints=constraints)
    weights = [np.random.default_rng(1).normal(size=w.shape) for w in crf.get_weights()]
    crf.set_weights(weights)
    weights = [w.astype("float64") for w in crf.get_weights()]
    best, score = (x.numpy() for x in crf.decode(logits, MASK))
    unweighted, sums = (x.numpy() for x in ConstrainedDecoder(constraints).decode(logits, MASK))
    marginals = crf.marginals(logits, MASK).numpy()
    legal_tags = np.zeros(MASK.shape, int)
    wanted = np.zeros(len(MASK))
    for row, keep in enumerate(MASK[:-1]):
        every, scores = legal_paths(logits[row][keep], weights, constraints)
        assert 0 < len(every) < 3 ** keep.sum()
        np.testing.assert_array_equal(best[row][keep], every[scores.argmax()])
        np.testing.assert_allclose(score[row], scores.max(), atol=atol)
        shares = np.exp(scores) / np.exp(scores).sum()
        counted = [shares @ (every == tag) for tag in range(3)]
        np.testing.assert_allclose(marginals[row][keep], np.transpose(counted), atol=atol)
        legal_tags[row][keep] = every[len(every) // 2]
        wanted[row] = np.log(shares[len(every) // 2])
        zeros = [np.zeros_like(w) for w in weights]
        every, scores = legal_paths(logits[row][keep], zeros, constraints)
        np.testing.assert_array_equal(unweighted[row][keep], every[scores.argmax()])
        np.testing.assert_allclose(sums[row], scores.max(), atol=1e-5)
    with tf.GradientTape() as tape:
        watched = tf.constant(logits)
        tape.watch(watched)
        value = crf.log_likelihood(watched, legal_tags, MASK)
        total = tf.reduce_sum(value)
    np.testing.assert_allclose(value, wanted, atol=atol)
    given = tape.gradient(total, [watched, *(w.value for w in crf.weights)])
    hits = np.eye(3)[legal_tags] * MASK[..., None]
    np.testing.assert_allclose(given[0], hits - marginals, atol=atol)
    start, transitions, end = constraints
    for gradient, allowed in zip(given[1:], (transitions, start, end), strict=True):
        assert np.isfinite(gradient).all() and not gradient.numpy()[~allowed].any()
    forbidden = np.argwhere(~transitions)[0]
    value = crf.log_likelihood(logits[:1, :2], forbidden[None])
    assert value.numpy() == -np.inf


def test_constraints_are_saved_and_checked():
    constraints = drawn_constraints(3)
    crf = CRF.from_config(CRF(3, constraints=constraints).get_config())
    for given, want in zip(crf.constraints, constraints, strict=True):
        np.testing.assert_array_equal(given, want)
    assert "constraints" not in CRF(3).get_config()
    with pytest.raises(ValueError, match="must have the shapes"):
        CRF(2, constraints=constraints)
    none = [np.zeros_like(each) for each in constraints]
    with pytest.raises(ValueError, match="a sequence of one step"):
        CRF(3, constraints=none)
