"""Ops of a step of a served layer, as the graph is written and as Grappler leaves it.

    python -m benchmarks.ops
    python -m benchmarks.ops --cells lstm mut1

At batch 1 a step costs as much for each op that runs as for what the op computes. A layer is
exported as in a version, and the session counts the ops that it runs on `TIMES` steps, control
of the loop included; the difference, divided by that of the steps, is the number of ops of a
step, without those before and after the loop. The other layer is that of Keras with the same
equation.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks import records
from benchmarks.kernel_contestants import PEERS
from models.cells import specs
from models.cells.recurrent import PORTABLE, GatedRNN

UNITS, INPUTS = 128, 128
TIMES = (40, 80)  # multiples of the steps of an iteration
BATCHES = (1, 32)


def export(layer: keras.layers.Layer, masked: bool, folder: Path) -> Path:
    """Exports a layer as a version with unknown sizes, and returns its folder.

    Args:
        layer: The layer.
        masked: Whether it reads a mask of the steps.
        folder: Folder of the version; it is created.
    """
    layer.build((None, None, INPUTS))
    module = tf.Module()
    module.variables_of_layer = [weight.value for weight in layer.weights]
    inputs = tf.TensorSpec((None, None, INPUTS), tf.float32, "inputs")
    lengths = tf.TensorSpec((None,), tf.int32, "lengths")

    @tf.function(input_signature=[inputs, lengths], autograph=False)
    def serve(inputs, lengths):
        mask = tf.sequence_mask(lengths, tf.shape(inputs)[1]) if masked else None
        return {"outputs": layer(inputs, mask=mask, training=False)}

    tf.saved_model.save(module, str(folder), signatures=serve)
    return folder


def ops_per_step(version: Path, optimized: bool) -> list[float]:
    """Returns the number of ops of a step of an exported layer, for each of `BATCHES`.

    Args:
        version: Folder of the exported layer.
        optimized: Whether Grappler optimizes the graph.
    """
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = not optimized
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    with tf.compat.v1.Session(graph=tf.Graph(), config=config) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(version))
        signature = loaded.signature_def["serving_default"]
        outputs = signature.outputs["outputs"].name

        def executed(batch, time):
            metadata = tf.compat.v1.RunMetadata()
            feeds = {
                signature.inputs["inputs"].name: np.zeros((batch, time, INPUTS), np.float32),
                signature.inputs["lengths"].name: np.full(batch, time, np.int32),
            }
            session.run(outputs, feeds, options=options, run_metadata=metadata)
            return sum(len(device.node_stats) for device in metadata.step_stats.dev_stats)

        few, many = TIMES
        return [(executed(b, many) - executed(b, few)) / (many - few) for b in BATCHES]


def rows_of(cell: str, folder: Path) -> list[list[object]]:
    """Returns the rows of a cell: with and without a mask, by batch size."""
    equation = specs.find(cell).equation
    peer = PEERS.get(cell) or {"lstm": "LSTM", "gru": "GRU"}.get(equation.split("_")[0])
    rows = []
    for masked in (False, True):
        own = GatedRNN(UNITS, cell, return_sequences=True, implementation=PORTABLE)
        layers = {"ours": own}
        if peer:
            layers["keras"] = getattr(keras.layers, peer)(UNITS, return_sequences=True)
        counts = [
            ops_per_step(version, optimized)
            for name, layer in layers.items()
            for version in [export(layer, masked, folder / f"{cell}-{masked}-{name}")]
            for optimized in (False, True)
        ]
        for batch, *numbers in zip(BATCHES, *counts, strict=True):
            shown = [f"{number:.1f}" for number in numbers]
            rows.append([cell, batch, "yes" if masked else "no", *shown, *[""] * (4 - len(shown))])
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--cells", nargs="+", default=list(PEERS), help="names of cells")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for cell in args.cells for row in rows_of(cell, Path(folder))]
    columns = ["cell", "batch", "mask", "ops of a step as written", "after Grappler"]
    columns += ["Keras, as written", "Keras, after Grappler"]
    print(records.markdown_table(columns, rows))
    print(f"\n{UNITS} units; {records.machine()}; TensorFlow {tf.__version__}")


if __name__ == "__main__":
    main()
