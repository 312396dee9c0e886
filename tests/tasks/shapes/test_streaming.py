"""A text that is fed in pieces has the responses of the whole text, whatever the cuts."""

import itertools
import random

import numpy as np
import pytest
import tensorflow as tf

import tasks
from models.streaming import MAX_PIECE
from models.text import entities
from models.text.edit_scripts import edit_script
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.shapes.sequence_labelling import streaming as labelling
from tasks.shapes.sequence_labelling.entity_scheme import EntityScheme
from tests.support import untrained
from tests.support.cells import slow_except

SMALL = {"units": 4, "embedding": 4}
FORWARD = {"sentiment": {"direction": "forward"}, "tagging": {"direction": "forward"}}
VARIANTS = {
    "tagging": ("tagging", 1, {"lookahead": 2, "layers": 2, "characters": 4}),
    "tagging at once": ("tagging", 1, {"characters": 0, "cell": "gru"}),
    "tagging by two": ("tagging", 2, {"lookahead": 1, "characters": 0, "cell": "slstm"}),
    "tagging by a CRF": ("tagging", 1, {"crf": True, "lag": 2, "characters": 0}),
    "tagging of entities": ("tagging", 1, {"lookahead": 1, "lag": 1, "characters": 0}),
    "tagging by two CRFs of entities": (
        *("tagging", 2, {"crf": True, "lag": 3, "lookahead": 1, "characters": 0, "cell": "gru"}),
    ),
    "tagging of lemmas": ("tagging", 1, {"lookahead": 1, "characters": 4, "cell": "rnn"}),
    "sentiment": ("sentiment", 1, {"layers": 2}),
    "sentiment by two": ("sentiment", 2, {"evidence": 0, "cell": "mingru"}),
    "translation": ("translation", 1, {"stream": True, "max_length_ratio": 0.1, "beam_size": 1}),
}
OUTPUTS = {
    "tagging": ("tokens", "tags", "probability", "lemmas"),
    "sentiment": ("label", "probabilities"),
    "translation": ("translation", "log_probability"),
}
TEXTS = [
    "Mr. X can't pay $50 (or 20%)... 好看\u0301的 电影！ U.S. the old man the boats".encode(),
    b"",
    b" \xff\xf0\x9f\x99 one\0two \xe5\xa5",
    b"slowly " * 40 + b"y" * 600 + b" end",
    b"a",
]


def examples(variant, name):
    """Examples to learn from; lemmas have endings of five kinds."""
    if variant.endswith("entities"):
        return untrained.examples(name, data="sample:entities")
    found = list(untrained.examples(name))
    if variant.endswith("lemmas"):
        for number, example in enumerate(found):
            tokens = example.values["tokens"]
            tags = tuple(edit_script(word, word.lower() + "x" * (len(word) % 5)) for word in tokens)
            found[number] = Example({"tokens": tokens, "tags": tags}, example.origin)
    return Stream(lambda: iter(found))


