"""A tag that is chosen a few steps later is the one that enumeration of all tags chooses."""

import itertools

import numpy as np
import pytest

from models.layers.crf import CRF, ConstrainedDecoder
from models.layers.fixed_lag import FixedLagDecoder, nothing_chosen

K, T = 3, 6
# Of tags O, B, I: an entity begins with B, and goes on with I, which must come last.
CONSTRAINTS = ([True, True, False], [[True, True, False], [False, False, True], [True] * 3])
CONSTRAINTS = (*CONSTRAINTS, [True, False, True])


def drawn(seed, forbid=False):
    """Logits of a sequence, and transitions, start and end."""
    random = np.random.default_rng(seed)
    logits, *weights = (random.normal(scale=2.0, size=shape) for shape in ((T, K), (K, K), K, K))
    if forbid:
        start, transitions, end = CONSTRAINTS
        allowed = (transitions, start, end)
        weights = [np.where(*pair, -np.inf) for pair in zip(allowed, weights, strict=True)]
    return logits, weights


def score(tags, logits, weights, from_step, before, has_end):
    """Of tags of the steps from `from_step` on, after the tag `before`."""
    transitions, start, end = weights
    total = start[tags[0]] if before is None else transitions[before, tags[0]]
    total += sum(logits[from_step + n, tag] for n, tag in enumerate(tags))
    total += sum(transitions[pair] for pair in itertools.pairwise(tags))
    return total + (end[tags[-1]] if has_end else 0.0)


def enumerated(logits, weights, lag):
    """The tags that all possible continuations choose, and their probabilities."""
    tags, shares = [], []
    for step in range(T):
        known = min(step + lag + 1, T)
        is_end = step + lag >= T  # the end is known once nothing follows
        before = tags[-1] if tags else None
        ahead = list(itertools.product(range(K), repeat=known - step))
        scores = [score(a, logits, weights, step, before, is_end) for a in ahead]
        tags.append(ahead[int(np.argmax(scores))][0])
        every = list(itertools.product(range(K), repeat=known))
        scores = np.array([score(e, logits, weights, 0, None, is_end) for e in every])
        mass = np.exp(scores - scores.max())
        share = [mass[[e[step] == tag for e in every]].sum() for tag in range(K)]
        shares.append(np.array(share) / mass.sum())
    return tags, shares


def decoded(logits, weights, lag, sizes):
    """What the decoder chooses if so many steps arrive at once, next to an idle row."""
    decoder, chosen = FixedLagDecoder(*weights, lag=lag), nothing_chosen(2, K)
    held, tags, shares = np.zeros((0, K)), [], []
    pieces = np.split(logits, np.cumsum(sizes)[:-1])
    for number, piece in enumerate([*pieces, np.zeros((lag, K))]):
        is_flush = number == len(pieces)
        known = np.concatenate([held, piece])
        final = max(len(known) - lag, 0)
        missing = max(lag - len(known), 0)  # nothing is final yet
        inputs = np.stack([np.pad(known, [[0, missing], [0, 0]])] * 2)
        mask = np.array([[True] * final, [False] * final])
        last = np.arange(final + lag) == final - 1 if is_flush else None
        made, probabilities, chosen = decoder.decode(inputs, mask, chosen, last)
        tags += np.array(made)[0].tolist()
        shares += list(np.array(probabilities)[0])
        held = known[final:]
    assert np.array(chosen.tag)[1] == -1
    return tags, shares


@pytest.mark.parametrize("lag", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("forbid", [False, True])
def test_each_tag_is_that_of_the_best_continuation_whatever_the_pieces(lag, forbid):
    for seed in range(4):
        logits, weights = drawn(seed, forbid and lag > 0)
        tags, shares = enumerated(logits, weights, lag)
        for sizes in ([T], [1] * T, [2, 1, 3]):
            made, probabilities = decoded(logits, weights, lag, sizes)
            assert made == tags
            np.testing.assert_allclose(probabilities, shares, atol=1e-5)


def test_a_short_lag_chooses_otherwise_than_a_long_one():
    made = [[enumerated(*drawn(seed), lag)[0] for seed in range(4)] for lag in (0, 1, T)]
    assert made[0] != made[1] != made[2]


def test_with_a_lag_of_the_length_it_decodes_as_a_crf_does():
    random = np.random.default_rng(1)
    logits = random.normal(scale=2.0, size=(1, T, K)).astype("float32")
    for constraints in (None, CONSTRAINTS):
        crf = CRF(K, constraints=constraints)
        crf.set_weights([random.normal(size=weight.shape) for weight in crf.get_weights()])
        decoders = [(crf, crf.marginals(logits))]
        if constraints:
            decoders.append((ConstrainedDecoder(constraints), None))
        for decoder, marginals in decoders:
            padded = np.pad(logits, [[0, 0], [0, T], [0, 0]])
            mask, last = np.ones((1, T), bool), np.arange(2 * T) == T - 1
            tags, shares, _ = decoder.fixed_lag_decoder(T).decode(
                padded, mask, nothing_chosen(1, K), last
            )
            np.testing.assert_array_equal(tags, decoder.decode(logits)[0])
            if marginals is not None:
                np.testing.assert_allclose(shares, marginals, atol=1e-5)


def test_an_endless_sequence_keeps_small_numbers():
    logits, weights = drawn(0)
    decoder, chosen = FixedLagDecoder(*weights, lag=1), nothing_chosen(1, K)
    for _ in range(50):
        _, _, chosen = decoder.decode(logits[None] + 100, np.ones((1, T - 1), bool), chosen)
    assert np.abs(np.array(chosen.shares)).max() < 100
