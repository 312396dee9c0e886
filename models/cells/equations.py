"""The equations of recurrent cells, each written once, as plain Python.

The step function of an equation takes a `models.cells.cell.StepContext`, called `step`, and
the states before the step; it returns the states after it, in the same order. It consists of
`+ - *`, gates by name and methods of the context only, so that the same text runs on tensors
of any backend, is differentiated by `implementations.derivative`, and is printed by
`models.cells.printing`.

Every gate g of every cell is computed alike:

    z_g = x W_g + h U_g + b_g        (+ p_g * c if the gate has a peephole;
                                      without a term to which it is blind)
    g   = sigmoid(z_g)               (or a constant if the gate is pinned)

The few published equations in which a map reads something else declare it: `step.product`
multiplies that by a weight of its own.

Shapes: each value is (B, H): B batch, H units.
"""

import dataclasses
from collections.abc import Callable, Mapping

CANDIDATE, RAW = "candidate", "raw"


def _rnn(step, h):
    """Elman (1990): h' = candidate."""
    return (step.candidate(),)


def _leaky(step, h):
    """Jaeger et al. (2007): a leaky integrator; the leak is the share of h that is kept."""
    leak = step.gate("leak")
    return (leak * h + (1.0 - leak) * step.candidate(),)


def _lstm(step, h, c):
    """Gers et al. (2000), with the peepholes of Gers et al. (2002).

    The peephole of the output gate reads the new cell state.
    """
    c_next = step.clip(step.gate("forget", c) * c + step.gate("input", c) * step.candidate())
    return step.gate("output", c_next) * step.activate_output(c_next), c_next


def _coupled(step, h, c):
    """Greff et al. (2017), CIFG: the input gate is one minus the forget gate."""
    forget = step.gate("forget", c)
    c_next = step.clip(forget * c + (1.0 - forget) * step.candidate())
    return step.gate("output", c_next) * step.activate_output(c_next), c_next


def _full(step, h, c, i, f, o):
    """Greff et al. (2017), FGR: each gate reads all gates of the previous step."""
    last = step.product("gates", i, f, o)
    input = step.gate("input", c, also=last["input"])
    forget = step.gate("forget", c, also=last["forget"])
    c_next = step.clip(forget * c + input * step.candidate())
    output = step.gate("output", c_next, also=last["output"])
    return output * step.activate_output(c_next), c_next, input, forget, output


def _gru(step, h):
    """Cho et al. (2014), version 1: the reset gate multiplies the recurrent product."""
    update = step.gate("update")
    candidate = step.activate(
        step.input(CANDIDATE) + step.gate("reset") * step.recurrent(CANDIDATE)
    )
    return (update * h + (1.0 - update) * candidate,)


def _gru_before(step, h):
    """Cho et al. (2014), version 3, eqs. 5 to 8: the reset gate multiplies h."""
    update, product = step.gate("update"), step.product(CANDIDATE, step.gate("reset") * h)
    return (update * h + (1.0 - update) * step.candidate(also=product[CANDIDATE]),)


def _mgu(step, h):
    """Zhou et al. (2016), eqs. 5 to 7."""
    forget = step.gate("forget")
    product = step.product(CANDIDATE, forget * h)
    return ((1.0 - forget) * h + forget * step.candidate(also=product[CANDIDATE]),)


def _janet(step, h):
    """Van der Westhuizen & Lasenby (2018), with β = 1: the written share has its own bias."""
    forget = step.gate("forget")
    written = 1.0 - step.gate("forget", shift=-1.0)
    return (forget * h + written * step.candidate(),)


def _mut1(step, h):
    """Jozefowicz et al. (2015), MUT1."""
    update, product = step.gate("update"), step.product(CANDIDATE, step.gate("reset") * h)
    candidate = step.candidate(also=step.tanh(step.input(RAW)) + product[CANDIDATE])
    return (update * candidate + (1.0 - update) * h,)


def _mut2(step, h):
    """Jozefowicz et al. (2015), MUT2."""
    reset = step.gate("reset", also=step.input(RAW))
    update, product = step.gate("update"), step.product(CANDIDATE, reset * h)
    return (update * step.candidate(also=product[CANDIDATE]) + (1.0 - update) * h,)


def _mut3(step, h):
    """Jozefowicz et al. (2015), MUT3."""
    update = step.gate("update", also=step.product("update", step.tanh(h))["update"])
    product = step.product(CANDIDATE, step.gate("reset") * h)
    return (update * step.candidate(also=product[CANDIDATE]) + (1.0 - update) * h,)


