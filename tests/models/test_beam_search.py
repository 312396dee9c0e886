"""Beam search against exhaustive search, greedy search and plain counting."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from models.beam_search import IMPOSSIBLE, BeamSearchConfig, forbid_repeats, search

V, START, END = 6, 1, 2  # 0 is padding
TOKENS = (3, 4, 5)
PLACES = 3


class Toy:
    """Logits and attention that depend on all tokens so far, and on the row of the batch."""

    def __init__(self, seed):
        random = np.random.default_rng(seed)
        self.frequency = random.uniform(0.5, 3, V)
        self.place = random.uniform(0.5, 3, PLACES)

    def step(self, tokens, rows, states):
        (code,) = states
        code = tf.math.floormod(code * 7.0 + tf.cast(tokens, tf.float32)[:, None], 1009.0)
        turn = code + 100.0 * tf.cast(rows, tf.float32)[:, None]
        logits = 3.0 * tf.sin(turn * self.frequency.astype("f"))
        looked = tf.nn.softmax(tf.sin(turn * self.place.astype("f")))
        return logits, looked, [code]

    def log_probability(self, row, tokens):
        """Of a whole sequence and its end, step by step in NumPy; and what it looked at."""
        code, total, looked = 0.0, 0.0, np.zeros(PLACES)
        for last, now in itertools.pairwise([START, *tokens, END]):
            code = (code * 7.0 + last) % 1009.0
            turn = np.float32(code + 100.0 * row)
            logits = 3.0 * np.sin(turn * self.frequency.astype("f"))
            logits[[0, START]] = -np.inf
            total += logits[now] - np.log(np.exp(logits[2:]).sum())
            shares = np.exp(np.sin(turn * self.place.astype("f")))
            looked += shares / shares.sum()
        return total, looked

    def judged(self, row, tokens, settings):
        log, looked = self.log_probability(row, tokens)
        score = log / ((5 + len(tokens) + 1) / 6) ** settings.length_penalty
        if settings.coverage:
            score += settings.coverage * sum(math.log(min(max(x, 1e-6), 1)) for x in looked)
        return score, log

    def greedy(self, row, longest):
        tokens = []
        while len(tokens) < longest:
            logs = {}
            for token in TOKENS:
                logs[token] = self._next(row, tokens, token)
            if self._next(row, tokens, END) > max(logs.values()):
                break
            tokens.append(max(logs, key=logs.get))
        return tokens

    def search(self, row, longest, settings):
        """Beam search in plain Python: scores and tokens of what it finds, the best first."""
        width, alive, done = settings.beam_size, [(0.0, ())], []
        for written in range(longest + 1):
            reached = []
            for before, tokens in alive:
                logs = {token: self._next(row, tokens, token) for token in (*TOKENS, END)}
                total = math.log(sum(math.exp(3.0 * log) for log in logs.values()))
                allowed = logs if written < longest else [END]
                reached += [(before + 3.0 * logs[at] - total, tokens, at) for at in allowed]
            reached = sorted(reached, reverse=True)[: 2 * width]
            for _, tokens, _ in (each for each in reached[:width] if each[2] == END):
                done.append((self.judged(row, tokens, settings)[0], tokens))
            if len(done) >= width:
                break
            going = [each for each in reached if each[2] != END][:width]
            alive = [(log, (*tokens, token)) for log, tokens, token in going]
        return sorted(done, reverse=True)[:width]

    def _next(self, row, tokens, token):
        code = 0.0
        for last in [START, *tokens]:
            code = (code * 7.0 + last) % 1009.0
        return np.sin(np.float32(code + 100.0 * row) * self.frequency.astype("f"))[token]


def found(toy, longest, settings):
    batch = len(longest)

    @tf.function
    def run(longest):
        return search(
            toy.step,
            [tf.zeros([batch, 1])],
            tf.ones([batch, PLACES], tf.bool),
            vocabulary=V,
            start=START,
            end=END,
            longest=longest,
            settings=settings,
        )

    return run(tf.constant(longest, tf.int32))


def sequences(result, row):
    lengths, tokens = result.lengths[row].numpy(), result.tokens[row].numpy()
    return [tuple(tokens[n][: lengths[n]]) for n in range(len(lengths))]


def has_repeat(tokens, size):
    runs = [tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)]
    return len(set(runs)) < len(runs)


@pytest.mark.parametrize("no_repeat_ngram", [0, 1, 2])
@pytest.mark.parametrize("coverage", [0.0, 0.4])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_wide_enough_it_finds_what_exhaustive_search_finds(
    seed, length_penalty, coverage, no_repeat_ngram
):
    toy, longest = Toy(seed), [3, 0, 2]
    settings = BeamSearchConfig(
        130, length_penalty, coverage, no_repeat_ngram
    )  # more than there are sequences
    result = found(toy, longest, settings)
    for row, most in enumerate(longest):
        every = [
            tokens
            for n in range(most + 1)
            for tokens in itertools.product(TOKENS, repeat=n)
            if not (no_repeat_ngram and has_repeat(tokens, no_repeat_ngram))
        ]
        judged = {tokens: toy.judged(row, tokens, settings) for tokens in every}
        best = sorted(judged, key=lambda tokens: -judged[tokens][0])
        given = sequences(result, row)[: len(best)]
        assert set(given) == set(best)
        np.testing.assert_allclose(
            result.scores[row, : len(best)], [judged[t][0] for t in best], atol=1e-3
        )
        np.testing.assert_allclose(
            result.log_probabilities[row, : len(best)], [judged[t][1] for t in given], atol=1e-3
        )
        assert (result.scores[row, len(best) :].numpy() == np.float32(IMPOSSIBLE)).all()


@pytest.mark.parametrize("seed", range(8))
def test_one_beam_is_greedy(seed):
    toy, longest = Toy(seed), [6, 4, 1, 0]
    result = found(toy, longest, BeamSearchConfig(1, 0.7))
    for row, most in enumerate(longest):
        assert sequences(result, row) == [tuple(toy.greedy(row, most))]


@pytest.mark.parametrize("coverage", [0.0, 0.4])
@pytest.mark.parametrize("length_penalty", [0.0, 2.0])
@pytest.mark.parametrize("beam_size", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_narrow_search_goes_as_it_does_in_plain_python(seed, beam_size, length_penalty, coverage):
    toy, longest = Toy(seed), [8, 1, 5]
    settings = BeamSearchConfig(beam_size, length_penalty, coverage)
    result = found(toy, longest, settings)
    for row, most in enumerate(longest):
        wanted = toy.search(row, most, settings)
        assert sequences(result, row)[: len(wanted)] == [tokens for _, tokens in wanted]
        np.testing.assert_allclose(
            result.scores[row, : len(wanted)], [score for score, _ in wanted], atol=1e-3
        )
        assert (result.scores[row, len(wanted) :].numpy() == np.float32(IMPOSSIBLE)).all()


@pytest.mark.parametrize("beam_size", [1, 2, 4])
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(beam_size):
    toy, settings = Toy(3), BeamSearchConfig(beam_size)
    alone, among = found(toy, [5], settings), found(toy, [5, 9, 0, 2], settings)
    assert sequences(alone, 0) == sequences(among, 0)
    np.testing.assert_allclose(alone.scores[0], among.scores[0], atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_more_beams_find_nothing_worse_where_the_first_kept_all(seed):
    toy = Toy(seed)
    scores = [found(toy, [4], BeamSearchConfig(w)).scores.numpy()[0, 0] for w in (1, 130)]
    assert scores[1] >= scores[0] - 1e-5


def test_nothing_forbidden_is_written_and_lengths_are_kept():
    result = found(Toy(1), [7, 3], BeamSearchConfig(5))
    for row, most in enumerate((7, 3)):
        for tokens in sequences(result, row):
            assert set(tokens) <= set(TOKENS) and len(tokens) <= most
    assert (result.tokens.numpy() >= 0).all()
    beyond = np.arange(result.tokens.shape[2]) >= result.lengths.numpy()[..., None]
    assert (result.tokens.numpy()[beyond] == 0).all()


def test_no_row_gives_none():
    assert found(Toy(0), [], BeamSearchConfig(2)).tokens.shape[:2] == (0, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam_size": 0},
        {"length_penalty": -1.0},
        {"coverage": float("nan")},
        {"no_repeat_ngram": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be at least"):
        BeamSearchConfig(**wrong)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_tokens_that_would_repeat_an_ngram_are_forbidden(size, count):
    random = np.random.default_rng(size)
    tokens = random.integers(3, 5, (2, 3, count), "int32")
    if count:
        tokens[0, 0, count // 2] = END  # the end token may always follow
    logs = -random.uniform(0, 9, (2, 3, V)).astype("float32")
    result = forbid_repeats(tf.constant(logs), tf.constant(tokens), size, END)
    for row, beam in np.ndindex(2, 3):
        before = tokens[row, beam].tolist()
        for token in range(V):
            after = [*before, token]
            grams = [after[at : at + size] for at in range(len(after) - size + 1)]
            forbidden = token != END and len(after) >= size and grams[-1] in grams[:-1]
            expected = logs[row, beam, token] + forbidden * np.float32(IMPOSSIBLE)
            assert result[row, beam, token] == expected


def test_forbidding_repeats_needs_no_tensor_of_all_tokens_times_the_vocabulary():
    """Otherwise the cost of a step would be their product."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, 3, V]), tf.TensorSpec([None, 3, None], "int32")]
    )
    def run(logs, tokens):
        return forbid_repeats(logs, tokens, 2, END)

    graph = run.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for body in graph.library.function for node in body.node_def)]
    assert "ScatterNd" in {node.op for node in nodes}
    assert "OneHot" not in {node.op for node in nodes}
