"""What all commands share: flags from dataclass fields, exit codes, lazy imports."""

import argparse
import ast
import contextlib
import dataclasses
import difflib
import errno
import importlib.util
import io
import logging
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tasks
from app.core import config_file
from app.core.console import ESCAPE, printable
from tasks.core.errors import UserError
from tasks.core.settings import flag

_Settings = TypeVar("_Settings")

_REPEAT_SECONDS = 0.1  # until an interrupt that a destructor swallowed is repeated
FAILED = 2  # exit code of errors that the user can fix
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # of writing to standard output
_FALLIBLE = ("strict", "surrogateescape")  # error handlers that fail for some characters
# Titles of the groups of flags in --help, by the stage that a setting affects.
_GROUPS = {
    "encoding": "Settings of reading and encoding examples",
    "training": "Settings of the network and its training",
    "schedule": "Settings of how long to train",
    "ensemble": "Settings of ensembles; networks trained with these settings are used again",
    "serving": "Settings of the served graph; changing them needs no training",
}


# Flags of other tools that have no equal here: the flag to give instead, and why.
_ELSEWHERE = {
    "--batch-size": ("--batch-tokens", "a batch is measured in tokens, including padding"),
}
_TRAIN = "python -m app.train "
_LONG_NAME = 6  # characters of a flag in which two typing errors are still near
_MIN_PREFIX = 3  # characters of the beginning of a flag that suggest it