class Streaming:
    """Signatures of a small task with random weights."""

    def __init__(self, variant, folder):
        name, networks, settings = VARIANTS[variant]
        self.variant = variant
        cls = tasks.find(name)
        settings = {**SMALL, **FORWARD.get(name, {}), "max_length": 2000, **settings}
        config = cls.Config(**{"n_best": 1, **settings} if name == "translation" else settings)
        self.task = cls.learn(config, examples(variant, name), folder)
        self.name, self.is_tagging = name, name == "tagging"
        drawn = np.random.default_rng(0)
        made = [self.task.build("serving") for _ in range(networks)]
        model = made[0] if networks == 1 else self.task.combine(made)
        for weight in model.weights:
            if weight.path.split("/")[-1] not in ("temperature", "threshold", "documents"):
                weight.assign(drawn.normal(scale=0.7, size=weight.shape))
        self.model = model
        self.signatures = self.task.signatures(model)

    def run(self, name, *columns):
        columns = [tf.constant(np.array(column, object), tf.string) for column in columns]
        outputs = self.signatures[name](*columns)
        return {key: value.numpy() for key, value in outputs.items()}

    def start(self, rows):
        return list(self.signatures["start"](tf.zeros([rows], tf.int32))["state"].numpy())

    def whole(self, texts):
        return [self.final(outputs) for outputs in by_row(self.run("serving_default", texts))]

    def pieces(self, texts, cuts):
        """Returns the responses to texts that are fed together, each cut at its own places."""
        states = self.start(len(texts))
        parts = [
            [text[a:b] for a, b in itertools.pairwise(sorted({0, *places, len(text)}))]
            for text, places in zip(texts, cuts, strict=True)
        ]
        responses = [[] for _ in texts]
        for fed in itertools.zip_longest(*parts, fillvalue=b""):
            outputs = self.run("feed", states, fed)
            assert outputs["valid"].all()
            assert outputs["bytes_read"].tolist() == [len(each) for each in fed]
            states = list(outputs["state"])
            for row, response in zip(responses, by_row(outputs), strict=True):
                row.append(self.final(response))
        outputs = self.run("finish", states)
        assert outputs["valid"].all()
        for row, response in zip(responses, by_row(outputs), strict=True):
            row.append(self.final(response))
        if not self.is_tagging:
            return [row[-1] for row in responses]
        return [
            {name: [v for each in row for v in each[name]] for name in row[0]} for row in responses
        ]

    def final(self, response):
        names = [name for name in OUTPUTS[self.name] if name in response]
        if not self.is_tagging:
            return {name: response[name] for name in names}
        length = response["lengths"]
        assert not any(response["tokens"][length:]) and not any(response["tags"][length:])
        return {name: response[name][:length] for name in names}


def by_row(outputs):
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]


