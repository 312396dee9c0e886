"""Labels of the published versions, and the folder of a server's configuration files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.atomic import atomic_write
from app.serving import kubernetes, server_config, versions
from tasks.core.errors import UserError

Labels = dict[str, dict[str, int]]  # by model: the version of each label


def servable(
    saved_models: Path, published: Mapping[str, Sequence[int]]
) -> tuple[dict[str, list[int]], list[Path]]:
    """Divides versions into those that a server can load, and folders without a SavedModel.

    Args:
        saved_models: Folder of the published models.
        published: Versions of each model, in ascending order.
    """
    complete, left_out = {}, []
    for model, numbers in published.items():
        folders = {number: saved_models / model / str(number) for number in numbers}
        own = [number for number in numbers if versions.is_complete(folders[number])]
        left_out += [folders[number] for number in numbers if number not in own]
        if own:
            complete[model] = own
    return complete, left_out


def unpublished(folder: Path, published: Mapping[str, Sequence[int]]) -> list[str]:
    """Returns the models of the current file that have no version any more.

    Args:
        folder: Folder of the configuration files.
        published: Versions of each model.

    Raises:
        UserError: The current file is invalid.
    """
    path = folder / server_config.MODELS
    current = server_config.labels(read(path)) if path.exists() else {}
    return sorted(current.keys() - published.keys())


def labels(
    folder: Path, published: Mapping[str, Sequence[int]], overrides: Mapping[str, Sequence[str]]
) -> Labels:
    """Chooses the version of each label.

    Args:
        folder: Folder of the configuration files, whose current stable versions are kept.
        published: Versions of each model, in ascending order.
        overrides: MODEL=VERSION strings by label.

    Raises:
        UserError: An override is malformed or not published, the current file is invalid, or a
            stable version is not published any more.
    """
    path = folder / server_config.MODELS
    current = server_config.labels(read(path)) if path.exists() else {}
    chosen = {
        label: _parse_overrides(label, pairs, published) for label, pairs in overrides.items()
    }
    result = {}
    for model, numbers in published.items():
        latest = numbers[-1]
        stable = chosen["stable"].get(model, current.get(model, {}).get("stable", latest))
        if stable not in numbers:
            raise UserError(
                f"{path}: the stable version {stable} of {model} is not published any more; choose "
                f"one of {numbers} with --stable {model}=VERSION."
            )
        result[model] = {
            "stable": stable,
            "canary": chosen["canary"].get(model, latest),
        }
    return result


def limits(folder: Path, memory: str | None, cpus: float | None) -> server_config.Limits:
    """Returns the limits of the container: those given, else the current ones, else defaults.

    Args:
        folder: Folder of the configuration files.
        memory, cpus: Values of flags; None if not given.

    Raises:
        UserError: A value is out of range.
    """
    path = folder / server_config.COMPOSE
    if path.exists() and None in (memory, cpus):
        current = _current_limits(path)
        memory = current.memory if memory is None else memory
        cpus = current.cpus if cpus is None else cpus
    default = server_config.Limits()
    return server_config.Limits(
        memory=default.memory if memory is None else memory,
        cpus=default.cpus if cpus is None else cpus,
    )


def _current_limits(path: Path) -> server_config.Limits:
    """Returns the limits of the container in a file of Compose, which may have been edited.

    Raises:
        UserError: It has none that `app.deploy` can write.
    """
    try:
        service = read(path)["services"][server_config.SERVICE]
        return server_config.Limits(str(service["mem_limit"]), float(service["cpus"]))
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(
            f"{path} has no limits of memory and processors such as mem_limit: 4g and cpus: 2.0: "
            "give --memory and --cpus."
        ) from error


def write(
    folder: Path,
    saved_models: Path,
    labels: Labels,
    limits: server_config.Limits,
    with_kubernetes: bool = False,
) -> Iterator[str]:
    """Writes the configuration files, except those that were edited; yields a line for each.

    Args:
        folder: Folder of the configuration files.
        saved_models: Folder of the published models.
        labels: By model, the version of each label.
        limits: Resources of the container.
        with_kubernetes: Whether to write a manifest for Kubernetes, too; one that exists is
            written in any case.

    Raises:
        UserError: The file of models was edited and does not have these labels.
    """
    # From where the folder really is, because .. of a link is the parent of its target.
    relative = Path(os.path.relpath(saved_models.absolute(), folder.resolve())).as_posix()
    contents = {
        server_config.MODELS: server_config.models(labels),
        server_config.BATCHING: server_config.batching(limits),
        server_config.MONITORING: server_config.monitoring(),
        server_config.COMPOSE: server_config.compose(f"./{relative}", limits),
    }
    if with_kubernetes or (folder / kubernetes.NAME).exists():
        contents[kubernetes.NAME] = kubernetes.manifest(labels, limits)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / name
        text = server_config.text(content)
        if path.exists() and path.read_bytes() == text.encode():
            yield f"unchanged {path}"
        elif _write_unless_edited(path, text):
            yield f"written   {path}"
        else:
            yield f"kept      {path}, because it was edited"
    path = folder / server_config.MODELS
    if server_config.labels(read(path)) != labels:
        raise UserError(
            f"{path} was edited by hand, so it is kept, but it does not have these labels: "
            f"{labels}. Edit it, or move it away and repeat the command."
        )


def read(path: Path) -> Any:
    """Returns the parsed content of a configuration file: a message, or a dict for Compose.

    Raises:
        UserError: The file cannot be read or is malformed.
    """
    try:
        return server_config.parse(path.name, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error


def _parse_overrides(
    label: str, pairs: Sequence[str], published: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Parses the MODEL=VERSION values of a flag."""
    chosen = {}
    for pair in pairs:
        model, _, version = pair.partition("=")
        if model not in published:
            raise UserError(
                f"--{label} must name a published model, one of {sorted(published)}, got {pair!r}."
            )
        if version not in map(str, published[model]):
            raise UserError(
                f"--{label} {model}=VERSION must be one of {published[model]}, got {pair!r}."
            )
        if model in chosen:
            raise UserError(f"--{label} must name each model once, got {model} twice.")
        chosen[model] = int(version)
    return chosen


def _write_unless_edited(path: Path, text: str) -> bool:
    """Writes a file unless it was edited; returns whether it did."""
    if path.exists() and not server_config.is_unedited(path.read_bytes()):
        return False
    atomic_write(path.resolve(), text)  # a server may be reading the file
    return True
