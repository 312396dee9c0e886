"""Training speed of the whole command, compared with a plain Keras program; cost of the demo.

    python -m benchmarks.throughput            # words/s, three interleaved runs of each
    python -m benchmarks.throughput --demo     # seconds and peak memory of `make demo`

Both programs train on the same file for the same number of epochs with the same sizes: an
embedding, one recurrent layer in both directions, pooling over time, and a softmax. The plain
program is what a Keras user writes first: `TextVectorization`, shuffled batches of 50 padded to
their longest text, `keras.layers.LSTM`, and `fit`. Time is that of the process from start to
end, which for this project includes evaluation, export and report.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import records, sentiment

UNITS, EMBEDDING, EPOCHS = 128, 128, 5

PLAIN = """
import json, sys, keras, tensorflow as tf
folder, cell, units, embedding, epochs = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
def read(part):
    rows = [json.loads(line) for line in open(f"{folder}/{part}.jsonl")]
    labels = [int(row["label"] == "pos") for row in rows]
    return tf.data.Dataset.from_tensor_slices(([row["text"] for row in rows], labels))
train, valid = read("train"), read("valid")
words = keras.layers.TextVectorization(20_000, standardize=None)
words.adapt(train.map(lambda text, label: text).batch(512))
encode = lambda data: data.batch(50).map(lambda text, label: (words(text), label))
model = keras.Sequential([
    keras.layers.Embedding(20_000, embedding, mask_zero=True),
    keras.layers.Dropout(0.5),
    keras.layers.Bidirectional(getattr(keras.layers, cell)(units, return_sequences=True)),
    keras.layers.GlobalAveragePooling1D(),
    keras.layers.Dropout(0.5),
    keras.layers.Dense(2),
])
model.compile(
    keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
batches = encode(train.shuffle(20_000)).prefetch(2)
model.fit(batches, validation_data=encode(valid), epochs=epochs, verbose=2)
"""


def seconds(argv: list[str]) -> float:
    """Returns the seconds of a process from start to end."""
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def compare(repeats: int) -> None:
    """Prints words/s of both programs for each cell that Keras also has."""
    from models.text.words import split

    rows = []
    with tempfile.TemporaryDirectory() as name:
        parts = sentiment.split("mr", 0)
        for part, part_examples in parts.items():
            lines = (json.dumps(dict(e.values)) + "\n" for e in part_examples)
            (Path(name) / f"{part}.jsonl").write_text("".join(lines), encoding="utf-8")
        words = split([e.values["text"] for e in parts["train"]]).flat_values.shape[0] * EPOCHS
        for cell, layer in (("lstm", "LSTM"), ("gru", "GRU")):
            ours = [sys.executable, "-m", "app.train", "sentiment", "--data", name]
            ours += ["--units", str(UNITS), "--embedding", str(EMBEDDING), "--cell", cell]
            ours += ["--epochs", str(EPOCHS), "--patience", str(EPOCHS)]
            ours += ["--saved-models", f"{name}/saved_models", "--runs", f"{name}/runs"]
            sizes = map(str, (UNITS, EMBEDDING, EPOCHS))
            plain = [sys.executable, "-c", PLAIN, name, layer, *sizes]
            times = [(seconds(ours), seconds(plain)) for _ in range(repeats)]
            speeds = [words / statistics.median(column) for column in zip(*times, strict=True)]
            ratio = statistics.median(k / o for o, k in times)
            rows.append([cell, f"{speeds[0]:,.0f}", f"{layer} {speeds[1]:,.0f}", f"{ratio:.2f}"])
    print(
        records.markdown_table(
            ["cell", "this project, words/s", "plain Keras, words/s", "ratio"], rows
        )
    )
    print(
        f"\n{records.machine()}; Rotten Tomatoes, {EPOCHS} epochs, {UNITS} units, "
        f"embedding {EMBEDDING}; medians of {repeats} interleaved runs of the whole process"
    )


def demo() -> None:
    """Prints the seconds and the peak memory of `make demo` in a ready environment."""
    with tempfile.TemporaryDirectory() as name:
        folder = ["--saved-models", f"{name}/saved_models"]
        total = seconds(
            [sys.executable, "-m", "app.train", "sentiment", "--runs", f"{name}/runs", *folder]
        )
        total += seconds(
            [sys.executable, "-m", "app.predict", "sentiment", "far from dull", *folder]
        )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{total:.0f} seconds, peak memory {peak:.2f} GiB ({records.machine()})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--demo", action="store_true", help="measure the cost of `make demo`")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each program")
    args = parser.parse_args()
    if args.demo:
        demo()
    else:
        compare(args.repeats)


if __name__ == "__main__":
    main()
