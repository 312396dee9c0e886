"""Word vectors from a file, from the flag to the served model."""

import hashlib
import json
import re

import numpy as np
import pytest
import tensorflow as tf

import tasks
from app import cli, train
from app.serving.session import SavedModelSession
from app.training import run_state
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tests.conftest import where

VECTORS = """\
good 1.0 0.1 0.0
bad -1.0 0.1 0.0
film 0.0 0.5 1.0
superb 0.9 0.2 0.1
awful -0.9 0.2 0.1
Valid 0.3 0.3 0.3
plot 0.1 -0.4 0.9
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "folder" / "small.txt"
    path.parent.mkdir()
    path.write_text(VECTORS)
    return path


def stream(*examples):
    return Stream(lambda: iter(examples))


def sentence(text):
    return Example({"text": text, "label": text.split()[0]}, "x:1")


def tagged(words):
    return Example({"tokens": tuple(words.split()), "tags": tuple(words.lower().split())}, "x:1")


def learn(name, folder, train_part, valid, **settings):
    folder.mkdir()
    config = tasks.find(name).Config(units=2, **settings)
    return tasks.find(name).learn(config, train_part, folder, valid)


def test_other_words_come_after_those_of_the_training_part(file, tmp_path):
    parts = stream(sentence("good film the"), sentence("bad film the")), stream(sentence("valid"))
    plain = learn("sentiment", tmp_path / "plain", *parts)
    task = learn("sentiment", tmp_path / "vectors", *parts, vectors=str(file), vectors_top=1)
    own = plain.words.words
    assert task.words.words == (*own, "superb", "valid")
    assert task.vectors.vocabulary == len(plain.words) and task.vectors.rest == 2
    assert task.vectors.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (task.vectors.covered_types, task.vectors.covered_tokens) == (3 / 4, 4 / 6)
    assert task.vectors.uncovered == (("the", 2),)
    table = np.load(tmp_path / "vectors" / "vectors.npy")
    rows = {line.split()[0].lower(): line.split()[1:] for line in VECTORS.splitlines()}
    for number, word in enumerate(task.words.words, start=2):
        expected = np.array(rows.get(word, [0, 0, 0]), "float32")
        np.testing.assert_array_equal(table[number], expected)
    record = task.vectors.record(task.config)
    assert (record["file"], task.config.vectors) == ("small.txt", "small.txt")
    assert str(tmp_path) not in json.dumps(record)
    again = type(task).restore(tmp_path / "vectors")
    assert again.vectors == task.vectors and again.remarks() == task.remarks()


def test_words_are_looked_up_as_they_are_then_in_lower_case(file, tmp_path):
    task = learn(
        "tagging",
        tmp_path / "assets",
        stream(tagged("Good film"), tagged("bad Plot")),
        None,
        vectors=str(file),
        fold_case=False,
    )
    ids = task.words.encode(tf.constant(["Good", "good", "SUPERB", "superb", "Valid", "absent"]))
    good, lower, upper, superb, valid, absent = ids.numpy().tolist()
    assert good < task.vectors.vocabulary <= min(lower, upper, valid)
    assert upper == superb and absent == 1
    table = np.load(tmp_path / "assets" / "vectors.npy")
    np.testing.assert_array_equal(table[good], table[lower])


@pytest.mark.parametrize("mode", ["tuned", "frozen", "both"])
@pytest.mark.parametrize("name", ["sentiment", "tagging"])
def test_networks_are_built_for_every_mode_and_purpose(name, mode, file, tmp_path):
    make = sentence if name == "sentiment" else tagged
    part = stream(make("good film"), make("bad film"))
    settings = {"vectors": str(file), "vectors_mode": mode}
    if name == "tagging":
        settings |= {"characters": 2, "layers": 1}
    task = learn(name, tmp_path / "assets", part, part, **settings)
    (tmp_path / "assets" / "vectors.npy").rename(tmp_path / "vectors.npy")
    task = type(task).restore(tmp_path / "assets")  # as from a version, which has no table
    paths = [{weight.path for weight in task.build(p).weights} for p in ("reuse", "serving")]
    (tmp_path / "vectors.npy").rename(tmp_path / "assets" / "vectors.npy")
    model = task.build()
    assert paths[0] == {weight.path for weight in model.weights} >= paths[1]
    example = next(part.batches(2))
    keys = ("text", "label") if name == "sentiment" else ("tokens", "tags")
    convert = tf.constant if name == "sentiment" else tf.ragged.constant
    encoded = task.encode({k: convert([e.values[k] for e in example]) for k in keys})
    batch = {
        k: v.to_tensor().numpy() if isinstance(v, tf.RaggedTensor) else v.numpy()
        for k, v in encoded.items()
    }
    batch["ids"][0, 0] = len(task.words) - 1  # a word that training does not see
    task.adapt(model, [batch], [batch])
    inputs = tf.nest.map_structure(tf.constant, task.to_inputs(batch, training=True)[0])
    assert np.isfinite(model(inputs, training=True)).all()


def test_a_word_that_training_has_not_seen_is_known_when_served(file, tmp_path, capsys):
    for part, count in (("train", 24), ("valid", 4), ("test", 4)):
        lines = ["a good film\tpositive", "a bad film\tnegative"] * (count // 2)
        (tmp_path / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    argv = ["sentiment", "--vectors", str(file), "--vectors-licence", "PDDL 1.0"]
    for part in ("train", "valid", "test"):
        argv += [f"--{part}", str(tmp_path / f"{part}.tsv")]
    argv += ["--units", "4", "--epochs", "6", "--learning-rate", "0.05", "--batch-tokens", "24"]
    argv += ["--evidence", "0", "--linear-path", "0"]
    version = train.main(argv + where(tmp_path))
    printed = capsys.readouterr().out
    assert "word vectors of small.txt (GloVe text, 7 rows of 3 dimensions, " in printed
    assert "the most frequent without a vector: a\n" in printed
    text = (version / "assets.extra" / "run.json").read_text()
    record = json.loads(text)
    assert record["vectors"]["licence"] == "PDDL 1.0"
    assert record["vectors"]["file"] == record["config"]["vectors"] == "small.txt"
    assert record["vectors"]["uncovered"] == [["a", 24]]
    assert str(file.parent) not in text
    report = (version / "assets.extra" / "report.html").read_text()
    assert "cover 75.0% of the different words and 66.7% of all words of the train part" in report
    assert not (version / "assets" / "vectors.npy").exists()
    texts = ["a superb film", "a awful film", "a zzz film", "a yyy film"]
    outputs = SavedModelSession(version).predict([{"text": text} for text in texts])
    assert [output["label"] for output in outputs[:2]] == [b"positive", b"negative"]
    superb, awful, zzz, yyy = (output["probabilities"] for output in outputs)
    np.testing.assert_allclose(zzz, yyy, atol=1e-6)
    assert min(np.abs(superb - zzz).max(), np.abs(awful - zzz).max()) > 1e-3


def test_a_run_depends_on_the_content_of_the_file_and_not_on_its_folder(file, tmp_path):
    part = stream(sentence("good film"), sentence("bad film"))

    def identity(name, path):
        task = learn("sentiment", tmp_path / name, part, part, vectors=str(path))
        return run_state.identity("sentiment", task.config, "", tmp_path / name)

    moved = tmp_path / file.name
    moved.write_bytes(file.read_bytes())
    first = identity("first", file)
    assert identity("moved", moved) == first
    moved.write_text(VECTORS.replace("good 1.0", "good 1.5"))
    assert identity("changed", moved) != first


def test_vectors_of_no_word_are_rejected(file, tmp_path):
    part = stream(sentence("дом мой"), sentence("сад мой"))
    with pytest.raises(UserError, match=r"has a vector for none of the 3 words .* such as 'мой'"):
        learn("sentiment", tmp_path / "assets", part, part, vectors=str(file))


@pytest.mark.parametrize(
    ("task", "content", "flags", "message"),
    [
        ("sentiment", None, [], "--vectors: .*small.txt cannot be read: No such file"),
        ("sentiment", "", [], "--vectors: .*small.txt is empty"),
        ("tagging", "<html>", [], "--vectors: .*small.txt is an HTML page"),
        ("tagging", "2 3\na 1 2\n", [], "small.txt:2: expected a word and 3 numbers, as line 1"),
        ("sentiment", VECTORS, ["--vectors-mode", "x"], r"must be one of \['tuned', 'frozen', 'b"),
        ("sentiment", VECTORS, ["--vectors-top", "-1"], "--vectors-top must be at least 0"),
        ("translation", VECTORS, [], "word vectors are for tasks that read words, such as senti"),
        ("captioning", VECTORS, [], "and this one reads subwords"),
    ],
)
def test_what_cannot_be_used_is_rejected_before_the_corpus_is_read(
    task, content, flags, message, file, capsys
):
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: train.main([task, "--vectors", str(file), *flags]))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and len(error.splitlines()) <= 3
    assert re.search(message, error)


def test_a_folder_of_an_unknown_user_is_rejected():
    with pytest.raises(UserError, match=r"--vectors: '~no-such-user/v.txt': "):
        tasks.find("tagging").Config(vectors="~no-such-user/v.txt").check_files()


def test_a_licence_needs_vectors():
    with pytest.raises(UserError, match="--vectors-licence needs --vectors"):
        tasks.find("tagging").Config(vectors_licence="CC0")
