"""Temporal order: which of two things came first, and which then (Hochreiter & Schmidhuber 1997).

Their problem 6a at any length: among random letters stand two that are X or Y, the first
between a tenth and a fifth of the way, the second between a half and three fifths.
"""

import dataclasses

import numpy as np

from tasks import probes
from tasks.core.settings import setting

LETTERS = "abcdXYBE"  # four that say nothing, the two that count, the beginning and the end


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """XX, XY, YX or YY, far apart among other letters; the score is the accuracy."""

    kind, steps = "class", 600
    features, outputs = len(LETTERS), 4

    length: int = setting(100, "letters in a sequence", at_least=20)

    def draw(self, rng, count):
        letters = rng.integers(0, 4, (count, self.length))
        letters[:, 0], letters[:, -1] = LETTERS.index("B"), LETTERS.index("E")
        two = rng.integers(0, 2, (count, 2))
        for at, (low, high) in enumerate(((0.1, 0.2), (0.5, 0.6))):
            places = rng.integers(int(low * self.length), int(high * self.length), count)
            letters[np.arange(count), places] = LETTERS.index("X") + two[:, at]
        answers = (2 * two[:, 0] + two[:, 1]).astype("int32")
        return probes.Batch(
            probes.one_hot(letters, self.features), answers, np.ones(count, "float32")
        )

    def test(self):
        return self.draw(np.random.default_rng(probes.SEED), 1000)

    def score(self, batch, outputs):
        return {"accuracy": probes.accuracy(batch, outputs)}

    def chance(self):
        return {"accuracy": 1 / self.outputs}
