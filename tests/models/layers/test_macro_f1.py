"""Macro F1 over batches is that of the confusion matrix of all of them."""

import keras
import numpy as np
import pytest

from models import metrics
from models.layers.macro_f1 import MacroF1


@pytest.mark.parametrize("shape", [(7,), (7, 5)], ids=["rows", "steps"])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_that_of_the_confusion_matrix(shape, weighted):
    rng, counts, metric = np.random.default_rng(0), np.zeros([5, 5]), MacroF1(5)
    for _ in range(3):
        classes = rng.integers(0, 4, shape)  # the last class never occurs ...
        logits = rng.normal(size=(*shape, 5))
        logits[..., 4] = -9  # ... and is never predicted
        weights = rng.integers(0, 3, shape) if weighted else np.ones(shape, int)
        metric.update_state(classes, logits, weights if weighted else None)
        np.add.at(counts, (classes.ravel(), logits.argmax(-1).ravel()), weights.ravel())
    assert float(metric.result()) == pytest.approx(metrics.macro_f1(counts), abs=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_it_is_restored_from_its_config():
    config = keras.saving.serialize_keras_object(MacroF1(3, name="f"))
    metric = keras.saving.deserialize_keras_object(config)
    assert (metric.classes, metric.name) == (3, "f")
