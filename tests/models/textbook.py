"""The equations once more, in NumPy and float64, sharing no line with `models`.

One gate at a time, unfused, each from its paper; an equation is written twice
on purpose: what both ways of writing it agree on is likely what the paper says.
"""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def rnn(w, h):
    """Elman (1990)."""
    return (np.tanh(w.x @ w.W("candidate") + h @ w.U("candidate") + w.b("candidate")),)


def lstm(w, h, c):
    """Graves (2013), equations 7 to 11: peepholes are diagonal, the output gate sees the new c."""
    see = lambda g: w.x @ w.W(g) + h @ w.U(g) + w.b(g)  # noqa: E731
    i = sigmoid(see("input") + w.p("input") * c)
    f = sigmoid(see("forget") + w.p("forget") * c)
    new = f * c + i * np.tanh(see("candidate"))
    o = sigmoid(see("output") + w.p("output") * new)
    return o * np.tanh(new), new


def gru(w, h):
    """Cho et al. (2014), version 1, with the update gate keeping the old state."""
    see = lambda g: w.x @ w.W(g) + h @ w.U(g) + w.b(g)  # noqa: E731
    kept, reset = sigmoid(see("update")), sigmoid(see("reset"))
    inner = h @ w.U("candidate") + w.own_bias
    new = np.tanh(w.x @ w.W("candidate") + w.b("candidate") + reset * inner)
    return (kept * h + (1 - kept) * new,)


class Weights:
    """The weights of a built `GatedCell`, block by block, by the name of the map."""

    def __init__(self, cell):
        read = {w.name: np.asarray(w, "float64") for w in cell.weights}
        names, H = cell.spec.maps, cell.units
        blocks = {
            name: [read[name][..., i * H : (i + 1) * H] for i in range(len(names))]
            for name in ("kernel", "recurrent_kernel", "bias")
        }
        self.W = lambda g: blocks["kernel"][names.index(g)]
        self.U = lambda g: blocks["recurrent_kernel"][names.index(g)]
        self.b = lambda g: blocks["bias"][names.index(g)]
        self.p = lambda g: read.get(f"{g}_peephole", np.zeros(H))
        self.own_bias = read.get("recurrent_bias", np.zeros(H))


def run(cell, xs, mask, states):
    """Runs a cell over xs (B, T, D), row by row: (outputs (B, T, H), last states)."""
    w, equation = Weights(cell), globals()[cell.spec.equation]
    outputs, lasts = np.zeros((*xs.shape[:2], cell.units)), []
    for row in range(len(xs)):
        state, begun = [np.asarray(s[row], "float64") for s in states], False
        for t in range(xs.shape[1]):
            if mask is None or mask[row, t]:
                w.x, begun = np.asarray(xs[row, t], "float64"), True
                state = list(equation(w, *state))
            if begun:
                outputs[row, t] = state[0]
        lasts.append(state)
    return outputs, [np.stack(s) for s in zip(*lasts, strict=True)]
