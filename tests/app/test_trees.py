"""Trees with a label at each node through every command, next to a parser of their text."""

import itertools
import json
import re

import numpy as np
import pytest

import models
from app import cli, evaluate, export, inspect_data, look, predict, train
from app.serving import compatibility, warmup
from app.serving.demo import catalogue
from app.serving.session import SavedModelSession
from tasks.corpora.samples import review_trees
from tests.conftest import SMALL, signatures, where
from tests.support.fake_server import FakeServer

COUNTS = {"train": 300, "valid": 40, "test": 60}
NAMES = {"train": "train.txt", "valid": "dev.txt", "test": "test.txt"}
NODES = 60  # --max-length
FLAGS = ["--trees", "--max-length", str(NODES), "--fold-case", "--embedding", "12", "--units", "12"]
FLAGS += ["--cell", "lstm", "--epochs", "4", "--learning-rate", "0.02", "--batch-tokens", "400"]
TREE = "(_ (_ (_ the) (_ plot)) (_ (_ is) (_ (_ not) (_ superb))))"
MALFORMED = ["", "superb", "(_ superb", "(_ (_ a) (_ b) (_ c))", "(_ a) (_ b)", "(_ a \u00e9)"]
DEEP = "(_ (_ a) " * NODES + "(_ a)" + ")" * NODES


def lines(part):
    examples = itertools.islice(review_trees.parts()[part], COUNTS[part])
    return [example.values["text"] for example in examples]


def labels(text):
    """The labels of the nodes of a tree, the root's first."""
    return re.findall(r"\(\s*([^\s()]+)", text)


def words(text):
    return re.findall(r"([^\s()]+)\s*\)", text)


def corpus(folder):
    folder.mkdir()
    for part, name in NAMES.items():
        (folder / name).write_text("\n".join([*lines(part), ""]), encoding="utf-8")
    return folder


def trained(folder, *flags):
    data = corpus(folder / "corpus")
    version = train.main(["sentiment", "--data", str(data), *FLAGS, *where(folder), *flags])
    return version, json.loads((version / "assets.extra" / "run.json").read_text())


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("trees"))


@pytest.fixture(scope="module")
def respond(published):
    session = SavedModelSession(published[0])
    return lambda texts: session.predict_columns({"text": texts})


def test_a_version_has_the_signature_of_trees_and_can_be_served(published):
    version, record = published
    assert signatures(version)["serving_default"] == (
        {"text": ("string", [-1])},
        {
            "label": ("string", [-1]),
            "probability": ("float32", [-1]),
            "probabilities": ("float32", [-1, 5]),
            "labels": ("string", [-1, 5]),
            "tree": ("string", [-1]),
            "valid": ("bool", [-1]),
        },
    )
    compatibility.check(version)
    assert warmup.replay(version) > 0
    assert record["config"]["trees"] and record["config"]["evidence"] == 0
    assert "chosen for --trees: --evidence 0, --linear-path 0" in record["data"]["notes"]


def test_scores_are_those_of_the_served_labels(published, respond):
    _, record = published
    test = lines("test")
    response = respond(test)
    predicted = [tree.decode() for tree in response["tree"]]
    roots = [labels(text)[0] for text in test]
    assert response["valid"].all()
    assert [labels(tree)[0] for tree in predicted] == [name.decode() for name in response["label"]]
    assert [words(tree) for tree in predicted] == [words(text) for text in test]
    right = [
        [a == b for a, b in zip(labels(text), labels(tree), strict=True)]
        for text, tree in zip(test, predicted, strict=True)
    ]
    scores = record["scores"]
    assert scores["accuracy"] == pytest.approx(np.mean([row[0] for row in right]))
    assert scores["node_accuracy"] == pytest.approx(np.mean(np.concatenate(right)))
    assert scores["node_accuracy"] > 0.8  # most frequent label: 2, of half the nodes
    for name, (low, high) in record["intervals"].items():
        assert low <= scores[name] <= high
    nodes = [label for text in test for label in labels(text)]
    assert record["baselines"]["most frequent label of a node"] == {
        "node_accuracy": pytest.approx(nodes.count("2") / len(nodes))
    }
    majority = roots.count(record["data"]["majority"]) / len(roots)
    assert record["baselines"]["majority"]["accuracy"] == pytest.approx(majority)
    assert record["baselines"].keys() >= {"naive Bayes", "logistic regression"}


def test_a_response_depends_on_no_other_row_and_on_no_label(respond):
    texts = [*lines("test")[:5], TREE]
    texts.append(re.sub(r"\(\d", "(_", texts[0]))
    odd = [*MALFORMED, DEEP, "(" * 10_000, "(_ " + "x" * 200 * NODES + ")"]
    mixed = [*odd, *texts[::-1]]
    alone, together = [respond([text]) for text in texts], respond(mixed)
    assert together["valid"].tolist() == [False] * len(odd) + [True] * len(texts)
    for name in ("label", "tree"):
        rows = [response[name][0] for response in alone]
        assert together[name].tolist() == [b""] * len(odd) + rows[::-1]
        assert rows[-1] == rows[0]
    probabilities = np.array([response["probabilities"][0] for response in alone])
    np.testing.assert_allclose(
        together["probabilities"][len(odd) :], probabilities[::-1], atol=1e-6
    )
    assert not together["probabilities"][: len(odd)].any()
    for batch in (odd, odd[:1], []):
        response = respond(batch)
        assert not response["valid"].any() and response["tree"].tolist() == [b""] * len(batch)


