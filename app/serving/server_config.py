"""The files that a server is started with, as text and as what is in them.

TensorFlow Serving reads its settings in the text form of Protocol Buffers. Those of models
come with its API; those of batching and monitoring do not, so their messages are declared
here, by the names and types that the server's own files give them.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import PurePosixPath

import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import Message
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from app.serving import payloads

MODELS, BATCHING, MONITORING, COMPOSE = (
    "models.config",
    "batching.config",
    "monitoring.config",
    "docker-compose.yml",
)
IMAGE = "tensorflow/serving:2.20.0"
BASE = PurePosixPath("/models")  # where the container has the saved models
LABELS = ("stable", "canary")
_WRITTEN = "# Written by app.deploy, SHA-256 of what follows: "
_GRPC, _REST = 8500, 8501
_DEPLOY = "/deploy"  # where the container has these files
_TYPES = descriptor_pb2.FieldDescriptorProto


def _declared(package: str, messages: Mapping[str, Mapping[str, object]]) -> dict[str, type]:
    """Message classes of fields that have a type of `_TYPES`, or the name of a message."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    file.dependency.append("google/protobuf/wrappers.proto")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            told = message.field.add(name=field, number=number, label=_TYPES.LABEL_OPTIONAL)
            if isinstance(kind, list):
                told.label, (kind,) = _TYPES.LABEL_REPEATED, kind
            if isinstance(kind, str):
                told.type, told.type_name = _TYPES.TYPE_MESSAGE, kind
            else:
                told.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_wrappers())
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _wrappers() -> bytes:
    from google.protobuf import wrappers_pb2

    return wrappers_pb2.DESCRIPTOR.serialized_pb


_WHOLE, _WORDS = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
_MESSAGES = _declared(
    "deployment",
    {
        # session_bundle_config.proto of TensorFlow Serving
        "BatchingParameters": {
            "max_batch_size": _WHOLE,
            "batch_timeout_micros": _WHOLE,
            "max_enqueued_batches": _WHOLE,
            "num_batch_threads": _WHOLE,
            "thread_pool_name": _WORDS,
            "allowed_batch_sizes": [_TYPES.TYPE_INT64],
            "pad_variable_length_inputs": _TYPES.TYPE_BOOL,
        },
        # monitoring_config.proto
        "PrometheusConfig": {"enable": _TYPES.TYPE_BOOL, "path": _TYPES.TYPE_STRING},
        "MonitoringConfig": {"prometheus_config": ".deployment.PrometheusConfig"},
    },
)
KINDS: dict[str, type[Message]] = {
    MODELS: ModelServerConfig,
    BATCHING: _MESSAGES["BatchingParameters"],
    MONITORING: _MESSAGES["MonitoringConfig"],
}


def models(labels: Mapping[str, Mapping[str, int]]) -> ModelServerConfig:
    """The settings that have a server serve versions under labels.

    Args:
        labels: By model its versions, by label.
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
    """The labels that settings give, as `models` takes them."""
    return {model.name: dict(model.version_labels) for model in settings.model_config_list.config}


def batching() -> Message:
    """How a server merges requests: whole batches when it is busy, no wait when it is not.

    Padding is what lets requests of lists of tokens be merged; our graphs look at none of it.
    """
    return text_format.Parse(
        f"""
        max_batch_size {{ value: {payloads.SERVER_BATCH} }}
        batch_timeout_micros {{ value: 1000 }}
        max_enqueued_batches {{ value: 256 }}
        num_batch_threads {{ value: {os.cpu_count() or 1} }}
        pad_variable_length_inputs: true
        """,
        KINDS[BATCHING](),
    )


def monitoring() -> Message:
    """Has a server tell Prometheus what it does."""
    return KINDS[MONITORING](
        prometheus_config={"enable": True, "path": "/monitoring/prometheus/metrics"}
    )


def compose(saved_models: str) -> dict:
    """A service that serves with these files, on loopback ports.

    Args:
        saved_models: The folder of published models, as seen from that of the file.
    """
    flags = {
        "model_config_file": f"{_DEPLOY}/{MODELS}",
        "model_config_file_poll_wait_seconds": 10,
        # A server that starts has loaded nothing yet, so no label could be given.
        "allow_version_labels_for_unavailable_models": "true",
        "enable_batching": "true",
        "batching_parameters_file": f"{_DEPLOY}/{BATCHING}",
        "monitoring_config_file": f"{_DEPLOY}/{MONITORING}",
    }
    return {
        "services": {
            "serving": {
                "image": IMAGE,
                "command": [f"--{name}={value}" for name, value in flags.items()],
                # Who can reach these ports can ask anything: nobody but this machine can.
                "ports": [f"127.0.0.1:{port}:{port}" for port in (_GRPC, _REST)],
                "volumes": [f"{saved_models}:{BASE}:ro", f".:{_DEPLOY}:ro"],
                "cap_drop": ["ALL"],
                "security_opt": ["no-new-privileges:true"],
                "restart": "unless-stopped",
            }
        }
    }


def text(content: Message | dict) -> str:
    """A file's text: its content, under a line that tells whether it was edited since."""
    if isinstance(content, dict):
        body = yaml.safe_dump(content, sort_keys=False)
    else:
        body = text_format.MessageToString(content)
    return f"{_WRITTEN}{_sha256(body)}\n{body}"


def parse(name: str, body: str) -> Message | dict:
    """The content of a file by its name.

    Raises:
        ValueError: It is not of its kind; the text says where and why.
    """
    try:
        if name != COMPOSE:
            return text_format.Parse(body, KINDS[name]())
        content = yaml.safe_load(body)
    except (text_format.ParseError, yaml.YAMLError) as error:
        raise ValueError(str(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"it must be a mapping, got {content!r}")
    return content


def is_untouched(file: str) -> bool:
    """Whether the text of a file is as `text` made it."""
    first, _, body = file.partition("\n")
    return first == f"{_WRITTEN}{_sha256(body)}"


def _sha256(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8")).hexdigest()
