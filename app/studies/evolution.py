"""Search for better cells by mutation, as by Jozefowicz et al. (2015).

A mutation changes a spec: pinned, blind and biased gates, peepholes, activations, layer
normalisation, or which equation of the family the spec changes. No new equation is made. A
child of a good parent must first pass a short memory probe, and is then tried on other probes.
Its fitness is its smallest gain over chance on any probe, relative to the gain of the better
of LSTM and GRU. At the end the best cells are trained again with new seeds and twice the steps,
next to LSTM and GRU.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from app.studies import experiments
from app.studies.experiments import Experiment, Runner
from app.studies.presets import Preset
from models.cells.equations import EQUATIONS
from models.cells.specs import CELLS, LAYER_NORMS, CellSpec

# Probes and their settings; a cell must pass the first to be tried on the others.
TRIALS = (
    ("temporal_order", {"length": 60, "steps": 300, "evaluations": 1}),
    ("adding", {"length": 50, "steps": 600, "evaluations": 1}),
    ("next_letter", {"steps": 150, "evaluations": 1}),
)
PARENTS = ("lstm", "gru")
_PASS_SHARE = 0.5  # of the better parent's gain on the first trial
_CHILDREN, _ELITE, _BEST = 4, 6, 3
_FRESH_SEEDS = (1001, 1002, 1003)
_BIASES = (-2.0, -1.0, 0.0, 1.0, 2.0, 5.0, "chrono:100", "-chrono:100", "uniform:-2,2")
_PINS = (0.5, 0.9, 1.0)
# A search with a seed stays the same when equations and activations are added.
_EQUATIONS = ("coupled", "full", "gru", "gru_before", "janet", "leaky", "lstm", "mgu")
_EQUATIONS += ("mut1", "mut2", "mut3", "rnn")
_ACTIVATIONS = ("tanh", "relu", "identity")

_Item = TypeVar("_Item")
_Fields = dict[str, Any]  # a spec as `CellSpec.to_json` returns it


@dataclasses.dataclass(frozen=True)
class Evolved:
    """Result of a search.

    Attributes:
        study: The study of the best cells and their parents, without grids.
        records: Records of its experiments.
        best: The best cells as Python source, by their labels in the study.
    """

    study: Preset
    records: dict[Experiment, dict]
    best: dict[str, str]


def evolve(
    runner: Runner, seed: int, units: int, minutes: float, log: Callable[[str], None]
) -> Evolved:
    """Searches for better cells, and trains the best of them again.

    Args:
        runner: Runner of the experiments.
        seed: Random seed of the search and of its trials.
        units: Number of units of each cell.
        minutes: Minutes of training after which the search ends.
        log: Called with a line after each generation.
    """
    search = Search(runner, seed, units)
    while search.elapsed_seconds() < 60 * minutes:
        search.run_generation()
        leader = search.ranking()[0]
        log(
            f"generation {search.generations}: {len(search.fitness)} cells in "
            f"{search.elapsed_seconds() / 60:.1f} of {minutes:g} min; best "
            f"{search.fitness[leader]:.3f}: {leader}"
        )
    parents = [source_of(parent) for parent in _parents()]
    ranking = [source for source in search.ranking() if source not in parents]
    best = {f"evolved_{number}": source for number, source in enumerate(ranking[:_BEST], 1)}
    cells = {name: name for name in PARENTS}
    cells |= {label: json.dumps(search.cells[source].to_json()) for label, source in best.items()}
    title = f"The best of {len(search.fitness)} cells in a search by mutation"
    records = runner.run(_final_experiments(cells, units))
    return Evolved(Preset(title, cells, [], []), records, best)


class Search:
    """Search by mutation; its course depends on the seed and on the records of trials alone.

    Attributes:
        cells: Specs of the cells that were tried, by their Python source.
        fitness: Fitness of each of them; 1 equals the better parent.
        generations: Number of generations so far.
    """

    def __init__(self, runner: Runner, seed: int, units: int):
        self._runner, self._seed, self._units = runner, seed, units
        self.cells: dict[str, CellSpec] = {}
        self.fitness: dict[str, float] = {}
        self.generations = 0
        self._seconds = 0.0
        # Name of the main score, and its value without memory, by trial.
        self._chances = [
            next(iter(experiments.chance(subject, tuple(settings.items())).items()))
            for subject, settings in TRIALS
        ]
        parents = _parents()
        self._parent_gains = [self._gains(parents, trial) for trial in range(len(TRIALS))]
        for index, parent in enumerate(parents):
            shares = [_share(gains[index], max(gains)) for gains in self._parent_gains]
            self._add(parent, min(shares))

    def elapsed_seconds(self) -> float:
        """Returns the seconds of training so far, divided by the number of processes."""
        return self._seconds / self._runner.jobs

    def ranking(self) -> list[str]:
        """Returns the source of all cells, the fittest first, in order of trial if equal."""
        return sorted(self.fitness, key=lambda source: -self.fitness[source])

    def run_generation(self) -> None:
        """Tries new children of the fittest cells."""
        rng = np.random.default_rng([self._seed, self.generations])
        elite, children = self.ranking()[:_ELITE], {}
        while len(children) < _CHILDREN:
            child = mutate(self.cells[_pick(rng, elite)], rng)
            if source_of(child) not in self.fitness:
                children[source_of(child)] = child
        specs = list(children.values())
        shares = self._shares(specs, 0)
        passed = [index for index, share in enumerate(shares) if share >= _PASS_SHARE]
        for trial in range(1, len(TRIALS)):
            trial_shares = self._shares([specs[index] for index in passed], trial)
            for index, share in zip(passed, trial_shares, strict=True):
                shares[index] = min(shares[index], share)
        for index, child in enumerate(specs):
            self._add(child, shares[index] if index in passed else 0.0)
        self.generations += 1

    def _add(self, spec: CellSpec, fitness: float) -> None:
        source = source_of(spec)
        self.cells[source], self.fitness[source] = spec, fitness

    def _shares(self, specs: Sequence[CellSpec], trial: int) -> list[float]:
        """Returns the gains of cells on a trial, relative to that of the better parent."""
        best = max(self._parent_gains[trial])
        return [_share(gain, best) for gain in self._gains(specs, trial)]

    def _gains(self, specs: Sequence[CellSpec], trial: int) -> list[float]:
        """Returns by how much cells are better than chance on a trial."""
        subject, settings = TRIALS[trial]
        pairs = tuple(sorted({**settings, "units": self._units}.items()))
        trials = [
            Experiment(subject, source_of(spec), json.dumps(spec.to_json()), self._seed, pairs)
            for spec in specs
        ]
        records = self._runner.run(trials)
        self._seconds += sum(record["seconds"] for record in records.values())
        name, chance = self._chances[trial]
        sign = 1 if experiments.greater_is_better(subject, name) else -1
        gains = [sign * (records[experiment]["scores"][name] - chance) for experiment in trials]
        return [gain if math.isfinite(gain) else -math.inf for gain in gains]


def _parents() -> list[CellSpec]:
    return [CELLS[name] for name in PARENTS]


def _share(gain: float, best: float) -> float:
    return gain / best if best > 0 else 0.0


def _final_experiments(cells: dict[str, str], units: int) -> list[Experiment]:
    """Returns experiments with new seeds and twice the steps of the trials."""
    return [
        Experiment(
            subject,
            label,
            cell,
            seed,
            tuple(sorted({**settings, "steps": 2 * settings["steps"], "units": units}.items())),
        )
        for subject, settings in TRIALS
        for label, cell in cells.items()
        for seed in _FRESH_SEEDS
    ]


def mutate(spec: CellSpec, rng: np.random.Generator) -> CellSpec:
    """Returns a cell that differs from `spec` in one to three changes."""
    child = spec
    for _ in range(int(rng.integers(1, 4))):
        child = _change(child, rng)
    return child if child != spec else mutate(spec, rng)


def _change(spec: CellSpec, rng: np.random.Generator) -> CellSpec:
    """Returns a cell with one change; changes that the equation does not allow are redrawn."""
    while True:
        fields = spec.to_json()
        _CHANGES[int(rng.integers(len(_CHANGES)))](fields, rng)
        try:
            return CellSpec(**fields)
        except ValueError:
            continue


def _pick(rng: np.random.Generator, items: Sequence[_Item]) -> _Item:
    return items[int(rng.integers(len(items)))]


def _pick_gate(fields: _Fields, rng: np.random.Generator) -> str:
    return _pick(rng, EQUATIONS[fields["equation"]].gates or ("none",))


def _change_equation(fields: _Fields, rng: np.random.Generator) -> None:
    fields["equation"] = _pick(rng, _EQUATIONS)
    gates = EQUATIONS[fields["equation"]].gates
    for name in ("bias", "pinned", "blind"):
        fields[name] = {gate: value for gate, value in fields[name].items() if gate in gates}
    fields["peepholes"] = [gate for gate in fields["peepholes"] if gate in gates]


def _change_bias(fields: _Fields, rng: np.random.Generator) -> None:
    gate, bias = _pick_gate(fields, rng), _pick(rng, _BIASES)
    fields["bias"].pop(gate, None)
    if bias:  # 0 is the default
        fields["bias"][gate] = bias


def _change_pin(fields: _Fields, rng: np.random.Generator) -> None:
    gate = _pick_gate(fields, rng)
    if gate in fields["pinned"]:
        del fields["pinned"][gate]
        return
    fields["pinned"][gate] = _pick(rng, _PINS)
    for name in ("bias", "blind"):
        fields[name].pop(gate, None)
    fields["peepholes"] = [name for name in fields["peepholes"] if name != gate]


def _change_blindness(fields: _Fields, rng: np.random.Generator) -> None:
    gate, sense = _pick_gate(fields, rng), _pick(rng, ("", "x", "h"))
    fields["blind"].pop(gate, None)
    if sense:
        fields["blind"][gate] = sense


def _change_peephole(fields: _Fields, rng: np.random.Generator) -> None:
    fields["peepholes"] = sorted({*fields["peepholes"]} ^ {_pick_gate(fields, rng)})


def _change_activation(fields: _Fields, rng: np.random.Generator) -> None:
    # The value is drawn before the name: the seed of a search fixes this order.
    value = _pick(rng, _ACTIVATIONS)
    fields[_pick(rng, ("input_activation", "output_activation"))] = value


def _change_layer_norm(fields: _Fields, rng: np.random.Generator) -> None:
    fields["layer_norm"] = _pick(rng, LAYER_NORMS)


_CHANGES = (
    _change_equation,
    _change_bias,
    _change_bias,
    _change_pin,
    _change_blindness,
    _change_peephole,
    _change_activation,
    _change_layer_norm,
)


def source_of(spec: CellSpec) -> str:
    """Returns a spec as Python source, without fields that have their default."""
    plain, arguments = CellSpec(spec.equation), [repr(spec.equation)]
    for field in dataclasses.fields(CellSpec)[1:]:
        value = getattr(spec, field.name)
        if value != getattr(plain, field.name):
            arguments.append(f"{field.name}={value!r}")
    return f"CellSpec({', '.join(arguments)})".replace("'", '"')
