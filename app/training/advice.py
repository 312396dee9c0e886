"""Warnings about a training, each with advice, in one line."""

from collections.abc import Mapping, Sequence

from app.core.console import counted

_FEW_STEPS = 20  # per epoch
_MAX_LOSS = 1e6  # of an epoch; that of a long sentence with a CRF is hundreds
_MIN_GAIN = 0.001  # share by which a loss must have decreased


def training_warnings(
    history: Sequence[Mapping[str, float]], best_epoch: int, monitor: str, steps: int
) -> list[str]:
    """Returns warnings about how a model was trained.

    Args:
        history: Metrics of each epoch.
        best_epoch: Number of the best epoch, from 1.
        monitor: Metric that selected it, such as "val_accuracy".
        steps: Number of batches in one pass over the training part.
    """
    warnings = []
    first, lowest = history[0]["loss"], min(row["loss"] for row in history)
    if len(history) > 1 and lowest > first * (1 - _MIN_GAIN):
        warnings.append(
            f"the training loss did not decrease (epoch 1: {first:.4f}, lowest: {lowest:.4f}): try "
            "another --learning-rate, and check that labels belong to their texts."
        )
    elif history[best_epoch - 1]["loss"] > _MAX_LOSS:
        warnings.append(
            f"the training loss is {history[best_epoch - 1]['loss']:.3g} in the best epoch: try a "
            "lower --learning-rate."
        )
    if few := few_steps(steps):
        warnings.append(few)
    best = history[best_epoch - 1].get(monitor)
    ties = [row["epoch"] for row in history if row.get(monitor) == best]
    if best is not None and len(ties) > 1 and not monitor.endswith("loss"):
        warnings.append(
            f"early stopping was decided by ties: {len(ties)} epochs have the best {monitor}, "
            f"{best:g}, and the validation loss decided. Use a larger validation part or --monitor "
            "loss."
        )
    return warnings


def few_steps(steps: int) -> str:
    """Returns a warning if one pass over the training part has few batches, otherwise ""."""
    if steps >= _FEW_STEPS:
        return ""
    return (
        f"one pass over the training part has only {counted(steps, 'step')}: lower --batch-tokens, "
        "or raise --epochs and --patience."
    )
