"""Tagging from a corpus to what is served: signatures, judging, asking."""

import collections
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import models
import tasks
from app import cli, evaluate, predict, train
from app.serving import export
from app.serving.session import SavedModelSession
from app.training import run_state
from models.cells.specs import CELLS
from tests.conftest import signatures, where

ROOT = Path(__file__).parents[2]
SMALL = ["--units", "12", "--embedding", "12", "--characters", "8", "--character-embedding", "8"]
WORDS = ["The", "old", "man", "the", "boats", ",", "and", "the", "boats", "sank"]
PLAIN = ["--characters", "0", "--layers", "1"]  # makes a model sooner
PARTS = ("train", "valid", "test")
SENTENCES = [
    WORDS,
    [],
    ["好看", "的", "电影", "！"],
    ["un mot", "avec", "des", "blancs"],
    ["", "x" * 500, "\u0301", "🙂"],
    ["boats"],
    WORDS * 30,
]


def sentences(folder, part="train", count=60):
    """A treebank in which the ending of a word tells its tag, and so does its place."""
    random = np.random.default_rng(PARTS.index(part))
    lines = []
    for _ in range(count):
        for at in range(random.integers(1, 7)):
            stem = "".join(random.choice(list("bdgklmnprst"), 3))
            noun = bool(random.integers(2))
            word, tag = (f"{stem}er", "NOUN") if noun else (f"{stem}ish", "ADJ")
            lines.append("\t".join([str(at + 1), word, "_", tag, "_", *"_____"]))
        lines.append("")
    (folder / f"{part}.conllu").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def treebank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("treebank")
    for part in PARTS:
        sentences(folder, part)
    return folder


def trained(treebank, folder, *more):
    argv = ["tagging", "--data", str(treebank), *SMALL, "--epochs", "8", "--learning-rate", "0.02"]
    return train.main([*argv, *where(folder), *more])


@pytest.fixture(scope="module", params=["softmax", "crf"])
def version(request, treebank, tmp_path_factory):
    """A version of either kind; windows are narrow, so that much is read in several."""
    more = ["--crf"] if request.param == "crf" else []
    folder = tmp_path_factory.mktemp(request.param)
    return trained(treebank, folder, "--max-length", "12", "--max-word-length", "9", *more)


@pytest.fixture(scope="module")
def served(version):
    return SavedModelSession(version)


def rows_of(some):
    return [{"tokens": tokens, "lengths": len(tokens)} for tokens in some]


def assert_same(one, other):
    assert list(one["tokens"]) == list(other["tokens"])
    assert list(one["tags"]) == list(other["tags"])
    np.testing.assert_allclose(one["probability"], other["probability"], atol=1e-5)


def test_the_signatures_are_what_clients_were_promised(version):
    told = signatures(version)
    given = {
        "tokens": ("string", [-1, -1]),
        "tags": ("string", [-1, -1]),
        "probability": ("float32", [-1, -1]),
        "lengths": ("int32", [-1]),
    }
    assert told == {
        "serving_default": ({"text": ("string", [-1])}, given),
        "tokens": ({"tokens": ("string", [-1, -1]), "lengths": ("int32", [-1])}, given),
    }


def test_it_learns_what_endings_tell(version):
    scores = json.loads((version / "assets.extra/run.json").read_text())["scores"]
    assert list(scores) == ["accuracy", "unseen_accuracy", "sentence_accuracy"]
    assert scores["unseen_accuracy"] > 0.9  # of words met nowhere else


def test_every_token_has_a_tag_that_does_not_depend_on_its_neighbours(served, version):
    tags = set((version / "assets/tags.txt").read_text().splitlines())
    together = served.predict(rows_of(SENTENCES), "tokens")
    for tokens, answer in zip(SENTENCES, together, strict=True):
        assert [token.decode() for token in answer["tokens"]] == tokens
        assert answer["lengths"] == len(tokens) == len(answer["tags"])
        assert {tag.decode() for tag in answer["tags"]} <= tags
        assert ((answer["probability"] > 0.2) & (answer["probability"] <= 1.0001)).all()
        [alone] = served.predict(rows_of([tokens]), "tokens")
        assert_same(alone, answer)


