"""Ids of texts for an exported network, by the rules in ids.json, with Python alone.

    from ids import IdReader
    reader = IdReader("ids.json")
    inputs = reader.inputs(["a dull film", "a warm and funny film"])
    inputs["ids"]       # a list of ids for each text, of equal length: 0 is padding
    reader.names        # names of the classes or tags, in the order of the outputs

The rules are those of the SavedModel: the classes of characters, written out, are those of its
runtime, so that the ids are the same whatever version of Unicode this Python has.
"""

import json
import re
from pathlib import Path

PADDING, UNKNOWN = 0, 1


class IdReader:
    """Reader of texts.

    Args:
        path: Path of ids.json.

    Attributes:
        names: Names of the classes, labels or tags; None for a network that predicts numbers.
    """

    def __init__(self, path: str | Path):
        rules = json.loads(Path(path).read_text(encoding="utf-8"))
        self.names = rules["names"]
        self._stages = [
            (
                [(re.compile(pattern), rewrite) for pattern, rewrite in stage["rules"]],
                re.compile(stage["whole"]) if stage["whole"] else None,
            )
            for stage in rules["stages"]
        ]
        self._max_bytes, self._max_length = rules["max_bytes"], rules["max_length"]
        self._fold_case, self._lower_unknown = rules["fold_case"], rules["lower_unknown"]
        self._max_word_length = rules["max_word_length"]
        self._lower = str.maketrans(rules["lower"])
        self._words = _ids(rules["words"])
        self._characters = _ids(rules["characters"])

    def split(self, text: str) -> list[str]:
        """Returns the words of a text that are read."""
        data = text.encode("utf-8", "replace")
        if self._max_bytes:
            data = data[: self._max_bytes]
        parts = [data.decode("utf-8", "replace")]
        for rules, whole in self._stages:
            parts = [word for part in parts for word in _divided(part, rules, whole)]
        return parts[: self._max_length]

    def inputs(self, texts: list[str], length: int | None = None) -> dict[str, list]:
        """Returns the inputs of the network by name, as nested lists.

        Args:
            texts: B texts.
            length: T, the number of words to pad to; None for that of the longest text. Words
                beyond it are left out.

        Returns:
            "ids", (B, T), and for networks that read characters "characters", (B, T, C).
        """
        return self.word_inputs([self.split(text) for text in texts], length)

    def word_inputs(self, texts: list[list[str]], length: int | None = None) -> dict[str, list]:
        """Returns what `inputs` does for texts that are already split into words."""
        if length is None:
            length = max([1, *map(len, texts)])
        rows = [words[:length] for words in texts]
        inputs = {"ids": [_padded([self._id(word) for word in words], length) for words in rows]}
        if self._characters is not None:
            empty = [PADDING] * self._max_word_length
            inputs["characters"] = [
                [*map(self._spelled, words), *[empty] * (length - len(words))] for words in rows
            ]
        return inputs

    def _id(self, word):
        if self._fold_case:
            word = self._lowered(word)
        number = self._words.get(word, UNKNOWN)
        if number == UNKNOWN and self._lower_unknown:
            number = self._words.get(self._lowered(word), UNKNOWN)
        return number

    def _lowered(self, word):
        # The lower case of a capital sigma depends on its position in the word.
        return word.lower() if "\u03a3" in word else word.translate(self._lower)

    def _spelled(self, word):
        limit = self._max_word_length
        tail = limit // 2
        head = limit - tail
        rest = word[head:]
        characters = word[:head] + rest[max(0, len(rest) - tail) :]
        return _padded([self._characters.get(c, UNKNOWN) for c in characters], limit)


def _divided(part, rules, whole):
    if whole is not None and whole.fullmatch(part):
        return [part]
    for pattern, rewrite in rules:
        part = pattern.sub(rewrite, part)
    return [word for word in part.split(" ") if word]


def _ids(words):
    return None if words is None else {word: number for number, word in enumerate(words, start=2)}


def _padded(ids, length):
    return [*ids, *[PADDING] * (length - len(ids))]
