"""Times of implementations are stored once per machine, and a run keeps what it chose."""

import json
import tempfile
import types
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from app import train
from app.training import distribution, ensembles, pipeline, run_state, tuning
from models.cells import tuning as timing
from models.cells.recurrent import GatedRNN
from models.cells.tuning import Sizes
from tasks.core.errors import UserError
from tests.conftest import SMALL, labelled, where
from tests.support.fitted import fitted

pytestmark = pytest.mark.skipif(
    bool(tf.config.get_visible_devices("GPU")), reason="on a GPU a rule selects"
)
SIZES = Sizes(16, 32, 8, True)
TIMES = {"loop": 2.0, "block": 1.0}
LSTM = [*SMALL, "--cell", "lstm"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of stored times, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gated-rnn" / "implementations"


@pytest.fixture
def measured(monkeypatch):
    """The layers that are measured; all have the same times, and no training is too short."""
    layers = []

    def measure(layer, names, sizes):
        layers.append(layer)
        return {name: TIMES[name] for name in names}

    monkeypatch.setattr(timing, "measure", measure)
    monkeypatch.setattr(tuning, "MIN_STEPS", 1)
    return layers


def layer(**arguments):
    return GatedRNN(**{"units": 8, "cell": "lstm", **arguments})


def times(problems=None, sizes=SIZES, **arguments):
    return tuning._times(
        layer(**arguments), list(TIMES), sizes, [] if problems is None else problems
    )


def test_all_that_times_depend_on_is_in_the_key(monkeypatch):
    keys = {
        tuning.cache_key(layer(), SIZES),
        tuning.cache_key(layer(units=9), SIZES),
        tuning.cache_key(layer(cell="lstm_peephole"), SIZES),
        tuning.cache_key(layer(layers=2), SIZES),
        tuning.cache_key(layer(direction="both"), SIZES),
        tuning.cache_key(layer(dtype="float64"), SIZES),
        *(
            tuning.cache_key(layer(), Sizes(*sizes))
            for sizes in ((8, 32, 8, True), (16, 8, 8, True), (16, 32, 9, True), (16, 32, 8, False))
        ),
    }
    for module, name, value in (
        (tuning, "processor", lambda: "another"),
        (tuning.os, "cpu_count", lambda: 99),
        (tuning.tf, "__version__", "9.9"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            keys.add(tuning.cache_key(layer(), SIZES))
    assert len(keys) == 13
    assert tuning.cache_key(layer(name="other", seed=3), SIZES) in keys


def test_the_processor_is_named():
    assert tuning.processor().strip()


def test_a_layer_is_measured_once_per_key(measured, cache):
    for _ in range(2):
        assert times() == TIMES
        assert times(units=16) == TIMES
    assert len(measured) == len([*cache.iterdir()]) == 2


GOOD = {"key": None, "milliseconds": {"loop": 5.0, "block": 6.0}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        json.dumps({**GOOD, "key": {"other": 1}}).encode(),
        json.dumps({**GOOD, "milliseconds": None}).encode(),
        json.dumps({**GOOD, "milliseconds": {}}).encode(),
        json.dumps({**GOOD, "milliseconds": {"loop": 1.0}}).encode(),
        json.dumps({**GOOD, "milliseconds": {"loop": "x", "block": 1.0}}).encode(),
        json.dumps({**GOOD, "milliseconds": {"loop": -1.0, "block": 1.0}}).encode(),
        json.dumps({**GOOD, "milliseconds": {"loop": float("nan"), "block": 1.0}}).encode(),
        json.dumps({**GOOD, "milliseconds": {"loop": 1.0, "pytorch": 1.0}}).encode(),
    ],
)
def test_a_damaged_file_is_replaced(measured, cache, content):
    key = json.loads(tuning.cache_key(layer(), SIZES))
    assert times() == TIMES
    (path,) = cache.iterdir()
    path.write_bytes(content.replace(b'"key": null', b'"key": ' + json.dumps(key).encode()))
    assert times() == TIMES and len(measured) == 2
    assert times() == TIMES and len(measured) == 2
    assert [*cache.iterdir()] == [path]


def test_stored_times_are_used(measured, cache):
    times()
    (path,) = cache.iterdir()
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "milliseconds": GOOD["milliseconds"]}))
    assert times() == GOOD["milliseconds"]


def test_a_folder_that_cannot_be_written_costs_the_stored_times_only(measured, tmp_path):
    (tmp_path / "cache").write_text("a file")
    problems = []
    assert times(problems) == TIMES
    assert len(problems) == 1 and str(tmp_path / "cache") in problems[0]


def test_the_folder_is_that_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tuning.folder() == tmp_path / ".cache/gated-rnn/implementations"


def test_a_user_without_a_home_has_a_folder_too(monkeypatch):
    def no_home():
        raise RuntimeError

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert tuning.folder() == Path(tempfile.gettempdir()) / "gated-rnn/implementations"


@pytest.fixture
def corpus(tmp_path):
    return labelled(tmp_path / "corpus")