def test_what_stands_beyond_lengths_is_ignored_whatever_it_is(served):
    tokens = [["boats", "sank", b"\xff", "junk"], ["man", "", "ader", "x"]]
    given = served.predict_columns({"tokens": tokens, "lengths": [2, 1]}, "tokens")
    other = [["boats", "sank"], ["man", "kesish"]]
    want = served.predict_columns({"tokens": other, "lengths": [2, 1]}, "tokens")
    for name, value in want.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(given[name], value, atol=1e-5)
        else:
            np.testing.assert_array_equal(given[name], value)
    assert given["tokens"].tolist() == [[b"boats", b"sank"], [b"man", b""]]
    assert given["tags"][1, 1] == b"" and given["probability"][1, 1] == 0


@pytest.mark.parametrize(("lengths", "want"), [([9, -4], [3, 0]), ([2**31 - 1, -(2**31)], [3, 0])])
def test_lengths_are_held_to_what_there_is(served, lengths, want):
    given = served.predict_columns({"tokens": [["a", "b", "c"]] * 2, "lengths": lengths}, "tokens")
    assert given["lengths"].tolist() == want
    assert (given["tags"][0] != b"").all() and (given["tags"][1] == b"").all()


def test_nothing_has_an_answer_of_nothing(served):
    for signature, request in (
        ("serving_default", {"text": []}),
        ("tokens", {"tokens": [], "lengths": []}),
    ):
        answer = served.predict_columns(request, signature)
        assert {name: value.shape for name, value in answer.items()} == {
            "tokens": (0, 0),
            "tags": (0, 0),
            "probability": (0, 0),
            "lengths": (0,),
        }
    for text in ("", " \t\u00a0 "):
        answer = served.predict_columns({"text": [text]})
        assert answer["lengths"].tolist() == [0] and answer["tags"].shape == (1, 0)


def test_text_is_cut_into_the_tokens_that_are_tagged(served):
    texts = ["The old man's boats sank.", "", b"\xff don't", "好看"]
    tokens = [["The", "old", "man", "'s", "boats", "sank", "."], [], ["\ufffd", "do", "n't"]]
    tokens.append(["好", "看"])
    want = served.predict(rows_of(tokens), "tokens")
    for one, other in zip(served.predict([{"text": t} for t in texts]), want, strict=True):
        assert_same(one, other)


