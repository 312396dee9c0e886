"""`app.cells` shows every cell, and the equations of one."""

import pytest

from app import cells, cli
from models.cells.specs import CELLS


def test_the_table_has_every_cell(capsys):
    cells.main(["--units", "3", "--inputs", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(CELLS) + 1]] == list(CELLS)
    lstm = next(line for line in lines if line.startswith("lstm_peephole "))
    assert "105" in lstm.split() and "reference loop" in lstm


def test_one_cell_is_shown_by_its_equations(capsys):
    cells.main(['{"equation": "lstm", "pinned": {"output": 1}, "peepholes": ["forget"]}'])
    said = capsys.readouterr().out
    assert "forget = sigmoid(x W_forget + b_forget + h U_forget + p_forget * c)" in said
    assert "h' = tanh(c')" in said and "Hochreiter" in said and "parameters" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["lstmm"], "cell must be one of"), (["--units", "0"], "at most 1000000, got 0")],
)
def test_an_unknown_cell_is_an_error(capsys, argv, message):
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: cells.main(argv))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_parameters_are_counted_without_memory_for_them(capsys):
    cells.main(["lstm", "--units", "1000000", "--inputs", "1000000"])
    assert f"{4 * (2 * 10**12 + 10**6):,} parameters" in capsys.readouterr().out
