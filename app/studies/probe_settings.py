"""Settings of the training of a cell on a probe, importable without TensorFlow."""

import dataclasses
from collections.abc import Mapping

from tasks import probes
from tasks.core.errors import UserError
from tasks.core.settings import CELL_HELP, check, find_cell, setting

_PROBE_DEFAULTS = ("batch", "steps", "learning_rate")  # 0 selects the probe's own value


@dataclasses.dataclass(frozen=True)
class Config:
    """Training settings."""

    cell: str = setting("lstm", CELL_HELP)
    units: int = setting(64, "units of each layer", at_least=1)
    layers: int = setting(1, "recurrent layers", at_least=1)
    tree: bool = setting(
        False, "read examples as trees (GatedTree, child-sum) instead of sequences, where possible"
    )
    embedding: int = setting(32, "size of the embedding of a symbol", at_least=1)
    batch: int = setting(0, "examples per batch; 0: the probe's own", at_least=0)
    steps: int = setting(0, "training batches; 0: the probe's own", at_least=0)
    evaluations: int = setting(
        5, "evaluations on the test part during training", at_least=1, old_name="looks"
    )
    learning_rate: float = setting(
        0.0, "learning rate of Adam; 0: the probe's own", at_least=0, old_name="rate"
    )
    clip_norm: float = setting(1.0, "global norm to clip gradients to; 0: no clipping", at_least=0)
    clip_value: float = setting(
        0.0, "absolute value to clip gradients to; 0: no clipping", at_least=0
    )
    seed: int = setting(0, "random seed of weights and examples", at_least=0)

    def __post_init__(self):
        check(self)
        spec = find_cell(self.cell)
        if self.tree and spec.random:
            raise UserError(
                "--tree needs a cell without zoneout and recurrent dropout, "
                f"got the cell {self.cell!r}."
            )


def of_settings(name: str, settings: Mapping[str, object]) -> tuple[probes.Probe, Config]:
    """Returns a probe and a training config; each setting belongs to one of the two.

    Config values of 0 that mean "the probe's own" are replaced by the probe's values.

    Raises:
        UserError: A setting is invalid, or the probe has no trees.
    """
    probe = probes.find(name)
    if settings.get("tree") and not probe.has_trees:
        possible = [other for other in probes.names() if probes.find(other).has_trees]
        raise UserError(f"--tree needs a probe with trees, one of {possible}, got {name!r}.")
    own = {field.name for field in dataclasses.fields(probe)}
    of_probe = {key: value for key, value in settings.items() if key in own}
    config = Config(**{key: value for key, value in settings.items() if key not in own})
    defaults = {key: getattr(probe, key) for key in _PROBE_DEFAULTS if not getattr(config, key)}
    return probe(**of_probe), dataclasses.replace(config, **defaults)
