"""Requests that become one, and answers beside each other."""

from collections.abc import Mapping, Sequence

import numpy as np


def distances(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How far two answers, or rows of answers, lie apart, by output.

    An answer may be longer than the other by padding, "" or 0. Numbers are told relative to
    the larger, or to 1 where both are smaller; what must be equal and is not is infinitely
    far away: strings, whole numbers, truth values, types and ranks.
    """
    assert set(one) == set(other), f"outputs {sorted(one)} and {sorted(other)}"
    return {name: _distance(np.asarray(one[name]), np.asarray(other[name])) for name in one}


def _distance(one, other) -> float:
    if one.ndim != other.ndim or one.dtype != other.dtype:
        return np.inf
    shape = np.maximum(one.shape, other.shape).astype(int)
    one, other = (_padded(array, shape) for array in (one, other))
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else np.inf
    if not one.size:
        return 0.0
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return np.inf
    one, other = one.astype(np.float64), other.astype(np.float64)
    scale = np.maximum(1.0, np.maximum(np.abs(one), np.abs(other)))
    return float(np.max(np.abs(one - other) / scale))


def row(answer: Mapping[str, np.ndarray], at: int) -> dict[str, np.ndarray]:
    """A row of an answer, still a batch: of one."""
    return {name: array[at : at + 1] for name, array in answer.items()}


def merged(requests: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Requests in one, as the server's BatchingSession makes it of them.

    With `pad_variable_length_inputs` what is shorter is filled with the first element of
    its request, and what is missing to an allowed size of batch is a row once more.
    """
    together = {}
    for name in requests[0]:
        arrays = [request[name] for request in requests]
        longest = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
        filled = [
            _padded(array, [len(array), *longest], array.flat[0] if array.size else None)
            for array in arrays
        ]
        together[name] = np.concatenate([*filled, filled[0][:1]])
    return together


def _padded(array, shape, filling=None):
    """An array of another shape; without a filling what is new is "" or 0."""
    if filling is None:
        filling = b"" if array.dtype == object else 0
    whole = np.full(shape, filling, array.dtype)
    whole[tuple(slice(size) for size in array.shape)] = array
    return whole
