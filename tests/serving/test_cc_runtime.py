"""Published versions in TensorFlow's C++ runtime alone predict as Keras does."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import models
import tasks
from app.serving import payloads, warmup
from tests.support.cc_runtime import ProcessDied, Runtime
from tests.support.cells import slow_except
from tests.support.odd_requests import good_rows
from tests.support.predictions import distances

# A fused op, a loop, and an equation that only the loop runs. The signatures of a task share
# its network, so all of them are compared with Keras for the first cell only. The others are
# slow: test_cc_runtime_cells.py runs a cell of each equation in one task.
CELLS = ("lstm", "gru", "mut1")
BATCHES = (0, 1, 3, 8)


@pytest.mark.parametrize("cell", slow_except(CELLS[:1], CELLS))
@pytest.mark.parametrize("name", tasks.names())
def test_it_predicts_as_keras_does_and_runs_the_warm_up_requests(name, cell, program, version_of):
    version = version_of(name, cell)
    task = tasks.find(name).restore(version / "assets")
    keras_signatures = task.signatures(models.load(version))
    rows = good_rows(version, sum(BATCHES))
    with Runtime(program, version) as runtime:
        assert set(keras_signatures) == set(runtime.signatures)
        for key in keras_signatures if cell == CELLS[0] else [task.evaluation_signature]:
            signature = runtime.signatures[key]
            for batch in np.split(np.array(rows), np.cumsum(BATCHES)[:-1]):
                request = payloads.columns(signature, batch)
                response = runtime.run(key, request)
                assert (response.code, response.message) == (0, "")
                tensors = {
                    name: _tensor(signature.inputs[name], array) for name, array in request.items()
                }
                outputs = keras_signatures[key](**tensors)
                expected = {name: output.numpy() for name, output in outputs.items()}
                for name, array in expected.items():
                    assert response.outputs[name].shape == array.shape, (key, name)
                apart = distances(response.outputs, expected)
                assert max(apart.values()) <= 1e-5, (key, apart)
        warm_up = list(warmup.read(version))
        assert {request.model_spec.signature_name for request in warm_up} == set(keras_signatures)
        for request in warm_up:
            arrays = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            response = runtime.run(request.model_spec.signature_name, arrays)
            assert (response.code, response.message) == (0, "")


def _tensor(info, array):
    return tf.constant(array, tf.as_dtype(info.dtype), shape=array.shape)


def test_it_needs_neither_this_project_nor_the_original_folder(program, tmp_path, untrained_copy):
    version = untrained_copy("tagging", tmp_path / "made")
    moved = shutil.move(version, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "made")
    texts = {"text": np.array(["we moved", ""], object)}
    with Runtime(program, moved) as runtime:
        response = runtime.run("serving_default", texts)
        process = Path("/proc") / str(runtime.pid)
        if not process.is_dir():
            pytest.skip("this system has no /proc")
        assert (process / "environ").read_bytes() == b""
        assert (process / "cwd").readlink() == Path("/")
        mappings = (process / "maps").read_text(encoding="utf-8").splitlines()
        files = {Path(line.split(maxsplit=5)[5]) for line in mappings if "/" in line}
    assert response.code == 0
    assert response.outputs["lengths"].tolist() == [2, 0]
    assert not {file.name for file in files if "python" in file.name}
    project = Path(__file__).parents[2]
    libraries = Path(tf.sysconfig.get_lib()).resolve()
    inside = {file for file in files if file.is_relative_to(project)}
    assert all(file.is_relative_to(libraries) for file in inside), inside


def test_xla_is_disabled_as_in_the_server(program, tmp_path):
    module = tf.Module()
    compiled = tf.function(lambda x: {"y": x + 1.0}, jit_compile=True)
    signature = tf.function(compiled, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": signature})
    with Runtime(program, tmp_path) as runtime:
        response = runtime.run("serving_default", {"x": np.ones(2, np.float32)})
    assert response.code == tf.errors.INTERNAL
    assert "XLA compilation disabled" in response.message


def test_values_of_every_type_survive_a_round_trip(program, tmp_path):
    """Tests the test program itself, so that other tests can rely on it."""
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
    identity = tf.function(
        lambda *inputs: dict(zip(values, map(tf.identity, inputs), strict=True)),
        input_signature=specs,
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": identity})
    with Runtime(program, tmp_path) as runtime:
        response = runtime.run("serving_default", values)
    assert (response.code, response.message) == (0, "")
    for key, array in values.items():
        assert response.outputs[key].dtype == array.dtype
        np.testing.assert_array_equal(response.outputs[key], array)


def test_the_end_of_the_process_is_reported(program, tmp_path):
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    signature = tf.function(
        lambda x: {"y": x * module.weight},
        input_signature=[tf.TensorSpec([None], tf.float32, "x")],
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": signature})
    with Runtime(program, tmp_path) as runtime:
        runtime.signatures["serving_default"].inputs["x"].name = "missing:0"
        with pytest.raises(ProcessDied, match="no such operation: missing"):
            runtime.run("serving_default", {"x": np.zeros(1, np.float32)})
    next((tmp_path / "variables").glob("*.data*")).unlink()
    with pytest.raises(ProcessDied, match="cannot be loaded, code"):
        Runtime(program, tmp_path)
