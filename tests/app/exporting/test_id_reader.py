"""Ids by Python alone are those of the served graph."""

import ast
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tasks
from app.exporting import id_reader, id_rules
from app.exporting.id_reader import IdReader
from models.text.ud_tokenizer import tokenize
from models.text.words import split
from tests.support import untrained

TEXTS = [
    "a dull film",
    "",
    "It's 10:30, isn't it? ΣΑΣ ΟΔΟΣ İstanbul 好的film ก็ e-mail x@y.com can't $50 (or 20%)... 'em",
    "\ufffd\x00 a\u2028b\x1f-c don’t ''x'' U.S. Mr. X 'A+B+C' and/or http://a.b/c_(d). #tag",
    "Straße ǅ ẞ \u200dx _a_b 1,000.50 5pm well-known \U0001f600!? \u0301\u0e01\u0e31 ... --",
    "internationalisation " * 40 + "x" * 600,
]


def reader_of(task, folder):
    id_rules.write(task.id_rules(), folder)
    return IdReader(folder / id_rules.RULES)


def learnt(name, folder, **settings):
    (folder / "assets").mkdir()
    task_class = tasks.find(name)
    config = task_class.Config(**{**untrained.SMALL, **settings})
    return task_class.learn(config, untrained.examples(name), folder / "assets")


@pytest.mark.parametrize(
    "settings", [{}, {"direction": "forward", "fold_case": False, "max_length": 7}]
)
def test_ids_of_texts_are_those_of_the_graph(settings, tmp_path):
    task = learnt("sentiment", tmp_path, **settings)
    texts = [*TEXTS, *(e.values["text"] for e in untrained.examples("sentiment", 20))]
    ids = reader_of(task, tmp_path).inputs(texts)["ids"]
    np.testing.assert_array_equal(ids, task.ids(tf.constant(texts)).to_tensor().numpy())


def test_ids_of_words_and_characters_are_those_of_the_graph(tmp_path):
    task = learnt("tagging", tmp_path, max_word_length=9)
    reader = reader_of(task, tmp_path)
    tokens = tokenize(tf.constant(TEXTS))[:, : task.config.max_length]
    expected = [[word.decode() for word in row] for row in tokens.to_list()]
    assert [reader.split(text) for text in TEXTS] == expected
    inputs = reader.word_inputs(expected)
    for name, flat in task.network_inputs(tokens.flat_values).items():
        np.testing.assert_array_equal(inputs[name], tokens.with_flat_values(flat).to_tensor())


def test_every_character_is_split_as_by_the_graph(tmp_path):
    """Two characters of each thousand, and all whose classes matter to the rules."""
    task = learnt("sentiment", tmp_path)
    reader = reader_of(task, tmp_path)
    numbers = [*range(0x3000), *range(0x3000, 0x20000, 479)]
    texts = [f"a{chr(n)}b {chr(n)}" for n in numbers if not 0xD800 <= n < 0xE000]
    words = split(tf.constant(texts)).to_list()
    assert [reader.split(text) for text in texts] == [[w.decode() for w in row] for row in words]


def test_surrogates_do_not_fail(tmp_path):
    assert reader_of(learnt("sentiment", tmp_path), tmp_path).split("a \ud800 b") != []


def test_ids_beyond_a_length_are_left_out(tmp_path):
    reader = reader_of(learnt("sentiment", tmp_path), tmp_path)
    assert [len(row) for row in reader.inputs(["a b c", "a"], length=2)["ids"]] == [2, 2]


def test_the_reader_needs_nothing_but_python(tmp_path):
    reader_of(learnt("sentiment", tmp_path), tmp_path)
    tree = ast.parse((tmp_path / "ids.py").read_text())
    modules = {n.name for x in ast.walk(tree) if isinstance(x, ast.Import) for n in x.names}
    modules |= {x.module for x in ast.walk(tree) if isinstance(x, ast.ImportFrom)}
    assert modules <= sys.stdlib_module_names and id_reader.__name__.startswith("app.")
    script = "from ids import IdReader; print(IdReader('ids.json').inputs(['a dull film']))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'); {script}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("{'ids': [[")
