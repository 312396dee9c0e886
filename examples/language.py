"""Language, N→1: the language of a text."""

from tasks.core.examples import Example, Stream
from tasks.core.settings import with_defaults
from tasks.corpora.labelled_text import LabelledTexts
from tasks.corpora.samples import english_german
from tasks.shapes import classification


class Languages(LabelledTexts):
    """Location of texts with their languages; each example has `text` and `label`."""

    def sample(self) -> dict[str, Stream]:
        return {part: _labelled(stream) for part, stream in english_german.parts().items()}


def _labelled(pairs: Stream) -> Stream:
    """Returns both sides of each pair of sentences, with their languages."""

    def examples():
        for pair in pairs:
            yield Example({"text": pair.values["text"], "label": "en"}, pair.origin)
            yield Example({"text": pair.values["translation"], "label": "de"}, pair.origin)

    return Stream(examples)


class Task(classification.Classification):
    """Texts with their languages; any labels will do."""

    Config = with_defaults(classification.Config, units=32, embedding=50, epochs=5)
    Corpus = Languages
