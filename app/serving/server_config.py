"""Contents of the configuration files of TensorFlow Serving, as messages and as text.

The server reads its settings in the text format of Protocol Buffers. The messages of models
come with its API; those of batching and monitoring do not, so they are declared here with the
names and types of the server's own files.
"""

import dataclasses
import hashlib
import math
import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.message import Message
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from tasks.core.errors import UserError

MODELS = "models.config"
BATCHING = "batching.config"
MONITORING = "monitoring.config"
COMPOSE = "docker-compose.yml"
IMAGE = "tensorflow/serving:2.20.0"
BASE = PurePosixPath("/models")  # folder of the saved models in the container
LABELS = ("stable", "canary")
SERVER_BATCH = 32  # most rows of a request to a server, and of a batch that it merges
_HEADER = "# Written by app.deploy, SHA-256 of what follows: "
GRPC_PORT, REST_PORT = 8500, 8501
SERVICE = "serving"  # name of the service in the Compose file
METRICS = "/monitoring/prometheus/metrics"
_NOBODY = 65534  # user and group without rights
_MAX_CPUS = 1024
_MAX_PIDS = 1024  # threads too; the server starts some for each core
DEPLOY = "/deploy"  # folder of the configuration files in the container
_TYPES = descriptor_pb2.FieldDescriptorProto


@dataclasses.dataclass(frozen=True)
class Limits:
    """Resources that the container may use.

    Attributes:
        memory: Most memory, as Compose writes it, such as "4g" or "512m".
        cpus: Most processors. The default is not that of this machine, which may not be the one
            that serves.

    Raises:
        UserError: A value is out of range.
    """

    memory: str = "4g"
    cpus: float = 2.0

    @property
    def threads(self) -> int:
        """Number of threads that use the processors."""
        return math.ceil(self.cpus)

    def __post_init__(self) -> None:
        if not re.fullmatch("[1-9][0-9]{0,5}[mg]", self.memory):
            raise UserError(
                "--memory must be a number of mebibytes or gibibytes, such as 512m or 4g, got "
                f"{self.memory!r}."
            )
        if not 0.01 <= self.cpus <= _MAX_CPUS:  # false for nan
            raise UserError(
                f"--cpus must be at least 0.01 and at most {_MAX_CPUS}, got {self.cpus:g}."
            )


