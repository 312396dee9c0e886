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

ACTIVATIONS = (
    "tanh",
    "relu",
    "identity",
    "sigmoid",
    "hard_sigmoid",
    "log_sigmoid",
    "softplus",
    "gelu",
    "silu",
    "elu",
    "leaky_relu",
    "exp",
)
GATE_ACTIVATIONS = ("sigmoid", "hard_sigmoid")  # those with values from 0 to 1
_POSITIVE = ("sigmoid", "softplus", "exp")  # above 0 everywhere
_NOT_NEGATIVE = (*_POSITIVE, "hard_sigmoid", "relu")
SENSES = ("x", "h", "xh")  # inputs that a gate can be blind to
LAYER_NORMS = ("none", "products", "maps")
RECURRENT_STRUCTURES = ("full", "diagonal", "antisymmetric", "orthogonal")
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
        blind: Inputs that a gate or the candidate does not receive: "x", "h", or "xh" for
            neither, which leaves a learnt constant per unit.
        peepholes: Gates that also receive the cell state c, the output gate the new one
            (Gers et al. 2002). Only for equations with a cell state.
        input_activation: Activation of the candidate, one of `ACTIVATIONS`.
        output_activation: Activation of c in the output, one of `ACTIVATIONS`; only for
            equations with a cell state.
        cell_clip: Largest absolute value of c; 0 for no limit.
        projection: Units of h, which is then a learnt projection of the output (Sak et al.
            2014); 0 for none. Only for equations with a cell state.
        layer_norm: Position of layer normalisation: "products", on x W and h U, each over
            all gates (Ba et al. 2016); "maps", on the sum of each gate, over its units and
            before its bias (as in TensorFlow 1's LayerNormBasicLSTMCell); or "none". With
            either, c is normalised in the output, but carried on unchanged.
        zoneout: Probability by state, "h" or "c", that a unit keeps its previous value
            (Krueger et al. 2017); in inference old and new values are mixed in that
            proportion.
        gate_activations: Activation by gate, one of `ACTIVATIONS`; the sigmoid for the others,
            unless the equation has another.
        constants: Values of constants of the equation, by name; its own for the others.
        heads: Number of equal groups of units, such that each reads only its own units of h:
            recurrent matrices are block-diagonal. It divides the number of units.
        recurrent_structure: Structure of the square recurrent matrices: "full"; "diagonal",
            each unit reads only itself; "antisymmetric", each matrix is M minus its transpose
            (Chang et al. 2019); or "orthogonal", each is the Cayley transform of that,
            inverse(I + A) (I - A) (Helfrich et al. 2018).
        recurrent_rank: Rank of the square recurrent matrices, each of which is a product of two
            factors (Kusupati et al. 2018); 0 for full rank.
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
    gate_activations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, float] = dataclasses.field(default_factory=dict)
    heads: int = 1
    recurrent_structure: str = "full"
    recurrent_rank: int = 0

    def __post_init__(self):
        if self.equation not in EQUATIONS:
            raise ValueError(f"equation must be one of {sorted(EQUATIONS)}, got {self.equation!r}.")
        self._check_names()
        self._check_values()
        self._check_rates()
        self._check_sense()
        # Equal cells have equal specs, whatever the order and the types of the numbers.
        gates = self.definition.gates
        for field in ("bias", "pinned", "blind", "gate_activations"):
            values, names = getattr(self, field), (*gates, CANDIDATE)
            object.__setattr__(self, field, {n: _plain(values[n]) for n in names if n in values})
        for field, defaults in (
            ("gate_activations", {g: self.definition.activations.get(g, "sigmoid") for g in gates}),
            ("constants", self.definition.constants),
        ):
            changed = {n: _plain(v) for n, v in getattr(self, field).items() if v != defaults[n]}
            object.__setattr__(self, field, dict(sorted(changed.items())))
        object.__setattr__(self, "heads", int(self.heads))
        object.__setattr__(self, "recurrent_rank", int(self.recurrent_rank))
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
        for field in ("bias", "pinned", "blind", "gate_activations", "constants"):
            if not isinstance(getattr(self, field), Mapping):
                raise ValueError(f"{field} must map gates to values, got {getattr(self, field)!r}.")
        if unknown := sorted(set(map(str, self.constants)) - set(self.definition.constants)):
            raise ValueError(
                f"constants names {unknown}, but the constants of {self.equation!r} are "
                f"{list(self.definition.constants)}."
            )
        if isinstance(self.peepholes, str) or not isinstance(self.peepholes, (list, tuple)):
            raise ValueError(f"peepholes must be a list of gates, got {self.peepholes!r}.")
        if len(set(self.peepholes)) < len(self.peepholes):
            raise ValueError(f"peepholes must differ, got {list(self.peepholes)}.")
        for field in ("bias", "pinned", "blind", "peepholes", "gate_activations"):
            allowed = (*gates, CANDIDATE) if field == "blind" else gates
            unknown = sorted(set(map(str, getattr(self, field))) - set(allowed))
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
        for gate, value in self.gate_activations.items():
            if value not in ACTIVATIONS:
                raise ValueError(
                    f"gate_activations of {gate!r} must be one of {list(ACTIVATIONS)}, "
                    f"got {value!r}."
                )
        for name, value in self.constants.items():
            if not _is_number(value) or not math.isfinite(value):
                raise ValueError(f"constants of {name!r} must be a number, got {value!r}.")
        for field, choices in (
            ("input_activation", ACTIVATIONS),
            ("output_activation", ACTIVATIONS),
            ("layer_norm", LAYER_NORMS),
            ("recurrent_structure", RECURRENT_STRUCTURES),
        ):
            if getattr(self, field) not in choices:
                raise ValueError(
                    f"{field} must be one of {list(choices)}, got {getattr(self, field)!r}."
                )
        clip = self.cell_clip
        if not _is_number(clip) or not 0 <= clip < math.inf:
            raise ValueError(f"cell_clip must be a number of at least 0, got {clip!r}.")
        for field, least in (("projection", 0), ("heads", 1), ("recurrent_rank", 0)):
            value = getattr(self, field)
            is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            if not is_integer or value < least:
                raise ValueError(f"{field} must be an integer of at least {least}, got {value!r}.")

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
        for field in ("bias", "blind", "peepholes", "gate_activations"):
            for gate in getattr(self, field):
                if gate in self.pinned:
                    raise ValueError(
                        f"{field} names {gate!r}, which is pinned to {self.pinned[gate]} "
                        "and has no weights."
                    )
        for gate in self.definition.shared:
            if gate in self.pinned:
                raise ValueError(
                    f"pinned names {gate!r}, but another map of {self.equation!r} reads its "
                    "products."
                )
        for group in self.definition.combined:
            if set(group) <= set(self.pinned):
                raise ValueError(
                    f"pinned names {' and '.join(map(repr, group))}, but {self.equation!r} "
                    "transforms what they give; leave one of them as it is."
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
        self._check_normalized()
        self._check_structure()
        if self.output_activation != "tanh" and not self.definition.has_output_activation:
            raise ValueError(
                f"output_activation applies to the cell state c; {self.equation!r} has none."
            )

    def _check_normalized(self):
        """Checks that gates that are divided by their sum do not divide by 0."""
        gates = self.definition.normalized
        values = [self.pinned.get(gate, self.activation(gate)) for gate in gates]
        positive = [self.pinned.get(g, self.activation(g) in _POSITIVE) for g in gates]
        negative = [g not in self.pinned and self.activation(g) not in _NOT_NEGATIVE for g in gates]
        if not gates or (any(positive) and not any(negative)):
            return
        names = " and ".join(map(repr, gates))
        raise ValueError(
            f"{self.equation!r} divides {names} by their sum, so one of them must be above 0 "
            f"(pinned, or one of {list(_POSITIVE)}) and none below (pinned, or one of "
            f"{list(_NOT_NEGATIVE)}), got {values}."
        )

    def _check_structure(self):
        """Checks that recurrent matrices can have heads or a structure."""
        plain = {"heads": 1, "recurrent_structure": "full", "recurrent_rank": 0}
        changed = [field for field, value in plain.items() if getattr(self, field) != value]
        if not changed:
            return
        field = changed[0]
        if len(changed) > 1:
            raise ValueError(f"{changed} exclude each other.")
        if self.projection:
            raise ValueError(f"{field} requires square recurrent matrices; h is projected.")
        if not self.recurrent_maps and not self.products:
            raise ValueError(f"{field} applies to recurrent matrices; this cell has none.")

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

    def activation(self, name: str) -> str:
        """Returns the name of the activation of a gate or the candidate."""
        if name == CANDIDATE:
            return self.input_activation
        default = self.definition.activations.get(name, "sigmoid")
        return self.gate_activations.get(name, default)

    def constant(self, name: str) -> float:
        """Returns the value of a constant of the equation."""
        return float(self.constants.get(name, self.definition.constants[name]))

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
        """Returns the spec as JSON; `CellSpec(**spec.to_json()) == spec`.

        Fields that version 1.0 did not have are left out if they have their default, so that
        it can read the spec, and hashes of specs stay the same.
        """
        fields = {**dataclasses.asdict(self), "peepholes": list(self.peepholes)}
        later = {"gate_activations": {}, "constants": {}, "heads": 1, "recurrent_structure": "full"}
        later["recurrent_rank"] = 0
        return {name: v for name, v in fields.items() if name not in later or v != later[name]}


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_law(gate, law):
    if match := _CHRONO.fullmatch(law):
        if int(match[1]) < 3:
            raise ValueError(
                f"bias of {gate!r}: a chrono law needs a lag of at least 3, got {law!r}."
            )
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
    # Units whose only state is the output.
    "ugrnn": CellSpec("leaky"),
    "ligru": CellSpec("leaky", input_activation="relu"),
    "lightru": CellSpec("leaky", blind={CANDIDATE: "h"}),
    "trnn": CellSpec("leaky", blind={"leak": "h", CANDIDATE: "h"}, input_activation="identity"),
    "tgru": CellSpec("tgru", input_activation="identity"),
    "mingru": CellSpec("mingru", input_activation="identity"),
    "minlstm": CellSpec("minlstm", input_activation="identity"),
    "cfn": CellSpec("cfn"),
    "star": CellSpec("star"),
    "sgrn": CellSpec("sgrn", input_activation="identity"),
    "nbrc": CellSpec("nbrc"),
    "brc": CellSpec("nbrc", recurrent_structure="diagonal"),
    "minimal_rnn": CellSpec("minimal_rnn"),
    "fastrnn": CellSpec("fastrnn", bias={"written": -3.0, "kept": 3.0}),
    "fastgrnn": CellSpec("fastgrnn", bias={"zeta": 1.0, "nu": -4.0}),
    "rhn": CellSpec("rhn", bias={"transform": -2.0, "deep_transform": -2.0}),
    "atr": CellSpec("atr", input_activation="identity"),
    "lrn": CellSpec("lrn", input_activation="identity"),
    "sgu": CellSpec("sgu", input_activation="softplus"),
    "dsgu": CellSpec("dsgu", input_activation="sigmoid"),
    "miru_1": CellSpec("gru_before", pinned={"update": 0.5}),
    "miru_2": CellSpec("gru_before", pinned={"update": 0.5, "reset": 0.5}),
    "indrnn": CellSpec("rnn", input_activation="relu", recurrent_structure="diagonal"),
    "antisymmetric_rnn": CellSpec("antisymmetric", recurrent_structure="antisymmetric"),
    "antisymmetric_gated": CellSpec("antisymmetric_gated", recurrent_structure="antisymmetric"),
    # Oscillators and other units with a second state.
    "cornn": CellSpec("cornn"),
    "unicornn": CellSpec("unicornn", recurrent_structure="diagonal"),
    "lem": CellSpec("lem"),
    "scrn": CellSpec("scrn"),
    "intersection_rnn": CellSpec("intersection", bias={"across": 1.0, "along": 1.0}),
    # Units with a cell state.
    "ran": CellSpec(
        "lstm",
        bias=_REMEMBER,
        pinned={"output": 1.0},
        blind={CANDIDATE: "h"},
        input_activation="identity",
    ),
    "tlstm": CellSpec("tlstm", input_activation="identity"),
    "sru": CellSpec("sru", peepholes=("forget", "reset"), input_activation="identity"),
    "sru_no_peephole": CellSpec("sru", input_activation="identity"),
    "lstm_multiplicative": CellSpec("multiplicative", bias=_REMEMBER),
    "lstm_working_memory": CellSpec("working_memory", bias=_REMEMBER),
    "lstm_memory_controller": CellSpec("memory_controller", bias=_REMEMBER),
    "lstm_residual": CellSpec("residual", bias=_REMEMBER, peepholes=_PEEPHOLES),
    "lstm_independent": CellSpec("lstm", bias=_REMEMBER, recurrent_structure="diagonal"),
    "lstm_hard_sigmoid": CellSpec(
        "lstm", bias=_REMEMBER, gate_activations=dict.fromkeys(_PEEPHOLES, "hard_sigmoid")
    ),
    "sublstm": CellSpec("sublstm", input_activation="sigmoid", output_activation="sigmoid"),
    "nas": CellSpec("nas"),
    "slstm": CellSpec("slstm", bias={"forget": "uniform:3,6"}),
    "rwkv": CellSpec("rwkv", input_activation="identity"),
    # Bradbury et al. (2017), pooling of quasi-recurrent networks with a window of 1.
    "qrnn_f": CellSpec("leaky", blind={"leak": "h", CANDIDATE: "h"}),
    "qrnn_fo": CellSpec(
        "coupled",
        blind=dict.fromkeys(("forget", "output", CANDIDATE), "h"),
        output_activation="identity",
    ),
    "qrnn_ifo": CellSpec(
        "lstm", blind=dict.fromkeys((*_PEEPHOLES, CANDIDATE), "h"), output_activation="identity"
    ),
    # Gates without x, or without x and h: Dey & Salem (2017), Lu & Salem (2017), Heck & Salem
    # (2017).
    "gru_slim_1": CellSpec("gru_before", blind={"update": "x", "reset": "x"}),
    "gru_slim_3": CellSpec("gru_before", blind={"update": "xh", "reset": "xh"}),
    "lstm_slim_1": CellSpec("lstm", bias=_REMEMBER, blind=dict.fromkeys(_PEEPHOLES, "x")),
    "lstm_slim_3": CellSpec("lstm", bias=_REMEMBER, blind=dict.fromkeys(_PEEPHOLES, "xh")),
    "mgu_slim_1": CellSpec("mgu", blind={"forget": "x"}),
    "mgu_slim_3": CellSpec("mgu", blind={"forget": "xh"}),
}

