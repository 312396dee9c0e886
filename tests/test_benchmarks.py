"""The benchmark of kernels runs and fills its table; no time is judged."""

import math

import pytest
import tensorflow as tf

from benchmarks import kernels, results

DEVICE = "gpu" if tf.config.get_visible_devices("GPU") else "cpu"
TINY = ["--device", DEVICE, "--sizes", "2,3,4,5", "--repeats", "1", "--no-memory"]


def test_the_table_of_kernels_has_a_positive_ratio_in_each_column(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    monkeypatch.setattr(kernels, "DISTURBED", math.inf)
    one = ["--cells", "lstm", "--directions", "forward", "--dtypes", "float32"]
    kernels.main([*TINY, *one, "--implementations", "all"])
    told = capsys.readouterr().out
    first = told.split("### ")[1]
    columns, _, *lines = (
        line.strip("| ").split(" | ") for line in first.splitlines() if line[:1] == "|"
    )
    assert columns[:4] == ["batch×time×inputs×units", "implementation", "ms", "/ Keras"]
    assert columns[-2:] == ["/ naive", "× limit"]
    assert len(lines) >= 3  # auto, and each implementation by its name
    summary = told.split("geometric means")[1]
    assert summary.count("2×3×4×5") == len(["forward", "training"]) * len(lines)
    for line in lines:
        assert len(line) == len(columns)
        assert line[0] == "2×3×4×5"
        assert all(float(cell) > 0 for cell in line[2:])
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(kept) == len(["forward", "training"])
    kernels.main([*TINY, *one, "--implementations", "all"])
    assert capsys.readouterr().out == told
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == kept


@pytest.mark.parametrize("wrong", ["2,3,4", "2,3,4,0", "a,b,c,d"])
def test_a_size_that_is_none_is_told_in_plain_words(wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        kernels.main(["--sizes", wrong])
    assert stopped.value.code == 2
    assert wrong in capsys.readouterr().err
