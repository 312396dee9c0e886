"""Rules by which ids follow from texts, as a file that Python alone can read.

Patterns are those of RE2, whose classes of characters Python does not have, or has of another
version of Unicode. Each class is therefore written out as ranges, found by asking RE2.
"""

import itertools
import json
import re
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import tensorflow as tf

from app.exporting import id_reader
from models.text import case
from tasks.core.id_rules import IdRules

READER, RULES = "ids.py", "ids.json"
_SURROGATES = range(0xD800, 0xE000)
# A class of RE2, an escaped code point, a class in brackets' syntax, or another escape.
_ESCAPE = re.compile(r"\\p\{\w+\}|\\p\w|\\x\{[0-9A-Fa-f]+\}|\\[swd]|\\.", re.DOTALL)


def write(rules: IdRules, folder: Path) -> None:
    """Writes the rules, and the module that reads them, to a folder."""
    stages = [
        {
            "rules": [[python_pattern(pattern), rewrite] for pattern, rewrite in stage.rules],
            "whole": python_pattern(stage.whole),
        }
        for stage in rules.stages
    ]
    characters = None if rules.characters is None else list(rules.characters)
    content = {
        "stages": stages,
        "max_bytes": rules.max_bytes,
        "max_length": rules.max_length,
        "fold_case": rules.fold_case,
        "lower_unknown": rules.lower_unknown,
        "max_word_length": rules.max_word_length,
        "lower": lower_case() if rules.fold_case or rules.lower_unknown else {},
        "names": None if rules.names is None else list(rules.names),
        "characters": characters,
        "words": list(rules.words),
    }
    (folder / RULES).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    shutil.copyfile(id_reader.__file__, folder / READER)


def python_pattern(pattern: str) -> str:
    r"""Returns a pattern of RE2 as one of Python, with classes of characters as ranges.

    >>> python_pattern(r"[\d_]\.")
    '[\\U00000030-\\U00000039_]\\.'
    """
    result, position, in_brackets = [], 0, False
    while position < len(pattern):
        escape = _ESCAPE.match(pattern, position)
        if escape:
            text, position = escape[0], escape.end()
            if text[1] == "x":
                result.append(_code_point(int(text[3:-1], 16)))
            elif text[1] in "pswd":
                ranges = character_class(text)
                result.append(ranges if in_brackets else f"[{ranges}]")
            else:
                result.append(text)
            continue
        character = pattern[position]
        is_first = in_brackets and pattern[position - 1] in "[^"
        if character == "[" and not in_brackets:
            in_brackets = True
        elif character == "]" and in_brackets and not is_first:
            in_brackets = False
        elif character == "[":
            character = r"\["  # Python warns of a bracket in brackets
        elif character == "$" and not in_brackets:
            character = r"\Z"  # in Python $ is also before a final line break
        result.append(character)
        position += 1
    return "".join(result)


@cache
def character_class(name: str) -> str:
    r"""Returns a class of RE2, such as \p{Han}, as ranges for a class of Python."""
    ranges: list[list[int]] = []
    for number in _members(name):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return "".join(
        _code_point(a) if a == b else f"{_code_point(a)}-{_code_point(b)}" for a, b in ranges
    )


def _members(name: str) -> Iterable[int]:
    numbers, characters = _all_characters()
    return itertools.compress(numbers, tf.strings.regex_full_match(characters, name).numpy())


def lower_case() -> dict[str, str]:
    """Returns the lower case of each character that has one, as TensorFlow computes it."""
    lower = case.lower(_all_characters()[1]).numpy()
    pairs = zip(_all_characters()[1].numpy(), lower, strict=True)
    return {upper.decode(): low.decode() for upper, low in pairs if upper != low}


@cache
def _all_characters() -> tuple[list[int], tf.Tensor]:
    numbers = [number for number in range(0x110000) if number not in _SURROGATES]
    return numbers, tf.constant([chr(number) for number in numbers])


def _code_point(number: int) -> str:
    return f"\\U{number:08x}"
