"""Survey of a corpus for people: classes, lengths, words and suspicious examples.

It reads a corpus twice, and holds counts and a few examples, never the corpus.
"""

import array
import collections
import dataclasses
import heapq
import math
import unicodedata
from collections.abc import Callable, Iterator

from tasks.core.examples import PARTS, Example, Splits, text_hash
from tasks.core.summary import PartSummary

MAX_WORDS = 2**16  # distinct words that are counted of a class; beyond, the rarer half is dropped
_MAX_CLASSES = 1000  # whose words are counted
_SHOWN = 10  # suspicious examples of a kind
_ALL = ""  # stands for all examples where there are no classes
# Characters that rarely belong to a text: of a wrong encoding, or invisible.
_ODD_CATEGORIES = ("Cc", "Cf", "Co", "Cn", "Cs")
_USUAL = "\t\n\r\u200c\u200d\ufeff"


@dataclasses.dataclass(frozen=True)
class Suspicion:
    """An example that a person should look at.

    Attributes:
        reason: Why.
        part: Its part.
        origin: Its file and line.
        text: Its input.
        target: Its label, tags or translation.
    """

    reason: str
    part: str
    origin: str
    text: str
    target: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """Result of a survey.

    Attributes:
        summaries: The summary of each part.
        lengths: Number of examples by their number of words, of each part.
        words: Occurrences of words in the train part, by class; by "" where there are none.
        suspicions: Examples to look at.
        values: Numbers that are predicted, of each part; none for other targets.
    """

    summaries: dict[str, PartSummary]
    lengths: dict[str, collections.Counter[int]]
    words: dict[str, collections.Counter[str]]
    suspicions: list[Suspicion]
    values: dict[str, array.array]


def survey(splits: Splits, identity: Callable[[Example], str]) -> Survey:
    """Returns the survey of a corpus.

    Args:
        splits: The parts.
        identity: Returns the input of an example as a text, such as `Corpus.identity`.
    """
    summaries = {part: PartSummary(identity) for part in PARTS}
    lengths = {part: collections.Counter() for part in PARTS}
    values = {part: array.array("d") for part in PARTS}
    words: dict[str, collections.Counter[str]] = {}
    targets: dict[int, int] = {}
    conflicting = set()
    longest, suspicions = [], []
    for number, (part, example) in enumerate(_examples(splits)):
        summaries[part].add(example)
        tokens = _tokens(example)
        lengths[part][len(tokens)] += 1
        if part == "train":
            _count(words, example, tokens)
        if "value" in example.values:
            values[part].append(float(example.values["value"]))
        if "label" in example.values:
            key, target = text_hash(identity(example)), hash(example.values["label"])
            if targets.setdefault(key, target) != target:
                conflicting.add(key)
        entry = (len(tokens), -number, _suspicion("among the longest", part, example))
        heapq.heappush(longest, entry)
        if len(longest) > _SHOWN:
            heapq.heappop(longest)
        reason = _oddity(tokens)
        if reason and sum(s.reason == reason for s in suspicions) < _SHOWN:
            suspicions.append(_suspicion(reason, part, example))
    if conflicting:
        several = (
            _suspicion("the same text has different labels", part, example)
            for part, example in _examples(splits)
            if text_hash(identity(example)) in conflicting
        )
        first = [suspicion for suspicion, _ in zip(several, range(2 * _SHOWN), strict=False)]
        suspicions = [*sorted(first, key=lambda suspicion: suspicion.text), *suspicions]
    suspicions += [
        suspicion for _, _, suspicion in sorted(longest, reverse=True, key=lambda e: e[:2])
    ]
    return Survey(summaries, lengths, words, suspicions, values)


def _examples(splits: Splits) -> Iterator[tuple[str, Example]]:
    return ((part, example) for part in PARTS for example in getattr(splits, part))


def _tokens(example: Example) -> tuple[str, ...]:
    """Returns the words of the input, or of the captions of an image."""
    values = example.values
    if "tokens" in values:
        return values["tokens"]
    text = values.get("text")
    if text is None:
        text = " ".join(map(str, _pieces(example, "captions") or _pieces(example, "caption")))
    return tuple(text.split())


def _pieces(example: Example, key: str) -> tuple[str, ...]:
    value = example.values.get(key, ())
    return value if isinstance(value, tuple) else (value,)


def _count(words: dict[str, collections.Counter[str]], example: Example, tokens) -> None:
    """Adds the words of an example to those of its class, or of each of its labels."""
    labels = example.values.get("label", _ALL)
    for label in labels if isinstance(labels, tuple) else (labels,):
        if label not in words and len(words) >= _MAX_CLASSES:
            continue
        counter = words.setdefault(label, collections.Counter())
        counter.update(token.casefold() for token in tokens)
        if len(counter) > MAX_WORDS:
            words[label] = collections.Counter(dict(counter.most_common(MAX_WORDS // 2)))


def _oddity(tokens: tuple[str, ...]) -> str:
    """Returns what is odd about the text of an example; "" if nothing is."""
    if not tokens:
        return "no words"
    text = " ".join(tokens)
    if "\ufffd" in text:
        return "replacement characters: its bytes were not valid in the encoding"
    if any(mark in text for mark in ("Ã©", "Ã¼", "Ã¶", "Ã¤", "â€™", "â€œ", "Â ")):
        return "looks like UTF-8 that was decoded as Windows-1252"
    if any(unicodedata.category(c) in _ODD_CATEGORIES and c not in _USUAL for c in text):
        return "control or unassigned characters"
    return ""


def _suspicion(reason: str, part: str, example: Example) -> Suspicion:
    tokens, values = _tokens(example), example.values
    target = next(
        (
            _text(values[key], " | " if key == "label" else " ")
            for key in ("label", "value", "tags", "translation")
            if key in values
        ),
        "",
    )
    return Suspicion(reason, part, example.origin, " ".join(tokens), target)


def _text(value: str | tuple[str, ...], separator: str) -> str:
    return separator.join(value) if isinstance(value, tuple) else value


def distinctive_words(survey: Survey, label: str, count: int = 15) -> list[str]:
    """Returns the words that are most frequent in a class compared with all others.

    Words are ranked by their occurrences times the logarithm of the ratio of shares, the part of
    the class in the Kullback-Leibler divergence.

    Args:
        survey: The survey.
        label: The class.
        count: Number of words.
    """
    own = survey.words[label]
    others: collections.Counter[str] = collections.Counter()
    for other, counter in survey.words.items():
        if other != label:
            others.update(counter)
    own_total, other_total = sum(own.values()) + 1, sum(others.values()) + 1

    def weight(item: tuple[str, int]) -> float:
        word, number = item
        return number * math.log(number / own_total * other_total / (others[word] + 1))

    ranked = sorted(own.items(), key=lambda item: (-weight(item), item[0]))
    return [word for word, _ in ranked[:count]]
