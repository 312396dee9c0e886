"""The equations of recurrent cells, each written once, as plain Python.

The step function of an equation takes a `models.cells.cell.StepContext`, called `step`, and
the states before the step; it returns the states after it, in the same order. It consists of
`+ - * /`, gates by name and methods of the context only, so that the same text runs on tensors
of any backend, is differentiated by `implementations.derivative`, and is printed by
`models.cells.printing`.

Every gate g of every cell is computed alike:

    z_g = x W_g + h U_g + b_g        (+ p_g * c if the gate has a peephole;
                                      without a term to which it is blind)
    g   = sigmoid(z_g)               (or another activation; or a constant if it is pinned)

The few published equations in which a map reads something else declare it: `step.product`
multiplies that by a weight of its own.

Shapes: each value is (B, H): B batch, H units.
"""

import dataclasses
from collections.abc import Callable, Mapping

CANDIDATE, RAW = "candidate", "raw"
_LEAST = 1e-30  # of what is divided by: lost in the rounding of a float32 above 1e-22


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
    """Cho et al. (2014), version 3: the reset gate multiplies h."""
    update, product = step.gate("update"), step.product(CANDIDATE, step.gate("reset") * h)
    return (update * h + (1.0 - update) * step.candidate(also=product[CANDIDATE]),)


def _mgu(step, h):
    """Zhou et al. (2016), MGU: the forget gate is the reset gate as well."""
    forget = step.gate("forget")
    product = step.product(CANDIDATE, forget * h)
    return ((1.0 - forget) * h + forget * step.candidate(also=product[CANDIDATE]),)


def _janet(step, h):
    """Van der Westhuizen & Lasenby (2018): β lowers the bias of the written share."""
    forget = step.gate("forget")
    written = 1.0 - step.gate("forget", shift=-step.constant("beta"))
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


def _mingru(step, h):
    """Feng et al. (2024), minGRU: neither the gate nor the candidate reads h."""
    update = step.gate("update")
    return ((1.0 - update) * h + update * step.candidate(),)


def _minlstm(step, h):
    """Feng et al. (2024), minLSTM: the gates are scaled so that their sum is 1."""
    forget, input = step.gate("forget"), step.gate("input")
    total = step.named("total", forget + input)
    return (forget / total * h + input / total * step.candidate(),)


def _cfn(step, h):
    """Laurent & von Brecht (2017), CFN: without inputs the state decays to 0."""
    return (step.gate("forget") * step.tanh(h) + step.gate("input") * step.candidate(),)


def _star(step, h):
    """Turkoglu et al. (2021), the stackable recurrent cell."""
    input = step.gate("input")
    return (step.tanh((1.0 - input) * h + input * step.candidate()),)


def _sgrn(step, h):
    """Zu et al. (2020), SGRN: the candidate is the input product of the gate."""
    forget = step.gate("forget")
    return (step.tanh(forget * h + (1.0 - forget) * step.candidate(also=step.input("forget"))),)


def _nbrc(step, h):
    """Vecoven et al. (2021): a reset from 0 to 2 makes a unit bistable where it exceeds 1."""
    reset = step.named("a", 1.0 + step.gate("reset"))
    update = step.gate("update")
    return (update * h + (1.0 - update) * step.candidate(also=reset * h),)


def _minimal_rnn(step, h):
    """Chen (2017), MinimalRNN: the gate reads the candidate instead of x."""
    candidate = step.candidate()
    update = step.gate("update", also=step.product("update", candidate)["update"])
    return (update * h + (1.0 - update) * candidate,)


def _fastrnn(step, h):
    """Kusupati et al. (2018), FastRNN; the two weights are per unit instead of scalars."""
    return (step.gate("written") * step.candidate() + step.gate("kept") * h,)


def _fastgrnn(step, h):
    """Kusupati et al. (2018), FastGRNN: the candidate has the matrices of the gate."""
    update = step.gate("update")
    candidate = step.candidate(also=step.input("update") + step.recurrent("update"))
    return ((step.gate("zeta") * (1.0 - update) + step.gate("nu")) * candidate + update * h,)


