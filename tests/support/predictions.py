"""Merged requests, and differences between responses."""

import base64
from collections.abc import Mapping, Sequence

import numpy as np


def distances(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the largest difference between two responses, by output.

    Either may be longer than the other by padding, "" or 0. Differences of numbers are relative
    to the larger number, or to 1 if both are smaller. If strings, integers, booleans, dtypes or
    ranks differ, the difference is infinite.
    """
    assert set(one) == set(other), f"outputs {sorted(one)} and {sorted(other)}"
    return {
        name: (_distance_of_states if name == "state" else _distance)(
            np.asarray(one[name]), np.asarray(other[name])
        )
        for name in one
    }


def _distance_of_states(one, other) -> float:
    """Returns the largest difference of the numbers in states of streams; see `models.streaming`.

    Where bits differ, they must be those of close numbers.
    """
    largest = 0.0
    for pair in zip(one, other, strict=True):
        first, second = (base64.urlsafe_b64decode(each + b"=" * (-len(each) % 4)) for each in pair)
        if first == second:
            continue
        if len(first) != len(second) or first[:12] != second[:12]:
            return np.inf
        start = 13 + first[12]
        count = (len(first) - start - 8) // 4
        if first[start + 4 * count : -8] != second[start + 4 * count : -8]:
            return np.inf
        bits = [np.frombuffer(data, "<u4", count, start) for data in (first, second)]
        differs = bits[0] != bits[1]
        numbers = [each[differs].view("<f4") for each in bits]
        if differs.any():
            largest = max(largest, _distance(*numbers))
    return largest


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


def row(response: Mapping[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    """Returns a row of a response as a batch of one."""
    return {name: array[index : index + 1] for name, array in response.items()}


def merged(requests: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Merges requests as the server's BatchingSession does.

    With `pad_variable_length_inputs`, shorter arrays are padded with the first element of their
    request, and a batch is filled up to an allowed size by repeating a row; here it is one row.
    """
    result = {}
    for name in requests[0]:
        arrays = [request[name] for request in requests]
        longest = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
        filled = [
            _padded(array, [len(array), *longest], array.flat[0] if array.size else None)
            for array in arrays
        ]
        result[name] = np.concatenate([*filled, filled[0][:1]])
    return result


def _padded(array, shape, filling=None):
    """Returns an array padded to a shape, with "" or 0 by default."""
    if filling is None:
        filling = b"" if array.dtype == object else 0
    result = np.full(shape, filling, array.dtype)
    result[tuple(slice(size) for size in array.shape)] = array
    return result
