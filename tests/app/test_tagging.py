"""Tagging from a corpus to a served version: signatures, evaluation, prediction."""

import collections
import io
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import models
import tasks
from app import cli, evaluate, predict, train
from app.serving import export
from app.serving.session import SavedModelSession
from app.training import run_state
from tests.conftest import signatures, where
from tests.support import untrained
from tests.support.cells import PLAIN as PLAIN_CELLS
from tests.support.cells import slow_except
from tests.support.fitted import fitted

ROOT = Path(__file__).parents[2]
SMALL = ["--units", "12", "--embedding", "12", "--characters", "8", "--character-embedding", "8"]
WORDS = ["The", "old", "man", "the", "boats", ",", "and", "the", "boats", "sank"]
PLAIN = ["--characters", "0", "--layers", "1"]  # trains faster
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
    """Writes a treebank in which the ending of a word determines its tag."""
    random = np.random.default_rng(PARTS.index(part))
    lines = []
    for _ in range(count):
        for index in range(random.integers(1, 7)):
            stem = "".join(random.choice(list("bdgklmnprst"), 3))
            noun = bool(random.integers(2))
            word, tag = (f"{stem}er", "NOUN") if noun else (f"{stem}ish", "ADJ")
            lines.append("\t".join([str(index + 1), word, "_", tag, "_", *"_____"]))
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


@pytest.fixture(scope="module", params=slow_except(["crf"], ["softmax", "crf"]))
def version(request, treebank, tmp_path_factory):
    """A version with either output; windows are narrow, so that many sentences take several."""
    more = ["--crf"] if request.param == "crf" else []
    folder = tmp_path_factory.mktemp(request.param)
    narrow = ["--layers", "1", "--max-length", "12", "--max-word-length", "9"]
    return trained(treebank, folder, *narrow, *more)


@pytest.fixture(scope="module")
def served(version):
    return SavedModelSession(version)


def rows_of(sentences):
    return [{"tokens": tokens, "lengths": len(tokens)} for tokens in sentences]


def assert_same(one, other):
    assert list(one["tokens"]) == list(other["tokens"])
    assert list(one["tags"]) == list(other["tags"])
    np.testing.assert_allclose(one["probability"], other["probability"], atol=1e-5)


def test_the_signatures_are_the_promised_ones(version):
    types = signatures(version)
    outputs = {
        "tokens": ("string", [-1, -1]),
        "tags": ("string", [-1, -1]),
        "probability": ("float32", [-1, -1]),
        "lengths": ("int32", [-1]),
    }
    assert types == {
        "serving_default": ({"text": ("string", [-1])}, outputs),
        "tokens": ({"tokens": ("string", [-1, -1]), "lengths": ("int32", [-1])}, outputs),
    }


def test_it_learns_the_endings(version):
    scores = json.loads((version / "assets.extra/run.json").read_text())["scores"]
    assert list(scores) == ["accuracy", "unseen_accuracy", "sentence_accuracy"]
    assert scores["unseen_accuracy"] > 0.9  # of words that are not in the training part


def test_a_tag_does_not_depend_on_the_other_rows(served, version):
    tags = set((version / "assets/tags.txt").read_text().splitlines())
    together = served.predict(rows_of(SENTENCES), "tokens")
    for tokens, response in zip(SENTENCES, together, strict=True):
        assert [token.decode() for token in response["tokens"]] == tokens
        assert response["lengths"] == len(tokens) == len(response["tags"])
        assert {tag.decode() for tag in response["tags"]} <= tags
        assert ((response["probability"] > 0.2) & (response["probability"] <= 1.0001)).all()
        [alone] = served.predict(rows_of([tokens]), "tokens")
        assert_same(alone, response)


def test_values_beyond_lengths_are_ignored(served):
    tokens = [["boats", "sank", b"\xff", "junk"], ["man", "", "ader", "x"]]
    outputs = served.predict_columns({"tokens": tokens, "lengths": [2, 1]}, "tokens")
    other = [["boats", "sank"], ["man", "kesish"]]
    expected = served.predict_columns({"tokens": other, "lengths": [2, 1]}, "tokens")
    for name, value in expected.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(outputs[name], value, atol=1e-5)
        else:
            np.testing.assert_array_equal(outputs[name], value)
    assert outputs["tokens"].tolist() == [[b"boats", b"sank"], [b"man", b""]]
    assert outputs["tags"][1, 1] == b"" and outputs["probability"][1, 1] == 0


