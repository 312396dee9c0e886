"""The equations of a cell as text, printed by the step functions that compute them."""

from typing import Any

from .cell import StepContext
from .equations import RAW
from .specs import CellSpec


def equations(spec: CellSpec, raw_projection: bool = False) -> list[str]:
    """Returns the lines that define one step of a cell, in the order of computation.

    Distinct weights have distinct symbols: `W` multiplies x, `U` multiplies h, `V`, `Q`, `S` and
    `R` are further matrices of an equation, `P` projects the output, `p` are peepholes, `b`
    biases. With heads or a structure, see `recurrent_form`.

    Args:
        spec: Spec of the cell.
        raw_projection: Whether an equation that reads x itself does so through a learnt
            matrix `W_raw`, because the numbers of units and input features differ.

    Example:
        >>> print(*equations(CellSpec("coupled", pinned={"output": 1.0})), sep="\\n")
        forget = sigmoid(x W_forget + b_forget + h U_forget)
        candidate = tanh(x W_candidate + b_candidate + h U_candidate)
        c' = forget * c + (1 - forget) * candidate
        h' = tanh(c')
    """
    inputs = {name: _input(spec, name) for name in spec.maps}
    template = "k_{0} * norm(h U)_{0}" if spec.layer_norm == "products" else "h U_{0}"
    recurrent = {name: Text(template.format(name), _PRODUCT) for name in spec.recurrent_maps}
    vectors = {f"{gate}_peephole": Text(f"p_{gate}") for gate in spec.peepholes}
    vectors |= {f"{n}_recurrent_bias": Text(f"d_{n}") for n in spec.definition.recurrent_bias}
    if spec.layer_norm != "none":
        vectors |= {f"{n}_gain": Text(f"g_{n}") for n in (*spec.maps, "cell")}
        vectors |= {f"{n}_bias": Text(f"b_{n}") for n in spec.maps}
        vectors["cell_shift"] = Text("b_cell")
        for name, maps in spec.products.items():
            letters = _symbols(spec)[name]
            vectors |= {f"{name}_product_{n}_gain": Text(f"r{letters[n]}_{n}") for n in maps}
    raw = Text("x W_raw", _PRODUCT) if raw_projection else Text("x")
    context = _TextContext(
        spec, {**inputs, RAW: raw}, recurrent, vectors, _TextFunctions(spec), spec.zoneout
    )
    names = spec.definition.states
    symbols = [_state(spec, name) for name in names]
    after = context.advance([Text(symbol) for symbol in symbols])
    ends = [
        f"{symbol}' = {_text(value)}"
        for name, symbol, value in zip(names, symbols, after, strict=True)
        if _text(value) not in (f"{symbol}'", name)
    ]
    return [*context.lines, *ends]


def recurrent_form(spec: CellSpec) -> str:
    """Returns a sentence about the form of the recurrent matrices; "" if they are full."""
    if spec.heads > 1:
        return f"Recurrent matrices are block-diagonal, with {spec.heads} heads."
    if spec.recurrent_structure == "diagonal":
        return "Recurrent matrices are diagonal."
    if spec.recurrent_structure == "antisymmetric":
        return "Recurrent matrices are antisymmetric: each is a matrix minus its transpose."
    if spec.recurrent_structure == "orthogonal":
        return "Recurrent matrices are orthogonal: Cayley transforms of antisymmetric ones."
    if spec.recurrent_rank:
        return f"Recurrent matrices have rank {spec.recurrent_rank}."
    return ""


def _symbols(spec) -> dict[str, dict[str, str]]:
    """The letter of the matrix of each further product with one operand, by product and map."""
    letters = {name: ["U"] if name in spec.recurrent_maps else [] for name in spec.maps}
    symbols = {}
    for product, maps in spec.products.items():
        symbols[product] = dict.fromkeys(maps, "R")
        if len(spec.definition.products[product][0]) == 1:
            for name in maps:
                symbols[product][name] = next(x for x in "UVQS" if x not in letters[name])
                letters[name].append(symbols[product][name])
    return symbols


