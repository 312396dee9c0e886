"""Several models of a task side by side, each under its own name."""

import json
import shutil

import pytest

from app import cli, deploy, evaluate, look, models, predict, train
from app.serving import base_version, model_name, versions
from app.serving.demo import catalogue
from models import manifest
from tasks.core.errors import UserError
from tests.conftest import SMALL, where

TEXT = "a dull film"


@pytest.fixture(scope="module")
def folder(published, tmp_path_factory):
    """A version of sentiment under its own name, and two copies under the name films."""
    folder = tmp_path_factory.mktemp("named")
    saved_models = folder / "saved_models"
    shutil.copytree(published / "sentiment", saved_models / "sentiment")
    for number in (1, 2):
        shutil.copytree(published / "sentiment/1", saved_models / "films" / str(number))
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_every_command_finds_the_task_of_a_name(folder, capsys):
    predict.main(["sentiment", TEXT])
    expected = capsys.readouterr().out
    for argv in (["films", TEXT], ["films", TEXT, "--version", "1"]):
        predict.main(argv)
        assert capsys.readouterr().out == expected
    predict.main(["sentiment", "--name", "films", TEXT])
    assert capsys.readouterr().out == expected
    scores = evaluate.main(["films", "--json"])
    assert json.loads(capsys.readouterr().out)["version"] == 2 and scores
    compared = evaluate.main(["films", "--compare", "1", "sentiment/1"])
    output = capsys.readouterr().out
    assert "films/1 and sentiment/1 on" in output and compared == scores
    page = look.main(["films", TEXT])
    assert page.parent.name == "films" and "films, version 2" in (page / "index.html").read_text()


def test_a_file_of_settings_names_the_folder_of_a_model(folder, tmp_path, capsys):
    predict.main(["films", TEXT])
    expected = capsys.readouterr().out
    (folder / "saved_models").rename(folder / "other")
    try:
        (tmp_path / "settings").write_text("saved_models: other")
        predict.main(["films", TEXT, "--config", str(tmp_path / "settings")])
        assert capsys.readouterr().out == expected
    finally:
        (folder / "other").rename(folder / "saved_models")


def test_versions_that_are_compared_are_named_once():
    with pytest.raises(UserError, match="--compare names its versions; omit --version"):
        evaluate.main(["films", "--compare", "1", "2", "--version", "1"])


def test_the_page_has_both_models_with_their_task(folder):
    local = catalogue.local(folder / "saved_models", [])
    assert [(m.name, m.task, m.may_inspect) for m in local] == [
        ("films", "sentiment", True), ("sentiment", "sentiment", True),
    ]  # fmt: skip
    assert catalogue.examples(local[0]) == catalogue.examples(local[1]) != []


def test_deployment_and_labels_are_by_name(folder, capsys):
    deploy.main(["--stable", "films=1"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert rows == [["films", "1", "2"], ["sentiment", "1", "1"]]
    deploy.main(["--check"])
    assert "ok  saved_models/films/2" in capsys.readouterr().out
    models.main(["films"])
    assert [line.split()[:3] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["films", "1", "sentiment"], ["films", "2", "sentiment"],
    ]  # fmt: skip


def test_a_server_is_asked_for_the_name(folder, monkeypatch):
    connected = []
    monkeypatch.setattr("app.serving.client.connect", lambda *args: connected.append(args) or 1 / 0)
    for argv in (["films", TEXT], ["sentiment", TEXT, "--name=films"], ["sentiment", TEXT]):
        with pytest.raises(ZeroDivisionError):
            predict.main([*argv, "--server", "http://localhost:1"])
    assert [args[1] for args in connected] == ["films", "films", "sentiment"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Films", "must begin with a lower-case letter"),
        ("1", "must begin with a lower-case letter"),
        ("", "must begin with a lower-case letter"),
        ("../films", "must begin with a lower-case letter"),
        ("f" * 64, "must begin with a lower-case letter"),
        ("films\n", "must begin with a lower-case letter"),
        ("translation", "must not be the name of a task other than tagging"),
        ("encoded", "must not be encoded: runs/encoded holds"),
        ("gradients", "must not be gradients"),
        ("films", "holds versions of the task sentiment, not of tagging"),
        ("sentiment", "must not be the name of a task other than"),
    ],
)
def test_a_name_is_checked_before_anything_is_read(name, message, monkeypatch):
    monkeypatch.setattr("app.training.pipeline.train", None)
    with pytest.raises(UserError, match=message):
        train.main(["tagging", f"--name={name}", "--data=nowhere"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["film", TEXT], r"film is not a task, and saved_models has no model by that name"),
        (["films", TEXT, "--name", "films"], "films is already the name of a model"),
        (["tagging", TEXT, "--name", "films"], "is a version of the task sentiment, not of taggi"),
        (["sentiment", TEXT, "--name", "news"], "app.train sentiment --name news"),
        (["strange", TEXT], "has no record of its task; give the task and --name strange"),
    ],
)
def test_a_name_without_a_model_of_the_task_is_an_error(argv, message, folder):
    (folder / "saved_models/strange/1").mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=message):
        predict.main(argv)
    shutil.rmtree(folder / "saved_models/strange")


def test_a_version_to_continue_is_named_by_model_and_number(folder):
    saved_models = folder / "saved_models"
    named = base_version.find("films/1", "sentiment", saved_models)
    assert named.folder == saved_models / "films/1"
    number = base_version.find("1", "sentiment", saved_models, "films")
    assert number.folder == named.folder
    with pytest.raises(UserError, match="such as sentiment/1"):
        base_version.find("1", "sentiment", saved_models, "news")


def test_a_model_is_trained_and_published_under_its_name(corpus, tmp_path, capsys):
    argv = ["sentiment", "--data", str(corpus), *SMALL, *where(tmp_path), "--name", "films"]
    version = train.main(argv)
    output = capsys.readouterr().out
    assert version == tmp_path / "saved_models/films/1"
    assert [path.name for path in (tmp_path / "saved_models").iterdir()] == ["films"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["encoded", "films"]
    assert "--name=films" in output.split("repeat ")[1]
    record = versions.record(version)
    assert (record["task"], record["name"]) == ("sentiment", "films")
    manifest.verify(version)
    from app.serving import warmup

    warmup.replay(version)
    assert base_version.find("films/1", "sentiment", tmp_path / "saved_models").record() == {
        "version": "films/1",
        "manifest_sha256": base_version.find(str(version), "sentiment", tmp_path).sha256,
    }


def test_names_of_unpublished_models_are_left_to_the_parser(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_name.with_task(["poetry", "x"]) == ["poetry", "x"]
    with pytest.raises(SystemExit):
        cli.run(lambda: predict.main(["poetry", "x"]))
