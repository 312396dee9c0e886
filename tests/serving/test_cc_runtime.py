"""Published versions in TensorFlow's C++ runtime alone answer as Keras does."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import models
import tasks
from app.serving import payloads, warmup
from tests.support import untrained
from tests.support.cc_runtime import Died, Probe
from tests.support.predictions import distances

# A fused op, a loop, and an equation that only the loop runs. The signatures of a task share
# its network, so that Keras is asked for all of them with the first cell only.
CELLS = ("lstm", "gru", "mut1")
BATCHES = (0, 1, 3, 8)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", tasks.names())
def test_it_answers_as_keras_does_and_takes_its_warm_up_requests(name, cell, program, version_of):
    version = version_of(name, cell)
    task = tasks.find(name).restore(version / "assets")
    by_keras = task.signatures(models.load(version))
    asked = [task.row(example.values) for example in untrained.examples(name, sum(BATCHES))]
    with Probe(program, version) as probe:
        assert set(by_keras) == set(probe.signatures)
        for key in by_keras if cell == CELLS[0] else [task.judged]:
            signature = probe.signatures[key]
            for some in np.split(np.array(asked), np.cumsum(BATCHES)[:-1]):
                request = payloads.columns(signature, some)
                answer = probe.ask(key, request)
                assert (answer.code, answer.message) == (0, "")
                tensors = {
                    each: _tensor(signature.inputs[each], array) for each, array in request.items()
                }
                wanted = {each: got.numpy() for each, got in by_keras[key](**tensors).items()}
                for each, array in wanted.items():
                    assert answer.outputs[each].shape == array.shape, (key, each)
                apart = distances(answer.outputs, wanted)
                assert max(apart.values()) <= 1e-5, (key, apart)
        warm_up = list(warmup.read(version))
        assert {request.model_spec.signature_name for request in warm_up} == set(by_keras)
        for request in warm_up:
            arrays = {each: tf.make_ndarray(sent) for each, sent in request.inputs.items()}
            answer = probe.ask(request.model_spec.signature_name, arrays)
            assert (answer.code, answer.message) == (0, "")


def _tensor(told, array):
    return tf.constant(array, tf.as_dtype(told.dtype), shape=array.shape)


def test_it_needs_nothing_of_this_project_nor_of_the_place_where_it_was_made(program, tmp_path):
    made = untrained.version("tagging", tmp_path / "made")
    moved = shutil.move(made, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "made")
    texts = {"text": np.array(["we moved", ""], object)}
    with Probe(program, moved) as probe:
        answer = probe.ask("serving_default", texts)
        process = Path("/proc") / str(probe.pid)
        if not process.is_dir():
            pytest.skip("this system does not tell what a process holds")
        assert (process / "environ").read_bytes() == b""
        assert (process / "cwd").readlink() == Path("/")
        held = (process / "maps").read_text(encoding="utf-8").splitlines()
        files = {Path(line.split(maxsplit=5)[5]) for line in held if "/" in line}
    assert answer.code == 0
    assert answer.outputs["lengths"].tolist() == [2, 0]
    assert not {file.name for file in files if "python" in file.name}
    own = Path(__file__).parents[2]
    runtime = Path(tf.sysconfig.get_lib()).resolve()
    inside = {file for file in files if file.is_relative_to(own)}
    assert all(file.is_relative_to(runtime) for file in inside), inside


def test_xla_is_off_as_it_is_in_the_server(program, tmp_path):
    module = tf.Module()
    compiled = tf.function(lambda x: {"answer": x + 1.0}, jit_compile=True)
    signature = tf.function(compiled, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": signature})
    with Probe(program, tmp_path) as probe:
        answer = probe.ask("serving_default", {"x": np.ones(2, np.float32)})
    assert answer.code == tf.errors.INTERNAL
    assert "XLA compilation disabled" in answer.message


def test_every_type_comes_back_as_it_went(program, tmp_path):
    """The probe itself: without this, what it loses on its way would be nobody's fault."""
    values = {
        "a_string": np.array([[b"", b"\0\xff", "é \n".encode() * 99]], object),
        "a_float": np.array([1 / 3, -np.inf, np.nan, 1e-45], np.float32),
        "an_int": np.array([-(2**31), 2**31 - 1], np.int32),
        "a_long": np.array([-(2**63), 2**63 - 1]),
        "a_bool": np.array([True, False]),
        "nothing": np.zeros([0, 3], np.float32),
    }
    specs = [
        tf.TensorSpec([None] * array.ndim, tf.string if array.dtype == object else array.dtype, key)
        for key, array in values.items()
    ]
    module = tf.Module()
    back = tf.function(
        lambda *given: dict(zip(values, map(tf.identity, given), strict=True)),
        input_signature=specs,
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": back})
    with Probe(program, tmp_path) as probe:
        answer = probe.ask("serving_default", values)
    assert (answer.code, answer.message) == (0, "")
    for key, array in values.items():
        assert answer.outputs[key].dtype == array.dtype
        np.testing.assert_array_equal(answer.outputs[key], array)


def test_a_death_is_told(program, tmp_path):
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    signature = tf.function(
        lambda x: {"answer": x * module.weight},
        input_signature=[tf.TensorSpec([None], tf.float32, "x")],
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": signature})
    with Probe(program, tmp_path) as probe:
        probe.signatures["serving_default"].inputs["x"].name = "nowhere:0"
        with pytest.raises(Died, match="probe: no such operation: nowhere"):
            probe.ask("serving_default", {"x": np.zeros(1, np.float32)})
    next((tmp_path / "variables").glob("*.data*")).unlink()
    with pytest.raises(Died, match="cannot be loaded, code"):
        Probe(program, tmp_path)
