"""Copy: ten symbols to be repeated after a long delay (Hochreiter & Schmidhuber 1997).

In the version of Arjovsky et al. (2016) and Bai et al. (2018): ten symbols of an alphabet of
eight, blanks, a start signal, and blanks during which the targets are the ten symbols; all
other targets are blanks.
"""

import dataclasses
import math

import numpy as np

from tasks import probes
from tasks.core.settings import setting

SYMBOLS, COPIED = 8, 10
BLANK, START = SYMBOLS, SYMBOLS + 1


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """Ten symbols to be repeated; the score is the cross-entropy per step, in nats."""

    kind, per_step, greater_is_better = "class", True, False
    steps, batch, learning_rate = 4000, 32, 4e-3
    features, outputs = SYMBOLS + 2, SYMBOLS + 1

    length: int = setting(200, "steps from the last symbol to the start signal", at_least=1)

    def draw(self, rng: np.random.Generator, count: int) -> probes.Batch:
        copied = rng.integers(0, SYMBOLS, (count, COPIED))
        inputs = np.full((count, self.length + 2 * COPIED), BLANK)
        inputs[:, :COPIED] = copied
        inputs[:, -COPIED - 1] = START
        targets = np.full(inputs.shape, BLANK, "int32")
        targets[:, -COPIED:] = copied
        one_hot = probes.one_hot(inputs, self.features)
        return probes.Batch(one_hot, targets, np.ones(inputs.shape, "float32"))

    def test(self) -> probes.Batch:
        return self.draw(np.random.default_rng(probes.SEED), 500)

    def score(self, batch: probes.Batch, outputs: np.ndarray) -> dict[str, float]:
        copied = batch._replace(weights=batch.weights * (batch.targets != BLANK))
        return {
            "cross_entropy": probes.cross_entropy(batch, outputs),
            "copied": probes.accuracy(copied, outputs),
        }

    def chance(self) -> dict[str, float]:
        """Returns the scores of predicting blanks with certainty and symbols uniformly."""
        steps = self.length + 2 * COPIED
        return {"cross_entropy": COPIED * math.log(SYMBOLS) / steps, "copied": 1 / SYMBOLS}