def trained(corpus, folder, *flags):
    return train.main(["sentiment", "--data", str(corpus), *LSTM, *where(folder), *flags])


def encoder(model):
    return next(iter(timing.layers_of(model).values()))


@pytest.mark.slow
def test_the_choice_is_recorded_and_not_served(measured, corpus, tmp_path):
    version = trained(corpus, tmp_path)
    record = json.loads((version / "assets.extra/run.json").read_text())
    (item,) = record["implementations"]
    assert (item["layer"], item["implementation"]) == ("reader", "block")
    assert item["milliseconds"] == TIMES
    assert b"BlockLSTMGrad" not in (version / "saved_model.pb").read_bytes()
    assert "--no-tuning" not in record["command"]


@pytest.mark.parametrize("flags", [["--no-tuning"], ["--deterministic"]], ids=" ".join)
def test_flags_leave_the_choice_to_the_rule(monkeypatch, flags):
    options = []
    monkeypatch.setattr(pipeline, "train", lambda *arguments: options.append(arguments[-1]))
    train.main(["sentiment", *flags])
    train.main(["sentiment"])
    assert [_tunes(option, monkeypatch) for option in options] == [False, True]
    assert flags[0] in options[0].command and flags[0] not in options[1].command


def _tunes(options, monkeypatch, replicas=1):
    """Whether `pipeline.fit` has implementations timed."""
    monkeypatch.setattr(ensembles, "fit", lambda *arguments, recurrent, **more: recurrent.tune)
    prepared = types.SimpleNamespace(options=options, task=0, run=0, splits=0, start=0)
    strategy = types.SimpleNamespace(num_replicas_in_sync=replicas)
    return pipeline.fit(prepared, types.SimpleNamespace(train=0, valid=0), strategy)


def test_several_devices_follow_the_rule(monkeypatch):
    assert _tunes(pipeline.TrainOptions(tune=True), monkeypatch)
    assert not _tunes(pipeline.TrainOptions(tune=True), monkeypatch, replicas=2)
    assert distribution.strategy_of("none").num_replicas_in_sync == 1


@pytest.mark.parametrize(("cell", "steps"), [("gru", 10**6), ("lstm", 9)])
def test_short_trainings_and_layers_without_a_choice_are_not_timed(
    measured, monkeypatch, cell, steps
):
    monkeypatch.setattr(tuning, "MIN_STEPS", 10)
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, GatedRNN(4, cell)(inputs))
    assert tuning.choose(None, model, None, steps) == [] and measured == []


def test_a_run_that_resumes_keeps_its_choice(
    measured, corpus, tmp_path, monkeypatch, cache, capsys
):
    first = fitted(trained, corpus, tmp_path)
    (line,) = (text for text in capsys.readouterr().out.splitlines() if "chosen by timing" in text)
    assert "reader runs in block" in line and "loop 2" in line and "block 1" in line
    assert encoder(first.model).tuning.implementation == "block"
    for path in cache.iterdir():
        path.unlink()
    monkeypatch.setitem(TIMES, "loop", 0.1)  # by which another one would be chosen now
    resumed = fitted(trained, corpus, tmp_path, "--epochs", "2")
    assert resumed.progress.epoch == 2 and len(measured) == 1
    assert encoder(resumed.model).tuning == encoder(first.model).tuning
    assert resumed.progress.implementations == first.progress.implementations


@pytest.mark.slow
def test_a_run_that_began_by_the_rule_stays_with_it(measured, corpus, tmp_path):
    first = fitted(trained, corpus, tmp_path, "--no-tuning")
    assert first.progress.implementations == []
    resumed = fitted(trained, corpus, tmp_path, "--epochs", "2")
    assert resumed.progress.epoch == 2 and encoder(resumed.model).tuning is None
    assert measured == []


@pytest.mark.slow
def test_checkpoints_change_no_loss(measured, corpus, tmp_path):
    """They are no setting of the run either: a run resumes with or without them."""
    plain = fitted(trained, corpus, tmp_path / "plain", "--no-tuning", "--epochs", "2")
    first = fitted(trained, corpus, tmp_path, "--checkpoint-every", "2")
    assert measured == [] and first.progress.implementations == []
    assert encoder(first.model).checkpoint_every == 2
    resumed = fitted(trained, corpus, tmp_path, "--epochs", "2")
    assert encoder(resumed.model).checkpoint_every is None
    losses = [[epoch["loss"] for epoch in fit.progress.history] for fit in (plain, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 2


def test_checkpoints_are_for_every_network_of_a_run(monkeypatch):
    options = []
    monkeypatch.setattr(pipeline, "train", lambda *arguments: options.append(arguments[-1]))
    train.main(["sentiment", "--checkpoint-every", "32"])
    assert options[0].checkpoint_every == 32
    assert "--checkpoint-every=32" in options[0].command
    with pytest.raises(UserError, match="--checkpoint-every must be at least 1, got 0"):
        train.main(["sentiment", "--checkpoint-every", "0"])


def test_states_of_before_have_no_choice():
    assert run_state.Progress(epoch=3, tokens=0).implementations == []
