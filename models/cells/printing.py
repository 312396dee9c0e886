"""The equations of a cell as text, printed by the very functions that run."""

from .cell import StepContext
from .equations import RAW
from .specs import CellSpec


def equations(spec: CellSpec, raw_projection: bool = False) -> list[str]:
    """Returns the lines that define one step of a cell, in the order of computation.

    Distinct weights have distinct symbols: `W` multiplies x, `U` multiplies h, `V` and `R` are
    further matrices of an equation, `P` projects the output, `p` are peepholes, `b` biases.

    Args:
        spec: The cell.
        raw_projection: Whether x enters through a learnt matrix `W_raw` where the equation
            adds x itself, because units and input features differ in number.

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
            vectors |= {f"{name}_product_{n}_gain": Text(f"r_{n}") for n in maps}
    raw = Text("x W_raw", _PRODUCT) if raw_projection else Text("x")
    context = _Spelled(
        spec, {**inputs, RAW: raw}, recurrent, vectors, _Spelling(spec), spec.zoneout
    )
    names = spec.definition.states
    after = context.advance([Text(_state(name)) for name in names])
    ends = [
        f"{_state(name)}' = {_text(value)}"
        for name, value in zip(names, after, strict=True)
        if _text(value) not in (f"{name}'", name)
    ]
    return [*context.lines, *ends]


def _input(spec, name):
    """What a map has of x, and its bias unless that comes after normalisation."""
    product = f"g_{name} * norm(x W)_{name}" if spec.layer_norm == "products" else f"x W_{name}"
    terms = [product] if name in spec.input_maps else []
    terms += [f"b_{name}"] if spec.layer_norm != "maps" else []
    return Text(" + ".join(terms) or "0", _SUM if len(terms) > 1 else _PRODUCT)


_ATOM, _PRODUCT, _SUM = range(3)  # what binds its parts more loosely


class Text:
    """An expression that writes itself down."""

    def __init__(self, text, binds=_ATOM):
        self.text, self.binds = text, binds

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


def _text(value, binds=_SUM) -> str:
    """A value as text, in brackets if it binds more loosely than what it stands in."""
    if isinstance(value, Text):
        return f"({value.text})" if value.binds > binds else value.text
    return f"{value:g}"


def _state(name):
    """A gate that is carried on is the gate of the step before."""
    return name if name in ("h", "c") else f"last_{name}"


class _Spelled(StepContext):
    """Gives each gate, the candidate and the cell state a line and a name."""

    def __init__(self, *args):
        super().__init__(*args)
        self.lines = []

    def _named(self, name, value):
        if not isinstance(value, Text):  # pinned
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


class _Spelling:
    """The functions of an equation, by their names."""

    def __init__(self, spec):
        self._spec = spec

    def sigmoid(self, z):
        return Text(f"sigmoid({z.text})")

    def tanh(self, z):
        return Text(f"tanh({z.text})")

    def relu(self, z):
        return Text(f"relu({z.text})")

    def clip(self, z, limit):
        return Text(f"clip({z.text}, -{limit:g}, {limit:g})")

    def standardize(self, z):
        return Text(f"norm({z.text})")

    def product(self, name, values):
        if name == "projection":
            return {"h": Text(f"{_text(values[0], _ATOM)} P", _PRODUCT)}

        def spelled(map_name):
            if len(values) == 1:
                # A map that also has the plain product of h gets another symbol for its own.
                symbol = "V" if map_name in self._spec.recurrent_maps else "U"
                return Text(f"{_text(values[0], _ATOM)} {symbol}_{map_name}", _PRODUCT)
            terms = (f"{_text(v, _ATOM)} R_{v.text}_{map_name}" for v in values)
            return Text(" + ".join(terms), _SUM)

        return {each: spelled(each) for each in self._spec.products[name]}
