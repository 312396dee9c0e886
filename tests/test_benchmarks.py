"""The benchmarks of kernels and of cells fill their tables and resume; times are not checked."""

import math

import pytest
import tensorflow as tf

from benchmarks import cells, defaults, entities, kernels, ops, records, ud
from models.cells.recurrent import GatedRNN
from tasks.core.errors import UserError
from tests.app import test_joint
from tests.support import cc_runtime

DEVICE = "gpu" if tf.config.get_visible_devices("GPU") else "cpu"
TINY = ["--device", DEVICE, "--sizes", "2,3,4,5", "--repeats", "1", "--no-memory"]


def test_the_table_of_kernels_has_a_ratio_in_each_column(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "RECORDS", tmp_path)
    monkeypatch.setattr(kernels, "DISTURBED", math.inf)
    one = ["--cells", "lstm", "--directions", "forward", "--dtypes", "float32"]
    kernels.main([*TINY, *one, "--implementations", "all"])
    output = capsys.readouterr().out
    first = output.split("### ")[1]
    columns, _, *rows = (
        line.strip("| ").split(" | ") for line in first.splitlines() if line[:1] == "|"
    )
    assert columns[:4] == ["batch×time×inputs×units", "implementation", "ms", "/ Keras"]
    assert columns[-2:] == ["/ naive", "× limit"]
    assert len(rows) >= 3  # auto, and each implementation by its name
    summary = output.split("geometric means")[1]
    assert summary.count("2×3×4×5") == len(["forward", "training"]) * len(rows)
    for row in rows:
        assert len(row) == len(columns)
        assert row[0] == "2×3×4×5"
        assert all(0 <= float(cell) < math.inf for cell in row[2:])  # a ratio may round to 0.00
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(stored) == len(["forward", "training"])
    kernels.main([*TINY, *one, "--implementations", "all"])
    assert capsys.readouterr().out == output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == stored


def test_the_table_of_scan_has_multiples_of_its_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "RECORDS", tmp_path)
    kernels.main([*TINY, "--scan", "--pass", "forward"])
    lines = capsys.readouterr().out.splitlines()[:3]
    columns, _, row = (line.strip("| ").split(" | ") for line in lines)
    assert columns[2:] == [
        "minGRU by scan, ms",
        "× minGRU by loop",
        "× lstm",
        "× Keras LSTM",
        "× Keras GRU",
    ]
    assert row[0] == "forward" and row[1].startswith("2×3×4×5")
    assert all(0 <= float(cell) < math.inf for cell in row[2:])


def test_a_step_has_no_ops_where_one_op_computes_all_steps(tmp_path):
    layer = GatedRNN(64, "lstm", return_sequences=True, implementation="portable")
    version = ops.export(layer, masked=False, folder=tmp_path / "lstm")
    one_row, rows = ops.ops_per_step(version, optimized=True)  # of `ops.BATCHES`
    assert one_row == 0
    assert rows > 10


@pytest.mark.parametrize("size", ["2,3,4", "2,3,4,0", "a,b,c,d"])
def test_an_invalid_size_is_rejected(size, capsys):
    with pytest.raises(SystemExit) as stopped:
        kernels.main(["--sizes", size])
    assert stopped.value.code == 2
    assert f"must be four integers B,T,D,H of at least 1, got {size!r}" in capsys.readouterr().err


def test_every_cell_has_a_row_and_a_failed_one_is_measured_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "RECORDS", tmp_path)
    monkeypatch.setattr(cc_runtime, "compiler", lambda: "cc")
    monkeypatch.setattr(cc_runtime, "build", lambda path: path)
    measured, differences = [], {"rnn": 2e-7, "gru": None, "mgu": 1.0, "lstm": float("nan")}

    def measure(cell, epochs, units, corpus, program):
        assert (corpus / "train.jsonl").read_text().count("\n") == 400
        measured.append(cell)
        if differences[cell] is None:
            raise UserError("the loss is not finite.")
        return {"accuracy": 0.5, "parameters": 7, "seconds": 2.0, "difference": differences[cell]}

    monkeypatch.setattr(cells, "measure", measure)
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            cells.main(["--cells", *differences])
        assert stopped.value.code == "error: failed: gru, mgu, lstm"
        output = capsys.readouterr()
        assert "| rnn | 50.0 | 2 | 7 | 2e-07 |" in output.out and "| gru |" not in output.out
        assert "gru: the loss is not finite." in output.err
    assert measured == ["rnn", "gru", "mgu", "lstm", "gru"]


def rows_of(output):
    """The cells of a table by the first of each row."""
    lines = [line.strip("| ").split(" | ") for line in output.splitlines() if line[:1] == "|"]
    return {cells[0].strip(): cells[1:] for cells in lines[2:]}


