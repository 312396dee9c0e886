"""Character-level language modelling: prediction of the next letter of a line."""

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np

from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import setting
from tasks.corpora.samples import english_grammar

_MIN_LINES = 100  # of a text
END, UNKNOWN = 1, 2  # symbols; those of the commonest letters follow
_MAX_LETTERS = 96


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """Next letter of a line; the score is the cross-entropy in bits per letter."""

    kind, per_step, greater_is_better, symbols = "class", True, False, True
    steps, learning_rate = 500, 5e-3

    data: str = setting(
        "",
        "UTF-8 text file, every tenth line of which is used for testing (default: the embedded "
        "sample for tagging)",
    )
    max_length: int = setting(
        100,
        "maximum number of letters of a line; the rest is cut off",
        at_least=2,
        old_name="longest",
    )

    @functools.cached_property
    def _lines(self) -> tuple[list[np.ndarray], list[np.ndarray], int]:
        """Training lines and test lines as symbols, and the number of symbols."""
        if self.data:
            try:
                text = Path(self.data).read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise UserError(f"--data {self.data}: cannot be read: {error}.") from error
            lines = [line for line in text.splitlines() if line.strip()]
            if len(lines) < _MIN_LINES:
                raise UserError(
                    f"--data {self.data} must have at least {_MIN_LINES} lines, got {len(lines)}."
                )
        else:
            lines = _sample()
        test, train = lines[::10], [line for index, line in enumerate(lines) if index % 10]
        letters, counts = np.unique(list("".join(train)), return_counts=True)
        common = letters[np.argsort(-counts, kind="stable")][:_MAX_LETTERS]
        symbols = {letter: symbol for symbol, letter in enumerate(common, UNKNOWN + 1)}

        def encode(lines: list[str]) -> list[np.ndarray]:
            return [
                np.array([*(symbols.get(c, UNKNOWN) for c in line[: self.max_length]), END])
                for line in lines
            ]

        return encode(train), encode(test), UNKNOWN + 1 + len(common)

    @property
    def features(self) -> int:
        return self._lines[2]

    @property
    def outputs(self) -> int:
        return self._lines[2]

    def _batch(self, lines: list[np.ndarray]) -> probes.Batch:
        steps = max(map(len, lines))
        targets = np.zeros((len(lines), steps), "int32")
        for row, line in zip(targets, lines, strict=True):
            row[: len(line)] = line
        # The input of the first step is the end of a line.
        inputs = np.pad(targets, [(0, 0), (1, 0)], constant_values=END)[:, :-1]
        inputs[targets == probes.PADDING] = probes.PADDING
        return probes.Batch(inputs, targets, (targets != probes.PADDING).astype("float32"))

    def draw(self, rng: np.random.Generator, count: int) -> probes.Batch:
        lines = self._lines[0]
        return self._batch([lines[index] for index in rng.integers(0, len(lines), count)])

    def test(self) -> probes.Batch:
        return self._batch(self._lines[1])

    def score(self, batch: probes.Batch, outputs: np.ndarray) -> dict[str, float]:
        return {"bits": probes.cross_entropy(batch, outputs) / math.log(2)}

    def chance(self) -> dict[str, float]:
        """Returns the score of predicting every letter by its frequency in train."""
        counts = np.bincount(np.concatenate(self._lines[0]), minlength=self.outputs)
        shares = (counts + 1) / (counts + 1).sum()
        test = self.test()
        logits = np.broadcast_to(np.log(shares), (*test.targets.shape, self.outputs))
        return self.score(test, logits)


@functools.cache
def _sample() -> list[str]:
    """Returns the sentences of the embedded sample for tagging."""
    parts = english_grammar.parts().values()
    return [" ".join(example.values["tokens"]) for part in parts for example in part]
