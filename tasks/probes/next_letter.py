"""Language modelling: which letter comes next, in the lines of a text."""

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np

from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import setting
from tasks.corpora.samples import english_grammar

_LEAST = 100  # lines of a text to learn from
END, UNKNOWN = 1, 2  # symbols beside those of the commonest letters
_KNOWN = 96


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """The next letter of a line; the score is bits a letter."""

    kind, each, greater, symbols = "class", True, False, True
    steps, learning_rate = 500, 5e-3

    data: str = setting("", "text in UTF-8, of which every tenth line is for testing; the "
                        "embedded sample of tagging if none")  # fmt: skip
    max_length: int = setting(100, "letters read of a line", at_least=2, old_name="longest")

    @functools.cached_property
    def _lines(self):
        """The lines to learn from and those to be judged on, as symbols."""
        if self.data:
            try:
                text = Path(self.data).read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise UserError(f"--data {self.data}: cannot be read: {error}.") from error
            lines = [line for line in text.splitlines() if line.strip()]
            if len(lines) < _LEAST:
                raise UserError(f"--data {self.data} must have {_LEAST} lines, got {len(lines)}.")
        else:
            lines = _sample()
        test, train = lines[::10], [line for at, line in enumerate(lines) if at % 10]
        letters, counts = np.unique(list("".join(train)), return_counts=True)
        common = letters[np.argsort(-counts, kind="stable")][:_KNOWN]
        symbols = {letter: at for at, letter in enumerate(common, UNKNOWN + 1)}

        def encoded(some):
            return [
                np.array([*(symbols.get(c, UNKNOWN) for c in line[: self.max_length]), END])
                for line in some
            ]

        return encoded(train), encoded(test), UNKNOWN + 1 + len(common)

    @property
    def features(self):
        return self._lines[2]

    @property
    def outputs(self):
        return self._lines[2]

    def _batch(self, lines):
        steps = max(map(len, lines))
        answers = np.zeros((len(lines), steps), "int32")
        for row, line in zip(answers, lines, strict=True):
            row[: len(line)] = line
        # The end of a line stands before its first letter.
        inputs = np.pad(answers, [(0, 0), (1, 0)], constant_values=END)[:, :-1]
        inputs[answers == probes.PADDING] = probes.PADDING
        return probes.Batch(inputs, answers, (answers != probes.PADDING).astype("float32"))

    def draw(self, rng, count):
        lines = self._lines[0]
        return self._batch([lines[at] for at in rng.integers(0, len(lines), count)])

    def test(self):
        return self._batch(self._lines[1])

    def score(self, batch, outputs):
        return {"bits": probes.surprise(batch, outputs) / math.log(2)}

    def chance(self):
        """The letters by their shares of train, whatever stands before."""
        counts = np.bincount(np.concatenate(self._lines[0]), minlength=self.outputs)
        shares = (counts + 1) / (counts + 1).sum()
        test = self.test()
        logits = np.broadcast_to(np.log(shares), (*test.answers.shape, self.outputs))
        return self.score(test, logits)


@functools.cache
def _sample() -> list[str]:
    """The sentences of tagging's embedded sample."""
    parts = english_grammar.parts().values()
    return [" ".join(example.values["tokens"]) for part in parts for example in part]
