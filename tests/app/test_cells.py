"""`app.cells` shows every cell, and the equations of one."""

from pathlib import Path

import pytest

from app import cells, cli
from models.cells import specs
from models.cells.linearity import is_linear
from models.cells.specs import CELLS


def test_the_table_has_every_cell(capsys):
    cells.main(["--units", "3", "--inputs", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(CELLS) + 1]] == list(CELLS)
    lstm = next(line for line in lines if line.startswith("lstm_peephole "))
    assert "105" in lstm.split() and "reference loop" in lstm


def test_the_page_of_all_cells_is_printed_by_the_command(capsys):
    cells.main(["--table"])
    printed = capsys.readouterr().out
    page = Path(__file__).parents[2] / "docs/cell-table.md"
    assert page.read_text(encoding="utf-8").endswith("\n\n" + printed)
    assert "| `mingru` | Feng et al. (2024), minGRU" in printed
    assert len(CELLS) >= 75


@pytest.mark.parametrize(
    ("cell", "linear"),
    [
        ("mingru", True),
        ("sru_no_peephole", True),
        ("qrnn_ifo", True),
        (
            {"equation": "leaky", "blind": {"leak": "h", "candidate": "h"}, "zoneout": {"h": 0.1}},
            True,
        ),
        ("sru", False),  # its gates read the cell state
        ("cfn", False),  # tanh of the state
        ("tgru", False),  # a matrix multiplies a state
        ("rnn_identity", False),
        ("ran", False),
        ("slstm", False),
    ],
)
def test_a_cell_is_linear_if_its_states_are_elementwise(cell, linear):
    assert is_linear(specs.find(cell)) == linear


def test_one_cell_is_shown_by_its_equations(capsys):
    cells.main(['{"equation": "lstm", "pinned": {"output": 1}, "peepholes": ["forget"]}'])
    said = capsys.readouterr().out
    assert "forget = sigmoid(x W_forget + b_forget + h U_forget + p_forget * c)" in said
    assert "h' = tanh(c')" in said and "Hochreiter" in said and "parameters" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["lstmm"], "cell must be one of"),
        (["--units", "0"], "at most 1000000, got 0"),
        (["lstm", "--table"], "--table prints all cells and takes no name, got 'lstm'"),
    ],
)
def test_an_unknown_cell_is_an_error(capsys, argv, message):
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: cells.main(argv))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_parameters_are_counted_without_memory_for_them(capsys):
    cells.main(["lstm", "--units", "1000000", "--inputs", "1000000"])
    assert f"{4 * (2 * 10**12 + 10**6):,} parameters" in capsys.readouterr().out


def test_the_publication_and_the_form_of_matrices_are_shown(capsys):
    cells.main(["indrnn"])
    said = capsys.readouterr().out
    assert said.startswith("Li et al. (2018), ") and "matrices are diagonal" in said
    cells.main(['{"equation": "lstm", "heads": 4}'])
    said = capsys.readouterr().out
    assert "block-diagonal, with 4 heads" in said
    assert f"{4 * (128 * 128 + 32 * 128 + 128):,} parameters" in said