def _rhn(step, h):
    """Zilly et al. (2017), depth 2, with carry gates coupled to transform gates."""
    transform = step.gate("transform")
    first = step.named("s", transform * step.candidate() + (1.0 - transform) * h)
    product = step.product("deep", first)
    transform = step.gate("deep_transform", also=product["deep_transform"])
    return (transform * step.gate("deep", also=product["deep"]) + (1.0 - transform) * first,)


def _atr(step, h):
    """Zhang et al. (2018), ATR: both gates are made of the same two products."""
    x_product, h_product = step.candidate(), step.gate("history")
    input = step.named("input", step.sigmoid(x_product + h_product))
    forget = step.named("forget", step.sigmoid(x_product - h_product))
    return (input * x_product + forget * h,)


def _lrn(step, h):
    """Zhang & Sennrich (2019), LRN: gates read h itself, without a matrix."""
    input = step.gate("input", also=h)
    forget = step.gate("forget", also=-1.0 * h)
    return (step.tanh(input * step.candidate() + forget * h),)


def _antisymmetric(step, h):
    """Chang et al. (2019), AntisymmetricRNN: a step of Euler's method, with diffusion."""
    also = -step.constant("diffusion") * h
    return (h + step.constant("step") * step.candidate(also=also),)


def _antisymmetric_gated(step, h):
    """Chang et al. (2019), with a gate: it has the recurrent matrix of the candidate."""
    diffusion = -step.constant("diffusion") * h
    input = step.gate("input", also=step.recurrent(CANDIDATE) + diffusion)
    return (h + step.constant("step") * (input * step.candidate(also=diffusion)),)


def _cornn(step, h, z):
    """Rusch & Mishra (2021), coRNN, with explicit damping: coupled oscillators."""
    force = step.candidate(also=step.product("velocity", z)[CANDIDATE])
    force = force - step.constant("stiffness") * h - step.constant("damping") * z
    z_next = step.named("z'", z + step.constant("step") * force)
    return h + step.constant("step") * z_next, z_next


def _unicornn(step, h, z):
    """Rusch & Mishra (2021), UnICORNN: independent oscillators with learnt time steps."""
    time = step.named("t", step.constant("step") * step.gate("time"))
    z_next = z - time * (step.candidate() + step.constant("stiffness") * h)
    z_next = step.named("z'", z_next)
    return h + time * z_next, z_next


def _lem(step, h, z):
    """Rusch et al. (2022), LEM: two states with learnt time steps."""
    fast = step.named("t", step.constant("step") * step.gate("fast"))
    slow = step.named("u", step.constant("step") * step.gate("slow"))
    z_next = step.named("z'", (1.0 - fast) * z + fast * step.gate("inner"))
    candidate = step.candidate(also=step.product("inner", z_next)[CANDIDATE])
    return (1.0 - slow) * h + slow * candidate, z_next


def _sgu(step, h):
    """Gao & Glowacka (2016), the simple gated unit."""
    inner = step.gate("inner", also=step.product("inner", step.gate("scale") * h)["inner"])
    update = step.gate("update")
    return ((1.0 - update) * h + update * step.candidate(also=inner * h),)


def _dsgu(step, h):
    """Gao & Glowacka (2016), the deep simple gated unit."""
    inner = step.gate("inner", also=step.product("inner", step.gate("scale") * h)["inner"])
    update = step.gate("update")
    candidate = step.candidate(also=step.product("output", inner * h)[CANDIDATE])
    return ((1.0 - update) * h + update * candidate,)


def _tgru(step, h, last_x):
    """Balduzzi & Ghifary (2016), T-GRU: maps read the previous input instead of h."""
    last, x = step.product("last", last_x), step.input(RAW)
    candidate, output = (
        step.candidate(also=last[CANDIDATE]),
        step.gate("output", also=last["output"]),
    )
    return step.gate("forget", also=last["forget"]) * h + candidate * output, x


