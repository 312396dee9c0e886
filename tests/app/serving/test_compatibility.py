"""What a SavedModel must be to be published."""

import shutil

import pytest
import tensorflow as tf

import tasks
from app.serving import compatibility, export
from tests.conftest import signatures
from tests.support import untrained

TEXT = tf.TensorSpec([None], tf.string, "text")
INT = ("int32", [-1])
STRING, FLOAT, BOOL = (("string", [-1]), ("float32", [-1]), ("bool", [-1]))
MANY = ("string", [-1, -1])
# What clients were promised; who changes it breaks them.
PROMISED = {
    "sentiment": {
        "serving_default": (
            {"text": STRING},
            {"label": STRING, "probability": FLOAT, "probabilities": ("float32", [-1, 2])},
        )
    },
    "tagging": {
        name: (
            asked,
            {
                "tokens": MANY,
                "tags": MANY,
                "probability": ("float32", [-1, -1]),
                "lengths": INT,
            },
        )
        for name, asked in {
            "serving_default": {"text": STRING},
            "tokens": {"tokens": MANY, "lengths": INT},
        }.items()
    },
    "captioning": {
        "serving_default": (
            {"image_bytes": STRING},
            {"caption": STRING, "log_probability": FLOAT, "valid": BOOL},
        ),
        "n_best": (
            {"image_bytes": STRING},
            {
                "captions": ("string", [-1, 4]),
                "log_probabilities": ("float32", [-1, 4]),
                "valid": BOOL,
            },
        ),
        "attend": (
            {"image_bytes": STRING},
            {
                "caption": STRING,
                "tokens": MANY,
                "attention": ("float32", [-1, -1, 2, 2]),
                "lengths": INT,
                "valid": BOOL,
            },
        ),
    },
    "translation": {
        "serving_default": (
            {"text": STRING},
            {"translation": STRING, "log_probability": FLOAT},
        ),
        "n_best": (
            {"text": STRING},
            {"translations": ("string", [-1, 4]), "log_probabilities": ("float32", [-1, 4])},
        ),
        "align": (
            {"text": STRING},
            {
                "translation": STRING,
                "source_tokens": MANY,
                "target_tokens": MANY,
                "attention": ("float32", [-1, -1, -1]),
                "source_lengths": INT,
                "target_lengths": INT,
            },
        ),
    },
}


@pytest.fixture(scope="module", params=tasks.names())
def version(request, tmp_path_factory):
    return untrained.version(request.param, tmp_path_factory.mktemp("gate"))


def test_what_is_published_passes_and_is_what_clients_were_promised(version):
    compatibility.check(version)
    assert signatures(version) == PROMISED[version.parent.name]


@pytest.mark.parametrize(
    ("task", "choices"),
    [
        ("sentiment", {"evidence": 0, "layers": 2}),
        ("tagging", {"crf": True}),
        ("tagging", {"affixes": 0, "fold_case": True}),
        ("tagging", {"characters": 0}),
        ("captioning", {"attention": "none", "sweeps": 0}),
        ("captioning", {"input_feeding": True, "layers": 2, "sweeps": 2}),
        ("translation", {"attention": "none", "beams": 1, "n_best": 1}),
        ("translation", {"attention": "additive", "no_repeat_ngram": 2, "coverage": 0.1}),
    ],
)
def test_every_choice_passes(task, choices, tmp_path):
    compatibility.check(untrained.version(task, tmp_path, **choices))


def broken(folder, answer, *, name="serving_default", key="answer", module=None, spec=TEXT):
    """Saves a SavedModel whose one signature answers by a function."""
    signature = tf.function(lambda text: {key: answer(text)}, input_signature=[spec])
    tf.saved_model.save(module or tf.Module(), str(folder), signatures={name: signature})
    return folder


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda x: tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.string), [None]),
            r"is a EagerPyFunc, which is not among",
        ),
        (lambda x: tf.random.uniform(tf.shape(x)), r"is a RandomUniform"),
        (lambda x: tf.map_fn(tf.io.read_file, x), r"is a ReadFile"),
        (lambda x: tf.constant("one"), r"answer must begin with a batch dimension, got \[\]"),
        (lambda x: tf.zeros([2]), r"answer must begin with a batch dimension, got \[2\]"),
        (lambda x: tf.zeros(tf.shape(x), tf.float16), r"answer is float16, which clients"),
        (lambda x: tf.zeros(tf.shape(x), tf.bfloat16), r"answer is bfloat16, which clients"),
        (lambda x: tf.fill(tf.shape(x), __file__), r"is the path .*test_gate.py of this machine"),
    ],
)
def test_what_a_stock_server_would_not_serve_is_refused(tmp_path, answer, message):
    with pytest.raises(compatibility.IncompatibleModel, match=message):
        compatibility.check(broken(tmp_path / "draft", answer))


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("serving_default", "output_0", "output_0 is no name that tells what it is"),
        ("serving_default", "The Answer", "The Answer is no name"),
        ("classify", "answer", r"serving_default must be a signature, got \["),
    ],
)
def test_names_are_what_clients_write(tmp_path, name, key, message):
    with pytest.raises(compatibility.IncompatibleModel, match=message):
        compatibility.check(broken(tmp_path / "draft", tf.identity, name=name, key=key))


def test_what_keeps_something_between_requests_is_refused(tmp_path):
    module = tf.Module()
    module.count = tf.Variable(0)
    with pytest.raises(compatibility.IncompatibleModel, match=r"is a AssignAddVariableOp"):
        compatibility.check(
            broken(
                tmp_path / "draft",
                lambda x: tf.fill(tf.shape(x), module.count.assign_add(1)),
                module=module,
            )
        )


def test_what_is_bound_to_a_gpu_is_refused(tmp_path):
    def answer(x):
        with tf.device("/device:GPU:0"):
            return tf.strings.length(x) + 1

    with pytest.raises(compatibility.IncompatibleModel, match=r"must run on .*GPU:0"):
        compatibility.check(broken(tmp_path / "draft", answer))


def test_what_xla_must_compile_is_refused(tmp_path):
    inner = tf.function(lambda x: x + 1.0, jit_compile=True)
    spec = tf.TensorSpec([None], tf.float32, "x")
    with pytest.raises(compatibility.IncompatibleModel, match="must be compiled by XLA"):
        compatibility.check(broken(tmp_path / "draft", inner, spec=spec))


def test_what_lies_outside_its_folder_or_is_lost_is_refused(version, tmp_path):
    whole = shutil.copytree(version, tmp_path / "whole")
    asset = next((whole / "assets").glob("*.txt"), None) or next((whole / "assets").iterdir())
    asset.unlink()
    with pytest.raises(
        compatibility.IncompatibleModel, match=f"the asset {asset.name} must be a file in"
    ):
        compatibility.check(whole)
    (whole / "variables/variables.index").unlink()
    with pytest.raises(compatibility.IncompatibleModel, match=r"has no variables/variables\.index"):
        compatibility.check(whole)


def test_export_refuses_such_a_draft(tmp_path, monkeypatch):
    task_class = tasks.find("sentiment")
    monkeypatch.setattr(
        task_class,
        "signatures",
        lambda self, model: {
            "serving_default": tf.function(
                lambda text: {"label": tf.zeros(tf.shape(text), tf.float16)}, input_signature=[TEXT]
            )
        },
    )
    with pytest.raises(compatibility.IncompatibleModel, match="label is float16"):
        untrained.version("sentiment", tmp_path)
    assert export.versions(tmp_path / "sentiment") == []
