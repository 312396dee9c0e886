"""Lists the published models, compares them, or removes versions: `python -m app.models`.

Without flags every version is listed, with its task, cell, data, scores and their intervals, the
version that it continues, date and size. --compare shows the settings and scores in which two
versions differ. --delete removes versions, and --prune all but the latest. A version that the
files of `app.deploy` name is never removed. --runs lists what training keeps in runs/, and
--clean removes that of published versions.
"""

import argparse
import contextlib
import dataclasses
import json
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tasks
from app import cli
from app.serving import versions
from tasks.core.errors import UserError
from tasks.core.settings import flag, from_record


@dataclasses.dataclass(frozen=True)
class Version:
    """A published version.

    Attributes:
        model: Name of the model.
        number: Number of the version.
        folder: Its folder.
        record: Its `run.json`; empty if it cannot be read.
    """

    model: str
    number: int
    folder: Path
    record: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Its model and number, such as "sentiment/3"."""
        return f"{self.model}/{self.number}"

    @property
    def task(self) -> str:
        """Its task; "" if it is not known."""
        return self.record.get("task", "")

    @property
    def size(self) -> int:
        """Bytes of its files."""
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process is removing it
                total += path.stat().st_size if path.is_file() else 0
        return total

    @property
    def networks(self) -> int:
        """Number of networks that it serves; one that is distilled from others counts alone."""
        is_distilled = self.record.get("config", {}).get("distill", False)
        return 1 if is_distilled else len(self.record.get("networks", ())) or 1

    def scores(self) -> dict[str, str]:
        """Returns the scores by name, each with its interval."""
        intervals = self.record.get("intervals", {})
        texts = {}
        for name, value in self.record.get("scores", {}).items():
            texts[name] = f"{value:.4f}" if isinstance(value, int | float) else "undefined"
            if isinstance(intervals.get(name), list):
                low, high = intervals[name]
                texts[name] += f" ({low:.4f} to {high:.4f})"
        return texts

    def row(self) -> list[str]:
        """Returns a row of the list."""
        cell = str(self.record.get("config", {}).get("cell", ""))
        cell += f" x {self.networks}" if self.networks > 1 else ""
        base = str(self.record.get("base", {}).get("version", ""))
        day = time.strftime("%Y-%m-%d", time.localtime(self.folder.stat().st_mtime))
        source = str(self.record.get("data", {}).get("source", ""))
        scores = ", ".join(f"{name} {text}" for name, text in self.scores().items())
        if not versions.is_complete(self.folder):
            scores = "no version: it has no saved_model.pb"
        size = cli.mebibytes(self.size)
        return [self.model, str(self.number), self.task, cell, source, base, day, size, scores]

    def summary(self) -> dict[str, Any]:
        """Returns what `--json` prints."""
        keys = ("task", "scores", "intervals", "config", "data", "base", "parameters", "commit")
        values = {key: self.record.get(key) for key in keys}
        return {"model": self.model, "version": self.number, "bytes": self.size, **values}


_DEPLOY = Path("deploy")
_RUNS = Path("runs")
_DRAFT = "draft-removed-"  # begins the name of a version that is being removed
_COLUMNS = ["model", "version", "task", "cell", "data", "continues", "date", "size", "scores"]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the versions or what training keeps, or removes some of it."""
    args = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    if args.delete and not args.model:
        raise UserError("--delete needs the name of a model before it, such as sentiment.")
    if args.keep < 1:
        raise UserError(f"--keep must be at least 1, got {args.keep}.")
    if args.unused_days < 0:
        raise UserError(f"--unused-days must be at least 0, got {args.unused_days}.")
    if args.clean and not args.runs:
        raise UserError("--clean needs --runs, which lists what would be removed.")
    if args.runs:
        _runs(args)
        return
    published = find(args.saved_models)
    if args.compare:
        first, second = (_version(text, args.model, published) for text in args.compare)
        _compare(first, second, args.saved_models)
        return
    published = [version for version in published if args.model in (None, version.model)]
    if not published:
        raise UserError(
            f"{args.saved_models} holds no published version"
            + (f" of {args.model}" if args.model else "")
            + f"; run: python -m app.train {args.model or 'sentiment'}"
        )
    if args.delete or args.prune:
        deployed = _deployed(args.deploy, args.saved_models)
    if args.delete:
        _remove(published, _named(published, args.delete), args.saved_models, deployed)
    elif args.prune:
        _remove(published, _older(published, args.keep), args.saved_models, deployed)
    elif args.json:
        print(json.dumps([version.summary() for version in published]))
    else:
        rows = [_COLUMNS]
        for version in published:
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                rows.append(version.row())
        print(cli.columns(rows))


def find(saved_models: Path) -> list[Version]:
    """Returns the published versions of all models, in order of name and number."""
    listed = []
    for model, numbers in versions.published(saved_models).items():
        for number in numbers:
            folder = saved_models / model / str(number)
            listed.append(Version(model, number, folder, versions.record(folder)))
    return listed