def test_a_sentence_of_thousands_of_words_has_a_tag_for_each(served):
    tokens = WORDS * 500
    [answer] = served.predict(rows_of([tokens]), "tokens")
    assert len(answer["tags"]) == 5000 and (answer["tags"] != b"").all()
    # The windows differ in nothing but where they begin: far from the ends tags repeat.
    period = np.lcm(len(WORDS), 12 - 2 * (12 // 8))
    assert (answer["tags"][100:4000] == answer["tags"][100 + period : 4000 + period]).all()


def test_it_answers_as_the_keras_model_does(served, version):
    task = tasks.find("tagging").restore(version / "assets")
    model = models.load(version)
    tokens = ["kader", "lotish", "man", "x"]
    x = {name: value[None] for name, value in task._inputs(tf.constant(tokens)).items()}
    logits = model(x)
    [given] = served.predict(rows_of([tokens]), "tokens")
    classes = (version / "assets/tags.txt").read_text().splitlines()
    if task.config.crf:
        crf = model.get_layer("crf")
        want, shares = crf.decode(logits)[0][0].numpy(), crf.marginals(logits)[0].numpy()
    else:
        want, shares = np.argmax(logits[0], -1), tf.nn.softmax(logits[0]).numpy()
    assert [tag.decode() for tag in given["tags"]] == [classes[at] for at in want]
    np.testing.assert_allclose(given["probability"], shares[range(4), want], atol=1e-5)


def test_the_scores_are_what_plain_counting_finds(
    treebank, tmp_path, version, served, loaded, capsys
):
    with (treebank / "test.conllu").open(encoding="utf-8") as file:
        words = [line.rstrip("\n").split("\t") for line in file]
    wanted, sentence = [], []
    for row in words:
        if len(row) > 1:
            sentence.append((row[1], row[3]))
        elif sentence:
            wanted.append(sentence)
            sentence = []
    train_words = {
        line.split("\t")[1] for line in (treebank / "train.conllu").read_text().splitlines() if line
    }
    wanted[0][0] = (wanted[0][0][0], "VERB")  # a tag that train does not have
    wanted[1] = [("boats", "NOUN")] * 20  # longer than a window
    own = tmp_path / "own.jsonl"
    lines = ({"tokens": [w for w, _ in s], "tags": [t for _, t in s]} for s in wanted)
    own.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    saved_models = str(version.parent.parent)
    scores = evaluate.main(["tagging", "--saved-models", saved_models, "--test", str(own)])
    said = capsys.readouterr().out

    answers = served.predict(rows_of([[w for w, _ in s] for s in wanted]), "tokens")
    right = collections.Counter()
    for s, answer in zip(wanted, answers, strict=True):
        hits = [t == g.decode() for (_, t), g in zip(s, answer["tags"], strict=True)]
        right["words"] += len(hits)
        right["right"] += sum(hits)
        right["whole"] += all(hits)
        unseen = [hit for hit, (w, _) in zip(hits, s, strict=True) if w not in train_words]
        right["unseen"] += len(unseen)
        right["unseen right"] += sum(unseen)
    assert scores == pytest.approx(
        {
            "accuracy": right["right"] / right["words"],
            "unseen_accuracy": right["unseen right"] / right["unseen"],
            "sentence_accuracy": right["whole"] / len(wanted),
        }
    )
    assert scores["sentence_accuracy"] < 1
    for told in (f"{len(wanted)} examples", "VERB", "precision", "most often confused", "given"):
        assert told in said


def test_the_report_shows_confusion_and_mistakes_in_their_sentences(version):
    page = (version / "assets.extra/report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    for part in ("Wanted and given tags", "The commonest mistakes", "in windows of as many"):
        assert part in page


def test_a_cell_of_each_equation_passes_the_gate_untrained(tmp_path, treebank):
    cls = tasks.find("tagging")
    train_part = cls.Corpus(data=str(treebank)).open().train
    for cell in {CELLS[name].equation: name for name in CELLS}.values():
        folder = tmp_path / cell
        folder.mkdir()
        config = cls.Config(
            cell=cell, units=4, layers=1, characters=3, affixes=0, embedding=4, longest_word=9
        )
        task = cls.learn(config, train_part, folder)
        draft = export.draft(task, task.build("reuse"), folder / "draft")
        [answer] = SavedModelSession(draft).predict(rows_of([WORDS]), "tokens")
        assert len(answer["tags"]) == len(WORDS)


@pytest.fixture
def asked(version, loaded, monkeypatch, capsys):
    """What `app.predict` prints when it reads some bytes."""

    def ask(argv, lines):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
        capsys.readouterr()
        predict.main(["tagging", *argv, "--saved-models", str(version.parent.parent)])
        return capsys.readouterr().out

    return ask


def test_predict_answers_text_tokens_and_conllu(asked, treebank):
    said = asked([], b"The man's boats.\n\nboats\n").splitlines()
    assert [[pair.rsplit("/", 1)[0] for pair in line.split()] for line in said] == [
        ["The", "man", "'s", "boats", "."],
        [],
        ["boats"],
    ]
    said = asked(["--input", "tokens"], b"man's boats.\n")
    assert [pair.rsplit("/", 1)[0] for pair in said.split()] == ["man's", "boats."]
    source = b"# a comment\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n" + (
        treebank / "test.conllu"
    ).read_bytes().replace(b"NOUN", b"X")
    said = asked(["--input", "conllu", "--format", "conllu"], source)
    assert len(said.splitlines()) == len(source.splitlines())
    for line, before in zip(said.splitlines(), source.decode().splitlines(), strict=True):
        one, other = line.split("\t"), before.split("\t")
        if len(one) > 3 and one[0].isdecimal():
            assert one[3] in ("NOUN", "ADJ")
            one[3] = other[3]
        assert one == other
    rows = asked(["--json"], b"boats sank\n")
    assert json.loads(rows)["tokens"] == ["boats", "sank"]


def test_predict_names_the_line_that_is_no_conllu(version, loaded, capsys):
    argv = ["tagging", "--input", "conllu", "1\tword", "--saved-models", str(version.parent.parent)]
    with pytest.raises(SystemExit):
        cli.run(lambda: predict.main(argv))
    assert "line 1: expected the 10 columns of CoNLL-U" in capsys.readouterr().err


def test_a_treebank_without_the_column_is_told(treebank, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.run(lambda: trained(treebank, tmp_path, "--tags", "xpos"))
    assert "the column xpos is _ throughout; --tags can be one of ['upos']" in (
        capsys.readouterr().err
    )


def test_a_script_without_blanks_is_learnt_from_gold_tokens(tmp_path):
    for part, count in (("train", 30), ("valid", 6), ("test", 6)):
        lines = ["我/PRON 看/VERB 电影/NOUN 。/PUNCT", "电影/NOUN 好/ADJ 。/PUNCT"] * count
        (tmp_path / f"{part}.txt").write_text("\n".join(lines), encoding="utf-8")
    version = trained(tmp_path, tmp_path / "out", "--max-word-length", "4", "--layers", "1")
    assert json.loads((version / "assets.extra/run.json").read_text())["scores"]["accuracy"] == 1
    [answer] = SavedModelSession(version).predict(rows_of([["我", "看", "电影", "。"]]), "tokens")
    assert [tag.decode() for tag in answer["tags"]] == ["PRON", "VERB", "NOUN", "PUNCT"]


def test_words_alone_as_they_are_written_will_do(treebank, tmp_path):
    version = trained(treebank, tmp_path, *PLAIN, "--no-fold-case", "--epochs", "1")
    assert set(models.load(version).input) == {"ids"}
    [answer] = SavedModelSession(version).predict(rows_of([WORDS]), "tokens")
    assert len(answer["tags"]) == len(WORDS)


def test_one_tag_is_nothing_to_learn(tmp_path, capsys):
    (tmp_path / "own.txt").write_text("a/X b/X\nc/X d/X\n" * 20)
    with pytest.raises(SystemExit):
        cli.run(lambda: trained(tmp_path / "own.txt", tmp_path))
    assert "needs at least two tags, got 1: ['X']" in capsys.readouterr().err


def test_the_mean_of_weights_is_judged_and_kept_through_an_interruption(
    treebank, tmp_path, monkeypatch
):
    more = ["--ema-momentum", "0.9", "--patience", "9", "--epochs", "4", *PLAIN]
    straight = trained(treebank, tmp_path / "straight", *more)
    save = run_state.Run.save

    def save_and_die(self, progress, groups):
        save(self, progress, groups)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_state.Run, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            trained(treebank, tmp_path / "more", *more)
    resumed = trained(treebank, tmp_path / "more", *more)
    record = json.loads((straight / "assets.extra/run.json").read_text())
    assert record["best_epoch"] > 2  # what is kept has been through it
    plain = trained(treebank, tmp_path / "plain", *more, "--ema-momentum", "0")
    weights = [models.load(each).get_weights() for each in (straight, resumed, plain)]
    for one, other in zip(*weights[:2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(weights[0], weights[2], strict=True))


def test_the_epoch_with_the_best_accuracy_is_kept(treebank, tmp_path):
    version = trained(treebank, tmp_path, "--patience", "9", "--learning-rate", "0.002", *PLAIN)
    lines = (version / "assets.extra/history.csv").read_text().splitlines()
    column = lines[0].split(",").index("val_accuracy")
    accuracies = [float(line.split(",")[column]) for line in lines[1:]]
    record = json.loads((version / "assets.extra/run.json").read_text())
    assert record["best_epoch"] == int(np.argmax(accuracies)) + 1
    scores = evaluate.main(
        [
            "tagging",
            "--data",
            str(treebank),
            "--part",
            "valid",
            "--saved-models",
            str(tmp_path / "saved_models"),
        ]
    )
    assert scores["accuracy"] == pytest.approx(max(accuracies), abs=1e-5)