def _input(spec, name):
    """The input product of a map, and its bias unless normalisation precedes it."""
    product = f"g_{name} * norm(x W)_{name}" if spec.layer_norm == "products" else f"x W_{name}"
    terms = [product] if name in spec.input_maps else []
    terms += [f"b_{name}"] if spec.layer_norm != "maps" else []
    return Text(" + ".join(terms) or "0", _SUM if len(terms) > 1 else _PRODUCT)


_ATOM, _PRODUCT, _SUM = range(3)  # kinds of expressions, by decreasing precedence


class Text:
    """An expression as text, with the operators of Python.

    Args:
        text: The expression.
        kind: Its precedence: `_ATOM`, `_PRODUCT` or `_SUM`.
    """

    def __init__(self, text: str, kind: int = _ATOM):
        self.text, self.kind = text, kind

    def __add__(self, other):
        return Text(f"{self.text} + {_text(other)}".replace("+ -", "- "), _SUM)

    def __radd__(self, other):
        return Text(f"{_text(other)} + {self.text}", _SUM)

    def __sub__(self, other):
        return Text(f"{self.text} - {_text(other, _PRODUCT)}", _SUM)

    def __rsub__(self, other):
        return Text(f"{_text(other)} - {_text(self, _PRODUCT)}", _SUM)

    def __mul__(self, other):
        if other == 1.0:
            return self
        return Text(f"{_text(self, _PRODUCT)} * {_text(other, _PRODUCT)}", _PRODUCT)

    def __rmul__(self, other):
        if other == 1.0:
            return self
        return Text(f"{_text(other)} * {_text(self, _PRODUCT)}", _PRODUCT)

    def __truediv__(self, other):
        return Text(f"{_text(self, _PRODUCT)} / {_text(other, _ATOM)}", _PRODUCT)

    def __rtruediv__(self, other):
        return Text(f"{_text(other)} / {_text(self, _ATOM)}", _PRODUCT)


def _text(value, kind=_SUM) -> str:
    """A value as text, in brackets if its precedence is lower than that of `kind`."""
    if isinstance(value, Text):
        return f"({value.text})" if value.kind > kind else value.text
    return f"{value:g}"


def _state(spec, name):
    """The symbol of a state; a gate as a state is that of the previous step."""
    return f"last_{name}" if name in spec.definition.gates else name


class _TextContext(StepContext):
    """A `StepContext` that writes a line for each gate, the candidate and the cell state."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.lines = []

    def _named(self, name, value):
        if not isinstance(value, Text):  # a pinned gate is a constant
            return value
        names = {line.split(" = ")[0] for line in self.lines}
        name = f"{name}_2" if name in names and f"{name} = {value.text}" not in self.lines else name
        if f"{name} = {value.text}" not in self.lines:
            self.lines.append(f"{name} = {value.text}")
        return Text(name)

    def gate(self, name, cell_state=None, also=0.0, shift=0.0):
        return self._named(name, super().gate(name, cell_state, also, shift))

    def activate(self, z):
        return self._named("candidate", super().activate(z))

    def clip(self, cell_state):
        return self._named("c'", super().clip(cell_state))

    def named(self, name, value):
        return self._named(name, value)


class _TextFunctions:
    """`Functions` on `Text`, printed by name."""

    def __init__(self, spec):
        self._spec, self._symbols = spec, _symbols(spec)

    def activation(self, name, z):
        return Text(f"{name}({_text(z)})")

    def maximum(self, a, b):
        return Text(f"maximum({_text(a)}, {_text(b)})")

    def clip(self, z, limit):
        return Text(f"clip({z.text}, -{limit:g}, {limit:g})")

    def standardize(self, z):
        return Text(f"norm({z.text})")

    def product(self, name, values):
        if name == "projection":
            return {"h": Text(f"{_text(values[0], _ATOM)} P", _PRODUCT)}

        def text_of(map_name):
            if len(values) == 1:
                symbol = self._symbols[name][map_name]
                return Text(f"{_text(values[0], _ATOM)} {symbol}_{map_name}", _PRODUCT)
            terms = (f"{_text(v, _ATOM)} R_{v.text}_{map_name}" for v in values)
            return Text(" + ".join(terms), _SUM)

        return {map_name: text_of(map_name) for map_name in self._spec.products[name]}
