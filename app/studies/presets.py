"""Studies that repeat the literature at small scale, as data: grids of points, and what was found.

A cell is what `models.cells.specs.find` accepts, or a named change of a cell.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence

from app.studies.experiments import Experiment
from models.cells.specs import CELLS

GREFF = "Greff et al. (2017)"
JOZEFOWICZ = "Jozefowicz et al. (2015)"
TALLEC = "Tallec & Ollivier (2018)"
GERS = "Gers et al. (2002)"
BAI = "Bai et al. (2018)"
LINZEN = "Linzen et al. (2016)"


@dataclasses.dataclass(frozen=True)
class Grid:
    """Some cells on one task or probe.

    Attributes:
        subject: The task or the probe.
        settings: What is not as the subject has it.
        cells: Names of the preset's cells; all if none are named.
    """

    subject: str
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    cells: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a paper found, told as a comparison of two cells.

    Attributes:
        claim: What was found, in a sentence.
        source: Where.
        first, second: The cells: the first does better than the second, or as well.
        alike: Whether as well is what was found.
        subjects: The subjects it is about; all if none are named.
    """

    claim: str
    source: str
    first: str
    second: str
    alike: bool = False
    subjects: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Preset:
    """A study.

    Attributes:
        title: What it asks.
        cells: What `models.cells.specs.find` takes, by the names of tables.
        grids: Where the cells are measured.
        findings: What it is held against.
        seeds: How many runs each point has.
    """

    title: str
    cells: Mapping[str, str]
    grids: Sequence[Grid]
    findings: Sequence[Finding]
    seeds: int = 3

    def points(self, seeds: int, data: Mapping[str, str]) -> list[Experiment]:
        """Every point that there is data for.

        Args:
            seeds: How many runs of each.
            data: Where the data of a subject is, by its name.
        """
        found = []
        for grid in self.grids:
            settings = dict(grid.settings)
            if grid.subject in data:
                settings["data"] = data[grid.subject]
            elif grid.subject in NEED_DATA:
                continue
            told = tuple(sorted(settings.items()))
            for label in grid.cells or self.cells:
                found += [
                    Experiment(grid.subject, label, self.cells[label], seed, told)
                    for seed in range(seeds)
                ]
        return found

    def left_out(self, data: Mapping[str, str]) -> list[str]:
        """The subjects that need data which is not there."""
        return sorted({g.subject for g in self.grids} & set(NEED_DATA) - set(data))


NEED_DATA = ("jsb", "mnist")


