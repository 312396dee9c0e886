"""Labels and numbers through every command, with scores of scikit-learn and scipy."""

import json
import types

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

import models
from app import evaluate, inspect_data, look, predict, train
from app.serving import comparison, compatibility, deployment_checks, warmup
from app.serving.session import SavedModelSession
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.shapes.classification.targets import labels_evaluation
from tests.conftest import SMALL, signatures, where
from tests.support.fake_server import FakeServer

COMPLAINTS = {"billing": "invoice", "bug": "crash", "delivery": "parcel"}
FILLING = ["hello", "dear", "team", "my", "order", "of", "monday", "was", "late", "regards"]
PARTS = {"train": 160, "valid": 50, "test": 60}
STARS = {1: "awful", 2: "poor", 3: "plain", 4: "good", 5: "superb"}
FAST = [*SMALL, "--epochs", "2", "--learning-rate", "0.02", "--linear-path", "256"]


def mails(rng, count):
    """Rows of a text and its labels."""
    for _ in range(count):
        labels = sorted(rng.choice([*COMPLAINTS], rng.choice(4, p=[0.15, 0.4, 0.3, 0.15]), False))
        words = [*rng.choice(FILLING, 4), *(COMPLAINTS[label] for label in labels)]
        yield " ".join(rng.permutation(words)), "|".join(labels)


def reviews(rng, count):
    """Rows of a text and a number of stars with half stars."""
    for _ in range(count):
        stars = rng.integers(1, 6, 2)
        words = [*rng.choice(FILLING, 3), *(STARS[star] for star in stars)]
        yield " ".join(rng.permutation(words)), stars.mean()


