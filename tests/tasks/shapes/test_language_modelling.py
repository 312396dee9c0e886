"""Language models: log-probabilities, continuations, pieces, windows, scores and baselines.

The oracle of probabilities is the network on whole texts, one at a time.
"""

import collections
import itertools
import math
import random

import numpy as np
import pytest
import tensorflow as tf

import tasks
from models.streaming import MAX_PIECE
from models.text.subwords import words
from tasks.core.errors import UserError
from tasks.core.examples import Example, Splits, Stream
from tasks.shapes.language_modelling import baselines, scoring
from tests.support import untrained

TEXTS = [
    b"Anna can't pay $50 (or 20%)...  \xe5\xa5\xbd\xe7\x9c\x8b the old man",
    b"",
    b" \t\xe3\x80\x80 the boats \xff\xf0\x9f\x99 one\0two \xe5\xa5",
    b"y" * 70 + b" end",
    # A word of 32 characters and an apostrophe, which belongs to it although it is cut off.
    b"a" * 32 + b"'!'! " + b"b" * 64 + "’".encode() + b"c '' d",
    b"a ",
]
VARIANTS = {
    "subwords": {"vocabulary": 420, "layers": 2},
    "words": {"token": "words", "cell": "gru", "embedding": 5, "tied": False},
    "characters": {"token": "characters", "vocabulary": 320, "cell": "rnn"},
    "two networks": {"token": "words"},
}


class Model:
    """A small task with random weights, and its signatures."""

    def __init__(self, variant, folder, **settings):
        cls = tasks.find("language_model")
        config = cls.Config(**{**untrained.SMALL, **VARIANTS[variant], **settings})
        self.task = cls.learn(config, untrained.examples("language_model"), folder)
        drawn, count = np.random.default_rng(0), 2 if variant == "two networks" else 1
        self.networks = [self.task.build("serving") for _ in range(count)]
        for network in self.networks:
            for weight in network.weights:
                weight.assign(drawn.normal(scale=0.7, size=weight.shape))
        model = self.task.combine(self.networks) if count > 1 else self.networks[0]
        self.signatures = self.task.signatures(model)

    def run(self, name, *columns):
        outputs = self.signatures[name](*(tf.constant(column) for column in columns))
        return {key: value.numpy() for key, value in outputs.items()}

    def generate(self, texts, seeds, temperature=1.0, length=6):
        rows = len(texts)
        return self.run(
            "generate",
            texts,
            np.array(seeds, np.int32),
            np.full(rows, temperature, np.float32),
            np.full(rows, length, np.int32),
        )

    def log_probabilities(self, ids):
        """Returns those of all tokens after each of some ids, (T + 1, V), by the networks."""
        before = tf.constant([[self.task.tokens.start, *ids]])
        each = [tf.nn.softmax(network(before)[0]).numpy() for network in self.networks]
        with np.errstate(divide="ignore"):
            return np.log(np.mean(each, axis=0))

    def pieces(self, texts, cuts):
        """Returns the tokens and log-probabilities of texts that are fed in pieces."""
        states = self.run("start", np.zeros(len(texts), np.int32))["state"]
        parts = [
            [text[a:b] for a, b in itertools.pairwise(sorted({0, *places, len(text)}))]
            for text, places in zip(texts, cuts, strict=True)
        ]
        rows = [([], []) for _ in texts]

        def add(outputs):
            assert outputs["valid"].all()
            for row, tokens, scores, length in zip(
                rows, *(outputs[key] for key in ("tokens", "log_probabilities", "lengths"))
            , strict=True):  # fmt: skip
                assert not any(tokens[length:]) and not any(scores[length:])
                row[0].extend(tokens[:length])
                row[1].extend(scores[:length])

        for fed in itertools.zip_longest(*parts, fillvalue=b""):
            outputs = self.run("feed", states, np.array(fed, object))
            states = outputs["state"]
            add(outputs)
        add(self.run("finish", states))
        return rows


