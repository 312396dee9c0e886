"""Where the ids of a vocabulary come from, if training continues with a larger one."""

import dataclasses
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:  # which imports TensorFlow
    from models.text.words import Vocabulary

_UNKNOWN = 1  # id of the unknown word, in vocabularies that have one


@dataclasses.dataclass(frozen=True)
class IdMap:
    """The earlier id of each id, or the earlier position of each position along an axis.

    Attributes:
        before: Number of earlier ids.
        sources: The earlier id of each id, shape (number of ids,); -1 for none.
    """

    before: int
    sources: np.ndarray

    @classmethod
    def of(cls, old: "Vocabulary", new: "Vocabulary") -> Self:
        """Returns the map of two vocabularies; a new word comes from the unknown word, if any."""
        first = len(new) - len(new.words)
        missing = _UNKNOWN if first else -1
        index = {word: number for number, word in enumerate(old.words, start=first)}
        sources = [*range(first), *(index.get(word, missing) for word in new.words)]
        return cls(len(old), np.array(sources))

    @property
    def after(self) -> int:
        """Number of ids."""
        return len(self.sources)

    @property
    def is_identity(self) -> bool:
        """Whether nothing has changed."""
        return self.before == self.after and bool((self.sources == np.arange(self.after)).all())