def _declare(package: str, messages: Mapping[str, Mapping[str, object]]) -> dict[str, type]:
    """Creates message classes.

    Args:
        package: Name of their package.
        messages: By message, the type of each field: one of `_TYPES`, the name of a message, or
            a list of one of these for a repeated field.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    file.dependency.append("google/protobuf/wrappers.proto")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, (field_name, kind) in enumerate(fields.items(), start=1):
            label = _TYPES.LABEL_OPTIONAL
            if isinstance(kind, list):
                label, (kind,) = _TYPES.LABEL_REPEATED, kind
            field = message.field.add(name=field_name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = _TYPES.TYPE_MESSAGE, kind
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


_INT64, _STRING = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
_MESSAGES = _declare(
    "deployment",
    {
        # session_bundle_config.proto of TensorFlow Serving
        "BatchingParameters": {
            "max_batch_size": _INT64,
            "batch_timeout_micros": _INT64,
            "max_enqueued_batches": _INT64,
            "num_batch_threads": _INT64,
            "thread_pool_name": _STRING,
            "allowed_batch_sizes": [_TYPES.TYPE_INT64],
            "pad_variable_length_inputs": _TYPES.TYPE_BOOL,
        },
        # monitoring_config.proto
        "PrometheusConfig": {"enable": _TYPES.TYPE_BOOL, "path": _TYPES.TYPE_STRING},
        "MonitoringConfig": {"prometheus_config": ".deployment.PrometheusConfig"},
    },
)
MESSAGES: dict[str, type[Message]] = {
    MODELS: ModelServerConfig,
    BATCHING: _MESSAGES["BatchingParameters"],
    MONITORING: _MESSAGES["MonitoringConfig"],
}


def models(labels: Mapping[str, Mapping[str, int]]) -> ModelServerConfig:
    """Returns the settings to serve the labelled versions.

    Args:
        labels: By model, the version of each label.
    """
    settings = ModelServerConfig()
    for name, versions in labels.items():
        model = settings.model_config_list.config.add(
            name=name, base_path=str(BASE / name), model_platform="tensorflow"
        )
        model.model_version_policy.specific.versions.extend(sorted(set(versions.values())))
        for label, version in versions.items():
            model.version_labels[label] = version
    return settings


def labels(settings: ModelServerConfig) -> dict[str, dict[str, int]]:
    """Returns the labels in settings: by model, the version of each label."""
    return {model.name: dict(model.version_labels) for model in settings.model_config_list.config}


def served(settings: ModelServerConfig) -> set[tuple[str, int]]:
    """Returns the models and versions that settings name, by a label or otherwise.

    A model is named by its folder, because its name on the server may be another.
    """
    named = set()
    for model in settings.model_config_list.config:
        numbers = {*model.version_labels.values(), *model.model_version_policy.specific.versions}
        named |= {(PurePosixPath(model.base_path).name, number) for number in numbers}
    return named


def batching(limits: Limits) -> Message:
    """Returns the settings to merge requests: full batches under load, no wait otherwise.

    Padding allows requests with token lists of different lengths to be merged; the graphs
    ignore it.

    Args:
        limits: Resources of the server, which has a thread for each of its processors.
    """
    return text_format.Parse(
        f"""
        max_batch_size {{ value: {SERVER_BATCH} }}
        batch_timeout_micros {{ value: 1000 }}
        max_enqueued_batches {{ value: 256 }}
        num_batch_threads {{ value: {limits.threads} }}
        pad_variable_length_inputs: true
        """,
        MESSAGES[BATCHING](),
    )


def monitoring() -> Message:
    """Returns the settings to export metrics to Prometheus."""
    return MESSAGES[MONITORING](prometheus_config={"enable": True, "path": METRICS})


def volume(source: str, target: str) -> dict[str, str | bool]:
    """Returns a folder of this machine that a container reads, in Compose's long syntax.

    The short one, SOURCE:TARGET, has no escape for a colon.

    Args:
        source: The folder, relative to that of the Compose file.
        target: Path of the folder in the container.
    """
    return {
        "type": "bind",
        "source": source.replace("$", "$$"),  # a single $ would begin the name of a variable
        "target": target,
        "read_only": True,
    }


def arguments(limits: Limits) -> list[str]:
    """Returns the arguments of the server, which has the files in `DEPLOY`.

    Args:
        limits: Resources of the server. Without the number of threads it would start one for each
            processor of its machine, of which the container may use a few only.
    """
    flags = {
        "model_config_file": f"{DEPLOY}/{MODELS}",
        "model_config_file_poll_wait_seconds": 10,
        # A server that starts has loaded nothing yet, so no label could be assigned.
        "allow_version_labels_for_unavailable_models": "true",
        "enable_batching": "true",
        "batching_parameters_file": f"{DEPLOY}/{BATCHING}",
        "monitoring_config_file": f"{DEPLOY}/{MONITORING}",
        "tensorflow_intra_op_parallelism": limits.threads,
        "tensorflow_inter_op_parallelism": limits.threads,
    }
    return [f"--{name}={value}" for name, value in flags.items()]


def compose(saved_models: str, limits: Limits | None = None) -> dict:
    """Returns a Compose file with one service, which uses the other files.

    Args:
        saved_models: Folder of the published models, relative to that of the file.
        limits: Resources of the container; None for the default.
    """
    limits = limits or Limits()
    return {
        "services": {
            SERVICE: {
                "image": IMAGE,
                "user": _user(),
                "command": arguments(limits),
                # The server does not authenticate, so only this machine can reach its ports.
                "ports": [f"127.0.0.1:{port}:{port}" for port in (GRPC_PORT, REST_PORT)],
                "volumes": [volume(saved_models, str(BASE)), volume(".", DEPLOY)],
                "read_only": True,
                "tmpfs": ["/tmp:size=64m,mode=1777"],
                "cap_drop": ["ALL"],
                "security_opt": ["no-new-privileges:true"],
                # A request over gRPC may declare a tensor of any size, so only a limit from
                # outside bounds the memory. Without swap, what exceeds it is restarted.
                "mem_limit": limits.memory,
                "memswap_limit": limits.memory,
                "cpus": limits.cpus,
                "pids_limit": _MAX_PIDS,
                "healthcheck": {
                    "test": ["CMD", "bash", "-c", _health_check(REST_PORT)],
                    "interval": "30s",
                    "timeout": "5s",
                    "retries": 3,
                    "start_period": "2m",  # until the models are loaded
                },
                "logging": {
                    "driver": "json-file",
                    "options": {"max-size": "10m", "max-file": "3"},
                },
                "restart": "unless-stopped",
            }
        }
    }


def _user() -> str:
    """Returns the user and group of the container: those of this process, but never root.

    The owner of the published models can read them whatever their permissions are.
    """
    if not hasattr(os, "getuid") or os.getuid() == 0:
        return f"{_NOBODY}:{_NOBODY}"
    return f"{os.getuid()}:{os.getgid()}"


def _health_check(port: int) -> str:
    """Returns a command that succeeds if the server responds; its image has bash, but no curl."""
    request = rf"GET {METRICS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return (
        f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf '{request}' >&3 && "
        "head -n 1 <&3 | grep -q ' 200 '"
    )


def text(content: Message | dict | list[dict]) -> str:
    """Returns the text of a file, with a header that shows whether it was edited since.

    Args:
        content: A message; a mapping for YAML, or a list of them for several YAML documents.
    """
    if isinstance(content, dict | list):
        documents = [content] if isinstance(content, dict) else content
        body = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False)
    else:
        body = text_format.MessageToString(content)
    return f"{_HEADER}{_sha256(body.encode())}\n{body}"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and no references to equal parts."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _multiline(dumper, text):
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _multiline)


def parse(name: str, text: str) -> Message | dict:
    """Returns the content of a file by its name: a message, or a dict for Compose.

    Raises:
        ValueError: The text is malformed; the message says where and why.
    """
    if name != COMPOSE:
        try:
            return text_format.Parse(text, MESSAGES[name]())
        except text_format.ParseError as error:
            raise ValueError(str(error)) from error
    try:
        content = yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError("the YAML is nested too deeply") from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        # PyYAML raises built-in exceptions for values that do not fit their tag.
        raise ValueError(f"the YAML is invalid: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"the file must be a mapping, got {content!r}")
    return content


def is_unedited(file: bytes) -> bool:
    """Returns whether the content of a file is as `text` wrote it."""
    header, _, body = file.replace(b"\r\n", b"\n").partition(b"\n")
    return header == f"{_HEADER}{_sha256(body)}".encode()


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
