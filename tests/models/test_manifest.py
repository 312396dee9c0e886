"""The manifest tells every damage, by file."""

import json
import shutil

import pytest

import models
from app import cli, predict
from app.serving import versions
from models import manifest


@pytest.fixture(scope="module")
def published(tmp_path_factory, untrained_copy):
    folder = tmp_path_factory.mktemp("manifest")
    untrained_copy("sentiment", folder)
    return folder


@pytest.fixture
def version(published, tmp_path):
    return shutil.copytree(published, tmp_path / "saved_models") / "sentiment/1"


def test_every_file_is_listed_by_the_hash_that_others_compute(version):
    record = json.loads((version / manifest.PLACE).read_text())
    files = {str(path.relative_to(version)) for path in version.rglob("*") if path.is_file()}
    assert files == {*record, str(manifest.PLACE)}
    assert "saved_model.pb" in record and "assets.extra/model.keras" in record
    manifest.verify(version)


def test_any_damage_is_reported_by_file(version):
    for name in json.loads((version / manifest.PLACE).read_text()):
        file = version / name
        whole = file.read_bytes()
        for trouble in (whole[:-1], whole + b"x", whole[:-1] + bytes([whole[-1] ^ 1])):
            file.write_bytes(trouble)
            with pytest.raises(manifest.Damage, match=f"{name} is not what was published"):
                manifest.verify(version)
        file.unlink()
        with pytest.raises(manifest.Damage, match=f"{name} is missing"):
            manifest.verify(version)
        file.write_bytes(whole)
    (version / "variables/more").write_text("")
    with pytest.raises(manifest.Damage, match="variables/more was not published"):
        manifest.verify(version)
    (version / "variables/more").unlink()
    manifest.verify(version)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "is missing"), ("{", "is not a manifest"), ("[]", "must be an obj")],
)
def test_an_invalid_manifest_is_an_error(version, text, message):
    place = version / manifest.PLACE
    place.unlink() if text is None else place.write_text(text)
    with pytest.raises(manifest.Damage, match=message):
        manifest.verify(version)


def test_nothing_damaged_is_loaded(version, capsys):
    models.load(version)
    with (version / "assets/words.txt").open("a") as file:
        file.write("more\n")
    for path in (version, version / "assets.extra/model.keras"):
        with pytest.raises(manifest.Damage, match=r"words\.txt"):
            models.load(path)
    for ask in (
        lambda: predict.main(["sentiment", "x", "--saved-models", str(version.parents[1])]),
        lambda: versions.find(version.parents[1], "sentiment"),
    ):
        with pytest.raises(cli.UserError, match=r"words\.txt"):
            ask()


def test_a_model_that_was_taken_along_alone_is_loaded(version, tmp_path):
    models.load(shutil.copy(version / "assets.extra/model.keras", tmp_path))


def test_a_manifest_that_is_nested_too_deeply_is_damaged(tmp_path):
    file = tmp_path / manifest.PLACE
    file.parent.mkdir()
    file.write_text("[" * 100_000)
    with pytest.raises(manifest.Damage, match="is not a manifest: it is nested too deeply"):
        manifest.verify(tmp_path)
