"""The equations as text say what runs."""

import re

import numpy as np
import pytest

from models.cells import GatedCell
from models.specs import CELLS
from models.spelling import equations

H = D = 3


class Named(dict):
    """Names of the printed text: weights of a cell, what has been computed, functions."""

    def __init__(self, cell, x, states):
        super().__init__(x=x, **states)
        from tests.models.textbook import FUNCTIONS, Weights, sigmoid

        self.weights = Weights(cell)
        self.update(FUNCTIONS, sigmoid=sigmoid, clip=np.clip)

    def __missing__(self, name):
        kind, _, rest = name.partition("_")
        w, spec = self.weights, self.weights.spec
        if kind == "W":
            return w.matrix("kernel", rest)
        if kind == "U":
            block = w.matrix("recurrent_kernel", rest)
            return block if np.ndim(block) else w.own(rest, rest)
        if kind == "R":
            *last, gate = rest.split("_")
            return w.own("gates", gate, spec.definition.gates.index(last[-1]))
        return {"b": w.b, "d": lambda _: w.vector("recurrent_bias")}.get(
            kind, lambda gate: w.vector(f"{gate}_peephole")
        )(rest)


@pytest.mark.parametrize("name", CELLS)
def test_the_text_computes_what_the_cell_computes(name):
    """Reads the lines as a person would: `x W` is a product, `h'` the new state."""
    cell, rng = GatedCell(H, name), np.random.default_rng(0)
    cell.build((None, D))
    cell.set_weights([rng.normal(size=w.shape) for w in cell.get_weights()])
    names = cell.spec.definition.states
    before = [rng.normal(size=(2, H)).astype("float32") for _ in names]
    x = rng.normal(size=(2, D)).astype("float32")
    states = {n if n in "hc" else f"last_{n}": s for n, s in zip(names, before, strict=True)}
    known = Named(cell, x, states)
    for line in equations(cell.spec):
        target, expression = line.split(" = ", 1)
        code = re.sub(r"(\w|\)) ([WUR]_)", r"\1 @ \2", expression.replace("'", "_new"))
        known[target.replace("'", "_new")] = eval(code, {"__builtins__": {}}, known)
    want, after = cell(x, before)
    np.testing.assert_allclose(known["h_new"], want, atol=1e-5)
    if "c" in names:
        np.testing.assert_allclose(known["c_new"], after[1], atol=1e-5)
