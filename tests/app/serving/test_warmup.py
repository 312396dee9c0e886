"""Warm-up requests of published versions."""

import collections
import io
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from app.serving import session, warmup
from tasks.core.examples import Example, Stream

ROWS = [{"text": "word " * length, "lengths": length} for length in range(1, 41)]


@pytest.fixture(scope="module")
def version(tmp_path_factory, untrained_copy):
    return untrained_copy("tagging", tmp_path_factory.mktemp("warm"))


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


def test_the_rows_of_a_large_request_are_cut(version, tmp_path, monkeypatch):
    (tmp_path / "assets.extra").mkdir()
    monkeypatch.setattr(warmup, "MAX_BYTES", 4000)
    texts = [["w\u00f6rter" * size] * length for length, size in ((1, 1), (9, 50), (1, 5000))]
    rows = [{"text": " ".join(t), "tokens": t, "lengths": len(t)} for t in texts]
    count = warmup.write(tmp_path, "tagging", session.signatures(version), rows)
    requests = list(warmup.read(tmp_path))
    assert count == len(requests) == 18
    assert max(request.ByteSize() for request in requests) < 4000
    for request in requests:
        for values in request.inputs.values():
            assert values.dtype != tf.string or any(tf.make_ndarray(values).flat)
    shutil.copytree(version, tmp_path / "version")
    shutil.copy(tmp_path / warmup.PATH, tmp_path / "version" / warmup.PATH)
    assert warmup.replay(tmp_path / "version") == 18


def test_there_is_a_request_even_if_none_can_be_made_small(version, tmp_path, monkeypatch):
    (tmp_path / "assets.extra").mkdir()
    monkeypatch.setattr(warmup, "MAX_BYTES", 10)
    signatures = session.signatures(version)
    rows = [{"text": "a b", "tokens": ["a", "b"], "lengths": 2}]
    assert warmup.write(tmp_path, "tagging", signatures, rows) >= len(signatures)
    assert {r.model_spec.signature_name for r in warmup.read(tmp_path)} == signatures.keys()


def photograph(seed, file_format):
    """An image of more than a MiB, such as phones take."""
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, [1000, 1100, 3], dtype=np.uint8)
    Image.fromarray(noise).save(file, file_format, quality=95)
    assert file.tell() > warmup.MAX_BYTES
    return file.getvalue()


def test_photographs_are_scaled_down(tmp_path, untrained_copy):
    """Every row of these is too large for a request; the server would get none."""
    version = untrained_copy("captioning", tmp_path)
    rows = [{"image_bytes": photograph(n, "PNG" if n % 2 else "JPEG")} for n in range(4)]
    rows.append({"image_bytes": b"no image" * 2**18})
    (tmp_path / "assets.extra").mkdir()
    signatures = session.signatures(version)
    count = warmup.write(tmp_path, "captioning", signatures, rows)
    assert count == 9 * len(signatures)
    for request in warmup.read(tmp_path):
        assert request.ByteSize() < warmup.MAX_BYTES
        images = tf.make_ndarray(request.inputs["image_bytes"])
        assert sum(tf.io.is_jpeg(image).numpy() for image in images) >= len(images) // 2


def test_examples_are_read_by_their_size_in_bytes():
    read = []

    def examples():
        for number in range(100):
            read.append(number)
            yield Example({"image_bytes": b"x" * 1000, "captions": ("a", "b")}, "a:1")

    batches = Stream(examples).batches(10, max_bytes=3000)
    assert len(next(batches)) == 3 and len(read) == 3
    assert [len(batch) for batch in Stream(examples).batches(40)] == [40, 40, 20]
    assert [len(batch) for batch in Stream(examples).batches(40, 10**9)] == [40, 40, 20]


def test_every_request_is_replayed(version):
    assert warmup.replay(version) == 18
