"""Requests and responses of sequence labelling on the command line."""

import dataclasses
from collections.abc import Iterable, Iterator

from tasks.core import request_format
from tasks.core.errors import UserError
from tasks.core.settings import setting
from tasks.corpora import conllu


@dataclasses.dataclass(frozen=True)
class RequestFormat(request_format.RequestFormat):
    """Sentences as text, as tokens or in CoNLL-U; the response is tagged words or CoNLL-U."""

    input: str = setting(
        "text",
        "format of the input: text, one sentence per line; tokens, the same with blanks between "
        "tokens; or conllu, whose tags are replaced",
        choices=("text", "tokens", "conllu"),
    )
    format: str = setting("words", "words (word/TAG) or conllu", choices=("words", "conllu"))
    tags: str = setting("upos", "column of CoNLL-U for the tags", choices=conllu.TAGS)

    @property
    def signature(self) -> str:
        return "serving_default" if self.input == "text" else "tokens"

    @property
    def by_line(self) -> bool:
        return self.input != "conllu"

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, conllu.Sentence | None]]:
        if self.input == "conllu":
            for sentence in conllu.sentences(lines):
                tokens = sentence.tokens()
                yield {"tokens": tokens, "lengths": len(tokens)}, sentence
            return
        for line in lines:
            if self.input == "text":
                yield {"text": line}, None
            else:
                tokens = line.split()
                yield {"tokens": tokens, "lengths": len(tokens)}, None

    def show(self, context: conllu.Sentence | None, response: dict) -> str:
        tokens, tags, length = response["tokens"], response["tags"], response["lengths"]
        if len(tokens) < length:
            raise UserError(
                f"a sentence has {length} tokens, of which this version tags {len(tokens)} "
                f"(--max-tokens): {' '.join(tokens)[:40]!r}…"
            )
        if self.format == "words":
            return " ".join(f"{token}/{tag}" for token, tag in zip(tokens, tags, strict=True))
        sentence = context or conllu.Sentence.from_tokens(tokens)
        return sentence.with_tags(self.tags, tags)