@pytest.mark.parametrize(
    ("lengths", "expected"), [([9, -4], [3, 0]), ([2**31 - 1, -(2**31)], [3, 0])]
)
def test_lengths_are_limited_to_the_tokens(served, lengths, expected):
    outputs = served.predict_columns(
        {"tokens": [["a", "b", "c"]] * 2, "lengths": lengths}, "tokens"
    )
    assert outputs["lengths"].tolist() == expected
    assert (outputs["tags"][0] != b"").all() and (outputs["tags"][1] == b"").all()


def test_empty_requests_have_empty_responses(served):
    for signature, request in (
        ("serving_default", {"text": []}),
        ("tokens", {"tokens": [], "lengths": []}),
    ):
        response = served.predict_columns(request, signature)
        assert {name: value.shape for name, value in response.items()} == {
            "tokens": (0, 0),
            "tags": (0, 0),
            "probability": (0, 0),
            "lengths": (0,),
        }
    for text in ("", " \t\u00a0 "):
        response = served.predict_columns({"text": [text]})
        assert response["lengths"].tolist() == [0] and response["tags"].shape == (1, 0)


def test_text_is_split_into_the_tokens_that_are_tagged(served):
    texts = ["The old man's boats sank.", "", b"\xff don't", "好看"]
    tokens = [["The", "old", "man", "'s", "boats", "sank", "."], [], ["\ufffd", "do", "n't"]]
    tokens.append(["好", "看"])
    expected = served.predict(rows_of(tokens), "tokens")
    responses = served.predict([{"text": text} for text in texts])
    for one, other in zip(responses, expected, strict=True):
        assert_same(one, other)