def _version(text: str, model: str | None, published: Sequence[Version]) -> Version:
    """Returns the version that a value of --compare names."""
    name, number = versions.parse(text, model or "")
    if not name:
        raise UserError(f"--compare needs the models, too, such as sentiment/{number}; got {text}.")
    for version in published:
        if (version.model, version.number) == (name, number):
            return version
    titles = [version.title for version in published]
    raise UserError(f"--compare must name versions of {titles}, got {name}/{number}.")


def _compare(first: Version, second: Version, saved_models: Path) -> None:
    """Prints the settings and scores in which two versions of a task differ."""
    for version in (first, second):
        if not version.task:
            raise UserError(f"--compare: {version.folder} has no record of its training.")
    if first.task != second.task:
        raise UserError(
            f"--compare must name two versions of one task, got {first.title} of {first.task} and "
            f"{second.title} of {second.task}."
        )
    settings = _settings((first, second))
    one, other = map(_described, (first, second), settings)
    rows = [
        [name, one.get(name, ""), other.get(name, "")]
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]
    if rows:
        print(cli.columns([["", first.title, second.title], *rows]))
    else:
        print(f"{first.title} and {second.title} have the same settings, data and scores")
    command = ["python", "-m", "app.evaluate", first.task, "--compare", first.title, second.title]
    if saved_models != Path("saved_models"):
        command += ["--saved-models", str(saved_models)]
    print(
        "the scores are those of each version's own test part; on the same examples, with a test "
        f"of significance: {shlex.join(command)}"
    )


def _described(version: Version, config: Mapping[str, Any]) -> dict[str, str]:
    """Returns settings, data and scores of a version by name, in words."""
    record, data = version.record, version.record.get("data", {})
    base = record.get("base", {})
    settings = {
        flag(name): value if isinstance(value, str) else json.dumps(value)
        for name, value in config.items()
    }
    counts = ", ".join(f"{part} {count}" for part, count in data.get("examples", {}).items())
    return {
        **settings,
        "data": str(data.get("source", "")),
        "examples": counts,
        "SHA-256 of the data": str(data.get("checksum", ""))[:12],
        "continues": str(base.get("version", "")),
        "networks": str(version.networks),
        "best epoch": f"{record.get('best_epoch', '')} of {record.get('epochs', '')}",
        "parameters": str(record.get("parameters", "")),
        **{f"score {name}": text for name, text in version.scores().items()},
    }


def _settings(compared: Sequence[Version]) -> list[Mapping[str, Any]]:
    """Returns the settings of versions by their present names, or as recorded if one has others."""
    configs = [version.record.get("config", {}) for version in compared]
    try:
        settings = tasks.declaration(compared[0].task).Config
        return [dataclasses.asdict(from_record(settings, config)) for config in configs]
    except (UserError, TypeError):  # of another program, or of a task that is gone
        return configs


def _named(published: Sequence[Version], numbers: Sequence[int]) -> list[Version]:
    by_number = {version.number: version for version in published}
    unknown = sorted(set(numbers) - set(by_number))
    if unknown:
        raise UserError(f"--delete must be of the versions {sorted(by_number)}, got {unknown}.")
    for number in numbers:
        if not versions.is_complete(by_number[number].folder):
            raise UserError(
                f"--delete: {by_number[number].folder} has no saved_model.pb, so it is no version; "
                "remove the folder yourself if you do not need it."
            )
    return [by_number[number] for number in dict.fromkeys(numbers)]


def _older(published: Sequence[Version], keep: int) -> list[Version]:
    """Returns all versions but the latest `keep` of each model; folders of other files stay."""
    older, published = [], [v for v in published if versions.is_complete(v.folder)]
    for model in dict.fromkeys(version.model for version in published):
        older += [version for version in published if version.model == model][:-keep]
    return older


def _deployed(folders: Sequence[Path], saved_models: Path) -> set[Path]:
    """Returns the folders of the versions that deployments name; none without their files."""
    named = set()
    for folder in folders or [_DEPLOY]:
        path = folder / "models.config"
        if path.exists() or path.is_symlink():  # whose target may be out of reach
            with cli.quiet():
                from app.serving import deployment, server_config
            for model, number in server_config.served(deployment.read(path)):
                named.add((saved_models / model / str(number)).resolve())
        elif folders:
            raise UserError(f"--deploy: {path} does not exist.")
    return named


