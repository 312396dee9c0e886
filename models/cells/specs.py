"""Cell specs: what a cell computes, as data.

`CELLS` names published cells; a new variant is one line there.
"""

import dataclasses
import difflib
import json
import math
import numbers
import re
from collections.abc import Mapping
from pathlib import Path

from .equations import CANDIDATE, EQUATIONS, Equation

ACTIVATIONS = ("tanh", "relu", "identity")
SENSES = ("x", "h", "xh")  # inputs that a gate can be blind to
LAYER_NORMS = ("none", "products", "maps")
RECURRENT_DROPOUTS = ("state", "candidate", "weights")
_CHRONO = re.compile(r"-?chrono:(\d+)")
_UNIFORM = re.compile(r"uniform:([^,]+),([^,]+)")


@dataclasses.dataclass(frozen=True)
class CellSpec:
    """A recurrent cell as data: an equation and a short list of changes to it.

    Attributes:
        equation: Name of the equation, a key of `EQUATIONS`.
        bias: Initial bias by gate, 0 for the others. A number, or a law: "uniform:LOW,HIGH"
            draws each unit independently; "chrono:T" draws log U(1, T - 1), for lags of up
            to T steps (Tallec & Ollivier 2018); "-chrono:T" negates the same draws.
        pinned: Gates fixed to a constant from 0 to 1, which have no weights.
        blind: Inputs that a gate does not receive: "x", "h", or "xh" for neither, which
            leaves a learnt constant per unit.
        peepholes: Gates that also receive the cell state c, the output gate the new one
            (Gers et al. 2002). Only for equations with a cell state.
        input_activation: Activation of the candidate, one of `ACTIVATIONS`.
        output_activation: Activation of c in the output, one of `ACTIVATIONS`; only for
            equations with a cell state.
        cell_clip: Largest absolute value of c; 0 for no limit.
        projection: Units of h, which is then a learnt projection of the output (Sak et al.
            2014); 0 for none. Only for equations with a cell state.
        layer_norm: Position of layer normalisation: "products", on x W and h U, each over
            all gates (Ba et al. 2016, eqs. 20 and 21); "maps", on the sum of each gate, over
            its units and before its bias (as in TensorFlow 1's LayerNormBasicLSTMCell); or
            "none". With either, c is normalised in the output, but carried on unchanged
            (eq. 22).
        zoneout: Probability by state, "h" or "c", that a unit keeps its previous value
            (Krueger et al. 2017); in inference old and new values are mixed in that
            proportion.
        recurrent_dropout: Rates by kind: "state" drops the same units of h at all steps of a
            sequence (Gal & Ghahramani 2016), "candidate" drops units of the candidate
            independently at each step (Semeniuta et al. 2016), "weights" drops single
            recurrent weights for a whole batch (Wan et al. 2013; Merity et al. 2018).

    Raises:
        ValueError: A name or a value does not fit the equation.

    Example:
        >>> CellSpec("lstm", bias={"forget": 1.0}, peepholes=["output"]).maps
        ('input', 'forget', 'output', 'candidate')
    """

    equation: str
    bias: Mapping[str, float | str] = dataclasses.field(default_factory=dict)
    pinned: Mapping[str, float] = dataclasses.field(default_factory=dict)
    blind: Mapping[str, str] = dataclasses.field(default_factory=dict)
    peepholes: tuple[str, ...] = ()
    input_activation: str = "tanh"
    output_activation: str = "tanh"
    cell_clip: float = 0.0
    projection: int = 0
    layer_norm: str = "none"
    zoneout: Mapping[str, float] = dataclasses.field(default_factory=dict)
    recurrent_dropout: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.equation not in EQUATIONS:
            raise ValueError(f"equation must be one of {sorted(EQUATIONS)}, got {self.equation!r}.")
        self._check_names()
        self._check_values()
        self._check_rates()
        self._check_sense()
        # Equal cells have equal specs, whatever the order and the types of the numbers.
        gates = self.definition.gates
        for field in ("bias", "pinned", "blind"):
            values = getattr(self, field)
            object.__setattr__(self, field, {g: _plain(values[g]) for g in gates if g in values})
        object.__setattr__(self, "peepholes", tuple(g for g in gates if g in self.peepholes))
        object.__setattr__(self, "cell_clip", float(self.cell_clip))
        object.__setattr__(self, "projection", int(self.projection))
        for field in ("zoneout", "recurrent_dropout"):
            rates = getattr(self, field)
            nonzero = {name: float(rates[name]) for name in sorted(rates) if rates[name]}
            object.__setattr__(self, field, nonzero)

    def _check_names(self):
        """Checks that every gate that is named is one of the equation."""
        gates = self.definition.gates
        for field in ("bias", "pinned", "blind"):
            if not isinstance(getattr(self, field), Mapping):
                raise ValueError(f"{field} must map gates to values, got {getattr(self, field)!r}.")
        if isinstance(self.peepholes, str) or not isinstance(self.peepholes, (list, tuple)):
            raise ValueError(f"peepholes must be a list of gates, got {self.peepholes!r}.")
        if len(set(self.peepholes)) < len(self.peepholes):
            raise ValueError(f"peepholes must differ, got {list(self.peepholes)}.")
        for field in ("bias", "pinned", "blind", "peepholes"):
            unknown = sorted(set(map(str, getattr(self, field))) - set(gates))
            if unknown:
                raise ValueError(
                    f"{field} names {unknown}, but the gates of {self.equation!r} "
                    f"are {list(gates)}."
                )

    def _check_values(self):
        for gate, value in self.bias.items():
            if isinstance(value, str):
                _check_law(gate, value)
            elif not _is_number(value):
                raise ValueError(f"bias of {gate!r} must be a number or a law, got {value!r}.")
        for gate, value in self.pinned.items():
            if not _is_number(value) or not 0 <= value <= 1:
                raise ValueError(f"pinned {gate!r} must be from 0 to 1, got {value!r}.")
        for gate, value in self.blind.items():
            if value not in SENSES:
                raise ValueError(f"blind {gate!r} must be one of {list(SENSES)}, got {value!r}.")
        for field, choices in (
            ("input_activation", ACTIVATIONS),
            ("output_activation", ACTIVATIONS),
            ("layer_norm", LAYER_NORMS),
        ):
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"{field} must be one of {list(choices)}, got {getattr(self, field)!r}."
                )
        clip = self.cell_clip
        if not _is_number(clip) or not 0 <= clip < math.inf:
            raise ValueError(f"cell_clip must be a number of at least 0, got {clip!r}.")
        units = self.projection
        if isinstance(units, bool) or not isinstance(units, numbers.Integral) or units < 0:
            raise ValueError(f"projection must be an integer of at least 0, got {units!r}.")

    def _check_rates(self):
        states = tuple(name for name in self.definition.states if name in ("h", "c"))
        for field, choices in (("zoneout", states), ("recurrent_dropout", RECURRENT_DROPOUTS)):
            rates = getattr(self, field)
            if not isinstance(rates, Mapping):
                raise ValueError(f"{field} must map names to rates, got {rates!r}.")
            for name, rate in rates.items():
                if name not in choices:
                    raise ValueError(
                        f"{field} of {self.equation!r} must be one of {list(choices)}, "
                        f"got {name!r}."
                    )
                if not _is_number(rate) or not 0 <= rate < 1:
                    raise ValueError(
                        f"{field} of {name!r} must be at least 0 and below 1, got {rate!r}."
                    )

    def _check_sense(self):
        """Checks that every change applies to the equation."""
        for field in ("bias", "blind", "peepholes"):
            for gate in getattr(self, field):
                if gate in self.pinned:
                    raise ValueError(
                        f"{field} names {gate!r}, which is pinned to {self.pinned[gate]} "
                        "and has no weights."
                    )
        for gate, senses in self.blind.items():
            already = self.definition.blind.get(gate, "")
            if set(senses) & set(already):
                raise ValueError(
                    f"blind: {gate!r} of {self.equation!r} has no plain product of {already}, so "
                    f"it cannot be made blind to {senses!r}."
                )
        if "c" not in self.definition.states:
            if self.peepholes:
                raise ValueError(f"peepholes read the cell state c; {self.equation!r} has none.")
            if self.cell_clip:
                raise ValueError(f"cell_clip clips the cell state c; {self.equation!r} has none.")
            if self.projection:
                raise ValueError(
                    f"projection reduces the output of the cell state c; {self.equation!r} has "
                    "none."
                )
        if self.output_activation != "tanh" and not self.definition.has_output_activation:
            raise ValueError(
                f"output_activation applies to the cell state c; {self.equation!r} has none."
            )

    @property
    def definition(self) -> Equation:
        """The equation."""
        return EQUATIONS[self.equation]

    @property
    def maps(self) -> tuple[str, ...]:
        """Gates with weights, and the candidate, in the order of their blocks in the bias."""
        return (*(g for g in self.definition.gates if g not in self.pinned), CANDIDATE)

    @property
    def input_maps(self) -> tuple[str, ...]:
        """The maps that receive x, in the order of their blocks in the kernel."""
        return tuple(m for m in self.maps if "x" not in self._blind_to(m))

    @property
    def recurrent_maps(self) -> tuple[str, ...]:
        """The maps that receive h, in the order of their blocks in the recurrent kernel."""
        return tuple(m for m in self.maps if "h" not in self._blind_to(m))

    def _blind_to(self, name):
        return self.definition.blind.get(name, "") + self.blind.get(name, "")

    @property
    def products(self) -> dict[str, tuple[str, ...]]:
        """The maps of each further product of the equation, without pinned gates."""
        products = {
            name: tuple(m for m in maps if m not in self.pinned)
            for name, (_, maps) in self.definition.products.items()
        }
        return {name: maps for name, maps in products.items() if maps}

    @property
    def random(self) -> bool:
        """Whether training draws random numbers."""
        return bool(self.zoneout or self.recurrent_dropout)

    def state_sizes(self, units: int) -> list[int]:
        """Returns the width of each state of a cell with a number of units."""
        return [
            self.projection if self.projection and name == "h" else units
            for name in self.definition.states
        ]

    def to_json(self) -> dict:
        """Returns the spec as JSON; `CellSpec(**spec.to_json()) == spec`."""
        return {**dataclasses.asdict(self), "peepholes": list(self.peepholes)}


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_law(gate, law):
    if match := _CHRONO.fullmatch(law):
        if int(match[1]) < 3:
            raise ValueError(f"bias of {gate!r}: a chrono law needs a lag of at least 3, {law!r}.")
        return
    match = _UNIFORM.fullmatch(law)
    try:
        low, high = float(match[1]), float(match[2])
    except (TypeError, ValueError):
        raise ValueError(
            f"bias of {gate!r} must be a number, 'chrono:T', '-chrono:T' or "
            f"'uniform:LOW,HIGH', got {law!r}."
        ) from None
    if not low < high:
        raise ValueError(f"bias of {gate!r}: a uniform law needs LOW < HIGH, got {law!r}.")


