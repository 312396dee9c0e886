"""Writes what a server of the published models is started with: `python -m app.deploy`.

The newest version of each model is its canary; what was the newest when the files were first
written is stable, until --stable says otherwise. --check holds all of it, and the models,
against what a server asks.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from app import cli
from tasks.core.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the files, or checks them."""
    parser = cli.Parser("python -m app.deploy", description=__doc__)
    cli.add_saved_models(parser)
    parser.add_argument(
        "--to",
        type=Path,
        default=Path("deploy"),
        metavar="DIR",
        help="folder of the files (default: %(default)s)",
    )
    for label, default in (("stable", "the one that is stable now"), ("canary", "the newest")):
        parser.add_argument(
            f"--{label}",
            action="append",
            default=[],
            metavar="MODEL=VERSION",
            help=f"the version of a model that is to be {label}; may be repeated (default: "
            f"{default})",
        )
    parser.add_argument("--check", action="store_true", help="write nothing; say what is wrong")
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    with cli.quiet():
        from app.serving import export
    published = {
        folder.name: found
        for folder in sorted(args.saved_models.glob("*"))
        if (found := export.versions(folder))
    }
    if not published:
        raise UserError(f"{args.saved_models} holds no published model; run: python -m app.train")
    if args.check:
        _check(args.to, args.saved_models, published)
    else:
        _write(args, published)


# --- Writing -----------------------------------------------------------------


def _write(args: argparse.Namespace, published: dict[str, list[int]]) -> None:
    from app.serving import server_config

    place = args.to / server_config.MODELS
    before = {}
    if place.exists():
        before = server_config.labels(_parsed(place))
    told = {label: _told(label, getattr(args, label), published) for label in server_config.LABELS}
    labels = {}
    for name, versions in published.items():
        stable = before.get(name, {}).get("stable")
        if stable not in versions:
            stable = versions[-1]
        default = {"stable": stable, "canary": versions[-1]}
        labels[name] = {label: told[label].get(name, default[label]) for label in default}
    beside = Path(os.path.relpath(args.saved_models, args.to)).as_posix()
    contents = {
        server_config.MODELS: server_config.models(labels),
        server_config.BATCHING: server_config.batching(),
        server_config.MONITORING: server_config.monitoring(),
        server_config.COMPOSE: server_config.compose(f"./{beside}"),  # of Docker: a path, no name
    }
    args.to.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        print(_kept_or_written(args.to / name, server_config.text(content)))
    if server_config.labels(_parsed(place)) != labels:
        raise UserError(
            f"{place} was edited by hand, so it is kept, and does not say what it should: "
            f"{labels}. Edit it, or move it away and repeat the command."
        )
    rows = [[name, *map(str, each.values())] for name, each in labels.items()]
    print(cli.columns([["model", *server_config.LABELS], *rows]))


def _told(label: str, pairs: Sequence[str], published: dict[str, list[int]]) -> dict[str, int]:
    """The versions that flags name, by model."""
    found = {}
    for pair in pairs:
        name, _, version = pair.partition("=")
        if name not in published:
            raise UserError(f"--{label} must name a model of {sorted(published)}, got {pair!r}.")
        if version not in map(str, published[name]):
            raise UserError(
                f"--{label} {name}=VERSION must be one of {published[name]}, got {pair!r}."
            )
        found[name] = int(version)
    return found


def _kept_or_written(path: Path, text: str) -> str:
    """Writes a file unless it was edited, and says which."""
    from app.serving import server_config

    if path.exists() and not server_config.is_untouched(path.read_text(encoding="utf-8")):
        return f"kept      {path}, for it was edited"
    draft = path.with_name(f"{path.name}.draft")  # a server may be reading the file
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return f"written   {path}"


