"""Concepts that all tasks share: settings, examples, the Task interface, evaluation."""
