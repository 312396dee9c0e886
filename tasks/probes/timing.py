"""Timing: the interval between two spikes (after Gers et al. 2002, "measuring spike distances").

Inputs between the spikes are zero, so the network has to count steps.
"""

import dataclasses

import numpy as np

from tasks import probes
from tasks.core.settings import setting

LENGTHS = 4  # number of possible intervals, which differ by one step


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """Which of four intervals separates two spikes; the score is the accuracy."""

    kind, steps, learning_rate = "class", 1000, 5e-3
    features, outputs = 1, LENGTHS

    wait: int = setting(20, "shortest interval between the spikes, in steps", at_least=1)

    def draw(self, rng: np.random.Generator, count: int) -> probes.Batch:
        extra = rng.integers(0, LENGTHS, count)
        first = rng.integers(0, self.wait, count)
        inputs = np.zeros((count, 2 * self.wait + LENGTHS + 1, 1), "float32")
        for spike in (first, first + self.wait + extra):
            inputs[np.arange(count), spike] = 1.0
        return probes.Batch(inputs, extra.astype("int32"), np.ones(count, "float32"))

    def test(self) -> probes.Batch:
        return self.draw(np.random.default_rng(probes.SEED), 1000)

    def score(self, batch: probes.Batch, outputs: np.ndarray) -> dict[str, float]:
        return {"accuracy": probes.accuracy(batch, outputs)}

    def chance(self) -> dict[str, float]:
        return {"accuracy": 1 / LENGTHS}
