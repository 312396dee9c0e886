"""Continuing from a published version: settings, ids, weights, frozen layers, comparison."""

import dataclasses
import itertools
import json
import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
import tasks
from app import cli, evaluate, train
from app.serving.base_version import BaseVersion
from app.serving.session import SavedModelSession
from app.training import loop
from app.training.continuation import ContinuedWeights
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tests.conftest import SMALL, where
from tests.support import untrained
from tests.support.cells import slow_except

GOOD, BAD, MIXED = ("warm", "funny"), ("dull", "cold"), ("uneven", "patchy")
FLAGS = [*SMALL, "--epochs", "4", "--learning-rate", "0.03", "--linear-path", "0"]


def write(folder, labels, counts=(40, 12, 12)):
    folder.mkdir()
    for part, count in zip(("train", "valid", "test"), counts, strict=True):
        rows = []
        for number in range(count):
            label = list(labels)[number % len(labels)]
            word = labels[label][number // len(labels) % len(labels[label])]
            rows.append(f"a {word} film {number} {part}\t{label}\n")
        (folder / f"{part}.tsv").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a version, and of its data."""
    folder = tmp_path_factory.mktemp("base")
    data = write(folder / "corpus", {"bad": BAD, "good": GOOD})
    return train.main(["sentiment", "--data", str(data), *FLAGS, *where(folder)]), data


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Data with another class before and between those of the version."""
    labels = {"good": ("brilliant", "warm"), "bad": BAD, "average": MIXED}
    return write(tmp_path_factory.mktemp("other") / "corpus", labels)


def continued(base, data, folder, *more):
    argv = ["sentiment", "--data", str(data), "--from", str(base), *where(folder), *more]
    return train.main(argv)


def record_of(version):
    return json.loads((version / "assets.extra/run.json").read_text(encoding="utf-8"))


def words_of(version, file="words.txt"):
    return (version / "assets" / file).read_text(encoding="utf-8").splitlines()


# --- Every task --------------------------------------------------------------


@pytest.mark.parametrize("name", slow_except(["tagging"], tasks.names()))
def test_a_continued_network_answers_as_before_its_first_step(name, tmp_path):
    settings = {"evidence": 0, "linear_path": 0} if name == "sentiment" else {}
    version = untrained.version(name, tmp_path, **settings)
    task_class = tasks.find(name)
    old = task_class.restore(version / "assets")
    start = ContinuedWeights(BaseVersion(version, name, "", {}), old)
    own = task_class.Corpus().open().train
    tags = set(old.tags.words) if name == "tagging" else set()
    new = [
        example
        for example in itertools.islice(iter(own), 100, 180)
        if tags.issuperset(example.values.get("tags", ()))
    ]
    (tmp_path / "assets").mkdir()
    task = task_class.learn(
        old.config, Stream(lambda: iter(new)), tmp_path / "assets", base=version / "assets"
    )
    for vocabulary in task.vocabularies:
        new_words, old_words = (getattr(t, vocabulary) for t in (task, old))
        if vocabulary in task.label_vocabularies:
            assert new_words.words == old_words.words  # or answers could differ
        elif hasattr(old_words, "words"):
            assert new_words.words[: len(old_words.words)] == old_words.words
            assert vocabulary != "words" or len(new_words) > len(old_words)
    keras.utils.set_random_seed(99)
    network = task.build("serving")
    start.initialise(task, network)
    rows = [task.row(example.values) for example in itertools.islice(iter(own), 95, 105)]
    requests = tf.constant([row.get("text", row.get("image_bytes")) for row in rows])
    outputs = task.signatures(network)["serving_default"](requests)
    answers = SavedModelSession(version).predict_columns(
        {next(iter(old.request)) if name != "tagging" else "text": requests.numpy()}
    )
    for key, values in answers.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(outputs[key], values, atol=1e-5, err_msg=key)
        else:
            assert outputs[key].numpy().tolist() == values.tolist(), key


# --- Classes and words -------------------------------------------------------


def test_new_words_and_classes_follow_those_of_the_version(base, other, tmp_path, capsys):
    version = continued(base[0], other, tmp_path)
    output = capsys.readouterr().out
    old_words, old_labels = words_of(base[0]), words_of(base[0], "labels.txt")
    words, labels = words_of(version), words_of(version, "labels.txt")
    assert words[: len(old_words)] == old_words and "brilliant" in words[len(old_words) :]
    assert labels == [*old_labels, "average"]
    new = len(words) - len(old_words)
    assert f"continuing from {base[0]}: {new} new words, 1 new labels" in output
    record = record_of(version)
    assert record["base"]["version"] == "sentiment/1"
    assert record["config"]["learning_rate"] == pytest.approx(0.003)
    assert record["config"]["units"] == record_of(base[0])["config"]["units"] == 8
    assert record["comparison"]["examples"] == 8  # of the 12, 4 are of the new class
    assert "sentiment/1 and the new version on 8 examples" in output
    page = (version / "assets.extra/report.html").read_text(encoding="utf-8")
    assert "Comparison on 8 examples" in page


def test_weights_move_with_their_classes(base, other, tmp_path):
    version = continued(
        base[0], other, tmp_path, "--drop-labels", "--epochs", "1", "--learning-rate", "1e-9"
    )
    old_labels, labels = words_of(base[0], "labels.txt"), words_of(version, "labels.txt")
    assert (old_labels, labels) == (["bad", "good"], ["average", "bad", "good"])
    old, new = models.load(base[0]), models.load(version)
    for name in ("kernel", "bias"):
        before, after = (getattr(m.get_layer("logits"), name).numpy() for m in (old, new))
        np.testing.assert_allclose(after[..., 1:], before, atol=1e-6)
    table, old_table = (m.get_layer("embedding").embeddings.numpy() for m in (new, old))
    words, old_words = words_of(version), words_of(base[0])
    for word in ("warm", "film"):
        rows = table[2 + words.index(word)], old_table[2 + old_words.index(word)]
        np.testing.assert_allclose(*rows, atol=1e-6)
    np.testing.assert_allclose(table[2 + words.index("brilliant")], old_table[1], atol=1e-6)


def test_a_version_without_the_classes_of_the_data_is_continued(base, tmp_path, capsys):
    data = write(tmp_path / "corpus", {"long": GOOD, "short": BAD})
    version = continued(base[0], data, tmp_path, "--drop-labels", "--epochs", "1")
    assert words_of(version, "labels.txt") == ["long", "short"]
    assert f"not compared with {base[0]}: it has none of the classes" in capsys.readouterr().out
    assert record_of(version)["comparison"] is None
    folder = ["--saved-models", str(version.parents[1])]
    with pytest.raises(UserError, match="no examples that both versions can be evaluated on"):
        evaluate.main(["sentiment", "--data", str(base[1]), *folder, "--compare", "1", "1"])


def test_the_target_of_a_version_is_that_of_the_new_data(tmp_path, monkeypatch):
    config, _ = tasks.declaration("sentiment").Config().with_target("number")
    settings = dataclasses.asdict(config)
    version = BaseVersion(tmp_path, "sentiment", "", settings, "sentiment")
    monkeypatch.setattr("app.serving.base_version.find", lambda *args: version)
    trained = []
    monkeypatch.setattr("app.training.pipeline.train", lambda *args: trained.append(args))
    table = tmp_path / "table.tsv"
    table.write_text("a warm film\t4.5\n", encoding="utf-8")
    argv = ["sentiment", "--from", "1", "--train", str(table), *where(tmp_path)]
    train.main(argv)
    (_, config, corpus, _) = trained[0]
    assert (config.target, corpus.target) == ("number", "number")
    with pytest.raises(UserError, match=r"--target must be number, as in the version .*got labels"):
        train.main([*argv, "--target", "labels"])


def test_the_unit_of_numbers_is_that_of_the_version_and_their_range_is_new(tmp_path):
    task_class = tasks.find("sentiment")
    config, _ = task_class.Config(linear_path=0).with_target("number")
    folders = [tmp_path / "old", tmp_path / "new"]
    base = None
    for folder, values in zip(folders, ([1.0, 2.0, 6.0], [10.0, 20.0, 99.0]), strict=True):
        folder.mkdir()
        rows = [Example({"text": f"film {v}", "value": str(v)}, "x:1") for v in values]
        task = task_class.learn(config, Stream(lambda rows=rows: iter(rows)), folder, base=base)
        base = folder
    assert (task.target.mean, task.target.scale) == pytest.approx((3.0, np.std([1, 2, 6])))
    assert (task.target.minimum, task.target.median, task.target.maximum) == (10.0, 20.0, 99.0)


@pytest.mark.parametrize(
    ("lines", "flags", "name"),
    [
        ("name: films\n", [], "models/films/2"),
        ("name: films\nsaved-models: elsewhere\n", [], "elsewhere/films/2"),
        ("name: films\n", ["--name", "plays"], "models/plays/2"),
        ("units: 8\n", [], "models/sentiment/2"),
    ],
)
def test_the_version_is_found_where_a_file_of_settings_names(
    tmp_path, monkeypatch, lines, flags, name
):
    path = tmp_path / "settings.yaml"
    path.write_text(lines, encoding="utf-8")
    places = []

    def find(value, task, saved_models, model):
        places.append(f"{saved_models}/{model}/{value}")
        raise UserError("stop here")

    monkeypatch.setattr("app.serving.base_version.find", find)
    argv = ["sentiment", "--config", str(path), "--from", "2", *flags]
    if "saved-models" not in lines:
        argv += ["--saved-models", "models"]
    with pytest.raises(UserError, match="stop here"):
        train.main(argv)
    assert places == [name]


def test_a_record_of_a_continued_version_is_no_command_to_continue(
    base, tmp_path, monkeypatch, capsys
):
    record = record_of(base[0]) | {"base": {"version": "lab/1", "manifest": ""}}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    argv = ["sentiment", "--data", str(base[1]), *where(tmp_path), "--epochs", "1", "--config"]
    notes = record_of(train.main([*argv, str(path)]))["data"]["notes"]
    assert "run.json is the record of a version that continued lab/1; this run" in notes[0]
    assert notes[0] in capsys.readouterr().out
    monkeypatch.setattr("app.training.pipeline.train", lambda *args: args[-1].notes)
    assert train.main([*argv, str(base[0] / "assets.extra/run.json")]) == []
    assert train.main([*argv, str(path), "--from", str(base[0])]) == []


def test_frozen_groups_are_not_trained(base, other, tmp_path, capsys):
    version = continued(base[0], other, tmp_path, "--freeze", "encoder", "--learning-rate", "0.1")
    assert "not trained: encoder" in capsys.readouterr().out
    old, new = models.load(base[0]), models.load(version)
    size = old.get_layer("embedding").embeddings.shape[0]
    np.testing.assert_array_equal(
        new.get_layer("embedding").embeddings[:size], old.get_layer("embedding").embeddings
    )
    recurrent = [
        {w.path: w.numpy() for w in m.get_layer("reader").weights if "recurrent" in w.path}
        for m in (old, new)
    ]
    for path, weight in recurrent[0].items():
        np.testing.assert_array_equal(recurrent[1][path], weight)
    kernels = [m.get_layer("logits").kernel.numpy()[:, :2] for m in (old, new)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def test_the_version_belongs_to_the_identity_of_a_run(base, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "fit", interrupt)
    flags = [*FLAGS, *where(tmp_path)]
    for more in ([], ["--from", str(base[0])], ["--from", str(base[0]), "--freeze", "encoder"]):
        with pytest.raises(KeyboardInterrupt):
            train.main(["sentiment", "--data", str(base[1]), *flags, *more])
    assert len([path for path in tmp_path.glob("runs/sentiment/*") if path.is_dir()]) == 3


# --- Errors ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sentiment", "--from", "9"], r"--from must be one of \[1\]"),
        (
            ["sentiment", "--from", "nowhere"],
            "--from must be the number of a version, its model",
        ),
        (["tagging", "--from", "BASE"], "is a version of sentiment, not of tagging"),
        (["sentiment", "--from", "BASE", "--freeze", "head"], r"has the groups \['embeddings'"),
        (["sentiment", "--from", "BASE", "--units", "9"], r"has the shape .* leave out flags"),
        (
            ["sentiment", "--from", "BASE", "--cell", "gru"],
            "leave out flags that change the network",
        ),
        (
            ["sentiment", "--from", "BASE", "--vocabulary", "10"],
            "--vocabulary must be at least 20000, as in .*, whose words are kept, got 10",
        ),
        (["sentiment", "--freeze", "encoder"], "need --from"),
        (["sentiment", "--drop-labels"], "need --from"),
    ],
)
def test_what_cannot_be_continued_is_an_error(base, tmp_path, capsys, argv, message):
    version, data = base
    argv = [str(version) if word == "BASE" else word for word in argv]
    folders = ["--saved-models", str(version.parents[1]), "--runs", str(tmp_path)]
    if "BASE" in argv or argv[0] == "sentiment":
        argv += ["--data", str(data)]
    with pytest.raises(SystemExit):
        cli.run(lambda: train.main([*argv, *folders]))
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(message, error)


