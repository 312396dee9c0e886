"""Networks that start from a language model: trained in the same command, or published."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import models
import tasks
from app import cli, train
from app.serving.base_version import BaseVersion
from app.serving.session import SavedModelSession
from app.training import ensembles, loop, pipeline, pretraining
from models import manifest
from tasks.core.reader_language_model import ReaderLanguageModel
from tasks.core.unlabelled import UnlabelledTexts
from tests.conftest import SMALL, labelled, where
from tests.support import untrained
from tests.support.fitted import Stopped, fitted

FLAGS = [*SMALL, "--linear-path", "0", "--evidence", "16", "--learning-rate", "1e-9"]
TEXTS = ["a gloomy film of quiet people", "quiet , warm and gloomy"]
NEW = ("gloomy", "quiet", "of", "people")


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What a command does that is interrupted after its language model, and then repeated.

    Attributes:
        argv: The command.
        trained: Its training, which is stopped before the export.
        encoders: The language model of both calls.
        epochs: What was trained, and for how many epochs.
    """

    argv: list[str]
    trained: Stopped
    encoders: list[pretraining.TrainedEncoder]
    epochs: list[tuple[str, int]]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    argv = ["sentiment", "--data", str(labelled(folder / "corpus")), *FLAGS, *where(folder)]
    argv += ["--unlabelled", str(folder / "texts.txt"), "--pretraining-epochs", "2"]
    encoders, epochs = [], []
    trained_encoder, run_epochs = pretraining.TrainedEncoder, loop._run_epochs

    def encoder(*args):
        encoders.append(trained_encoder(*args))
        return encoders[-1]

    def count(task, model, strategy, numbers, *args):
        epochs.append((type(task).__name__, len(numbers)))
        return run_epochs(task, model, strategy, numbers, *args)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "TrainedEncoder", encoder)
        patch.setattr(loop, "_run_epochs", count)
        with pytest.MonkeyPatch.context() as inner, pytest.raises(KeyboardInterrupt):
            inner.setattr(pipeline, "rehearse", lambda *args: None)
            inner.setattr(ensembles, "fit", interrupt)
            train.main(argv)
        trained = fitted(train.main, argv)
    return Pretrained(argv, trained, encoders, epochs)


def test_a_resumed_command_does_not_train_the_language_model_again(pretrained):
    assert pretrained.epochs == [("ReaderLanguageModel", 2), ("Task", 1)]
    first, second = pretrained.encoders
    assert first.record() == second.record()
    for one, other in zip(first.model.weights, second.model.weights, strict=True):
        if "seed_generator" not in one.path:
            np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_a_language_model_that_was_trained_longer_is_used_and_reported(
    pretrained, tmp_path, monkeypatch, capsys
):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    fit, recurrent = loop.fit, []

    def fit_and_record(*args, **kwargs):
        recurrent.append(kwargs["recurrent"])
        return fit(*args, **kwargs)

    monkeypatch.setattr(pipeline, "rehearse", lambda *args: None)
    monkeypatch.setattr(ensembles, "fit", interrupt)
    monkeypatch.setattr(loop, "fit", fit_and_record)
    runs = pretrained.argv[pretrained.argv.index("--runs") + 1]
    shutil.copytree(runs, tmp_path / "runs")
    argv = [*pretrained.argv, "--runs", str(tmp_path / "runs")]
    with pytest.raises(KeyboardInterrupt):
        train.main([*argv, "--pretraining-epochs", "1", "--checkpoint-every", "4"])
    assert "for 2 epochs instead of 1" in capsys.readouterr().out
    assert [options.checkpoint_every for options in recurrent] == [4]


def test_training_starts_from_the_language_model(pretrained):
    network, encoder = pretrained.trained.model, pretrained.encoders[0]
    np.testing.assert_allclose(  # the learning rate was negligible
        network.get_layer("embedding").embeddings,
        encoder.model.get_layer("embedding").embeddings,
        atol=1e-6,
    )
    for number, side in enumerate(("forward", "backward")):
        [source] = encoder.model.get_layer(side).cells
        cell = network.get_layer("reader").cells[number]
        for name in ("recurrent_kernel", "bias"):
            np.testing.assert_allclose(getattr(cell, name), getattr(source, name), atol=1e-6)
        np.testing.assert_allclose(cell.kernel[:8], source.kernel, atol=1e-6)
        assert np.abs(cell.kernel[8:]).max() < 1e-6  # of the evidence
    assert np.abs(network.get_layer("logits").kernel).max() > 0.01  # not of the language model


def test_words_of_the_texts_are_known(pretrained):
    task = pretrained.trained.task
    assert task.words.words[-4:] == NEW
    assert min(task.ids(["gloomy quiet people"]).flat_values.numpy()) > 1


