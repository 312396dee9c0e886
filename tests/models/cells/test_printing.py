"""The equations as text say what runs."""

import itertools
import re

import numpy as np
import pytest

from models.cells.cell import GatedCell
from models.cells.equations import EQUATIONS, Equation
from models.cells.printing import equations, recurrent_form
from models.cells.specs import CELLS, CellSpec
from tests.support.close import assert_close
from tests.support.textbook import FUNCTIONS, ORACLES, Oracle, Weights, normalized

H = 3


class Named(dict):
    """Names of the printed text: weights of a cell, what has been computed, functions."""

    def __init__(self, cell, x, states):
        super().__init__(x=x, **states)
        self.spec = cell.spec
        self.columns = Weights(cell)
        self.read = self.columns._read
        self.update(FUNCTIONS, clip=np.clip, norm=norm, maximum=np.maximum)
        self["normed_x"] = lambda name: self.block("kernel", name, norm(x @ self.read["kernel"]))
        self["normed_h"] = lambda name: self.block(
            "recurrent_kernel", name, norm(states["h"] @ self.read["recurrent_kernel"])
        )

    def block(self, weight, name, values=None):
        """A map's columns of a weight, or of numbers laid out as its columns are."""
        values = self.read[weight] if values is None else values
        return self.columns.block(weight, name, values.T).T

    def product(self, letter, name):
        """The further product of one operand whose matrix of a map has a letter."""
        definition = self.spec.definition
        own = [
            product
            for product, (operands, maps) in definition.products.items()
            if name in maps and len(operands) == 1
        ]
        is_plain = "h" not in definition.blind.get(name, "") + self.spec.blind.get(name, "")
        return dict(zip("VQS" if is_plain else "UVQS", own, strict=False)).get(letter)

    def __missing__(self, name):
        kind, _, rest = name.partition("_")
        if rest == "raw":
            return self.read["raw_projection"]
        if own := self.product(kind, rest):
            return self.block(f"{own}_product", rest)
        if kind == "R":
            *last, gate = rest.split("_")
            at = self.spec.definition.gates.index(last[-1]) * H
            return self.block("gates_product", gate)[at : at + H]
        if rest == "cell":
            return self.read[{"g": "cell_gain", "b": "cell_shift"}[kind]]
        if kind in ("d", "p", "P"):
            named = {"d": "recurrent_bias", "p": f"{rest}_peephole", "P": "projection"}
            return self.read[named[kind]]
        if kind in ("g", "k") and self.spec.layer_norm == "products":
            weight = {"g": "kernel", "k": "recurrent_kernel"}[kind]
            gain = {"g": "input_gain", "k": "recurrent_gain"}[kind]
            return self.block(weight, rest, self.read[gain])
        weights = {"W": "kernel", "U": "recurrent_kernel", "b": "bias", "g": "gain"}
        return self.block(weights[kind], rest)


def norm(z):
    """Layer normalisation of each row."""
    return np.apply_along_axis(normalized, -1, z)


@pytest.mark.parametrize("features", [H, H + 1])
@pytest.mark.parametrize("name", CELLS)
def test_the_text_computes_what_the_cell_computes(name, features):
    """Reads the lines as a person would: `x W` is a product, `h'` the new state."""
    check_text(GatedCell(H, name), features)


def test_a_product_of_its_own_is_not_printed_as_the_plain_one(monkeypatch):
    def step(step, h):
        update = step.gate("update", also=step.product("update", step.tanh(h))["update"])
        return (update * h + (1.0 - update) * step.candidate(),)

    products = {"update": (("h",), ("update",))}
    both = Equation(step, ("update",), ("h",), "for this test", products=products)
    monkeypatch.setitem(EQUATIONS, "both", both)
    monkeypatch.setitem(ORACLES, "both", Oracle(step, "both"))  # which maps have which products
    cell = GatedCell(H, CellSpec("both"))
    assert "h U_update + tanh(h) V_update" in equations(cell.spec)[0]
    check_text(cell, H)


@pytest.mark.parametrize("name", CELLS)
def test_a_symbol_of_a_matrix_stands_for_one_product(name):
    """`U_update` multiplies the same operand wherever it occurs."""
    operands = {}
    for line in equations(CELLS[name]):
        for operand, symbol in re.findall(r"([\w']+|\)) ([WUVQSR]_\w+)", line):
            assert operands.setdefault(symbol, operand) == operand


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, ""),
        ({"heads": 4}, "block-diagonal, with 4 heads"),
        ({"recurrent_structure": "diagonal"}, "are diagonal"),
        ({"recurrent_structure": "antisymmetric"}, "a matrix minus its transpose"),
        ({"recurrent_structure": "orthogonal"}, "Cayley transforms"),
        ({"recurrent_rank": 3}, "have rank 3"),
    ],
)
def test_the_form_of_recurrent_matrices_is_stated(changes, sentence):
    assert sentence in recurrent_form(CellSpec("lstm", **changes))


def check_text(cell, features):
    """Evaluates the printed equations, and compares the states with those of the cell."""
    rng = np.random.default_rng(0)
    cell.build((None, features))
    cell.set_weights([rng.normal(size=w.shape) for w in cell.get_weights()])
    names = cell.spec.definition.states
    before = [rng.normal(size=(2, n)).astype("float32") for n in cell.state_size]
    x = rng.normal(size=(2, features)).astype("float32")
    gates = cell.spec.definition.gates
    symbols = [f"last_{name}" if name in gates else name for name in names]
    states = dict(zip(symbols, before, strict=True))
    known = Named(cell, x, states)
    for line in equations(cell.spec, raw_projection=features != H):
        target, expression = line.split(" = ", 1)
        code = re.sub(r"(\w)'", r"\1_new", expression)
        code = re.sub(r"norm\((\w) [WU]\)_(\w+)", r"normed_\1('\2')", code)
        # The product with a matrix precedes that of elements, unlike in Python.
        code = re.sub(r"(\w*\([^()]*\)|\w+) ([WUVQSR]_\w+|P\b)", r"(\1 @ \2)", code)
        code = re.sub(r"(\w|\)) ([WUVQSR]_|P\b)", r"\1 @ \2", code)
        known[target.replace("'", "_new")] = eval(code, {"__builtins__": {}}, known)
    _, after = cell(x, before)
    for name, symbol, want in zip(names, symbols, after, strict=True):
        assert_close(known[name if name in gates else f"{symbol}_new"], want, 1e-5)


@pytest.mark.parametrize("name", EQUATIONS)
def test_gates_that_may_be_pinned_leave_an_equation_that_can_be_printed(name):
    gates = EQUATIONS[name].gates
    accepted = 0
    for pair in itertools.chain(((gate,) for gate in gates), itertools.combinations(gates, 2)):
        try:
            spec = CellSpec(name, pinned=dict.fromkeys(pair, 0.5))
        except ValueError:
            continue
        accepted += 1
        assert equations(spec), pair
    assert accepted or not set(gates) - set(EQUATIONS[name].shared)
