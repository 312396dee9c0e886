"""Recurrent cells: specs and equations as data, the cell that runs them, and the layer above it."""
