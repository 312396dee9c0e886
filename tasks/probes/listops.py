"""ListOps: the value of a nested expression (Nangia & Bowman 2018).

    [MAX 2 9 [MIN 4 7 ] 0 ]  is 9

An operator applies to two to four digits or expressions: the largest, the smallest, the median
(rounded down), or the sum modulo 10. Expressions are read as a sequence of symbols, or as trees
whose inner nodes are operators and whose leaves are digits. Training stops at a depth; the test
goes on beyond it.
"""

import dataclasses
import functools

import numpy as np

from tasks import probes
from tasks.core.settings import setting

OPERATORS = ("MAX", "MIN", "MED", "SUM")
END = "]"  # of the innermost expression
WORDS = ("", *"0123456789", *(f"[{operator}" for operator in OPERATORS), END)  # by their symbols
MAX_ARGUMENTS = 4
MAX_DEPTH = 6  # of the test part
_PER_DEPTH = 300  # test expressions
_NESTED = 0.25  # share of the other arguments that are expressions too
_BY_DEPTH = tuple(f"{depth} operators deep" for depth in range(1, MAX_DEPTH + 1))
_SYMBOLS = {word: symbol for symbol, word in enumerate(WORDS)}
_FIRST_OPERATOR = _SYMBOLS[f"[{OPERATORS[0]}"]

Expression = int | tuple  # a digit, or the name of an operator and its arguments


@dataclasses.dataclass(frozen=True)
class Probe(probes.Probe):
    """Value of a nested expression, a digit; the score is the accuracy."""

    kind, symbols, has_trees = "class", True, True
    features, outputs = len(WORDS), 10
    steps, learning_rate = 1500, 3e-3
    curves = {"operators inside one another": _BY_DEPTH}

    depth: int = setting(4, "maximum depth of nested operators in training", at_least=1)

    def draw(self, rng: np.random.Generator, count: int) -> probes.Batch:
        return encode([expression(rng, int(rng.integers(1, self.depth + 1))) for _ in range(count)])

    def test(self) -> probes.Batch:
        return _test()

    def trees(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [_tree(row) for row in inputs]
        nodes = np.full((len(rows), max(len(symbols) for symbols, _ in rows)), probes.PADDING)
        parents = np.full_like(nodes, -1)
        for index, (symbols, above) in enumerate(rows):
            nodes[index, : len(symbols)], parents[index, : len(symbols)] = symbols, above
        return nodes.astype("int32"), parents.astype("int32")

    def score(self, batch: probes.Batch, outputs: np.ndarray) -> dict[str, float]:
        """Returns the accuracy on the test part, in total and by depth."""
        return _by_depth(outputs.argmax(axis=-1) == batch.targets)

    def chance(self) -> dict[str, float]:
        """Returns the accuracies of the commonest value, and of that of the outermost operator."""
        test, train = self.test(), self.draw(np.random.default_rng(0), 5000)
        counts = np.zeros((len(WORDS), self.outputs))
        np.add.at(counts, (train.inputs[:, 0], train.targets), 1)
        by_operator = counts.argmax(axis=-1)[test.inputs[:, 0]]
        commonest = np.bincount(test.targets).max() / len(test.targets)
        scores = _by_depth(by_operator == test.targets)
        return {
            "accuracy": float(commonest),
            **{f"{name} of the outermost operator": score for name, score in scores.items()},
        }


def expression(rng: np.random.Generator, depth: int) -> Expression:
    """Generates an expression; `depth` is the number of operators inside one another."""
    if not depth:
        return int(rng.integers(10))
    count = int(rng.integers(2, MAX_ARGUMENTS + 1))
    nested = rng.random(count) < _NESTED
    depths = np.where(nested, rng.integers(0, depth, count), 0)
    depths[rng.integers(count)] = depth - 1
    operator = OPERATORS[int(rng.integers(len(OPERATORS)))]
    return (operator, *(expression(rng, int(below)) for below in depths))


def value(tree: Expression) -> int:
    """Returns the value of an expression."""
    if isinstance(tree, int):
        return tree
    operator, *arguments = tree
    values = sorted(map(value, arguments))
    if operator == "SUM":
        return sum(values) % 10
    if operator == "MED":
        return (values[(len(values) - 1) // 2] + values[len(values) // 2]) // 2
    return values[-1] if operator == "MAX" else values[0]


def words(tree: Expression) -> list[str]:
    """Returns an expression as written: `["[MAX", "2", "9", "]"]`."""
    if isinstance(tree, int):
        return [str(tree)]
    operator, *arguments = tree
    return [f"[{operator}", *(word for argument in arguments for word in words(argument)), END]


def encode(trees: list[Expression]) -> probes.Batch:
    """Returns the symbols of expressions, (N, T), and their values."""
    rows = [[_SYMBOLS[word] for word in words(tree)] for tree in trees]
    inputs = np.full((len(rows), max(map(len, rows))), probes.PADDING, "int32")
    for row, symbols in zip(inputs, rows, strict=True):
        row[: len(symbols)] = symbols
    targets = np.array([value(tree) for tree in trees], "int32")
    return probes.Batch(inputs, targets, np.ones(len(trees), "float32"))


def _tree(symbols: np.ndarray) -> tuple[list[int], list[int]]:
    """Returns the symbols of the nodes of an expression, and their parents."""
    nodes, parents, operators = [], [], [-1]
    for symbol in symbols[symbols != probes.PADDING].tolist():
        if symbol == _SYMBOLS[END]:
            operators.pop()
            continue
        parents.append(operators[-1])
        if symbol >= _FIRST_OPERATOR:
            operators.append(len(nodes))
        nodes.append(symbol)
    return nodes, parents


@functools.cache
def _test() -> probes.Batch:
    rng = np.random.default_rng(probes.SEED)
    depths = range(1, MAX_DEPTH + 1)
    return encode([expression(rng, depth) for depth in depths for _ in range(_PER_DEPTH)])


def _by_depth(correct: np.ndarray) -> dict[str, float]:
    """Returns the mean of correct test expressions, (N,) bool, in total and by depth."""
    by_depth = correct.reshape(MAX_DEPTH, _PER_DEPTH).mean(axis=1)
    return {
        "accuracy": float(correct.mean()),
        **dict(zip(_BY_DEPTH, map(float, by_depth), strict=True)),
    }
