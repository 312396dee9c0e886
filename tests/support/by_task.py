"""What tests expect of a task, from a table with an entry for each shape of task."""

from collections.abc import Mapping
from typing import TypeVar

import pytest

import tasks

_Value = TypeVar("_Value")


def lookup(table: Mapping[str, _Value], task: str, name: str) -> _Value:
    """Returns the entry of a task, or of a task with the same shape.

    Args:
        table: Values by task.
        task: Name of the task.
        name: Name and file of the table, for the message.
    """
    if task in table:
        return table[task]
    shape = tasks.find(task).__bases__
    for other, value in table.items():
        if tasks.find(other).__bases__ == shape:
            return value
    pytest.fail(f"no task in {name} has the shape of {task!r}: add {task!r} to it")