def test_the_perplexity_is_over_known_words_in_both_directions(pretrained, tmp_path):
    task, encoder = pretrained.trained.task, pretrained.encoders[0]
    ReaderLanguageModel.write_assets(task, assets_of(pretrained), tmp_path, 100)
    own = ReaderLanguageModel.restore(tmp_path)
    ids = np.array([[5, 1, 6, 7], [8, 9, 0, 0]])
    _, targets, weights = own.to_inputs({"ids": ids}, training=True)
    assert targets.numpy().tolist() == [[1, 6, 7, 0, 0, 5, 1, 6], [9, 0, 0, 0, 0, 8, 9, 0]]
    assert weights.numpy().tolist() == [[0, 1, 1, 0, 0, 1, 0, 1], [1, 0, 0, 0, 0, 1, 0, 0]]
    scores = []
    corpus = Path(pretrained.argv[2])
    for line in (corpus / "valid.tsv").read_text(encoding="utf-8").splitlines():
        [row] = task.ids([line.split("\t")[0]]).to_list()
        targets = [*row[1:], 0, 0, *row[:-1]]
        inputs = {"ids": np.array([row]), "targets": np.array([targets])}
        losses = encoder.model(inputs).numpy()[0]
        scores += [loss for loss, word in zip(losses, targets, strict=True) if word > 1]
    assert encoder.perplexity == pytest.approx(np.exp(np.mean(scores)), rel=1e-4)


def assets_of(pretrained):
    runs = Path(pretrained.argv[pretrained.argv.index("--runs") + 1])
    [assets] = (runs / "sentiment").glob("*/assets")
    return assets


@pytest.mark.slow
def test_a_version_needs_none_of_the_files_of_the_language_model(pretrained, tmp_path):
    version = train.main(pretrained.argv)
    alone = shutil.copytree(version, tmp_path / "sentiment" / "1")
    assert not [p for p in alone.rglob("*") if "unlabelled" in p.name or "texts" in p.name]
    record = json.loads((version / "assets.extra/run.json").read_text(encoding="utf-8"))
    assert record["base"] is None and record["config"]["unlabelled"] == "texts.txt"
    record = record["pretraining"]
    assert record["perplexity"] == pytest.approx(pretrained.encoders[0].perplexity)
    assert record["directions"] == ["forward", "backward"]
    assert record["texts"]["file"] == "texts.txt" and record["texts"]["new_words"] == len(NEW)
    page = (version / "assets.extra/report.html").read_text(encoding="utf-8")
    assert "A language model of texts.txt and the train part (perplexity" in page
    shutil.rmtree(version.parents[2])
    answers = SavedModelSession(alone).predict_columns({"text": ["gloomy", "a warm film"]})
    assert len(answers["label"]) == 2


def test_the_network_of_tagging_starts_from_a_language_model(tmp_path):
    cls = tasks.find("tagging")
    sizes = {"units": 8, "embedding": 8, "characters": 4, "layers": 2, "cell": "rnn"}
    (tmp_path / "reader").mkdir()
    task = cls.learn(cls.Config(**sizes), untrained.examples("tagging"), tmp_path / "reader")
    (tmp_path / "own").mkdir()
    ReaderLanguageModel.write_assets(task, tmp_path / "reader", tmp_path / "own", 100)
    source, target = ReaderLanguageModel.restore(tmp_path / "own").build(), task.build()
    texts = UnlabelledTexts("texts.txt", "", 1, 1, 0)
    pretraining.TrainedEncoder(source, texts, 2.0, 1, 1, "").initialise(task, target)
    cells = target.get_layer("encoder").cells
    for number, side in enumerate(("forward", "backward")):
        below, above = source.get_layer(side).cells
        np.testing.assert_array_equal(cells[number].kernel[:8], below.kernel)
        assert not np.any(cells[number].kernel[8:])  # of the characters
        own, other = np.split(cells[2 + number].kernel, 2)[:: -1 if number else 1]
        np.testing.assert_array_equal(own, above.kernel)
        assert not np.any(other)  # of the other direction


# --- Published ---------------------------------------------------------------


@pytest.fixture(scope="module")
def language_models(tmp_path_factory):
    """A folder with language models of words and of subwords, without graphs, and with texts."""
    folder = tmp_path_factory.mktemp("language_models")
    cls = tasks.find("language_model")
    first = folder / "saved_models/language_model/1"
    (first / "assets").mkdir(parents=True)
    (first / "assets.extra").mkdir()
    config = cls.Config(**untrained.SMALL, cell="rnn", token="words")
    task = cls.learn(config, untrained.examples("language_model"), first / "assets")
    task.build("reuse").save(first / "assets.extra/model.keras")
    record = {"task": "language_model", "name": "language_model", "scores": {"perplexity": 12.34}}
    (first / "assets.extra/run.json").write_text(json.dumps(record), encoding="utf-8")
    second = Path(shutil.copytree(first, first.parent / "2"))
    settings = second / "assets/config.json"
    settings.write_text(settings.read_text().replace('"words"', '"subwords"'), encoding="utf-8")
    manifest.write(first)
    manifest.write(second)
    labelled(folder / "corpus")
    return folder


