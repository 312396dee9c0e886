"""Detection of cells whose states are linear in the states before, from their equations.

The step of such a cell is s' = a * s + b, elementwise, where a and b depend on x alone, so that
all steps can be computed in parallel, as `models.cells.implementations.scan` does.

An equation is run on values of three kinds: any values that do not depend on the state that is
solved for (tensors, or `_Independent` where only the structure matters), `Linear` values, and
`Unknown` values, which are neither.
"""

from collections.abc import Sequence
from typing import Any

from .cell import Functions, StepContext
from .equations import RAW
from .specs import CellSpec


class NotLinear(ValueError):
    """A state is not linear in itself; the message says which term of the equation is not."""


def is_linear(spec: CellSpec) -> bool:
    """Returns whether every state of a cell is linear in the states before, elementwise.

    Args:
        spec: Spec of the cell.

    Example:
        >>> is_linear(CellSpec("mingru")), is_linear(CellSpec("gru"))
        (True, False)
    """
    if spec.recurrent_maps or spec.projection:
        return False
    after = _advance(spec, [Linear(_INDEPENDENT, _INDEPENDENT) for _ in spec.definition.states])
    return not any(map(_is_unknown, after))


def scan_order(spec: CellSpec) -> list[int]:
    """Returns an order in which the states of a cell can be computed, each for all steps at once.

    Each state is linear in itself and depends otherwise on x and on states that come before it
    in the order, in any way.

    Args:
        spec: Spec of the cell.

    Raises:
        NotLinear: There is no such order.

    Example:
        >>> scan_order(CellSpec("sru"))  # c, then h
        [1, 0]
    """
    if spec.recurrent_maps:
        raise NotLinear(f"h is multiplied by a matrix in {', '.join(spec.recurrent_maps)}")
    names, order = spec.definition.states, []
    while len(order) < len(names):
        unsolved = [index for index in range(len(names)) if index not in order]
        values = {index: _next_value(spec, index, order) for index in unsolved}
        solved = [index for index, value in values.items() if not _is_unknown(value)]
        if not solved:
            reasons = [value.reason for value in values.values()]
            raise NotLinear(next((r for r in reasons if not r.endswith(_UNSOLVED)), reasons[0]))
        order += solved
    return order


_UNSOLVED = "is read by a state that it reads"


def _next_value(spec, index, solved):
    """The value of a state after a step, in that state itself where others are solved."""
    names = spec.definition.states
    states = [
        _INDEPENDENT if other in solved else Unknown(f"{name} {_UNSOLVED}")
        for other, name in enumerate(names)
    ]
    states[index] = Linear(_INDEPENDENT, _INDEPENDENT, names[index])
    return _advance(spec, states)[index]


def _advance(spec, states):
    """The values of the states after a step that is run for its structure."""
    inputs = dict.fromkeys((*spec.maps, RAW), _INDEPENDENT)
    vectors = dict.fromkeys((f"{gate}_peephole" for gate in spec.peepholes), _INDEPENDENT)
    if spec.layer_norm != "none":
        parts = (
            *spec.maps,
            "cell",
            *(f"{n}_product_{m}" for n in spec.products for m in spec.maps),
        )
        vectors |= {f"{name}_gain": _INDEPENDENT for name in parts}
    functions = LinearFunctions(spec, _IndependentFunctions(spec))
    return StepContext(spec, inputs, {}, vectors, functions, spec.zoneout).advance(states)


class Unknown:
    """A value that is not linear in the state that is solved for, or reads an unsolved one.

    Args:
        reason: The term that is not linear, for a message.
    """

    def __init__(self, reason: str):
        self.reason = reason

    def _same(self, *_):
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _same
    __truediv__ = __rtruediv__ = __neg__ = _same


class Linear:
    """The value slope * state + offset of a step.

    Args:
        slope: Factor of the state: a value that does not depend on it.
        offset: Term without the state.
        name: Name of the state, for a message.
    """

    def __init__(self, slope: Any, offset: Any, name: str = "a state"):
        self.slope, self.offset, self.name = slope, offset, name

    def __add__(self, other):
        if _is_unknown(other):
            return other
        if isinstance(other, Linear):
            return self._with(_add(self.slope, other.slope), _add(self.offset, other.offset))
        return self._with(self.slope, _add(self.offset, other))

    def __mul__(self, other):
        if _is_unknown(other):
            return other
        if isinstance(other, Linear):
            return Unknown(f"{self.name} is multiplied by itself")
        return self._with(_multiply(self.slope, other), _multiply(self.offset, other))

    def __truediv__(self, other):
        if _is_unknown(other):
            return other
        if isinstance(other, Linear):
            return Unknown(f"{self.name} is in a denominator")
        return self._with(self.slope / other, self.offset / other)

    def __rtruediv__(self, other):
        return Unknown(f"{self.name} is in a denominator")

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + other * -1.0

    def __rsub__(self, other):
        return self * -1.0 + other

    __radd__ = __add__
    __rmul__ = __mul__

    def _with(self, slope, offset):
        return Linear(slope, offset, self.name)


def _is_unknown(value):
    return isinstance(value, Unknown)


def _add(a, b):
    """The sum, without an op for a constant 0."""
    if isinstance(a, float) and a == 0.0:
        return b
    return a if isinstance(b, float) and b == 0.0 else a + b


def _multiply(a, b):
    """The product, without an op for a constant 0 or 1."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, float) and one in (0.0, 1.0):
            return other if one else 0.0
    return a * b


class LinearFunctions:
    """`Functions` on values of all three kinds.

    Args:
        spec: Spec of the cell.
        functions: Functions on values that do not depend on the state that is solved for.
    """

    def __init__(self, spec: CellSpec, functions: Functions):
        self._functions = functions
        self._products = {**spec.products, "projection": ("h",)}

    def activation(self, name: str, z: Any) -> Any:
        return self._apply(name, lambda: self._functions.activation(name, z), z)

    def maximum(self, a: Any, b: Any) -> Any:
        return self._apply("maximum", lambda: self._functions.maximum(a, b), a, b)

    def clip(self, z: Any, limit: float) -> Any:
        return self._apply("clip", lambda: self._functions.clip(z, limit), z)

    def standardize(self, z: Any) -> Any:
        return self._apply("layer_norm", lambda: self._functions.standardize(z), z)

    def product(self, name: str, values: Sequence) -> dict[str, Any]:
        result = self._apply("a matrix", lambda: self._functions.product(name, values), *values)
        return dict.fromkeys(self._products[name], result) if _is_unknown(result) else result

    def _apply(self, name, compute, *values):
        for value in values:
            if _is_unknown(value):
                return value
            if isinstance(value, Linear):
                return Unknown(f"{name} is applied to a term with {value.name}")
        return compute()


class _Independent:
    """Any value that does not depend on the state that is solved for."""

    def _combined(self, other=None):
        return NotImplemented if isinstance(other, (Linear, Unknown)) else self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _combined
    __truediv__ = __rtruediv__ = __neg__ = _combined


_INDEPENDENT = _Independent()


class _IndependentFunctions:
    """`Functions` on values that do not depend on the state that is solved for."""

    def __init__(self, spec):
        self._products = {**spec.products, "projection": ("h",)}

    def activation(self, name, z):
        return _INDEPENDENT

    def maximum(self, a, b):
        return _INDEPENDENT

    def clip(self, z, limit):
        return _INDEPENDENT

    def standardize(self, z):
        return _INDEPENDENT

    def product(self, name, values):
        return dict.fromkeys(self._products[name], _INDEPENDENT)
