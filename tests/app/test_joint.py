"""Several annotations of words by one network, from CoNLL-U to served columns."""

import io
import json
import sys

import numpy as np
import pytest

import models
import tasks
from app import evaluate, predict, train
from app.serving.session import SavedModelSession
from models.text.edit_scripts import apply_script
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.shapes.sequence_labelling import annotations
from tests.conftest import signatures, where
from tests.support.fake_server import FakeServer

NAMES = ("upos", "xpos", "feats", "lemma")
FLAGS = ["--tags", ",".join(NAMES)]
UPOS, XPOS, FEATS, LEMMA = 3, 4, 5, 2  # columns
# Endings with their annotations: UPOS, XPOS, features, and the ending of the lemma.
ENDINGS = {
    "er": ("NOUN", "NN", "Number=Sing", "er"),
    "ies": ("NOUN", "NNS", "Number=Plur|Typo=Yes", "y"),
    "ish": ("ADJ", "JJ", "_", "ish"),
}


def write(folder, part, count):
    """Writes a treebank; its test part has rare cases, too."""
    rng = np.random.default_rng(len(part))
    lines = []
    for _ in range(count):
        lines.append("# a comment")
        for number in range(1, rng.integers(2, 7)):
            stem = "".join(rng.choice(list("bdgk"), 2))
            ending = str(rng.choice(list(ENDINGS)))
            upos, xpos, feats, of_lemma = ENDINGS[ending]
            lemma = stem + of_lemma
            if part == "test":
                # Features of a language, which no training has seen, in another order.
                feats = str(
                    rng.choice([feats, "Xyz=A|Number=Plur", "Number=Plur|Number[psor]=Sing"])
                )
                lemma = str(rng.choice([lemma, "_"]))
                upos = str(rng.choice([upos, upos, "VERB"]))
            parent, relation = str(number - 1), "dep" if number > 1 else "root"
            row = [str(number), stem + ending, lemma, upos, xpos, feats, parent, relation, "_", "_"]
            lines.append("\t".join(row))
        lines.append("")
    (folder / f"{part}.conllu").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def treebank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("treebank")
    for part, count in (("train", 60), ("valid", 20), ("test", 60)):
        write(folder, part, count)
    return folder


@pytest.fixture(scope="module")
def version(treebank, tmp_path_factory):
    """A version that is trained so little that it has mistakes in each column."""
    sizes = ["--units", "6", "--embedding", "6", "--characters", "0", "--layers", "1"]
    sizes += ["--cell", "rnn", "--epochs", "1", "--max-length", "4", "--learning-rate", "0.05"]
    sizes += ["--batch-tokens", "640"]
    argv = ["tagging", "--data", str(treebank), *FLAGS, *sizes]
    return train.main([*argv, *where(tmp_path_factory.mktemp("joint"))])


@pytest.fixture(scope="module")
def served(version):
    return SavedModelSession(version)


