"""Selective copy: symbols scattered among blanks, to be repeated in order (Gu & Dao 2023).

As in `copy`, ten symbols of an alphabet of eight are followed by a start signal, after which they
are the targets. Here they are at random places of the steps before it, so that a cell must tell
them from blanks: delays that do not depend on the input are of no help.
"""

import dataclasses
import math

import numpy as np

from tasks import probes
from tasks.core.settings import setting
from tasks.probes.copy import BLANK, COPIED, START, SYMBOLS


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """Ten scattered symbols to be repeated; the score is the share repeated correctly."""

    kind, per_step = "class", True
    steps, batch, learning_rate = 2000, 32, 4e-3
    features, outputs = SYMBOLS + 2, SYMBOLS + 1

    length: int = setting(100, "steps that contain the symbols", at_least=COPIED)

    def draw(self, rng: np.random.Generator, count: int) -> probes.Batch:
        copied = rng.integers(0, SYMBOLS, (count, COPIED))
        places = np.sort(rng.random((count, self.length)).argsort(axis=1)[:, :COPIED], axis=1)
        inputs = np.full((count, self.length + 1 + COPIED), BLANK)
        np.put_along_axis(inputs, places, copied, axis=1)
        inputs[:, self.length] = START
        targets = np.full(inputs.shape, BLANK, "int32")
        targets[:, -COPIED:] = copied
        weights = (targets != BLANK).astype("float32")
        return probes.Batch(probes.one_hot(inputs, self.features), targets, weights)

    def test(self) -> probes.Batch:
        return self.draw(np.random.default_rng(probes.SEED), 500)

    def score(self, batch: probes.Batch, outputs: np.ndarray) -> dict[str, float]:
        return {
            "copied": probes.accuracy(batch, outputs),
            "cross_entropy": probes.cross_entropy(batch, outputs),
        }

    def chance(self) -> dict[str, float]:
        """Returns the scores of predicting symbols uniformly."""
        return {"copied": 1 / SYMBOLS, "cross_entropy": math.log(SYMBOLS)}
