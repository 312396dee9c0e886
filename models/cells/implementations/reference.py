"""The definition, step by step through `keras.ops.scan`, on any Keras backend."""

from collections.abc import Sequence

from keras import ops

from ..cell import GatedCell, Noise, Tensor
from ..specs import CellSpec


def runs(spec: CellSpec, device: str, dtype: str) -> bool:
    """Returns True: the other implementations are tested against this one."""
    return True


def run(
    cell: GatedCell,
    inputs: Tensor,
    mask: Tensor | None,
    states: Sequence[Tensor],
    noise: Noise,
    training: bool,
    concurrent: int = 1,
) -> tuple[Tensor, list[Tensor]]:
    """Runs `cell` over inputs (B, T, D), as specified in `models.cells.implementations`."""

    def step(states, t):
        after = cell.step(ops.take(inputs, t, axis=1), states, noise.at_step(t))
        if mask is not None:
            valid = ops.take(mask, t, axis=1)[:, None]
            after = [ops.where(valid, new, old) for new, old in zip(after, states, strict=True)]
        return after, after

    final_states, all_states = ops.scan(step, list(states), ops.arange(ops.shape(inputs)[1]))
    return ops.swapaxes(all_states[0], 0, 1), list(final_states)
