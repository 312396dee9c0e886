"""Malformed configuration files: every one is reported with its path, none ends in a traceback."""

import copy
import http.server
import subprocess
import threading

import pytest
import yaml

from app.serving import deployment, deployment_checks, server_config

PUBLISHED = {"sentiment": [1, 2]}
NOT_MAPPINGS = [None, True, 3, 1.5, "text", [], ["text"]]
NOT_LISTS = [None, True, 3, 1.5, "text", {}, {"key": "value"}]
VARIABLES = ["$HOME", "${HOME}", "$", "$$$", "a$$$b", "a$b$$"]
NOT_STRINGS = [None, True, 3, 1.5, [], ["text"], {}, {"key": "value"}]


@pytest.fixture
def folder(tmp_path):
    """Folder with valid files, beside an empty folder of saved models."""
    (tmp_path / "saved_models").mkdir()
    labels = {"sentiment": {"stable": 1, "canary": 2}}
    limits = server_config.Limits()
    list(deployment.write(tmp_path / "deploy", tmp_path / "saved_models", labels, limits))
    return tmp_path / "deploy"


def errors_of(folder):
    """The errors in the files of a folder, by file name."""
    results = deployment_checks.files(folder, PUBLISHED)
    return {path.name: errors for path, errors in results if errors}


def compose_errors(folder, text):
    """The errors when the Compose file has this text; the other files are valid."""
    path = folder / server_config.COMPOSE
    path.write_text(text, encoding="utf-8")
    errors = errors_of(folder)
    assert errors.keys() == {server_config.COMPOSE}, text
    for error in errors[server_config.COMPOSE]:
        assert error.startswith(f"{path}: ")
    return errors[server_config.COMPOSE]


def with_value(keys, value):
    """The text of the Compose file with another value at a path of keys."""
    content = copy.deepcopy(server_config.compose("../saved_models"))
    parent = content
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = value
    return yaml.safe_dump(content)


SERVICE = ("services", "serving")


def test_files_as_written_have_no_errors(folder):
    assert errors_of(folder) == {}


@pytest.mark.parametrize(
    ("keys", "values", "message"),
    [
        (("services",), [*NOT_MAPPINGS, {}], "services must be a mapping with at least one"),
        (SERVICE, NOT_MAPPINGS, "service serving must be a mapping, got "),
        ((*SERVICE, "ports"), NOT_LISTS, "service serving: ports must be a list, got "),
        ((*SERVICE, "volumes"), NOT_LISTS, "service serving: volumes must be a list, got "),
        ((*SERVICE, "command"), NOT_LISTS, "service serving: command must be a list, got "),
        ((*SERVICE, "ports", 0), [*NOT_STRINGS, "", ":", "8500"], "a port must be a string that"),
        (
            (*SERVICE, "volumes", 0),
            [
                *NOT_STRINGS[:-2],
                *(f"{source}:/other:ro" for source in ("a:b", "a:b/c")),
                "",
                ":",
                "::",
                ":/deploy",
                ".",
                ".:",
                ".:deploy",
                ".:/deploy:a:b",
            ],
            "a volume must be a string SOURCE:TARGET",
        ),
        (
            (*SERVICE, "volumes", 0),
            [
                {},
                {"key": "value"},
                {"type": "volume", "source": ".", "target": "/other"},
                {"type": "bind", "source": 3, "target": "/other"},
                {"type": "bind", "source": "."},
                {"type": "bind", "source": ".", "target": ""},
            ],
            "a volume must have the type bind, a source and a target",
        ),
        (
            (*SERVICE, "volumes", 0),
            [
                *(f"{source}:/other:ro" for source in VARIABLES),
                *({"type": "bind", "source": s, "target": "/other"} for s in VARIABLES),
                {"type": "bind", "source": ".", "target": "/$HOME"},
            ],
            "write $$ for $",
        ),
        ((*SERVICE, "command", 0), [f"--rest_api_port={v}" for v in VARIABLES], "write $$ for $"),
        ((*SERVICE, "command", 0), NOT_STRINGS, "a flag of the command must be a string, got "),
    ],
    ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else None,
)
def test_a_value_of_the_wrong_type_is_reported_at_every_level(folder, keys, values, message):
    for value in values:
        assert any(message in error for error in compose_errors(folder, with_value(keys, value)))


@pytest.mark.parametrize("name", [None, 1, True, 1.5])
def test_a_service_name_that_is_not_a_string_is_reported(folder, name):
    [error] = compose_errors(folder, yaml.safe_dump({"services": {name: {}}}))
    assert f"the name of a service must be a string, got {name!r}" in error


@pytest.mark.parametrize("value", NOT_MAPPINGS)
def test_a_file_that_is_not_a_mapping_is_reported(folder, value):
    [error] = compose_errors(folder, yaml.safe_dump(value))
    assert f"the file must be a mapping, got {value!r}" in error


