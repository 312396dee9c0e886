"""The benchmarks of kernels and of cells fill their tables and resume; times are not checked."""

import math

import pytest
import tensorflow as tf

from benchmarks import cells, kernels, records
from tasks.core.errors import UserError
from tests.support import cc_runtime

DEVICE = "gpu" if tf.config.get_visible_devices("GPU") else "cpu"
TINY = ["--device", DEVICE, "--sizes", "2,3,4,5", "--repeats", "1", "--no-memory"]


def test_the_table_of_kernels_has_a_positive_ratio_in_each_column(tmp_path, monkeypatch, capsys):
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
        assert all(float(cell) > 0 for cell in row[2:])
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
    assert all(float(cell) > 0 for cell in row[2:])


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
