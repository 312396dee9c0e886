"""Warm-up requests of published versions."""

import collections

import pytest
import tensorflow as tf

from app.serving import session, warmup
from tests.support import untrained

ROWS = [{"text": "word " * length, "lengths": length} for length in range(1, 41)]


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return untrained.version("tagging", tmp_path_factory.mktemp("warm"))


def test_each_signature_has_requests_of_several_batch_sizes_and_lengths(version):
    requests_of = collections.defaultdict(list)
    for request in warmup.read(version):
        assert request.model_spec.name == "tagging"
        arrays = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        (rows,) = {len(array) for array in arrays.values()}
        longest = max(len(str(value)) for value in arrays.get("text", arrays.get("tokens")).flat)
        requests_of[request.model_spec.signature_name].append((rows, longest, set(arrays)))
    assert requests_of.keys() == session.signatures(version).keys()
    for name, requests in requests_of.items():
        assert [rows for rows, *_ in requests] == [1] * 3 + [8] * 3 + [32] * 3
        assert all(
            inputs == set(session.signatures(version)[name].inputs) for *_, inputs in requests
        )
    lengths = [longest for _, longest, _ in requests_of["serving_default"]]
    assert lengths[0] < lengths[1] < lengths[2]


def test_a_few_rows_are_repeated_to_fill_a_batch(version, tmp_path):
    (tmp_path / "assets.extra").mkdir()
    signature = {"serving_default": session.signatures(version)["serving_default"]}
    assert warmup.write(tmp_path, "tagging", signature, ROWS[:2]) == 9
    *_, last = warmup.read(tmp_path)
    texts = tf.make_ndarray(last.inputs["text"])
    assert len(texts) == 32 and {text.decode() for text in texts} <= {
        ROWS[0]["text"],
        ROWS[1]["text"],
    }


def test_a_large_request_is_skipped(version, tmp_path, monkeypatch):
    (tmp_path / "assets.extra").mkdir()
    signature = {"serving_default": session.signatures(version)["serving_default"]}
    monkeypatch.setattr(warmup, "MAX_BYTES", 1500)
    count = warmup.write(tmp_path, "tagging", signature, ROWS)
    assert 3 <= count < 9
    assert max(request.ByteSize() for request in warmup.read(tmp_path)) < 1500


def test_every_request_is_replayed(version):
    assert warmup.replay(version) == 18
