"""Experiments on cells: their records, comparisons and reports."""