def assert_same(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        for name, value in other.items():
            if name in ("probability", "probabilities", "log_probability"):
                np.testing.assert_allclose(one[name], value, atol=1e-5)
            else:
                assert np.array_equal(one[name], value), (name, one[name], value)


@pytest.fixture(
    scope="module",
    params=slow_except(["tagging by two", "sentiment"], VARIANTS),
)
def streaming(request, tmp_path_factory):
    return Streaming(request.param, tmp_path_factory.mktemp("task"))


def test_pieces_have_the_responses_of_the_whole_text(streaming):
    whole, drawn = streaming.whole(TEXTS), random.Random(0)
    if streaming.is_tagging:
        assert len({tag for row in whole for tag in row["tags"]}) > 1
    if streaming.name == "translation":
        assert len({row["translation"] for row in whole}) > 2
    for longest in (1, 5, 40, 10_000):
        cuts = []
        for text in TEXTS:
            if longest == 1:  # a whole text of single bytes takes long
                cuts.append(range(min(len(text), 60)))
            else:
                steps = (drawn.randint(1, longest) for _ in range(len(text)))
                cuts.append([cut for cut in itertools.accumulate(steps) if cut < len(text)])
        assert_same(streaming.pieces(TEXTS, cuts), whole)


def test_tags_of_entities_are_well_formed(streaming):
    if "entities" not in streaming.variant:
        pytest.skip("no entities")
    assert streaming.task.scheme.constraints is not None
    for row in streaming.whole(TEXTS):
        before = "O"
        for tag in (tag.decode() for tag in row["tags"]):
            assert tag[0] != "I" or before[1:] == tag[1:], row["tags"]
            before = tag


@pytest.mark.parametrize(
    ("crf", "scheme"), [pytest.param(False, "BIO", marks=pytest.mark.slow), (True, "IOB1")]
)
def test_a_lag_as_long_as_the_text_decodes_all_tags_together(crf, scheme, tmp_path):
    cls = tasks.find("tagging")
    settings = {"direction": "forward", "lookahead": 1, "characters": 0, "lag": 64, "crf": crf}
    config = cls.Config(**SMALL, **settings, scheme=scheme)
    examples = untrained.examples("tagging", data="sample:entities")
    task = cls.learn(config, examples, tmp_path)
    model, drawn = task.build("serving"), np.random.default_rng(2)
    for weight in model.weights:  # so that words, rather than transitions, decide
        scale = 3.0 if weight.path.endswith(("kernel", "embeddings")) else 0.3
        if not weight.path.endswith("temperature"):
            weight.assign(drawn.normal(scale=scale, size=weight.shape))
    words = [word for example in examples for word in example.values["tokens"]]
    text = " ".join(words[:60])
    outputs = task.signatures(model)["serving_default"]([text])
    tokens = outputs["tokens"][0]
    inputs = task.network_inputs(tokens)
    ids, probability = task._decode(model, {name: v[None] for name, v in inputs.items()})
    ids = task.scheme.to_reported(ids[0], tf.zeros_like(ids[0]))
    expected = [task.scheme.reported[number] for number in ids.numpy()]
    assert outputs["tags"][0].numpy().tolist() == [tag.encode() for tag in expected]
    np.testing.assert_allclose(outputs["probability"][0], probability[0], atol=1e-5)
    assert len(set(expected)) > 1


@pytest.mark.parametrize("scheme", ["IO", "IOB1", "BIO", "BIOES", "BILOU"])
def test_well_formed_tags_are_converted_one_by_one_as_together(scheme):
    tags = entities.complete_tags(["LOC", "PER"], "BIOES")
    made = EntityScheme(scheme, tags, trained="BIOES", constrain=True)
    start, follow, end = made.constraints
    rows = [
        row
        for row in itertools.product(range(len(tags)), repeat=4)
        if start[row[0]] and end[row[-1]] and all(follow[pair] for pair in itertools.pairwise(row))
    ]
    assert len(rows) > 100
    ids = tf.constant(rows)
    together = made.to_reported(tf.reshape(ids, [-1]), tf.repeat(tf.range(len(rows)), 4))
    # In two calls, of which the second has steps before that are not valid.
    none = tf.fill([len(rows)], -1)
    first = made.to_reported_one_by_one(ids[:, :2], tf.ones([len(rows), 2], tf.bool), none)
    padded = tf.concat([tf.zeros_like(ids[:, :1]), ids[:, 2:]], axis=1)
    mask = tf.constant([[False, True, True]] * len(rows))
    second = made.to_reported_one_by_one(padded, mask, ids[:, 1])[:, 1:]
    assert tf.concat([first, second], 1).numpy().ravel().tolist() == together.numpy().tolist()


def test_small_chunks_change_nothing(streaming, monkeypatch, tmp_path):
    if not streaming.is_tagging:
        pytest.skip("one kind of chunks is enough")
    whole = streaming.whole(TEXTS)
    monkeypatch.setattr(labelling, "_CHUNK_TOKENS", 7)
    in_chunks = Streaming(streaming.variant, tmp_path)
    assert_same(in_chunks.whole(TEXTS), whole)


def test_a_state_that_is_not_valid_affects_its_row_only(streaming):
    [good] = streaming.run("feed", streaming.start(1), [b"the old man the"])["state"]
    drawn = random.Random(0)
    states = [good, b"", b"junk", b"\xff" * 99, good[:-4], good[4:], good + b"AAAA", good]
    for _ in range(50):
        place = drawn.randrange(len(good))
        other = drawn.choice(b"ABCDEFxyz0189-_".replace(good[place : place + 1], b""))
        states.insert(1, good[:place] + bytes([other]) + good[place + 1 :])
    is_good = [state == good for state in states]
    [alone] = by_row(streaming.run("feed", [good], [b" boats. And"]))
    outputs = streaming.run("feed", states, [b" boats. And"] * len(states))
    assert outputs["valid"].tolist() == is_good
    for response, valid in zip(by_row(outputs), is_good, strict=True):
        if valid:
            assert_same([streaming.final(response)], [streaming.final(alone)])
        else:
            assert response["state"] == b"" and response["bytes_read"] == 0
            if streaming.is_tagging:
                assert response["lengths"] == 0
    finished = streaming.run("finish", states)
    assert finished["valid"].tolist() == is_good
    for response in by_row(finished):
        streaming.final(response)


def test_a_feed_reads_a_limited_piece_and_says_so(streaming):
    long = b"word " * (MAX_PIECE // 5 + 9)
    outputs = streaming.run("feed", streaming.start(2), [long, b"short"])
    assert outputs["bytes_read"].tolist() == [MAX_PIECE, 5]


def test_the_size_of_a_state_does_not_depend_on_what_was_read(streaming):
    if streaming.name == "translation":
        pytest.skip("the state has the text")
    state, sizes = streaming.start(1), set()
    for _ in range(4):
        state = streaming.run("feed", state, [b"the boats " * 30])["state"].tolist()
        sizes.add(len(state[0]))
    assert len(sizes) == 1


def test_a_batch_without_rows_has_no_responses(streaming):
    for name, columns in (("feed", [[], []]), ("finish", [[]])):
        for value in streaming.run(name, *columns).values():
            assert len(value) == 0
    assert streaming.start(0) == []


def test_state_and_text_must_have_equal_rows(streaming):
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have equal rows"):
        streaming.run("feed", streaming.start(2), [b"a"])


def test_other_weights_make_other_states(tmp_path):
    made = []
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        cls = tasks.find("sentiment")
        config = cls.Config(**SMALL, direction="forward")
        task = cls.learn(config, untrained.examples("sentiment"), folder)
        tf.keras.utils.set_random_seed(seed)
        made.append(task.signatures(task.build("serving")))
    state = made[0]["start"](tf.zeros([1], tf.int32))["state"]
    assert made[0]["finish"](state)["valid"].numpy().tolist() == [True]
    assert made[1]["finish"](state)["valid"].numpy().tolist() == [False]


def test_the_state_of_a_source_is_bounded_and_so_is_what_is_translated(tmp_path):
    cls = tasks.find("translation")
    config = cls.Config(**SMALL, stream=True, max_length=2, beam_size=1, n_best=1)
    task = cls.learn(config, untrained.examples("translation"), tmp_path)
    signatures = task.signatures(task.build("serving"))
    state, sizes = signatures["start"](tf.zeros([1], tf.int32))["state"], []
    for _ in range(5):
        fed = signatures["feed"](state, [b"ab cd" * 50])
        assert fed["bytes_read"].numpy().tolist() == [250] and fed["valid"].numpy().all()
        state = fed["state"]
        sizes.append(len(state.numpy()[0]))
    assert sizes[0] < sizes[1] == sizes[-1] < 700
    whole = signatures["serving_default"]([b"ab cd" * 250])
    assert signatures["finish"](state)["translation"] == whole["translation"]


def test_networks_that_read_both_ways_have_no_streams(tmp_path):
    cls = tasks.find("tagging")
    task = cls.learn(cls.Config(units=2, embedding=2), untrained.examples("tagging"), tmp_path)
    assert set(task.signatures(task.build("serving"))) == {"serving_default", "tokens"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lookahead": 2}, r"--lookahead \(2\) needs --direction forward"),
        ({"lag": 0, "direction": "forward"}, "--lag must be at least 1"),
        ({"direction": "backward"}, r"--direction must be one of \['both', 'forward'\]"),
        ({"lookahead": 17, "direction": "forward"}, "--lookahead must be at least 0 and at most"),
    ],
)
def test_settings_that_have_no_stream_are_rejected(settings, message):
    with pytest.raises(UserError, match=message):
        tasks.find("tagging").Config(**settings)


def test_sentiment_that_reads_forward_has_no_linear_path_and_says_so():
    cls = tasks.find("sentiment")
    config, _, notes = cls.settle(cls.Config(direction="forward"), cls.Corpus())
    assert config.linear_path == 0
    assert any("--direction forward: --linear-path 0" in note for note in notes)