class Parser(argparse.ArgumentParser):
    """Argument parser without abbreviations, with short error messages.

    Args:
        prog: The command, such as "python -m app.train".
        description: What the command does.
        examples: Command lines shown at the end of --help.
        reads_config: Whether --config gives flags in a file.
    """

    def __init__(
        self,
        prog: str,
        description: str | None = None,
        examples: Sequence[str] = (),
        reads_config: bool = True,
        **kwargs: Any,
    ):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog=prog, description=description, allow_abbrev=False, **kwargs)
        self.former_flags: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.automatic: set[str] = set()  # flags whose value may follow from the data
        self._reads_config = reads_config
        if reads_config:
            config_file.add_flag(self)
        if examples:
            title = "example" if len(examples) == 1 else "examples"
            self.epilog = "\n  ".join([f"{title}:", *examples])

    def parse_known_args(
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses words, after those of the file that --config names.

        Raises:
            UserError: The file is invalid.
        """
        words = sys.argv[1:] if args is None else list(args)
        flags = {word.split("=")[0] for word in words if word.startswith("--")}
        for word in words:
            if word.startswith("--") and word.endswith("=--"):  # argparse would drop the value
                self.error(f"{word}: -- is not a value of a flag.")
        for former, current in self.former_flags.items():
            if former in flags and flags & {current, current.replace("--", "--no-", 1)}:
                self.error(f"{former} is the former name of {current}; give only {current}.")
        for alias, current in self.aliases.items():
            if alias in flags and flags & {current, *self._other_aliases(alias)}:
                self.error(f"{alias} is another name of {current}; give only one of them.")
        path = config_file.path_in(words) if self._reads_config else None
        if path is not None:
            words = [*self._configured(path), *words]
        namespace, rest = super().parse_known_args(words, namespace)
        for action in self._actions:
            self._check_path(action, getattr(namespace, action.dest, None))
        return namespace, rest

    def _configured(self, path: Path) -> list[str]:
        """Returns the flags that a file gives."""
        task = self.prog.rpartition(" ")[2]
        return config_file.flags(
            path,
            self._option_string_actions,
            task=task if task in tasks.names() else "",
            trains=self.prog.startswith(_TRAIN),
            automatic=self.automatic,
            nearest=nearest_flag,
        )

    def _check_path(self, action: argparse.Action, value: object) -> None:
        """Rejects paths with control characters, such as the end of a line from Windows."""
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and re.search("[\0-\x1f\x7f]", str(path)):
                name = "/".join(action.option_strings) or action.dest
                self.error(f"{name} must not contain control characters, got {str(path)!r}.")

    def _other_aliases(self, alias: str) -> set[str]:
        """Returns the other aliases, and the former names, of the flag of an alias."""
        names = {**self.former_flags, **self.aliases}
        return {name for name, flag in names.items() if flag == names[alias] and name != alias}

    def error(self, message: str) -> NoReturn:
        """Exits with the message, what was probably meant, and where flags are listed."""
        flags = [name for name in self._option_string_actions if name.startswith("--")]
        for word in message.split():
            name = word.split("=")[0].rstrip(".,:;")
            if not word.startswith("--") or name in flags:
                continue
            current, reason = _ELSEWHERE.get(name, ("", ""))
            near = nearest_flag(name, flags)
            if name.startswith("--vectors") and self.prog.startswith(_TRAIN):
                message += (
                    "; word vectors are for tasks that read words, such as sentiment and tagging, "
                    "and this one reads subwords"
                )
            elif name == "--unlabelled" and self.prog.startswith(_TRAIN):
                message += (
                    "; texts without labels are for tasks that read words, such as sentiment and "
                    "tagging; app.train language_model trains on texts alone"
                )
            elif current in flags:
                message += f"; {reason}; give {current}"
            elif near:
                near = {**self.former_flags, **self.aliases}.get(near, near)
                message += f"; did you mean {near}?"
        if invalid := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            choices = re.findall(r"'([^']*)'", invalid[2])
            if near := difflib.get_close_matches(invalid[1], choices, n=1):
                message += f"; did you mean {near[0]!r}?"
        self.exit(FAILED, f"error: {message}\n(flags and defaults: {self.prog} --help)\n")


def nearest_flag(name: str, flags: Sequence[str]) -> str:
    """Returns the flag that was probably meant by an unknown one; "" if none is near.

    Near is a flag within one typing error, within two if both names are long, or one that
    begins with the name.

    Args:
        name: The unknown flag, such as "--unit".
        flags: The option flags.
    """
    word = name.removeprefix("--")
    near = []
    for flag_name in flags:
        option = flag_name.removeprefix("--")
        limit = 2 if min(len(word), len(option)) >= _LONG_NAME else 1
        distance = edit_distance(word, option)
        if distance <= limit or (len(word) >= _MIN_PREFIX and option.startswith(word)):
            near.append((min(distance, limit + 1), len(option), flag_name))
    return min(near)[2] if near else ""


def edit_distance(a: str, b: str) -> int:
    """Returns how many typing errors lead from one text to another.

    An error inserts, deletes or replaces a character, or swaps two neighbours.
    """
    before, previous = [], list(range(len(b) + 1))
    for i, first in enumerate(a, start=1):
        row = [i]
        for j, second in enumerate(b, start=1):
            cost = min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (first != second))
            if i > 1 and j > 1 and first == b[j - 2] and a[i - 2] == second:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, previous = previous, row
    return previous[-1]


def parse(
    command: str,
    description: str,
    argv: Sequence[str] | None,
    add_flags: Callable[[argparse.ArgumentParser, type], None],
    example: str = "",
    others: Mapping[str, str] = {},
) -> tuple[argparse.Namespace, type]:
    """Parses the command line of a command whose first argument is a task.

    Of the task only its declaration is imported, without TensorFlow, so that --help and
    errors are fast.

    Args:
        command: Name of the command's module, such as "train".
        description: What the command does.
        argv: Arguments; None for those of the process.
        add_flags: Adds the flags of the command to a parser, given the declaration of the task.
        example: Arguments after the task, shown as an example in --help.
        others: What may stand in place of a task, and is parsed elsewhere, with its help.

    Returns:
        The values of the flags, and the declaration of the task.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    prog = f"python -m app.{command}"
    parser = Parser(prog, description=description, reads_config=False)
    parser.epilog = f"flags of a task: {prog} TASK --help"
    subparsers = parser.add_subparsers(
        dest="task", required=True, metavar="TASK", parser_class=Parser
    )
    task_class, task_parser = None, parser
    for name in tasks.names():
        summary = _summary(name)
        subparser = subparsers.add_parser(
            name,
            prog=f"{prog} {name}",
            usage=f"{prog} {name} [flags]",
            help=summary,
            description=summary,
            examples=[f"{prog} {name} {example}".rstrip()],
        )
        if argv[:1] == [name]:
            task_class = tasks.declaration(name)
            add_flags(subparser, task_class)
            task_parser = subparser
    for name, text in others.items():
        subparsers.add_parser(name, help=text)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        task_parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args, task_class


def add_settings(parser: argparse.ArgumentParser, settings: type) -> None:
    """Adds a flag for each field of a dataclass of settings, in groups.

    A config has a group for each stage that its settings affect; other settings have one.
    """
    fields = dataclasses.fields(settings)
    stages = {field.metadata["affects"] for field in fields}
    for stage, title in _GROUPS.items():
        in_stage = [
            field
            for field in fields
            if field.metadata["affects"] == stage
            and flag(field.name) not in parser._option_string_actions  # shared with the corpus
        ]
        if not in_stage:
            continue
        if len(stages) == 1:
            title = settings.__doc__.splitlines()[0].rstrip(".")
        group = parser.add_argument_group(title)
        for field in in_stage:
            _add_setting(parser, group, field)


def _add_setting(
    parser: argparse.ArgumentParser, group: argparse._ArgumentGroup, field: dataclasses.Field
) -> None:
    text = field.metadata["help"]
    if isinstance(field.default, bool) or field.type == (bool | None):
        options = {"action": argparse.BooleanOptionalAction}
    else:
        default = "auto" if field.metadata["auto"] else field.default
        text += f" (default: {default})" if default != "" else ""
        value_type = field.metadata["auto"] or type(field.default)
        metavar = {int: "INT", float: "FLOAT"}.get(value_type, "TEXT")
        options = {"type": _value_type(field), "metavar": metavar}
    aliases = [flag(alias) for alias in field.metadata["aliases"]]
    text += f"; also {', '.join(aliases)}" if aliases else ""
    text = text.replace("%", "%%")
    group.add_argument(flag(field.name), default=field.default, help=text, **options)
    if field.metadata["auto"] and isinstance(parser, Parser):
        parser.automatic.add(flag(field.name))
    for alias in aliases:
        parser.add_argument(
            alias,
            dest=field.name,
            type=_value_type(field),
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
        if isinstance(parser, Parser):
            parser.aliases[alias] = flag(field.name)
    if field.metadata["old_name"]:
        former = flag(field.metadata["old_name"])
        add_former_flag(parser, former, field.name, _value_type(field))


def _value_type(field: dataclasses.Field) -> Callable:
    """Returns the function that converts the text of a setting; "auto" becomes None."""
    value_type = field.metadata["auto"]
    if not value_type:
        return type(field.default)

    def convert(text: str):
        return None if text == "auto" else value_type(text)

    convert.__name__ = f"{value_type.__name__} or auto"  # which argparse prints in errors
    return convert


def add_former_flag(
    parser: argparse.ArgumentParser, former: str, field: str, type: Callable = str
) -> None:
    """Accepts the former name of a flag; giving both names is an error.

    Args:
        parser: Parser that has the flag under its current name.
        former: Former name, such as "--rate".
        field: Name of the value, such as "learning_rate".
        type: Converts the text of the value.
    """
    parser.add_argument(
        former,
        dest=field,
        type=type,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
        action=_FormerFlag,
    )
    if isinstance(parser, Parser):
        parser.former_flags[former] = flag(field)


class _FormerFlag(argparse.Action):
    """Stores the value of a flag given by its former name, and prints the current one."""

    def __call__(self, parser, namespace, values, option_string=None):
        print(f"{option_string} is now called {flag(self.dest)}", file=sys.stderr)
        setattr(namespace, self.dest, values)


def settings(cls: type[_Settings], args: argparse.Namespace) -> _Settings:
    """Returns a dataclass of settings with the values of the flags."""
    return cls(**{field.name: getattr(args, field.name) for field in dataclasses.fields(cls)})


def utf8_path(text: str) -> Path:
    """Returns the path that a flag names, which TensorFlow accepts only in UTF-8.

    Raises:
        argparse.ArgumentTypeError: The path is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"must be a path in UTF-8, got {text!r}") from error
    return Path(text)


def add_saved_models(parser: argparse.ArgumentParser) -> None:
    """Adds the flag --saved-models."""
    parser.add_argument(
        "--saved-models",
        type=utf8_path,
        default=Path("saved_models"),
        metavar="DIR",
        help="folder of published models (default: %(default)s)",
    )


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the flag --out of commands that write a page with figures."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"output folder, new or empty (default: the next number in {default})",
    )


def mebibytes(size: int) -> str:
    """Returns a number of bytes in MiB, such as "1,234.5 MiB"."""
    return f"{size / 2**20:,.1f} MiB"


def check_out(out: Path | None) -> None:
    """Checks that `--out` is a new or empty folder, before anything is computed.

    Raises:
        UserError: It is a file, or a folder with files.
    """
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out must be a new or an empty folder, got {out}.")


def new_folder(out: Path | None, parent: Path) -> Path:
    """Creates the folder `--out`, or the next numbered folder in `parent` without one.

    Raises:
        UserError: The folder cannot be created.
    """
    try:
        if out:
            out.mkdir(parents=True, exist_ok=True)
            return out
        while True:
            names = [path.name for path in parent.glob("*")]
            numbers = [int(name) for name in names if re.fullmatch("[0-9]{1,18}", name)]
            new = parent / str(max(numbers, default=0) + 1)
            with contextlib.suppress(FileExistsError):  # another process took that number
                new.mkdir(parents=True)
                return new
    except OSError as error:
        raise UserError(f"--out must be a folder that can be created: {error}.") from error


def run(main: Callable[[], object], interrupted: str = "interrupted") -> None:
    """Runs a command, and reports errors that the user can fix without a traceback.

    The exit code is 2 for these and for files that cannot be read or written, 130 after
    Ctrl-C, and 141 if the reader of the output is gone (`| head`).

    Args:
        main: The command.
        interrupted: Message after Ctrl-C.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, as by >&- in a shell
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in _FALLIBLE:
        sys.stdout.reconfigure(errors=ESCAPE)
    try:
        with _repeated_interrupts():
            main()
        sys.stdout.flush()
    except UserError as error:
        # A value in the message may hold characters that would break its lines or move the cursor.
        message = "\n".join(printable(line) for line in str(error).split("\n"))
        print(f"error: {message}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another Ctrl-C ends it at once
        print(f"\n{interrupted}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MemoryError as error:
        print(f"error: out of memory: {str(error)[:300] or 'no details'}.", file=sys.stderr)
        sys.exit(FAILED)
    except OSError as error:
        if error.filename is not None:
            print(f"error: {printable(str(error.filename))}: {error.strerror}.", file=sys.stderr)
        elif error.errno in _OUTPUT_ERRORS:
            print(f"error: standard output: {error.strerror}.", file=sys.stderr)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the rest of it
        else:
            raise
        sys.exit(FAILED)


@contextlib.contextmanager
def _repeated_interrupts() -> Iterator[None]:
    """Repeats a Ctrl-C that arrives in a destructor, where Python reports and ignores it.

    The destructors of TensorFlow's objects run in every training step.
    """
    report = sys.unraisablehook
    timers = []

    def repeat(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            report(unraisable)
            return
        timer = threading.Timer(_REPEAT_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
        timers.append(timer)
        timer.start()

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        sys.unraisablehook = report
        for timer in timers:
            timer.cancel()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses what TensorFlow's C++ code prints to standard error while it is imported.

    It describes the machine before a log level takes effect. If the import fails, the output
    is printed after all.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["LC_ALL"] = "C.UTF-8"  # ops convert case by the rules of the locale
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 2)
        try:
            yield
        except Exception:
            output.seek(0)
            os.write(stderr, output.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    # Its Python code warns that the graph session, which TensorFlow Serving runs, is deprecated.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextlib.contextmanager
def with_tensorflow() -> Iterator[None]:
    """Imports TensorFlow; what it prints and what the imports of the block print is suppressed.

    TensorFlow imports Keras, which imports scikit-learn and Matplotlib where they are installed,
    for wrappers and galleries that no command uses. That would be a third of the time of the
    import. The block and what follows can import both.
    """
    with quiet():
        unused = [name for name in ("matplotlib", "sklearn") if name not in sys.modules]
        sys.modules.update(dict.fromkeys(unused))  # importing what is None is an ImportError
        try:
            import tensorflow  # noqa: F401
        finally:
            for name in unused:
                del sys.modules[name]
        yield


def _summary(name: str) -> str:
    """Returns the first line of a task's docstring without importing the task."""
    source = Path(importlib.util.find_spec(f"tasks.{name}").origin).read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)).splitlines()[0]


def columns(rows: Sequence[Sequence[str | int | float]]) -> str:
    """Formats rows as lines of aligned columns; floats have three digits."""
    texts = [[f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    )