def test_trees_are_predicted_alike_here_and_on_a_server(published, capsys):
    version, _ = published
    argv = ["sentiment", TREE, "a superb film", "--saved-models", str(version.parents[1])]
    predict.main(argv)
    first, second = capsys.readouterr().out.splitlines()
    label, probability, tree = first.split("\t")
    assert labels(tree)[0] == label and words(tree) == words(TREE) and 0 < float(probability) <= 1
    assert second == "(not a tree, or too large)\ta superb film"
    predict.main([*argv, "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["label"] == label and rows[0]["tree"] == tree
    assert rows[0]["probabilities"].keys() == {"0", "1", "2", "3", "4"}
    with FakeServer(version.parents[1], warm_up=True) as server:
        for address in (server.rest, server.grpc):
            predict.main([*argv, "--server", address])
            assert capsys.readouterr().out.splitlines() == [first, second]


def test_trees_are_evaluated_and_inspected(published, tmp_path, capsys):
    version, record = published
    saved, data = ["--saved-models", str(version.parents[1])], version.parents[2] / "corpus"
    assert evaluate.main(["sentiment", *saved, "--data", str(data)]) == record["scores"]
    page = (version / "assets.extra" / "report.html").read_text(encoding="utf-8")
    assert "node_accuracy" in page and "The most confident mistakes" in page
    look.main(["sentiment", TREE, *saved, "--out", str(tmp_path / "look")])
    printed = capsys.readouterr().out
    assert "(1 (2 the)" in printed or "((" not in printed
    page = (tmp_path / "look" / "index.html").read_text(encoding="utf-8")
    assert "superb" in page and "not of trees" in page
    argv = ["sentiment", "--trees", "--data", str(data), "--out", str(tmp_path / "page")]
    page = (inspect_data.main(argv) / "index.html").read_text(encoding="utf-8")
    assert "(2 the)" not in page and ">the " in page  # the words of trees
    with pytest.raises(SystemExit):
        cli.run(lambda: look.main(["sentiment", "dull", *saved, "--out", str(tmp_path / "l")]))
    assert "nothing to inspect: the text must be a tree" in capsys.readouterr().err


def test_a_network_of_trees_is_loaded_for_reuse(published, respond):
    version, record = published
    model = models.load(version)
    assert model.output_shape == (None, None, 5)
    temperature = model.get_layer("calibration").temperature.numpy()
    assert record["fitted_on_valid"]["temperature"] == pytest.approx(temperature)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target", "number"], "each node has one label"),
        (["--direction", "forward"], "not in a direction"),
        (["--evidence", "100"], "--evidence counts pairs of adjacent words"),
        (["--linear-path", "100"], "--linear-path counts pairs of adjacent words"),
        (["--cell", "lstm_zoneout"], "--cell must be without zoneout"),
        (["--vectors", "train", "--unlabelled", "texts"], "--unlabelled has no meaning"),
        (["--text-key", "x"], "is not a table and has no --text-key"),
        (["--data", "tfds:imdb"], "are not trees"),
        (["--data", "CORPUS", "--tree-arity", "1"], "train.txt:1: a node must have at most 1"),
        (["--test", "DULL", "--data", "CORPUS"], "dull.txt:1: column 1: expected '('"),
        (["--train", "SAME"], "the roots of the train part need at least two labels, got 1: ['1']"),
    ],
)
def test_what_trees_cannot_have_is_rejected_before_training(flags, message, tmp_path, capsys):
    (tmp_path / "dull.txt").write_text("a dull film\n", encoding="utf-8")
    same = "".join(f"(1 (0 a) (2 {n}))\n" for n in range(60))
    (tmp_path / "same.txt").write_text(same, encoding="utf-8")
    paths = {"CORPUS": corpus(tmp_path / "corpus")}
    paths |= {"DULL": tmp_path / "dull.txt", "SAME": tmp_path / "same.txt"}
    flags = [str(paths.get(flag, flag)) for flag in flags]
    with pytest.raises(SystemExit):
        cli.run(lambda: train.main(["sentiment", "--trees", *SMALL, *where(tmp_path), *flags]))
    assert message in capsys.readouterr().err


def test_the_page_of_a_model_offers_trees(published):
    (model,) = catalogue.local(published[0].parents[1], [])
    texts = [row["text"] for row in catalogue.examples(model)]
    assert texts and all(model.predict([{"text": t}], "serving_default")[0]["valid"] for t in texts)
    (response,) = model.predict([{"text": TREE}], "serving_default")
    inspection = model.inspect({"text": TREE})
    saliency = inspection.saliency
    assert saliency.contributions.source == words(TREE) and "not of trees" in inspection.notes[-1]
    np.testing.assert_allclose(saliency.values, np.log(response["probability"]), atol=1e-5)


def test_a_version_of_trees_is_not_exported_to_other_formats(published, tmp_path, capsys):
    version, _ = published
    argv = ["sentiment", "--format", "onnx", "--saved-models", str(version.parents[1])]
    with pytest.raises(SystemExit):
        cli.run(lambda: export.main([*argv, "--out", str(tmp_path / "out")]))
    assert "the network reads trees" in capsys.readouterr().err
