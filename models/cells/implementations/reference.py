"""The definition itself, step by step through `keras.ops.scan`, on any Keras backend."""

from keras import ops


def runs(spec, device: str, dtype: str) -> bool:
    """Always: it is what the others are held against."""
    return True


def run(cell, inputs, mask, states, noise, training, concurrent=1):
    """Runs `cell` over inputs (B, T, D); see the package for the contract."""

    def step(states, t):
        after = cell.step(ops.take(inputs, t, axis=1), states, noise.at_step(t))
        if mask is not None:
            now = ops.take(mask, t, axis=1)[:, None]
            after = [ops.where(now, new, old) for new, old in zip(after, states, strict=True)]
        return after, after

    last, every = ops.scan(step, list(states), ops.arange(ops.shape(inputs)[1]))
    return ops.swapaxes(every[0], 0, 1), list(last)
