"""Configuration files of a server: written, kept where they were edited, checked."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from app import cli, deploy

ROOT = Path(__file__).parents[2]
TASKS = ("sentiment", "tagging")
FILES = ("models.config", "batching.config", "monitoring.config", "docker-compose.yml")


@pytest.fixture(scope="module")
def published(tmp_path_factory, untrained_copy):
    """Two versions of sentiment and one of tagging."""
    folder = tmp_path_factory.mktemp("published") / "saved_models"
    for task in TASKS:
        untrained_copy(task, folder)
    untrained_copy("sentiment", folder, cell="gru")
    return folder


@pytest.fixture
def run(published, tmp_path, capsys):
    """Runs the command on a copy of the published versions; returns its output."""
    shutil.copytree(published, tmp_path / "saved_models")

    def run_command(*argv):
        paths = ["--saved-models", str(tmp_path / "saved_models"), "--to", str(tmp_path / "to")]
        deploy.main([*paths, *argv])
        return capsys.readouterr().out

    return run_command


def settings_by_model(folder):
    """Labels, versions, path and platform of each model, parsed by the server's own message."""
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


def test_every_published_model_is_served_under_labels(run, tmp_path):
    output = run()
    expected = {
        task: ({"stable": 1, "canary": 1}, [1], f"/models/{task}", "tensorflow") for task in TASKS
    }
    expected["sentiment"] = ({"stable": 2, "canary": 2}, [2], "/models/sentiment", "tensorflow")
    assert settings_by_model(tmp_path) == expected
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == sorted(FILES)
    assert ["sentiment", "2", "2"] in [line.split() for line in output.splitlines()]


def test_files_that_stay_as_they_are_are_reported_as_unchanged(run, tmp_path):
    assert [line.split()[0] for line in run().splitlines()[:4]] == ["written"] * 4
    assert [line.split()[0] for line in run().splitlines()[:4]] == ["unchanged"] * 4
    (tmp_path / "to/monitoring.config").write_text("# edited")
    assert "kept" in run()
    output = run("--stable", "sentiment=1", "--memory", "2g")
    assert [line.split()[0] for line in output.splitlines()[:4]] == [
        "written",
        "unchanged",
        "kept",
        "written",
    ]


def test_a_new_version_is_a_canary_until_it_is_made_stable(run, tmp_path):
    run("--stable", "sentiment=1")
    assert settings_by_model(tmp_path)["sentiment"][:2] == ({"stable": 1, "canary": 2}, [1, 2])
    shutil.copytree(tmp_path / "saved_models/sentiment/2", tmp_path / "saved_models/sentiment/3")
    run()
    assert settings_by_model(tmp_path)["sentiment"][:2] == ({"stable": 1, "canary": 3}, [1, 3])
    run("--stable", "sentiment=3")
    assert settings_by_model(tmp_path)["sentiment"][:2] == ({"stable": 3, "canary": 3}, [3])
    run("--stable", "sentiment=1", "--canary", "sentiment=1")
    assert settings_by_model(tmp_path)["sentiment"][:2] == ({"stable": 1, "canary": 1}, [1])
    before = (tmp_path / "to/models.config").read_bytes()
    shutil.rmtree(tmp_path / "saved_models/sentiment/1")
    with pytest.raises(cli.UserError, match=r"stable version 1 of sentiment .* one of \[2, 3\]"):
        run()
    assert (tmp_path / "to/models.config").read_bytes() == before
    run("--stable", "sentiment=3")
    assert settings_by_model(tmp_path)["sentiment"][:2] == ({"stable": 3, "canary": 3}, [3])


def test_a_model_that_is_gone_is_named(run, tmp_path):
    assert "left out" not in run()
    shutil.rmtree(tmp_path / "saved_models/tagging")
    assert "left out: tagging, which was served and has no version any more" in run()
    assert list(settings_by_model(tmp_path)) == ["sentiment"]
    assert "left out" not in run()


def test_files_behind_links_are_written_and_find_the_models(run, tmp_path):
    (tmp_path / "elsewhere/below").mkdir(parents=True)
    (tmp_path / "to").symlink_to("elsewhere/below")
    (tmp_path / "elsewhere/below/models.config").symlink_to("../etc")
    run()
    run("--stable", "sentiment=1")
    assert (tmp_path / "to/models.config").is_symlink()
    assert settings_by_model(tmp_path)["sentiment"][0]["stable"] == 1
    assert "ok" in run("--check")
    with pytest.raises(cli.UserError, match="--stable must name each model once, got sentiment"):
        run("--stable", "sentiment=1", "--stable", "sentiment=2")