def _tlstm(step, h, c, last_x):
    """Balduzzi & Ghifary (2016), T-LSTM: maps read the previous input instead of h."""
    last, x = step.product("last", last_x), step.input(RAW)
    forget = step.gate("forget", c, also=last["forget"])
    c_next = step.clip(forget * c + (1.0 - forget) * step.candidate(also=last[CANDIDATE]))
    return c_next * step.gate("output", c_next, also=last["output"]), c_next, x


def _multiplicative(step, h, c):
    """Krause et al. (2016), mLSTM: a product of x and h takes the place of h.

    Both factors have a bias.
    """
    factors = step.gate("from_x", c) * step.gate("from_h", c)
    product = step.product("factors", step.named("m", factors))
    forget = step.gate("forget", c, also=product["forget"])
    input = step.gate("input", c, also=product["input"])
    c_next = step.clip(forget * c + input * step.candidate(also=product[CANDIDATE]))
    output = step.gate("output", c_next, also=product["output"])
    return output * step.activate_output(c_next), c_next


def _working_memory(step, h, c):
    """Landi et al. (2021), LSTM-WM: gates read tanh of a projection of the cell state."""
    memory = step.product("memory", c)
    forget = step.gate("forget", c, also=step.tanh(memory["forget"]))
    input = step.gate("input", c, also=step.tanh(memory["input"]))
    c_next = step.clip(forget * c + input * step.candidate())
    memory = step.product("new_memory", c_next)
    output = step.gate("output", c_next, also=step.tanh(memory["output"]))
    return output * step.activate_output(c_next), c_next


def _memory_controller(step, h, c, v):
    """Ben-Ari & Shwartz-Ziv (2017): maps read a second output of the cell state instead of h."""
    read = step.product("controller", v)
    forget = step.gate("forget", c, also=read["forget"])
    input = step.gate("input", c, also=read["input"])
    c_next = step.clip(forget * c + input * step.candidate(also=read[CANDIDATE]))
    memory = step.activate_output(c_next)
    output = step.gate("output", c_next, also=read["output"])
    controller = step.gate("controller", c_next, also=read["controller"])
    return output * memory, c_next, controller * memory


def _residual(step, h, c):
    """Kim et al. (2017), the residual LSTM: a shortcut from x in the output."""
    forget, input = step.gate("forget", c), step.gate("input", c)
    c_next = step.clip(forget * c + input * step.candidate())
    product = step.product("shown", step.activate_output(c_next))["shown"]
    shown = step.gate("shown", c_next, also=product)
    return step.gate("output", c_next) * (shown + step.input(RAW)), c_next


def _sru(step, h, c):
    """Lei et al. (2018), SRU: gates read x and, by peepholes, the cell state."""
    forget, reset = step.gate("forget", c), step.gate("reset", c)
    c_next = step.clip(forget * c + (1.0 - forget) * step.candidate())
    return reset * c_next + (1.0 - reset) * step.input(RAW), c_next


def _scrn(step, h, m, s):
    """Mikolov et al. (2015), SCRN: a slow context s next to hidden units m."""
    retained = step.constant("kept")
    s_next = step.named("s'", retained * s + (1.0 - retained) * step.gate("context"))
    context = step.product("context", s_next)
    also = context["hidden"] + step.product("last", m)["hidden"]
    m_next = step.named("m'", step.gate("hidden", also=also))
    return (
        step.candidate(also=context[CANDIDATE] + step.product("new", m_next)[CANDIDATE]),
        m_next,
        s_next,
    )


def _intersection(step, h, s):
    """Collins et al. (2017), the intersection RNN: a gate over depth and one over time."""
    read = step.product("state", s)
    across, along = step.gate("across", also=read["across"]), step.gate("along", also=read["along"])
    deep = step.gate("deep", also=read["deep"])
    output = across * step.input(RAW) + (1.0 - across) * deep
    return output, along * s + (1.0 - along) * step.candidate(also=read[CANDIDATE])


