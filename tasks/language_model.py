"""Language model, N→N: the probability of each next token of a text."""

from tasks.core.settings import with_defaults
from tasks.corpora.texts import Texts
from tasks.shapes import language_modelling


class Task(language_modelling.LanguageModelling):
    """Texts in any language; nothing of them is labelled."""

    Config = with_defaults(
        language_modelling.Config,
        units=256,
        embedding=128,
        dropout=0.2,
        epochs=12,
        learning_rate=3e-3,
    )
    Corpus = Texts