def _named(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _changed(cell: str, **changes) -> str:
    """A cell with changes, as JSON; what is told of gates is added to what is told already."""
    told = CELLS[cell].to_json()
    for name, change in changes.items():
        told[name] = {**told[name], **change} if isinstance(change, dict) else change
    for gate in told["pinned"]:
        told["bias"].pop(gate, None)
    return json.dumps(told)


def _without(cell: str, gate: str, value: float) -> str:
    return _changed(cell, pinned={gate: value})


_GATES = {"lstm": ("input", "forget", "output"), "gru": ("update", "reset")}
_REMOVED = {"update": 0.5}  # a gate is removed by holding it open; open, this one forgets all


def _gates() -> dict[str, str]:
    cells = _named("rnn", "lstm", "gru")
    for cell, gates in _GATES.items():
        for gate in gates:
            cells[f"{cell}, no {gate} gate"] = _without(cell, gate, _REMOVED.get(gate, 1.0))
            for sense in "xh":
                cells[f"{cell}, {gate} gate blind to {sense}"] = _changed(cell, blind={gate: sense})
    return cells


_BIASES = (-2, 0, 1, 5)


def _biases() -> dict[str, str]:
    cells = {"all biases 0": _changed("lstm", bias={"forget": 0.0})}
    for gate in _GATES["lstm"]:
        for value in _BIASES:
            if value:
                bias = {"forget": 0.0, gate: float(value)}
                cells[f"{gate} bias {value}"] = _changed("lstm", bias=bias)
    cells["chrono"] = chrono("lstm", 200)
    return cells


def chrono(cell: str, longest: int) -> str:
    """An LSTM or GRU whose gates begin with memories of up to so many steps."""
    law = f"chrono:{longest}"
    bias = {"input": f"-{law}", "forget": law} if cell == "lstm" else {"update": law}
    return _changed(cell, bias=bias)


_PEEPHOLES = {
    "lstm": "lstm",
    "lstm, peepholes": _changed("lstm", peepholes=list(_GATES["lstm"])),
    **{f"lstm, {gate} peephole": _changed("lstm", peepholes=[gate]) for gate in _GATES["lstm"]},
}
_MUTANTS = _named("rnn", "lstm_bias_0", "lstm", "gru", "mut1", "mut2", "mut3")

PRESETS = {
    "greff": Preset(
        "Which parts of an LSTM matter? The baseline of Greff et al. and its eight variants",
        _named(*(name for name in CELLS if name.startswith("greff_"))),
        [
            Grid("jsb"),
            Grid("temporal_order", {"length": 50}),
            Grid("next_letter"),
            Grid("agreement"),
        ],
        [
            Finding("without the forget gate it does worse", GREFF, "greff_vanilla", "greff_nfg"),
            Finding(
                "without the activation of its output it does worse",
                GREFF,
                "greff_vanilla",
                "greff_noaf",
            ),
            *(
                Finding(
                    f"without the {what} it does worse on speech and handwriting; music bears it",
                    GREFF,
                    "greff_vanilla",
                    cell,
                    subjects=("next_letter", "temporal_order", "agreement"),
                )
                for what, cell in (
                    ("input gate", "greff_nig"),
                    ("output gate", "greff_nog"),
                    ("activation of its input", "greff_niaf"),
                )
            ),
            *(
                Finding(
                    f"music bears the loss of the {what}",
                    GREFF,
                    "greff_vanilla",
                    cell,
                    alike=True,
                    subjects=("jsb",),
                )
                for what, cell in (
                    ("input gate", "greff_nig"),
                    ("output gate", "greff_nog"),
                    ("activation of its input", "greff_niaf"),
                )
            ),
            Finding("coupled gates do as well", GREFF, "greff_vanilla", "greff_cifg", True),
            Finding("without peepholes it does as well", GREFF, "greff_vanilla", "greff_np", True),
            Finding(
                "full gate recurrence gains nothing", GREFF, "greff_vanilla", "greff_fgr", True
            ),
        ],
    ),
    "gates": Preset(
        "What is each gate for? Each removed, blinded to x, blinded to h",
        _gates(),
        [
            Grid("temporal_order"),
            Grid("next_letter"),
        ],
        [
            Finding("the forget gate matters", JOZEFOWICZ, "lstm", "lstm, no forget gate"),
            Finding(
                "the forget gate matters more than the input gate",
                JOZEFOWICZ,
                "lstm, no input gate",
                "lstm, no forget gate",
            ),
            Finding(
                "the input gate matters more than the output gate",
                JOZEFOWICZ,
                "lstm, no output gate",
                "lstm, no input gate",
            ),
            Finding(
                "the output gate hardly matters", JOZEFOWICZ, "lstm", "lstm, no output gate", True
            ),
        ],
    ),
    "bias": Preset(
        "Where should gates begin? Biases of each gate, and chrono",
        _biases(),
        [
            Grid("adding", {"length": 200, "steps": 1500}),
            Grid("temporal_order", {"length": 200}),
            Grid("next_letter"),
        ],
        [
            Finding(
                "a forget bias of 1 is better than 0",
                JOZEFOWICZ,
                "forget bias 1",
                "all biases 0",
            ),
            Finding("a negative forget bias hurts", JOZEFOWICZ, "all biases 0", "forget bias -2"),
            Finding(
                "an output bias of 1 helps",
                "some textbooks",
                "output bias 1",
                "all biases 0",
            ),
            Finding(
                "chrono is better than a forget bias of 1 where lags are long",
                TALLEC,
                "chrono",
                "forget bias 1",
                subjects=("adding", "temporal_order"),
            ),
        ],
    ),
    "peepholes": Preset(
        "What do peepholes see? None, all, and each alone",
        _PEEPHOLES,
        [Grid("timing", {"wait": 35}), Grid("temporal_order"), Grid("next_letter")],
        [
            Finding("peepholes count time", GERS, "lstm, peepholes", "lstm", subjects=("timing",)),
            Finding(
                "elsewhere peepholes change little",
                GREFF,
                "lstm, peepholes",
                "lstm",
                True,
                ("temporal_order", "next_letter"),
            ),
        ],
    ),
    "muts": Preset(
        "Are there better cells? Three that a search found, beside LSTM and GRU",
        _MUTANTS,
        [
            Grid("jsb"),
            Grid("temporal_order"),
            Grid("next_letter"),
        ],
        [
            Finding(
                "GRU is better than LSTM with a forget bias of 0", JOZEFOWICZ, "gru", "lstm_bias_0"
            ),
            Finding("a forget bias of 1 closes the gap to GRU", JOZEFOWICZ, "lstm", "gru", True),
            *(
                Finding(f"{cell.upper()} is better than GRU", JOZEFOWICZ, cell, "gru")
                for cell in ("mut1", "mut2", "mut3")
            ),
            Finding("any of them is better than a vanilla RNN", JOZEFOWICZ, "gru", "rnn"),
        ],
    ),
    "lstm-gru": Preset(
        "LSTM or GRU? Probes, language modelling and sentiment",
        _named("rnn", "lstm", "gru"),
        [
            Grid("adding", {"length": 200}),
            Grid("temporal_order"),
            Grid("timing", {"wait": 35}),
            Grid("agreement"),
            Grid("jsb"),
            Grid("mnist", {"shrink": 4, "steps": 1500}),
            Grid("next_letter"),
            Grid("sentiment"),
        ],
        [
            Finding(
                "GRU is better than LSTM but for language modelling",
                JOZEFOWICZ,
                "gru",
                "lstm",
                subjects=(
                    "adding",
                    "temporal_order",
                    "timing",
                    "agreement",
                    "jsb",
                    "mnist",
                    "sentiment",
                ),
            ),
            Finding(
                "LSTM is better than GRU at language modelling",
                JOZEFOWICZ,
                "lstm",
                "gru",
                subjects=("next_letter",),
            ),
            Finding("LSTM is better than a vanilla RNN", BAI, "lstm", "rnn"),
            Finding(
                "LSTM is better than a vanilla RNN across attractors",
                LINZEN,
                "lstm",
                "rnn",
                subjects=("agreement",),
            ),
        ],
    ),
    "memory": Preset(
        "How long is a memory? Copying and adding over 200 and 500 steps",
        {
            **_named("rnn", "lstm", "gru"),
            "lstm, chrono": chrono("lstm", 500),
        },
        [
            Grid(subject, {"length": length})
            for subject in ("adding", "copy")
            for length in (200, 500)
        ],
        [
            Finding(
                "chrono remembers longer than a forget bias of 1", TALLEC, "lstm, chrono", "lstm"
            ),
            Finding("GRU adds where LSTM does not", BAI, "gru", "lstm", subjects=("adding",)),
            Finding("a vanilla RNN learns neither; LSTM does", BAI, "lstm", "rnn"),
        ],
        seeds=2,
    ),
}
