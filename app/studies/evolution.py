"""Searches for better cells by mutation, as Jozefowicz et al. (2015) did.

    python -m app.study evolve --minutes 60

It changes specs: gates pinned, blind, biased, with peepholes or without, activations, layer
normalisation, and which equation of the family they change. It invents no equation. A child of
a good parent must first remember a little over a short way; what passes is tried on the other
probes, and its fitness is the least of what it gains there, as a share of what the better of LSTM
and GRU gains. At the end the best are run again with new seeds and twice the steps beside LSTM and
GRU, and printed as lines for CELLS in models/cells/specs.py. The same command goes on where it was.
"""

import argparse
import dataclasses
import json
import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app import cli
from app.studies import experiments
from app.studies.experiments import Experiment, Runner
from app.studies.presets import Preset
from models.cells.equations import EQUATIONS
from models.cells.specs import ACTIVATIONS, CELLS, LAYER_NORMS, CellSpec
from tasks.core.errors import UserError

# What children are tried on, the first before the others, and for how long.
TRIALS = (
    ("temporal_order", {"length": 60, "steps": 300, "evaluations": 1}),
    ("adding", {"length": 50, "steps": 600, "evaluations": 1}),
    ("next_letter", {"steps": 150, "evaluations": 1}),
)
PARENTS = ("lstm", "gru")
_PASSED = 0.5  # share of the parents' gain on the first trial that opens the others
_BROOD, _ELITE, _BEST = 4, 6, 3
_FRESH_SEEDS = (1001, 1002, 1003)
_BIASES = (-2.0, -1.0, 0.0, 1.0, 2.0, 5.0, "chrono:100", "-chrono:100", "uniform:-2,2")
_PINS = (0.5, 0.9, 1.0)


def main(argv: Sequence[str]) -> Path:
    """Searches until the minutes are spent, and judges what was found."""
    args = _parse(argv)
    with Runner(args.runs / "studies", args.jobs, lambda line: print(line, flush=True)) as bench:
        search = Search(bench, args.seed, args.units)
        while search.spent() < 60 * args.minutes:
            search.generation()
            best = search.ranked()[0]
            print(
                f"generation {search.generations}: {len(search.fitness)} cells in "
                f"{search.spent() / 60:.1f} of {args.minutes:g} min; best "
                f"{search.fitness[best]:.3f}: {best}",
                flush=True,
            )
        parents = [line(parent) for parent in _parents()]
        found = [cell for cell in search.ranked() if cell not in parents][:_BEST]
        cells = {name: name for name in PARENTS}
        for number, cell in enumerate(found, 1):
            cells[f"evolved_{number}"] = json.dumps(search.cells[cell].to_json())
        known = bench.measured(_final(cells, args.units))

    from app.studies import report

    folder = args.out or Path("studies") / "evolve"
    command = shlex.join(["python", "-m", "app.study", "evolve", *argv])
    title = f"The best of {len(search.fitness)} cells that a search by mutation tried"
    print(report.write(folder, Preset(title, cells, [], []), command, known), "", sep="\n")
    for number, cell in enumerate(found, 1):
        print(f'    "evolved_{number}": {cell},')
    print(f"\nwritten to {folder / 'index.html'}")
    return folder


