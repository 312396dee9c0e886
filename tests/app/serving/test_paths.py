"""Versions in folders whose names mean something to TensorFlow, a shell or a browser."""

import shutil
from pathlib import Path

import pytest

import models
from app import predict
from app.serving import session
from tasks.core.errors import UserError

FIXTURE = Path(__file__).parents[2] / "fixtures" / "published"
NAMES = ["out[1]", "out[", "a\\b", "a*b?", "a{b,c}", "a:b", "$HOME", "a b", "caf\u00e9", "%s", "-x"]


@pytest.mark.parametrize("name", NAMES)
def test_a_version_is_used_in_a_folder_of_any_name(name, tmp_path, monkeypatch, capsys):
    shutil.copytree(FIXTURE, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    predict.main(["sentiment", "a dull film", f"--saved-models={name}"])
    assert capsys.readouterr().out.split()[0] in ("positive", "negative")
    assert models.load(f"{name}/sentiment/1").count_params() > 0


def test_where_no_link_can_be_created_the_cause_is_reported(tmp_path, monkeypatch):
    def symlink_to(self, target, target_is_directory):
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", symlink_to)
    with pytest.raises(UserError, match=r"reads the \[ in its path as a pattern"):
        session.SavedModelSession(tmp_path / "out[1]")