# --- Comparison --------------------------------------------------------------


def test_versions_are_compared_by_their_predictions(base, other, tmp_path, capsys):
    untrained_version = untrained.version("sentiment", tmp_path)
    labels = ["negative", "positive"]
    data = tmp_path / "test"
    data.mkdir()
    texts = [(f"a film {number} dull warm", labels[number % 2]) for number in range(20)]
    (data / "test.tsv").write_text("".join(f"{t}\t{label}\n" for t, label in texts))
    second = untrained.version("sentiment", tmp_path, "gru")
    right = []
    for version in (untrained_version, second):
        answers = SavedModelSession(version).predict_columns({"text": [t for t, _ in texts]})
        predicted = [label.decode() for label in answers["label"]]
        right.append([p == label for p, (_, label) in zip(predicted, texts, strict=True)])
    gained = sum(b and not a for a, b in zip(*right, strict=True))
    lost = sum(a and not b for a, b in zip(*right, strict=True))
    tail = sum(math.comb(gained + lost, k) for k in range(min(gained, lost) + 1))
    expected = min(1.0, 2 * tail / 2 ** (gained + lost))
    capsys.readouterr()
    argv = ["sentiment", "--test", str(data / "test.tsv"), "--saved-models", str(tmp_path)]
    scores = evaluate.main([*argv, "--compare", "1", "2", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["gained"], result["lost"], result["examples"]) == (gained, lost, 20)
    assert result["p_value"] == pytest.approx(expected)
    assert scores["accuracy"] == pytest.approx(np.mean(right[1]))
    assert result["scores"]["accuracy"] == pytest.approx([np.mean(r) for r in right])
    evaluate.main([*argv, "--compare", "1", "2"])
    assert "right only in this version" in capsys.readouterr().out
