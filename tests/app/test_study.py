"""Studies: each experiment runs once, and the page reports its scores."""

import concurrent.futures
import contextlib
import csv
import functools
import io
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
from app.studies import evolution, experiments, presets, probe_settings, probe_training, report
from app.studies.experiments import Experiment
from app.studies.presets import PRESETS, Claim
from app.training import pipeline
from models.cells import specs
from models.cells.specs import CELLS, CellSpec
from models.cells.tree import GatedTree
from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import flag

SMALL = ["timing", "--cells", "lstm", "rnn", "--wait", "2", "--units", "3", "--steps", "4"]
SMALL += ["--evaluations", "2", "--batch", "8", "--seeds", "2", "--jobs", "1"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study that was killed after its first experiment, and then run to its end."""
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
        assert not _lives(process.pid)  # its worker processes end with it
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    first = {path.name: path.read_bytes() for path in records.glob("*.json")}
    assert first
    study.main(argv)
    return folder, argv, first


def _lives(group):
    """Returns whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_study_resumes_and_repeats_no_experiment(studied, capsys):
    folder, argv, first = studied
    records = folder / "runs" / "studies"
    assert len(list(records.glob("*.json"))) == 4
    for name, content in first.items():
        assert (records / name).read_bytes() == content
    study.main(argv)
    assert "experiments to run" not in capsys.readouterr().out


def test_the_table_has_the_mean_and_spread_of_the_records(studied):
    folder, _, _ = studied
    records = [json.loads(p.read_text()) for p in (folder / "runs" / "studies").glob("*.json")]
    with (folder / "out" / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["cell"] for row in rows] == ["lstm", "rnn"]
    for row in rows:
        values = [r["scores"]["accuracy"] for r in records if r["point"]["label"] == row["cell"]]
        assert len(values) == 2 and float(row["value"]) == pytest.approx(np.mean(values))
        assert float(row["spread"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        model = probe_training.network(
            *probe_settings.of_settings("timing", {"cell": row["cell"], "units": 3})
        )
        assert int(row["parameters"]) == model.count_params()


def test_the_page_is_self_contained(studied):
    folder, argv, _ = studied
    page = (folder / "out" / "index.html").read_text(encoding="utf-8")
    assert " ".join(argv[:4]) in page and "<svg" in page
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    pictures = {path.name: path.read_bytes() for path in (folder / "out").glob("*.png")}
    assert len(pictures) == 3 and "overview.png" in pictures
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())


def test_the_identity_depends_on_everything_but_the_label():
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


def test_the_identity_depends_on_the_content_of_the_data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "train.tsv"
    file.write_text("warm\tgood\n", encoding="utf-8")

    def identities():
        pattern = str(folder / "*.tsv")
        values = [("data", str(folder)), ("train", str(file)), ("data", pattern)]
        settings = [(each,) for each in (*values, ("data", "sample"))]
        return [Experiment("sentiment", "lstm", "lstm", 0, each).identity for each in settings]

    first = identities()
    os.utime(file, (1, 1))
    assert identities() == first
    file.write_text("cold\tgood\n", encoding="utf-8")
    assert [a == b for a, b in zip(identities(), first, strict=True)] == [
        False,
        False,
        False,
        True,
    ]
    other = [Experiment("sentiment", "gru", "gru", 0, (("data", str(folder)),)).identity]
    file.rename(folder / "test.tsv")
    assert Experiment("sentiment", "gru", "gru", 0, (("data", str(folder)),)).identity not in other


def test_one_cell_under_two_names_is_trained_once(tmp_path, monkeypatch):
    measured = []

    class Pool:
        def submit(self, measure, experiment, folder):
            measured.append(experiment)
            future = concurrent.futures.Future()
            future.set_result({"scores": {"accuracy": 0.5}, "parameters": 1, "seconds": 1.0})
            return future

    monkeypatch.setattr(experiments.Runner, "_processes", lambda self: Pool())
    planned = [
        Experiment("adding", name, json.dumps(CELLS["lstm"].to_json()), 0) for name in ("a", "b")
    ]
    with experiments.Runner(tmp_path, 1, lambda line: None) as runner:
        records = runner.run(planned)
    assert len(measured) == 1 and [records[e]["scores"]["accuracy"] for e in planned] == [0.5, 0.5]


def test_training_on_a_probe_depends_on_its_seed_alone_and_learns():
    settings = {"wait": 1, "units": 8, "steps": 60, "evaluations": 2, "batch": 32}
    results = [
        probe_training.measure(*probe_settings.of_settings("timing", {**settings, "seed": seed}))
        for seed in (0, 0, 1)
    ]
    assert results[0]["history"] == results[1]["history"] != results[2]["history"]
    assert [entry["steps"] for entry in results[0]["history"]] == [30, 60]
    assert results[0]["history"][1]["loss"] < results[0]["history"][0]["loss"]
    assert results[0]["scores"]["accuracy"] > 0.5


def test_trees_are_trained_on_the_examples_of_sequences():
    settings = {"depth": 1, "units": 8, "steps": 3, "evaluations": 1, "batch": 4}
    read = {}
    for tree in (False, True):
        probe, config = probe_settings.of_settings("listops", {**settings, "tree": tree})
        read[tree] = next(iter(probe_training.batches(probe, config)))
        network = probe_training.network(probe, config)
        assert any(isinstance(layer, GatedTree) for layer in network.layers) == tree
        outputs = probe_training.outputs(
            network, probe_training.network_inputs(probe, config, probe.test().inputs)
        )
        assert outputs.shape == (1800, 10)
    nodes, parents = probe.trees(read[False][0].numpy())
    np.testing.assert_array_equal(read[True][0][0], nodes)
    np.testing.assert_array_equal(read[True][0][1], parents)
    np.testing.assert_array_equal(read[True][1], read[False][1])
    assert probe_training.measure(probe, config)["scores"]["accuracy"] > 0


@pytest.mark.parametrize(
    ("name", "cell", "message"),
    [
        ("adding", "lstm", "--tree needs a probe with trees, one of ['listops'], got 'adding'."),
        ("listops", "lstm_zoneout", "--tree needs a cell without zoneout and recurrent dropout"),
    ],
)
def test_trees_that_cannot_be_read_are_rejected(name, cell, message):
    with pytest.raises(UserError) as error:
        probe_settings.of_settings(name, {"tree": True, "cell": cell})
    assert message in str(error.value)


def test_a_non_finite_loss_is_recorded_as_nan():
    settings = {
        "length": 4,
        "units": 4,
        "steps": 30,
        "evaluations": 3,
        "learning_rate": 1e30,
        "clip_norm": 0.0,
    }
    result = probe_training.measure(
        *probe_settings.of_settings("adding", {**settings, "cell": "rnn_identity"})
    )
    assert np.isnan(result["scores"]["squared_error"])


def test_a_task_is_trained_by_the_pipeline(tmp_path, monkeypatch):
    calls = []

    def train(task, config, corpus, options):
        calls.append((task, config, corpus))
        version = options.saved_models / "sentiment" / "1"
        (version / "assets.extra").mkdir(parents=True)
        record = {"scores": {"accuracy": 0.5}, "parameters": 7, "seconds": {"fit": 3.0}}
        (version / "assets.extra" / "run.json").write_text(json.dumps(record))
        return version

    monkeypatch.setattr(pipeline, "train", train)
    settings = (("clip_norm", 2.0), ("data", "folder"))
    record = experiments._measure(Experiment("sentiment", "gru", "gru", 4, settings), tmp_path)
    assert record["scores"] == {"accuracy": 0.5} and record["seconds"] == 3.0
    task = tasks.find("sentiment")
    config = task.Config(cell="gru", seed=4, clip_norm=2.0)
    assert calls == [("sentiment", config, task.Corpus(data="folder"))]


def test_a_process_that_is_ended_is_an_error_without_a_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "_start_worker", os._exit)
    planned = [Experiment("sentiment", "gru", "gru", 0, (("units", 4),))]
    message = r"process of the study was killed.* --jobs"
    with experiments.Runner(tmp_path, 1, print) as runner, pytest.raises(UserError, match=message):
        runner.run(planned)


# --- Presets -----------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_the_experiments_and_claims_of_a_preset_are_valid(name):
    preset = PRESETS[name]
    for cell in preset.cells.values():
        specs.find(cell)
    planned = preset.experiments(1, {})
    experiments.check(planned)
    subjects = {grid.subject for grid in preset.grids}
    assert {experiment.subject for experiment in planned} == subjects - set(presets.NEED_DATA)
    for claim in preset.claims:
        assert {claim.first, claim.second} <= set(preset.cells), claim
        assert set(claim.subjects) <= subjects, claim


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


def _records(label, values):
    records = [{"scores": {"accuracy": v}, "parameters": 1, "seconds": 1.0} for v in values]
    return {
        Experiment("timing", label, "lstm", seed): record for seed, record in enumerate(records)
    }


@pytest.mark.parametrize(
    ("first", "second", "equal", "expected"),
    [
        ([0.9, 0.92, 0.91], [0.5, 0.55, 0.6], False, "confirmed"),
        ([0.5, 0.55, 0.6], [0.9, 0.92, 0.91], False, "contradicted"),
        ([0.9, 0.5, 0.7], [0.8, 0.6, 0.65], False, "no difference"),
        ([0.9, 0.5, 0.7], [0.8, 0.6, 0.65], True, "confirmed: no difference"),
        ([0.9, 0.92, 0.91], [0.5, 0.55, 0.6], True, "a is better"),
        ([0.25, 0.25, 0.25], [0.25, 0.2, 0.25], False, "neither learns it"),
        ([0.9, 0.9, float("nan")], [0.5, 0.55, 0.6], False, "a diverged"),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], False, "no difference"),
    ],
)
def test_a_claim_is_compared_with_two_standard_errors(first, second, equal, expected):
    comparisons = report.compare({**_records("a", first), **_records("b", second)})
    assert comparisons[0].chance == {"accuracy": 0.25}
    claim = Claim("a is better than b", "nobody", "a", "b", equal)
    ((*_, result),) = report.check_claims([claim], comparisons)
    assert result == expected


