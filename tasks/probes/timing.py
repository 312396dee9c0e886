"""Timing: how long was it between two spikes? (after Gers et al. 2002, "measuring spike distances")

Nothing happens between the spikes, so steps have to be counted.
"""

import dataclasses

import numpy as np

from tasks import probes
from tasks.core.settings import setting

LENGTHS = 4  # how many waits there are, each a step longer than the one before


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """Which of four waits, a step apart, lay between two spikes; the score is the accuracy."""

    kind, steps, learning_rate = "class", 1000, 5e-3
    features, outputs = 1, LENGTHS

    wait: int = setting(20, "steps of the shortest wait", at_least=1)

    def draw(self, rng, count):
        waits = rng.integers(0, LENGTHS, count)
        first = rng.integers(0, self.wait, count)
        inputs = np.zeros((count, 2 * self.wait + LENGTHS + 1, 1), "float32")
        for spike in (first, first + self.wait + waits):
            inputs[np.arange(count), spike] = 1.0
        return probes.Batch(inputs, waits.astype("int32"), np.ones(count, "float32"))

    def test(self):
        return self.draw(np.random.default_rng(probes.SEED), 1000)

    def score(self, batch, outputs):
        return {"accuracy": probes.accuracy(batch, outputs)}

    def chance(self):
        return {"accuracy": 1 / LENGTHS}