def _sublstm(step, h, c):
    """Costa et al. (2017), subLSTM: input and output gates are subtracted."""
    c_next = step.clip(step.gate("forget", c) * c + step.candidate() - step.gate("input", c))
    return step.activate_output(c_next) - step.gate("output", c_next), c_next


def _nas(step, h, c):
    """Zoph & Le (2017), the cell of figure 8, found by a search."""
    first = step.tanh(step.gate("first", c) * step.gate("first_relu", c))
    product = step.relu(step.gate("from_x", c) * step.gate("from_h", c))
    second = step.tanh(step.gate("second", c) + product)
    c_next = step.clip(step.tanh(first + c) * second)
    third = step.tanh(step.gate("third_tanh", c) * step.gate("third", c))
    fourth = step.sigmoid(step.candidate() + step.gate("fourth", c))
    return step.tanh(c_next * step.tanh(third + fourth)), c_next


def _slstm(step, h, c, n, m):
    """Beck et al. (2024), sLSTM: exponential gates, with a normaliser and a stabiliser.

    The gates are logarithms until the stabiliser m is subtracted.
    """
    forget, input = step.gate("forget", c), step.gate("input", c)
    m_next = step.named("m'", step.maximum(forget + m, input))
    retained = step.named("kept", step.exp(forget + m - m_next))
    # Never 0, or n' would be 0 where the first input gate is far below the initial m.
    written = step.named("written", step.exp(input - m_next) + _LEAST)
    c_next = step.clip(retained * c + written * step.candidate())
    n_next = step.named("n'", retained * n + written)
    return step.gate("output", c_next) * (c_next / n_next), c_next, n_next, m_next


def _rwkv(step, h, a, b, p, last_x):
    """Peng et al. (2023), time mixing of RWKV-4, stabilised as in its appendix.

    a and b are numerator and denominator, divided by exp(p).
    """
    x = step.input(RAW)

    def mixed(name):
        share = step.gate(f"share_{name}")
        return step.named(f"{name}_x", share * x + (1.0 - share) * last_x)

    receptance = step.product("receptance", mixed("receptance"))["receptance"]
    receptance = step.gate("receptance", also=receptance)
    key = step.gate("key", also=step.product("key", mixed("key"))["key"])
    value = step.candidate(also=step.product("value", mixed("value"))[CANDIDATE])

    now = step.gate("bonus") + key
    top = step.named("top", step.maximum(p, now))
    old = step.named("old", step.exp(p - top))
    new = step.named("new", step.exp(now - top) + _LEAST)
    average = step.named("average", (old * a + new * value) / (old * b + new))

    p_next = step.named("p'", step.maximum(p - step.gate("decay"), key))
    retained = step.named("kept", step.exp(p - step.gate("decay") - p_next))
    written = step.named("written", step.exp(key - p_next))
    output = step.gate("out", also=step.product("out", receptance * average)["out"])
    return output, retained * a + written * value, retained * b + written, p_next, x


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
            a value computed from h, another state, gates of the previous step, or a value of
            the step), and the maps that receive the product.
        raw: Whether the equation reads x itself, through a learnt matrix if the numbers of
            input features and units differ.
        recurrent_bias: Maps whose recurrent product has a bias of its own, because it is
            not merely added to the input product.
        has_output_activation: Whether the output is an activation of the cell state, as
            computed by `StepContext.activate_output`.
        activations: Activation by gate, one of `specs.ACTIVATIONS`; the sigmoid for the others.
            A map that is no gate is declared as one with another activation.
        constants: Constants of the equation by name, which a spec can change.
        shared: Gates whose input or recurrent product another map reads, so that they cannot be
            pinned.
        combined: Groups of gates whose combination has a weight matrix or an activation of its
            own, so that not all of a group can be pinned.
        normalized: Gates that are divided by their sum, which must not be 0: one of them is
            always above 0, and none is ever below.

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
    activations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, float] = dataclasses.field(default_factory=dict)
    shared: tuple[str, ...] = ()
    combined: tuple[tuple[str, ...], ...] = ()
    normalized: tuple[str, ...] = ()


