"""What a cell computes, as data: an equation and a short list of changes to its gates."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from models.equations import CANDIDATE, EQUATIONS, Equation


@dataclasses.dataclass(frozen=True)
class CellSpec:
    """One cell: an equation and what is changed in it.

    Attributes:
        equation: A key of `EQUATIONS`.
        bias: Initial bias by gate; 0 for the gates it does not name.
        peepholes: Gates that also see the cell state c, the output gate the new
            one (Gers et al., 2002). Only for equations that have a cell state.

    Raises:
        ValueError: A name or a value is not one the equation has a place for.
    """

    equation: str
    bias: Mapping[str, float] = dataclasses.field(default_factory=dict)
    peepholes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.equation not in EQUATIONS:
            raise ValueError(f"equation must be one of {sorted(EQUATIONS)}, got {self.equation!r}.")
        if not isinstance(self.bias, Mapping):
            raise ValueError(
                f"bias must map gates to numbers, such as {{'forget': 1.0}}, got {self.bias!r}."
            )
        if isinstance(self.peepholes, str) or not isinstance(self.peepholes, (list, tuple)):
            raise ValueError(f"peepholes must be a list of gates, got {self.peepholes!r}.")
        gates = EQUATIONS[self.equation].gates
        for field in ("bias", "peepholes"):
            unknown = sorted(set(map(str, getattr(self, field))) - set(gates))
            if unknown:
                raise ValueError(
                    f"{field} names {unknown}, but the gates of {self.equation!r} "
                    f"are {list(gates)}."
                )
        for gate, value in self.bias.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"bias of {gate!r} must be a number, got {value!r}.")
        if len(set(self.peepholes)) < len(self.peepholes):
            raise ValueError(f"peepholes must differ, got {list(self.peepholes)}.")
        if self.peepholes and "c" not in EQUATIONS[self.equation].states:
            raise ValueError(f"peepholes look at the cell state c, and {self.equation!r} has none.")
        # One cell has one form, whatever order and number types it was told in.
        bias = {gate: float(self.bias[gate]) for gate in gates if gate in self.bias}
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "peepholes", tuple(g for g in gates if g in self.peepholes))

    @property
    def definition(self) -> Equation:
        """The equation itself."""
        return EQUATIONS[self.equation]

    @property
    def maps(self) -> tuple[str, ...]:
        """The learnt maps, in the order of their blocks in the weights."""
        return (*self.definition.gates, CANDIDATE)

    def to_json(self) -> dict:
        """The spec as JSON has it; `CellSpec(**spec.to_json()) == spec`."""
        return {**dataclasses.asdict(self), "peepholes": list(self.peepholes)}


_FORGET_BIAS = {"forget": 1.0}

CELLS = {
    "rnn": CellSpec("rnn"),
    "lstm": CellSpec("lstm", bias=_FORGET_BIAS),
    "lstm_peephole": CellSpec("lstm", bias=_FORGET_BIAS, peepholes=("input", "forget", "output")),
    # Where the forget gate starts: Jozefowicz et al. (2015).
    "lstm_bias_0": CellSpec("lstm"),
    "lstm_bias_minus_1": CellSpec("lstm", bias={"forget": -1.0}),
    "lstm_bias_5": CellSpec("lstm", bias={"forget": 5.0}),
    "gru": CellSpec("gru"),
}


def find(cell: CellSpec | Mapping | str) -> CellSpec:
    """Returns the spec that is meant.

    Args:
        cell: A `CellSpec`, its JSON as a mapping or a string, the path of a
            `.json` file that holds it, or a name in `CELLS`.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(cell, CellSpec):
        return cell
    if isinstance(cell, str) and cell in CELLS:
        return CELLS[cell]
    told = cell
    if isinstance(cell, str):
        try:
            if cell.endswith(".json"):
                told = json.loads(Path(cell).read_text(encoding="utf-8"))
            elif cell.lstrip().startswith("{"):
                told = json.loads(cell)
        except OSError as error:
            raise ValueError(f"cell names a file that cannot be read: {error}.") from error
        except ValueError as error:
            raise ValueError(f"cell is not valid JSON: {error}; got {cell!r}.") from error
    if not isinstance(told, Mapping):
        raise ValueError(
            f"cell must be one of {sorted(CELLS)}, a spec as JSON or a .json file, got {cell!r}."
        )
    fields = {field.name for field in dataclasses.fields(CellSpec)}
    if unknown := sorted(set(told) - fields):
        raise ValueError(f"cell has {unknown}, but the fields of a spec are {sorted(fields)}.")
    if "equation" not in told:
        raise ValueError(f"cell must name its equation, one of {sorted(EQUATIONS)}, got {told!r}.")
    return CellSpec(**told)
