"""Faster ways to compute what `models.cells` defines, each tested against it.

An implementation is a module with two functions:

    runs(spec, device, dtype) -> bool
        whether it computes this cell there;
    run(cell, inputs, mask, states) -> (outputs, states)
        the cell over time, from the first step to the last: inputs (B, T, D),
        mask (B, T) bool or None, states each (B, H); outputs (B, T, H).
"""