def chrono_lag(law: float | str) -> int | None:
    """Returns the longest lag T of "chrono:T" or "-chrono:T"; None for any other bias."""
    match = _CHRONO.fullmatch(law) if isinstance(law, str) else None
    return int(match[1]) if match else None


def uniform_range(law: float | str) -> tuple[float, float] | None:
    """Returns the range of "uniform:LOW,HIGH"; None for any other bias."""
    match = _UNIFORM.fullmatch(law) if isinstance(law, str) else None
    return (float(match[1]), float(match[2])) if match else None


def _plain(value):
    return value if isinstance(value, str) else float(value)


_REMEMBER = {"forget": 1.0}
_PEEPHOLES = ("input", "forget", "output")
_CHRONO_LSTM = {"input": "-chrono:1000", "forget": "chrono:1000"}


def _dropout(kind, rate):
    return CellSpec("lstm", bias=_REMEMBER, recurrent_dropout={kind: rate})


CELLS = {
    "rnn": CellSpec("rnn"),
    "rnn_relu": CellSpec("rnn", input_activation="relu"),
    "rnn_identity": CellSpec("rnn", input_activation="identity"),
    "leaky": CellSpec("leaky", pinned={"leak": 0.8}),
    "leaky_learnt": CellSpec("leaky", bias={"leak": 1.0}, blind={"leak": "xh"}),
    "lstm": CellSpec("lstm", bias=_REMEMBER),
    "lstm_1997": CellSpec("lstm", pinned={"forget": 1.0}),
    "lstm_peephole": CellSpec("lstm", bias=_REMEMBER, peepholes=_PEEPHOLES),
    "lstm_coupled": CellSpec("coupled", bias=_REMEMBER),
    "lstm_chrono": CellSpec("lstm", bias=_CHRONO_LSTM),
    "gru": CellSpec("gru"),
    "gru_before": CellSpec("gru_before"),
    "gru_chrono": CellSpec("gru", bias={"update": "chrono:1000"}),
    "mgu": CellSpec("mgu"),
    "janet": CellSpec("janet", bias=_REMEMBER),
    "lstm_projected": CellSpec("lstm", bias=_REMEMBER, projection=64),
    "lstm_layer_norm": CellSpec("lstm", bias=_REMEMBER, layer_norm="products"),
    "lstm_layer_norm_maps": CellSpec("lstm", bias=_REMEMBER, layer_norm="maps"),
    "gru_layer_norm": CellSpec("gru", layer_norm="products"),
    "lstm_zoneout": CellSpec("lstm", bias=_REMEMBER, zoneout={"h": 0.05, "c": 0.5}),
    "lstm_dropout_state": _dropout("state", 0.25),
    "lstm_dropout_candidate": _dropout("candidate", 0.25),
    "lstm_dropout_weights": _dropout("weights", 0.5),
    # Jozefowicz et al. (2015): where the forget gate starts, a gate less, mutations.
    "lstm_bias_0": CellSpec("lstm"),
    "lstm_bias_minus_1": CellSpec("lstm", bias={"forget": -1.0}),
    "lstm_bias_5": CellSpec("lstm", bias={"forget": 5.0}),
    "lstm_no_input": CellSpec("lstm", bias=_REMEMBER, pinned={"input": 1.0}),
    "lstm_no_forget": CellSpec("lstm", pinned={"forget": 1.0}),
    "lstm_no_output": CellSpec("lstm", bias=_REMEMBER, pinned={"output": 1.0}),
    "mut1": CellSpec("mut1"),
    "mut2": CellSpec("mut2"),
    "mut3": CellSpec("mut3"),
    # Greff et al. (2017): the baseline with peepholes, and eight variants of it.
    "greff_vanilla": CellSpec("lstm", peepholes=_PEEPHOLES),
    "greff_nig": CellSpec("lstm", pinned={"input": 1.0}, peepholes=("forget", "output")),
    "greff_nfg": CellSpec("lstm", pinned={"forget": 1.0}, peepholes=("input", "output")),
    "greff_nog": CellSpec("lstm", pinned={"output": 1.0}, peepholes=("input", "forget")),
    "greff_niaf": CellSpec("lstm", peepholes=_PEEPHOLES, input_activation="identity"),
    "greff_noaf": CellSpec("lstm", peepholes=_PEEPHOLES, output_activation="identity"),
    "greff_cifg": CellSpec("coupled", peepholes=("forget", "output")),
    "greff_np": CellSpec("lstm"),
    "greff_fgr": CellSpec("full", peepholes=_PEEPHOLES),
}


