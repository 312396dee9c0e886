"""Rules that a SavedModel must satisfy to be published."""

import shutil

import pytest
import tensorflow as tf

import tasks
from app.serving import compatibility, versions
from models.cells.recurrent import GatedRNN
from models.cells.specs import ACTIVATIONS, CELLS, RECURRENT_STRUCTURES, CellSpec
from tests.conftest import signatures
from tests.support import by_task, untrained

TEXT = tf.TensorSpec([None], tf.string, "text")
INT = ("int32", [-1])
STRING, FLOAT, BOOL = (("string", [-1]), ("float32", [-1]), ("bool", [-1]))
STRINGS = ("string", [-1, -1])
# Clients depend on these signatures; changing one breaks them.
SCORED = {"tokens": STRINGS, "log_probabilities": ("float32", [-1, -1]), "lengths": INT}
SIGNATURES = {
    "sentiment": {
        "serving_default": (
            {"text": STRING},
            {
                "label": STRING,
                "probability": FLOAT,
                "probabilities": ("float32", [-1, 2]),
                "labels": ("string", [-1, 2]),
            },
        )
    },
    "tagging": {
        name: (
            inputs,
            {
                "tokens": STRINGS,
                "tags": STRINGS,
                "probability": ("float32", [-1, -1]),
                "lengths": INT,
            },
        )
        for name, inputs in {
            "serving_default": {"text": STRING},
            "tokens": {"tokens": STRINGS, "lengths": INT},
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
                "tokens": STRINGS,
                "attention": ("float32", [-1, -1, 2, 2]),
                "lengths": INT,
                "valid": BOOL,
            },
        ),
    },
    "language_model": {
        "serving_default": (
            {"text": STRING},
            {**SCORED, "log_probability": FLOAT, "perplexity": FLOAT},
        ),
        "next": (
            {"text": STRING},
            {"tokens": ("string", [-1, 10]), "log_probabilities": ("float32", [-1, 10])},
        ),
        "generate": (
            {"text": STRING, "seed": INT, "temperature": FLOAT, "length": INT},
            {"continuation": STRING, **SCORED},
        ),
        "start": ({"batch": INT}, {"state": STRING}),
        "feed": (
            {"state": STRING, "text": STRING},
            {
                **SCORED,
                "next_tokens": ("string", [-1, 10]),
                "next_log_probabilities": ("float32", [-1, 10]),
                "state": STRING,
                "valid": BOOL,
                "bytes_read": INT,
            },
        ),
        "finish": ({"state": STRING}, {**SCORED, "valid": BOOL}),
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
                "source_tokens": STRINGS,
                "target_tokens": STRINGS,
                "attention": ("float32", [-1, -1, -1]),
                "source_lengths": INT,
                "target_lengths": INT,
            },
        ),
    },
}


# Signatures that only versions with other data have.
SIGNATURES_OF_MORE = {
    ("tagging", "sample:entities"): {
        "entities": (
            {"text": STRING},
            {
                **dict.fromkeys(
                    ("starts", "ends", "byte_starts", "byte_ends"), ("int32", [-1, -1])
                ),
                "types": STRINGS,
                "probability": ("float32", [-1, -1]),
                "count": INT,
                "truncated": BOOL,
            },
        )
    }
}


@pytest.fixture(scope="module", params=tasks.names())
def version(request, tmp_path_factory, untrained_copy):
    return untrained_copy(request.param, tmp_path_factory.mktemp("compatibility"))


@pytest.mark.parametrize("case", untrained.MORE, ids="-".join)
def test_versions_with_more_signatures_pass_and_have_them(case, tmp_path, untrained_copy):
    task, data = case
    version = untrained_copy(task, tmp_path, data=data)
    compatibility.check(version)
    assert signatures(version) == SIGNATURES[task] | SIGNATURES_OF_MORE[case]


def test_a_published_version_passes_and_has_the_promised_signatures(version):
    compatibility.check(version)
    table = "SIGNATURES of tests/app/serving/test_compatibility.py"
    expected = by_task.lookup(SIGNATURES, version.parent.name, table)
    assert signatures(version) == expected


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("sentiment", {"evidence": 0, "layers": 2}),
        ("tagging", {"crf": True, "affixes": 0, "fold_case": True}),
        ("tagging", {"characters": 0}),
        # `test_every_setting_can_be_trained_and_served` exports most of these, too.
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("captioning", {"attention": "none", "sweeps": 0}),
                ("captioning", {"input_feeding": True, "layers": 2, "sweeps": 2}),
                ("translation", {"attention": "none", "beam_size": 1, "n_best": 1}),
                ("translation", {"attention": "additive", "no_repeat_ngram": 2, "coverage": 0.1}),
            )
        ),
    ],
)
def test_every_setting_passes(task, settings, tmp_path):
    compatibility.check(untrained.version(task, tmp_path, **settings))