def test_the_configuration_is_written_without_tensorflow(tmp_path):
    (tmp_path / "my model/1").mkdir(parents=True)
    (tmp_path / "my model/1/saved_model.pb").touch()
    program = (
        "import sys; from app import deploy; deploy.main(sys.argv[1:]); "
        "print('tensorflow' in sys.modules)"
    )
    argv = ["--saved-models", str(tmp_path), "--to", str(tmp_path / "to"), "--kubernetes"]
    result = subprocess.run(
        [sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True
    )
    assert result.stdout.splitlines()[-1] == "False" and not result.stderr
    # Probes are requests for a URL.
    assert "path: /v1/models/my%20model" in (tmp_path / "to/kubernetes.yaml").read_text()


@pytest.mark.parametrize("pair", ["sentiment=7", "sentiment", "sentiments=1", "=1"])
def test_a_label_for_a_version_that_is_not_published_is_rejected(run, pair):
    with pytest.raises(cli.UserError, match=r"--stable .*must .* one of|--stable must name"):
        run("--stable", pair)


def test_an_empty_folder_of_saved_models_is_rejected(tmp_path):
    with pytest.raises(cli.UserError, match="holds no published model"):
        deploy.main(["--saved-models", str(tmp_path)])


def test_a_folder_whose_name_is_not_an_ascii_number_is_not_a_version(run, tmp_path):
    (tmp_path / "saved_models/sentiment/\u00b2").mkdir()
    run()
    assert settings_by_model(tmp_path)["sentiment"][1] == [2]


def test_edited_files_are_kept(run, tmp_path):
    run()
    batching = tmp_path / "to/batching.config"
    edited = batching.read_text().replace("value: 32", "value: 16")
    batching.write_text(edited)
    assert f"kept      {batching}, because it was edited" in run()
    assert batching.read_text() == edited
    models = tmp_path / "to/models.config"
    models.write_text("# mine\n" + models.read_text())
    run()
    with pytest.raises(cli.UserError, match="was edited by hand, so it is kept"):
        run("--stable", "sentiment=1")
    assert models.read_text().startswith("# mine\n")


def test_limits_of_an_edited_file_stay(run, tmp_path):
    run("--memory", "8g", "--cpus", "6", "--kubernetes")
    compose = tmp_path / "to/docker-compose.yml"
    compose.write_text("# mine\n" + compose.read_text())
    batching = (tmp_path / "to/batching.config").read_text()
    assert "8g of memory, 6 processors and 6 threads" in run()
    assert (tmp_path / "to/batching.config").read_text() == batching
    assert "4g of memory, 6 processors" in run("--memory", "4g")
    compose.write_text(compose.read_text().replace("mem_limit: 8g", "mem_limit: much"))
    with pytest.raises(cli.UserError, match=r"has no limits of .*: give --memory and --cpus"):
        run("--cpus", "2")
    assert "4g of memory, 2 processors" in run("--memory", "4g", "--cpus", "2")


def test_edited_files_are_kept_whatever_their_bytes(run, tmp_path):
    run()
    batching = tmp_path / "to/batching.config"
    batching.write_bytes(b"\xff\xfe")
    assert f"kept      {batching}" in run()
    assert batching.read_bytes() == b"\xff\xfe"


def test_the_service_is_reachable_from_this_machine_alone_and_finds_its_files(run, tmp_path):
    run()
    content = yaml.safe_load((tmp_path / "to/docker-compose.yml").read_text())
    service = content["services"]["serving"]
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    sources = {}
    for volume in service["volumes"]:
        assert volume["type"] == "bind" and volume["read_only"] is True
        sources[volume["target"]] = (tmp_path / "to" / volume["source"]).resolve()
    assert sources == {
        "/models": (tmp_path / "saved_models").resolve(),
        "/deploy": (tmp_path / "to").resolve(),
    }
    files = [flag.split("=")[1] for flag in service["command"] if "_file=" in flag]
    assert sorted(files) == [f"/deploy/{name}" for name in sorted(FILES[:3])]


def test_the_container_has_no_more_rights_than_it_needs(run, tmp_path):
    def service():
        content = yaml.safe_load((tmp_path / "to/docker-compose.yml").read_text())
        return content["services"]["serving"]

    run()
    written = service()
    assert written["read_only"] is True and written["tmpfs"] == ["/tmp:size=64m,mode=1777"]
    assert written["user"].split(":")[0] not in ("", "0", "root")
    assert (written["mem_limit"], written["memswap_limit"]) == ("4g", "4g")
    assert written["cpus"] == 2.0 and written["pids_limit"] == 1024
    assert written["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    output = run("--memory", "900m", "--cpus", "2.5")
    assert "may use 900m of memory, 2.5 processors" in output
    for kind in ("intra", "inter"):  # threads of the server, not of this machine
        assert f"--tensorflow_{kind}_op_parallelism=3" in service()["command"]
    run("--cpus", "1.5")
    assert (service()["mem_limit"], service()["cpus"]) == ("900m", 1.5)
    run("--cpus", "2")  # the other limit is kept
    assert (service()["mem_limit"], service()["cpus"]) == ("900m", 2.0)
    run()
    assert (service()["mem_limit"], service()["cpus"]) == ("900m", 2.0)


def test_a_pod_has_the_files_and_the_restrictions_of_the_container(run, tmp_path):
    assert "kubernetes.yaml" not in run()
    run("--kubernetes", "--memory", "900m", "--cpus", "1.5")
    path = tmp_path / "to/kubernetes.yaml"
    objects = {each["kind"]: each for each in yaml.safe_load_all(path.read_text())}
    assert list(objects) == ["ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler"]
    (name,) = {each["metadata"]["name"] for each in objects.values()}
    data = objects["ConfigMap"]["data"]
    assert data == {file: (tmp_path / "to" / file).read_text() for file in FILES[:3]}
    assert "num_batch_threads {\n  value: 2\n}" in data["batching.config"]  # 1.5 processors

    compose = yaml.safe_load((tmp_path / "to/docker-compose.yml").read_text())
    service = compose["services"]["serving"]
    pod = objects["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert (container["image"], container["args"]) == (service["image"], service["command"])
    assert container["resources"]["limits"] == {"memory": "900Mi", "cpu": "1500m"}
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {"/models": "models", "/deploy": "config", "/tmp": "tmp"}
    assert {volume["name"] for volume in pod["spec"]["volumes"]} == set(mounts.values())
    assert container["readinessProbe"]["httpGet"]["path"] == f"/v1/models/{min(TASKS)}"

    labels = pod["metadata"]["labels"]
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["Service"]["spec"]["type"] == "ClusterIP"
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {p["targetPort"] for p in objects["Service"]["spec"]["ports"]} == set(ports)
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}

    assert f"written   {path}" in run("--stable", "sentiment=1")  # without the flag
    config_map = next(yaml.safe_load_all(path.read_text()))
    assert config_map["data"]["models.config"] == (tmp_path / "to/models.config").read_text()
    assert f"unchanged {path}" in run()
    path.write_text(path.read_text() + "# mine\n")
    assert f"kept      {path}" in run("--stable", "sentiment=2")


@pytest.mark.parametrize(
    "flags",
    [("--memory", value) for value in ("", "4", "0g", "4k", "4 g", "\u0664g", "9" * 9 + "g")]
    + [("--cpus", value) for value in ("0", "-1", "nan", "inf", "1e9")],
    ids="=".join,
)
def test_limits_out_of_range_are_rejected(run, tmp_path, flags):
    with pytest.raises(cli.UserError, match=f"{flags[0]} must be "):
        run(*flags)
    assert not (tmp_path / "to").exists()


def test_files_as_written_pass_the_check(run):
    run()
    lines = run("--check").splitlines()
    assert len(lines) == len(FILES) + len(TASKS) + 1
    assert all(line.startswith("ok") for line in lines)


def replace(name, old, new):
    """Returns a function that replaces a text, which must be present, in one of the files."""

    def mutate(folder):
        path = folder / "to" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return mutate


def model_text(folder, name):
    """The part of models.config that is about a model."""
    text = (folder / "to/models.config").read_text()
    [part] = [part for part in text.split("  config {") if f'name: "{name}"' in part]
    end = part.rindex("  }")
    return f"  config {{{part[:end]}  }}\n"


@pytest.mark.parametrize("name", ["a:b/sm$HOME", "$$ '", "caf\u00e9 ["])
def test_models_are_mounted_from_a_folder_of_any_name(published, tmp_path, capsys, name):
    saved_models = tmp_path / name
    # The check replays the warm-up requests of each version; this one has the fewest.
    shutil.copytree(published / "sentiment/1", saved_models / "sentiment/1")
    deploy.main(["--saved-models", str(saved_models), "--to", str(tmp_path / "to")])
    content = yaml.safe_load((tmp_path / "to/docker-compose.yml").read_text(encoding="utf-8"))
    source = content["services"]["serving"]["volumes"][0]["source"]
    # Compose replaces $NAME and ${NAME} by variables, and $$ by $.
    assert "$" not in source.replace("$$", "")
    assert (tmp_path / "to" / source.replace("$$", "$")).samefile(saved_models)
    deploy.main(["--saved-models", str(saved_models), "--to", str(tmp_path / "to"), "--check"])
    assert "docker-compose.yml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (lambda folder: (folder / "to/models.config").unlink(), "models.config cannot be read"),
        (replace("models.config", "base_path", "base_paths"), 'no field named "base_paths"'),
        (replace("models.config", "/models/sentiment", "/models/other"), "base_path of sentiment"),
        (replace("models.config", "versions: 2", "versions: 5"), "5 of sentiment is not published"),
        (
            replace("models.config", "versions: 2", "versions: 1"),
            r"is for version 2, but only \[1\] are served",
        ),
        (replace("batching.config", "value: 32", "value: many"), "batching.config: "),
        (replace("batching.config", "max_batch_size", "max_batch_sizes"), "max_batch_sizes"),
        (replace("batching.config", "value: 32", "value: 0"), "max_batch_size must be at least"),
        (replace("batching.config", "true", "false"), "pad_variable_length_inputs must be"),
        (
            replace("batching.config", "pad_var", "allowed_batch_sizes: 8\npad_var"),
            r"must be ascending and end with max_batch_size, 32, got \[8\]",
        ),
        (replace("monitoring.config", "enable: true", "enable: maybe"), "monitoring.config: "),
        (replace("docker-compose.yml", "127.0.0.1:", "0.0.0.0:"), "begins with 127.0.0.1:"),
        (replace("docker-compose.yml", "saved_models\n", "lost\n"), "lost is not a folder"),
        (replace("docker-compose.yml", "saved_models\n", "$HOME\n"), r"write \$\$ for \$"),
        (
            lambda folder: replace("models.config", model_text(folder, "tagging"), "")(folder),
            "tagging is published, but it is not configured",
        ),
        (replace("docker-compose.yml", "/deploy/batching", "/deploy/b"), "any of the volumes"),
        (replace("docker-compose.yml", "/deploy/batching", "/b/batching"), "any of the volumes"),
        (replace("docker-compose.yml", "services:", "service:"), "services must be a mapping"),
        (replace("docker-compose.yml", "services:", "services: ["), "docker-compose.yml: "),
        (
            lambda folder: (folder / "saved_models/tagging/1/assets/words.txt").write_text("x"),
            r"words\.txt is not what was published",
        ),
    ],
)
def test_the_check_reports_errors(run, tmp_path, mutate, message):
    run()
    mutate(tmp_path)
    with pytest.raises(cli.UserError, match=message):
        run("--check")


def test_the_check_replays_the_warm_up_requests(run, tmp_path):
    """A warm-up request that fails keeps the server from loading the version."""
    from app.serving import warmup
    from models import manifest

    run()
    version = tmp_path / "saved_models/tagging/1"
    path = version / warmup.PATH
    content = path.read_bytes()
    path.write_bytes(content.replace(b"serving_default", b"serving_defaulz"))
    manifest.write(version)
    with pytest.raises(cli.UserError, match="cannot be read"):  # the checksum of the record
        run("--check")
    path.write_bytes(content[:-3])
    manifest.write(version)
    with pytest.raises(cli.UserError, match="cannot be read"):
        run("--check")
    warmup.write(version, "tagging", {}, [{}])
    manifest.write(version)
    with pytest.raises(cli.UserError, match="holds no request"):
        run("--check")
