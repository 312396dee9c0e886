"""The equations of recurrent cells, each written once, as plain Python.

An equation takes `see`, which knows what the maps see at this step, and the
states before the step; it returns the states after it. It is written with
`+ - *`, named gates and named functions only, so that the same text runs on
tensors of any backend, on what `implementations.derivative` differentiates, and
on the words of `spelling`.

Every gate g of every cell is computed alike:

    z_g = x W_g + h U_g + b_g        (+ p_g * c, where the gate has a peephole;
                                      less a term, where it is blind to x or to h)
    g   = sigmoid(z_g)               (or a constant, where the gate is pinned)

The few published equations in which a map sees something else say so in their
own lines: `see.product` multiplies it by a weight of its own.
"""

import dataclasses
from collections.abc import Callable, Mapping

CANDIDATE, RAW = "candidate", "raw"


def _rnn(see, h):
    return (see.candidate(),)


def _leaky(see, h):
    leak = see.gate("leak")
    return (leak * h + (1.0 - leak) * see.candidate(),)


def _lstm(see, h, c):
    c_next = see.clip(see.gate("forget", c) * c + see.gate("input", c) * see.candidate())
    return see.gate("output", c_next) * see.squash(c_next), c_next


def _coupled(see, h, c):
    forget = see.gate("forget", c)
    c_next = see.clip(forget * c + (1.0 - forget) * see.candidate())
    return see.gate("output", c_next) * see.squash(c_next), c_next


def _full(see, h, c, i, f, o):
    last = see.product("gates", i, f, o)
    input = see.gate("input", c, also=last["input"])
    forget = see.gate("forget", c, also=last["forget"])
    c_next = see.clip(forget * c + input * see.candidate())
    output = see.gate("output", c_next, also=last["output"])
    return output * see.squash(c_next), c_next, input, forget, output


def _gru(see, h):
    update = see.gate("update")
    candidate = see.activate(see.input(CANDIDATE) + see.gate("reset") * see.recurrent(CANDIDATE))
    return (update * h + (1.0 - update) * candidate,)


def _gru_before(see, h):
    update, product = see.gate("update"), see.product(CANDIDATE, see.gate("reset") * h)
    return (update * h + (1.0 - update) * see.candidate(also=product[CANDIDATE]),)


def _mgu(see, h):
    forget = see.gate("forget")
    product = see.product(CANDIDATE, forget * h)
    return ((1.0 - forget) * h + forget * see.candidate(also=product[CANDIDATE]),)


def _janet(see, h):
    forget = see.gate("forget")
    written = 1.0 - see.gate("forget", shift=-1.0)
    return (forget * h + written * see.candidate(),)


def _mut1(see, h):
    update, product = see.gate("update"), see.product(CANDIDATE, see.gate("reset") * h)
    candidate = see.candidate(also=see.tanh(see.input(RAW)) + product[CANDIDATE])
    return (update * candidate + (1.0 - update) * h,)


def _mut2(see, h):
    reset = see.gate("reset", also=see.input(RAW))
    update, product = see.gate("update"), see.product(CANDIDATE, reset * h)
    return (update * see.candidate(also=product[CANDIDATE]) + (1.0 - update) * h,)


def _mut3(see, h):
    update = see.gate("update", also=see.product("update", see.tanh(h))["update"])
    product = see.product(CANDIDATE, see.gate("reset") * h)
    return (update * see.candidate(also=product[CANDIDATE]) + (1.0 - update) * h,)


@dataclasses.dataclass(frozen=True)
class Equation:
    """How the gates of a cell combine.

    Attributes:
        step: `step(see, *states) -> states`, all by the names of this module.
        gates: The gates it asks for, in the order of their blocks in a weight.
        states: What it carries from step to step; the first is also the output.
        source: Where the equation was published.
        blind: What a map does not see in the plain way: "x" or "h".
        products: Weights of its own by name: what is multiplied ("h" for
            something made of h, or gates of the step before), and for which maps.
        raw: Whether something sees x as it is (through a learnt matrix where
            sizes differ).
        recurrent_bias: The maps whose recurrent product has a bias of its own,
            for it is not merely added to the product of the input.
        squashes: Whether its output goes through an activation of its own.
    """

    step: Callable
    gates: tuple[str, ...]
    states: tuple[str, ...]
    source: str
    blind: Mapping[str, str] = dataclasses.field(default_factory=dict)
    products: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = dataclasses.field(
        default_factory=dict
    )
    raw: bool = False
    recurrent_bias: tuple[str, ...] = ()
    squashes: bool = False


_INPUT_FORGET_OUTPUT = ("input", "forget", "output")
_OWN_CANDIDATE = {CANDIDATE: (("h",), (CANDIDATE,))}  # it sees h through a gate

EQUATIONS = {
    "rnn": Equation(_rnn, (), ("h",), "Elman (1990)"),
    "leaky": Equation(_leaky, ("leak",), ("h",), "Jaeger et al. (2007): leaky integrator units"),
    "lstm": Equation(
        _lstm,
        _INPUT_FORGET_OUTPUT,
        ("h", "c"),
        "Hochreiter & Schmidhuber (1997); Gers et al. (2000); peepholes: Gers et al. (2002)",
        squashes=True,
    ),
    "coupled": Equation(
        _coupled,
        ("forget", "output"),
        ("h", "c"),
        "Greff et al. (2017), CIFG, told by its forget gate",
        squashes=True,
    ),
    "full": Equation(
        _full,
        _INPUT_FORGET_OUTPUT,
        ("h", "c", "input", "forget", "output"),
        "Greff et al. (2017), FGR: each gate sees all gates of the step before",
        products={"gates": (_INPUT_FORGET_OUTPUT, _INPUT_FORGET_OUTPUT)},
        squashes=True,
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