# Publications of cells, by name, where that of the equation does not name them.
SOURCES = {
    "lstm_1997": "Hochreiter & Schmidhuber (1997)",
    "lstm_chrono": "Tallec & Ollivier (2018), chrono initialisation of an LSTM",
    "gru_chrono": "Tallec & Ollivier (2018), chrono initialisation of a GRU",
    "lstm_projected": "Sak et al. (2014), the LSTM with a recurrent projection",
    "lstm_layer_norm": "Ba et al. (2016), layer normalisation of an LSTM",
    "lstm_layer_norm_maps": "Ba et al. (2016); TensorFlow 1, LayerNormBasicLSTMCell",
    "gru_layer_norm": "Ba et al. (2016), layer normalisation of a GRU",
    "lstm_zoneout": "Krueger et al. (2017), zoneout",
    "lstm_bias_0": "Jozefowicz et al. (2015), LSTM",
    "lstm_bias_minus_1": "Jozefowicz et al. (2015), initial bias of the forget gate",
    "lstm_bias_5": "Jozefowicz et al. (2015), initial bias of the forget gate",
    "lstm_no_input": "Jozefowicz et al. (2015), LSTM-i",
    "lstm_no_forget": "Jozefowicz et al. (2015), LSTM-f",
    "lstm_no_output": "Jozefowicz et al. (2015), LSTM-o",
    "greff_vanilla": "Greff et al. (2017), V: the LSTM with peepholes",
    "greff_nig": "Greff et al. (2017), NIG: no input gate",
    "greff_nfg": "Greff et al. (2017), NFG: no forget gate",
    "greff_nog": "Greff et al. (2017), NOG: no output gate",
    "greff_niaf": "Greff et al. (2017), NIAF: no input activation",
    "greff_noaf": "Greff et al. (2017), NOAF: no output activation",
    "greff_np": "Greff et al. (2017), NP: no peepholes",
    "lstm_dropout_state": "Gal & Ghahramani (2016), variational dropout",
    "lstm_dropout_candidate": "Semeniuta et al. (2016), recurrent dropout",
    "lstm_dropout_weights": "Wan et al. (2013); Merity et al. (2018), DropConnect",
    "ugrnn": "Collins et al. (2017), the update gate RNN; its gate is called leak here",
    "ligru": "Ravanelli et al. (2018), the light GRU, without batch normalisation",
    "lightru": "Ye et al. (2024), the light recurrent unit; one minus its gate is called leak here",
    "trnn": "Balduzzi & Ghifary (2016), the strongly-typed RNN; its gate is called leak here",
    "brc": "Vecoven et al. (2021), the bistable recurrent cell",
    "miru_1": "Zyarah & Kudithipudi (2026), the minion recurrent unit with a reset gate",
    "miru_2": "Zyarah & Kudithipudi (2026), the minion recurrent unit",
    "indrnn": "Li et al. (2018), the independently recurrent network",
    "ran": "Lee et al. (2017), the recurrent additive network",
    "lstm_independent": "Gonnet & Deselaers (2020), IndyLSTM",
    "lstm_hard_sigmoid": "Courbariaux et al. (2015), a hard sigmoid; its slope is 1/6",
    "qrnn_f": "Bradbury et al. (2017), f-pooling; its gate is called leak here",
    "qrnn_fo": "Bradbury et al. (2017), fo-pooling with a window of 1",
    "qrnn_ifo": "Bradbury et al. (2017), ifo-pooling with a window of 1",
    "gru_slim_1": "Dey & Salem (2017), GRU1: gates without x",
    "gru_slim_3": "Dey & Salem (2017), GRU3: gates are learnt constants",
    "lstm_slim_1": "Lu & Salem (2017), LSTM1: gates without x",
    "lstm_slim_3": "Lu & Salem (2017), LSTM3: gates are learnt constants",
    "mgu_slim_1": "Heck & Salem (2017), MGU1: the gate without x",
    "mgu_slim_3": "Heck & Salem (2017), MGU3: the gate is a learnt constant",
}


def source(cell: CellSpec | Mapping | str) -> str:
    """Returns the publication of a cell: that of a name in `CELLS`, or of the equation."""
    is_named = isinstance(cell, str) and cell in SOURCES
    return SOURCES[cell] if is_named else find(cell).definition.source


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