def test_the_table_of_treebanks_has_the_scores_and_the_seconds_of_each_row(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(records, "RECORDS", tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    runs = []

    def train(task, folder, *flags):
        runs.append(flags)
        tags, seed = flags[3], int(flags[5])
        names = ["upos_accuracy", "ufeats_accuracy", "lemma_accuracy"]
        if tags != ud.RUNS[0]:
            names = [{"upos": "accuracy", "feats": "ufeats_accuracy"}.get(tags, "lemma_accuracy")]
        scores = dict.fromkeys(names, 0.9 + seed / 100)
        seconds = {"fit": 26.0 if tags == ud.RUNS[0] else 20.0}
        return {"scores": scores, "seconds": seconds, "epochs": 2, "parameters": 1000}

    monkeypatch.setattr(records, "train", train)
    argv = ["--data", "sequoia", "--seeds", "0,2", "--flags", "--units 4"]
    ud.main(argv)
    rows = rows_of(capsys.readouterr().out)
    score = "91.00 ± 1.41"
    assert rows["upos,feats,lemma"] == [score, score, score, "26", "1.30", "2.0", "1,000"]
    assert rows["feats"] == ["", score, "", "20", "1.00", "2.0", "1,000"]
    assert len(runs) == 8 and all(flags[-2:] == ("--units", "4") for flags in runs)
    ud.main(argv)  # measures nothing again
    ud.main(["--data", "ewt", "--show"])  # other data have other records
    assert len(runs) == 8
    assert "not run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_joint_network_is_trained_on_a_treebank(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    folder = tmp_path / "tagging/en_ewt"
    folder.mkdir(parents=True)
    for part, count in (("train", 40), ("valid", 10), ("test", 10)):
        test_joint.write(folder, part, count)
    flags = "--units 4 --embedding 4 --characters 0 --layers 1 --epochs 1 --cell rnn"
    ud.main(["--only", "upos,feats,lemma", "--flags", flags])
    rows = rows_of(capfd.readouterr().out)
    assert list(rows) == list(ud.RUNS)
    assert all(0 <= float(cell) <= 100 for cell in rows["upos,feats,lemma"][:3])
    assert rows["lemma"][0] == "not run"


def test_the_tables_of_entities_have_scores_and_costs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(records, "RECORDS", tmp_path)

    def measure(flags, seed):
        f1 = 0.5 + seed / 10 if "--no-constrain" in flags else 0.75
        return {"scores": dict.fromkeys(entities.SCORES, f1)}

    costs = {"1": dict.fromkeys(entities.SIGNATURES, 2.5)}
    monkeypatch.setattr(entities, "measure", measure)
    monkeypatch.setattr(entities, "measure_costs", lambda repeats: costs)
    entities.main(["--only", "CRF", "--seeds", "2"])
    assert "not run" in capsys.readouterr().out
    entities.main(["--seeds", "2"])
    scores, costs = capsys.readouterr().out.split("Test part")
    rows = rows_of(scores)
    assert list(rows) == list(entities.RUNS)
    assert rows["CRF"] == ["55.0 ± 7.1"] * 4
    assert rows["CRF, constrained"][2] == "75.0 ± 0.0"
    assert rows_of(costs) == {"1": ["2.50"] * 3}


@pytest.mark.slow
def test_each_signature_has_a_cost(monkeypatch):
    monkeypatch.setattr(entities, "SENTENCES", 4)
    monkeypatch.setattr(entities, "BATCHES", (2,))
    costs = entities.measure_costs(repeats=1)
    assert list(costs) == ["2"] and list(costs["2"]) == list(entities.SIGNATURES)
    assert min(costs["2"].values()) > 0


def test_the_table_of_defaults_compares_fixed_and_automatic_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records, "RECORDS", tmp_path)
    runs = []

    def measure(corpus, flags, seed):
        runs.append((corpus.examples, flags))
        config = {"batch_tokens": 640 if flags else 128, "epochs": 12, "patience": 3}
        scores = {"accuracy": 0.8 if flags else 0.9}
        return {"scores": scores, "config": config, "seconds": {"fit": 60}}

    monkeypatch.setattr(defaults, "measure", measure)
    defaults.main(["--only", "ewt-200"])
    table = capsys.readouterr().out
    assert "| ewt-200 | 200 | 80.00 | 640, 12, 3 | 1.0 | 90.00 | 128, 12, 3 | 1.0 |" in table
    assert table.count("not run") == 2 * (len(defaults.CORPORA) - 1)
    defaults.main(["--show"])
    fixed = defaults.FIXED["tagging"]
    assert capsys.readouterr().out == table and runs == [(200, fixed), (200, [])]