def test_all_subjects_are_summarised_with_the_settings_that_differ():
    records = {}
    for subject, score, settings in (
        ("timing", "accuracy", {"layers": 1, "wait": 3}),
        ("timing", "accuracy", {"layers": 3, "wait": 3}),
        ("copy", "cross_entropy", {"layers": 1}),
        ("copy", "cross_entropy", {"layers": 3}),
        ("sentiment", "accuracy", {"layers": 1}),
    ):
        for seed, value in enumerate((0.5, 0.7)):
            pairs = tuple(sorted(settings.items()))
            records[Experiment(subject, "lstm", "lstm", seed, pairs)] = {
                "scores": {score: value + settings["layers"]},
                "parameters": 1,
                "seconds": 9.0,
                **({"cpu_seconds": 2.0} if subject != "sentiment" else {}),
            }
    table = report.summary(report.compare(records))
    assert table.columns == [
        "cell",
        "layers",
        "timing, accuracy",
        "copy, cross entropy (smaller is better)",
        "sentiment, accuracy",
        "processor seconds, probes",
    ]
    one, three, chance = table.rows
    assert one == ["lstm", "1", *[pytest.approx(1.6)] * 3, "4"]
    assert three == ["lstm", "3", *[pytest.approx(3.6)] * 2, "", ""]
    assert chance[:3] == ["without memory", "", 0.25] and chance[4:] == ["", ""]
    only_copy = {e: record for e, record in records.items() if e.subject == "copy"}
    assert not report._has_summary(report.compare(only_copy))