def _remove(
    published: Sequence[Version],
    unwanted: Sequence[Version],
    saved_models: Path,
    deployed: set[Path],
) -> None:
    """Removes versions that are not deployed, and prints every one.

    A version is renamed first, so that no server sees one with a part of its files.

    Args:
        published: The versions of the models, of which removals that were interrupted before are
            completed.
        unwanted: The versions to remove.
        saved_models: Folder of the published models.
        deployed: Folders of versions that stay.
    """
    freed = count = 0
    for model in dict.fromkeys(version.model for version in published):
        for draft in (saved_models / model).glob(f"{_DRAFT}*"):
            _delete(draft)
            print(f"removed {draft}, which an interrupted removal left")
    for version in unwanted:
        if version.folder.resolve() in deployed:
            print(f"not removed: {version.folder}, which models.config names")
            continue
        size, draft = version.size, version.folder.with_name(f"{_DRAFT}{version.number}")
        try:
            version.folder.rename(draft)
        except FileNotFoundError:
            print(f"not removed: {version.folder}, which another process has removed")
            continue
        _delete(draft)
        print(f"removed {version.folder}: {cli.mebibytes(size)}", flush=True)
        freed, count = freed + size, count + 1
    for model in dict.fromkeys(
        version.model for version in unwanted if not version.folder.exists()
    ):
        following = versions.next_number(saved_models / model)
        if following <= max(version.number for version in unwanted if version.model == model):
            print(f"the next version of {model} will be {following} again")
    print(f"{count} of {len(unwanted)} removed, {cli.mebibytes(freed)} freed")


def _delete(folder: Path) -> None:
    """Removes a folder, or a link to one, which another process may be removing, too."""
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _runs(args: argparse.Namespace) -> None:
    """Prints what training keeps, or removes what can be made again."""
    from app.training import cached_corpora, stored_runs

    if not args.runs.is_dir() and args.runs != _RUNS:
        raise UserError(
            f"--runs: {args.runs} is not a folder. For the runs of one model: python -m app.models "
            f"{args.runs.name} --runs"
        )
    stored, corpora = stored_runs.find(args.runs), cached_corpora.find(args.runs)
    if args.model:
        stored = [run for run in stored if run.model == args.model]
        corpora = [
            corpus for corpus in corpora if any(r.parent.name == args.model for r in corpus.runs)
        ]
    if not stored and not corpora:
        print(f"nothing in {args.runs}" + (f" belongs to {args.model}" if args.model else ""))
    elif args.clean:
        _clean(args)
    else:
        now = time.time()
        states = [(run, run.state) for run in stored]
        for corpus in corpora:
            reason = corpus.stale_reason(args.unused_days, now)
            states.append((corpus, f"encoded examples of {corpus.task}, {reason or 'complete'}"))
        rows = [["folder", "size", "last used", "state"]]
        for item, state in states:
            day = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.last_used))
            rows.append([str(item.folder), cli.mebibytes(item.size), day, state])
        total = cli.mebibytes(sum(item.size for item, _ in states))
        print(cli.columns(rows), f"{len(states)} in all, {total}", sep="\n")


def _clean(args: argparse.Namespace) -> None:
    from app.training import cached_corpora, stored_runs

    if args.model:
        raise UserError(f"--clean removes the state of all models; leave out {args.model}.")
    sizes = []
    for run in stored_runs.remove_published(args.runs, args.saved_models, args.unused_days):
        print(f"removed {run.folder}: {cli.mebibytes(run.size)}, {run.state}", flush=True)
        sizes.append(run.size)
    for corpus, reason in cached_corpora.remove_stale(args.runs, args.unused_days):
        print(f"removed {corpus.folder}: {cli.mebibytes(corpus.size)}, {reason}", flush=True)
        sizes.append(corpus.size)
    print(f"{len(sizes)} removed, {cli.mebibytes(sum(sizes))} freed")


def _parser() -> cli.Parser:
    parser = cli.Parser(
        "python -m app.models",
        description=__doc__,
        examples=[
            "python -m app.models sentiment",
            "python -m app.models --compare sentiment/1 films/2",
            "python -m app.models --prune --keep 3",
            "python -m app.models --runs --clean",
        ],
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="name of one model (default: all)"
    )
    cli.add_saved_models(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--json", action="store_true", help="print one JSON array")
    action.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="print the settings and scores in which two versions differ, such as sentiment/1 and "
        "films/2",
    )
    action.add_argument(
        "--delete", type=int, nargs="+", metavar="VERSION", help="remove versions of a model"
    )
    action.add_argument("--prune", action="store_true", help="remove all but the latest versions")
    action.add_argument(
        "--runs",
        nargs="?",
        type=cli.utf8_path,
        const=_RUNS,
        metavar="DIR",
        help="list the training state and the encoded examples in a folder (default: runs)",
    )
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
        action="append",
        default=[],
        metavar="DIR",
        help="folder of `app.deploy`, whose versions are kept; may be repeated (default: "
        f"{_DEPLOY})",
    )
    parser.add_argument(
        "--clean",
        action="store_true",
        help="with --runs: remove the state of runs that have ended and are published, and stale "
        "encoded examples; never that of unfinished runs",
    )
    parser.add_argument(
        "--unused-days",
        type=int,
        default=30,
        metavar="INT",
        help="days without use after which --clean removes (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
