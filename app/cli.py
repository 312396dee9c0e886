"""The command line of every verb: flags from dataclass fields, and errors in plain words."""

import argparse
import ast
import contextlib
import dataclasses
import difflib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import tasks
from tasks.core.errors import UserError
from tasks.core.settings import flag

FAILED = 2  # the exit code of what a user can mend


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations and says what is wrong in a line or two."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message):
        known = list(self._option_string_actions)
        for word in message.split():
            flag_named = word.split("=")[0].rstrip(":")
            if word.startswith("--") and flag_named not in known:
                near = difflib.get_close_matches(flag_named, known, n=1)
                message += f"; did you mean {near[0]}?" if near else ""
        self.exit(FAILED, f"error: {message}\n(flags and defaults: {self.prog} --help)\n")


def parse(
    verb: str,
    description: str,
    argv: Sequence[str] | None,
    add: Callable[[argparse.ArgumentParser, type], None],
) -> tuple[argparse.Namespace, type]:
    """Parses the command line of a verb whose first word is a task.

    The task's module, and with it TensorFlow, is imported only when a task is
    named, so that a bare --help answers at once.

    Args:
        verb: The verb's module, such as "train".
        description: What it does.
        argv: The words after it; None for those of the process.
        add: Adds the verb's flags to a parser, given the class of the task.

    Returns:
        The flags and the class of the task.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    prog = f"python -m app.{verb}"
    parser = Parser(prog, description=description)
    parser.epilog = f"Flags of a task: {prog} TASK --help"
    subparsers = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    chosen, own = None, parser
    for name in tasks.names():
        line = _first_line(name)
        usage = f"{prog} {name} [flags]"
        sub = subparsers.add_parser(name, help=line, description=line, usage=usage)
        if argv[:1] == [name]:
            with quiet():
                chosen = tasks.find(name)
            add(sub, chosen)
            own = sub
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        own.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args, chosen


def add_settings(parser: argparse.ArgumentParser, settings: type) -> None:
    """Adds a flag for each field of a dataclass of settings."""
    if not dataclasses.fields(settings):
        return
    group = parser.add_argument_group(settings.__doc__.splitlines()[0].rstrip("."))
    for field in dataclasses.fields(settings):
        text = field.metadata["help"]
        if isinstance(field.default, bool):
            options = {"action": argparse.BooleanOptionalAction}
        else:
            text += f" (default: {field.default})" if field.default != "" else ""
            metavar = {int: "INT", float: "FLOAT"}.get(type(field.default), "TEXT")
            options = {"type": type(field.default), "metavar": metavar}
        text = text.replace("%", "%%")
        group.add_argument(flag(field.name), default=field.default, help=text, **options)
        if field.metadata["old_name"]:
            parser.add_argument(
                flag(field.metadata["old_name"]),
                dest=field.name,
                type=type(field.default),
                default=argparse.SUPPRESS,
                help=argparse.SUPPRESS,
                action=_RenamedFlag,
            )


class _RenamedFlag(argparse.Action):
    """Accepts the former name of a flag, and names the new one on standard error."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(f"{option_string} is now called {flag(self.dest)}", file=sys.stderr)
        setattr(namespace, self.dest, values)


def settings(cls: type, args: argparse.Namespace):
    """Returns the dataclass of settings with the values of the flags."""
    return cls(**{field.name: getattr(args, field.name) for field in dataclasses.fields(cls)})


def add_saved_models(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that every verb has."""
    parser.add_argument(
        "--saved-models",
        type=Path,
        default=Path("saved_models"),
        metavar="DIR",
        help="folder of published models (default: %(default)s)",
    )


def add_out(parser: argparse.ArgumentParser, under: str) -> None:
    """Adds the flag of verbs that write a page with pictures."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"a folder, new or empty (default: the next number in {under})",
    )


def check_out(out: Path | None) -> None:
    """Holds `--out` against its rule, before there is anything to write.

    Raises:
        UserError: There is something in the way.
    """
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out must be a new or an empty folder, got {out}.")


def new_folder(out: Path | None, under: Path) -> Path:
    """Makes the folder that `--out` names, or else the next number under another.

    Raises:
        UserError: It cannot be made.
    """
    try:
        if out:
            out.mkdir(parents=True, exist_ok=True)
            return out
        while True:
            numbers = [int(path.name) for path in under.glob("*") if path.name.isdigit()]
            new = under / str(max(numbers, default=0) + 1)
            with contextlib.suppress(FileExistsError):  # another process took that number
                new.mkdir(parents=True)
                return new
    except OSError as error:
        raise UserError(f"--out must be a folder that can be made: {error}.") from error


def run(main: Callable[[], object], interrupted: str = "interrupted") -> None:
    """Runs a verb, and ends the process as a command should.

    What a user can mend is told in a few lines, with exit code 2, and so is a file
    that cannot be read or written; Ctrl-C gives 130, and a reader of the output that
    has gone away (`| head`) 141.

    Args:
        main: The verb.
        interrupted: What to say after Ctrl-C.
    """
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}.", file=sys.stderr)
        sys.exit(FAILED)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what TensorFlow's C++ code prints while it is imported.

    It reports the machine it finds on standard error, before any log level is
    heard. What was held back is printed if the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    # Its Python code still calls the graph session, which is what Serving runs, deprecated.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _first_line(name):
    """The first line of a task's docstring, read without importing it."""
    source = Path(importlib.util.find_spec(f"tasks.{name}").origin).read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)).splitlines()[0]


def columns(rows: Sequence[Sequence[str | int | float]]) -> str:
    """Rows as lines of aligned columns; floats with three digits."""
    told = [[f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*told, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in told
    )
