"""Studies: every point is measured once, whatever happens, and told as it was."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tasks
from app import study
from app.studies import evolution, experiments, presets, probe_training, report
from app.studies.experiments import Experiment
from app.studies.presets import PRESETS, Finding
from app.training import pipeline
from models.cells import specs
from models.cells.specs import CELLS, CellSpec
from tasks import probes
from tasks.core.errors import UserError

SMALL = ["timing", "--cells", "lstm", "rnn", "--wait", "2", "--units", "3", "--steps", "4"]
SMALL += ["--evaluations", "2", "--batch", "8", "--seeds", "2", "--jobs", "1"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study that was killed after its first point, and then run to its end."""
    folder = tmp_path_factory.mktemp("study")
    argv = [*SMALL, "--runs", str(folder / "runs"), "--out", str(folder / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "app.study", *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    records = folder / "runs" / "studies"
    try:
        for _ in range(600):
            if list(records.glob("*.json")) or process.poll() is not None:
                break
            time.sleep(0.1)
        process.kill()
        process.wait()
        for _ in range(300):
            if not _lives(process.pid):
                break
            time.sleep(0.1)
        assert not _lives(process.pid)  # those that measure end with the study
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    kept = {path.name: path.read_bytes() for path in records.glob("*.json")}
    assert kept
    study.main(argv)
    return folder, argv, kept


def _lives(group):
    """Whether a process of a group is there that has not ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_study_that_was_killed_goes_on_and_measures_nothing_twice(studied, capsys):
    folder, argv, kept = studied
    records = folder / "runs" / "studies"
    assert len(list(records.glob("*.json"))) == 4
    for name, content in kept.items():
        assert (records / name).read_bytes() == content
    study.main(argv)
    assert "to be measured" not in capsys.readouterr().out


def test_its_table_has_the_mean_and_spread_of_what_was_measured(studied):
    folder, _, _ = studied
    found = [json.loads(p.read_text()) for p in (folder / "runs" / "studies").glob("*.json")]
    with (folder / "out" / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == ["lstm", "rnn"]
    for row in rows:
        values = [r["scores"]["accuracy"] for r in found if r["point"]["label"] == row["cell"]]
        assert len(values) == 2 and float(row["value"]) == pytest.approx(np.mean(values))
        assert float(row["spread"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        model = probe_training.network(
            *probe_training.of_settings("timing", {"cell": row["cell"], "units": 3})
        )
        assert int(row["parameters"]) == model.count_params()


def test_its_page_opens_without_a_network(studied):
    folder, argv, _ = studied
    page = (folder / "out" / "index.html").read_text(encoding="utf-8")
    assert " ".join(argv[:4]) in page and "<svg" in page
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    pictures = {path.name: path.read_bytes() for path in (folder / "out").glob("*.png")}
    assert len(pictures) == 2 and "overview.png" in pictures
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())


def test_a_point_is_one_whatever_it_is_called():
    first = Experiment("adding", "lstm", "lstm", 0, (("length", 5),))
    same = Experiment("adding", "mine", json.dumps(CELLS["lstm"].to_json()), 0, (("length", 5),))
    assert first.identity == same.identity
    for other in (
        Experiment("adding", "lstm", "lstm", 1, (("length", 5),)),
        Experiment("adding", "lstm", "lstm", 0, (("length", 6),)),
        Experiment("copy", "lstm", "lstm", 0, (("length", 5),)),
        Experiment("adding", "lstm", "gru", 0, (("length", 5),)),
    ):
        assert other.identity != first.identity


def test_training_on_a_probe_is_a_function_of_its_seed_and_learns():
    told = {"wait": 1, "units": 8, "steps": 60, "evaluations": 2, "batch": 32}
    found = [
        probe_training.measure(*probe_training.of_settings("timing", {**told, "seed": seed}))
        for seed in (0, 0, 1)
    ]
    assert found[0]["history"] == found[1]["history"] != found[2]["history"]
    assert [look["steps"] for look in found[0]["history"]] == [30, 60]
    assert found[0]["history"][1]["loss"] < found[0]["history"][0]["loss"]
    assert found[0]["scores"]["accuracy"] > 0.5


def test_a_loss_that_is_no_number_is_recorded_as_such():
    told = {
        "length": 4,
        "units": 4,
        "steps": 30,
        "evaluations": 3,
        "learning_rate": 1e30,
        "clip_norm": 0.0,
    }
    found = probe_training.measure(
        *probe_training.of_settings("adding", {**told, "cell": "rnn_identity"})
    )
    assert np.isnan(found["scores"]["squared_error"])


def test_a_task_is_measured_by_the_pipeline_of_training(tmp_path, monkeypatch):
    calls = []

    def train(task, config, corpus, options):
        calls.append((task, config, corpus))
        version = options.saved_models / "sentiment" / "1"
        (version / "assets.extra").mkdir(parents=True)
        record = {"scores": {"accuracy": 0.5}, "parameters": 7, "seconds": {"fit": 3.0}}
        (version / "assets.extra" / "run.json").write_text(json.dumps(record))
        return version

    monkeypatch.setattr(pipeline, "train", train)
    point = Experiment("sentiment", "gru", "gru", 4, (("clip_norm", 2.0), ("data", "folder")))
    record = experiments._measure(point, tmp_path)
    assert record["scores"] == {"accuracy": 0.5} and record["seconds"] == 3.0
    task = tasks.find("sentiment")
    config = task.Config(cell="gru", seed=4, clip_norm=2.0)
    assert calls == [("sentiment", config, task.Corpus(data="folder"))]


# --- Presets -----------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_asks_of_its_cells_what_can_be_asked(name):
    preset = PRESETS[name]
    for cell in preset.cells.values():
        specs.find(cell)
    asked = preset.points(1, {})
    experiments.check(asked)
    subjects = {grid.subject for grid in preset.grids}
    assert {point.subject for point in asked} == subjects - set(presets.NEED_DATA)
    for finding in preset.findings:
        assert {finding.first, finding.second} <= set(preset.cells), finding
        assert set(finding.subjects) <= subjects, finding


def test_gates_are_removed_and_blinded_one_at_a_time():
    cells = PRESETS["gates"].cells
    assert len(cells) == 3 + 3 * (3 + 2)
    for label, cell in cells.items():
        spec = specs.find(cell)
        if "no " in label:
            assert list(spec.pinned) == [label.split()[2]] and not spec.blind
        elif "blind" in label:
            _, gate, *_, sense = label.split()
            assert spec.blind == {gate: sense} and not spec.pinned


def _told(label, values):
    records = [{"scores": {"accuracy": v}, "parameters": 1, "seconds": 1.0} for v in values]
    return {
        Experiment("timing", label, "lstm", seed): record for seed, record in enumerate(records)
    }


@pytest.mark.parametrize(
    ("first", "second", "alike", "found"),
    [
        ([0.9, 0.92, 0.91], [0.5, 0.55, 0.6], False, "seen"),
        ([0.5, 0.55, 0.6], [0.9, 0.92, 0.91], False, "the contrary"),
        ([0.9, 0.5, 0.7], [0.8, 0.6, 0.65], False, "no difference"),
        ([0.9, 0.5, 0.7], [0.8, 0.6, 0.65], True, "seen: no difference"),
        ([0.9, 0.92, 0.91], [0.5, 0.55, 0.6], True, "a is better"),
        ([0.25, 0.25, 0.25], [0.25, 0.2, 0.25], False, "neither learns it"),
        ([0.9, 0.9, float("nan")], [0.5, 0.55, 0.6], False, "a diverged"),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], False, "no difference"),
    ],
)
def test_a_claim_is_held_against_its_standard_error(first, second, alike, found):
    some = report.groups({**_told("a", first), **_told("b", second)})
    claim = Finding("a is better than b", "nobody", "a", "b", alike)
    chances = {where: {"accuracy": 0.25} for where in some}
    ((*_, told),) = report.findings([claim], some, chances)
    assert told == found


# --- The command line --------------------------------------------------------


def test_every_combination_of_what_is_told_is_a_point():
    args = study._parse(["adding", "--cells", "lstm", "gru", "--length", "5", "6", "--units", "3"])
    asked = study._grid(args)
    assert len(asked) == len(set(asked)) == 2 * 2 * 3
    assert {dict(point.settings)["length"] for point in asked} == {5, 6}
    assert {point.label for point in asked} == {"lstm", "gru"}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["adding", "--cells", "lstmm"], "--cells: cell must be one of"),
        (["adding", "--length", "1"], "--length must be at least 2, got 1"),
        (["adding", "--learning-rate", "-1"], "--learning-rate must be at least 0"),
        (["adding", "--seeds", "0"], "--seeds and --jobs must be at least 1"),
        (["greff", "--data", "jsb"], "--data must be NAME=PATH"),
        (["greff", "--data", "jsb=nowhere"], "nowhere is not there"),
        (["jsb"], "jsb requires --data"),
        (["sentiment", "--units", "0"], "--units must be at least 1"),
        (["evolve", "--minutes", "0"], "--minutes must be above 0"),
    ],
)
def test_what_cannot_be_studied_is_told_before_anything_is(tmp_path, argv, says):
    with pytest.raises(UserError) as error:
        study.main([*argv, "--runs", str(tmp_path / "runs")])
    assert says in str(error.value)
    assert not list(tmp_path.rglob("*.json"))


def test_every_task_and_probe_can_be_studied(capsys):
    for name in (*tasks.names(), *probes.names(), *PRESETS):
        with pytest.raises(SystemExit) as ended:
            study.main([name, "--help"])
        assert ended.value.code == 0 and "--seeds" in capsys.readouterr().out


# --- Evolution ---------------------------------------------------------------


def test_mutants_are_other_cells_and_their_lines_give_them_again():
    rng = np.random.default_rng(0)
    found = [CELLS["lstm"], CELLS["gru"]]
    for at in range(300):
        parent = found[at]
        child = evolution.mutated(parent, rng)
        assert child != parent
        assert eval(evolution.line(child), {"CellSpec": CellSpec}) == child
        assert 0.0 not in child.bias.values() or 0.0 in parent.bias.values()  # no other cell
        found += [child]
    assert len({spec.equation for spec in found}) > 8
    for field in ("pinned", "blind", "peepholes", "bias"):
        assert any(getattr(spec, field) for spec in found[2:])


class Runner:
    """Measures by a rule: what has more biases is better, and what has pins learns nothing."""

    jobs = 2

    def __init__(self):
        self.asked = []

    def measured(self, some):
        self.asked += some
        return {point: self._record(point) for point in some}

    def _record(self, point):
        spec = specs.find(point.cell)
        score = 0.25 if spec.pinned else min(1.0, 0.5 + 0.1 * len(spec.bias))
        names = {"adding": "squared_error", "next_letter": "bits", "temporal_order": "accuracy"}
        less = {"adding": 1 / 6 - score / 10, "next_letter": 4.0 - score}
        value = less.get(point.subject, score)
        return {"scores": {names[point.subject]: value}, "seconds": 10.0, "parameters": 1}


def test_a_search_keeps_what_is_good_and_is_a_function_of_its_seed(monkeypatch):
    def searched(seed, generations):
        bench = Runner()
        search = evolution.Search(bench, seed, 4)
        for _ in range(generations):
            search.generation()
        return search, bench

    search, bench = searched(3, 12)
    again, _ = searched(3, 12)
    assert search.fitness == again.fitness and search.generations == 12
    assert searched(4, 12)[0].fitness != search.fitness
    assert search.spent() == 10.0 * len(bench.asked) / 2
    assert len(search.fitness) == 2 + 12 * 4
    best = search.cells[search.ranked()[0]]
    assert len(best.bias) >= 2 and not best.pinned
    for cell, fitness in search.fitness.items():
        if search.cells[cell].pinned:
            assert fitness == 0.0
            subjects = {p.subject for p in bench.asked if p.label == cell}
            assert subjects == {evolution.TRIALS[0][0]}  # it never came to the others