def test_the_words_of_a_long_sentence_have_tags(served):
    tokens = WORDS * 500
    [response] = served.predict(rows_of([tokens]), "tokens")
    assert response["lengths"] == 5000
    assert len(response["tags"]) == 2048 and (response["tags"] != b"").all()
    # The windows differ only in their start, so tags repeat far from the ends.
    period = np.lcm(len(WORDS), 12 - 2 * (12 // 8))
    assert (response["tags"][100:1900] == response["tags"][100 + period : 1900 + period]).all()


def test_it_predicts_as_the_keras_model_does(served, version):
    task = tasks.find("tagging").restore(version / "assets")
    model = models.load(version)
    tokens = ["kader", "lotish", "man", "x"]
    x = {name: value[None] for name, value in task.network_inputs(tf.constant(tokens)).items()}
    logits = model(x)
    [row] = served.predict(rows_of([tokens]), "tokens")
    classes = (version / "assets/tags.txt").read_text().splitlines()
    if task.config.crf:
        crf = model.get_layer("crf")
        tags, shares = crf.decode(logits)[0][0].numpy(), crf.marginals(logits)[0].numpy()
    else:
        tags, shares = np.argmax(logits[0], -1), tf.nn.softmax(logits[0]).numpy()
    assert [tag.decode() for tag in row["tags"]] == [classes[tag] for tag in tags]
    np.testing.assert_allclose(row["probability"], shares[range(4), tags], atol=1e-5)


def test_the_scores_are_those_of_plain_counting(
    treebank, tmp_path, version, served, loaded, capsys
):
    with (treebank / "test.conllu").open(encoding="utf-8") as file:
        words = [line.rstrip("\n").split("\t") for line in file]
    references, sentence = [], []
    for row in words:
        if len(row) > 1:
            sentence.append((row[1], row[3]))
        elif sentence:
            references.append(sentence)
            sentence = []
    train_words = {
        line.split("\t")[1] for line in (treebank / "train.conllu").read_text().splitlines() if line
    }
    references[0][0] = (references[0][0][0], "VERB")  # a tag that is not in the training part
    references[1] = [("boats", "NOUN")] * 20  # longer than a window
    own = tmp_path / "own.jsonl"
    lines = ({"tokens": [w for w, _ in s], "tags": [t for _, t in s]} for s in references)
    own.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    saved_models = str(version.parent.parent)
    scores = evaluate.main(["tagging", "--saved-models", saved_models, "--test", str(own)])
    output = capsys.readouterr().out

    responses = served.predict(rows_of([[w for w, _ in s] for s in references]), "tokens")
    counts = collections.Counter()
    for s, response in zip(references, responses, strict=True):
        hits = [t == g.decode() for (_, t), g in zip(s, response["tags"], strict=True)]
        counts["words"] += len(hits)
        counts["correct"] += sum(hits)
        counts["sentences"] += all(hits)
        unseen = [hit for hit, (w, _) in zip(hits, s, strict=True) if w not in train_words]
        counts["unseen"] += len(unseen)
        counts["unseen correct"] += sum(unseen)
    assert scores == pytest.approx(
        {
            "accuracy": counts["correct"] / counts["words"],
            "unseen_accuracy": counts["unseen correct"] / counts["unseen"],
            "sentence_accuracy": counts["sentences"] / len(references),
        }
    )
    assert scores["sentence_accuracy"] < 1
    for text in (
        f"{len(references)} examples",
        "VERB",
        "precision",
        "Most frequent confusions",
        "share of the reference",
    ):
        assert text in output


def expected_calibration_error(confidence, correct):
    """The mean distance of confidence and accuracy over 15 bins of equally many words."""
    order = sorted(range(len(correct)), key=lambda n: confidence[n])
    bins = np.array_split(order, 15)
    gaps = [abs(sum(confidence[n] - correct[n] for n in own)) for own in bins]
    return sum(gaps) / len(correct)


def test_the_calibration_error_is_that_before_and_after_the_temperature(
    treebank, version, served, loaded, capsys
):
    record = json.loads((version / "assets.extra/run.json").read_text(encoding="utf-8"))
    argv = ["tagging", "--saved-models", str(version.parent.parent), "--data", str(treebank)]
    evaluate.main(argv)
    printed = capsys.readouterr().out
    examples = list(tasks.find("tagging").Corpus(data=str(treebank)).open().test)
    responses = served.predict(rows_of([e.values["tokens"] for e in examples]), "tokens")
    correct = [
        reference == tag.decode()
        for example, response in zip(examples, responses, strict=True)
        for reference, tag in zip(example.values["tags"], response["tags"], strict=True)
    ]
    after = np.concatenate([response["probability"] for response in responses]).astype(float)
    errors = record["calibration"]
    assert errors["after"] == pytest.approx(expected_calibration_error(after, correct), abs=1e-6)
    model = models.load(version)
    if record["config"]["crf"]:
        assert errors["before"] is None and record["fitted_on_valid"] == {}
        assert f"calibration error {errors['after']:.4f}, without a temperature" in printed
        return
    temperature = record["fitted_on_valid"]["temperature"]
    assert f"error {errors['after']:.4f} with temperature {temperature:.3f}" in printed
    task = tasks.find("tagging").restore(version / "assets")
    assert temperature != 1 and max(len(e.values["tokens"]) for e in examples) < 12
    before = []
    for example in examples:
        inputs = task.network_inputs(tf.constant(example.values["tokens"]))
        logits = model({name: value[None] for name, value in inputs.items()})[0].numpy()
        shares = np.exp(temperature * (logits - logits.max(axis=-1, keepdims=True)))
        before += (shares.max(axis=-1) / shares.sum(axis=-1)).tolist()
    error = expected_calibration_error(before, correct)
    assert errors["before"] == pytest.approx(error, abs=1e-5) != errors["after"]
    page = (version / "assets.extra/report.html").read_text(encoding="utf-8")
    sentence = f"with temperature {temperature:.3f}, {errors['before']:.4f} without it"
    assert sentence in page and "temperature 1" in page


def test_the_report_shows_confusion_and_mistakes_in_their_sentences(version):
    page = (version / "assets.extra/report.html").read_text(encoding="utf-8")
    curves = page.count('role=img aria-label="learning curve of')
    assert curves >= 1 and page.count("<svg") == curves + 2  # confusions and calibration
    for part in (
        "Reference and predicted tags",
        "Most frequent mistakes",
        "in overlapping windows",
    ):
        assert part in page


@pytest.mark.parametrize("cell", slow_except(["mut1"], PLAIN_CELLS))
def test_a_cell_of_each_equation_can_be_exported(cell, tmp_path, treebank):
    cls = tasks.find("tagging")
    train_part = cls.Corpus(data=str(treebank)).open().train
    config = cls.Config(
        cell=cell, units=4, layers=1, characters=3, affixes=0, embedding=4, max_word_length=9
    )
    task = cls.learn(config, train_part, tmp_path)
    draft = export.draft(task, task.build("reuse"), tmp_path / "draft")
    [response] = SavedModelSession(draft).predict(rows_of([WORDS]), "tokens")
    assert len(response["tags"]) == len(WORDS)


@pytest.fixture
def predict_output(version, loaded, monkeypatch, capsys):
    """Returns a function that runs `app.predict` with some standard input."""

    def run(argv, lines):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
        capsys.readouterr()
        predict.main(["tagging", *argv, "--saved-models", str(version.parent.parent)])
        return capsys.readouterr().out

    return run


def test_predict_reads_text_tokens_and_conllu(predict_output, treebank):
    output = predict_output([], b"The man's boats.\n\nboats\n").splitlines()
    assert [[pair.rsplit("/", 1)[0] for pair in line.split()] for line in output] == [
        ["The", "man", "'s", "boats", "."],
        [],
        ["boats"],
    ]
    output = predict_output(["--input", "tokens"], b"man's boats.\n")
    assert [pair.rsplit("/", 1)[0] for pair in output.split()] == ["man's", "boats."]
    source = b"# a comment\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n" + (
        treebank / "test.conllu"
    ).read_bytes().replace(b"NOUN", b"X")
    output = predict_output(["--input", "conllu", "--format", "conllu"], source)
    assert len(output.splitlines()) == len(source.splitlines())
    for line, before in zip(output.splitlines(), source.decode().splitlines(), strict=True):
        one, other = line.split("\t"), before.split("\t")
        if len(one) > 3 and one[0].isdecimal():
            assert one[3] in ("NOUN", "ADJ")
            one[3] = other[3]
        assert one == other
    rows = predict_output(["--json"], b"boats sank\n")
    assert json.loads(rows)["tokens"] == ["boats", "sank"]


def test_predict_reports_the_line_of_invalid_conllu(version, loaded, capsys):
    argv = ["tagging", "--input", "conllu", "1\tword", "--saved-models", str(version.parent.parent)]
    with pytest.raises(SystemExit):
        cli.run(lambda: predict.main(argv))
    assert "line 1: expected the 10 tab-separated columns" in capsys.readouterr().err


def test_a_treebank_without_the_column_is_reported(treebank, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.run(lambda: trained(treebank, tmp_path, "--tags", "xpos"))
    assert "every xpos is _; --tags must be one of ['upos']" in (capsys.readouterr().err)


@pytest.mark.slow
def test_a_script_without_spaces_is_learned_from_gold_tokens(tmp_path):
    for part, count in (("train", 30), ("valid", 6), ("test", 6)):
        lines = ["我/PRON 看/VERB 电影/NOUN 。/PUNCT", "电影/NOUN 好/ADJ 。/PUNCT"] * count
        (tmp_path / f"{part}.txt").write_text("\n".join(lines), encoding="utf-8")
    more = ["--max-word-length", "4", "--layers", "1", "--cell", "rnn"]
    session = fitted(trained, tmp_path, tmp_path / "out", *more).export(tmp_path / "exported")
    sentences = [["我", "看", "电影", "。"], ["电影", "好", "。"]]  # all that there are
    responses = session.predict(rows_of(sentences), "tokens")
    tags = [[tag.decode() for tag in response["tags"]] for response in responses]
    assert tags == [["PRON", "VERB", "NOUN", "PUNCT"], ["NOUN", "ADJ", "PUNCT"]]


def test_words_without_characters_or_case_folding_can_be_trained(treebank, tmp_path):
    more = [*PLAIN, "--no-fold-case", "--epochs", "1"]
    stopped = fitted(trained, treebank, tmp_path, *more)
    assert set(stopped.model.input) == {"ids"}
    [response] = stopped.export(tmp_path / "exported").predict(rows_of([WORDS]), "tokens")
    assert len(response["tags"]) == len(WORDS)


def test_tags_of_entities_are_evaluated_and_monitored_as_entities(tmp_path, treebank, capsys):
    words = ["Ada", "Lovelace", "met", "Alan", "today", "."]
    tags = ["B-PER", "I-PER", "O", "B-PER", "O", "O"]
    lines = [f"{word}{n} {tag}" for n in range(80) for word, tag in zip(words, tags, strict=True)]
    sentences = ["\n".join(lines[i : i + 6]) for i in range(0, len(lines), 6)]
    data = tmp_path / "train.conll"
    data.write_text("\n\n".join(sentences) + "\n", encoding="utf-8")
    flags = [*SMALL, *PLAIN, "--epochs", "4", "--learning-rate", "0.05", *where(tmp_path)]
    version = train.main(["tagging", "--data", str(data), *flags, "--monitor", "entity_f1"])
    record = json.loads((version / "assets.extra/run.json").read_text(encoding="utf-8"))
    assert list(record["scores"])[:3] == ["entity_f1", "entity_precision", "entity_recall"]
    assert 0 <= record["scores"]["entity_f1"] <= 1
    assert record["baselines"]["majority"]["entity_f1"] == 0
    history = (version / "assets.extra/history.csv").read_text(encoding="utf-8")
    assert "val_entity_f1" in history.splitlines()[0]
    page = (version / "assets.extra/report.html").read_text(encoding="utf-8")
    assert "Errors of entities" in page and "wrong boundary" in page
    with pytest.raises(SystemExit):
        cli.run(lambda: trained(treebank, tmp_path, "--monitor", "entity_f1"))
    assert "--monitor entity_f1 needs tags of entities" in capsys.readouterr().err


def test_the_loss_has_label_smoothing(tmp_path):
    task_class = tasks.find("tagging")
    config = task_class.Config(**untrained.SMALL, label_smoothing=0.2)
    task = task_class.learn(config, untrained.examples("tagging"), tmp_path)
    model = task.build()
    task.compile(model, keras.optimizers.SGD())
    assert model.loss.smoothing == 0.2


def test_a_single_tag_is_rejected(tmp_path, capsys):
    (tmp_path / "own.txt").write_text("a/X b/X\nc/X d/X\n" * 20)
    with pytest.raises(SystemExit):
        cli.run(lambda: trained(tmp_path / "own.txt", tmp_path))
    assert "needs at least two tags, got 1: ['X']" in capsys.readouterr().err


@pytest.mark.slow
def test_averaged_weights_are_kept_and_survive_an_interruption(treebank, tmp_path, monkeypatch):
    more = ["--ema-momentum", "0.9", "--patience", "9", "--epochs", "4", *PLAIN]
    uninterrupted = fitted(trained, treebank, tmp_path / "uninterrupted", *more)
    save = run_state.Run.save

    def save_and_die(self, progress, groups):
        save(self, progress, groups)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_state.Run, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            trained(treebank, tmp_path / "more", *more)
    resumed = fitted(trained, treebank, tmp_path / "more", *more)
    assert uninterrupted.progress.best_epoch > 2  # it comes after the interruption
    plain = fitted(trained, treebank, tmp_path / "plain", *more, "--ema-momentum", "0")
    weights = [stopped.model.get_weights() for stopped in (uninterrupted, resumed, plain)]
    for one, other in zip(*weights[:2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(weights[0], weights[2], strict=True))


def test_the_epoch_with_the_best_accuracy_is_published(treebank, tmp_path):
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


def test_lemmas_are_served_as_lemmas_also_of_unseen_words(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(1)
    lines = []
    for _ in range(300):
        stem = "".join(random.choice(list("bdgklmnprst"), 4))
        words = [("The", "the"), (f"{stem}ies", f"{stem}y"), ("are", "be"), ("Paris", "Paris")]
        rows = (
            f"{n}\t{form}\t{lemma}\tX\t_\t_\t_\t_\t_\t_" for n, (form, lemma) in enumerate(words, 1)
        )
        lines += [*rows, ""]
    data = tmp_path / "train.conllu"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ["--tags", "lemma", "--epochs", "3", "--layers", "1", "--batch-tokens", "640"]
    version = trained(data, tmp_path / "out", *flags)
    record = json.loads((version / "assets.extra/run.json").read_text(encoding="utf-8"))
    scores = record["scores"]
    assert list(scores)[:2] == ["lemma_accuracy", "unseen_lemma_accuracy"]
    assert scores["lemma_accuracy"] == scores["unseen_lemma_accuracy"] == 1
    assert record["baselines"]["majority"]["lemma_accuracy"] < 0.6
    session = SavedModelSession(version)
    [response] = session.predict(rows_of([["The", "brtdies", "are", "Paris"]]), "tokens")
    assert [lemma.decode() for lemma in response["lemmas"]] == ["the", "brtdy", "be", "Paris"]
    capsys.readouterr()
    argv = ["--saved-models", str(version.parent.parent), "--input", "conllu"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines[:5]).encode())))
    predict.main(["tagging", *argv, "--format", "conllu", "--tags", "lemma"])
    output = capsys.readouterr().out.splitlines()
    assert output[:4] == lines[:4]
