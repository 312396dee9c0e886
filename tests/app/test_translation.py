"""Translation from a corpus to a served version: signatures, search, evaluation, prediction."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

import models
from app import cli, evaluate, predict, train
from app.serving import export
from app.serving.session import SavedModelSession
from models.beam_search import IMPOSSIBLE
from tests.conftest import signatures, where
from tests.support.fitted import fitted

ROOT = Path(__file__).parents[2]
NARROW = ["--coverage", "0.2", "--no-repeat-ngram", "2", "--beam-size", "2", "--n-best", "1"]
SMALL = ["--units", "16", "--embedding", "16", "--vocabulary", "320", "--ema-momentum", "0"]
SMALL += ["--batch-tokens", "1024"]
CHOSEN = ["--monitor", "bleu", "--epochs", "2", "--cell", "rnn"]
WORDS = {"ka": "one", "bo": "two", "mi": "three", "te": "four", "su": "five"}
TEXTS = [
    "ka bo mi",
    "",
    " ",
    "te",
    b"\xff su",
    "你好 世界",
    " ".join(["ka te"] * 100),
    "\U0001f642",
]


def translate(words):
    """Translates: the other language has the reverse word order."""
    return " ".join(WORDS[word] for word in reversed(words))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    for part, count in (("train", 300), ("valid", 30), ("test", 30)):
        rows = [list(random.choice(list(WORDS), random.integers(1, 5))) for _ in range(count)]
        for language, lines in (
            ("xx", [" ".join(row) for row in rows]),
            ("yy", [translate(row) for row in rows]),
        ):
            text = "".join(f"{line}\n" for line in lines)
            (folder / f"{part}.{language}").write_text(text, encoding="utf-8")
    return folder


def trained(corpus, folder, *more):
    argv = ["translation", "--data", str(corpus), "--source", "xx", "--target", "yy", *SMALL]
    return train.main([*argv, "--epochs", "1", *where(folder), *more])


@pytest.fixture(scope="module")
def version(corpus, tmp_path_factory):
    more = [
        "--epochs",
        "30",
        "--patience",
        "30",
        "--learning-rate",
        "0.01",
        "--batch-tokens",
        "512",
    ]
    more += ["--dropout", "0.1", "--max-length", "60", "--n-best", "3"]
    return trained(corpus, tmp_path_factory.mktemp("translation"), *more)


@pytest.fixture(scope="module")
def served(version):
    return SavedModelSession(version)


@pytest.fixture(scope="module")
def short_run(corpus, tmp_path_factory):
    """A short run monitored by BLEU, with some pairs of unequal length: its folder, its output."""
    folder = tmp_path_factory.mktemp("short_run")
    (folder / "corpus").mkdir()
    for part in ("train", "valid", "test"):
        for language in ("xx", "yy"):
            name = f"{part}.{language}"
            text = (corpus / name).read_text().splitlines()
            if part != "valid":
                text += ["ka " * 90, "te"] if language == "xx" else ["one", "four"]
            (folder / "corpus" / name).write_text("".join(f"{line}\n" for line in text))
    with contextlib.redirect_stdout(io.StringIO()) as output:
        trained(folder / "corpus", folder, *CHOSEN)
    return folder, output.getvalue()


def test_the_signatures_are_the_promised_ones(version):
    types = signatures(version)
    inputs = {"text": ("string", [-1])}
    assert types == {
        "serving_default": (
            inputs,
            {
                "translation": ("string", [-1]),
                "log_probability": ("float32", [-1]),
            },
        ),
        "n_best": (
            inputs,
            {
                "translations": ("string", [-1, 3]),
                "log_probabilities": ("float32", [-1, 3]),
            },
        ),
        "align": (
            inputs,
            {
                "translation": ("string", [-1]),
                "source_tokens": ("string", [-1, -1]),
                "target_tokens": ("string", [-1, -1]),
                "attention": ("float32", [-1, -1, -1]),
                "source_lengths": ("int32", [-1]),
                "target_lengths": ("int32", [-1]),
            },
        ),
    }


def test_it_learns_to_translate(served, version):
    scores = json.loads((version / "assets.extra/run.json").read_text())["scores"]
    assert list(scores) == ["bleu", "chrf"] and scores["chrf"] > 60
    assert served.predict_columns({"text": ["te"]})["translation"].tolist() == [b"four"]


def test_a_response_does_not_depend_on_the_other_rows(served):
    together = served.predict_columns({"text": TEXTS})
    for row, text in enumerate(TEXTS):
        alone = served.predict_columns({"text": [text]})
        assert alone["translation"][0] == together["translation"][row]
        np.testing.assert_allclose(
            alone["log_probability"][0], together["log_probability"][row], atol=1e-4
        )
        together["translation"][row].decode("utf-8")
    assert together["translation"][1] == b""
    assert (together["log_probability"] > -100).all()


def test_the_best_of_n_is_the_default_and_all_are_different(served):
    texts = [text for text in TEXTS if text != b"\xff su"]
    best, many = (
        served.predict_columns({"text": texts}),
        served.predict_columns({"text": texts}, "n_best"),
    )
    np.testing.assert_array_equal(many["translations"][:, 0], best["translation"])
    logs = many["log_probabilities"]
    assert (np.diff(logs, axis=1) <= 1e-6).all()
    np.testing.assert_allclose(logs[:, 0], best["log_probability"], atol=1e-5)
    assert (
        logs[1, 1:] == np.float32(IMPOSSIBLE)
    ).all()  # the only translation of an empty text is empty
    assert set(many["translations"][1]) == {b""}
    assert len(set(many["translations"][0])) == 3


def test_an_alignment_has_weights_for_each_target_subword(served):
    response = served.predict_columns({"text": TEXTS}, "align")
    best = served.predict_columns({"text": TEXTS})
    assert response["translation"].tolist() == best["translation"].tolist()
    for row in range(len(TEXTS)):
        source, target = response["source_lengths"][row], response["target_lengths"][row]
        weights = response["attention"][row]
        if source:
            np.testing.assert_allclose(weights[:target].sum(axis=1), 1, atol=1e-4)
        assert (weights[target:] == 0).all() and (weights[:, source:] == 0).all()
        assert (response["source_tokens"][row, source:] == b"").all()
        assert (response["target_tokens"][row, target:] == b"").all()
        assert (response["target_tokens"][row, :target] != b"").all()
    assert response["source_lengths"][1] == response["target_lengths"][1] == 0


def test_an_empty_batch_has_an_empty_response(served):
    for signature in served.signatures:
        for name, value in served.predict_columns({"text": []}, signature).items():
            assert value.shape[0] == 0, name


def test_a_text_is_truncated_to_the_maximum_length(served, version):
    max_length = json.loads((version / "assets/config.json").read_text())["max_length"]
    text = "ka bo " * max_length
    outputs = served.predict_columns({"text": [text, text + "su " * 50]})["translation"]
    assert outputs[0] == outputs[1]


def test_a_moved_version_runs_in_a_process_with_tensorflow_alone(version, tmp_path):
    moved = shutil.copytree(version, tmp_path / "elsewhere" / "1")
    script = (
        "import sys, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "print(served(text=tf.constant(['te', '']))['translation'].numpy().tolist())\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, str(moved)], cwd=tmp_path, capture_output=True, text=True
    )
    assert "[b'four', b'']" in process.stdout, process.stderr


def test_the_scores_are_those_of_sacrebleu(served, loaded, version, corpus, capsys):
    sources = (corpus / "test.xx").read_text().splitlines()
    references = (corpus / "test.yy").read_text().splitlines()
    predictions = [
        text.decode() for text in served.predict_columns({"text": sources})["translation"]
    ]
    argv = ["translation", "--data", str(corpus), "--source", "xx", "--target", "yy"]
    scores = evaluate.main([*argv, "--saved-models", str(version.parent.parent)])
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(predictions, [references]).score)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(predictions, [references]).score)
    assert "nrefs:1|case:mixed|eff:no|tok:13a" in capsys.readouterr().out


def test_the_report_shows_alignments_and_bad_translations(version):
    page = (version / "assets.extra/report.html").read_text(encoding="utf-8")
    curves = page.count('role=img aria-label="learning curve of')
    assert curves >= 1 and page.count("<svg") == curves + 3
    assert "farthest from their references" in page and ">Attention</h2>" in page


def test_the_keras_model_can_be_loaded_in_another_process(version):
    script = (
        "import sys, models, tensorflow as tf\n"
        "model = models.load(sys.argv[1])\n"
        "x = {'source': tf.constant([[5, 6]]), 'before': tf.constant([[1, 5, 6]])}\n"
        "print(model(x).shape[:2])\n"
    )
    argv = [sys.executable, "-c", script, str(version)]
    process = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert process.stdout.strip() == "(1, 3)", process.stderr


def test_predict_translates_lines_and_draws_an_alignment(
    version, loaded, tmp_path, monkeypatch, capsys
):
    saved_models = ["--saved-models", str(version.parent.parent)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"te\n\nsu\n")))
    predict.main(["translation", *saved_models])
    assert capsys.readouterr().out.splitlines() == ["four", "", "five"]
    drawn = tmp_path / "drawn.png"
    predict.main(["translation", "te $ su", "--align", str(drawn), *saved_models])
    assert drawn.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        cli.run(lambda: predict.main(["translation", "te", "--align", str(drawn), *saved_models]))
    assert "already exists" in capsys.readouterr().err


def test_each_epoch_shows_translations_and_bleu_can_be_monitored(short_run):
    folder, output = short_run
    first = (folder / "corpus/valid.xx").read_text().splitlines()[0]
    assert output.count(f"  {first} -> ") == 2
    history = folder / "saved_models/translation/1/assets.extra/history.csv"
    lines = history.read_text().splitlines()
    assert "val_bleu" in lines[0].split(",")


def test_pairs_of_unequal_length_are_skipped_and_counted_in_train_only(short_run):
    folder, output = short_run
    assert "train: 1 of 302 examples skipped: pairs with an empty side" in output
    version = folder / "saved_models/translation/1"
    record = json.loads((version / "assets.extra/run.json").read_text())
    assert record["data"]["left_out"] == {"train": 1, "valid": 0, "test": 0}
    assert record["evaluated"]["examples"] == 32


@pytest.mark.parametrize(
    "more",
    [
        ["--attention", "additive", "--input-feeding", "--layers", "2", "--cell", "rnn", *NARROW],
        pytest.param(["--attention", "none"], marks=pytest.mark.slow),
    ],
)
def test_every_setting_can_be_trained_and_served(corpus, tmp_path, more):
    session = fitted(trained, corpus, tmp_path, *more).export(tmp_path / "exported")
    response = session.predict_columns({"text": TEXTS})
    assert len(response["translation"]) == len(TEXTS)


@pytest.mark.slow
def test_search_settings_can_be_changed_without_training(short_run, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(short_run[0], tmp_path / "copy")
    first = folder / "saved_models/translation/1"
    argv = [folder / "corpus", folder, *CHOSEN, "--beam-size", "1", "--n-best", "1"]
    greedy = trained(*argv)
    output = capsys.readouterr().out
    assert "published with other serving settings" in output and "val_loss" not in output
    assert greedy.name == "2"
    assert json.loads((greedy / "assets/config.json").read_text())["beam_size"] == 1
    many = [
        SavedModelSession(folder).predict_columns({"text": ["ka bo"]}, "n_best")
        for folder in (first, greedy)
    ]
    assert [outputs["translations"].shape for outputs in many] == [(1, 4), (1, 1)]
    networks = [models.load(folder).get_weights() for folder in (first, greedy)]
    for one, other in zip(*networks, strict=True):
        np.testing.assert_array_equal(one, other)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "draft", interrupted)  # the lines below are printed before
    with pytest.raises(KeyboardInterrupt):
        trained(*argv)
    output = capsys.readouterr().out
    assert "this run has finished as version 2: training again from the start" in output
    assert "val_loss" in output


def test_more_n_best_than_beams_is_rejected(corpus, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.run(lambda: trained(corpus, tmp_path, "--beam-size", "2", "--n-best", "3"))
    assert "--n-best must be at most --beam-size (2), got 3." in capsys.readouterr().err
