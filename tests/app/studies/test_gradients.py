"""`app.look gradients`: the page of a small run, the measurements, and invalid requests."""

import csv
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from app import cli, look
from app.studies import gradient_flow, gradient_settings, probe_settings, probe_training
from models.cells import equations, jacobians
from tasks.core.errors import UserError

SMALL = ["--units", "4", "--length", "20", "--steps", "2", "--sequences", "2"]
PICTURES = {"reach.png", "spectra.png", "clipping.png", "powers.png"}


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(
        gradient_flow, "CLIPPED", {**gradient_flow.CLIPPED, "steps": 3, "length": 20}
    )


@pytest.fixture
def tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_has_its_pictures_and_numbers(tmp, capsys):
    (tmp / "looks" / "gradients" / "4").mkdir(parents=True)
    cells = ["lstm_projected", '{"equation": "full"}']
    folder = look.main(["gradients", *SMALL, "--cells", *cells])
    assert folder.resolve() == tmp / "looks" / "gradients" / "5"
    assert {path.name for path in folder.iterdir()} == PICTURES | {"norms.csv", "index.html"}
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") == len(PICTURES)
    assert not re.search(r"(src|href)=\"(?!#|data:)", page), "it needs nothing from elsewhere"
    rows = list(csv.DictReader((folder / "norms.csv").open(encoding="utf-8")))
    assert [row["cell"] for row in rows if row["lag"] == "0"] == [c for c in cells for _ in "ab"]
    assert all(float(row["least"]) <= float(row["most"]) for row in rows)
    output = capsys.readouterr().out
    assert "without memory" in output and "index.html" in output
    with pytest.raises(UserError, match="--out must be a new or an empty folder"):
        look.main(["gradients", *SMALL, "--out", str(folder)])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--cells", "lstmm"], "--cells: cell must be one of"),
        (["--cells", "rnn", "rnn"], "--cells must be 1 to 7 different cells"),
        (["--probe", "jsb"], "--probe must be one of"),
        (["--length", "5"], "--length must be at least 20, got 5"),
        (["--clip-norm", "0"], "--clip-norm must be above 0"),
        (["--step", "3"], "did you mean --steps?"),
        (["--out", "/dev/null/here"], "--out must be a folder that can be created"),
    ],
)
def test_invalid_requests_are_rejected_before_anything_is_measured(
    argv, message, tmp, capsys, monkeypatch
):
    monkeypatch.setattr(gradient_flow, "train", None)
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: look.main(["gradients", *argv]))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp.rglob("*.html"))


@pytest.mark.parametrize("probe", gradient_settings.PROBES)
def test_the_network_is_measured_at_the_start_and_after_training(probe):
    settings = {"cell": "rnn", "length": 20, "units": 4, "steps": 2, "learning_rate": 0.05}
    probe, config = probe_settings.of_settings(probe, settings)
    trained = gradient_flow.train("rnn", probe, config, 2)
    keras.utils.set_random_seed(config.seed)
    cell = probe_training.network(probe, config).get_layer("reader").cells[0]
    inputs = probe.test().inputs[:2]
    start = jacobians.log_norms(jacobians.of_steps(cell, inputs))
    np.testing.assert_array_equal(trained.before.log_norms, start)
    assert start.shape == trained.after.log_norms.shape == (2, inputs.shape[1] + 1)
    assert np.abs(trained.after.log_norms - start).max() > 1e-3
    assert (trained.before.matrices["candidate"] != trained.after.matrices["candidate"]).any()
    assert trained.before.score != trained.after.score


def test_the_decay_lag_is_the_first_lag_below_a_share():
    halves = gradient_flow.Moment(np.log([[1, 0.5, 0.25, 0.125]] * 2), {}, 0.0)
    assert [halves.decay_lag(share) for share in (1.0, 0.3, 0.13, 0.1)] == [0, 2, 3, None]


def test_clipping_by_norm_keeps_the_direction_and_by_value_cuts_each_number():
    gradients_ = [tf.constant([3.0, -0.01]), tf.constant([[4.0]])]
    by_norm = np.concatenate([np.ravel(each) for each in gradient_flow.clip(gradients_, 1.0, 0.0)])
    np.testing.assert_allclose(by_norm, np.array([3.0, -0.01, 4.0]) / 5.00001, rtol=1e-5)
    by_value = np.concatenate([np.ravel(each) for each in gradient_flow.clip(gradients_, 0.0, 0.5)])
    np.testing.assert_allclose(by_value, [0.5, -0.01, 0.5])
    untouched = gradient_flow.clip(gradients_, 0.0, 0.0)
    assert all(
        (one == other).numpy().all() for one, other in zip(untouched, gradients_, strict=True)
    )


def test_descents_start_alike_and_only_clipping_by_value_changes_direction():
    free, by_norm, by_value = (
        gradient_flow.descend(units=4, **clipping)
        for clipping in ({}, {"norm": 0.01}, {"value": 0.001})
    )
    np.testing.assert_allclose(
        [free.losses[0], free.norms[0]], [by_norm.losses[0], by_norm.norms[0]]
    )
    np.testing.assert_allclose(free.losses[0], by_value.losses[0])
    assert free.losses[1] != by_norm.losses[1] != by_value.losses[1]
    assert max(free.angles.max(), by_norm.angles.max()) < 0.1
    assert by_value.angles.min() > 1.0


def test_powers_of_an_orthogonal_matrix_have_the_closed_form_and_bound_the_unit():
    inputs = np.random.default_rng(0).normal(size=(2, 12, 3)).astype("float32")
    for each in gradient_flow.powers(inputs, 5, seed=1):
        closed = np.arange(13) * np.log(each.radius)
        if each.kind == "orthogonal":
            np.testing.assert_allclose(each.linear, closed, atol=1e-9)
            assert (each.real <= closed + 1e-5).all()
        else:  # the norm is never less than the largest absolute eigenvalue
            assert (each.linear >= closed - 1e-9).all()


def _mingru(step, h):
    update = step.gate("update")
    return (update * h + (1.0 - update) * step.candidate(),)


@pytest.mark.slow
def test_cells_without_recurrent_matrices_are_reported(tmp, capsys, monkeypatch):
    blind = {"update": "h", "candidate": "h"}
    mingru = equations.Equation(_mingru, ("update",), ("h",), "Feng et al. (2024)", blind=blind)
    monkeypatch.setitem(equations.EQUATIONS, "mingru", mingru)
    cell = '{"equation": "mingru"}'
    for cells in ([cell], [cell, "rnn"]):
        folder = look.main(["gradients", *SMALL, "--cells", *cells])
        page = (folder / "index.html").read_text(encoding="utf-8")
        assert "Cells without recurrent matrices: {&quot;equation" in page
        assert ("Extreme values" in page) == ("rnn" in cells)
