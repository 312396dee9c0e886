"""Ways to compute a cell over time, each tested against the definition in `models.cells.cell`.

An implementation is a module with two functions:

    runs(spec, device, dtype) -> bool
        Whether it can compute a cell.

        spec: `CellSpec` of the cell.
        device: "cpu" or "gpu".
        dtype: Compute dtype, such as "float32".

    run(cell, inputs, mask, states, noise, training, concurrent=1) -> (outputs, states)
        Runs a cell from the first step to the last.

        cell: `GatedCell`, built.
        inputs: (B, T, D) in the compute dtype, zero at masked steps.
        mask: (B, T) bool, true at valid steps; or None.
        states: Initial states, each (B, width) in the dtype of the states.
        noise: `models.cells.cell.Noise` of the batch.
        training: Whether a gradient will be required.
        concurrent: Number of cells that run at the same time, including this one.
        outputs: (B, T, output_size) in the dtype of the states.

        `training` and `concurrent` affect the speed only, not the values.

An implementation that can run both directions in one call has also

    run_both(cells, inputs, mask, states, noises, training) -> [(outputs, states)] * 2
        Runs a forward and a backward cell. `states` and `noises` have an item for each cell;
        the outputs of both are in the order of the inputs.
"""