def flags_from(folder, version, runs):
    saved_models = folder / "saved_models"
    flags = ["--saved-models", str(saved_models), "--runs", str(runs), "--from", version]
    return ["sentiment", "--data", str(folder / "corpus"), *flags]


def test_a_published_language_model_gives_the_weights_of_its_words(
    language_models, tmp_path, monkeypatch, capsys
):
    def stop(prepared):
        prepared.run.close()
        raise KeyboardInterrupt(prepared)

    monkeypatch.setattr(pipeline, "encode", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train.main(
            [*flags_from(language_models, "language_model/1", tmp_path), "--vocabulary", "60"]
        )
    prepared = stopped.value.args[0]
    network = prepared.task.build()
    prepared.start.initialise(prepared.task, network)
    version = language_models / "saved_models/language_model/1"
    source = models.load(version)
    vectors = source.get_layer("embedding").embeddings.numpy()
    lines = (version / "assets/words.txt").read_text(encoding="utf-8").splitlines()
    words = prepared.task.words.words
    assert len(words) == 60 and "film" in words and prepared.task.config.cell == "rnn"
    assert prepared.task.config.learning_rate == tasks.find("sentiment").Config().learning_rate
    rows = network.get_layer("embedding").embeddings.numpy()
    shared = 0
    for word, row in zip(words, rows[2:], strict=True):
        forms = [line for line in lines if line.lower() == word]
        form = word if word in lines else next(iter(forms), None)
        number = 2 + lines.index(form) if form else 1
        shared += number > 1
        np.testing.assert_array_equal(row, vectors[number], err_msg=word)
    assert 10 < shared < 60
    forward, backward = network.get_layer("reader").cells
    [cell] = source.get_layer("reader").cells
    np.testing.assert_array_equal(forward.recurrent_kernel, cell.recurrent_kernel)
    assert np.abs(backward.recurrent_kernel - cell.recurrent_kernel).max() > 0.01
    output = capsys.readouterr().out
    assert "(perplexity 12.3 on its test part) gives the initial weights" in output
    assert f"the embedding of {shared} of 60 words and of the cells that read forward" in output
    assert "those that read backward are new" in output


@pytest.mark.slow
def test_a_version_that_starts_from_a_language_model_names_it(language_models, tmp_path):
    argv = flags_from(language_models, "language_model/1", tmp_path)
    version = train.main([*argv, "--epochs", "1", "--linear-path", "0"])
    record = json.loads((version / "assets.extra/run.json").read_text(encoding="utf-8"))
    assert record["base"]["version"] == "language_model/1" and record["comparison"] is None
    assert record["pretraining"] == {
        "language_model": "language_model/1",
        "perplexity": 12.34,
        "directions": ["forward"],
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--from", "language_model/2"], "is a language model of subwords, and sentiment reads"),
        (["--from", "language_model/1", "--units", "9"], "--units must be 8, .* got 9"),
        (["--from", "language_model/1", "--cell", "gru"], "--cell must be rnn, .* got gru"),
        (["--from", "language_model/1", "--freeze", "encoder"], "need a version of sentiment"),
        (["--from", "language_model/1", "--unlabelled", "T"], "--from and --unlabelled exclude"),
        (["--from", "language_model/1", "--vectors", "T"], "--from and --vectors exclude"),
        (["--unlabelled", "T", "--vectors", "T"], "with the file of --vectors"),
        (["--unlabelled", "nowhere"], "--unlabelled: no file or folder nowhere"),
        (["--unlabelled", "EMPTY"], "has no texts, only empty lines"),
        (["translation", "--from", "language_model/1"], "by tasks that read words"),
        (["--from", "language_model/1", "--trees"], "cannot start a network with --trees"),
        (["translation", "--unlabelled", "T"], r"--unlabelled \S+; texts without labels are"),
    ],
)
def test_what_cannot_start_from_a_language_model_is_an_error(
    language_models, tmp_path, capsys, argv, message
):
    for name, text in (("T", "a warm film\n"), ("EMPTY", "\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    argv = [str(tmp_path / word) if word in ("T", "EMPTY") else word for word in argv]
    if argv[0] != "translation":
        argv = ["sentiment", "--data", str(language_models / "corpus"), *argv]
    folders = ["--saved-models", str(language_models / "saved_models")]
    with pytest.raises(SystemExit):
        cli.run(lambda: train.main([*argv, *folders, "--runs", str(tmp_path / "runs")]))
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(message, error)


def test_a_version_that_started_from_a_language_model_is_continued_without_its_texts(pretrained):
    settings = dataclasses.asdict(pretrained.trained.task.config)
    assert settings["unlabelled"] == "texts.txt"
    declared = tasks.declaration("sentiment").Config
    config = BaseVersion(Path("1"), "sentiment", "", settings, "sentiment").config_class(declared)()
    assert config.unlabelled == "" and config.units == 8
