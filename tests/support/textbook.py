"""Independent implementation of the equations, in NumPy and float64, without code from `models`.

One gate at a time, unfused, each from its paper. The duplication is deliberate: two independent
implementations that agree are likely to match the paper. Each function takes `w`, which holds
the weights by name of the map, the input x of one step, and the states; it returns the new
states.
"""

import dataclasses
from collections.abc import Callable

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def normalized(z):
    """Layer normalisation: Ba et al. (2016), equation 4, with the usual epsilon."""
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
    """Zhou et al. (2016), equations 5 to 7."""
    f = w.gate("forget", x, h)
    seen = w.own("candidate", "candidate", f * h)
    return ((1 - f) * h + f * w.candidate(w.W("candidate", x) + seen),)


def janet(w, x, h):
    """van der Westhuizen & Lasenby (2018): the write term has a bias of its own, β = 1."""
    if "forget" in w.spec.pinned:
        f = written = w.spec.pinned["forget"]
    else:
        s = w.sees("forget", w.W("forget", x) + w.U("forget", h))
        f, written = sigmoid(s), sigmoid(s - 1)
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


FUNCTIONS = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "identity": lambda z: z}


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
    """

    step: Callable
    cell: str
    mix: Callable | None = None
    not_x: tuple[str, ...] = ()
    not_h: tuple[str, ...] = ()


CANDIDATE = ("candidate",)
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
    "candidate", and matrices by name of the weight.
    """

    def __init__(self, cell):
        self.spec, self.H = cell.spec, cell.units
        self._read = {w.name: np.asarray(w, "float64") for w in cell.weights}
        self.dropped = {}
        gates = [g for g in cell.spec.definition.gates if g not in cell.spec.pinned]
        maps = [*gates, "candidate"]
        blind = cell.spec.blind
        not_x, not_h = oracle(cell.spec.equation).not_x, oracle(cell.spec.equation).not_h
        self._columns = {
            "bias": maps,
            "gain": maps,
            "kernel": [m for m in maps if m not in not_x and "x" not in blind.get(m, "")],
            "recurrent_kernel": [m for m in maps if m not in not_h and "h" not in blind.get(m, "")],
            "gates_product": gates,
            "candidate_product": ["candidate"],
            "update_product": ["update"],
        }

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

    def W(self, name, x):
        return self.times(x, "kernel", name, "input_gain")

    def U(self, name, h):
        seen = h * self.dropped.get("state", 1.0)
        return self.times(seen, "recurrent_kernel", name, "recurrent_gain")

    def own(self, weight, name, v):
        if len(v) == self.H:  # it is made of h
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
        return sigmoid(self.sees(name, z if also is None else z + also(name)))

    def candidate(self, z):
        value = FUNCTIONS[self.spec.input_activation](self.sees("candidate", z))
        return value * self.dropped.get("candidate", 1.0)

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
                for at, name in enumerate(["h", "c"][: len(state)]):
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
