"""Inspections show what the network computes."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tasks
from app.serving import payloads
from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.inspection import numbered_tokens, select_token
from tests.support.cells import slow_except
from tests.support.untrained import SIZES, SMALL, examples

TEXT = b"the old man saw the tower , and the women slept ."


def make_inspector(name, folder, **settings):
    """Returns a task, its inspector with a network of random weights, and a request."""
    task_class = tasks.find(name)
    own = {key: size for key, size in SIZES.items() if hasattr(task_class.Config, key)}
    config = task_class.Config(**{**SMALL, **own, **settings})
    task = task_class.learn(config, examples(name), folder)
    keras.utils.set_random_seed(3)
    model = task.build("reuse")
    signatures = task.signatures(model)

    class Predictor:
        def predict(self, rows, signature="serving_default"):
            inputs = {key: tf.constant([row[key] for row in rows]) for key in rows[0]}
            outputs = signatures[signature](**inputs)
            return payloads.rows({key: value.numpy() for key, value in outputs.items()})

    row = {"text": TEXT}
    if name == "captioning":
        row = {"image_bytes": next(iter(examples(name))).values["image_bytes"]}
    return task, task.Inspector(task, model, Predictor()), row


SETTINGS = [
    ("sentiment", {"layers": 2, "cell": "lstm_projected"}),
    ("sentiment", {"max_length": 4, "evidence": 0}),
    ("tagging", {"crf": True, "layers": 1}),
    ("tagging", {"characters": 0, "max_length": 4}),
    ("translation", {"attention": "none", "cell": "janet", "layers": 2}),
    ("translation", {"input_feeding": True, "attention": "additive"}),
    ("captioning", {"height": 16, "width": 32, "layers": 2, "max_length": 9, "sweeps": 2}),
    ("captioning", {"attention": "none", "input_feeding": True, "sweeps": 0, "max_length": 9}),
    ("language_model", {"token": "words", "max_length": 4, "layers": 2}),
]

FAST = (0, 2, 5, 6, 8)  # one of each task; the others are slow


@pytest.fixture(scope="module")
def setting_inspector(tmp_path_factory):
    """Returns what `make_inspector` does for one of `SETTINGS`, by its number, made once."""

    @functools.cache
    def make(number):
        name, settings = SETTINGS[number]
        return make_inspector(name, tmp_path_factory.mktemp(name), **settings)

    return make


@pytest.mark.parametrize(
    "number",
    slow_except(FAST, range(len(SETTINGS))),
    ids=lambda number: str(SETTINGS[number]),
)
def test_every_step_has_a_value_of_every_gate_and_every_answer_a_saliency(
    number, setting_inspector
):
    name, settings = SETTINGS[number]
    _, inspector, row = setting_inspector(number)
    inspected = inspector.inspect(row)
    feeding = settings.get("input_feeding", False)
    spec = inspector.model.get_layer("reader").spec if name == "sentiment" else None
    for reading in inspected.readings:
        curves = [
            *reading.trace.gates.values(),
            reading.trace.candidate,
            *reading.trace.states.values(),
        ]
        assert {len(values) for values in curves} == {len(reading.steps)}
        assert all(np.isfinite(values).all() for values in curves)
        assert spec is None or set(reading.trace.gates) == set(spec.definition.gates)
    names = [reading.name for reading in inspected.readings]
    assert len(set(names)) == len(names)
    assert any(name.startswith("decoder") for name in names) == (
        name in ("translation", "captioning") and not feeding
    )
    assert any("characters of" in name for name in names) == (
        name == "tagging" and settings.get("characters", 1) > 0
    )
    assert sum("sweep" in name for name in names) == (
        4 * settings["sweeps"] if name == "captioning" else 0
    )
    looks = name in ("translation", "captioning") and settings.get("attention") != "none"
    assert (inspected.attention is not None) == looks
    saliency = inspected.saliency
    shown = saliency.contributions
    weights = np.asarray(shown.maps if name == "captioning" else shown.weights, float)
    sums = weights.reshape(len(weights), -1).sum(axis=1)  # completeness
    np.testing.assert_allclose(sums, saliency.values - saliency.baselines, atol=2e-3, rtol=2e-2)
    assert np.abs(weights).max() > 0
    if name == "captioning":
        assert len(weights) == len(shown.words)
        assert {np.shape(each) for each in weights} <= {(16, settings.get("width", 16))}
    else:
        assert np.shape(weights) == (len(shown.target), len(shown.source))
    if name != "captioning" and "max_length" in settings:
        assert len(shown.source) == settings["max_length"] and "first 4" in inspected.notes[0]


def test_the_outputs_that_are_shown_are_what_the_network_goes_on_with(tmp_path):
    task, inspector, row = make_inspector("sentiment", tmp_path, layers=2)
    inspected = inspector.inspect(row)
    ids = task.ids(tf.constant([TEXT])).to_tensor()
    outputs = keras.Model(inspector.model.input, inspector.model.get_layer("reader").output)(ids)[0]
    forward, backward = inspected.readings[2:]
    assert (forward.name, backward.name) == (
        "reader, layer 2, forward",
        "reader, layer 2, backward",
    )
    shown = np.concatenate([forward.trace.states["h"], backward.trace.states["h"]], axis=1)
    np.testing.assert_allclose(shown, outputs, atol=1e-5)


def test_saliency_reaches_pixels_through_a_network_that_is_not_trained(tmp_path):
    size = {"height": 32, "width": 64}
    network = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(32, 64, 3)
    )
    weights = tmp_path / "mobile.weights.h5"
    network.save_weights(weights)
    encoder = {"encoder": "MobileNetV2", "encoder_weights": str(weights)}
    (tmp_path / "learnt").mkdir()
    folder = tmp_path / "learnt"
    _, inspector, row = make_inspector("captioning", folder, **size, **encoder, max_length=4)
    inspected = inspector.inspect(row)
    maps = inspected.saliency.contributions.maps
    assert {np.shape(each) for each in maps} == {(32, 64)}
    assert all(np.std(each) > 0 for each in maps)


def integral(weight, number, value, points=60, step=1e-2):
    """The contribution of a row of a weight, by finite differences along the line from 0."""
    whole, total = weight.numpy(), 0.0
    for share in (np.arange(points) + 0.5) / points:
        ends = []
        for way in (step, -step):
            moved = share * whole
            moved[number] += way * whole[number]
            weight.assign(moved)
            ends.append(float(value()))
        total += (ends[0] - ends[1]) / (2 * step) / points
    weight.assign(whole)
    return total


def test_saliency_of_a_text_is_that_of_finite_differences(tmp_path):
    """Of words that come once, which have a row of the embedding for themselves."""
    task, inspector, row = make_inspector("sentiment", tmp_path, evidence=0)
    for layer in inspector.model.layers:  # as they are drawn, nothing of a word would be seen
        if layer.name in ("embedding", "logits"):
            layer.set_weights([5 * weight for weight in layer.get_weights()])
    (response,) = inspector.predictor.predict([row])
    number = task.labels.words.index(response["label"].decode())
    ids = task.ids(tf.constant([TEXT])).to_tensor()
    weight = inspector.model.get_layer("embedding").embeddings

    @tf.function
    def value():
        return tf.nn.log_softmax(inspector.model(ids))[0, number]

    numbers = ids.numpy()[0]
    once = [at for at, each in enumerate(numbers) if np.sum(numbers == each) == 1]
    assert len(once) > 3
    want = np.array([integral(weight, numbers[at], value) for at in once])
    assert want.min() < 0 < want.max()
    saliency = inspector.inspect(row).saliency
    (weights,) = saliency.contributions.weights
    np.testing.assert_allclose(weights[once], want, atol=2e-2 * np.abs(want).max())
    assert saliency.values[0] == pytest.approx(float(value()), abs=1e-5)
    weight.assign(np.zeros_like(weight))
    assert saliency.baselines[0] == pytest.approx(float(value()), abs=1e-5)
    assert weights.sum() == pytest.approx(saliency.values[0] - saliency.baselines[0], abs=1e-3)


def test_saliency_of_a_translation_is_that_of_finite_differences(tmp_path):
    task, inspector, row = make_inspector("translation", tmp_path)
    inspected = inspector.inspect(row)
    source = task.source_ids(tf.constant([TEXT]))
    numbers, weight = source.numpy()[0], inspector.model.get_layer("embedding").embeddings
    written = inspector.piece_ids(inspected.attention.target)
    before = tf.concat([[[1]], written], 1)
    answer = 2

    @tf.function
    def value():
        logits = inspector.model({"source": source, "before": before})
        return tf.nn.log_softmax(logits)[0, answer, int(written[0, answer])]

    once = [at for at, each in enumerate(numbers) if np.sum(numbers == each) == 1][:5]
    want = np.array([integral(weight, numbers[at], value) for at in once])
    weights = inspected.saliency.contributions.weights[answer][once]
    np.testing.assert_allclose(weights, want, atol=2e-2 * np.abs(want).max())

    ids = task.subwords.encode(tf.constant(["the old tower \U0001f642 …"]))
    pieces = [piece.decode() for piece in task.subwords.pieces(ids)[0].numpy()]
    assert inspector.piece_ids(pieces).numpy().tolist() == ids.to_list()
    assert inspector.piece_ids([]).shape == (1, 0)


def test_many_answers_are_taken_some_at_a_time(monkeypatch):
    """The contributions to each are its own, however many share a batch."""
    x, mix = tf.constant(np.arange(-2.0, 4.0).reshape(2, 3)), np.arange(5.0)

    def of(rows, which):
        return tf.gather(tf.constant(mix), which) * tf.reduce_sum(rows**3, axis=[1, 2]) + 7

    x = tf.cast(x, "float32")
    mix = mix.astype("float32")
    for numbers in (1, 40, 2**20):
        monkeypatch.setattr(inspection, "_BATCH_NUMBERS", numbers)
        contributions, values, baselines = inspection.integrated_gradients(of, x, 5, nodes=3)
        want = mix[:, None, None] * x.numpy() ** 3
        np.testing.assert_allclose(contributions, want, atol=1e-4)
        np.testing.assert_allclose(baselines, 7)
        np.testing.assert_allclose(values - baselines, want.sum(axis=(1, 2)), atol=1e-4)
    assert inspection.integrated_gradients(of, x, 0)[0].shape == (0, 2, 3)


def test_a_token_is_selected_by_its_word_and_number():
    tokens = numbered_tokens(["▁the", "man", "▁the", "the"])
    assert tokens == ["▁the", "man", "▁the:2", "the"]
    weights = np.array([[0, 1, 1, 0], [0, 0, 1, 0]])
    for at, want in (("", "▁the:2"), ("man", "man"), ("the", "▁the"), ("the:2", "▁the:2")):
        assert select_token(at, tokens, weights) == want
    with pytest.raises(UserError, match=r"--token must be one of .*'man'.*got 'boy'"):
        select_token("boy", tokens, weights)


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("sentiment", [{"text": b""}, {"text": b"  "}]),
        ("tagging", [{"text": b""}]),
        ("translation", [{"text": b" "}]),
        ("captioning", [{"image_bytes": b"GIF89a"}]),
    ],
)
def test_an_empty_request_is_an_error(name, requests, setting_inspector):
    number = next(number for number in FAST if SETTINGS[number][0] == name)
    _, inspector, _ = setting_inspector(number)
    for row in requests:
        with pytest.raises(UserError, match="nothing to inspect"):
            inspector.inspect(row)
