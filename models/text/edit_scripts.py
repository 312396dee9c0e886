"""Lemmas as edit scripts: how a form becomes its lemma, as a tag that unseen words can have.

A script changes the case of a form, and replaces some of its first and last characters:

    lower¦-0+¦-0+         "The" -> "the", "the" -> "the"
    lower¦-0+¦-3+y        "parties" -> "party", "Cities" -> "city"
    keep¦-0+¦-0+          "Paris" -> "Paris"
    =be                   "is" -> "be", whatever the form is

The case is "lower", "keep", "capital" (of the first character) or "upper". Scripts are found in
Python, when data are read, and applied in core TensorFlow ops.

Shapes: N words; K scripts.
"""

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from . import case as letter_case

_CASES = {
    "lower": str.lower,
    "keep": str,
    "capital": lambda form: form[:1].upper() + form[1:].lower(),
    "upper": str.upper,
}
_SEPARATOR = "¦"
_SCRIPT = re.compile(
    f"(?:=(?P<whole>.+)|(?P<case>{'|'.join(_CASES)}){_SEPARATOR}-(?P<first>[0-9]+)\\+"
    f"(?P<prefix>[^{_SEPARATOR}]*){_SEPARATOR}-(?P<last>[0-9]+)\\+(?P<suffix>[^{_SEPARATOR}]*))",
    re.DOTALL,
)


class _Edits(NamedTuple):
    """A script.

    Attributes:
        whole: The lemma of every form; "" for none.
        case: Name of the case.
        first: Number of first characters that are removed.
        prefix: What replaces them.
        last: Number of last characters that are removed.
        suffix: What replaces them.
    """

    whole: str
    case: str = "keep"
    first: int = 0
    prefix: str = ""
    last: int = 0
    suffix: str = ""


def edit_script(form: str, lemma: str) -> str:
    """Returns the shortest script from a form to its lemma.

    >>> edit_script("Parties", "party"), edit_script("is", "be"), edit_script("Paris", "Paris")
    ('lower¦-0+¦-3+y', '=be', 'keep¦-0+¦-0+')
    """
    best, least = f"={lemma}", len(form) + len(lemma)
    for case, change in _CASES.items():
        changed = change(form)
        matcher = difflib.SequenceMatcher(None, changed, lemma, autojunk=False)
        start, start_in_lemma, size = matcher.find_longest_match()
        cost = len(changed) + len(lemma) - 2 * size
        if not size or cost >= least:
            continue
        prefix, suffix = lemma[:start_in_lemma], lemma[start_in_lemma + size :]
        if _SEPARATOR not in prefix + suffix:
            last = len(changed) - start - size
            parts = (case, f"-{start}+{prefix}", f"-{last}+{suffix}")
            best, least = _SEPARATOR.join(parts), cost
    return best


def is_edit_script(tag: str) -> bool:
    """Returns whether a tag is a script."""
    return _SCRIPT.fullmatch(tag) is not None


def apply_script(script: str, form: str) -> str:
    """Returns the lemma that a script makes of a form.

    >>> apply_script("lower¦-0+¦-3+y", "Cities")
    'city'
    """
    edits = _parse(script)
    if edits.whole:
        return edits.whole
    changed = _CASES[edits.case](form)
    first = min(edits.first, len(changed))
    last = max(first, len(changed) - edits.last)
    return edits.prefix + changed[first:last] + edits.suffix


def _parse(script: str) -> _Edits:
    match = _SCRIPT.fullmatch(script)
    if match is None:
        raise ValueError(f"not an edit script: {script!r}.")
    if match["whole"]:
        return _Edits(match["whole"])
    first, last = int(match["first"]), int(match["last"])
    return _Edits("", match["case"], first, match["prefix"], last, match["suffix"])


class EditScripts:
    """Applies scripts to words in core TensorFlow ops.

    Args:
        scripts: The K scripts.

    Example:
        >>> scripts = EditScripts(["lower¦-0+¦-3+y", "=be"])
        >>> scripts.apply(tf.constant([0, 1]), tf.constant(["Cities", "is"])).numpy().tolist()
        [b'city', b'be']
    """

    def __init__(self, scripts: Sequence[str]):
        columns = zip(*map(_parse, scripts), strict=True)
        self._whole, case, first, self._prefix, last, self._suffix = map(list, columns)
        self._case = np.array([list(_CASES).index(name) for name in case], np.int32)
        self._first, self._last = (np.array(numbers, np.int32) for numbers in (first, last))

    def apply(self, ids: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Returns the lemmas of words.

        Args:
            ids: Index of the script of each word, (N,) int32.
            words: (N,) strings, UTF-8.
        """
        lower, upper = letter_case.lower(words), letter_case.upper(words)
        initial = letter_case.upper(tf.strings.substr(words, 0, 1, unit="UTF8_CHAR"))
        size = tf.strings.length(words, unit="UTF8_CHAR")
        rest = tf.strings.substr(words, tf.minimum(1, size), size, unit="UTF8_CHAR")
        capital = tf.strings.join([initial, letter_case.lower(rest)])
        case = tf.gather(self._case, ids)
        changed = tf.where(case == 0, lower, tf.where(case == 1, words, capital))
        changed = tf.where(case == 3, upper, changed)

        size = tf.strings.length(changed, unit="UTF8_CHAR")
        first = tf.minimum(tf.gather(self._first, ids), size)
        length = tf.maximum(size - first - tf.gather(self._last, ids), 0)
        middle = tf.strings.substr(changed, first, length, unit="UTF8_CHAR")
        prefix, suffix, whole = (
            tf.gather(tf.constant(texts), ids)
            for texts in (self._prefix, self._suffix, self._whole)
        )
        edited = tf.strings.join([prefix, middle, suffix])
        return tf.where(tf.strings.length(whole) > 0, whole, edited)
