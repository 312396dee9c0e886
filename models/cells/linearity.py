"""Detection of cells whose states are linear in the states before, from their equations.

The step of such a cell is s' = a * s + b, elementwise, where a and b depend on x alone, so that
all steps could be computed in parallel.
"""

from .cell import StepContext
from .equations import RAW
from .specs import CellSpec


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
    inputs = dict.fromkeys((*spec.maps, RAW), _Value(False))
    vectors = dict.fromkeys((f"{gate}_peephole" for gate in spec.peepholes), _Value(False))
    if spec.layer_norm != "none":
        names = (*spec.maps, "cell", *spec.products)
        vectors |= {f"{name}_gain": _Value(False) for name in names}
    context = StepContext(spec, inputs, {}, vectors, _Functions(spec), spec.zoneout)
    try:
        context.advance([_Value(True)] * len(spec.definition.states))
    except _NotLinear:
        return False
    return True


class _NotLinear(Exception):
    """A value is not linear in the states, or not elementwise."""


class _Value:
    """A value of a step: linear in the states, or independent of them.

    Args:
        has_state: Whether it depends on a state.
    """

    def __init__(self, has_state: bool):
        self.has_state = has_state

    def __add__(self, other):
        return _Value(self.has_state or _has_state(other))

    def __mul__(self, other):
        if self.has_state and _has_state(other):
            raise _NotLinear
        return self + other

    def __truediv__(self, other):
        if _has_state(other):
            raise _NotLinear
        return self

    def __rtruediv__(self, other):
        return _Value(False) / self

    __radd__ = __sub__ = __rsub__ = __add__
    __rmul__ = __mul__


def _has_state(value) -> bool:
    return isinstance(value, _Value) and value.has_state


class _Functions:
    """`Functions` that reject arguments that depend on a state."""

    def __init__(self, spec):
        self._spec = spec

    def activation(self, name, z):
        return self._apply(z)

    def maximum(self, a, b):
        return self._apply(a, b)

    def clip(self, z, limit):
        return self._apply(z)

    def standardize(self, z):
        return self._apply(z)

    def product(self, name, values):
        return dict.fromkeys(self._spec.products[name], self._apply(*values))

    def _apply(self, *values):
        if any(map(_has_state, values)):
            raise _NotLinear
        return _Value(False)
