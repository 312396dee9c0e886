"""Training: from flags to a published version, through every interruption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import models
import tasks
from app import cli, evaluate, predict, train
from app.serving import export, versions
from app.training import loop, pipeline, run_state
from models.cells.specs import CELLS
from tasks.core.examples import Example, Stream
from tasks.core.summary import PartSummary
from tests.conftest import SMALL, labelled, signatures, where
from tests.support import fitted as fitting
from tests.support.cells import slow_except
from tests.support.fitted import fitted

ROOT = Path(__file__).parents[2]


def fails(capsys, main, argv):
    """Returns the error of a command that cannot go on: up to three lines, exit code 2."""
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: main(argv))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert len(said.splitlines()) <= 3
    return said


def test_the_help_lists_the_tasks_without_tensorflow():
    script = "import sys, runpy; sys.argv = ['train', '--help']\ntry:\n"
    script += "  runpy.run_module('app.train', run_name='__main__')\nfinally:\n"
    script += "  assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    process = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert "sentiment" in process.stdout and "N→1" in process.stdout


def test_the_help_of_a_task_has_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit):
        train.main(["sentiment", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name, default in (("--units", 32), ("--clip-norm", 1.0), ("--steps-per-epoch", 0)):
        assert re.search(rf"{name} \S+ [^-].*?\(default: {default}\)", said), name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: TASK"),
        (["poetry"], "invalid choice: 'poetry' .*sentiment"),
        (["sentiment", "--unitz", "8"], "unrecognized arguments: --unitz 8; did you mean --units"),
        (["sentiment", "--unit", "8"], "unrecognized arguments: --unit 8; did you mean --units"),
        (["sentiment", "--units", "many"], "--units: invalid int value: 'many'"),
        (["sentiment", "--units", "0"], "--units must be at least 1, got 0"),
        (["sentiment", "--dropout", "1"], "--dropout must be at least 0 and below 1, got 1.0"),
        (["sentiment", "--learning-rate", "nan"], "--learning-rate must be above 0, got nan"),
        (["sentiment", "--precision", "float8"], r"--precision must be one of \['float32'"),
        (["sentiment", "--coverage", "1.5"], "--coverage must be at least 0 and at most 1"),
        (["sentiment", "--coverage", "0.9", "--min-precision", "0.9"], r"exclude each other"),
        (["tagging", "--crf", "--monitor", "macro_f1"], "cannot be combined with --crf"),
        (["tagging", "--crf", "--class-weights", "balanced"], "cannot be combined with --crf"),
        (["tagging", "--crf", "--label-smoothing", "0.1"], "cannot be combined with --crf"),
        (["tagging", "--crf", "--ensemble", "2", "--distill"], "cannot be combined with --crf"),
        (["sentiment", "--class-weights", "nowhere"], "balanced or a file that can be read"),
        (["sentiment", "--monitor", "bleu"], r"--monitor must be one of \['loss', 'accuracy'"),
        (["sentiment", "--clip-value", "1"], r"exclude each other; set one of them to 0"),
        (
            ["sentiment", "--cell", "lstmm"],
            r"--cell: cell must be one of .*'greff_cifg', .*'lstmm'",
        ),
        (["sentiment", "--cell", '{"equation": "x"}'], "--cell: equation must be one of"),
        (["sentiment", "--split", "1/2"], "--split must be three positive numbers"),
        (["sentiment", "--data", "nowhere"], "--data: no such file or folder: 'nowhere'"),
        (["sentiment", "--data", "tfds:nothing_like_it"], "no data set 'nothing_like_it'"),
    ],
)
def test_an_invalid_command_line_is_an_error(capsys, tmp_path, argv, message):
    argv = argv + where(tmp_path) if argv else argv
    assert re.search(message, fails(capsys, train.main, argv))
    assert not list(tmp_path.rglob("*.npz")) and not (tmp_path / "saved_models").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "the file contains no examples"),
        ("a\tgood\nb\n", r"train.tsv:2: expected a text, a tab and a label"),
        ("a\tgood\nb\tgood\n", r"needs at least two classes, got 1: \['good'\]"),
        (" \tgood\n\u3000\tbad\n", "contains no words, only whitespace"),
    ],
)
def test_a_malformed_corpus_is_an_error_before_training(capsys, corpus, tmp_path, rows, message):
    (corpus / "train.tsv").write_text(rows, encoding="utf-8")
    argv = ["sentiment", "--data", str(corpus), *where(tmp_path)]
    assert re.search(message, fails(capsys, train.main, argv))
    assert not list((tmp_path / "runs").glob("*"))


def test_a_folder_of_runs_that_cannot_be_written_is_an_error(capsys, corpus, tmp_path):
    (tmp_path / "file").touch()
    flags = ["--runs", str(tmp_path / "file/runs"), "--saved-models", str(tmp_path)]
    said = fails(capsys, train.main, ["sentiment", "--data", str(corpus), *flags])
    assert re.search(r"--runs: .*/file/runs must be a folder that can be written: ", said)


def test_a_part_without_a_known_class_is_an_error(capsys, corpus, tmp_path):
    (corpus / "test.tsv").write_text("a film\todd\n")
    said = fails(capsys, train.main, ["sentiment", "--data", str(corpus), *where(tmp_path)])
    assert "the test part holds no examples that could be used: " in said and "--test" in said


def trained(corpus, folder, *more):
    argv = [
        "sentiment",
        "--data",
        str(corpus),
        *SMALL,
        "--learning-rate",
        "0.03",
        *where(folder),
        *more,
    ]
    return train.main(argv)


def begun(corpus, folder, *more):
    """A run that ends where its first step would be."""

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "fit", die)
        trained(corpus, folder, *more)


MISLED = ["--epochs", "6", "--patience", "6", "--learning-rate", "0.005", "--batch-tokens", "128"]


@pytest.fixture
def misled(corpus):
    mislead(corpus)
    return corpus


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """The folder with what `straight` keeps of its run after each epoch, by its number."""
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def straight(tmp_path_factory, states):
    """What `MISLED` comes to on the misled corpus, in one go."""
    folder = tmp_path_factory.mktemp("straight")
    mislead(labelled(folder / "corpus"))
    save = run_state.Run.save

    def save_and_copy(self, progress, groups):
        save(self, progress, groups)
        if not (copied := states / str(progress.epoch) / self.folder.name).exists():
            shutil.copytree(self.folder, copied)  # a version that is published is saved as well

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_state.Run, "save", save_and_copy)
        return trained(folder / "corpus", folder, *MISLED)


def mislead(corpus):
    """Labels half of valid wrongly, so that an early epoch is the best."""
    rows = (corpus / "valid.tsv").read_text().splitlines()
    rows = [row.replace("good", "bad") if n < 5 else row for n, row in enumerate(rows)]
    (corpus / "valid.tsv").write_text("\n".join(rows))


def weights(version):
    return models.load(version).get_weights()


def assert_same(version, other):
    one, two = (json.loads((v / "assets.extra/run.json").read_text()) for v in (version, other))
    assert (one["epochs"], one["best_epoch"]) == (two["epochs"], two["best_epoch"])
    for a, b in zip(weights(version), weights(other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def assert_same_as_published(stopped, version):
    record = json.loads((version / "assets.extra/run.json").read_text())
    progress = stopped.progress
    assert (progress.epoch, progress.best_epoch) == (record["epochs"], record["best_epoch"])
    fitting.assert_same(stopped, version)


def test_what_is_published_is_whole(published):
    version = published / "sentiment" / "1"
    record = json.loads((version / "assets.extra/run.json").read_text())
    assert set(record["scores"]) == {"accuracy", "macro_f1"}
    assert set(record["intervals"]) == {"accuracy", "macro_f1"}
    for name, (low, high) in record["intervals"].items():
        assert 0 <= low <= record["scores"][name] <= high <= 1
    assert record["fitted_on_valid"]["temperature"] == pytest.approx(
        models.load(version).get_layer("calibration").temperature.numpy()
    )
    errors = record["calibration"]
    assert set(errors) == {"before", "after"} and all(0 <= e < 0.5 for e in errors.values())
    assert not record["warnings"]
    assert record["data"]["majority"] in ("negative", "positive")
    assert 0.4 < record["baselines"]["majority"]["accuracy"] < 0.6
    assert record["evaluated"] == {"signature": "serving_default", "part": "test", "examples": 500}
    assert record["config"]["units"] == 8 and record["config"]["cell"] == "lstm"
    assert record["data"]["examples"] == {"train": 4000, "valid": 500, "test": 500}
    assert len(record["data"]["checksum"]) == 64
    assert set(record["versions"]) == {"python", "keras", "numpy", "tensorflow"}
    assert [p.name for p in published.joinpath("sentiment").iterdir()] == ["1"]  # no draft is left
    assert {p.name for p in (version / "assets").iterdir()} == {
        "config.json", "labels.txt", "words.txt",
    }  # fmt: skip
    assert (version / "assets.extra/history.csv").read_text().startswith("epoch,accuracy,loss")


def test_the_report_is_one_file_that_needs_no_network(published):
    page = (published / "sentiment/1/assets.extra/report.html").read_text(encoding="utf-8")
    assert "export and evaluate" in page
    curves = page.count('role=img aria-label="learning curve of')
    assert curves == 2 and page.count("<svg") == curves + 2
    for part in (
        "Learning curves",
        "Expected calibration error",
        "Reference and predicted classes",
        "most confident",
        "Model card",
    ):
        assert part in page
    assert not re.search(r"""(src|href)=["']?https?:|@import|url\(http|<script""", page)