@pytest.fixture(scope="module", params=VARIANTS)
def model(request, tmp_path_factory):
    return Model(request.param, tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def of_words(tmp_path_factory):
    return Model("words", tmp_path_factory.mktemp("words"), max_length=9, max_generated=7)


def test_each_token_has_its_log_probability_after_those_before(model):
    outputs = model.run("serving_default", TEXTS)
    decoded = model.task.ids(tf.constant(TEXTS)).to_list()
    for row, ids in enumerate(decoded):
        expected = model.log_probabilities(ids)[np.arange(len(ids)), ids]
        length = outputs["lengths"][row]
        assert length == len(ids) and (not ids or ids[-1] == model.task.tokens.end)
        scores = outputs["log_probabilities"][row]
        np.testing.assert_allclose(scores[:length], expected, rtol=1e-4, atol=1e-5)
        assert not scores[length:].any()
        total = expected.sum()
        assert outputs["log_probability"][row] == pytest.approx(total, rel=1e-4)
        perplexity = math.exp(min(-total / length, 80)) if length else 1
        assert outputs["perplexity"][row] == pytest.approx(perplexity, rel=1e-3)
    probabilities = np.exp(model.log_probabilities([])[0])
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert not probabilities[list(model.task.tokens.excluded)].any()


def test_small_chunks_change_nothing(of_words, monkeypatch, tmp_path):
    whole = of_words.run("serving_default", TEXTS)
    monkeypatch.setattr(scoring, "_MAX_LOGITS", 3)
    monkeypatch.setattr(scoring, "_MAX_STEPS", 3)
    chunked = Model("words", tmp_path, max_length=9)
    for name, values in chunked.run("serving_default", TEXTS).items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, whole[name], rtol=1e-5, atol=1e-5)
        else:
            assert np.array_equal(values, whole[name])


def test_the_next_tokens_are_the_most_probable_ones(model):
    texts = [b"the old", b""]
    outputs = model.run("next", texts)
    for row, text in enumerate(texts):
        ids = model.task.tokens.whole(tf.constant([text])).to_list()[0]
        expected = np.sort(model.log_probabilities(ids)[-1])[::-1][:10]
        np.testing.assert_allclose(outputs["log_probabilities"][row], expected, rtol=1e-4)
        assert len(set(outputs["tokens"][row])) == 10


def test_whole_tokens_are_the_text(model):
    if model.task.words is not None:
        return
    text = TEXTS[4].decode()
    ids = model.task.tokens.whole(tf.constant([text]))
    assert model.task.tokens.decode(ids.to_tensor()).numpy()[0].decode() == text


# --- Continuations -----------------------------------------------------------


def test_temperature_0_takes_the_most_probable_token_at_each_step(model):
    outputs = model.generate([b"the old"], [5], temperature=0.0, length=4)
    ids = model.task.tokens.whole(tf.constant([b"the old"])).to_list()[0]
    for token in outputs["tokens"][0][: outputs["lengths"][0]]:
        logs = model.log_probabilities(ids)[-1]
        logs[list(model.task.tokens.unwritten)] = -np.inf
        ids.append(int(logs.argmax()))
        assert model.task.tokens.pieces(tf.constant(ids[-1])).numpy() == token


def test_equal_requests_have_equal_responses_whatever_else_is_in_the_batch(model):
    texts, seeds = [b"the old", b"Anna was a", b"the old", b""], [3, 3, 4, 3]
    together = model.generate(texts, seeds)
    for row, (text, seed) in enumerate(zip(texts, seeds, strict=True)):
        alone = model.generate([text], [seed])
        assert alone["continuation"][0] == together["continuation"][row]
        assert alone["lengths"][0] == together["lengths"][row]
    assert len(set(together["continuation"][[0, 2]])) == 2  # of two seeds


def test_tokens_are_drawn_with_their_probabilities(of_words):
    rows, temperature = 3000, 2.0
    outputs = of_words.generate([b"the old"] * rows, range(rows), temperature, length=1)
    ids = of_words.task.tokens.whole(tf.constant([b"the old"])).to_list()[0]
    scaled = of_words.log_probabilities(ids)[-1] / temperature
    scaled[list(of_words.task.tokens.unwritten)] = -np.inf
    expected = np.exp(scaled) / np.exp(scaled).sum()
    drawn = [row[0] if len(row) else b"" for row in outputs["tokens"]]
    counts = collections.Counter(drawn)
    names = of_words.task.tokens.pieces(tf.range(len(expected))).numpy()
    for name, probability in zip(names, expected, strict=True):
        if probability > 0.02:
            name = b"" if name == b"</s>" else name
            margin = 5 * math.sqrt(probability * (1 - probability) / rows)
            assert abs(counts[name] / rows - probability) < margin, name


