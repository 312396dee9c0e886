"""Preset studies, which repeat experiments of the literature at a small scale.

Each is data: grids of experiments, and the claims that their results are compared with. A cell
is what `models.cells.specs.find` accepts, or a named change of a cell.
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

NEED_DATA = ("jsb", "mnist")  # probes that cannot generate their data


@dataclasses.dataclass(frozen=True)
class Grid:
    """Cells on one task or probe.

    Attributes:
        subject: Name of the task or the probe.
        settings: Settings that differ from the subject's defaults.
        cells: Labels of cells of the preset; empty for all.
    """

    subject: str
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    cells: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Claim:
    """Published claim about two cells.

    Attributes:
        text: The claim, in a sentence.
        source: Publication that makes it.
        first: Label of the cell that is claimed to be better, or as good.
        second: Label of the cell that it is compared with.
        equal: Whether the claim is that both are equally good.
        subjects: Tasks and probes that the claim is about; empty for all.
    """

    text: str
    source: str
    first: str
    second: str
    equal: bool = False
    subjects: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Preset:
    """A study as data.

    Attributes:
        title: Question that the study answers.
        cells: Cells as `models.cells.specs.find` accepts them, by their labels in tables.
        grids: Tasks and probes on which the cells are trained.
        claims: Claims that the results are compared with.
        seeds: Default number of seeds per cell.
    """

    title: str
    cells: Mapping[str, str]
    grids: Sequence[Grid]
    claims: Sequence[Claim]
    seeds: int = 3

    @property
    def subjects(self) -> list[str]:
        """The tasks and probes of the study."""
        return list(dict.fromkeys(grid.subject for grid in self.grids))

    def experiments(
        self, seeds: int, data: Mapping[str, str], subjects: Sequence[str] = ()
    ) -> list[Experiment]:
        """Returns the experiments of the study, without those that lack data.

        Args:
            seeds: Number of seeds per cell.
            data: Paths of data by the name of the subject.
            subjects: Tasks and probes to include; empty for all.
        """
        experiments = []
        for grid in self.grids:
            if subjects and grid.subject not in subjects:
                continue
            settings = dict(grid.settings)
            if grid.subject in data:
                settings["data"] = data[grid.subject]
            elif grid.subject in NEED_DATA:
                continue
            pairs = tuple(sorted(settings.items()))
            for label in grid.cells or self.cells:
                experiments += [
                    Experiment(grid.subject, label, self.cells[label], seed, pairs)
                    for seed in range(seeds)
                ]
        return experiments

    def without_data(self, data: Mapping[str, str]) -> list[str]:
        """Returns the subjects that need data which `data` does not name."""
        return sorted(set(self.subjects) & set(NEED_DATA) - set(data))


def _named(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _changed(cell: str, **changes) -> str:
    """Returns a cell with changes, as JSON; changes by gate extend those that the cell has."""
    spec = CELLS[cell].to_json()
    for name, change in changes.items():
        spec[name] = {**spec[name], **change} if isinstance(change, dict) else change
    for gate in spec["pinned"]:
        spec["bias"].pop(gate, None)
    return json.dumps(spec)


def _without(cell: str, gate: str, value: float) -> str:
    return _changed(cell, pinned={gate: value})


_GATES = {"lstm": ("input", "forget", "output"), "gru": ("update", "reset")}
# A removed gate is pinned to 1, except this one: at 1 it would discard the old state.
_REMOVED = {"update": 0.5}


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
    """Returns an LSTM or GRU with chrono biases for lags of up to `longest` steps."""
    law = f"chrono:{longest}"
    bias = {"input": f"-{law}", "forget": law} if cell == "lstm" else {"update": law}
    return _changed(cell, bias=bias)


_PEEPHOLES = {
    "lstm": "lstm",
    "lstm, peepholes": _changed("lstm", peepholes=list(_GATES["lstm"])),
    **{f"lstm, {gate} peephole": _changed("lstm", peepholes=[gate]) for gate in _GATES["lstm"]},
}
_MUTS = _named("rnn", "lstm_bias_0", "lstm", "gru", "mut1", "mut2", "mut3")

# Short sequences and few steps, so that 72 experiments take minutes. Without evidence and linear
# path, the cells alone read the texts.
_SCAN = {
    "selective_copy": {"length": 20, "steps": 800},
    "copy": {"length": 10, "steps": 800},
    "temporal_order": {"length": 30, "steps": 500},
    "agreement": {"steps": 300},
    "next_letter": {"steps": 200},
    "sentiment": {"evidence": 0, "linear_path": 0, "units": 32, "epochs": 2},
}

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
            Claim("without the forget gate it does worse", GREFF, "greff_vanilla", "greff_nfg"),
            Claim(
                "without the output activation it does worse",
                GREFF,
                "greff_vanilla",
                "greff_noaf",
            ),
            *(
                Claim(
                    f"without the {part} it does worse on speech and handwriting",
                    GREFF,
                    "greff_vanilla",
                    cell,
                    subjects=("next_letter", "temporal_order", "agreement"),
                )
                for part, cell in (
                    ("input gate", "greff_nig"),
                    ("output gate", "greff_nog"),
                    ("input activation", "greff_niaf"),
                )
            ),
            *(
                Claim(
                    f"music tolerates the loss of the {part}",
                    GREFF,
                    "greff_vanilla",
                    cell,
                    equal=True,
                    subjects=("jsb",),
                )
                for part, cell in (
                    ("input gate", "greff_nig"),
                    ("output gate", "greff_nog"),
                    ("input activation", "greff_niaf"),
                )
            ),
            Claim("coupled gates do as well", GREFF, "greff_vanilla", "greff_cifg", True),
            Claim("without peepholes it does as well", GREFF, "greff_vanilla", "greff_np", True),
            Claim("full gate recurrence gains nothing", GREFF, "greff_vanilla", "greff_fgr", True),
        ],
    ),
    "gates": Preset(
        "What is each gate for? Each gate removed, blind to x, and blind to h",
        _gates(),
        [
            Grid("temporal_order"),
            Grid("next_letter"),
        ],
        [
            Claim("the forget gate matters", JOZEFOWICZ, "lstm", "lstm, no forget gate"),
            Claim(
                "the forget gate matters more than the input gate",
                JOZEFOWICZ,
                "lstm, no input gate",
                "lstm, no forget gate",
            ),
            Claim(
                "the input gate matters more than the output gate",
                JOZEFOWICZ,
                "lstm, no output gate",
                "lstm, no input gate",
            ),
            Claim(
                "the output gate hardly matters", JOZEFOWICZ, "lstm", "lstm, no output gate", True
            ),
        ],
    ),
    "bias": Preset(
        "Where should gates start? Initial biases of each gate, and chrono biases",
        _biases(),
        [
            Grid("adding", {"length": 200, "steps": 1500}),
            Grid("temporal_order", {"length": 200}),
            Grid("next_letter"),
        ],
        [
            Claim(
                "a forget bias of 1 is better than 0",
                JOZEFOWICZ,
                "forget bias 1",
                "all biases 0",
            ),
            Claim("a negative forget bias hurts", JOZEFOWICZ, "all biases 0", "forget bias -2"),
            Claim(
                "an output bias of 1 helps",
                "some textbooks",
                "output bias 1",
                "all biases 0",
            ),
            Claim(
                "chrono biases are better than a forget bias of 1 where lags are long",
                TALLEC,
                "chrono",
                "forget bias 1",
                subjects=("adding", "temporal_order"),
            ),
        ],
    ),
    "peepholes": Preset(
        "What do peepholes contribute? None, all, and each alone",
        _PEEPHOLES,
        [Grid("timing", {"wait": 35}), Grid("temporal_order"), Grid("next_letter")],
        [
            Claim("peepholes count time", GERS, "lstm, peepholes", "lstm", subjects=("timing",)),
            Claim(
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
        "Are MUT1 to MUT3 better than a GRU? Three cells that were found by a search",
        _MUTS,
        [
            Grid("jsb"),
            Grid("temporal_order"),
            Grid("next_letter"),
        ],
        [
            Claim(
                "GRU is better than LSTM with a forget bias of 0", JOZEFOWICZ, "gru", "lstm_bias_0"
            ),
            Claim("a forget bias of 1 closes the gap to GRU", JOZEFOWICZ, "lstm", "gru", True),
            *(
                Claim(f"{cell.upper()} is better than GRU", JOZEFOWICZ, cell, "gru")
                for cell in ("mut1", "mut2", "mut3")
            ),
            Claim("GRU is better than a vanilla RNN", JOZEFOWICZ, "gru", "rnn"),
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
            Claim(
                "GRU is better than LSTM except for language modelling",
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
            Claim(
                "LSTM is better than GRU at language modelling",
                JOZEFOWICZ,
                "lstm",
                "gru",
                subjects=("next_letter",),
            ),
            Claim("LSTM is better than a vanilla RNN", BAI, "lstm", "rnn"),
            Claim(
                "LSTM is better than a vanilla RNN across attractors",
                LINZEN,
                "lstm",
                "rnn",
                subjects=("agreement",),
            ),
        ],
    ),
    "scan": Preset(
        "What do gates that do not see h miss? Cells computed by scan, with one and three layers",
        _named("mingru", "minlstm", "sru", "slstm", "lstm", "gru"),
        [
            Grid(subject, {**settings, "layers": layers})
            for subject, settings in _SCAN.items()
            for layers in (1, 3)
        ],
        [],
        seeds=1,
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
            Claim(
                "chrono biases remember longer than a forget bias of 1",
                TALLEC,
                "lstm, chrono",
                "lstm",
            ),
            Claim("GRU adds where LSTM does not", BAI, "gru", "lstm", subjects=("adding",)),
            Claim("a vanilla RNN learns neither; LSTM does", BAI, "lstm", "rnn"),
        ],
        seeds=2,
    ),
}
