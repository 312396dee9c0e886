"""Temporal order: the order of two relevant symbols (Hochreiter & Schmidhuber 1997).

Their problem 6a at any length: a sequence of random letters contains two that are X or Y, the
first at 10 to 20 % of its length, the second at 50 to 60 %.
"""

import dataclasses

import numpy as np

from tasks import probes
from tasks.core.settings import setting

LETTERS = "abcdXYBE"  # four distractors, the two relevant ones, beginning and end


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """XX, XY, YX or YY, far apart among distractors; the score is the accuracy."""

    kind, steps = "class", 600
    features, outputs = len(LETTERS), 4

    length: int = setting(100, "letters in each sequence", at_least=20)

    def draw(self, rng: np.random.Generator, count: int) -> probes.Batch:
        letters = rng.integers(0, 4, (count, self.length))
        letters[:, 0], letters[:, -1] = LETTERS.index("B"), LETTERS.index("E")
        relevant = rng.integers(0, 2, (count, 2))
        for index, (low, high) in enumerate(((0.1, 0.2), (0.5, 0.6))):
            positions = rng.integers(int(low * self.length), int(high * self.length), count)
            letters[np.arange(count), positions] = LETTERS.index("X") + relevant[:, index]
        targets = (2 * relevant[:, 0] + relevant[:, 1]).astype("int32")
        return probes.Batch(
            probes.one_hot(letters, self.features), targets, np.ones(count, "float32")
        )

    def test(self) -> probes.Batch:
        return self.draw(np.random.default_rng(probes.SEED), 1000)

    def score(self, batch: probes.Batch, outputs: np.ndarray) -> dict[str, float]:
        return {"accuracy": probes.accuracy(batch, outputs)}

    def chance(self) -> dict[str, float]:
        return {"accuracy": 1 / self.outputs}