@pytest.mark.parametrize(
    ("subject", "score", "sign"),
    [
        ("sentiment", "accuracy", 1),
        ("sentiment", "mean_absolute_error", -1),
        ("language_model", "perplexity", -1),
        ("adding", "squared_error", -1),
        ("timing", "accuracy", 1),
    ],
)
def test_the_better_end_of_a_score_is_that_of_its_name_or_its_probe(subject, score, sign):
    record = {"scores": {score: 0.5}, "parameters": 1, "seconds": 9.0}
    (comparison,) = report.compare({Experiment(subject, "lstm", "lstm", 0, ()): record})
    assert comparison.sign == sign


def test_subjects_of_a_preset_are_selected(tmp_path, monkeypatch, capsys):
    planned = []
    monkeypatch.setattr(experiments.Runner, "run", lambda self, e: planned.extend(e) or {})
    monkeypatch.setattr(report, "write", lambda *args: "")
    folders = ["--runs", str(tmp_path), "--out", str(tmp_path)]
    study.main(["lstm-gru", "--subjects", "timing", "adding", "--seeds", "1", *folders])
    assert {experiment.subject for experiment in planned} == {"timing", "adding"}
    assert "skipped" not in capsys.readouterr().out
    study.main(["lstm-gru", "--subjects", "timing", "jsb", "--seeds", "1", *folders])
    assert "jsb is skipped" in capsys.readouterr().out


