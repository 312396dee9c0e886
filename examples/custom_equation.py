"""An equation of your own: a unit whose gate reads the candidate that it is about to admit."""

import numpy as np
from gated_rnn import EQUATIONS, CellSpec, GatedRNN, equations
from gated_rnn.cells.equations import CANDIDATE, Equation


def _reviewed(step, h):
    candidate = step.candidate()
    update = step.gate("update", also=step.product("review", candidate)["update"])
    return ((1.0 - update) * h + update * candidate,)


EQUATIONS["reviewed"] = Equation(
    _reviewed,
    gates=("update",),
    states=("h",),
    source="this page",
    blind={"update": "x"},
    products={"review": ((CANDIDATE,), ("update",))},
)

spec = CellSpec("reviewed")
print(*equations(spec), sep="\n")

inputs = np.ones((2, 7, 4), "float32")
fast, definition = GatedRNN(8, spec), GatedRNN(8, spec, implementation="reference")
first, second = fast(inputs), definition(inputs)  # builds both
definition.set_weights(fast.get_weights())
np.testing.assert_allclose(fast(inputs), definition(inputs), rtol=1e-5, atol=1e-6)
