"""The list of tests that the quick suite runs in part."""

import ast
import itertools
from pathlib import Path

import pytest

from tests.support import quick

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("file", quick.PARAMETERS)
def test_every_entry_names_a_test(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert set(quick.PARAMETERS[file]) <= defined


@pytest.mark.parametrize(("count", "limit"), [(1, 0), (1, 1), (9, 3), (7, 4), (3, 5), (44, 14)])
def test_the_quick_parameters_are_spread_over_all(count, limit):
    fast = [index for index, slow in enumerate(quick.are_slow(count, limit)) if not slow]
    assert len(fast) == min(count, limit)
    gaps = {after - before for before, after in itertools.pairwise(fast)}
    assert not gaps or max(gaps) - min(gaps) <= 1