@pytest.mark.parametrize(
    "text",
    [
        "services: [",
        "a: 1\n---\nb: 2\n",
        "? [a]\n: b\n",
        "a: *b\n",
        "\tservices: {}\n",
        "a: \x00",
        "a: !!int ''",
        "a: !!float ''",
        "a: !!int x",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: 2026-13-45",
        "a: !!binary 'a'",
        "a: !!python/object:os.system {}",
        "a: " + "[" * 100_000,
    ],
    ids=lambda text: repr(text[:30]),
)
def test_invalid_yaml_is_reported(folder, text):
    [error] = compose_errors(folder, text)
    assert "YAML" in error


def test_bytes_that_are_not_utf_8_are_reported(folder):
    for name in server_config.MESSAGES:
        (folder / name).write_bytes(b"\xff\xfe")
    (folder / server_config.COMPOSE).write_bytes(b"\xff\xfe")
    errors = errors_of(folder)
    assert errors.keys() == {*server_config.MESSAGES, server_config.COMPOSE}
    assert all("can't decode byte 0xff" in error for [error] in errors.values())


def test_a_service_that_contains_itself_is_checked(folder):
    text = "services: &all\n  serving: &one\n    ports: [*one]\n  all: *all\n"
    assert any("a port must be" in error for error in compose_errors(folder, text))


@pytest.mark.parametrize(
    "flag", ["--monitoring_config_file=/elsewhere/monitoring.config", "--monitoring_config_file"]
)
def test_a_file_in_a_folder_that_is_not_mounted_is_reported(folder, flag):
    [error] = compose_errors(folder, with_value((*SERVICE, "command", 5), flag))
    assert "monitoring_config_file is " in error and "not a file in any of the volumes" in error


def test_every_file_is_reported_if_no_folder_is_mounted(folder):
    errors = compose_errors(folder, with_value((*SERVICE, "volumes"), []))
    assert len([error for error in errors if "not a file in any of the volumes" in error]) == 3


def test_a_file_below_a_mounted_folder_is_found(folder):
    (folder / "more").mkdir()
    (folder / "more" / "own.config").write_text("")
    flag = "--monitoring_config_file=/deploy/more/own.config"
    (folder / server_config.COMPOSE).write_text(with_value((*SERVICE, "command", 5), flag))
    assert errors_of(folder) == {}


@pytest.mark.parametrize("source", ["lost", "a\0b", "x" * 5000, r"C:\models"], ids=repr)
def test_a_volume_whose_source_is_not_a_folder_is_reported(folder, source):
    volume = f"{source}:/other:ro"
    errors = compose_errors(folder, with_value((*SERVICE, "volumes", 0), volume))
    assert any(f"{source} is not a folder" in error for error in errors)


@pytest.mark.parametrize("name", ["a:b", "$HOME", "$$", "a$b$$c", "a b"])
def test_a_folder_of_any_name_may_be_mounted(folder, name):
    (folder.parent / name).mkdir()
    volume = server_config.volume(f"../{name}", "/models")
    text = with_value((*SERVICE, "volumes", 0), volume)
    (folder / server_config.COMPOSE).write_text(text)
    assert errors_of(folder) == {}


def test_a_published_model_that_is_not_configured_is_reported(folder):
    published = {**PUBLISHED, "tagging": [1]}
    [[error]] = [errors for _, errors in deployment_checks.files(folder, published) if errors]
    assert "tagging is published, but it is not configured" in error
    models = folder / server_config.MODELS
    renamed = models.read_text().replace('name: "sentiment"', 'name: "reviews"')
    models.write_text(renamed)
    assert errors_of(folder) == {}  # under another name it is served too


@pytest.mark.parametrize("mode", [":ro", ":ro,z"])
def test_a_volume_may_have_a_mode(folder, mode):
    volume = f"../saved_models:/models{mode}"
    text = with_value((*SERVICE, "volumes", 0), volume)
    (folder / server_config.COMPOSE).write_text(text)
    assert errors_of(folder) == {}


