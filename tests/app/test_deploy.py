"""What a server is started with: written, kept where it was edited, checked."""

import shutil

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from app import cli, deploy
from tests.support import untrained

TASKS = ("sentiment", "tagging")
FILES = ("models.config", "batching.config", "monitoring.config", "docker-compose.yml")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Two versions of sentiment and one of tagging."""
    folder = tmp_path_factory.mktemp("published") / "saved_models"
    for task in TASKS:
        untrained.version(task, folder)
    untrained.version("sentiment", folder, cell="gru")
    return folder


@pytest.fixture
def run(published, tmp_path, capsys):
    """Runs the verb on a copy of what is published, and gives what it printed."""
    shutil.copytree(published, tmp_path / "saved_models")

    def deployed(*argv):
        places = ["--saved-models", str(tmp_path / "saved_models"), "--to", str(tmp_path / "to")]
        deploy.main([*places, *argv])
        return capsys.readouterr().out

    return deployed


def labels(folder):
    """By model its labels, as the server's own message reads them."""
    text = (folder / "to/models.config").read_text()
    settings = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return {
        model.name: (
            dict(model.version_labels),
            list(model.model_version_policy.specific.versions),
            model.base_path,
            model.model_platform,
        )
        for model in settings.model_config_list.config
    }


def test_all_that_is_published_is_served_under_labels(run, tmp_path):
    told = run()
    want = {
        task: ({"stable": 1, "canary": 1}, [1], f"/models/{task}", "tensorflow") for task in TASKS
    }
    want["sentiment"] = ({"stable": 2, "canary": 2}, [2], "/models/sentiment", "tensorflow")
    assert labels(tmp_path) == want
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == sorted(FILES)
    assert ["sentiment", "2", "2"] in [line.split() for line in told.splitlines()]


def test_a_new_version_is_a_canary_until_it_is_told_to_be_stable_and_back(run, tmp_path):
    run("--stable", "sentiment=1")
    assert labels(tmp_path)["sentiment"][:2] == ({"stable": 1, "canary": 2}, [1, 2])
    shutil.copytree(tmp_path / "saved_models/sentiment/2", tmp_path / "saved_models/sentiment/3")
    run()
    assert labels(tmp_path)["sentiment"][:2] == ({"stable": 1, "canary": 3}, [1, 3])
    run("--stable", "sentiment=3")
    assert labels(tmp_path)["sentiment"][:2] == ({"stable": 3, "canary": 3}, [3])
    run("--stable", "sentiment=1", "--canary", "sentiment=1")
    assert labels(tmp_path)["sentiment"][:2] == ({"stable": 1, "canary": 1}, [1])
    shutil.rmtree(tmp_path / "saved_models/sentiment/1")
    run()
    assert labels(tmp_path)["sentiment"][:2] == ({"stable": 3, "canary": 3}, [3])


@pytest.mark.parametrize("pair", ["sentiment=7", "sentiment", "sentiments=1", "=1"])
def test_a_version_that_is_not_there_is_told(run, pair):
    with pytest.raises(cli.UserError, match=r"--stable .*must .* one of|--stable must name"):
        run("--stable", pair)


def test_nothing_published_is_told(tmp_path):
    with pytest.raises(cli.UserError, match="holds no published model"):
        deploy.main(["--saved-models", str(tmp_path)])


def test_what_is_edited_is_kept(run, tmp_path):
    run()
    batching = tmp_path / "to/batching.config"
    edited = batching.read_text().replace("value: 32", "value: 16")
    batching.write_text(edited)
    assert f"kept      {batching}" in run()
    assert batching.read_text() == edited
    models = tmp_path / "to/models.config"
    models.write_text("# mine\n" + models.read_text())
    run()
    with pytest.raises(cli.UserError, match="was edited by hand, so it is kept"):
        run("--stable", "sentiment=1")
    assert models.read_text().startswith("# mine\n")


