"""Faster ways to compute what `models.cells` defines, each tested against it.

An implementation is a module with two functions:

    runs(spec, device, dtype) -> bool
        whether it computes this cell there;
    run(cell, inputs, mask, states, noise, training, beside) -> (outputs, states)
        the cell over time, from the first step to the last: inputs (B, T, D),
        zero where masked; mask (B, T) bool or None; states as the cell has
        them; noise a `models.cells.Noise`; training whether a gradient will be
        asked for, and beside how many cells run side by side, this one among
        them, which decide what is fast and never what is computed;
        outputs (B, T, output_size), in the type of the states.

and, where both directions can go into one call,

    run_both(cells, inputs, mask, states, noises, training)
        of a cell that reads forward and one that reads backward, and of what
        each has; for each its outputs, in the order of the inputs, and states.
"""