def saved_model(folder, function, *, name="serving_default", key="output", module=None, spec=TEXT):
    """Saves a SavedModel whose only signature computes a function."""
    signature = tf.function(lambda text: {key: function(text)}, input_signature=[spec])
    tf.saved_model.save(module or tf.Module(), str(folder), signatures={name: signature})
    return folder


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.string), [None]),
            r"op EagerPyFunc is not in the list of ops",
        ),
        (lambda x: tf.random.uniform(tf.shape(x)), r"op RandomUniform is not in"),
        (lambda x: tf.map_fn(tf.io.read_file, x), r"op ReadFile is not in"),
        (lambda x: tf.constant("one"), r"output must begin with a batch dimension, got \[\]"),
        (lambda x: tf.zeros([2]), r"output must begin with a batch dimension, got \[2\]"),
        (
            lambda x: tf.zeros(tf.shape(x), tf.float16),
            r"dtype that clients .* got float16",
        ),
        (
            lambda x: tf.zeros(tf.shape(x), tf.bfloat16),
            r"dtype that clients .* got bfloat16",
        ),
        (
            lambda x: tf.fill(tf.shape(x), __file__),
            r"is a path of this machine, .*test_comp",
        ),
    ],
)
def test_a_model_that_a_stock_server_cannot_run_is_rejected(tmp_path, function, message):
    with pytest.raises(compatibility.IncompatibleModel, match=message):
        compatibility.check(saved_model(tmp_path / "draft", function))


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("serving_default", "output_0", "'output_0' is an auto-generated name"),
        ("serving_default", "The Output", "'The Output': the name of an input or output must be"),
        ("classify", "output", r"serving_default must be a signature, got \["),
    ],
)
def test_names_follow_the_convention(tmp_path, name, key, message):
    with pytest.raises(compatibility.IncompatibleModel, match=message):
        compatibility.check(saved_model(tmp_path / "draft", tf.identity, name=name, key=key))


def test_state_between_requests_is_rejected(tmp_path):
    module = tf.Module()
    module.count = tf.Variable(0)
    with pytest.raises(compatibility.IncompatibleModel, match=r"op AssignAddVariableOp is not in"):
        compatibility.check(
            saved_model(
                tmp_path / "draft",
                lambda x: tf.fill(tf.shape(x), module.count.assign_add(1)),
                module=module,
            )
        )


def test_an_op_that_is_placed_on_a_gpu_is_rejected(tmp_path):
    def function(x):
        with tf.device("/device:GPU:0"):
            return tf.strings.length(x) + 1

    with pytest.raises(compatibility.IncompatibleModel, match=r"must run on .*GPU:0"):
        compatibility.check(saved_model(tmp_path / "draft", function))


def test_a_function_that_xla_must_compile_is_rejected(tmp_path):
    inner = tf.function(lambda x: x + 1.0, jit_compile=True)
    spec = tf.TensorSpec([None], tf.float32, "x")
    with pytest.raises(compatibility.IncompatibleModel, match="must be compiled by XLA"):
        compatibility.check(saved_model(tmp_path / "draft", inner, spec=spec))


def test_a_missing_file_is_rejected(version, tmp_path):
    copy = shutil.copytree(version, tmp_path / "copy")
    asset = next((copy / "assets").glob("*.txt"), None) or next((copy / "assets").iterdir())
    asset.unlink()
    with pytest.raises(
        compatibility.IncompatibleModel, match=f"the asset {asset.name} must be a file in"
    ):
        compatibility.check(copy)
    (copy / "variables/variables.index").unlink()
    with pytest.raises(compatibility.IncompatibleModel, match=r"has no variables/variables\.index"):
        compatibility.check(copy)


def test_export_rejects_an_incompatible_draft(tmp_path, monkeypatch):
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
    with pytest.raises(compatibility.IncompatibleModel, match=r"label must have .* float16"):
        untrained.version("sentiment", tmp_path)
    assert versions.numbers(tmp_path / "sentiment") == []


@pytest.mark.slow
def test_every_activation_and_structure_of_a_cell_has_ops_of_stock_servers():
    specs = [CellSpec("rnn", input_activation=name) for name in ACTIVATIONS]
    specs += [CellSpec("gru", recurrent_structure=name) for name in RECURRENT_STRUCTURES]
    specs += [CellSpec("gru", recurrent_rank=2), CellSpec("gru", heads=2)]
    specs += [CELLS[name] for name in ("slstm", "rwkv", "nas", "minlstm", "sgu", "cornn", "tlstm")]
    layers = [GatedRNN(4, spec) for spec in specs]

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3])])
    def run(inputs):
        return [layer(inputs) for layer in layers]

    graph = run.get_concrete_function().graph.as_graph_def()
    nodes = [
        *graph.node,
        *(node for function in graph.library.function for node in function.node_def),
    ]
    assert {node.op for node in nodes} <= compatibility.OPS
