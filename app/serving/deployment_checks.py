"""Checks of a server's configuration files and of the published versions that it will load."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from google.protobuf.message import Message
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from app.serving import compatibility, deployment, server_config, warmup
from models import manifest
from tasks.core.errors import UserError

# SOURCE:TARGET or SOURCE:TARGET:MODE; only a Windows path may have a colon in the source.
_VOLUME = re.compile(
    r"(?P<source>([A-Za-z]:[\\/])?[^:]+):(?P<target>/[^:]*)(:(?P<mode>[A-Za-z,]+))?", re.DOTALL
)
_VARIABLE = re.compile(r"(?<!\$)(\$\$)*\$(?!\$)")  # a $ that is not doubled

_DOUBLED = "write $$ for $, which begins the name of a variable"


def files(folder: Path, published: Mapping[str, Sequence[int]]) -> Iterator[tuple[Path, list[str]]]:
    """Checks the configuration files; yields each path with its errors.

    Args:
        folder: Folder of the configuration files.
        published: Versions of each model.
    """
    checks: dict[str, Callable[..., Iterator[str]]] = {
        server_config.MODELS: lambda content: _check_models(content, published),
        server_config.BATCHING: _check_batching,
        server_config.MONITORING: lambda content: iter(()),
        server_config.COMPOSE: lambda content: _check_compose(content, folder),
    }
    for name, check in checks.items():
        path = folder / name
        try:
            content = deployment.read(path)
        except UserError as error:
            yield path, [str(error)]
        else:
            yield path, [f"{path}: {error}." for error in check(content)]


def versions(
    saved_models: Path, published: Mapping[str, Sequence[int]]
) -> Iterator[tuple[Path, list[str]]]:
    """Checks every published version; yields each folder with its errors.

    The files must be those of the manifest, the graph must be one that a stock server runs, and
    the warm-up requests must succeed.

    Args:
        saved_models: Folder of the published models.
        published: Versions of each model.
    """
    for model, numbers in published.items():
        for number in numbers:
            folder = saved_models / model / str(number)
            try:
                manifest.verify(folder)
                compatibility.check(folder)
                warmup.replay(folder)
            except ValueError as error:
                yield folder, [str(error)]
            else:
                yield folder, []


def _check_models(
    content: ModelServerConfig, published: Mapping[str, Sequence[int]]
) -> Iterator[str]:
    models = content.model_config_list.config
    names = [model.name for model in models]
    if not names:
        yield "no model is configured"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{name} is configured more than once"
    configured = {PurePosixPath(model.base_path).name for model in models}
    for name in sorted(published.keys() - configured):
        yield f"{name} is published, but it is not configured, so it would not be served"
    for model in models:
        base = PurePosixPath(model.base_path)
        numbers = published.get(base.name, [])
        if base.parent != server_config.BASE or not numbers:
            choices = [str(server_config.BASE / name) for name in published]
            yield f"base_path of {model.name} must be one of {choices}, got {str(base)!r}"
            continue
        served = list(model.model_version_policy.specific.versions)
        for version in sorted({*served, *model.version_labels.values()} - {*numbers}):
            yield (
                f"version {version} of {model.name} is not published; the published versions are "
                f"{numbers}"
            )
        for label, version in model.version_labels.items():
            if served and version not in served:
                yield (
                    f"label {label} of {model.name} is for version {version}, but only {served} "
                    "are served"
                )


def _check_batching(content: Message) -> Iterator[str]:
    largest = content.max_batch_size.value
    if largest < 1:
        yield f"max_batch_size must be at least 1, got {largest}"
    sizes = list(content.allowed_batch_sizes)
    if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != largest):
        yield (
            f"allowed_batch_sizes must be ascending and end with max_batch_size, {largest}, got "
            f"{sizes}"
        )
    if not content.pad_variable_length_inputs:
        yield (
            "pad_variable_length_inputs must be true: without it, requests with token lists of "
            "different lengths fail when they are merged"
        )


def _check_compose(content: Mapping, folder: Path) -> Iterator[str]:
    services = content.get("services")
    if not isinstance(services, dict) or not services:
        yield f"services must be a mapping with at least one service, got {services!r}"
        return
    for name, service in services.items():
        if not isinstance(name, str):
            yield f"the name of a service must be a string, got {name!r}"
        elif not isinstance(service, dict):
            yield f"service {name} must be a mapping, got {service!r}"
        else:
            for error in _check_service(service, folder):
                yield f"service {name}: {error}"


def _check_service(service: Mapping, folder: Path) -> Iterator[str]:
    lists = {}
    for key in ("ports", "volumes", "command", "cap_drop", "cap_add", "security_opt"):
        lists[key] = service.get(key, [])
        if not isinstance(lists[key], list):
            yield f"{key} must be a list, got {lists[key]!r}"
            lists[key] = []
    yield from _check_image(service.get("image"))
    yield from _check_isolation(service, lists)
    yield from _check_limits(service)
    for port in lists["ports"]:
        if not isinstance(port, str) or not port.startswith("127.0.0.1:"):
            yield (
                "a port must be a string that begins with 127.0.0.1:, because anyone who reaches "
                f"it can use the models; got {port!r}"
            )
    sources = {}
    for volume in lists["volumes"]:
        try:
            source, target = _mount(volume)
        except ValueError as error:
            yield str(error)
            continue
        sources[PurePosixPath(target)] = source
        if not _is_read_only(volume):
            yield f"volume {volume!r} must be read-only, because the server writes to no file"
        if not _holds((folder / source).is_dir):
            yield f"volume {volume!r}: {source} is not a folder, relative to {folder}"
    for flag in lists["command"]:
        if not isinstance(flag, str):
            yield f"a flag of the command must be a string, got {flag!r}"
            continue
        if _VARIABLE.search(flag):
            yield f"flag {flag!r}: {_DOUBLED}"
            continue
        name, _, value = flag.replace("$$", "$").partition("=")
        if name.endswith("_file") and not _is_mounted(PurePosixPath(value), sources, folder):
            yield f"{name} is {value!r}, which is not a file in any of the volumes"


def _check_image(image: object) -> Iterator[str]:
    if not isinstance(image, str) or not image:
        yield f"image must be a string such as {server_config.IMAGE}, got {image!r}"
        return
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]  # a registry may have a port
    if not digest and tag in ("", "latest"):
        yield (
            f"image must have a tag other than latest, such as {server_config.IMAGE}, or a "
            f"digest, so that the server changes only when you change it; got {image!r}"
        )


def _check_isolation(service: Mapping, lists: Mapping[str, list]) -> Iterator[str]:
    """Checks that the container has no more rights than the server needs."""
    for key in ("network_mode", "pid", "ipc", "userns_mode"):
        if service.get(key) == "host":
            yield f"{key} must not be host, because the container would not be isolated"
    if service.get("privileged"):
        yield f"privileged must not be set, got {service['privileged']!r}"
    if "ALL" not in [str(name).upper() for name in lists["cap_drop"]]:
        yield f"cap_drop must contain ALL, got {lists['cap_drop']!r}"
    if lists["cap_add"]:
        yield f"cap_add must be empty, because the server needs none, got {lists['cap_add']!r}"
    if not {"no-new-privileges", "no-new-privileges:true"} & {*map(str, lists["security_opt"])}:
        yield (f"security_opt must contain no-new-privileges:true, got {lists['security_opt']!r}")


def _check_limits(service: Mapping) -> Iterator[str]:
    limits = service.get("deploy")
    for key in ("resources", "limits"):
        limits = limits.get(key) if isinstance(limits, dict) else None
    limits = limits if isinstance(limits, dict) else {}
    names = {"mem_limit": "memory", "cpus": "cpus", "pids_limit": "pids"}
    resources = {"mem_limit": "memory", "cpus": "processors", "pids_limit": "processes"}
    for key, name in names.items():
        value = service.get(key, limits.get(name))
        # In Compose, 0 and -1 are no limit.
        if value is None or str(value).strip() in ("", "0", "0.0", "-1"):
            yield f"{key} must be set, so that no request can take all {resources[key]}"


def _is_read_only(volume: object) -> bool:
    if isinstance(volume, dict):
        return volume.get("read_only") is True
    mode = _VOLUME.fullmatch(volume)["mode"] or ""
    return "ro" in mode.split(",")


def _mount(volume: object) -> tuple[str, str]:
    """Returns the source and the target of a volume, in the short or the long syntax.

    Raises:
        ValueError: The volume is malformed.
    """
    if isinstance(volume, dict):
        paths = [volume.get("source"), volume.get("target")]
        if volume.get("type") != "bind" or not all(
            path and isinstance(path, str) for path in paths
        ):
            raise ValueError(
                "a volume must have the type bind, a source and a target, each a string; got "
                f"{volume!r}"
            )
    else:
        match = _VOLUME.fullmatch(volume) if isinstance(volume, str) else None
        if not match:
            raise ValueError(
                "a volume must be a string SOURCE:TARGET or SOURCE:TARGET:ro without other "
                f"colons, or a mapping; got {volume!r}"
            )
        paths = [match["source"], match["target"]]
    for path in paths:
        if _VARIABLE.search(path):
            raise ValueError(f"volume {volume!r}: {_DOUBLED}")
    source, target = (path.replace("$$", "$") for path in paths)
    return source, target


def _is_mounted(path: PurePosixPath, sources: Mapping[PurePosixPath, str], folder: Path) -> bool:
    """Returns whether a path of the container is a file, given the source of each volume."""
    for target, source in sources.items():
        if path.is_relative_to(target):
            outside = folder / source / path.relative_to(target)
            if _holds(outside.is_file):
                return True
    return False


def _holds(check: Callable[[], bool]) -> bool:
    """Returns the result of a check of a path; False if the path is too long or has a NUL."""
    try:
        return check()
    except (OSError, ValueError):
        return False
