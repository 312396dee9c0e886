"""Copy: ten symbols, a long wait, and then the ten again (Hochreiter & Schmidhuber 1997).

As Arjovsky et al. (2016) and Bai et al. (2018) have it: ten of eight symbols, blanks, a sign
to begin, and blanks at which the symbols are asked for; elsewhere a blank is.
"""

import dataclasses
import math

import numpy as np

from tasks import probes
from tasks.core.settings import setting

SYMBOLS, COPIED = 8, 10
BLANK, BEGIN = SYMBOLS, SYMBOLS + 1


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """Ten symbols, to be said again after a wait; the score is the cross-entropy of a step."""

    kind, each, greater = "class", True, False
    steps, batch, learning_rate = 4000, 32, 4e-3
    features, outputs = SYMBOLS + 2, SYMBOLS + 1

    length: int = setting(
        200, "steps from the last symbol to the sign to begin, and one", at_least=1
    )

    def draw(self, rng, count):
        copied = rng.integers(0, SYMBOLS, (count, COPIED))
        inputs = np.full((count, self.length + 2 * COPIED), BLANK)
        inputs[:, :COPIED] = copied
        inputs[:, -COPIED - 1] = BEGIN
        answers = np.full(inputs.shape, BLANK, "int32")
        answers[:, -COPIED:] = copied
        shown = probes.one_hot(inputs, self.features)
        return probes.Batch(shown, answers, np.ones(inputs.shape, "float32"))

    def test(self):
        return self.draw(np.random.default_rng(probes.SEED), 500)

    def score(self, batch, outputs):
        copied = batch._replace(weights=batch.weights * (batch.answers != BLANK))
        return {
            "cross_entropy": probes.surprise(batch, outputs),
            "copied": probes.accuracy(copied, outputs),
        }

    def chance(self):
        """That of blanks known for certain and symbols not at all."""
        steps = self.length + 2 * COPIED
        return {"cross_entropy": COPIED * math.log(SYMBOLS) / steps, "copied": 1 / SYMBOLS}