def test_the_service_is_reached_from_this_machine_alone_and_finds_its_files(run, tmp_path):
    run()
    service = yaml.safe_load((tmp_path / "to/docker-compose.yml").read_text())["services"][
        "serving"
    ]
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    volumes = dict(volume.removesuffix(":ro").split(":")[::-1] for volume in service["volumes"])
    assert {
        inside: (tmp_path / "to" / outside).resolve() for inside, outside in volumes.items()
    } == {
        "/models": (tmp_path / "saved_models").resolve(),
        "/deploy": (tmp_path / "to").resolve(),
    }
    files = [flag.split("=")[1] for flag in service["command"] if "_file=" in flag]
    assert sorted(files) == [f"/deploy/{name}" for name in sorted(FILES[:3])]


def test_what_is_written_passes_the_check(run, published):
    run()
    told = run("--check").splitlines()
    assert len(told) == len(FILES) + len(TASKS) + 1
    assert all(line.startswith("ok") for line in told)


def replaced(name, old, new):
    """A mutation: in one file of `to`, one text for another, which must be there."""

    def mutate(folder):
        path = folder / "to" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return mutate


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (lambda folder: (folder / "to/models.config").unlink(), "models.config cannot be read"),
        (replaced("models.config", "base_path", "base_paths"), 'no field named "base_paths"'),
        (replaced("models.config", "/models/sentiment", "/models/other"), "base_path of sentiment"),
        (replaced("models.config", "versions: 2", "versions: 5"), "sentiment 5 is not published"),
        (
            replaced("models.config", "versions: 2", "versions: 1"),
            "is for 2, and \\[1\\] are served",
        ),
        (replaced("batching.config", "value: 32", "value: many"), "batching.config: "),
        (replaced("batching.config", "max_batch_size", "max_batch_sizes"), "max_batch_sizes"),
        (replaced("batching.config", "value: 32", "value: 0"), "max_batch_size must be at least"),
        (replaced("batching.config", "true", "false"), "pad_variable_length_inputs must be"),
        (
            replaced("batching.config", "pad_var", "allowed_batch_sizes: 8\npad_var"),
            "allowed_batch_sizes must rise to max_batch_size, 32, got \\[8\\]",
        ),
        (replaced("monitoring.config", "enable: true", "enable: maybe"), "monitoring.config: "),
        (replaced("docker-compose.yml", "127.0.0.1:", "0.0.0.0:"), "must begin with 127.0.0.1"),
        (replaced("docker-compose.yml", "saved_models:", "lost:"), "lost, which is no folder"),
        (replaced("docker-compose.yml", "/deploy/batching", "/deploy/b"), "none of the volumes"),
        (replaced("docker-compose.yml", "services:", "service:"), "services must be a mapping"),
        (replaced("docker-compose.yml", "services:", "services: ["), "docker-compose.yml: "),
        (
            lambda folder: (folder / "saved_models/tagging/1/assets/words.txt").write_text("x"),
            r"words\.txt is not what was published",
        ),
    ],
)
def test_the_check_tells_what_is_wrong(run, tmp_path, mutate, message):
    run()
    mutate(tmp_path)
    with pytest.raises(cli.UserError, match=message):
        run("--check")


def test_the_check_asks_what_the_server_will_ask(run, tmp_path):
    """A warm-up request that fails keeps the server from taking the version."""
    from app.serving import warmup
    from models import manifest

    run()
    version = tmp_path / "saved_models/tagging/1"
    place = version / warmup.PLACE
    whole = place.read_bytes()
    place.write_bytes(whole.replace(b"serving_default", b"serving_defaulz"))
    manifest.write(version)
    with pytest.raises(cli.UserError, match="cannot be read"):  # the record's own checksum
        run("--check")
    place.write_bytes(whole[:-3])
    manifest.write(version)
    with pytest.raises(cli.UserError, match="cannot be read"):
        run("--check")
    warmup.write(version, "tagging", {}, [{}])
    manifest.write(version)
    with pytest.raises(cli.UserError, match="holds no request"):
        run("--check")
