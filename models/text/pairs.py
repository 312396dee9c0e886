"""Hashed pairs of adjacent words.

Shapes: B batch, T time.
"""

from keras import ops

from ..cells.cell import Tensor


def pair_buckets(ids: Tensor, buckets: int) -> Tensor:
    """Returns the bucket of each word and its predecessor; the first word follows padding.

    No intermediate product exceeds 31 bits.

    Args:
        ids: (B, T) int32.
        buckets: Number of buckets that pairs share.

    Returns:
        (B, T) int32, from 0 to `buckets` - 1.
    """
    previous = ops.pad(ids, [[0, 0], [1, 0]])[:, :-1]
    return (previous % 32_749 * 40_503 + ids % 2**29) % buckets