def test_hostile_text_is_only_text_in_the_report(corpus, tmp_path, capsys):
    with (corpus / "test.tsv").open("a") as file:
        file.write("<script>alert(1)</script>\tgood\n<script>alert(1)</script>\tbad\n")
    page = (trained(corpus, tmp_path) / "assets.extra/report.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;script&gt;" in page
    before, _, after = capsys.readouterr().out.partition("exporting the network")
    advice = "one pass over the training part has only"
    assert advice in before and advice in after  # also before the time is spent


@pytest.mark.parametrize("epoch", slow_except([3], [1, 3, 5]))
def test_a_run_killed_after_an_epoch_goes_on_as_if_nothing_had_happened(
    misled, straight, states, tmp_path, capsys, epoch
):
    shutil.copytree(states / str(epoch), tmp_path / "runs/sentiment")
    resumed = fitted(trained, misled, tmp_path, *MISLED)
    said = capsys.readouterr().out
    assert f"after epoch {epoch}" in said and f"Epoch {epoch}/6" not in said
    assert_same_as_published(resumed, straight)
    assert models.load(straight).get_layer("calibration").temperature.numpy() != 1
    best = json.loads((straight / "assets.extra/run.json").read_text())["best_epoch"]
    assert 1 < best < 5  # so one of the epochs to die after comes after the best, another before


def test_a_run_killed_within_an_epoch_does_that_epoch_again(
    misled, straight, tmp_path, monkeypatch
):
    steps = []

    def die(self, step, logs=None):
        steps.append(step)
        if len(steps) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keras.callbacks.TensorBoard, "on_train_batch_end", die)
        with pytest.raises(KeyboardInterrupt):
            trained(misled, tmp_path, *MISLED)
    assert_same_as_published(fitted(trained, misled, tmp_path, *MISLED), straight)