def corpus(folder, rows):
    """Writes a corpus; returns the rows of its test part."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for part, count in PARTS.items():
        of_part = list(rows(rng, count))
        lines = [f"{text},{label}\n" for text, label in of_part]
        (folder / f"{part}.csv").write_text("text,label\n" + "".join(lines), encoding="utf-8")
    return of_part


def published(folder, rows, *flags):
    """Trains; returns the version, the test part, what was printed, and the record."""
    test = corpus(folder / "corpus", rows)
    argv = ["sentiment", "--data", str(folder / "corpus"), *FAST, *where(folder), *flags]
    version = train.main(argv)
    return version, test, json.loads((version / "assets.extra" / "run.json").read_text())


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return published(tmp_path_factory.mktemp("labels"), mails)


@pytest.fixture(scope="module")
def number(tmp_path_factory):
    return published(tmp_path_factory.mktemp("number"), reviews, "--target", "number")


def responses(version, test):
    return SavedModelSession(version).predict_columns({"text": [text for text, _ in test]})


def serve(version):
    return FakeServer(version.parents[1], warm_up=True)


def predicted(argv, capsys):
    capsys.readouterr()
    predict.main(["sentiment", *argv])
    return capsys.readouterr().out


def test_a_version_of_labels_has_their_signature_and_can_be_served(labels):
    version, _, record = labels
    assert signatures(version)["serving_default"] == (
        {"text": ("string", [-1])},
        {
            "label": ("string", [-1]),
            "chosen": ("bool", [-1, 3]),
            "probabilities": ("float32", [-1, 3]),
            "labels": ("string", [-1, 3]),
        },
    )
    compatibility.check(version)
    assert warmup.replay(version) > 0
    assert record["config"]["target"] == "labels"
    assert any(note.startswith("--target labels: ") for note in record["data"]["notes"])
    ((_, errors),) = deployment_checks.versions(version.parents[1], {"sentiment": [1]})
    assert errors == []


def test_scores_of_served_labels_are_those_of_scikit_learn(labels):
    version, test, record = labels
    outputs = responses(version, test)
    names = [name.decode() for name in outputs["labels"][0]]
    references = np.array([[name in label.split("|") for name in names] for _, label in test])
    chosen = outputs["chosen"]
    expected = {
        "micro_f1": sklearn.metrics.f1_score(references, chosen, average="micro"),
        "macro_f1": sklearn.metrics.f1_score(references, chosen, average="macro"),
        "subset_accuracy": sklearn.metrics.accuracy_score(references, chosen),
    }
    assert record["scores"] == pytest.approx(expected)
    assert record["scores"]["micro_f1"] > 0.9
    for name, (low, high) in record["intervals"].items():
        assert low <= record["scores"][name] <= high
    fitted = record["fitted_on_valid"]
    thresholds = np.array([fitted[f"threshold of {name}"] for name in names], np.float32)
    np.testing.assert_array_equal(chosen, outputs["probabilities"] >= thresholds)
    joined = ["|".join(np.array(names)[row]) for row in chosen]
    assert [label.decode() for label in outputs["label"]] == joined
    assert "" in joined and "billing|bug|delivery" in joined
    most = record["baselines"].pop("most frequent label")
    constant = np.zeros_like(references)
    constant[:, names.index(record["data"]["majority"])] = True
    assert most["micro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(references, constant, average="micro")
    )
    assert record["baselines"].keys() == {"naive Bayes", "logistic regression"}
    assert record["baselines"]["logistic regression"]["micro_f1"] > 0.95


def test_labels_are_predicted_alike_here_and_on_a_server(labels, tmp_path, capsys):
    version, _, _ = labels
    texts = ["the parcel and my invoice", "hello team"]
    argv = [*texts, "--saved-models", str(version.parents[1])]
    first, second = predicted(argv, capsys).splitlines()
    assert first.startswith("billing|delivery\t") and first.endswith("\tthe parcel and my invoice")
    assert second.startswith("(no label)\t")
    rows = [json.loads(line) for line in predicted([*argv, "--json"], capsys).splitlines()]
    assert rows[0]["label"] == "billing|delivery" and rows[0]["chosen"] == ["billing", "delivery"]
    assert rows[0]["probabilities"].keys() == COMPLAINTS.keys()
    assert (rows[1]["label"], rows[1]["chosen"]) == ("", [])
    with serve(version) as server:
        for address in (server.rest, server.grpc):
            served = predicted([*texts, "--json", "--server", address], capsys).splitlines()
            for row, own in zip(map(json.loads, served), rows, strict=True):
                assert (row["label"], row["chosen"]) == (own["label"], own["chosen"])
                assert row["probabilities"] == pytest.approx(own["probabilities"], abs=1e-5)
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("\n".join(texts), encoding="utf-8")
    files = ["--from", str(source), "--to", str(output), *argv[2:]]
    predict.main(["sentiment", *files])
    assert output.read_text(encoding="utf-8").splitlines() == [first, second]


def test_labels_are_evaluated_and_inspected(labels, tmp_path, capsys):
    version, _, record = labels
    models_flag = ["--saved-models", str(version.parents[1])]
    folder = version.parents[2] / "corpus"
    scores = evaluate.main(["sentiment", *models_flag, "--data", str(folder)])
    assert scores == pytest.approx(record["scores"])
    printed = capsys.readouterr().out
    assert "most frequent label baseline" in printed and "expected calibration error" in printed
    page = (version / "assets.extra" / "report.html").read_text(encoding="utf-8")
    assert ">threshold</th>" in page and "The worst mistakes" in page
    look.main(["sentiment", "my invoice", *models_flag, "--out", str(tmp_path / "look")])
    assert "most probable: billing" in capsys.readouterr().out
    out = inspect_data.main(["sentiment", "--data", str(folder), "--out", str(tmp_path / "page")])
    assert "--target labels: " in capsys.readouterr().out
    assert "delivery" in (out / "index.html").read_text(encoding="utf-8")


def test_a_network_of_labels_is_loaded_for_reuse(labels):
    version, _, _ = labels
    model = models.load(version)
    thresholds = model.get_layer("thresholds").threshold.numpy()
    assert thresholds.shape == (3,) and ((thresholds > 0) & (thresholds < 1)).all()
    assert model.output_shape == (None, 3)


def test_scores_of_served_numbers_are_those_of_scikit_learn(number):
    version, test, record = number
    values, references = responses(version, test)["value"], np.array([v for _, v in test])
    expected = {
        "mean_absolute_error": sklearn.metrics.mean_absolute_error(references, values),
        "r2": sklearn.metrics.r2_score(references, values),
        "spearman": scipy.stats.spearmanr(references, values).statistic,
    }
    assert record["scores"] == pytest.approx(expected)
    assert record["scores"]["r2"] > 0.8
    for name, (low, high) in record["intervals"].items():
        assert low < record["scores"][name] < high
    assert record["config"]["monitor"] == "mean_absolute_error"
    assert record["config"]["evidence"] == 0
    assert "chosen for --target number: " in " ".join(record["data"]["notes"])
    error = [row["val_mean_absolute_error"] for row in history(version)]
    assert record["best_epoch"] == 1 + int(np.argmin(error))
    assert record["baselines"]["median"]["mean_absolute_error"] > 0.5
    assert record["baselines"]["ridge regression"]["r2"] > 0.8


def history(version):
    lines = (version / "assets.extra" / "history.csv").read_text().splitlines()
    names = lines[0].split(",")
    return [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]


def test_numbers_are_served_in_their_unit_and_range(number, tmp_path, capsys):
    version, _, record = number
    assert signatures(version)["serving_default"] == (
        {"text": ("string", [-1])},
        {"value": ("float32", [-1])},
    )
    compatibility.check(version)
    assert warmup.replay(version) > 0
    texts = ["superb superb", "awful awful", "", "superb " * 40]
    argv = [*texts, "--saved-models", str(version.parents[1]), "--json"]
    rows = [json.loads(line) for line in predicted(argv, capsys).splitlines()]
    best, worst, empty, extreme = (row["value"] for row in rows)
    assert 1 <= worst < 2.2 < empty < 4 and 3.8 < best <= extreme <= 5
    assert predicted(argv[:-1], capsys).splitlines()[1] == f"{worst:.4g}\tawful awful"
    with serve(version) as server:
        served = predicted([*texts, "--json", "--server", server.rest], capsys).splitlines()
    assert [json.loads(line)["value"] for line in served] == pytest.approx(
        [row["value"] for row in rows], abs=1e-5
    )
    models_flag = ["--saved-models", str(version.parents[1])]
    data = ["--data", str(version.parents[2] / "corpus")]
    scores = evaluate.main(["sentiment", *models_flag, *data])
    assert scores == pytest.approx(record["scores"])
    look.main(["sentiment", "a superb order", *models_flag, "--out", str(tmp_path / "look")])
    assert float(capsys.readouterr().out.splitlines()[-2]) > 3
    page = ["sentiment", *data, "--target", "number", "--out", str(tmp_path / "page")]
    assert "Numbers" in (inspect_data.main(page) / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["labels", "number"])
def test_a_version_is_continued_and_compared(name, request, tmp_path):
    version, test, _ = request.getfixturevalue(name)
    data = ["--data", str(version.parents[2] / "corpus"), "--from", str(version)]
    with pytest.raises(UserError, match="--target must be"):
        train.main(["sentiment", *data, "--target", "classes", *where(tmp_path)])
    later = train.main(["sentiment", *data, "--epochs", "2", *where(tmp_path)])
    record = json.loads((later / "assets.extra" / "run.json").read_text(encoding="utf-8"))
    compared = record["comparison"]
    outputs = [responses(each, test) for each in (version, later)]
    if name == "number":
        expected = np.array([float(value) for _, value in test])
        errors = [np.abs(columns["value"] - expected).mean() for columns in outputs]
        assert compared["scores"]["mean_absolute_error"] == pytest.approx(errors, rel=1e-4)
        assert compared["p_value"] is None and (compared["gained"], compared["lost"]) == (0, 0)
        assert 0 < compared["p_values"]["mean_absolute_error"] <= 1
        return
    expected = [text.encode() for _, text in test]
    first, second = (columns["label"] == expected for columns in outputs)
    assert compared["gained"] == np.sum(~first & second)
    assert compared["lost"] == np.sum(first & ~second)
    assert first.any() and compared["p_value"] is not None


def test_versions_of_different_targets_are_not_compared(labels, number):
    with pytest.raises(UserError, match="predict different targets"):
        comparison.compare("sentiment", labels[0], number[0], None)


@pytest.mark.parametrize(
    ("reference", "chosen", "is_right"),
    [
        (("a", "c"), [True, False, True], True),
        ((), [False, False, False], True),
        (("a",), [True, False, True], False),
        (("a", "b"), [True, False, False], False),
    ],
)
def test_several_labels_are_right_if_all_are(reference, chosen, is_right):
    task = types.SimpleNamespace(labels=types.SimpleNamespace(words=["a", "b", "c"]))
    example = Example({"text": "", "label": reference}, "")
    outcomes = labels_evaluation.Evaluator(task).outcomes(example, {"chosen": np.array(chosen)})
    assert outcomes == (is_right,)