def test_a_continuation_has_the_length_that_is_asked_for_within_its_limit(of_words):
    texts, ones = [b"the"] * 4, np.ones(4, np.float32)
    lengths = np.array([-1, 0, 3, 100], np.int32)
    outputs = of_words.run("generate", texts, np.arange(4, dtype=np.int32), ones, lengths)
    assert (outputs["lengths"] <= [0, 0, 3, 7]).all() and outputs["lengths"][2:].any()
    for tokens, text, length in zip(
        outputs["tokens"], outputs["continuation"], outputs["lengths"], strict=True
    ):
        assert b" ".join(tokens[:length]) == text and not any(tokens[length:])
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have equal rows"):
        of_words.run("generate", texts, np.arange(3, dtype=np.int32), ones, lengths)


def test_of_a_long_text_the_first_tokens_are_scored_and_the_last_continued(of_words):
    long = b"the old man " * 50 + b"Anna was a"
    outputs = of_words.run("serving_default", [long, b"the old " * 4])
    assert outputs["lengths"].tolist() == [9, 9]
    assert b"</s>" not in outputs["tokens"][0]
    assert outputs["tokens"][1][-1] == b"</s>"
    ends = b" ".join(long.split()[-9:])
    for key, values in of_words.run("next", [long]).items():
        expected = of_words.run("next", [ends])[key]
        assert np.array_equal(values, expected) or np.allclose(values, expected, atol=1e-5)


# --- Pieces ------------------------------------------------------------------


def test_pieces_have_the_tokens_of_the_whole_text(model):
    whole = model.run("serving_default", TEXTS)
    drawn = random.Random(0)
    for longest in (4, 10_000):
        cuts = []
        for text in TEXTS:
            steps = (drawn.randint(1, longest) for _ in range(len(text)))
            cuts.append([cut for cut in itertools.accumulate(steps) if cut < len(text)])
        for row, (tokens, scores) in enumerate(model.pieces(TEXTS, cuts)):
            length = whole["lengths"][row]
            assert tokens == list(whole["tokens"][row][:length])
            expected = whole["log_probabilities"][row][:length]
            np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_subword_is_final_once_its_word_has_ended(tmp_path):
    tokens = Model("subwords", tmp_path).task.tokens
    drawn, parts = random.Random(1), ["a" * 31, "b", "'", "’", " ", "  ", "7", "!", "é"]
    texts = ["".join(drawn.choices(parts, k=9)) for _ in range(300)]
    more = [drawn.choice(["", "x", " x", "'", "!"]) for _ in texts]
    ids, rest = tokens.complete(tf.constant(texts))
    done = [text.decode() for text in tokens.decode(ids.to_tensor()).numpy()]
    rest = [text.decode() for text in rest.numpy()]
    split = words(tf.constant([text + end for text, end in zip(texts, more, strict=True)]))
    for text, first, last, row in zip(texts, done, rest, split.to_list(), strict=True):
        ends = {b"".join(row[:count]).decode() for count in range(len(row) + 1)}
        assert first in ends and first + last == text and len(last) <= 33


def test_feed_returns_the_next_tokens_and_reads_a_limited_piece(of_words):
    state = of_words.run("start", np.zeros(1, np.int32))["state"]
    outputs = of_words.run("feed", state, [b"the old "])
    expected = of_words.run("next", [b"the old"])
    assert np.array_equal(outputs["next_tokens"], expected["tokens"])
    np.testing.assert_allclose(
        outputs["next_log_probabilities"], expected["log_probabilities"], rtol=1e-4
    )
    outputs = of_words.run("feed", state, [b"word " * MAX_PIECE])
    assert outputs["bytes_read"].tolist() == [MAX_PIECE]


def test_a_state_that_is_not_valid_affects_its_row_only(of_words):
    [state] = of_words.run("start", np.zeros(1, np.int32))["state"]
    states = [state, state[:-4] + b"AAAA", b"junk", state]
    outputs = of_words.run("feed", states, [b"the old man "] * 4)
    assert outputs["valid"].tolist() == [True, False, False, True]
    assert outputs["lengths"].tolist() == [3, 0, 0, 3]
    assert not any(outputs["next_tokens"][1]) and not outputs["next_log_probabilities"][1].any()
    assert outputs["state"].tolist()[1:3] == [b"", b""]
    assert of_words.run("finish", states)["lengths"].tolist() == [0] * 4


# --- Training ----------------------------------------------------------------


