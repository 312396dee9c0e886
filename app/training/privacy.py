"""What a record and a report do not tell: folders of this machine, and, if asked, examples."""

import dataclasses
import html
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from tasks.core.evaluation import Alignment, AttentionMaps, Evaluation

_Value = TypeVar("_Value")
_BEFORE = r"(?<![^\s\"'(=,:;>\[])"  # a path begins here, not within another one


class Folders:
    """Folders whose names are left out of texts.

    An absolute path loses the folder that leads to it: of `/home/me/reviews/train.tsv` given by
    `--data /home/me/reviews` remains `reviews/train.tsv`.

    Args:
        settings: Dataclasses whose texts may be absolute paths.
        others: Further absolute paths.
    """

    def __init__(self, settings: Iterable[object], others: Iterable[Path] = ()):
        texts = [
            value
            for each in settings
            for value in (getattr(each, field.name) for field in dataclasses.fields(each))
            if isinstance(value, str) and Path(value).is_absolute()
        ]
        texts += [str(path.absolute()) for path in others]
        paths = {os.path.normpath(text) for text in texts} | set(texts)
        inner = {path: Path(path).name for path in paths if Path(path).name}
        outer = {str(Path(path).parent).rstrip(os.sep) + os.sep: "" for path in paths}
        own = {str(path).rstrip(os.sep) + os.sep: "" for path in (Path.cwd(), Path.home())}
        replaced = inner | outer | own
        replaced = {path: name for path, name in replaced.items() if path not in ("", os.sep)}
        replaced |= {html.escape(path): html.escape(name) for path, name in replaced.items()}
        self._names = replaced
        longest_first = sorted(replaced, key=len, reverse=True)
        self._pattern = re.compile(_BEFORE + "(" + "|".join(map(re.escape, longest_first)) + ")")

    def left_out(self, value: _Value) -> _Value:
        """Returns a value, or nested values, with the names of the folders left out of texts."""
        if isinstance(value, str):
            return self._pattern.sub(lambda match: self._names[match[1]], value)
        if isinstance(value, dict):
            return {key: self.left_out(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self.left_out, value))
        return value


def limit_examples(
    evaluation: Evaluation, illustrations: Iterable[Alignment | AttentionMaps], count: int
) -> tuple[Evaluation, list[Alignment | AttentionMaps]]:
    """Returns what a report shows with at most some examples.

    Args:
        evaluation: The evaluation, whose mistakes are examples.
        illustrations: Attention over examples.
        count: Most examples of each; 0 for none.
    """
    mistakes = evaluation.mistakes
    if mistakes:
        rows = mistakes.rows[:count]
        mistakes = dataclasses.replace(mistakes, rows=rows) if count else None
    return dataclasses.replace(evaluation, mistakes=mistakes), list(illustrations)[:count]