def test_a_run_killed_after_fitting_is_only_published(corpus, tmp_path, monkeypatch, capsys):
    def die(draft):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(export, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            trained(corpus, tmp_path)
    assert not versions.numbers(tmp_path / "saved_models/sentiment")
    capsys.readouterr()
    version = trained(corpus, tmp_path)
    said = capsys.readouterr().out
    assert "trained for 1 epochs, not yet published" in said and "Epoch" not in said
    assert [p.name for p in version.parent.iterdir()] == ["1"]  # its draft was taken up again


@pytest.mark.slow
def test_more_epochs_continue_a_finished_run(misled, straight, tmp_path, capsys):
    trained(misled, tmp_path, *MISLED, "--epochs", "2")
    capsys.readouterr()
    longer = trained(misled, tmp_path, *MISLED)
    assert "after epoch 2" in capsys.readouterr().out
    assert longer.name == "2"
    assert_same(longer, straight)


def test_the_same_command_after_a_finished_run_makes_a_new_version(corpus, tmp_path, capsys):
    first = trained(corpus, tmp_path)
    before = {p: p.read_bytes() for p in first.rglob("*") if p.is_file()}
    second = trained(corpus, tmp_path)
    assert "training again from the start" in capsys.readouterr().out
    assert (first.name, second.name) == ("1", "2")
    assert {p: p.read_bytes() for p in first.rglob("*") if p.is_file()} == before
    assert_same(first, second)


def test_the_command_that_repeats_a_run_has_its_folders(monkeypatch):
    options = []
    monkeypatch.setattr(pipeline, "train", lambda *args: options.append(args[-1]))
    flags = ["--report-examples=0", "--saved-models=models", "--runs=state"]
    train.main(["sentiment", *flags])
    train.main(["sentiment"])
    assert [each.command for each in options] == [
        "python -m app.train sentiment --report-examples=0 --saved-models=models --runs=state",
        "python -m app.train sentiment",
    ]


def test_remarks_on_the_data_are_printed_and_recorded(corpus, tmp_path, capsys):
    with (corpus / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("twice\tgood\ntwice\tgood\n")
    declared = tasks.find("sentiment")
    prepared = pipeline.read(
        "sentiment",
        declared.Config(),
        declared.Corpus(data=str(corpus)),
        pipeline.TrainOptions(runs=tmp_path / "runs"),
    )
    prepared.run.close()
    (remark,) = prepared.data.remarks
    assert remark == "1 of the 42 train examples repeats another one"
    output = capsys.readouterr().out
    assert remark in output
    (note,) = prepared.data.notes[-1:]
    assert note in output.splitlines()
    assert note.startswith("chosen from the train part: --batch-tokens 256, --epochs 20")
    assert prepared.task.config.batch_tokens == 256
    assert json.loads((prepared.run.assets / "config.json").read_text())["batch_tokens"] == 256


def test_a_threshold_is_served_without_training(corpus, tmp_path, capsys):
    first = trained(corpus, tmp_path)
    assert "confident" not in signatures(first)["serving_default"][1]
    capsys.readouterr()
    second = trained(corpus, tmp_path, "--coverage", "0.5")
    output = capsys.readouterr().out
    assert "nothing is trained" in output and "Epoch" not in output
    assert "confident_accuracy: 95 % interval" in output
    record = json.loads((second / "assets.extra/run.json").read_text())
    assert {"coverage", "confident_accuracy"} < set(record["scores"])
    assert 0 <= record["fitted_on_valid"]["threshold"] < 1
    assert signatures(second)["serving_default"][1]["confident"] == ("bool", [-1])
    argv = ["sentiment", "a warm film", "--saved-models", str(second.parents[1]), "--json"]
    predict.main(argv)
    response = json.loads(capsys.readouterr().out)
    is_confident = response["probability"] >= record["fitted_on_valid"]["threshold"]
    assert response["confident"] == is_confident
    assert evaluate.main([*argv[:1], "--data", str(corpus), *argv[2:4]]) == record["scores"]


def test_other_data_or_another_config_is_another_run(corpus, tmp_path):
    begun(corpus, tmp_path)
    begun(corpus, tmp_path, "--units", "9")
    with (corpus / "valid.tsv").open("a") as file:
        file.write("one more\tgood\n")
    begun(corpus, tmp_path)
    assert len(list((tmp_path / "runs/sentiment").iterdir())) == 3


def test_the_best_epoch_is_kept_and_patience_ends_a_run(corpus, tmp_path):
    mislead(corpus)
    flags = ["--epochs", "50", "--patience", "2", "--learning-rate", "0.1", "--no-calibrate"]
    version = trained(corpus, tmp_path, *flags, "--linear-path", "0")
    rows = (version / "assets.extra/history.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_loss")
    losses = [float(row.split(",")[column]) for row in rows[1:]]
    record = json.loads((version / "assets.extra/run.json").read_text())
    assert record["best_epoch"] == int(np.argmin(losses)) + 1 == len(losses) - 2 < 48
    model, task = models.load(version), train_task(version)
    valid = [line.split("\t") for line in (corpus / "valid.tsv").read_text().splitlines()]
    texts, labels = (tf.constant(column) for column in zip(*valid, strict=True))
    encoded = task.encode({"text": texts, "label": labels})
    task.compile(model, keras.optimizers.Adam())
    loss = model.evaluate(encoded["ids"].to_tensor(), encoded["label"], verbose=0)[0]
    assert loss == pytest.approx(min(losses), abs=1e-4)


def train_task(version):
    import tasks

    return tasks.find("sentiment").restore(version / "assets")


def test_a_run_in_progress_is_refused_to_another(corpus, tmp_path, capsys):
    begun(corpus, tmp_path)
    run = run_state.Run(next((tmp_path / "runs/sentiment").iterdir()))
    argv = ["sentiment", "--data", str(corpus), *SMALL, "--learning-rate", "0.03", *where(tmp_path)]
    assert "another process is training the same run" in fails(capsys, train.main, argv)
    run.close()


@pytest.mark.slow
def test_two_epochs_of_half_a_pass_learn_what_one_of_a_whole_pass_does(corpus, tmp_path):
    tokens = ["--batch-tokens", "80"]  # 4 batches of 10
    whole = fitted(trained, corpus, tmp_path / "whole", *tokens)
    half = [*tokens, "--steps-per-epoch", "2", "--epochs", "2"]
    halves = fitted(trained, corpus, tmp_path / "halves", *half)
    assert [stopped.progress.best_epoch for stopped in (whole, halves)] == [1, 2]
    fitting.assert_same(whole, halves)


@pytest.mark.parametrize(
    "cell", slow_except(["lstm_peephole"], ["rnn", "lstm_peephole", "greff_fgr", "mut1"])
)
def test_cells_of_every_kind_train_and_are_exported(corpus, tmp_path, cell):
    stopped = fitted(trained, corpus, tmp_path, "--cell", cell)
    assert stopped.model.get_layer("reader").spec == CELLS[cell]
    [response] = stopped.export(tmp_path / "exported").predict([{"text": "a warm film"}])
    assert response["label"] in (b"good", b"bad")


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_other_precisions_train_and_are_served_in_float32(corpus, tmp_path, precision):
    stopped = fitted(trained, corpus, tmp_path, "--precision", precision, "--epochs", "2")
    assert len(stopped.progress.history) == 2
    assert all(np.isfinite(list(row.values())).all() for row in stopped.progress.history)
    stopped.export(tmp_path / "exported")
    saved = (tmp_path / "exported/draft/saved_model.pb").read_bytes()
    saved = SavedModel.FromString(saved).meta_graphs[0]
    nodes = [n for f in saved.graph_def.library.function for n in f.node_def]
    types = {v.type for n in (*saved.graph_def.node, *nodes) for v in n.attr.values()}
    assert tf.float32.as_datatype_enum in types
    assert not {tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum} & types


@pytest.mark.slow
def test_a_process_killed_at_any_moment_resumes_and_equals_one_that_was_not(
    misled, straight, tmp_path
):
    command = [sys.executable, "-m", "app.train", "sentiment", "--data", str(misled), *SMALL]
    command += ["--deterministic", *where(tmp_path), *MISLED]
    killed = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while not list(tmp_path.rglob("state.npz")) and killed.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not versions.numbers(tmp_path / "saved_models/sentiment")
    resumed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming" in resumed.stdout
    assert_same(tmp_path / "saved_models/sentiment/1", straight)


def test_a_run_goes_by_what_it_was_given_in_files_too(tmp_path):
    config, names = tasks.find("sentiment").Config(), []
    for words, settings in (("a", "one"), ("a", "two"), ("b", "two")):
        (tmp_path / "words.txt").write_text(words)
        (tmp_path / "config.json").write_text(settings)  # what a run is has its settings anyway
        names.append(run_state.identity("sentiment", config, "data", tmp_path))
    assert names[0] == names[1] != names[2]


def test_examples_that_are_read_twice_count_once():
    examples = Stream(lambda: [Example({"text": "a", "label": "b"}, "1")])
    survey = pipeline._Survey(
        examples, tasks.find("sentiment").Evaluator, PartSummary(lambda e: e.values["text"])
    )
    first = [list(survey.stream()), survey.hash.hexdigest()]
    assert [list(survey.stream()), survey.hash.hexdigest()] == first
    assert (survey.count, len(survey.summary), survey.classes["b"]) == (1, 1, 1)
