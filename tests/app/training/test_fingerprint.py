"""The fingerprint of ops: the same wherever the same is computed, different otherwise."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

import tasks
from app.training import example_cache
from app.training.fingerprint import fingerprint
from models.text.words import Vocabulary
from tests.support import untrained
from tests.support.cells import slow_except

ROOT = Path(__file__).parents[3]
SCRIPT = """
import json, pathlib, sys
import tasks
from app.training import example_cache
from tests.support import untrained

prints = {}
for name in tasks.names():
    task = tasks.find(name).restore(pathlib.Path(sys.argv[1], name))
    example = next(iter(untrained.examples(name, 1)))
    prints[name] = example_cache.ops_fingerprint(task, example)
print(json.dumps(prints))
"""


@pytest.fixture(scope="module")
def small_tasks(tmp_path_factory):
    """The folder with the assets of a small version of each task."""
    folder = tmp_path_factory.mktemp("tasks")
    for name in tasks.names():
        task_class = tasks.find(name)
        sizes = {k: size for k, size in untrained.SIZES.items() if hasattr(task_class.Config, k)}
        config = task_class.Config(**untrained.SMALL, **sizes)
        (folder / name).mkdir()
        task_class.learn(config, untrained.examples(name, 16), folder / name)
    return folder


@pytest.fixture(scope="module")
def after_edits(small_tasks, tmp_path_factory):
    """The fingerprints in another process, from edited sources and from moved assets."""
    folder = tmp_path_factory.mktemp("edited")
    for package in ("app", "tasks", "models", "tests/support"):
        shutil.copytree(ROOT / package, folder / package)
    (folder / "tests/__init__.py").touch()
    for source in ("models/text/words.py", "models/networks/tagger.py"):
        text = (folder / source).read_text(encoding="utf-8")
        text = text.replace("\nimport ", "\n# A comment that moves all lines.\nimport ", 1)
        (folder / source).write_text(text + "\n\ndef unused():\n    return 1\n", encoding="utf-8")
    shutil.copytree(small_tasks, folder / "assets")
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "assets")],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(folder)},
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def ops_fingerprint(folder, name):
    task = tasks.find(name).restore(folder / name)
    return example_cache.ops_fingerprint(task, next(iter(untrained.examples(name, 1))))


@pytest.mark.parametrize("name", slow_except(["sentiment"], tasks.names()))
def test_it_is_the_same_in_another_process_and_after_edits_that_change_no_op(
    small_tasks, after_edits, name
):
    assert ops_fingerprint(small_tasks, name) == after_edits[name]


@pytest.mark.parametrize("name", tasks.names())
def test_it_differs_if_preprocessing_computes_something_else(
    small_tasks, after_edits, monkeypatch, name
):
    encode = Vocabulary.encode

    def encode_in_lower_case(self, words):
        if isinstance(words, tf.RaggedTensor):
            return encode(self, words)
        return encode(self, tf.strings.lower(words))

    monkeypatch.setattr(Vocabulary, "encode", encode_in_lower_case)
    assert ops_fingerprint(small_tasks, name) != after_edits[name]


# --- Small functions ---------------------------------------------------------


class Owner(tf.Module):
    def __init__(self, words=("a", "b"), default=-1, scale=2.0):
        super().__init__()
        ids = tf.range(len(words), dtype=tf.int64)
        entries = tf.lookup.KeyValueTensorInitializer(tf.constant(words), ids)
        self.table = tf.lookup.StaticHashTable(entries, default)
        self.scale = tf.Variable(scale)

    def lookup(self, x):
        return self.table.lookup(tf.strings.as_string(x))

    def scaled(self, x):
        return tf.cast(x, tf.float32) * self.scale


def loop(step, limit=8):
    return lambda x: tf.while_loop(lambda x: tf.reduce_sum(x) < limit, lambda x: [x + step], [x])[0]


def branch(step):
    return lambda x: tf.cond(tf.reduce_sum(x) > 3, lambda: x + step, lambda: x)


def nested(step):
    return lambda x: tf.function(lambda y: y * step)(x) + 1


def mapped(step):
    return lambda x: tf.map_fn(lambda y: y * step, x)


def rounded(x):
    y = x + 1
    tf.print("unused", output_stream=sys.stderr)
    return y


def of(function, owner=None):
    spec = tf.TensorSpec([None], tf.int32)
    return fingerprint(tf.function(function).get_concrete_function(spec), owner or Owner())


DISTINCT = {
    "x": lambda x: x,
    "x + 1": lambda x: x + 1,
    "x + 2": lambda x: x + 2,
    "x - 1": lambda x: x - 1,
    "1 - x": lambda x: 1 - x,
    "effect": rounded,
    "float": lambda x: tf.cast(x, tf.float32),
    "cumsum": lambda x: tf.cumsum(x),
    "attribute": lambda x: tf.cumsum(x, exclusive=True),
    "string": lambda x: tf.strings.join([tf.strings.as_string(x), "b"]),
    "other string": lambda x: tf.strings.join([tf.strings.as_string(x), "c"]),
    "names of outputs": lambda x: {"a": x + 1},
    "other names": lambda x: {"b": x + 1},
    "which output": lambda x: tf.unique(x)[0],
    "the other output": lambda x: tf.unique(x)[1],
    "loop": loop(1),
    "body of a loop": loop(2),
    "condition of a loop": loop(1, 9),
    "branch": branch(1),
    "other branch": branch(2),
    "nested": nested(2),
    "nested function": nested(3),
    "mapped": mapped(2),
    "mapped function": mapped(3),
}


def test_different_functions_have_different_fingerprints():
    prints = {name: of(function) for name, function in DISTINCT.items()}
    assert len(set(prints.values())) == len(prints)


@pytest.mark.parametrize("name", DISTINCT)
def test_names_of_nodes_and_functions_do_not_matter(name):
    function = DISTINCT[name]

    def renamed(x):
        unused = tf.identity(x, name="unused") * 3
        with tf.name_scope("scope"):
            del unused
            return function(x)

    assert of(function) == of(renamed)


def test_tables_and_variables_count_by_their_content():
    owner = Owner()
    lookup, scaled = of(owner.lookup, owner), of(owner.scaled, owner)
    again = Owner()
    assert (lookup, scaled) == (of(again.lookup, again), of(again.scaled, again))
    swapped, default, scale = Owner(("b", "a")), Owner(default=-2), Owner(scale=3.0)
    assert len({lookup, of(swapped.lookup, swapped), of(default.lookup, default)}) == 3
    assert of(scale.scaled, scale) != scaled
    with pytest.raises(ValueError, match="neither a variable nor a lookup table of Module"):
        of(owner.lookup, tf.Module())
