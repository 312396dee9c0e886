"""Experiments that compare cells: their settings, records, figures and pages."""
