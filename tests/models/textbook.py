"""The equations once more, in NumPy and float64, sharing no line with `models`.

One gate at a time, unfused, each from its paper; an equation is written twice
on purpose: what both ways of writing it agree on is likely what the paper says.
Each takes `w`, which has the weights by the name of the map, and x of the step.
"""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def rnn(w, x, h):
    """Elman (1990)."""
    return (w.g(w.W("candidate", x) + w.U("candidate", h) + w.b("candidate")),)


def leaky(w, x, h):
    """Jaeger et al. (2007): a share of the old state stays."""
    stays = w.gate("leak", x, h)
    return (stays * h + (1 - stays) * w.plain_candidate(x, h),)


def lstm(w, x, h, c):
    """Greff et al. (2017), section 2; the output gate's peephole sees the new c."""
    i, f = w.gate("input", x, h, c), w.gate("forget", x, h, c)
    new = w.clip(w.plain_candidate(x, h) * i + c * f)
    o = w.gate("output", x, h, new)
    return w.h(new) * o, new


def coupled(w, x, h, c):
    """Greff et al. (2017), CIFG: the input gate is one less the forget gate."""
    f = w.gate("forget", x, h, c)
    i = 1 - f
    new = w.clip(w.plain_candidate(x, h) * i + c * f)
    return w.h(new) * w.gate("output", x, h, new), new


def full(w, x, h, c, i_last, f_last, o_last):
    """Greff et al. (2017), FGR: three gates see three gates, nine matrices more."""

    def also(gate):
        last = (i_last, f_last, o_last)
        return sum(v @ w.own("gates", gate, row) for row, v in enumerate(last))

    i, f = w.gate("input", x, h, c, also), w.gate("forget", x, h, c, also)
    new = w.clip(w.plain_candidate(x, h) * i + c * f)
    o = w.gate("output", x, h, new, also)
    return w.h(new) * o, new, i, f, o


def gru(w, x, h):
    """Cho et al. (2014), version 1, with the update gate keeping the old state."""
    kept, reset = w.gate("update", x, h), w.gate("reset", x, h)
    inner = h @ w.matrix("recurrent_kernel", "candidate") + w.vector("recurrent_bias")
    new = w.g(w.W("candidate", x) + w.b("candidate") + reset * inner)
    return (kept * h + (1 - kept) * new,)


def gru_before(w, x, h):
    """Cho et al. (2014), version 3."""
    kept, reset = w.gate("update", x, h), w.gate("reset", x, h)
    seen = (reset * h) @ w.own("candidate", "candidate")
    return (kept * h + (1 - kept) * w.g(w.W("candidate", x) + seen + w.b("candidate")),)


def mgu(w, x, h):
    """Zhou et al. (2016), equations 5 to 7."""
    f = w.gate("forget", x, h)
    seen = (f * h) @ w.own("candidate", "candidate")
    return ((1 - f) * h + f * w.g(w.W("candidate", x) + seen + w.b("candidate")),)


def janet(w, x, h):
    """van der Westhuizen & Lasenby (2018): what is written has a bias of its own, β = 1."""
    if "forget" in w.spec.pinned:
        f = written = w.spec.pinned["forget"]
    else:
        s = w.W("forget", x) + w.U("forget", h) + w.b("forget")
        f, written = sigmoid(s), sigmoid(s - 1)
    return (f * h + (1 - written) * w.plain_candidate(x, h),)


def mut1(w, x, h):
    z, r = w.gate("update", x, h), w.gate("reset", x, h)
    seen = (r * h) @ w.own("candidate", "candidate")
    new = w.g(seen + np.tanh(w.raw(x)) + w.b("candidate"))
    return (new * z + h * (1 - z),)


def mut2(w, x, h):
    z, r = w.gate("update", x, h), w.gate("reset", x, h, also=lambda _: w.raw(x))
    seen = (r * h) @ w.own("candidate", "candidate")
    new = w.g(seen + w.W("candidate", x) + w.b("candidate"))
    return (new * z + h * (1 - z),)