def find(cell: CellSpec | Mapping | str) -> CellSpec:
    """Returns the spec of a cell.

    Args:
        cell: A `CellSpec`, a name in `CELLS`, a spec as a mapping or as JSON, or the path of a
            `.json` file with one.

    Raises:
        ValueError: There is no such name or file, or the spec is invalid.

    Example:
        >>> find('{"equation": "gru"}') == CellSpec("gru")
        True
    """
    if isinstance(cell, CellSpec):
        return cell
    if isinstance(cell, str) and cell in CELLS:
        return CELLS[cell]
    fields = cell
    if isinstance(cell, str):
        try:
            if cell.endswith(".json"):
                fields = json.loads(Path(cell).read_text(encoding="utf-8"))
            elif cell.lstrip().startswith("{"):
                fields = json.loads(cell)
        except OSError as error:
            raise ValueError(f"cell names a file that cannot be read: {error}.") from error
        except ValueError as error:
            raise ValueError(f"cell is not valid JSON: {error}; got {cell!r}.") from error
        except RecursionError:
            raise ValueError("the JSON is nested too deeply.") from None
    if not isinstance(fields, Mapping):
        near = difflib.get_close_matches(str(cell), CELLS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(
            f"cell must be one of {sorted(CELLS)}, a spec as JSON or a .json file, got {cell!r}"
            f"{hint}"
        )
    field_names = {field.name for field in dataclasses.fields(CellSpec)}
    if unknown := sorted(set(fields) - field_names):
        raise ValueError(f"cell has {unknown}, but the fields of a spec are {sorted(field_names)}.")
    if "equation" not in fields:
        raise ValueError(
            f"cell must name its equation, one of {sorted(EQUATIONS)}, got {fields!r}."
        )
    return CellSpec(**fields)