def run(version, monkeypatch, capsys, argv, text=b""):
    """Returns what `app.predict` prints."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    capsys.readouterr()
    predict.main(["tagging", *argv, "--saved-models", str(version.parent.parent)])
    return capsys.readouterr().out


def test_each_annotation_has_its_outputs_and_the_first_is_also_tags(version, served):
    texts = {"tokens", "tags", *NAMES}
    numbers = {"probability", *(f"{name}_probability" for name in NAMES)}
    outputs = {name: ("string", [-1, -1]) for name in texts}
    outputs |= {name: ("float32", [-1, -1]) for name in numbers}
    outputs["lengths"] = ("int32", [-1])
    assert signatures(version) == {
        "serving_default": ({"text": ("string", [-1])}, outputs),
        "tokens": ({"tokens": ("string", [-1, -1]), "lengths": ("int32", [-1])}, outputs),
    }
    words = ["bdies", "gker", "xxxish"] * 4  # longer than a window
    [alone] = served.predict([{"tokens": words, "lengths": 12}], "tokens")
    assert list(alone["tags"]) == list(alone["upos"])
    assert {tag.decode() for tag in alone["xpos"]} <= {"NN", "NNS", "JJ"}
    np.testing.assert_array_equal(alone["probability"], alone["upos_probability"])
    rows = [{"tokens": row, "lengths": len(row)} for row in ([], words, ["gker"])]
    empty, again, _ = served.predict(rows, "tokens")
    assert not len(empty["lemma"])
    for name in (*NAMES, "tokens"):
        assert list(again[name]) == list(alone[name])


def test_responses_are_those_of_the_network(version, served):
    task = tasks.find("tagging").restore(version / "assets")
    network, words = models.load(version), ["bdies", "gker", "bgish"]
    [response] = served.predict([{"tokens": words, "lengths": 3}], "tokens")
    logits = network({"ids": task.network_inputs(np.array(words))["ids"][None]}).numpy()[0]
    start = 0
    for name in NAMES:
        file = "tags.txt" if name == "upos" else f"tags-{name}.txt"
        tags = (version / "assets" / file).read_text(encoding="utf-8").split("\n")[:-1]
        own = logits[:, start : start + len(tags)]
        start += len(tags)
        values = [tags[index] for index in own.argmax(-1)]
        if name == "lemma":
            values = list(map(apply_script, values, words))
        assert [value.decode() for value in response[name]] == values
        shares = np.exp(own) / np.exp(own).sum(-1, keepdims=True)
        np.testing.assert_allclose(response[f"{name}_probability"], shares.max(-1), atol=1e-5)
    assert start == logits.shape[-1]


# The rules of the evaluation of the CoNLL 2018 shared task on gold tokens.
UNIVERSAL = [
    "PronType",
    "NumType",
    "Poss",
    "Reflex",
    "Foreign",
    "Abbr",
    "Gender",
    "Animacy",
    "Number",
    "Case",
    "Definite",
    "Degree",
    "VerbForm",
    "Mood",
    "Tense",
    "Aspect",
    "Voice",
    "Evident",
    "Polarity",
    "Person",
    "Polite",
]


def universal(feats):
    return sorted(f for f in feats.split("|") if f.split("=", 1)[0] in UNIVERSAL)


def official(gold, system):
    """The figures of two files of CoNLL-U with the same words."""
    pairs = [
        [line.split("\t") for line in lines]
        for lines in zip(gold.splitlines(), system.splitlines(), strict=True)
        if lines[0] and not lines[0].startswith("#")
    ]
    assert all(g[1] == s[1] for g, s in pairs)
    keys = {
        "upos_accuracy": lambda row, g: row[UPOS],
        "xpos_accuracy": lambda row, g: row[XPOS],
        "ufeats_accuracy": lambda row, g: universal(row[FEATS]),
        "lemma_accuracy": lambda row, g: row[LEMMA] if g[LEMMA] != "_" else "_",
        "alltags_accuracy": lambda row, g: (row[UPOS], row[XPOS], universal(row[FEATS])),
        "accuracy": lambda row, g: (
            row[UPOS],
            row[XPOS],
            universal(row[FEATS]),
            row[LEMMA] if g[LEMMA] != "_" else "_",
        ),
    }
    return {name: np.mean([key(g, g) == key(s, g) for g, s in pairs]) for name, key in keys.items()}


def test_scores_are_those_of_the_official_evaluation(
    version, loaded, treebank, monkeypatch, capsys
):
    gold = (treebank / "test.conllu").read_text(encoding="utf-8")
    flags = ["--input", "conllu", "--format", "conllu"]
    system = run(version, monkeypatch, capsys, flags, gold.encode())
    where_from = ["--data", str(treebank), "--saved-models", str(version.parent.parent)]
    scores = evaluate.main(["tagging", *where_from, *FLAGS])
    output = capsys.readouterr().out
    wanted = official(gold, system.rstrip("\n") + "\n\n")
    assert {name: scores[name] for name in wanted} == pytest.approx(wanted)
    assert next(iter(scores)) == "upos_accuracy"
    assert all(score < 1 for score in wanted.values())
    assert wanted["ufeats_accuracy"] > 0
    exact = [
        a.split("\t")[FEATS] == b.split("\t")[FEATS]
        for a, b in zip(gold.splitlines(), system.splitlines(), strict=False)
        if "\t" in a
    ]
    assert np.mean(exact) < wanted["ufeats_accuracy"]
    for text in ("majority baseline", "Tags of upos", "Most frequent confusions of lemma"):
        assert text in output
    assert "Expected calibration error of each annotation" in output
    record = json.loads((version / "assets.extra/run.json").read_text(encoding="utf-8"))
    assert record["scores"] == pytest.approx(scores)
    assert record["config"]["monitor"] == "accuracy"
    history = (version / "assets.extra/history.csv").read_text(encoding="utf-8")
    assert all(f"val_{name}_accuracy" in history for name in NAMES)


def test_predict_prints_all_columns_or_those_that_are_named(version, loaded, monkeypatch, capsys):
    line = run(version, monkeypatch, capsys, ["--input", "tokens"], b"bdies gker\n").strip()
    assert [len(word.split("/")) for word in line.split(" ")] == [5, 5]
    flags = ["--input", "tokens", "--format", "conllu"]
    rows = run(version, monkeypatch, capsys, flags, b"bdies\n").splitlines()[1].split("\t")
    assert "/".join([rows[1], rows[LEMMA], rows[UPOS], rows[XPOS], rows[FEATS]]) in line
    columns = run(version, monkeypatch, capsys, [*flags[:3], "conll", "--tags", "xpos"], b"bdies")
    assert columns.split() == ["bdies", rows[XPOS]]
    response = json.loads(run(version, monkeypatch, capsys, ["--json", "bdies"]))
    assert response["lemma"] == [rows[LEMMA]]
    with pytest.raises(UserError, match=r"this version has \['lemma', 'upos', 'xpos', 'feats'\]"):
        run(version, monkeypatch, capsys, ["--tags", "upos,deprel", "bdies"])


def test_a_server_gives_the_columns_of_a_local_version(version, monkeypatch, capsys):
    flags = ["--input", "tokens", "--format", "conllu"]
    text = b"bdies gker xxxish\nbgish\n"
    expected = run(version, monkeypatch, capsys, flags, text)
    assert len(expected.split("\n\n")) > 2
    with FakeServer(version.parent.parent, ["tagging"]) as server:
        for url in (server.rest, server.grpc):
            assert run(version, monkeypatch, capsys, [*flags, "--server", url], text) == expected


def test_examples_with_other_annotations_are_not_evaluated(version, loaded, treebank):
    argv = ["tagging", "--data", str(treebank), "--saved-models", str(version.parent.parent)]
    with pytest.raises(UserError, match=r"annotations of the version \(--tags upos,xpos,feats,le"):
        evaluate.main(argv)


def test_a_version_cannot_be_continued(version, treebank, tmp_path):
    argv = ["tagging", "--data", str(treebank), *FLAGS, "--from", str(version), *where(tmp_path)]
    with pytest.raises(UserError, match="--from cannot be combined with several annotations"):
        train.main(argv)


def test_an_inspection_is_that_of_the_first_annotation(version, served):
    task = tasks.find("tagging").restore(version / "assets")
    inspector = task.Inspector(task, models.load(version), served)
    inspection = inspector.inspect({"text": b"bdies gker"})
    assert np.shape(inspection.saliency.contributions.weights) == (2, 2)
    assert inspection.notes == ["The saliency is that of upos, not of xpos, feats, lemma."]
    assert "bdies/" in inspection.response


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crf": True}, "--crf cannot be combined with several annotations"),
        ({"direction": "forward"}, "--direction forward cannot"),
        ({"scheme": "BIO"}, "--scheme BIO cannot"),
        ({"class_weights": "balanced"}, "--class-weights balanced cannot"),
        ({"ensemble": 2}, r"--ensemble 2 cannot .*\(--tags upos,lemma\)"),
        ({"monitor": "macro_f1"}, "--monitor must be one of"),
        ({"monitor": "feats_accuracy"}, r"'upos_accuracy', 'lemma_accuracy'\].*'feats_accuracy'"),
    ],
)
def test_what_needs_one_annotation_is_rejected_before_training(settings, message):
    config = tasks.declaration("tagging").Config(**settings)
    with pytest.raises(UserError, match=message):
        annotations.check(config, ("upos", "lemma"))


def test_the_score_of_an_annotation_needs_several():
    config = tasks.declaration("tagging").Config(monitor="lemma_accuracy")
    with pytest.raises(UserError, match="lemma_accuracy needs several annotations"):
        annotations.check(config, ("tags",))
    annotations.check(config, ("upos", "lemma"))


@pytest.mark.parametrize("tags", ["upos,upos", "upos,", "upos,pos"])
def test_names_of_annotations_are_checked(tags):
    with pytest.raises(UserError, match="--tags must be one of"):
        tasks.declaration("tagging").Corpus(tags=tags)


def test_annotations_are_read_from_conllu(treebank):
    corpus = tasks.declaration("tagging").Corpus(data=str(treebank), tags="lemma,upos")
    example = next(iter(corpus.open().train))
    assert isinstance(example, Example)
    assert list(example.values) == ["tokens", "tags", "lemma", "upos"]
    assert example.values["tags"] == example.values["lemma"]
    assert set(example.values["upos"]) <= {"NOUN", "ADJ"}
    with pytest.raises(UserError, match="several annotations are read from CoNLL-U only"):
        tasks.declaration("tagging").Corpus(data="tfds:x", tags="lemma,upos").open()
