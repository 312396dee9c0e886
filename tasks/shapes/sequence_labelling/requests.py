"""Requests and responses of sequence labelling on the command line."""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from tasks.core import request_format
from tasks.core.errors import UserError
from tasks.core.settings import setting
from tasks.corpora import conllu

_BLANK = r"\s"  # separates the fields of brat and of columns


@dataclasses.dataclass(frozen=True)
class RequestFormat(request_format.RequestFormat):
    """Sentences as text, as tokens or in CoNLL-U; the response is tagged words or entities.

    The context of a request is a sentence of CoNLL-U, or the text in which entities are marked.
    """

    input: str = setting(
        "text",
        "format of the input: text, one sentence per line; tokens, the same with spaces between "
        "tokens; or conllu, whose tags are replaced",
        choices=("text", "tokens", "conllu"),
    )
    format: str = setting(
        "words",
        "words (word/TAG, or the text with marked entities), conllu, conll (columns of words and "
        "tags) or, with --entities, brat (standoff annotation of each text)",
        choices=("words", "conllu", "conll", "brat"),
    )
    tags: str | None = setting(
        None,
        f"columns of CoNLL-U for the tags: {', '.join(conllu.TAGS)}. With one annotation, the "
        "column that its tags are written to (auto: upos); with several, those that are printed, "
        "separated by commas (auto: all)",
        auto=str,
    )
    entities: bool = setting(
        False, "whether to print the entities in the text instead of tags of words"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not set(self._columns()) <= set(conllu.TAGS):
            raise UserError(
                f"--tags must be one of {list(conllu.TAGS)}, or several separated by commas, got "
                f"{self.tags!r}."
            )
        if self.entities and self.input != "text":
            raise UserError(
                f"--entities are found in text and cannot be combined with --input {self.input}."
            )
        allowed = ("words", "brat") if self.entities else ("words", "conllu", "conll")
        if self.format not in allowed:
            combined = "with" if self.entities else "without"
            raise UserError(
                f"--format must be one of {list(allowed)} {combined} --entities, got "
                f"{self.format!r}."
            )

    def _columns(self) -> list[str]:
        """Returns the columns that the flag names."""
        return [] if self.tags is None else self.tags.split(",")

    @property
    def signature(self) -> str:
        if self.entities:
            return "entities"
        return "serving_default" if self.input == "text" else "tokens"

    @property
    def by_line(self) -> bool:
        return self.input != "conllu"

    def requests(
        self, lines: Iterable[bytes]
    ) -> Iterator[tuple[dict, conllu.Sentence | bytes | None]]:
        if self.input == "conllu":
            for sentence in conllu.sentences(lines):
                tokens = sentence.tokens()
                yield {"tokens": tokens, "lengths": len(tokens)}, sentence
            return
        for line in lines:
            if self.input == "text":
                yield {"text": line}, line if self.entities else None
            else:
                tokens = line.split()
                yield {"tokens": tokens, "lengths": len(tokens)}, None

    def show(self, context: conllu.Sentence | bytes | None, response: dict) -> str:
        if self.entities:
            return self._show_entities(context, response)
        tokens, length = response["tokens"], response["lengths"]
        if len(tokens) < length:
            raise UserError(
                f"a sentence has {length} tokens, of which this version tags {len(tokens)} "
                f"(--max-tokens): {' '.join(tokens)[:40]!r}…"
            )
        columns = self._annotations(response)
        words = list(zip(tokens, *columns.values(), strict=True))
        if self.format == "words":
            return " ".join(map("/".join, words))
        if self.format == "conll":
            return "".join(map(_line, words))
        sentence = context or conllu.Sentence.from_tokens(tokens)
        return sentence.with_columns(columns)

    def _annotations(self, response: dict) -> dict[str, list[str]]:
        """Returns the annotations of a response, by the column of CoNLL-U that they belong to.

        Raises:
            UserError: The version does not have a column that the flag names.
        """
        columns = self._columns()
        several = [name for name in conllu.COLUMNS if name in response]
        if several:
            missing = [name for name in columns if name not in several]
            if missing:
                raise UserError(f"--tags: this version has {several}, got {missing[0]!r}.")
            return {name: response[name] for name in columns or several}
        if len(columns) > 1:
            raise UserError(
                f"--tags must be a single column, because this version has one annotation, got "
                f"{self.tags!r}."
            )
        return {(columns or ["upos"])[0]: response.get("lemmas", response["tags"])}

    def _show_entities(self, text: bytes, response: dict) -> str:
        """Formats the entities of a text."""
        if response["truncated"]:
            raise UserError(
                "a text has more tokens than this version tags (--max-tokens): "
                f"{_decoded(text)[:40]!r}…"
            )
        columns = (response[name] for name in ("byte_starts", "byte_ends", "types"))
        spans = list(zip(*columns, strict=True))
        if self.format == "brat":
            characters = zip(response["starts"], response["ends"], strict=True)
            return "".join(
                f"T{number}\t{re.sub(_BLANK, '_', type_)} {first} {last}\t"
                f"{re.sub(_BLANK, ' ', _decoded(text[start:end]))}\n"
                for number, ((start, end, type_), (first, last)) in enumerate(
                    zip(spans, characters, strict=True), start=1
                )
            )
        shown, position = [], 0
        for start, end, type_ in spans:
            shown.append(_decoded(text[position:start]))
            shown.append(f"[{_decoded(text[start:end])} {type_}]")
            position = end
        return "".join([*shown, _decoded(text[position:])])

    def to_json(self, response: dict) -> dict:
        if not self.entities:
            return response
        names = {
            "starts": "start",
            "ends": "end",
            "byte_starts": "byte_start",
            "byte_ends": "byte_end",
            "types": "type",
            "probability": "probability",
        }
        columns = [response[name] for name in names]
        rows = [dict(zip(names.values(), row, strict=True)) for row in zip(*columns, strict=True)]
        return {"entities": rows, "truncated": response["truncated"]}


def _line(word: tuple[str, ...]) -> str:
    """Returns a line of columns, with tabs if a column contains a blank."""
    separator = "\t" if any(re.search(_BLANK, column) for column in word) else " "
    return f"{separator.join(word)}\n"


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")
