"""Every task learns in half precision: no step of it is without a number, whatever is masked."""

import keras
import pytest

import tasks
from app.training import loop, run_state
from app.training.example_cache import EncodedExamples
from tasks.core.examples import Splits
from tests.support import untrained
from tests.support.cells import slow_except


@pytest.mark.parametrize("task", slow_except(["sentiment"], tasks.names()))
def test_twenty_steps_in_float16_are_numbers_and_learn(task, tmp_path):
    cls, examples = tasks.find(task), untrained.examples(task, 12)
    sizes = {**untrained.SIZES, "layers": 1}
    sizes = {key: size for key, size in sizes.items() if hasattr(cls.Config, key)}
    config = cls.Config(
        **untrained.SMALL,
        **sizes,
        batch_tokens=64,
        learning_rate=0.01,
        epochs=2,
        steps_per_epoch=10,
        precision="mixed_float16",
    )
    (tmp_path / "learnt").mkdir()
    learnt = cls.learn(config, examples, tmp_path / "learnt")
    parts = {
        part: EncodedExamples.write(learnt, examples, tmp_path / part)
        for part in ("train", "valid")
    }
    lengths = parts["train"].lengths
    assert min(lengths) < max(lengths)  # so something is masked
    splits = Splits(examples, examples, examples)
    # A loss that is no number would be reported at its step.
    model, progress = loop.fit(learnt, **parts, run=run_state.Run(tmp_path / "run"), splits=splits)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    # A step whose gradients overflow is passed over, and the scale of the loss halved.
    assert 15 <= int(model.optimizer.iterations) <= 20
    first, last = (row["loss"] for row in progress.history)
    assert last < first
    assert {weight.dtype for weight in model.weights} <= {"float32", "int32", "uint32", "int64"}
