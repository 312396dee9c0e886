"""Optimizers and schedules, against their definitions."""

import math

import keras
import numpy as np
import pytest

import tasks
from app.training.optimizers import Schedule, optimizer_of
from tasks.core.config import OPTIMIZERS, SCHEDULES
from tasks.core.errors import UserError


def config(**values):
    return tasks.find("sentiment").Config(**values)


@pytest.mark.parametrize("shape", [shape for shape in SCHEDULES if shape != "plateau"])
def test_schedules_are_those_of_their_formulas(shape):
    schedule = Schedule(0.5, shape, warmup_steps=10, steps=110)
    factor = {
        "constant": lambda progress: 1.0,
        "linear": lambda progress: 1 - progress,
        "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    }[shape]
    assert float(schedule(0)) == pytest.approx(0.05)
    assert float(schedule(4)) == pytest.approx(0.25)
    for step in (10, 35, 60, 110, 500):
        progress = min(1.0, (step - 10) / 100)
        assert float(schedule(step)) == pytest.approx(0.5 * factor(progress), abs=1e-6)
    assert float(Schedule(0.5, shape, 0, 100)(0)) == pytest.approx(0.5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_descends_and_clips(name):
    optimizer = optimizer_of(config(optimizer=name, learning_rate=0.1, clip_norm=1.0), steps=100)
    variable = keras.Variable(np.array([3.0, -4.0], "float32"))
    optimizer.build([variable])
    for _ in range(60):
        gradient = 1e6 * keras.ops.convert_to_tensor(variable)  # clipped to a norm of 1
        optimizer.apply_gradients([(gradient, variable)])
    assert np.linalg.norm(variable) < 2.5
    assert np.isfinite(np.asarray(variable)).all()


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "schedule_free"])
def test_weight_decay_shrinks_weights_without_a_gradient(name):
    def after(**values):
        optimizer = optimizer_of(config(optimizer=name, learning_rate=0.1, **values), steps=100)
        variable = keras.Variable(np.array([2.0], "float32"))
        optimizer.build([variable])
        optimizer.apply_gradients([(np.zeros(1, "float32"), variable)])
        return float(variable[0])

    assert after() == pytest.approx(2.0)
    assert after(weight_decay=0.5) == pytest.approx(2.0 - 0.1 * 0.5 * 2.0, rel=1e-3)


def test_a_plateau_with_warmup_is_an_error():
    with pytest.raises(UserError, match=r"--warmup-steps .* cannot be combined with .* plateau"):
        config(schedule="plateau", warmup_steps=5)


def test_weight_decay_with_schedule_free_is_an_error():
    with pytest.raises(UserError, match="--weight-decay"):
        config(optimizer="schedule_free", weight_decay=0.1)


def test_the_first_step_of_sgd_follows_the_schedule():
    values = {"optimizer": "sgd", "learning_rate": 0.1, "warmup_steps": 5, "schedule": "linear"}
    optimizer = optimizer_of(config(**values), steps=100)
    variable = keras.Variable(np.array([2.0], "float32"))
    optimizer.build([variable])
    optimizer.apply_gradients([(np.array([0.5], "float32"), variable)])
    # The first step of Nesterov momentum is 1 + 0.9 times that of plain descent.
    assert float(variable[0]) == pytest.approx(2.0 - 0.1 / 5 * 1.9 * 0.5)


def test_half_precision_scales_the_loss():
    optimizer = optimizer_of(config(precision="mixed_float16"), steps=1)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
