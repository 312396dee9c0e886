"""Independent implementation of the equations, in NumPy and float64, without code from `models`.

One gate at a time, unfused, each from its paper. The duplication is deliberate: two independent
implementations that agree are likely to match the paper. Each function takes `w`, which holds
the weights by name of the map, the input x of one step, and the states; it returns the new
states.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def normalized(z):
    """Layer normalisation: Ba et al. (2016), with the usual epsilon."""
    return (z - np.mean(z)) / np.sqrt(np.var(z) + 1e-5)


def rnn(w, x, h):
    """Elman (1990)."""
    return (w.candidate(w.W("candidate", x) + w.U("candidate", h)),)


def leaky(w, x, h):
    """Jaeger et al. (2007): a fraction of the old state is kept."""
    stays = w.gate("leak", x, h)
    return (stays * h + (1 - stays) * w.plain_candidate(x, h),)


def lstm(w, x, h, c):
    """Greff et al. (2017), section 2; the peephole of the output gate reads the new c."""
    i, f = w.gate("input", x, h, c), w.gate("forget", x, h, c)
    new = w.clip(w.plain_candidate(x, h) * i + c * f)
    o = w.gate("output", x, h, new)
    return w.h(new) * o, new


def coupled(w, x, h, c):
    """Greff et al. (2017), CIFG: the input gate is one minus the forget gate."""
    f = w.gate("forget", x, h, c)
    i = 1 - f
    new = w.clip(w.plain_candidate(x, h) * i + c * f)
    return w.h(new) * w.gate("output", x, h, new), new


def full(w, x, h, c, i_last, f_last, o_last):
    """Greff et al. (2017), FGR: three gates read the previous values of three gates."""

    def also(gate):
        last = (i_last, f_last, o_last)
        return w.own("gates", gate, np.concatenate(last))

    i, f = w.gate("input", x, h, c, also), w.gate("forget", x, h, c, also)
    new = w.clip(w.plain_candidate(x, h) * i + c * f)
    o = w.gate("output", x, h, new, also)
    return w.h(new) * o, new, i, f, o


def gru(w, x, h):
    """Cho et al. (2014), version 1, with the update gate keeping the old state."""
    kept, reset = w.gate("update", x, h), w.gate("reset", x, h)
    inner = w.U("candidate", h) + w.vector("recurrent_bias")
    new = w.candidate(w.W("candidate", x) + reset * inner)
    return (kept * h + (1 - kept) * new,)


def gru_before(w, x, h):
    """Cho et al. (2014), version 3."""
    kept, reset = w.gate("update", x, h), w.gate("reset", x, h)
    seen = w.own("candidate", "candidate", reset * h)
    return (kept * h + (1 - kept) * w.candidate(w.W("candidate", x) + seen),)


def mgu(w, x, h):
    """Zhou et al. (2016)."""
    f = w.gate("forget", x, h)
    seen = w.own("candidate", "candidate", f * h)
    return ((1 - f) * h + f * w.candidate(w.W("candidate", x) + seen),)


def janet(w, x, h):
    """van der Westhuizen & Lasenby (2018): the write term has a bias of its own, β = 1."""
    if "forget" in w.spec.pinned:
        f = written = w.spec.pinned["forget"]
    else:
        s = w.sees("forget", w.W("forget", x) + w.U("forget", h))
        f, written = sigmoid(s), sigmoid(s - w.constant("beta", 1))
    return (f * h + (1 - written) * w.plain_candidate(x, h),)


def mut1(w, x, h):
    z, r = w.gate("update", x, h), w.gate("reset", x, h)
    seen = w.own("candidate", "candidate", r * h)
    new = w.candidate(seen + np.tanh(w.raw(x)))
    return (new * z + h * (1 - z),)


def mut2(w, x, h):
    z, r = w.gate("update", x, h), w.gate("reset", x, h, also=lambda _: w.raw(x))
    seen = w.own("candidate", "candidate", r * h)
    new = w.candidate(seen + w.W("candidate", x))
    return (new * z + h * (1 - z),)


def mut3(w, x, h):
    tanh_h = np.tanh(h)
    z = w.gate("update", x, h, also=lambda _: w.own("update", "update", tanh_h))
    seen = w.own("candidate", "candidate", w.gate("reset", x, h) * h)
    new = w.candidate(seen + w.W("candidate", x))
    return (new * z + h * (1 - z),)


def mingru(w, x, h):
    """Feng et al. (2024): z = s(W x), h' = (1 - z) h + z (W x)."""
    z = w.gate("update", x, h)
    return ((1 - z) * h + z * w.plain_candidate(x, h),)


