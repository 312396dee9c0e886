"""What a cell computes, as data: an equation and a short list of changes."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

from .equations import CANDIDATE, EQUATIONS, Equation

ACTIVATIONS = ("tanh", "relu", "identity")
SENSES = ("x", "h", "xh")  # what a gate can be blind to
LAYER_NORMS = ("none", "products", "maps")
RECURRENT_DROPOUTS = ("state", "candidate", "weights")
_CHRONO = re.compile(r"-?chrono:(\d+)")
_UNIFORM = re.compile(r"uniform:([^,]+),([^,]+)")
_NUMBERS = (int, float)


@dataclasses.dataclass(frozen=True)
class CellSpec:
    """One cell: an equation and what is changed in it.

    Attributes:
        equation: A key of `EQUATIONS`.
        bias: Initial bias by gate; 0 for the gates it does not name. A number,
            or a law: "uniform:LOW,HIGH" draws each unit's by itself;
            "chrono:T" draws log U(1, T - 1), for lags of up to T steps (Tallec
            & Ollivier, 2018), and "-chrono:T" takes the same draws with the
            other sign.
        pinned: Gates held at a constant from 0 to 1, with no weights of their own.
        blind: What gates do not see: "x", "h", or "xh" for neither, which
            leaves a learnt constant for each unit.
        peepholes: Gates that also see the cell state c, the output gate the new
            one (Gers et al., 2002). Only for equations that have a cell state.
        input_activation: What makes the candidate: one of `ACTIVATIONS`.
        output_activation: What c goes through on its way out, likewise; only
            for equations that have a cell state.
        cell_clip: The largest absolute value of c; 0 for any.
        projection: Units of h, which is then a learnt projection of what c lets
            out (Sak et al., 2014); 0 for none. Only for equations that have c.
        layer_norm: Where layer normalisation stands: "products", x W and h U
            each over all maps (Ba et al., 2016, equations 20 and 21); "maps",
            all that a map sees, over its own units and before its bias (as in
            TensorFlow 1's LayerNormBasicLSTMCell); or "none". With either, c is
            normalised on its way out, and carried on as it was (equation 22).
        zoneout: How likely each unit of a state, "h" or "c", stays as it was
            (Krueger et al., 2017); what is served mixes old and new in that
            proportion.
        recurrent_dropout: Rates by kind: "state" drops the same units of h at
            all steps of a sequence wherever a map sees h (Gal & Ghahramani,
            2016), "candidate" units of the candidate anew at each step
            (Semeniuta et al., 2016), "weights" single recurrent weights, for a
            whole batch (Wan et al., 2013; Merity et al., 2018).

    Raises:
        ValueError: A name or a value is not one the equation has a place for.
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
        # One cell has one form, whatever order and number types it was told in.
        gates = self.definition.gates
        for field in ("bias", "pinned", "blind"):
            told = getattr(self, field)
            object.__setattr__(self, field, {g: _plain(told[g]) for g in gates if g in told})
        object.__setattr__(self, "peepholes", tuple(g for g in gates if g in self.peepholes))
        object.__setattr__(self, "cell_clip", float(self.cell_clip))
        for field in ("zoneout", "recurrent_dropout"):
            told = getattr(self, field)
            kept = {name: float(told[name]) for name in sorted(told) if told[name]}
            object.__setattr__(self, field, kept)

    def _check_names(self):
        """Whatever is told of a gate, the equation has that gate."""
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
            elif isinstance(value, bool) or not isinstance(value, _NUMBERS):
                raise ValueError(f"bias of {gate!r} must be a number or a law, got {value!r}.")
        for gate, value in self.pinned.items():
            if isinstance(value, bool) or not isinstance(value, _NUMBERS) or not 0 <= value <= 1:
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
        if isinstance(clip, bool) or not isinstance(clip, _NUMBERS) or not 0 <= clip < math.inf:
            raise ValueError(f"cell_clip must be a number of at least 0, got {clip!r}.")
        units = self.projection
        if isinstance(units, bool) or not isinstance(units, int) or units < 0:
            raise ValueError(f"projection must be a whole number of at least 0, got {units!r}.")

    def _check_rates(self):
        states = tuple(name for name in self.definition.states if name in ("h", "c"))
        for field, choices in (("zoneout", states), ("recurrent_dropout", RECURRENT_DROPOUTS)):
            rates = getattr(self, field)
            if not isinstance(rates, Mapping):
                raise ValueError(f"{field} must map names to rates, got {rates!r}.")
            for name, rate in rates.items():
                if name not in choices:
                    raise ValueError(
                        f"{field} of {self.equation!r} must be of {list(choices)}, got {name!r}."
                    )
                if isinstance(rate, bool) or not isinstance(rate, _NUMBERS) or not 0 <= rate < 1:
                    raise ValueError(
                        f"{field} of {name!r} must be at least 0 and below 1, got {rate!r}."
                    )

    def _check_sense(self):
        """What is told is told of something that the equation has."""
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
                    f"blind: {gate!r} of {self.equation!r} does not see {already} in the plain "
                    f"way, so it cannot be made blind to {senses!r}."
                )
        if "c" not in self.definition.states:
            if self.peepholes:
                raise ValueError(
                    f"peepholes look at the cell state c, and {self.equation!r} has none."
                )
            if self.cell_clip:
                raise ValueError(f"cell_clip clips the cell state c; {self.equation!r} has none.")
            if self.projection:
                raise ValueError(
                    f"projection is of what the cell state c lets out; {self.equation!r} has none."
                )
        if self.output_activation != "tanh" and not self.definition.squashes:
            raise ValueError(
                f"output_activation is that of the cell state c; {self.equation!r} has none."
            )

    @property
    def definition(self) -> Equation:
        """The equation itself."""
        return EQUATIONS[self.equation]

    @property
    def maps(self) -> tuple[str, ...]:
        """The learnt maps, in the order of their blocks in the bias."""
        return (*(g for g in self.definition.gates if g not in self.pinned), CANDIDATE)

    @property
    def input_maps(self) -> tuple[str, ...]:
        """The maps that see x, in the order of their blocks in the kernel."""
        return tuple(m for m in self.maps if "x" not in self._blind_to(m))

    @property
    def recurrent_maps(self) -> tuple[str, ...]:
        """The maps that see h, in the order of their blocks in the recurrent kernel."""
        return tuple(m for m in self.maps if "h" not in self._blind_to(m))

    def _blind_to(self, name):
        return self.definition.blind.get(name, "") + self.blind.get(name, "")

    @property
    def products(self) -> dict[str, tuple[str, ...]]:
        """The maps of each of the equation's own products, less those that are pinned."""
        found = {
            name: tuple(m for m in maps if m not in self.pinned)
            for name, (_, maps) in self.definition.products.items()
        }
        return {name: maps for name, maps in found.items() if maps}

    @property
    def random(self) -> bool:
        """Whether training draws random numbers."""
        return bool(self.zoneout or self.recurrent_dropout)

    def state_sizes(self, units: int) -> list[int]:
        """The width of each state, of a cell with so many units."""
        return [
            self.projection if self.projection and name == "h" else units
            for name in self.definition.states
        ]

    def to_json(self) -> dict:
        """The spec as JSON has it; `CellSpec(**spec.to_json()) == spec`."""
        return {**dataclasses.asdict(self), "peepholes": list(self.peepholes)}


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
    """The longest lag T of a "chrono:T" or "-chrono:T"; None for any other bias."""
    match = _CHRONO.fullmatch(law) if isinstance(law, str) else None
    return int(match[1]) if match else None


def uniform_range(law: float | str) -> tuple[float, float] | None:
    """The range of a "uniform:LOW,HIGH"; None for any other bias."""
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