def test_a_document_is_divided_into_windows_that_predict_each_token_once(tmp_path):
    task = Model("words", tmp_path, steps=4).task
    texts = ["the old man saw a ring", "", "Anna"]
    encoded = task.encode({"text": tf.constant(texts)})
    ids = [row for row in task.ids(tf.constant(texts)).to_list() if row]
    before = [[task.tokens.start, *row[:-1]] for row in ids]
    for name, rows in (("before", before), ("following", ids)):
        expected = [row[first : first + 4] for row in rows for first in range(0, len(row), 4)]
        assert encoded[name].to_list() == expected
    assert encoded["length"].numpy().tolist() == [4, 3, 2]
    padded = {name: encoded[name].to_tensor() for name in ("before", "following")}
    x, y, weights = task.to_inputs(padded, training=True)
    assert np.array_equal(weights.numpy(), (y.numpy() != 0).astype(np.float32))
    assert np.array_equal(x.numpy(), padded["before"].numpy())


def test_tied_weights_are_those_of_the_embedding(model):
    names = [weight.path for weight in model.networks[0].weights if "embedding" in weight.path]
    assert len(names) == (1 if model.task.config.tied else 2)


@pytest.mark.parametrize("token", ["subwords", "characters"])
def test_a_vocabulary_without_room_for_bytes_is_rejected(token):
    with pytest.raises(UserError, match="--vocabulary must be at least 300 for --token"):
        tasks.find("language_model").Config(token=token, vocabulary=299)


# --- Scores ------------------------------------------------------------------


def test_scores_are_over_all_tokens_and_characters(of_words):
    texts = ["the old man", "Anna had a zzz", "the " * 20]
    outputs = of_words.run("serving_default", texts)
    rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    examples = [Example({"text": text}, f"x:{n}") for n, text in enumerate(texts)]
    evaluation = of_words.task.Evaluator(of_words.task).evaluate(zip(examples, rows, strict=True))
    loss, count = -outputs["log_probability"].sum(), outputs["lengths"].sum()
    size = len(texts[0]) + 1 + len(texts[1]) + 1 + len("the " * 9) - 1
    assert evaluation.scores["perplexity"] == pytest.approx(math.exp(loss / count), rel=1e-5)
    expected = loss / math.log(2) / size
    assert evaluation.scores["bits_per_character"] == pytest.approx(expected, rel=1e-5)
    low, high = evaluation.intervals["perplexity"]
    assert low <= evaluation.scores["perplexity"] <= high
    evaluator = of_words.task.Evaluator(of_words.task)
    each = [evaluator.statistics(*pair) for pair in zip(examples, rows, strict=True)]
    for name, score in evaluation.scores.items():
        sums = np.sum([statistics[name] for statistics in each], axis=0)
        assert evaluator.score_of(name, sums) == pytest.approx(score)
    assert "1 of 3 texts are longer than 9 tokens" in evaluation.warnings[0]
    assert "of the words are unknown" in evaluation.warnings[1]


def test_baselines_are_those_of_plain_counting(of_words):
    def stream(*texts):
        return Stream(lambda: (Example({"text": text}, "x:1") for text in texts))

    task = of_words.task
    splits = Splits(stream("the old man", "the ring"), stream("the"), stream("the old ring", "a"))
    train, test = (
        [row for e in part for row in task.ids(tf.constant([e.values["text"]])).to_list()]
        for part in (splits.train, splits.test)
    )
    start, single, pairs = task.tokens.start, collections.Counter(), collections.Counter()
    for row in train:
        single.update(row)
        pairs.update(itertools.pairwise([start, *row]))
    possible = len(task.tokens) - 2

    def unigram(token):
        return (single[token] + 1) / (single.total() + possible)

    def bigram(before, token):
        followers = [count for (first, _), count in pairs.items() if first == before]
        if not followers:
            return unigram(token)
        types, total = len(followers), sum(followers)
        return (pairs[before, token] + types * unigram(token)) / (total + types)

    following = [token for row in test for token in row]
    before = [token for row in test for token in [start, *row[:-1]]]
    losses = {
        "unigram": -sum(math.log(unigram(token)) for token in following),
        "bigram": -sum(map(math.log, map(bigram, before, following))),
    }
    sums = baselines.sums(task, splits)
    for method, loss in losses.items():
        expected = [loss, len(following), len("the old ring") + 1 + len("a") + 1]
        np.testing.assert_allclose(sums[method], expected, rtol=1e-9)
    scores = of_words.task.Evaluator(task).baselines(splits)
    assert scores["bigram"]["perplexity"] == pytest.approx(
        math.exp(losses["bigram"] / len(following))
    )