BIND = {"type": "bind", "source": "../saved_models", "target": "/models"}
INSECURE = [
    ("network_mode", "host", "network_mode must not be host"),
    ("pid", "host", "pid must not be host"),
    ("ipc", "host", "ipc must not be host"),
    ("privileged", True, "privileged must not be set, got True"),
    ("privileged", "yes", "privileged must not be set, got 'yes'"),
    ("cap_drop", [], "cap_drop must contain ALL, got []"),
    ("cap_drop", ["NET_RAW"], "cap_drop must contain ALL, got ['NET_RAW']"),
    ("cap_drop", None, "cap_drop must be a list, got None"),
    ("cap_add", ["SYS_ADMIN"], "cap_add must be empty"),
    ("security_opt", [], "security_opt must contain no-new-privileges:true, got []"),
    ("security_opt", ["no-new-privileges:false"], "security_opt must contain"),
    ("security_opt", "no-new-privileges", "security_opt must be a list"),
    ("volumes", ["../saved_models:/models"], "must be read-only"),
    ("volumes", ["../saved_models:/models:rw"], "must be read-only"),
    ("volumes", [BIND], "must be read-only"),
    ("volumes", [{**BIND, "read_only": False}], "must be read-only"),
    ("image", None, "image must be a string such as tensorflow/serving:"),
    ("image", 3, "image must be a string"),
    ("image", "tensorflow/serving", "image must have a tag other than latest"),
    ("image", "tensorflow/serving:latest", "image must have a tag other than latest"),
    ("image", "registry.example:5000/serving", "image must have a tag other than latest"),
    ("mem_limit", None, "mem_limit must be set, so that no request can take all memory"),
    ("mem_limit", 0, "mem_limit must be set"),
    ("cpus", None, "cpus must be set"),
    ("cpus", 0.0, "cpus must be set"),
    ("pids_limit", None, "pids_limit must be set"),
    ("pids_limit", -1, "pids_limit must be set"),
]


@pytest.mark.parametrize(("key", "value", "message"), INSECURE)
def test_a_service_with_more_rights_than_it_needs_is_reported(folder, key, value, message):
    errors = compose_errors(folder, with_value((*SERVICE, key), value))
    assert any(f"service serving: {message}" in error or message in error for error in errors)


@pytest.mark.parametrize("key", ["cap_drop", "security_opt", "image", "mem_limit", "cpus"])
def test_a_missing_restriction_is_reported(folder, key):
    content = server_config.compose("../saved_models")
    del content["services"]["serving"][key]
    [error] = compose_errors(folder, yaml.safe_dump(content))
    assert f"service serving: {key} must " in error


@pytest.mark.parametrize(
    "values",
    [
        {"image": f"tensorflow/serving@sha256:{'0' * 64}"},
        {"image": "registry.example:5000/serving:1"},
        {"security_opt": ["no-new-privileges"]},
        {"network_mode": "bridge"},
        {"privileged": False},
        {"mem_limit": 2**30},
        {
            "deploy": {"resources": {"limits": {"memory": "1g", "cpus": "0.5", "pids": 9}}},
            **dict.fromkeys(("mem_limit", "cpus", "pids_limit"), "ABSENT"),
        },
    ],
)
def test_other_forms_of_a_restriction_are_accepted(folder, values):
    content = server_config.compose("../saved_models")
    service = {**content["services"]["serving"], **values}
    service = {key: value for key, value in service.items() if value != "ABSENT"}
    text = yaml.safe_dump({"services": {"serving": service}})
    (folder / server_config.COMPOSE).write_text(text)
    assert errors_of(folder) == {}


@pytest.mark.parametrize("deploy", [None, 3, [], {"resources": 3}, {"resources": {"limits": []}}])
def test_malformed_limits_are_reported(folder, deploy):
    content = server_config.compose("../saved_models")
    del content["services"]["serving"]["mem_limit"]
    content["services"]["serving"]["deploy"] = deploy
    [error] = compose_errors(folder, yaml.safe_dump(content))
    assert "mem_limit must be set" in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services:\n  serving:\n", "service serving must be a mapping, got None"),
        ("services:\n  serving:\n    ports: 8501\n", "ports must be a list, got 8501"),
        ("services:\n  serving:\n    ports: [8501]\n", "a port must be a string that begins"),
        ("services:\n  serving:\n    volumes: [models]\n", "a volume must be a string SOURCE:"),
        ("services: " + "[" * 5000 + "]" * 5000, "the YAML is nested too deeply"),
    ],
    ids=["null", "ports", "port", "volume", "deep"],
)
def test_the_malformed_files_that_once_ended_in_tracebacks_are_reported(folder, text, message):
    assert any(message in error for error in compose_errors(folder, text))


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 1), (503, 1)])
def test_the_health_check_runs_in_bash_alone(status, code):
    """In the container there is no curl."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers["Host"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"# metrics\n" * 10_000)

        def log_message(self, *args):
            pass

    seen = []
    test = server_config.compose(".")["services"]["serving"]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "bash", "-c"] and "$" not in test[3]
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = test[3].replace("/8501 ", f"/{server.server_port} ")
        assert subprocess.run(["bash", "-c", command], timeout=30).returncode == code
        server.shutdown()
    assert seen == [("/monitoring/prometheus/metrics", "localhost")]
    closed = subprocess.run(["bash", "-c", command], timeout=30, capture_output=True)
    assert closed.returncode != 0


@pytest.mark.parametrize("name", server_config.MESSAGES)
@pytest.mark.parametrize("text", ["{", "unknown: 1", "max_batch_size: 1", "\x00", "7"])
def test_a_malformed_message_is_reported(folder, name, text):
    (folder / name).write_text(text)
    [error] = errors_of(folder)[name]
    assert error.startswith(f"{folder / name}: ")
