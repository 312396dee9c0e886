"""Split of examples into parts in equal proportions of every label."""

import array
import bisect
from collections.abc import Callable, Sequence

from tasks.core.examples import Example, Stream, text_hash

# Examples beyond which the hash alone decides: the shares of a label then deviate by less than
# its own sampling error, and the hashes would take gigabytes.
MAX_STRATIFIED = 2**24
_HASHES = 2**64


class StratifiedSplit:
    """Assignment of texts to parts by label and hash.

    The distinct texts of each label are ordered by their hashes and cut at the shares of the
    parts, so that each part has its share of every label, rounded. The result is a function of
    the set of examples, whatever their order. A text with several labels counts for the first
    of them in alphabetical order, so that all its occurrences share a part. Of each example, 12
    bytes are held in memory, and the hashes of the distinct texts afterwards.

    Args:
        examples: The examples to split.
        identity: Returns the text by which an example is split.
        label: Returns its label.
        shares: Share of each part; their sum is 1.
    """

    def __init__(
        self,
        examples: Stream,
        identity: Callable[[Example], str],
        label: Callable[[Example], str],
        shares: Sequence[float],
    ):
        self._identity, self._label = identity, label
        ends = [sum(shares[: index + 1]) for index in range(len(shares) - 1)]
        self._thresholds: dict[str, list[int]] = {}
        self._plain = [round(end * _HASHES) for end in ends]
        self._owners: dict[int, str] = {}  # of texts with several labels: the first label
        hashes, indices, labels = array.array("Q"), array.array("I"), {}
        for example in examples:
            hashes.append(text_hash(identity(example)))
            indices.append(labels.setdefault(label(example), len(labels)))
            if len(hashes) > MAX_STRATIFIED:
                return
        self._cut(hashes, indices, list(labels), ends)

    def _cut(
        self, hashes: array.array, indices: array.array, labels: list[str], ends: list[float]
    ) -> None:
        """Sets the thresholds of each label, and the labels of texts that have several."""
        import numpy as np  # takes long to import, and most corpora have parts

        if not hashes:
            return
        names = sorted(labels)
        numbers = {name: number for number, name in enumerate(names)}
        rank = np.array([numbers[name] for name in labels], np.uint32)
        values = np.frombuffer(hashes, np.uint64)
        ranks = rank[np.frombuffer(indices, np.dtype(f"u{indices.itemsize}"))]
        order = np.lexsort((ranks, values))
        values, ranks = values[order], ranks[order]
        is_first = np.append(True, values[1:] != values[:-1])
        groups = np.cumsum(is_first) - 1
        owners = ranks[is_first]
        conflicting = np.unique(groups[ranks != owners[groups]])
        distinct = values[is_first]
        self._owners = {int(distinct[group]): names[owners[group]] for group in conflicting}
        by_label = np.argsort(owners, kind="stable")  # the hashes of a label stay in order
        starts = np.searchsorted(owners[by_label], np.arange(len(names) + 1))
        distinct = distinct[by_label]
        for number, name in enumerate(names):
            own = distinct[starts[number] : starts[number + 1]]
            cuts = [round(end * len(own)) for end in ends]
            self._thresholds[name] = [int(own[cut]) if cut < len(own) else _HASHES for cut in cuts]

    def part(self, example: Example) -> int:
        """Returns the index of the part of an example."""
        value = text_hash(self._identity(example))
        label = self._owners.get(value, self._label(example))
        return bisect.bisect_right(self._thresholds.get(label, self._plain), value)
