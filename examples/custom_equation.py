"""An equation of your own: minGRU (Feng et al. 2024), whose gate and candidate read x alone."""

import numpy as np
from gated_rnn import EQUATIONS, CellSpec, GatedRNN, equations
from gated_rnn.cells.equations import CANDIDATE, Equation


def _mingru(step, h):
    update = step.gate("update")
    return ((1.0 - update) * h + update * step.candidate(),)


EQUATIONS["mingru"] = Equation(
    _mingru,
    gates=("update",),
    states=("h",),
    source="Feng et al. (2024), minGRU",
    blind={"update": "h", CANDIDATE: "h"},
)

spec = CellSpec("mingru")
print(*equations(spec), sep="\n")

inputs = np.ones((2, 7, 4), "float32")
fast, definition = GatedRNN(8, spec), GatedRNN(8, spec, implementation="reference")
first, second = fast(inputs), definition(inputs)  # builds both
definition.set_weights(fast.get_weights())
np.testing.assert_allclose(fast(inputs), definition(inputs), rtol=1e-5, atol=1e-6)
