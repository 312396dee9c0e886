"""Which epoch is the best one."""

import keras
import numpy as np
import pytest

import tasks
from app.training.callbacks import Checkpoint, TimeLeft, WeightAverage
from app.training.run_state import Progress

Config = tasks.find("sentiment").Config


def checkpoint(progress, config, best=()):
    """A checkpoint of a model with one weight, which has no run on disk."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    average = WeightAverage(model, None, 0.0)
    callback = Checkpoint(None, progress, config, f"val_{config.monitor}", average, None, [*best])
    callback.set_model(model)
    return callback


def end_epochs(callback, rows, first=0):
    for epoch, (accuracy, loss) in enumerate(rows, start=first):
        callback.on_epoch_begin(epoch)
        callback.model.set_weights([np.full([1, 1], epoch + 1.0)])
        callback.on_test_end()
        callback.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})


ROWS = [(0.8, 0.5), (0.9, 0.4), (0.9, 0.5), (0.9, 0.3), (0.9, 0.3), (0.85, 0.2)]


@pytest.mark.parametrize(("monitor", "best", "wait"), [("accuracy", 4, 2), ("loss", 6, 0)])
def test_the_loss_decides_between_equal_epochs(monitor, best, wait):
    progress = Progress()
    callback = checkpoint(progress, Config(monitor=monitor, epochs=9, patience=5))
    end_epochs(callback, ROWS)
    assert (progress.best_epoch, progress.wait) == (best, wait)
    assert callback.best[0] == best


def test_a_plateau_halves_the_learning_rate():
    callback = checkpoint(Progress(), Config(schedule="plateau", epochs=9, patience=5))
    callback.model.compile(keras.optimizers.Adam(0.08))
    rates = []
    for epoch, loss in enumerate([0.5, 0.6, 0.4, 0.4, 0.5]):
        end_epochs(callback, [(0.5, loss)], first=epoch)
        rates.append(round(float(callback.model.optimizer.learning_rate), 6))
    assert rates == [0.08, 0.04, 0.04, 0.02, 0.01]


@pytest.mark.parametrize("epoch", range(1, len(ROWS)))
def test_a_resumed_run_decides_as_an_uninterrupted_one(epoch):
    config, progress = Config(monitor="accuracy", epochs=9, patience=5), Progress()
    callback = checkpoint(progress, config)
    end_epochs(callback, ROWS[:epoch])
    callback = checkpoint(progress, config, callback.best)
    end_epochs(callback, ROWS[epoch:], epoch)
    assert progress.best_epoch == callback.best[0] == 4


@pytest.mark.parametrize(
    ("epoch", "wait", "sentence"),
    [
        (1, 0, "at most 72 s left for 8 more epochs, 45 s if val_loss does not improve for 5"),
        (3, 3, "at most 12 s left for 6 more epochs, 4 s if val_loss does not improve for 2"),
        (7, 0, "at most 4 s left for 2 more epochs"),
        (9, 4, "stopped after epoch 9: --epochs is 9"),
        (
            7,
            5,
            "stopped after epoch 7: val_loss has not improved for 5 epochs (--patience 5); "
            "the best epoch is 2",
        ),
    ],
)
def test_the_time_left_is_that_of_recent_epochs_and_the_end_has_a_reason(epoch, wait, sentence):
    history = [{"epoch": n + 1, "seconds": 9.0 if n == 0 else 2.0} for n in range(epoch)]
    progress = Progress(epoch=epoch, best_epoch=2, wait=wait, history=history)
    assert TimeLeft(progress, Config(epochs=9, patience=5), "val_loss").sentence() == sentence