# --- The command line --------------------------------------------------------


def test_every_combination_of_values_is_an_experiment():
    args = study._parse(["adding", "--cells", "lstm", "gru", "--length", "5", "6", "--units", "3"])
    planned = study._grid(args)
    assert len(planned) == len(set(planned)) == 2 * 2 * 3
    assert {dict(experiment.settings)["length"] for experiment in planned} == {5, 6}
    assert {experiment.label for experiment in planned} == {"lstm", "gru"}
    biases = ['{"equation": "lstm", "bias": {"forget": 1.0}}', '{"equation": "lstm", "bias": 1.5}']
    biases[1] = biases[0].replace("1.0", "1.5")
    planned = study._grid(study._parse(["adding", "--seeds", "1", "--cells", *biases]))
    assert [experiment.label for experiment in planned] == biases


@pytest.mark.parametrize("name", tasks.names())
def test_every_automatic_setting_takes_values_and_auto(name):
    for field in study._fields(name):
        if field.default is None:
            kind = study._kind(field)
            word, value = {bool: ("yes", True), int: ("3", 3), str: ("cosine", "cosine")}[kind]
            if kind is str and field.name == "monitor":
                word = value = "loss"
            args = study._parse([name, flag(field.name), word, "auto"])
            assert getattr(args, field.name) == [value, None], field.name
            assert "default: auto" in study_help(name)


@functools.cache
def study_help(name):
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        study.main([name, "--help"])
    return output.getvalue()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["adding", "--cells", "lstmm"], "--cells: cell must be one of"),
        (["adding", "--cells", "gru", "gru"], "--cells must be different cells, got gru twice"),
        (["adding", "--length", "1"], "--length must be at least 2, got 1"),
        (["adding", "--learning-rate", "-1"], "--learning-rate must be at least 0"),
        (["adding", "--seeds", "0"], "--seeds must be at least 1 and at most"),
        (["greff", "--data", "jsb"], "--data must be NAME=PATH"),
        (["greff", "--data", "jsb=nowhere"], "nowhere does not exist"),
        (["jsb"], "jsb requires --data"),
        (["sentiment", "--units", "0"], "--units must be at least 1"),
        (["evolve", "--minutes", "0"], "--minutes must be above 0"),
    ],
)
def test_invalid_studies_are_rejected_before_any_training(tmp_path, argv, message):
    with pytest.raises(UserError) as error:
        study.main([*argv, "--runs", str(tmp_path / "runs")])
    assert message in str(error.value)
    assert not list(tmp_path.rglob("*.json"))