def minlstm(w, x, h):
    """Feng et al. (2024): the gates are divided by their sum."""
    f, i = w.gate("forget", x, h), w.gate("input", x, h)
    return ((f * h + i * w.plain_candidate(x, h)) / (f + i),)


def cfn(w, x, h):
    """Laurent & von Brecht (2017)."""
    theta, eta = w.gate("forget", x, h), w.gate("input", x, h)
    return (theta * np.tanh(h) + eta * w.plain_candidate(x, h),)


def star(w, x, h):
    """Turkoglu et al. (2021)."""
    k = w.gate("input", x, h)
    return (np.tanh(h - k * h + k * w.plain_candidate(x, h)),)


def sgrn(w, x, h):
    """Zu et al. (2020): W x, with its bias, is both in the gate and what the gate lets in."""
    f = w.gate("forget", x, h)
    return (np.tanh((1 - f) * w.candidate(w.input("forget", x)) + f * h),)


def nbrc(w, x, h):
    """Vecoven et al. (2021)."""
    a, c = 1 + w.gate("reset", x, h), w.gate("update", x, h)
    return (c * h + (1 - c) * w.candidate(w.W("candidate", x) + a * h),)


def minimal_rnn(w, x, h):
    """Chen (2017)."""
    z = w.plain_candidate(x, h)
    u = w.gate("update", x, h, also=lambda _: w.own("update", "update", z, of_h=False))
    return (u * h + (1 - u) * z,)


def fastrnn(w, x, h):
    """Kusupati et al. (2018)."""
    return (w.gate("written", x, h) * w.plain_candidate(x, h) + w.gate("kept", x, h) * h,)


def fastgrnn(w, x, h):
    """Kusupati et al. (2018): one W and one U for the gate and the candidate."""
    z = w.gate("update", x, h)
    new = w.candidate(w.input("update", x) + w.U("update", h))
    return ((w.gate("zeta", x, h) * (1 - z) + w.gate("nu", x, h)) * new + z * h,)


def rhn(w, x, h):
    """Zilly et al. (2017), two micro-steps, c = 1 - t."""
    t = w.gate("transform", x, h)
    s = w.plain_candidate(x, h) * t + h * (1 - t)

    def also(name):
        return w.own("deep", name, s, of_h=False)

    t = w.gate("deep_transform", x, h, also=also)
    return (w.gate("deep", x, h, also=also) * t + s * (1 - t),)


def atr(w, x, h):
    """Zhang et al. (2018)."""
    p, q = w.plain_candidate(x, h), w.gate("history", x, h)
    return (sigmoid(p + q) * p + sigmoid(p - q) * h,)


def lrn(w, x, h):
    """Zhang & Sennrich (2019)."""
    i = w.gate("input", x, h, also=lambda _: h)
    f = w.gate("forget", x, h, also=lambda _: -h)
    return (np.tanh(i * w.plain_candidate(x, h) + f * h),)


def antisymmetric(w, x, h):
    """Chang et al. (2019)."""
    epsilon, gamma = w.constant("step", 0.1), w.constant("diffusion", 0.01)
    seen = w.W("candidate", x) + w.U("candidate", h) - gamma * h
    return (h + epsilon * w.candidate(seen),)


def antisymmetric_gated(w, x, h):
    """Chang et al. (2019), with a gate that has the same recurrent matrix."""
    epsilon, gamma = w.constant("step", 0.1), w.constant("diffusion", 0.01)
    seen = w.U("candidate", h) - gamma * h
    z = w.gate("input", x, h, also=lambda _: seen)
    return (h + epsilon * z * w.candidate(w.W("candidate", x) + seen),)