def _parse(argv):
    parser = cli.Parser("python -m app.study evolve", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="of training, in all (default: %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: %(default)s)")
    parser.add_argument("--units", type=int, default=32, help="of each cell (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="points at once")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    args = parser.parse_args(argv)
    for name in ("units", "jobs"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(args, name)}.")
    if not 0 < args.minutes < math.inf or args.seed < 0:
        raise UserError(
            f"--minutes must be above 0 and --seed at least 0, got {args.minutes}, {args.seed}."
        )
    return args


class Search:
    """A search; what it does next is a function of its seed and of the records alone.

    Attributes:
        cells: Those that were tried, by their lines of Python.
        fitness: Of each: 1 is as good as the better of the parents.
        generations: How many there were.
    """

    def __init__(self, bench: Runner, seed: int, units: int):
        self._bench, self._seed, self._units = bench, seed, units
        self.cells: dict[str, CellSpec] = {}
        self.fitness: dict[str, float] = {}
        self.generations = 0
        self._seconds = 0.0
        self._chances = [
            next(iter(experiments.chance(subject, tuple(told.items())).items()))
            for subject, told in TRIALS
        ]
        parents = _parents()
        self._base = [self._gains(parents, at) for at in range(len(TRIALS))]
        for at, parent in enumerate(parents):
            self._keep(parent, min(_share(gains[at], max(gains)) for gains in self._base))

    def spent(self) -> float:
        """Seconds of training so far, by as many processes as there are."""
        return self._seconds / self._bench.jobs

    def ranked(self) -> list[str]:
        """The cells that were tried, the best first, and the first found of equals."""
        return sorted(self.fitness, key=lambda cell: -self.fitness[cell])

    def generation(self) -> None:
        """Tries some children of the best so far."""
        rng = np.random.default_rng([self._seed, self.generations])
        elite, brood = self.ranked()[:_ELITE], {}
        while len(brood) < _BROOD:
            child = mutated(self.cells[_pick(rng, elite)], rng)
            if line(child) not in self.fitness:
                brood[line(child)] = child
        least = self._shares(list(brood.values()), 0)
        passed = [at for at, share in enumerate(least) if share >= _PASSED]
        for trial in range(1, len(TRIALS)):
            shares = self._shares([list(brood.values())[at] for at in passed], trial)
            for at, share in zip(passed, shares, strict=True):
                least[at] = min(least[at], share)
        for at, child in enumerate(brood.values()):
            self._keep(child, least[at] if at in passed else 0.0)
        self.generations += 1

    def _keep(self, spec, fitness):
        self.cells[line(spec)], self.fitness[line(spec)] = spec, fitness

    def _shares(self, specs, trial):
        """What cells gain on a trial, as shares of what the better parent gains."""
        return [_share(gain, max(self._base[trial])) for gain in self._gains(specs, trial)]

    def _gains(self, specs: Sequence[CellSpec], trial: int) -> list[float]:
        """By how much cells are better than chance on a trial."""
        subject, settings = TRIALS[trial]
        told = tuple(sorted({**settings, "units": self._units}.items()))
        asked = [
            Experiment(subject, line(spec), json.dumps(spec.to_json()), self._seed, told)
            for spec in specs
        ]
        known = self._bench.measured(asked)
        self._seconds += sum(record["seconds"] for record in known.values())
        name, chance = self._chances[trial]
        sign = 1 if experiments.greater(subject) else -1
        gains = [sign * (known[point]["scores"][name] - chance) for point in asked]
        return [gain if math.isfinite(gain) else -math.inf for gain in gains]


def _parents() -> list[CellSpec]:
    return [CELLS[name] for name in PARENTS]


def _share(gain: float, best: float) -> float:
    return gain / best if best > 0 else 0.0


def _final(cells: dict[str, str], units: int) -> list[Experiment]:
    """Cells beside their parents, with new seeds and twice the steps."""
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


def mutated(spec: CellSpec, rng: np.random.Generator) -> CellSpec:
    """A cell that differs from a spec in one to three changes."""
    child = spec
    for _ in range(int(rng.integers(1, 4))):
        child = _changed(child, rng)
    return child if child != spec else mutated(spec, rng)


def _changed(spec, rng):
    """One change that makes sense for the equation; what makes none is drawn anew."""
    while True:
        told = spec.to_json()
        _CHANGES[int(rng.integers(len(_CHANGES)))](told, rng)
        try:
            return CellSpec(**told)
        except ValueError:
            continue


def _pick(rng, some):
    return some[int(rng.integers(len(some)))]


def _gate(told, rng):
    return _pick(rng, EQUATIONS[told["equation"]].gates or ("none",))


def _change_equation(told, rng):
    told["equation"] = _pick(rng, sorted(EQUATIONS))
    gates = EQUATIONS[told["equation"]].gates
    for field in ("bias", "pinned", "blind"):
        told[field] = {gate: value for gate, value in told[field].items() if gate in gates}
    told["peepholes"] = [gate for gate in told["peepholes"] if gate in gates]


def _change_bias(told, rng):
    gate, bias = _gate(told, rng), _pick(rng, _BIASES)
    told["bias"].pop(gate, None)
    told["bias"] |= {gate: bias} if bias else {}  # 0 is what a bias is that is not told


def _change_pin(told, rng):
    gate = _gate(told, rng)
    if gate in told["pinned"]:
        del told["pinned"][gate]
        return
    told["pinned"][gate] = _pick(rng, _PINS)
    for field in ("bias", "blind"):
        told[field].pop(gate, None)
    told["peepholes"] = [each for each in told["peepholes"] if each != gate]


def _change_blindness(told, rng):
    gate, sense = _gate(told, rng), _pick(rng, ("", "x", "h"))
    told["blind"].pop(gate, None)
    told["blind"] |= {gate: sense} if sense else {}


def _change_peephole(told, rng):
    told["peepholes"] = sorted({*told["peepholes"]} ^ {_gate(told, rng)})


def _change_activation(told, rng):
    told[_pick(rng, ("input_activation", "output_activation"))] = _pick(rng, ACTIVATIONS)


def _change_layer_norm(told, rng):
    told["layer_norm"] = _pick(rng, LAYER_NORMS)


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


def line(spec: CellSpec) -> str:
    """A spec as Python, for CELLS."""
    fields = dataclasses.fields(CellSpec)[1:]
    plain, told = CellSpec(spec.equation), []
    for field in fields:
        value = getattr(spec, field.name)
        if value != getattr(plain, field.name):
            told.append(f"{field.name}={value!r}")
    return f"CellSpec({', '.join([repr(spec.equation), *told])})".replace("'", '"')
