"""Settings of the experiment on gradients, importable without TensorFlow."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.settings import check, find_cell, setting

PROBES = ("adding", "copy", "temporal_order")  # numeric inputs, one length for all sequences
DEFAULT_CELLS = ("rnn", "lstm", "gru", "lstm_chrono")
MAX_CELLS = 7  # colours that colour-blind readers can tell apart


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the measurement."""

    probe: str = setting("temporal_order", f"one of {', '.join(PROBES)}", choices=PROBES)
    length: int = setting(100, "length of the probe's sequences", at_least=2)
    units: int = setting(32, "units of each cell", at_least=1)
    steps: int = setting(800, "training batches", at_least=1)
    learning_rate: float = setting(
        0.0, "learning rate of Adam; 0: the probe's own", at_least=0, old_name="rate"
    )
    sequences: int = setting(8, "test sequences to differentiate", at_least=1)
    clip_norm: float = setting(1.0, "norm to clip to in the clipping experiment", above=0)
    clip_value: float = setting(0.1, "value to clip to in the clipping experiment", above=0)
    seed: int = setting(0, "random seed of weights and examples", at_least=0)

    def __post_init__(self):
        check(self)


def labelled_cells(cells: Sequence[str]) -> dict[str, str]:
    """Returns the cells by their labels: a name, a spec, or the stem of a .json file.

    Args:
        cells: Values of `--cells`, as `models.cells.specs.find` accepts them.

    Raises:
        UserError: A cell is invalid, two have the same label, or there are more than `MAX_CELLS`.
    """
    labelled = {}
    for cell in cells:
        find_cell(cell, "--cells")
        label = Path(cell).stem if cell.endswith(".json") else cell
        labelled[label] = cell
    if len(labelled) < len(cells) or not 1 <= len(labelled) <= MAX_CELLS:
        raise UserError(f"--cells must be 1 to {MAX_CELLS} different cells, got {list(cells)}.")
    return labelled
