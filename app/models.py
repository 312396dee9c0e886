"""Lists the published models, or removes versions of them: `python -m app.models`.

Without flags every version is listed, with its cell, data, first score and its interval, date and
size. --delete removes versions, and --prune all but the latest. A version that the files of
`app.deploy` name is never removed. `app.evaluate --compare A B` compares two versions.
"""

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tasks
from app import cli
from app.serving import versions
from tasks.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Version:
    """A published version.

    Attributes:
        model: Name of the model, which is that of its task.
        number: Number of the version.
        folder: Its folder.
        record: Its `run.json`; empty if it cannot be read.
    """

    model: str
    number: int
    folder: Path
    record: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def row(self) -> list[str]:
        """Returns a row of the list."""
        scores, config = self.record.get("scores", {}), self.record.get("config", {})
        score = ""
        if scores:
            name, value = next(iter(scores.items()))
            low, high = self.record.get("intervals", {}).get(name, (None, None))
            interval = "" if low is None else f" ({low:.4f} to {high:.4f})"
            score = f"{name} {value:.4f}{interval}"
        networks = len(self.record.get("networks", ()))
        cell = str(config.get("cell", "")) + (f" x {networks}" if networks else "")
        base = (self.record.get("base") or {}).get("version", "")
        day = time.strftime("%Y-%m-%d", time.localtime(self.folder.stat().st_mtime))
        source = str(self.record.get("data", {}).get("source", ""))
        size = f"{self.size / 2**20:.1f} MiB"
        return [self.model, str(self.number), cell, source, score, base, day, size]

    def summary(self) -> dict[str, Any]:
        """Returns what `--json` prints."""
        keys = ("scores", "intervals", "config", "data", "base", "parameters", "commit")
        values = {key: self.record.get(key) for key in keys}
        return {"model": self.model, "version": self.number, "bytes": self.size, **values}


_COLUMNS = ["model", "version", "cell", "data", "first score", "continues", "date", "size"]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the versions, or removes some."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    if args.delete and not args.model:
        raise UserError("--delete needs the name of a model before it, such as sentiment.")
    if args.keep < 1:
        raise UserError(f"--keep must be at least 1, got {args.keep}.")
    published = [version for version in find(args.saved_models) if _is_chosen(version, args.model)]
    if not published:
        raise UserError(
            f"{args.saved_models} holds no published version"
            + (f" of {args.model}" if args.model else "")
            + "; run: python -m app.train"
        )
    if args.delete:
        _remove(_named(published, args.delete), args.saved_models, _deployed(args.deploy))
    elif args.prune:
        _remove(_older(published, args.keep), args.saved_models, _deployed(args.deploy))
    elif args.json:
        print(json.dumps([version.summary() for version in published]))
    else:
        print(cli.columns([_COLUMNS, *(version.row() for version in published)]))


def find(saved_models: Path) -> list[Version]:
    """Returns the published versions of all models, in order of name and number."""
    found_versions = []
    for model, numbers in versions.published(saved_models).items():
        for number in numbers:
            folder = saved_models / model / str(number)
            found_versions.append(Version(model, number, folder, _record(folder)))
    return found_versions


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / "assets.extra/run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # such as a version of another program
    return record if isinstance(record, dict) else {}


def _is_chosen(version: Version, model: str | None) -> bool:
    return model is None or version.model == model


def _named(published: Sequence[Version], numbers: Sequence[int]) -> list[Version]:
    by_number = {version.number: version for version in published}
    unknown = sorted(set(numbers) - set(by_number))
    if unknown:
        raise UserError(f"--delete must be of the versions {sorted(by_number)}, got {unknown}.")
    return [by_number[number] for number in dict.fromkeys(numbers)]


def _older(published: Sequence[Version], keep: int) -> list[Version]:
    """Returns all versions but the latest `keep` of each model."""
    older = []
    for model in dict.fromkeys(version.model for version in published):
        older += [version for version in published if version.model == model][:-keep]
    return older


def _deployed(folder: Path) -> set[tuple[str, int]]:
    """Returns the models and versions that the files of a deployment name; none without files."""
    path = folder / "models.config"
    if not path.exists():
        return set()
    with cli.quiet():
        from app.serving import deployment, server_config
    labels = server_config.labels(deployment.read(path))
    return {(model, number) for model, named in labels.items() for number in named.values()}


def _remove(
    unwanted: Sequence[Version], saved_models: Path, deployed: set[tuple[str, int]]
) -> None:
    """Removes versions that are not deployed, and prints every one.

    A version is renamed first, so that no server sees one with a part of its files.
    """
    freed = count = 0
    for version in unwanted:
        if (version.model, version.number) in deployed:
            print(f"not removed: {version.folder}, which models.config names")
            continue
        size, draft = version.size, version.folder.with_name(f"draft-removed-{version.number}")
        version.folder.rename(draft)
        shutil.rmtree(draft)
        print(f"removed {version.folder}: {size / 2**20:.1f} MiB", flush=True)
        freed, count = freed + size, count + 1
    for model in dict.fromkeys(
        version.model for version in unwanted if not version.folder.exists()
    ):
        following = versions.next_number(saved_models / model)
        if following <= max(version.number for version in unwanted if version.model == model):
            print(f"the next version of {model} will be {following} again")
    print(f"{count} of {len(unwanted)} removed, {freed / 2**20:.1f} MiB freed")


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "python -m app.models",
        description=__doc__,
        examples=["python -m app.models sentiment", "python -m app.models --prune --keep 3"],
    )
    parser.add_argument("model", nargs="?", choices=tasks.names(), help="one model (default: all)")
    cli.add_saved_models(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--json", action="store_true", help="print one JSON array")
    action.add_argument(
        "--delete", type=int, nargs="+", metavar="VERSION", help="remove versions of a model"
    )
    action.add_argument("--prune", action="store_true", help="remove all but the latest versions")
    parser.add_argument(
        "--keep",
        type=int,
        default=3,
        metavar="INT",
        help="versions of each model that --prune keeps (default: %(default)s)",
    )
    parser.add_argument(
        "--deploy",
        type=Path,
        default=Path("deploy"),
        metavar="DIR",
        help="folder of `app.deploy`, whose versions are kept (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
