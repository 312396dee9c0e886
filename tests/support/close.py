"""Comparison of arrays with a tolerance relative to their scale."""

import numpy as np


def assert_close(actual, desired, tolerance: float, name: str = "") -> None:
    """Asserts that two arrays differ by at most `tolerance` times the largest desired value.

    Cells without a bounded activation, such as an RNN with an identity matrix, produce
    values of any size, and rounding is relative to that size. Below 1 the tolerance is
    absolute.
    """
    desired = np.asarray(desired)
    scale = max(1.0, np.abs(desired).max(initial=0.0))
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * scale, err_msg=name)
