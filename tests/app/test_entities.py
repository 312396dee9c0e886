"""Named entities from data in any scheme to served tags that are always well formed."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import tasks
from app.serving import compatibility, export
from app.serving.session import SavedModelSession
from models.text.entities import entities
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tests.models.text.test_entities import is_well_formed
from tests.support import untrained

WORDS = ["Ada", "Byron", "met", "in", "Paris", "Rome", ",", "she", "said", "."]
# The same sentences in each scheme: two neighbours of one type, one of another.
TAGS = {
    "IOB1": ["I-PER", "I-PER", "B-PER", "O", "I-LOC", "B-LOC", "O"],
    "BIO": ["B-PER", "I-PER", "B-PER", "O", "B-LOC", "B-LOC", "O"],
    "BIOES": ["B-PER", "E-PER", "S-PER", "O", "S-LOC", "S-LOC", "O"],
    "BILOU": ["B-PER", "L-PER", "U-PER", "O", "U-LOC", "U-LOC", "O"],
    "IO": ["I-PER", "I-PER", "I-PER", "O", "I-LOC", "I-LOC", "O"],
}


def examples(tags, count=8):
    rng = np.random.default_rng(0)
    rows = [tuple(rng.choice(WORDS, len(tags)).tolist()) for _ in range(count)]
    return Stream(lambda: (Example({"tokens": row, "tags": tuple(tags)}, "data:1") for row in rows))


def learnt(folder, tags, **settings):
    """A task that is learnt from sentences with the same tags."""
    cls = tasks.find("tagging")
    small = {"characters": 0, "layers": 1, "max_length": 5}
    config = cls.Config(**{**untrained.SMALL, **small, **settings})
    folder.mkdir()
    return cls.learn(config, examples(tags), folder)


def drawn_model(task):
    """A network whose tags are drawn: its logits have large random weights."""
    model = task.build("reuse")
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.path.startswith(("logits/kernel", "crf", "embedding")):
            weight.assign(rng.normal(size=weight.shape) * (1 if "crf" in weight.path else 8))
    return model


def requests(count=40):
    rng = np.random.default_rng(2)
    rows = [rng.choice(WORDS, size).tolist() for size in rng.integers(1, 30, count)]
    return [{"tokens": row, "lengths": len(row)} for row in rows]


@pytest.mark.parametrize(
    ("scheme", "settings"),
    [
        ("IOB1", {}),
        ("BIO", {"crf": True}),
        ("BIO", {"constrain": False}),
        ("BILOU", {"crf": True, "train_scheme": "same"}),
        ("IO", {}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else value,
)
def test_served_tags_are_well_formed_in_the_scheme_of_the_data(tmp_path, scheme, settings):
    task = learnt(tmp_path / "learnt", TAGS[scheme], **settings)
    assert task.config.monitor == "entity_f1"
    assert task.scheme.scheme_name == scheme and len(task.remarks()) == 1
    model = drawn_model(task)
    draft = export.draft(task, model, tmp_path / "draft")
    compatibility.check(draft)
    rows = requests()  # of which most take several windows of 5 tokens
    responses = SavedModelSession(draft).predict(rows, "tokens")
    used = set()
    for row, response in zip(rows, responses, strict=True):
        tags = [tag.decode() for tag in response["tags"]]
        assert len(tags) == row["lengths"]
        assert is_well_formed(tags, scheme), tags
        used.update(tags)
    assert used >= set(TAGS[scheme])
    tags, probability = by_hand(task, model, rows[0]["tokens"][:4])
    row = {"tokens": rows[0]["tokens"][:4], "lengths": 4}
    [response] = SavedModelSession(draft).predict([row], "tokens")
    np.testing.assert_allclose(response["probability"], probability, atol=1e-5)
    if settings.get("constrain", True):
        types = [tag.decode()[2:] for tag in response["tags"]]
        assert types == [tag[2:] for tag in tags]


def by_hand(task, model, tokens):
    """The best well-formed tags of one window, in the scheme of the network, by enumeration of
    all sequences, and the probability of what a response has for each."""
    inputs = {name: value[None] for name, value in task.network_inputs(tf.constant(tokens)).items()}
    logits = model(inputs)
    trained, network_tags = task.config.train_scheme, task.tags.words
    scheme = task.scheme.scheme_name if trained == "same" else trained
    weights = [np.zeros(len(network_tags)), np.zeros([len(network_tags)] * 2)]
    weights.append(weights[0])
    shares = tf.nn.softmax(logits)[0].numpy()
    if task.config.crf:
        crf = model.get_layer("crf")
        shares = crf.marginals(logits)[0].numpy()
        weights = [crf.start.numpy(), crf.transitions.numpy(), crf.end.numpy()]
    best, best_score = None, -np.inf
    scores = logits[0].numpy()
    for path in itertools.product(range(len(network_tags)), repeat=len(tokens)):
        score = scores[range(len(path)), path].sum() + weights[0][path[0]] + weights[2][path[-1]]
        score += sum(weights[1][pair] for pair in itertools.pairwise(path))
        tags = [network_tags[tag] for tag in path]
        if score > best_score and (not task.config.constrain or is_well_formed(tags, scheme)):
            best, best_score = tags, score
    same = {  # what tags of the network that mean the same in a response have in common
        "BIO": lambda tag: (tag[0] in "BS", tag[2:]),
        "BILOU": lambda tag: tag,
        "IO": lambda tag: tag[2:],
        "IOB1": lambda tag: tag[2:],
    }[task.scheme.scheme_name]
    probability = [
        sum(share for tag, share in zip(network_tags, row, strict=True) if same(tag) == same(own))
        for row, own in zip(shares, best, strict=True)
    ]
    return best, probability


def encoded_tags(task, tags, words=None):
    words = words or WORDS[: len(tags)]
    values = {"tokens": tf.ragged.constant([words]), "tags": tf.ragged.constant([tags])}
    encoded = task.encode(values)
    ids = encoded["tags"].to_list()
    return [[task.tags.words[tag] if tag >= 0 else "?" for tag in window] for window in ids]


def test_ill_formed_and_unknown_tags_are_trained_on_as_conlleval_reads_them(tmp_path):
    task = learnt(tmp_path / "learnt", [*TAGS["BIO"], "I-LOC"])
    assert "1 pairs" not in task.remarks()[0] and "8 pairs of neighbours" in task.remarks()[0]
    tags = ["I-PER", "I-LOC", "B-ORG", "I-PER", "I-PER"]
    assert encoded_tags(task, tags) == [["S-PER", "S-LOC", "?", "B-PER", "E-PER"]]
    # An entity across the border of a window is cut, so that each window is well formed.
    tags = ["O", "O", "O", "B-PER", "I-PER", "I-PER", "O"]
    windows = encoded_tags(task, tags)
    assert windows == [["O", "O", "O", "B-PER", "E-PER"], ["S-PER", "O"]]
    model = task.build()
    crf = learnt(tmp_path / "crf", [*TAGS["BIO"], "I-LOC"], crf=True)
    model = crf.build()
    crf.compile(model, "sgd")
    values = {"tokens": tf.ragged.constant([WORDS[:5]]), "tags": tf.ragged.constant([tags[:5]])}
    padded = {
        name: value.to_tensor() if isinstance(value, tf.RaggedTensor) else value
        for name, value in crf.encode(values).items()
    }
    loss = model.test_on_batch(*crf.to_inputs(padded, training=True), return_dict=True)["loss"]
    assert np.isfinite(loss)


def test_without_the_settings_tags_are_trained_as_they_are(tmp_path):
    task = learnt(tmp_path / "old", TAGS["BIO"], constrain=False, train_scheme="same")
    assert task.tags.words == ("B-LOC", "B-PER", "I-PER", "O")
    assert not task.scheme.converts and task.scheme.scheme_name == "BIO" and not task.remarks()
    none = learnt(tmp_path / "none", TAGS["BIO"], scheme="none")
    assert none.scheme.scheme_name is None and none.config.monitor == "accuracy"
    forced = learnt(tmp_path / "forced", TAGS["BIO"], scheme="IOB1")
    assert forced.scheme.scheme_name == "IOB1"
    record = {"monitor": "loss"}
    cls = tasks.find("tagging")
    from tasks.core.settings import from_record

    old = from_record(cls.Config, record)
    assert (old.constrain, old.train_scheme) == (False, "same")
    assert from_record(cls.Config, {}).monitor == "accuracy"


def test_a_scheme_that_the_tags_do_not_have_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"--scheme IO: .* got \['B-LOC', 'B-PER'\]"):
        learnt(tmp_path / "io", TAGS["BIO"], scheme="IO")
    with pytest.raises(UserError, match=r"--scheme BIO: .* got \['NOUN', 'VERB'\]"):
        learnt(tmp_path / "pos", ["NOUN", "VERB"], scheme="BIO")


def test_class_weights_are_given_for_the_tags_of_the_data(tmp_path):
    weights = tmp_path / "weights.tsv"
    weights.write_text("B-PER\t2\nI-PER\t3\nO\t0.5\nB-LOC\t1.5\n", encoding="utf-8")
    task = learnt(tmp_path / "learnt", TAGS["BIO"], class_weights=str(weights))
    by_tag = dict(zip(task.tags.words, task._class_weights.tolist(), strict=True))
    assert by_tag["S-PER"] == by_tag["B-PER"] == 2 and by_tag["E-PER"] == by_tag["I-PER"] == 3
    assert by_tag["O"] == 0.5 and by_tag["S-LOC"] == 1.5 and by_tag["I-LOC"] == 1


def test_entities_of_responses_are_those_of_the_network(tmp_path):
    """Data in IOB1: neighbours of one type are told apart, though the tags are I and B."""
    task = learnt(tmp_path / "learnt", TAGS["IOB1"], max_length=40)
    draft = export.draft(task, drawn_model(task), tmp_path / "draft")
    responses = SavedModelSession(draft).predict(requests(), "tokens")
    tags = [[tag.decode() for tag in response["tags"]] for response in responses]
    assert {tag[0] for row in tags for tag in row} == {"B", "I", "O"}
    assert any(one.end == two.start for row in tags for one, two in pairs(entities(row)))


def pairs(spans):
    return [(one, two) for one, two in itertools.pairwise(spans) if one.type == two.type]


@pytest.mark.parametrize("settings", [{}, {"crf": True, "max_tokens": 6}], ids=["softmax", "crf"])
def test_the_entities_signature_has_the_spans_of_the_tags(tmp_path, settings):
    task = learnt(tmp_path / "learnt", TAGS["BIO"], **settings)
    session = SavedModelSession(export.draft(task, drawn_model(task), tmp_path / "draft"))
    texts = ["Ada Byron\r\nmet  Paris, she said.", "🙂 Rome e\u0301 Ada🙂!", "", "\u3000", "Paris"]
    texts += [" ".join(row["tokens"]) for row in requests(20)]
    tagged = session.predict([{"text": text} for text in texts])
    responses = session.predict([{"text": text} for text in texts], "entities")
    spans = 0
    for text, tags, response in zip(texts, tagged, responses, strict=True):
        positions, position = [], 0
        for token in tags["tokens"]:
            start = text.index(token.decode(), position)
            position = start + len(token.decode())
            positions.append((start, position))
        expected = entities([tag.decode() for tag in tags["tags"]])
        assert response["count"] == len(expected) == len(response["types"])
        assert response["truncated"] == (tags["lengths"] > len(tags["tokens"]))
        for number, (first, last, type_) in enumerate(expected):
            start, end = positions[first][0], positions[last - 1][1]
            assert (response["starts"][number], response["ends"][number]) == (start, end)
            part = text.encode()[response["byte_starts"][number] : response["byte_ends"][number]]
            assert part.decode() == text[start:end]
            assert response["types"][number].decode() == type_
            assert response["probability"][number] == min(tags["probability"][first:last])
            spans += 1
    assert spans > 20
    columns = session.predict_columns({"text": texts}, "entities")
    beyond = np.arange(columns["starts"].shape[1]) >= columns["count"][:, None]
    for name, values in columns.items():
        if values.ndim > 1:
            assert not values[beyond].any(), name
    empty = session.predict_columns({"text": []}, "entities")
    assert {values.shape[0] for values in empty.values()} == {0}


TEXT = "Zoé met\r\n🙂 Ada Byron!".encode()
RESPONSE = {
    "starts": [0, 11],
    "ends": [3, 20],
    "byte_starts": [0, 15],
    "byte_ends": [4, 24],
    "types": ["PER", "PER"],
    "probability": [0.5, 0.25],
    "count": 2,
    "truncated": False,
}


def test_entities_are_printed_as_marked_text_as_brat_and_as_json():
    cls = tasks.find("tagging").RequestFormat
    entity_format = cls(entities=True)
    assert entity_format.signature == "entities"
    [(row, context)] = entity_format.requests([TEXT])
    assert row == {"text": TEXT}
    assert entity_format.show(context, RESPONSE) == "[Zoé PER] met\r\n🙂 [Ada Byron PER]!"
    brat = cls(entities=True, format="brat").show(context, RESPONSE)
    assert brat == "T1\tPER 0 3\tZoé\nT2\tPER 11 20\tAda Byron\n"
    assert TEXT.decode()[11:20] == "Ada Byron"
    [first, _] = entity_format.to_json(RESPONSE)["entities"]
    assert first == {
        "start": 0, "end": 3, "byte_start": 0, "byte_end": 4, "type": "PER", "probability": 0.5
    }  # fmt: skip
    with pytest.raises(UserError, match=r"more tokens than this version tags \(--max-tokens\)"):
        entity_format.show(context, RESPONSE | {"truncated": True})
    with pytest.raises(UserError, match="cannot be combined with --input tokens"):
        cls(entities=True, input="tokens")
    with pytest.raises(UserError, match="with --entities, got 'conllu'"):
        cls(entities=True, format="conllu")
    with pytest.raises(UserError, match="without --entities, got 'brat'"):
        cls(format="brat")
    columns = {"tokens": ["Ada", "slept"], "tags": ["B-PER", "O"], "lengths": 2}
    assert cls(format="conll").show(None, columns) == "Ada B-PER\nslept O\n"
    columns = {"tokens": ["10 000", "x"], "tags": ["NUM", "X"], "lengths": 2}
    assert cls(format="conll").show(None, columns) == "10 000\tNUM\nx X\n"


def test_blanks_in_types_and_texts_do_not_shift_the_fields_of_brat():
    text = "Zoé\tA\nB".encode()
    response = {
        "starts": [0],
        "ends": [7],
        "byte_starts": [0],
        "byte_ends": [len(text)],
        "types": ["first name"],
        "truncated": False,
    }
    cls = tasks.find("tagging").RequestFormat
    shown = cls(entities=True, format="brat").show(text, response)
    assert shown == "T1\tfirst_name 0 7\tZoé A B\n"


def test_tags_that_are_numbers_are_remarked(tmp_path):
    task = learnt(tmp_path / "numbers", ["0", "3", "0", "7"])
    assert task.remarks() == ("all 3 tags are numbers, such as 0: the data lacks their names",)
