"""The equations of recurrent cells, each written once, as plain Python.

An equation takes `see`, which knows what the gates see at this step, and the
states before the step; it returns the states after it. It is written with
`+ - *`, named gates and named functions only, so that the same text runs on
tensors of any backend and on the small derivative of `implementations.loop`.

Every gate g of every cell is computed alike:

    z_g = x W_g + h U_g + b_g        (+ p_g * c, where the gate has a peephole)
    g   = sigmoid(z_g)               (or a constant, where the gate is pinned)
"""

import dataclasses
from collections.abc import Callable

CANDIDATE = "candidate"


def _rnn(see, h):
    return (see.tanh(see.input(CANDIDATE) + see.recurrent(CANDIDATE)),)


def _lstm(see, h, c):
    candidate = see.tanh(see.input(CANDIDATE) + see.recurrent(CANDIDATE))
    c_next = see.gate("forget", c) * c + see.gate("input", c) * candidate
    return see.gate("output", c_next) * see.tanh(c_next), c_next


def _gru(see, h):
    update = see.gate("update")
    candidate = see.tanh(see.input(CANDIDATE) + see.gate("reset") * see.recurrent(CANDIDATE))
    return (update * h + (1.0 - update) * candidate,)


@dataclasses.dataclass(frozen=True)
class Equation:
    """How the gates of a cell combine.

    Attributes:
        step: `step(see, *states) -> states`, all by the names of this module.
        gates: The gates it asks for, in the order of their blocks in a weight.
        states: What it carries from step to step; the first is also the output.
        recurrent_bias: The maps whose recurrent product has a bias of its own,
            for it is not merely added to the product of the input.
        source: Where the equation was published.
    """

    step: Callable
    gates: tuple[str, ...]
    states: tuple[str, ...]
    source: str
    recurrent_bias: tuple[str, ...] = ()


EQUATIONS = {
    "rnn": Equation(_rnn, (), ("h",), "Elman (1990)"),
    "lstm": Equation(
        _lstm,
        ("input", "forget", "output"),
        ("h", "c"),
        "Hochreiter & Schmidhuber (1997); Gers et al. (2000); peepholes: Gers et al. (2002)",
    ),
    "gru": Equation(
        _gru,
        ("update", "reset"),
        ("h",),
        "Cho et al. (2014), version 1: the reset gate after the recurrent product",
        recurrent_bias=(CANDIDATE,),
    ),
}
