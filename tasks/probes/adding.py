"""Adding: the sum of two marked numbers in each sequence (Hochreiter & Schmidhuber 1997).

In the version of Bai et al. (2018): numbers from U(0, 1), of which any two are marked.
"""

import dataclasses

import numpy as np

from tasks import probes
from tasks.core.settings import setting


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """The sum of two marked numbers; the score is the mean squared error."""

    kind, greater_is_better = "number", False
    steps, batch, learning_rate = 3000, 32, 4e-3
    features, outputs = 2, 1

    length: int = setting(200, "numbers in each sequence", at_least=2)

    def draw(self, rng: np.random.Generator, count: int) -> probes.Batch:
        numbers, marks = rng.random((count, self.length)), np.zeros((count, self.length))
        marked = rng.random((count, self.length)).argsort(axis=1)[:, :2]
        np.put_along_axis(marks, marked, 1.0, axis=1)
        sums = (numbers * marks).sum(axis=1, keepdims=True)
        inputs = np.stack([numbers, marks], axis=-1)
        return probes.Batch(
            inputs.astype("float32"), sums.astype("float32"), np.ones(count, "float32")
        )

    def test(self) -> probes.Batch:
        return self.draw(np.random.default_rng(probes.SEED), 1000)

    def score(self, batch: probes.Batch, outputs: np.ndarray) -> dict[str, float]:
        return {"squared_error": float(np.square(outputs - batch.targets).mean())}

    def chance(self) -> dict[str, float]:
        """Returns the variance of the sum: the error of the constant output 1."""
        return {"squared_error": 1 / 6}
