"""Rules by which ids follow from texts, for readers without TensorFlow."""

import dataclasses
from collections.abc import Sequence

Rules = Sequence[tuple[str, str]]  # patterns of RE2 and their replacements


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of splitting: rules that insert blanks, at which the parts are then divided.

    Attributes:
        rules: The rules, in order; each is applied to every part.
        whole: Pattern of the parts that remain as they are; "" for none.
    """

    rules: Rules
    whole: str = ""


@dataclasses.dataclass(frozen=True)
class IdRules:
    """Rules by which ids follow from texts.

    Attributes:
        stages: Stages of splitting a text into words.
        max_bytes: Bytes of a text that are read; 0 for all.
        max_length: Words of a text that are read.
        fold_case: Whether words are looked up in lower case.
        lower_unknown: Whether words that are not in the vocabulary are looked up in lower case.
        words: The vocabulary; the first word has the id 2. Id 0 is padding, 1 an unknown word.
        characters: The alphabet, with the same ids; None for a network that reads words only.
        max_word_length: Characters of a word that are read, from its head and its tail.
        names: Names of the classes, labels or tags, in the order of their ids from 0; None for
            numbers.
    """

    stages: Sequence[Stage]
    max_bytes: int
    max_length: int
    fold_case: bool
    lower_unknown: bool
    words: Sequence[str]
    characters: Sequence[str] | None = None
    max_word_length: int = 0
    names: Sequence[str] | None = None