_INPUT_FORGET_OUTPUT = ("input", "forget", "output")
_OWN_CANDIDATE = {CANDIDATE: (("h",), (CANDIDATE,))}  # of h times a gate
_WITHOUT_H = dict.fromkeys((*_INPUT_FORGET_OUTPUT, CANDIDATE), "h")
_RWKV_MAPS = ("receptance", "key", "out")
_RWKV_CONSTANTS = ("share_receptance", "share_key", "share_value", "bonus", "decay")

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
    "janet": Equation(
        _janet,
        ("forget",),
        ("h",),
        "van der Westhuizen & Lasenby (2018), β = 1",
        constants={"beta": 1.0},
    ),
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
    "mingru": Equation(
        _mingru,
        ("update",),
        ("h",),
        "Feng et al. (2024), minGRU: neither gate nor candidate reads h",
        blind={"update": "h", CANDIDATE: "h"},
    ),
    "minlstm": Equation(
        _minlstm,
        ("input", "forget"),
        ("h",),
        "Feng et al. (2024), minLSTM: neither gates nor candidate read h",
        blind={"input": "h", "forget": "h", CANDIDATE: "h"},
        normalized=("input", "forget"),
    ),
    "cfn": Equation(
        _cfn,
        ("input", "forget"),
        ("h",),
        "Laurent & von Brecht (2017), the chaos-free network",
        blind={CANDIDATE: "h"},
    ),
    "star": Equation(
        _star,
        ("input",),
        ("h",),
        "Turkoglu et al. (2021), the stackable recurrent cell",
        blind={CANDIDATE: "h"},
    ),
    "sgrn": Equation(
        _sgrn,
        ("forget",),
        ("h",),
        "Zu et al. (2020), the simple gated recurrent network",
        blind={CANDIDATE: "xh"},
        shared=("forget",),
    ),
    "nbrc": Equation(
        _nbrc,
        ("reset", "update"),
        ("h",),
        "Vecoven et al. (2021), recurrently neuromodulated bistable cell",
        blind={CANDIDATE: "h"},
        activations={"reset": "tanh"},
    ),
    "minimal_rnn": Equation(
        _minimal_rnn,
        ("update",),
        ("h",),
        "Chen (2017), MinimalRNN",
        blind={"update": "x", CANDIDATE: "h"},
        products={"update": ((CANDIDATE,), ("update",))},
    ),
    "fastrnn": Equation(
        _fastrnn,
        ("written", "kept"),
        ("h",),
        "Kusupati et al. (2018), FastRNN, with weights per unit",
        blind={"written": "xh", "kept": "xh"},
    ),
    "fastgrnn": Equation(
        _fastgrnn,
        ("update", "zeta", "nu"),
        ("h",),
        "Kusupati et al. (2018), FastGRNN, with weights per unit",
        blind={"zeta": "xh", "nu": "xh", CANDIDATE: "xh"},
        shared=("update",),
    ),
    "rhn": Equation(
        _rhn,
        ("transform", "deep", "deep_transform"),
        ("h",),
        "Zilly et al. (2017), recurrent highway network of depth 2",
        blind={"deep": "xh", "deep_transform": "xh"},
        products={"deep": (("s",), ("deep", "deep_transform"))},
        activations={"deep": "tanh"},
    ),
    "atr": Equation(
        _atr,
        ("history",),
        ("h",),
        "Zhang et al. (2018), the addition-subtraction twin-gated network",
        blind={"history": "x", CANDIDATE: "h"},
        activations={"history": "identity"},
    ),
    "lrn": Equation(
        _lrn,
        ("input", "forget"),
        ("h",),
        "Zhang & Sennrich (2019), the lightweight recurrent network",
        blind={"input": "h", "forget": "h", CANDIDATE: "h"},
    ),
    "antisymmetric": Equation(
        _antisymmetric,
        (),
        ("h",),
        "Chang et al. (2019), AntisymmetricRNN",
        constants={"step": 0.1, "diffusion": 0.01},
    ),
    "antisymmetric_gated": Equation(
        _antisymmetric_gated,
        ("input",),
        ("h",),
        "Chang et al. (2019), AntisymmetricRNN with a gate",
        blind={"input": "h"},
        constants={"step": 0.1, "diffusion": 0.01},
    ),
    "cornn": Equation(
        _cornn,
        (),
        ("h", "z"),
        "Rusch & Mishra (2021), the coupled oscillatory RNN",
        products={"velocity": (("z",), (CANDIDATE,))},
        constants={"step": 0.1, "stiffness": 1.0, "damping": 1.0},
    ),
    "unicornn": Equation(
        _unicornn,
        ("time",),
        ("h", "z"),
        "Rusch & Mishra (2021), the undamped independent controlled oscillatory RNN",
        blind={"time": "xh"},
        constants={"step": 0.1, "stiffness": 1.0},
    ),
    "lem": Equation(
        _lem,
        ("fast", "slow", "inner"),
        ("h", "z"),
        "Rusch et al. (2022), long expressive memory",
        blind={CANDIDATE: "h"},
        products={"inner": (("z",), (CANDIDATE,))},
        activations={"inner": "tanh"},
        constants={"step": 1.0},
    ),
    "sgu": Equation(
        _sgu,
        ("update", "scale", "inner"),
        ("h",),
        "Gao & Glowacka (2016), the simple gated unit",
        blind={"scale": "h", "inner": "xh", CANDIDATE: "xh"},
        products={"inner": (("h",), ("inner",))},
        activations={"update": "hard_sigmoid", "scale": "identity", "inner": "tanh"},
    ),
    "dsgu": Equation(
        _dsgu,
        ("update", "scale", "inner"),
        ("h",),
        "Gao & Glowacka (2016), the deep simple gated unit",
        blind={"scale": "h", "inner": "xh", CANDIDATE: "xh"},
        products={"inner": (("h",), ("inner",)), "output": (("h",), (CANDIDATE,))},
        activations={"update": "hard_sigmoid", "scale": "identity", "inner": "tanh"},
    ),
    "tgru": Equation(
        _tgru,
        ("forget", "output"),
        ("h", "last_x"),
        "Balduzzi & Ghifary (2016), the strongly-typed GRU",
        blind={"forget": "h", "output": "h", CANDIDATE: "h"},
        products={"last": (("last_x",), ("forget", "output", CANDIDATE))},
        raw=True,
        activations={"output": "tanh"},
    ),
    "tlstm": Equation(
        _tlstm,
        ("forget", "output"),
        ("h", "c", "last_x"),
        "Balduzzi & Ghifary (2016), the strongly-typed LSTM",
        blind={"forget": "h", "output": "h", CANDIDATE: "h"},
        products={"last": (("last_x",), ("forget", "output", CANDIDATE))},
        raw=True,
        activations={"output": "tanh"},
    ),
    "multiplicative": Equation(
        _multiplicative,
        (*_INPUT_FORGET_OUTPUT, "from_x", "from_h"),
        ("h", "c"),
        "Krause et al. (2016), the multiplicative LSTM",
        blind={**_WITHOUT_H, "from_x": "h", "from_h": "x"},
        products={"factors": (("m",), (*_INPUT_FORGET_OUTPUT, CANDIDATE))},
        has_output_activation=True,
        activations={"from_x": "identity", "from_h": "identity"},
        combined=(("from_x", "from_h"),),
    ),
    "working_memory": Equation(
        _working_memory,
        _INPUT_FORGET_OUTPUT,
        ("h", "c"),
        "Landi et al. (2021), the LSTM with working memory connections",
        products={
            "memory": (("c",), ("input", "forget")),
            "new_memory": (("c",), ("output",)),
        },
        has_output_activation=True,
    ),
    "memory_controller": Equation(
        _memory_controller,
        (*_INPUT_FORGET_OUTPUT, "controller"),
        ("h", "c", "v"),
        "Ben-Ari & Shwartz-Ziv (2017), the LSTM with a memory controller",
        blind={**_WITHOUT_H, "controller": "h"},
        products={"controller": (("v",), (*_INPUT_FORGET_OUTPUT, "controller", CANDIDATE))},
        has_output_activation=True,
    ),
    "residual": Equation(
        _residual,
        (*_INPUT_FORGET_OUTPUT, "shown"),
        ("h", "c"),
        "Kim et al. (2017), the residual LSTM",
        blind={"shown": "xh"},
        products={"shown": (("c",), ("shown",))},
        raw=True,
        has_output_activation=True,
        activations={"shown": "identity"},
    ),
    "sru": Equation(
        _sru,
        ("forget", "reset"),
        ("h", "c"),
        "Lei et al. (2018), the simple recurrent unit",
        blind={"forget": "h", "reset": "h", CANDIDATE: "h"},
        raw=True,
    ),
    "scrn": Equation(
        _scrn,
        ("context", "hidden"),
        ("h", "m", "s"),
        "Mikolov et al. (2015), the structurally constrained recurrent network",
        blind={"context": "h", "hidden": "h", CANDIDATE: "xh"},
        products={
            "context": (("s",), ("hidden", CANDIDATE)),
            "last": (("m",), ("hidden",)),
            "new": (("m",), (CANDIDATE,)),
        },
        activations={"context": "identity"},
        constants={"kept": 0.95},
        combined=(("hidden",),),
    ),
    "intersection": Equation(
        _intersection,
        ("across", "along", "deep"),
        ("h", "s"),
        "Collins et al. (2017), the intersection RNN",
        blind={"across": "h", "along": "h", "deep": "h", CANDIDATE: "h"},
        products={"state": (("s",), ("across", "along", "deep", CANDIDATE))},
        raw=True,
        activations={"deep": "relu"},
    ),
    "sublstm": Equation(
        _sublstm,
        _INPUT_FORGET_OUTPUT,
        ("h", "c"),
        "Costa et al. (2017), the subtractive LSTM",
        has_output_activation=True,
    ),
    "nas": Equation(
        _nas,
        ("first", "first_relu", "second", "from_x", "from_h", "third_tanh", "third", "fourth"),
        ("h", "c"),
        "Zoph & Le (2017), the cell of neural architecture search",
        blind={"from_x": "h", "from_h": "x"},
        activations={
            "first_relu": "relu",
            "from_x": "identity",
            "from_h": "identity",
            "third_tanh": "tanh",
        },
        combined=(("first", "first_relu"), ("from_x", "from_h"), ("third_tanh", "third")),
    ),
    "slstm": Equation(
        _slstm,
        _INPUT_FORGET_OUTPUT,
        ("h", "c", "n", "m"),
        "Beck et al. (2024), sLSTM of xLSTM",
        activations={"input": "identity", "forget": "log_sigmoid"},
    ),
    "rwkv": Equation(
        _rwkv,
        (*_RWKV_MAPS, *_RWKV_CONSTANTS),
        ("h", "a", "b", "p", "last_x"),
        "Peng et al. (2023), time mixing of RWKV-4",
        blind=dict.fromkeys((*_RWKV_MAPS, *_RWKV_CONSTANTS, CANDIDATE), "xh"),
        products={
            "receptance": (("x",), ("receptance",)),
            "key": (("x",), ("key",)),
            "value": (("x",), (CANDIDATE,)),
            "out": (("average",), ("out",)),
        },
        raw=True,
        activations={
            **dict.fromkeys(("key", "out", *_RWKV_CONSTANTS), "identity"),
            "decay": "exp",
        },
    ),
}