def _parsed(path: Path):
    from app.serving import server_config

    try:
        return server_config.parse(path.name, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error


# --- Checking ----------------------------------------------------------------


def _check(folder: Path, saved_models: Path, published: dict[str, list[int]]) -> None:
    """Prints what is found in order, and tells all that is not.

    Raises:
        UserError: Something is not; each in a line. While a file is, models are not looked at.
    """
    for found in (_of_files(folder, published), _of_versions(saved_models, published)):
        troubles = []
        for path, wrong in found:
            troubles += wrong
            if not wrong:
                print(f"ok  {path}", flush=True)
        if troubles:
            raise UserError("\n".join(troubles))


def _of_files(folder: Path, published: dict[str, list[int]]) -> Iterator[tuple[Path, list[str]]]:
    """Each file, and what is wrong in it."""
    from app.serving import server_config

    rules = {
        server_config.MODELS: lambda content: _models(content, published),
        server_config.BATCHING: _batching,
        server_config.MONITORING: lambda content: (),
        server_config.COMPOSE: lambda content: _compose(content, folder),
    }
    for name, rule in rules.items():
        path = folder / name
        try:
            troubles = list(rule(_parsed(path)))
        except UserError as error:
            troubles = [str(error)]
        else:
            troubles = [f"{path}: {trouble}" for trouble in troubles]
        yield path, troubles


def _models(content, published) -> Iterator[str]:
    from app.serving import server_config

    names = [model.name for model in content.model_config_list.config]
    if not names:
        yield "no model is configured"
    for name in {name for name in names if names.count(name) > 1}:
        yield f"{name} is configured more than once"
    for model in content.model_config_list.config:
        base = PurePosixPath(model.base_path)
        versions = published.get(base.name, [])
        if base.parent != server_config.BASE or not versions:
            choices = [str(server_config.BASE / name) for name in published]
            yield f"base_path of {model.name} must be one of {choices}, got {str(base)!r}"
            continue
        served = list(model.model_version_policy.specific.versions)
        for version in {*served, *model.version_labels.values()} - {*versions}:
            yield f"{model.name} {version} is not published; there are {versions}"
        for label, version in model.version_labels.items():
            if served and version not in served:
                yield f"{model.name}: the label {label} is for {version}, and {served} are served"


def _batching(content) -> Iterator[str]:
    if (most := content.max_batch_size.value) < 1:
        yield f"max_batch_size must be at least 1, got {most}"
    sizes = list(content.allowed_batch_sizes)
    if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != most):
        yield f"allowed_batch_sizes must rise to max_batch_size, {most}, got {sizes}"
    if not content.pad_variable_length_inputs:
        yield (
            "pad_variable_length_inputs must be true: without it requests of lists of tokens "
            "that differ in length fail together"
        )


def _compose(content, folder: Path) -> Iterator[str]:
    services = content.get("services")
    if not isinstance(services, dict) or not services:
        yield "services must be a mapping of one or more"
        return
    for name, service in services.items():
        for port in service.get("ports", ()):
            if not str(port).startswith("127.0.0.1:"):
                yield f"{name}: the port {port} must begin with 127.0.0.1: or anybody could ask"
        mounts = dict(
            reversed(str(volume).removesuffix(":ro").rsplit(":", 1))
            for volume in service.get("volumes", ())
        )
        for inside, outside in mounts.items():
            if not (folder / outside).is_dir():
                yield f"{name}: {inside} is {outside}, which is no folder beside {folder}"
        for told in service.get("command", ()):
            flag, _, value = str(told).partition("=")
            path = PurePosixPath(value)
            if (
                flag.endswith("_file")
                and not (
                    str(path.parent) in mounts and (folder / mounts[str(path.parent)] / path.name)
                ).is_file()
            ):
                yield f"{name}: {flag} is {value}, which is in none of the volumes"


def _of_versions(
    saved_models: Path, published: dict[str, list[int]]
) -> Iterator[tuple[Path, list[str]]]:
    """Each version, and what is wrong with it."""
    from app.serving import compatibility, warmup
    from models import manifest

    for name, versions in published.items():
        for version in versions:
            folder = saved_models / name / str(version)
            try:
                manifest.verify(folder)
                compatibility.check(folder)
                warmup.replay(folder)
            except ValueError as error:
                yield folder, [str(error)]
            else:
                yield folder, []


if __name__ == "__main__":
    cli.run(main)