@dataclasses.dataclass(frozen=True)
class Equation:
    """Combination of the gates and the candidate of a cell to its next states.

    Attributes:
        step: Function of a `StepContext` and of each state before the step, (B, H), that
            returns a tuple of the states after it.
        gates: Gates of the equation, in the order of their blocks in the weights.
        states: Names of the states; the first is also the output.
        source: Publication of the equation.
        blind: By map, the inputs whose plain products it does not receive: "x", "h" or "xh".
        products: By name, further products with weights of their own: the operands ("h" for
            a value computed from h, or gates of the previous step), and the maps that
            receive the product.
        raw: Whether the equation reads x itself, through a learnt matrix if the numbers of
            input features and units differ.
        recurrent_bias: Maps whose recurrent product has a bias of its own, because it is
            not merely added to the input product.
        has_output_activation: Whether the output is an activation of the cell state, as
            computed by `StepContext.activate_output`.

    Example:
        >>> EQUATIONS["gru"].gates
        ('update', 'reset')
    """

    step: Callable[..., tuple]
    gates: tuple[str, ...]
    states: tuple[str, ...]
    source: str
    blind: Mapping[str, str] = dataclasses.field(default_factory=dict)
    products: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = dataclasses.field(
        default_factory=dict
    )
    raw: bool = False
    recurrent_bias: tuple[str, ...] = ()
    has_output_activation: bool = False


_INPUT_FORGET_OUTPUT = ("input", "forget", "output")
_OWN_CANDIDATE = {CANDIDATE: (("h",), (CANDIDATE,))}  # of h times a gate

EQUATIONS = {
    "rnn": Equation(_rnn, (), ("h",), "Elman (1990)"),
    "leaky": Equation(_leaky, ("leak",), ("h",), "Jaeger et al. (2007): leaky integrator units"),
    "lstm": Equation(
        _lstm,
        _INPUT_FORGET_OUTPUT,
        ("h", "c"),
        "Hochreiter & Schmidhuber (1997); Gers et al. (2000); peepholes: Gers et al. (2002)",
        has_output_activation=True,
    ),
    "coupled": Equation(
        _coupled,
        ("forget", "output"),
        ("h", "c"),
        "Greff et al. (2017), CIFG: the input gate is one minus the forget gate",
        has_output_activation=True,
    ),
    "full": Equation(
        _full,
        _INPUT_FORGET_OUTPUT,
        ("h", "c", "input", "forget", "output"),
        "Greff et al. (2017), FGR: each gate reads all gates of the previous step",
        products={"gates": (_INPUT_FORGET_OUTPUT, _INPUT_FORGET_OUTPUT)},
        has_output_activation=True,
    ),
    "gru": Equation(
        _gru,
        ("update", "reset"),
        ("h",),
        "Cho et al. (2014), version 1: the reset gate after the recurrent product",
        recurrent_bias=(CANDIDATE,),
    ),
    "gru_before": Equation(
        _gru_before,
        ("update", "reset"),
        ("h",),
        "Cho et al. (2014), version 3: the reset gate before the recurrent product",
        blind={CANDIDATE: "h"},
        products=_OWN_CANDIDATE,
    ),
    "mgu": Equation(
        _mgu,
        ("forget",),
        ("h",),
        "Zhou et al. (2016), the minimal gated unit",
        blind={CANDIDATE: "h"},
        products=_OWN_CANDIDATE,
    ),
    "janet": Equation(_janet, ("forget",), ("h",), "van der Westhuizen & Lasenby (2018), β = 1"),
    "mut1": Equation(
        _mut1,
        ("update", "reset"),
        ("h",),
        "Jozefowicz et al. (2015), MUT1",
        blind={"update": "h", CANDIDATE: "xh"},
        products=_OWN_CANDIDATE,
        raw=True,
    ),
    "mut2": Equation(
        _mut2,
        ("update", "reset"),
        ("h",),
        "Jozefowicz et al. (2015), MUT2",
        blind={"reset": "x", CANDIDATE: "h"},
        products=_OWN_CANDIDATE,
        raw=True,
    ),
    "mut3": Equation(
        _mut3,
        ("update", "reset"),
        ("h",),
        "Jozefowicz et al. (2015), MUT3",
        blind={"update": "h", CANDIDATE: "h"},
        products={**_OWN_CANDIDATE, "update": (("h",), ("update",))},
    ),
}