def test_every_task_and_probe_can_be_studied(capsys):
    for name in (*tasks.names(), *probes.names(), *PRESETS):
        with pytest.raises(SystemExit) as ended:
            study.main([name, "--help"])
        assert ended.value.code == 0 and "--seeds" in capsys.readouterr().out


# --- Evolution ---------------------------------------------------------------


def test_mutants_differ_from_their_parents_and_equal_their_source():
    rng = np.random.default_rng(0)
    cells = [CELLS["lstm"], CELLS["gru"]]
    for index in range(300):
        parent = cells[index]
        child = evolution.mutate(parent, rng)
        assert child != parent
        assert eval(evolution.source_of(child), {"CellSpec": CellSpec}) == child
        assert 0.0 not in child.bias.values() or 0.0 in parent.bias.values()  # the default
        cells += [child]
    assert len({spec.equation for spec in cells}) > 8
    for field in ("pinned", "blind", "peepholes", "bias"):
        assert any(getattr(spec, field) for spec in cells[2:])


class Runner:
    """Scores cells by a rule: more biases are better, and cells with pins learn nothing."""

    jobs = 2

    def __init__(self):
        self.experiments = []

    def run(self, experiments):
        self.experiments += experiments
        return {experiment: self._record(experiment) for experiment in experiments}

    def _record(self, experiment):
        spec = specs.find(experiment.cell)
        score = 0.25 if spec.pinned else min(1.0, 0.5 + 0.1 * len(spec.bias))
        names = {"adding": "squared_error", "next_letter": "bits", "temporal_order": "accuracy"}
        less = {"adding": 1 / 6 - score / 10, "next_letter": 4.0 - score}
        value = less.get(experiment.subject, score)
        return {"scores": {names[experiment.subject]: value}, "seconds": 10.0, "parameters": 1}


def test_a_search_prefers_fit_cells_and_depends_on_its_seed_alone():
    def search_for(seed, generations):
        runner = Runner()
        search = evolution.Search(runner, seed, 4)
        for _ in range(generations):
            search.run_generation()
        return search, runner

    search, runner = search_for(3, 12)
    again, _ = search_for(3, 12)
    assert search.fitness == again.fitness and search.generations == 12
    assert search_for(4, 12)[0].fitness != search.fitness
    assert search.elapsed_seconds() == 10.0 * len(runner.experiments) / 2
    assert len(search.fitness) == 2 + 12 * 4
    best = search.cells[search.ranking()[0]]
    assert len(best.bias) >= 2 and not best.pinned
    for source, fitness in search.fitness.items():
        if search.cells[source].pinned:
            assert fitness == 0.0
            subjects = {e.subject for e in runner.experiments if e.label == source}
            assert subjects == {evolution.TRIALS[0][0]}  # it failed the first trial


def test_the_best_cells_are_trained_again_next_to_their_parents():
    lines = []
    result = evolution.evolve(Runner(), seed=3, units=4, minutes=1.0, log=lines.append)
    assert lines[0].startswith("generation 1: 6 cells in ")
    assert list(result.best) == ["evolved_1", "evolved_2", "evolved_3"]
    assert list(result.study.cells) == [*evolution.PARENTS, *result.best]
    assert len(result.records) == len(result.study.cells) * len(evolution.TRIALS) * 3
    assert {experiment.label for experiment in result.records} == set(result.study.cells)
    for label, source in result.best.items():
        spec = eval(source, {"CellSpec": CellSpec})
        assert specs.find(result.study.cells[label]) == spec


def test_evolve_writes_a_page_and_prints_lines_for_cells(tmp_path, monkeypatch, capsys):
    class FakeRunner(Runner):
        def __init__(self, folder, jobs, log):
            super().__init__()

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(study, "Runner", FakeRunner)
    folder = study.main(["evolve", "--minutes", "1", "--out", str(tmp_path / "out")])
    assert (folder / "index.html").is_file() and (folder / "results.csv").is_file()
    printed = capsys.readouterr().out
    assert '    "evolved_1": CellSpec(' in printed and str(folder / "index.html") in printed