def cornn(w, x, y, z):
    """Rusch & Mishra (2021), damping by the old velocity."""
    dt, gamma, epsilon = (
        w.constant("step", 0.1),
        w.constant("stiffness", 1),
        w.constant("damping", 1),
    )
    seen = w.W("candidate", x) + w.U("candidate", y) + w.own("velocity", "candidate", z, of_h=False)
    z = z + dt * (w.candidate(seen) - gamma * y - epsilon * z)
    return y + dt * z, z


def unicornn(w, x, y, z):
    """Rusch & Mishra (2021)."""
    dt = w.constant("step", 0.1) * w.gate("time", x, y)
    z = z - dt * (w.plain_candidate(x, y) + w.constant("stiffness", 1) * y)
    return y + dt * z, z


def lem(w, x, y, z):
    """Rusch et al. (2022)."""
    dt = w.constant("step", 1)
    fast, slow = dt * w.gate("fast", x, y), dt * w.gate("slow", x, y)
    z = (1 - fast) * z + fast * w.gate("inner", x, y)
    seen = w.W("candidate", x) + w.own("inner", "candidate", z, of_h=False)
    return (1 - slow) * y + slow * w.candidate(seen), z


def sgu(w, x, h):
    """Gao & Glowacka (2016)."""
    scaled = w.gate("scale", x, h) * h
    inner = w.gate("inner", x, h, also=lambda _: w.own("inner", "inner", scaled))
    z = w.gate("update", x, h)
    return ((1 - z) * h + z * w.candidate(inner * h),)


def dsgu(w, x, h):
    """Gao & Glowacka (2016), the deep unit."""
    scaled = w.gate("scale", x, h) * h
    inner = w.gate("inner", x, h, also=lambda _: w.own("inner", "inner", scaled))
    z = w.gate("update", x, h)
    return ((1 - z) * h + z * w.candidate(w.own("output", "candidate", inner * h)),)


def tgru(w, x, h, last):
    """Balduzzi & Ghifary (2016), T-GRU."""

    def also(name):
        return w.own("last", name, last, of_h=False)

    z = w.candidate(w.W("candidate", x) + also("candidate"))
    return w.gate("forget", x, h, also=also) * h + z * w.gate("output", x, h, also=also), w.raw(x)


def tlstm(w, x, h, c, last):
    """Balduzzi & Ghifary (2016), T-LSTM."""

    def also(name):
        return w.own("last", name, last, of_h=False)

    z, f = w.candidate(w.W("candidate", x) + also("candidate")), w.gate("forget", x, h, c, also)
    c = w.clip(f * c + (1 - f) * z)
    return c * w.gate("output", x, h, c, also), c, w.raw(x)


def multiplicative(w, x, h, c):
    """Krause et al. (2016): m = (W x) (U h) in place of h."""
    m = w.gate("from_x", x, h, c) * w.gate("from_h", x, h, c)

    def also(name):
        return w.own("factors", name, m, of_h=False)

    i, f = w.gate("input", x, h, c, also), w.gate("forget", x, h, c, also)
    c = w.clip(f * c + i * w.candidate(w.W("candidate", x) + also("candidate")))
    return w.h(c) * w.gate("output", x, h, c, also), c


def working_memory(w, x, h, c):
    """Landi et al. (2021)."""

    def old(name):
        return np.tanh(w.own("memory", name, c, of_h=False))

    i, f = w.gate("input", x, h, c, old), w.gate("forget", x, h, c, old)
    new = w.clip(f * c + i * w.plain_candidate(x, h))

    def also(name):
        return np.tanh(w.own("new_memory", name, new, of_h=False))

    return w.h(new) * w.gate("output", x, h, new, also), new


def memory_controller(w, x, h, c, v):
    """Ben-Ari & Shwartz-Ziv (2017)."""

    def also(name):
        return w.own("controller", name, v, of_h=False)

    i, f = w.gate("input", x, h, c, also), w.gate("forget", x, h, c, also)
    c = w.clip(f * c + i * w.candidate(w.W("candidate", x) + also("candidate")))
    o, m = w.gate("output", x, h, c, also), w.gate("controller", x, h, c, also)
    return o * w.h(c), c, m * w.h(c)


