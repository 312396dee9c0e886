"""Selection of cells for tests that run once per cell."""

from collections.abc import Collection, Iterable

import pytest

from models.cells.equations import EQUATIONS
from models.cells.specs import CELLS
from tests.support import textbook

# One cell for each equation, for promises that no change of a gate can break.
PLAIN = tuple(textbook.oracle(equation).cell for equation in EQUATIONS)


def slow_except(fast: Collection[str], names: Iterable[str] = CELLS) -> list:
    """Returns `names` as parameters of a test, with the mark `slow` on all but `fast`."""
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]
