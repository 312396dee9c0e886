"""Lists the cells, or prints the equations of one: `python -m app.cells gru`."""

import sys
from collections.abc import Sequence

from app import cli
from models.cells.specs import CELLS, CellSpec, source
from tasks.core.errors import UserError
from tasks.core.settings import find_cell

_MAX_SIZE = 10**6  # units or features


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table of all cells, or the equations of one."""
    parser = cli.Parser(
        "python -m app.cells", description=__doc__, examples=["python -m app.cells lstm_peephole"]
    )
    parser.add_argument("cell", nargs="?", help="a name, a spec as JSON, or a .json file")
    parser.add_argument(
        "--units", type=int, default=128, help="units of the cell whose parameters are counted"
    )
    parser.add_argument("--inputs", type=int, default=128, help="input features of that cell")
    parser.add_argument(
        "--table", action="store_true", help="print a table of all cells in Markdown, with sources"
    )
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    if args.table and args.cell is not None:
        raise UserError(f"--table prints all cells and takes no name, got {args.cell!r}.")
    for name in ("units", "inputs"):
        if not 1 <= getattr(args, name) <= _MAX_SIZE:
            raise UserError(
                f"--{name} must be at least 1 and at most {_MAX_SIZE}, got {getattr(args, name)}."
            )
    spec = None if args.cell is None else find_cell(args.cell, "CELL")
    with cli.with_tensorflow():
        from models.cells.printing import equations, recurrent_form

    sizes = f"with {args.units} units and {args.inputs} input features"
    if spec is not None:
        count = _parameters(spec, args.units, args.inputs)
        lines = [
            source(args.cell),
            "",
            *equations(spec, raw_projection=args.inputs != args.units),
            *filter(None, [recurrent_form(spec)]),
            "",
        ]
        if spec.random:
            lines += [f"while training: {_changes(spec, ('zoneout', 'recurrent_dropout'))}", ""]
        print(*lines, f"{count:,} parameters {sizes}", sep="\n")
        return
    if args.table:
        print(_table(args.units, args.inputs))
        return
    columns = ["cell", "equation", "gates", "changes", "parameters", "implementations"]
    rows = [_row(name, cell, args.units, args.inputs) for name, cell in CELLS.items()]
    print(cli.columns([columns, *rows]), f"\nparameters {sizes}", sep="\n")


def _table(units: int, inputs: int) -> str:
    """The table of all cells in Markdown."""
    from models.cells.linearity import is_linear

    columns = ["cell", "source", "parameters", "states", "implementations", "linear"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, spec in CELLS.items():
        values = [f"`{name}`", source(name), f"{_parameters(spec, units, inputs):,}"]
        values += [" ".join(spec.definition.states), _implementations(spec)]
        lines.append("| " + " | ".join([*values, "yes" if is_linear(spec) else ""]) + " |")
    return "\n".join(lines)


def _row(name: str, spec: CellSpec, units: int, inputs: int) -> list[str]:
    gates = " ".join(g for g in spec.definition.gates if g not in spec.pinned)
    count = f"{_parameters(spec, units, inputs):,}"
    return [name, spec.equation, gates, _changes(spec), count, _implementations(spec)]


def _implementations(spec: CellSpec) -> str:
    """The names of the implementations that run a cell on a CPU or a GPU."""
    from models.cells.recurrent import IMPLEMENTATIONS, PORTABLE, implementations_of

    ways = (set(implementations_of(spec, "cpu")) | set(implementations_of(spec, "gpu"))) - {
        PORTABLE
    }
    return " ".join(way for way in IMPLEMENTATIONS if way in ways)


def _changes(spec: CellSpec, fields: Sequence[str] = ()) -> str:
    """What is not as in the plain equation, of some fields or of all."""
    plain = CellSpec(spec.equation)
    changes = [
        f"{key} {value}"
        for key, value in spec.to_json().items()
        if getattr(spec, key) != getattr(plain, key) and (not fields or key in fields)
    ]
    return ", ".join(changes).translate(str.maketrans("", "", "{}[]'"))


def _parameters(spec: CellSpec, units: int, inputs: int) -> int:
    import keras

    from models.cells.cell import GatedCell

    cell = GatedCell(units, spec)
    with keras.StatelessScope(initialize_variables=False):  # the weights need no memory
        cell.build((None, inputs))
        return cell.count_params()


if __name__ == "__main__":
    cli.run(main)