def residual(w, x, h, c):
    """Kim et al. (2017)."""
    i, f = w.gate("input", x, h, c), w.gate("forget", x, h, c)
    c = w.clip(f * c + i * w.plain_candidate(x, h))
    r = w.gate("shown", x, h, c, lambda name: w.own("shown", name, w.h(c), of_h=False))
    return w.gate("output", x, h, c) * (r + w.raw(x)), c


def sru(w, x, h, c):
    """Lei et al. (2018): both gates read the old c."""
    f, r = w.gate("forget", x, h, c), w.gate("reset", x, h, c)
    c = w.clip(f * c + (1 - f) * w.plain_candidate(x, h))
    return r * c + (1 - r) * w.raw(x), c


def scrn(w, x, y, h, s):
    """Mikolov et al. (2015)."""
    alpha = w.constant("kept", 0.95)
    s = (1 - alpha) * w.gate("context", x, y) + alpha * s

    def also(name):
        return w.own("context", name, s, of_h=False) + w.own("last", name, h, of_h=False)

    h = w.gate("hidden", x, y, also=also)
    seen = w.own("context", "candidate", s, of_h=False) + w.own("new", "candidate", h, of_h=False)
    return w.candidate(seen), h, s


def intersection(w, x, y, h):
    """Collins et al. (2017)."""

    def also(name):
        return w.own("state", name, h, of_h=False)

    across, along = w.gate("across", x, y, also=also), w.gate("along", x, y, also=also)
    deep = w.gate("deep", x, y, also=also)
    new = w.candidate(w.W("candidate", x) + also("candidate"))
    return across * w.raw(x) + (1 - across) * deep, along * h + (1 - along) * new


def sublstm(w, x, h, c):
    """Costa et al. (2017)."""
    i, f = w.gate("input", x, h, c), w.gate("forget", x, h, c)
    c = w.clip(f * c + w.plain_candidate(x, h) - i)
    return w.h(c) - w.gate("output", x, h, c), c


def nas(w, x, h, c):
    """Zoph & Le (2017), figure 8, as in TensorFlow Addons' NASCell."""
    one = np.tanh(w.gate("first", x, h, c) * w.gate("first_relu", x, h, c))
    product = np.maximum(w.gate("from_x", x, h, c) * w.gate("from_h", x, h, c), 0)
    two = np.tanh(w.gate("second", x, h, c) + product)
    three = np.tanh(w.gate("third_tanh", x, h, c) * w.gate("third", x, h, c))
    four = sigmoid(w.plain_candidate(x, h) + w.gate("fourth", x, h, c))
    c = w.clip(np.tanh(one + c) * two)
    return np.tanh(c * np.tanh(three + four)), c


def slstm(w, x, h, c, n, m):
    """Beck et al. (2024), with c and n divided by exp(m)."""
    f, i = np.exp(w.gate("forget", x, h, c)), np.exp(w.gate("input", x, h, c))
    new_m = np.maximum(np.log(f) + m, np.log(i))
    new = f * c * np.exp(m) + i * w.plain_candidate(x, h) * 1.0
    total = (f * n * np.exp(m) + i) / np.exp(new_m)
    c = w.clip(new / np.exp(new_m))
    return w.gate("output", x, h, c) * c / total, c, total, new_m


def rwkv(w, x, h, a, b, p, last):
    """Peng et al. (2023): wkv without its stabiliser, with a and b divided by exp(p)."""
    x = w.raw(x)

    def of(name, target):
        mu = w.gate(f"share_{name}", x, h)
        return lambda _: w.own(name, target, mu * x + (1 - mu) * last, of_h=False)

    r = w.gate("receptance", x, h, also=of("receptance", "receptance"))
    k = w.gate("key", x, h, also=of("key", "key"))
    v = w.candidate(of("value", "candidate")(0))
    a, b = a * np.exp(p), b * np.exp(p)
    now = np.exp(w.gate("bonus", x, h) + k)
    average = (a + now * v) / (b + now)
    out = w.gate("out", x, h, also=lambda name: w.own("out", name, r * average, of_h=False))
    fade = w.gate("decay", x, h)
    top = np.maximum(p - fade, k)
    a, b = (np.exp(-fade) * a + np.exp(k) * v), (np.exp(-fade) * b + np.exp(k))
    return out, a / np.exp(top), b / np.exp(top), top, x


FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "identity": lambda z: z,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda z: np.clip(z / 6 + 0.5, 0, 1),
    "log_sigmoid": lambda z: np.log(sigmoid(z)),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "gelu": lambda z: z * np.vectorize(lambda v: (1 + math.erf(v / math.sqrt(2))) / 2)(z),
    "silu": lambda z: z * sigmoid(z),
    "elu": lambda z: np.where(z > 0, z, np.exp(z) - 1),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "exp": np.exp,
}


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Facts about an equation, from its paper.

    Attributes:
        step: One step, as above.
        cell: Name of a cell in `CELLS` that stands for the equation where one is enough.
        mix: For equations whose only state is h: the shares of the old h and of the candidate
            in the new h, from the values of the gates by name.
        not_x: Maps without the plain product of x.
        not_h: Maps without the plain product of h.
        products: Maps of each further product, by name.
        functions: Function of each gate that is not a sigmoid, by name.
    """

    step: Callable
    cell: str
    mix: Callable | None = None
    not_x: tuple[str, ...] = ()
    not_h: tuple[str, ...] = ()
    products: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    functions: dict[str, str] = dataclasses.field(default_factory=dict)


CANDIDATE = ("candidate",)
THREE = ("input", "forget", "output")
MIXES = ("share_receptance", "share_key", "share_value", "bonus", "decay")
ORACLES = {
    "rnn": Oracle(rnn, "rnn", lambda g: (0, 1)),
    "leaky": Oracle(leaky, "leaky_learnt", lambda g: (g["leak"], 1 - g["leak"])),
    "lstm": Oracle(lstm, "lstm_peephole"),
    "coupled": Oracle(coupled, "greff_cifg"),
    "full": Oracle(full, "greff_fgr"),
    "gru": Oracle(gru, "gru", lambda g: (g["update"], 1 - g["update"])),
    "gru_before": Oracle(
        gru_before, "gru_before", lambda g: (g["update"], 1 - g["update"]), not_h=CANDIDATE
    ),
    "mgu": Oracle(mgu, "mgu", lambda g: (1 - g["forget"], g["forget"]), not_h=CANDIDATE),
    "janet": Oracle(janet, "janet", lambda g: (g["forget"], 1 - g["forget_2"])),
    "mut1": Oracle(
        mut1,
        "mut1",
        lambda g: (1 - g["update"], g["update"]),
        not_x=CANDIDATE,
        not_h=("update", "candidate"),
    ),
    "mut2": Oracle(
        mut2,
        "mut2",
        lambda g: (1 - g["update"], g["update"]),
        not_x=("reset",),
        not_h=CANDIDATE,
    ),
    "mut3": Oracle(
        mut3, "mut3", lambda g: (1 - g["update"], g["update"]), not_h=("update", "candidate")
    ),
    "mingru": Oracle(mingru, "mingru", not_h=("update", "candidate")),
    "minlstm": Oracle(minlstm, "minlstm", not_h=("input", "forget", "candidate")),
    "cfn": Oracle(cfn, "cfn", not_h=CANDIDATE),
    "star": Oracle(star, "star", not_h=CANDIDATE),
    "sgrn": Oracle(sgrn, "sgrn", not_x=CANDIDATE, not_h=CANDIDATE),
    "nbrc": Oracle(nbrc, "nbrc", not_h=CANDIDATE, functions={"reset": "tanh"}),
    "minimal_rnn": Oracle(minimal_rnn, "minimal_rnn", not_x=("update",), not_h=CANDIDATE),
    "fastrnn": Oracle(fastrnn, "fastrnn", not_x=("written", "kept"), not_h=("written", "kept")),
    "fastgrnn": Oracle(
        fastgrnn,
        "fastgrnn",
        not_x=("zeta", "nu", "candidate"),
        not_h=("zeta", "nu", "candidate"),
    ),
    "rhn": Oracle(
        rhn,
        "rhn",
        not_x=("deep", "deep_transform"),
        not_h=("deep", "deep_transform"),
        products={"deep": ("deep", "deep_transform")},
        functions={"deep": "tanh"},
    ),
    "atr": Oracle(
        atr, "atr", not_x=("history",), not_h=CANDIDATE, functions={"history": "identity"}
    ),
    "lrn": Oracle(lrn, "lrn", not_h=("input", "forget", "candidate")),
    "antisymmetric": Oracle(antisymmetric, "antisymmetric_rnn"),
    "antisymmetric_gated": Oracle(antisymmetric_gated, "antisymmetric_gated", not_h=("input",)),
    "cornn": Oracle(cornn, "cornn", products={"velocity": CANDIDATE}),
    "unicornn": Oracle(unicornn, "unicornn", not_x=("time",), not_h=("time",)),
    "lem": Oracle(
        lem, "lem", not_h=CANDIDATE, products={"inner": CANDIDATE}, functions={"inner": "tanh"}
    ),
    "sgu": Oracle(
        sgu,
        "sgu",
        not_x=("inner", "candidate"),
        not_h=("scale", "inner", "candidate"),
        products={"inner": ("inner",)},
        functions={"update": "hard_sigmoid", "scale": "identity", "inner": "tanh"},
    ),
    "dsgu": Oracle(
        dsgu,
        "dsgu",
        not_x=("inner", "candidate"),
        not_h=("scale", "inner", "candidate"),
        products={"inner": ("inner",), "output": CANDIDATE},
        functions={"update": "hard_sigmoid", "scale": "identity", "inner": "tanh"},
    ),
    "tgru": Oracle(
        tgru,
        "tgru",
        not_h=("forget", "output", "candidate"),
        products={"last": ("forget", "output", "candidate")},
        functions={"output": "tanh"},
    ),
    "tlstm": Oracle(
        tlstm,
        "tlstm",
        not_h=("forget", "output", "candidate"),
        products={"last": ("forget", "output", "candidate")},
        functions={"output": "tanh"},
    ),
    "multiplicative": Oracle(
        multiplicative,
        "lstm_multiplicative",
        not_x=("from_h",),
        not_h=(*THREE, "from_x", "candidate"),
        products={"factors": (*THREE, "candidate")},
        functions={"from_x": "identity", "from_h": "identity"},
    ),
    "working_memory": Oracle(
        working_memory,
        "lstm_working_memory",
        products={"memory": ("input", "forget"), "new_memory": ("output",)},
    ),
    "memory_controller": Oracle(
        memory_controller,
        "lstm_memory_controller",
        not_h=(*THREE, "controller", "candidate"),
        products={"controller": (*THREE, "controller", "candidate")},
    ),
    "residual": Oracle(
        residual,
        "lstm_residual",
        not_x=("shown",),
        not_h=("shown",),
        products={"shown": ("shown",)},
        functions={"shown": "identity"},
    ),
    "sru": Oracle(sru, "sru", not_h=("forget", "reset", "candidate")),
    "scrn": Oracle(
        scrn,
        "scrn",
        not_x=CANDIDATE,
        not_h=("context", "hidden", "candidate"),
        products={"context": ("hidden", "candidate"), "last": ("hidden",), "new": CANDIDATE},
        functions={"context": "identity"},
    ),
    "intersection": Oracle(
        intersection,
        "intersection_rnn",
        not_h=("across", "along", "deep", "candidate"),
        products={"state": ("across", "along", "deep", "candidate")},
        functions={"deep": "relu"},
    ),
    "sublstm": Oracle(sublstm, "sublstm"),
    "nas": Oracle(
        nas,
        "nas",
        not_x=("from_h",),
        not_h=("from_x",),
        functions={
            "first_relu": "relu",
            "from_x": "identity",
            "from_h": "identity",
            "third_tanh": "tanh",
        },
    ),
    "slstm": Oracle(slstm, "slstm", functions={"input": "identity", "forget": "log_sigmoid"}),
    "rwkv": Oracle(
        rwkv,
        "rwkv",
        not_x=("receptance", "key", "out", *MIXES, "candidate"),
        not_h=("receptance", "key", "out", *MIXES, "candidate"),
        products={
            "receptance": ("receptance",),
            "key": ("key",),
            "value": CANDIDATE,
            "out": ("out",),
        },
        functions={**dict.fromkeys(("key", "out", *MIXES), "identity"), "decay": "exp"},
    ),
}


def oracle(equation: str) -> Oracle:
    """Returns the oracle of an equation; a new equation needs one."""
    if equation not in ORACLES:
        raise LookupError(
            f"the equation {equation!r} has no oracle: add it to ORACLES in "
            "tests/support/textbook.py."
        )
    return ORACLES[equation]


class Weights:
    """Weights of a built `GatedCell`, block by block, by name of the map.

    `dropped` holds the masks of training for this step and row: the vectors "state" and
    "candidate", and matrices by name of the weight. `seen` holds the values of gates and
    candidate of the last step.
    """

    def __init__(self, cell):
        self.spec, self.H = cell.spec, cell.units
        self._read = {w.name: np.asarray(w, "float64") for w in cell.weights}
        for name, weight in self._read.items():
            if name == "recurrent_kernel" or name.endswith("_product"):
                self._read[name] = self.square(weight)
        self.dropped, self.seen = {}, {}
        gates = [g for g in cell.spec.definition.gates if g not in cell.spec.pinned]
        maps = [*gates, "candidate"]
        blind = cell.spec.blind
        facts = oracle(cell.spec.equation)
        not_x, not_h, self._functions = facts.not_x, facts.not_h, facts.functions
        self._columns = {
            "bias": maps,
            "gain": maps,
            "kernel": [m for m in maps if m not in not_x and "x" not in blind.get(m, "")],
            "recurrent_kernel": [m for m in maps if m not in not_h and "h" not in blind.get(m, "")],
            "gates_product": gates,
            "candidate_product": ["candidate"],
            "update_product": ["update"],
        }
        for name, receivers in facts.products.items():
            self._columns[f"{name}_product"] = [m for m in receivers if m in maps]

    def square(self, weight):
        """Returns the square matrices of a recurrent weight, side by side and stacked."""
        H, structure = self.H, self.spec.recurrent_structure
        blocks = [weight[:, at : at + H] for at in range(0, weight.shape[1], H)]
        if rank := self.spec.recurrent_rank:
            parts = [np.split(block, len(block) // rank) for block in blocks]
            pairs = [zip(part[::2], part[1::2], strict=True) for part in parts]
            return np.hstack([np.vstack([a.T @ b for a, b in pair]) for pair in pairs])
        if structure in ("antisymmetric", "orthogonal"):
            parts = [np.split(block, len(block) // H) for block in blocks]
            skew = [[m - m.T for m in part] for part in parts]
            if structure == "orthogonal":
                one = np.eye(H)
                skew = [[np.linalg.inv(one + m) @ (one - m) for m in part] for part in skew]
            return np.hstack([np.vstack(part) for part in skew])
        if structure == "full" and self.spec.heads == 1:
            return weight
        size = 1 if structure == "diagonal" else H // self.spec.heads
        columns = []
        for block in blocks:
            matrices = []
            for rows in np.split(block, len(block) // size):  # one operand each
                matrix = np.zeros((H, H))
                for at in range(0, H, size):
                    matrix[at : at + size, at : at + size] = rows[:, at : at + size]
                matrices.append(matrix)
            columns.append(np.vstack(matrices))
        return np.hstack(columns)

    def constant(self, name, default):
        """Returns a constant of the equation, whose own value is the default."""
        return self.spec.constants.get(name, default)

    def block(self, weight, name, values):
        """Returns the block of a map in a weight that holds the blocks of several maps."""
        at = self._columns[weight].index(name)
        return values[at * self.H : (at + 1) * self.H]

    def vector(self, name):
        return self._read[name]

    def times(self, v, weight, name, gain):
        """Returns v times the block of a map; 0 if the weight has no block for it."""
        if name not in self._columns[weight]:
            return 0.0
        matrix = self._read[weight] * self.dropped.get(weight, 1.0)
        product = v @ matrix
        if self.spec.layer_norm != "products":
            return self.block(weight, name, product)
        if weight.endswith("_product"):  # one map by itself
            part = normalized(self.block(weight, name, product))
        else:
            part = self.block(weight, name, normalized(product))
        return part * self.block(weight, name, self._read[gain])

    def input(self, name, x):
        """Returns W x plus the bias, unless normalisation precedes the bias."""
        if self.spec.layer_norm == "maps":
            return self.W(name, x)
        return self.W(name, x) + self.block("bias", name, self._read["bias"])

    def W(self, name, x):
        return self.times(x, "kernel", name, "input_gain")

    def U(self, name, h):
        seen = h * self.dropped.get("state", 1.0)
        return self.times(seen, "recurrent_kernel", name, "recurrent_gain")

    def own(self, weight, name, v, of_h=True):
        if of_h and len(v) == self.H:
            v = v * self.dropped.get("state", 1.0)
        return self.times(v, f"{weight}_product", name, f"{weight}_product_gain")

    def raw(self, x):
        return x @ self._read["raw_projection"] if "raw_projection" in self._read else x

    def sees(self, name, z):
        """Returns the pre-activation of a map, including its bias."""
        z = z + np.zeros(self.H)
        if self.spec.layer_norm == "maps":
            z = normalized(z) * self.block("gain", name, self._read["gain"])
        return z + self.block("bias", name, self._read["bias"])

    def gate(self, name, x, h, c=None, also=None):
        if name in self.spec.pinned:
            return self.spec.pinned[name] + np.zeros(self.H)
        z = self.W(name, x) + self.U(name, h)
        if f"{name}_peephole" in self._read:
            z = z + self._read[f"{name}_peephole"] * c
        function = self.spec.gate_activations.get(name) or self._functions.get(name, "sigmoid")
        z = self.sees(name, z if also is None else z + also(name))
        self.seen[name] = FUNCTIONS[function](z)
        return self.seen[name]

    def candidate(self, z):
        value = FUNCTIONS[self.spec.input_activation](self.sees("candidate", z))
        self.seen["candidate"] = value * self.dropped.get("candidate", 1.0)
        return self.seen["candidate"]

    def plain_candidate(self, x, h):
        return self.candidate(self.W("candidate", x) + self.U("candidate", h))

    def h(self, c):
        if self.spec.layer_norm != "none":
            c = normalized(c) * self._read["cell_gain"] + self._read["cell_shift"]
        return FUNCTIONS[self.spec.output_activation](c)

    def clip(self, c):
        limit = self.spec.cell_clip
        return np.clip(c, -limit, limit) if limit else c


def run(cell, xs, mask, states, noise=None):
    """Runs a cell over xs (B, T, D), row by row; returns outputs (B, T, P) and last states.

    `noise` is the layer's own `Noise` in training, None for inference.
    """
    w, equation = Weights(cell), oracle(cell.spec.equation).step
    outputs, lasts = np.zeros((*xs.shape[:2], cell.output_size)), []
    for row in range(len(xs)):
        state, begun = [np.asarray(s[row], "float64") for s in states], False
        for t in range(xs.shape[1]):
            if mask is None or mask[row, t]:
                stays = dict(cell.spec.zoneout)
                if noise is not None:
                    w.dropped = dropped(noise, row, t)
                    stays = {name: w.dropped[name] for name in stays}
                new = list(equation(w, np.asarray(xs[row, t], "float64"), *state))
                if "projection" in w._read:
                    new[0] = new[0] @ w._read["projection"]
                for at, name in enumerate(cell.spec.definition.states):
                    if name in stays:
                        new[at] = stays[name] * state[at] + (1 - stays[name]) * new[at]
                state, begun = new, True
            if begun:
                outputs[row, t] = state[0]
        lasts.append(state)
    return outputs, [np.stack(s) for s in zip(*lasts, strict=True)]


def dropped(noise, row, t):
    """Returns the dropout or zoneout masks of one step of one row."""
    masks = {name: np.asarray(values)[row] for name, values in noise.always.items()}
    masks |= {name: np.asarray(values)[t, row] for name, values in noise.steps.items()}
    for name, values in noise.weights.items():
        weight = "recurrent_kernel" if name == "recurrent" else f"{name}_product"
        masks[weight] = np.asarray(values)
    return masks