def mut3(w, x, h):
    tanh_h = np.tanh(h)
    z = w.gate("update", x, h, also=lambda _: tanh_h @ w.own("update", "update"))
    seen = (w.gate("reset", x, h) * h) @ w.own("candidate", "candidate")
    new = w.g(seen + w.W("candidate", x) + w.b("candidate"))
    return (new * z + h * (1 - z),)


FUNCTIONS = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "identity": lambda z: z}

# What each map of an equation does not see in the plain way, from the papers.
NOT_X = {"mut1": ("candidate",), "mut2": ("reset",)}
NOT_H = {
    "gru_before": ("candidate",),
    "mgu": ("candidate",),
    "mut1": ("update", "candidate"),
    "mut2": ("candidate",),
    "mut3": ("update", "candidate"),
}


class Weights:
    """The weights of a built `GatedCell`, block by block, by the name of the map."""

    def __init__(self, cell):
        self.spec, self.H = cell.spec, cell.units
        self._read = {w.name: np.asarray(w, "float64") for w in cell.weights}
        gates = [g for g in cell.spec.definition.gates if g not in cell.spec.pinned]
        maps = [*gates, "candidate"]
        blind = cell.spec.blind
        not_x = NOT_X.get(cell.spec.equation, ())
        not_h = NOT_H.get(cell.spec.equation, ())
        self._columns = {
            "bias": maps,
            "kernel": [m for m in maps if m not in not_x and "x" not in blind.get(m, "")],
            "recurrent_kernel": [m for m in maps if m not in not_h and "h" not in blind.get(m, "")],
            "gates_product": gates,
            "candidate_product": ["candidate"],
            "update_product": ["update"],
        }
        self.g = FUNCTIONS[cell.spec.input_activation]
        self.h = FUNCTIONS[cell.spec.output_activation]

    def matrix(self, weight, name):
        """The block of a map; nothing where the map does not have one."""
        if name not in self._columns[weight]:
            return 0.0
        at = self._columns[weight].index(name)
        return self._read[weight][..., at * self.H : (at + 1) * self.H]

    def own(self, weight, name, row=0):
        return self.matrix(f"{weight}_product", name)[row * self.H : (row + 1) * self.H]

    def vector(self, name):
        return self._read[name]

    def W(self, name, x):
        block = self.matrix("kernel", name)
        return x @ block if np.ndim(block) else 0.0

    def U(self, name, h):
        block = self.matrix("recurrent_kernel", name)
        return h @ block if np.ndim(block) else 0.0

    def b(self, name):
        return self.matrix("bias", name)

    def raw(self, x):
        return x @ self._read["raw_projection"] if "raw_projection" in self._read else x

    def gate(self, name, x, h, c=None, also=None):
        if name in self.spec.pinned:
            return self.spec.pinned[name] + np.zeros(self.H)
        z = self.W(name, x) + self.U(name, h) + self.b(name)
        if f"{name}_peephole" in self._read:
            z = z + self._read[f"{name}_peephole"] * c
        return sigmoid(z if also is None else z + also(name))

    def plain_candidate(self, x, h):
        return self.g(self.W("candidate", x) + self.U("candidate", h) + self.b("candidate"))

    def clip(self, c):
        limit = self.spec.cell_clip
        return np.clip(c, -limit, limit) if limit else c


def run(cell, xs, mask, states):
    """Runs a cell over xs (B, T, D), row by row: (outputs (B, T, H), last states)."""
    w, equation = Weights(cell), globals()[cell.spec.equation]
    outputs, lasts = np.zeros((*xs.shape[:2], cell.units)), []
    for row in range(len(xs)):
        state, begun = [np.asarray(s[row], "float64") for s in states], False
        for t in range(xs.shape[1]):
            if mask is None or mask[row, t]:
                state, begun = list(equation(w, np.asarray(xs[row, t], "float64"), *state)), True
            if begun:
                outputs[row, t] = state[0]
        lasts.append(state)
    return outputs, [np.stack(s) for s in zip(*lasts, strict=True)]
