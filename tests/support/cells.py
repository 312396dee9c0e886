"""Selection of cells for tests that run once per cell."""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pytest

from models.cells.cell import GatedCell
from models.cells.equations import EQUATIONS
from models.cells.specs import CELLS
from tests.support import textbook

# One cell for each equation that shares little with the others, for promises that no change of a
# gate can break. Those of the other equations have the same tests, marked as slow.
_DISTINCT = ("rnn", "leaky", "lstm", "coupled", "full", "gru", "gru_before", "mgu", "janet")
_DISTINCT += ("mut1", "mut2", "mut3", "slstm")
PLAIN = tuple(textbook.oracle(equation).cell for equation in _DISTINCT)
LATER_EQUATIONS = tuple(equation for equation in EQUATIONS if equation not in _DISTINCT)
REST = tuple(textbook.oracle(equation).cell for equation in LATER_EQUATIONS)

# States that a step divides by a mean of, which are positive after any step from zeros.
_DENOMINATORS = {"slstm": "n", "rwkv": "b"}


def random_states(cells: Sequence[GatedCell], batch: int, seed: int) -> list[np.ndarray]:
    """Returns normally distributed states (batch, width) of all cells; denominators positive."""
    rng, states = np.random.default_rng(seed), []
    for cell in cells:
        positive = _DENOMINATORS.get(cell.spec.equation)
        for name, size in zip(cell.spec.definition.states, cell.state_size, strict=True):
            values = rng.normal(size=(batch, size)).astype("float32")
            states.append(np.abs(values) if name == positive else values)
    return states


def slow_except(fast: Collection[str], names: Iterable[str] = CELLS) -> list:
    """Returns `names` as parameters of a test, with the mark `slow` on all but `fast`."""
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]
