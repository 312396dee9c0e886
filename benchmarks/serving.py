"""How fast published versions answer, as a server runs them: the graph session of the SavedModel.

    python -m benchmarks.serving                        # the versions in saved_models/

Asks `serving_default` of the newest version of each task there is, by batch and by words
of a text, one request after another. Where the network is a `GatedRNN` between other
layers, the same task is exported anew with `keras.layers.LSTM` or `GRU` in its place (of
the equation of its cell), and the two take turns. Loading is measured in processes of
their own: until the session stands, the first answer of a text of 50 words, the same
after the warm-up requests have been replayed.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import keras
import numpy as np

import tasks
from app.serving import export
from app.serving.session import SavedModelSession
from benchmarks import results
from models.cells import specs

BATCHES = (1, 8, 32)
LENGTHS = (10, 50, 200)  # words
SECONDS = 6.0  # of asking in one cell of the table
LEAST, MOST = 20, 400  # requests in it
PEERS = {"sentiment": "models.networks.classifier", "tagging": "models.networks.tagger"}
STARTS = 3  # processes that load a version; the median counts
COLD = 50  # words


class Plain(keras.layers.Layer):
    """What a Keras user would write where the network has a `GatedRNN`, with its arguments."""

    def __init__(
        self,
        units,
        cell,
        *,
        layers=1,
        direction="forward",
        dropout=0.0,
        return_sequences=False,
        implementation="auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        del dropout, implementation  # nothing is dropped in serving, and Keras has one way
        equation = specs.find(cell).equation
        kind = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[equation.split("_")[0]]
        self.output_size = units * (2 if direction == "both" else 1)
        self.layers = []
        for at in range(layers):
            layer = kind(
                units, return_sequences=return_sequences or at < layers - 1, name=f"layer_{at}"
            )
            if direction == "both":
                layer = keras.layers.Bidirectional(layer, name=f"both_{at}")
            self.layers.append(layer)

    def build(self, shape):
        features = shape[-1]
        for layer in self.layers:
            layer.build((None, None, features))
            features = self.output_size
        self.built = True

    def call(self, x, mask=None):
        for layer in self.layers:
            x = layer(x, mask=mask)
        return x


def peer(name: str, version: Path, folder: Path) -> Path:
    """A draft of a version's task with layers of Keras, its weights as they are drawn."""
    task = tasks.find(name).restore(version / "assets")
    with mock.patch(f"{PEERS[name]}.GatedRNN", Plain):
        return export.draft(task, task.build("serving"), folder / f"draft-{name}")


def requests(name: str, version: Path, length: int) -> Callable[[int], dict]:
    """What makes a request of a batch: texts of words that the model knows, or images."""
    source = random.Random(length)
    if name == "captioning":
        test = tasks.find(name).Corpus().open().test
        images = [example.values["image_bytes"] for example in next(test.batches(200))]
        return lambda batch: {"image_bytes": source.choices(images, k=batch)}
    test = tasks.find(name).Corpus().open().test
    texts = (tasks.find(name).restore(version / "assets").row(e.values)["text"] for e in test)
    words = sorted({word for text in texts for word in text.split()})
    return lambda batch: {"text": [" ".join(source.choices(words, k=length)) for _ in range(batch)]}


def latencies(
    served: list[SavedModelSession], request: Callable[[int], dict], batch: int
) -> list[np.ndarray]:
    """The seconds of each answer of each model; they take turns with the same requests."""
    taken = [[] for _ in served]
    for each in served:
        each.predict_columns(request(batch))
    until = time.monotonic() + SECONDS
    while len(taken[0]) < LEAST or (time.monotonic() < until and len(taken[0]) < MOST):
        asked = request(batch)
        for each, found in zip(served, taken, strict=True):
            began = time.perf_counter()
            each.predict_columns(asked)
            found.append(time.perf_counter() - began)
    return [np.array(found) for found in taken]


def started(name: str, version: Path, warm: bool) -> dict[str, float]:
    """The medians of some starts; with `warm` the first answer comes after the warm-up."""
    script = (
        "import json, sys, time\nfrom pathlib import Path\n"
        "from app.serving import warmup\nfrom app.serving.session import SavedModelSession\n"
        "from benchmarks import serving\n"
        f"name, version = {name!r}, Path({str(version)!r})\n"
        f"request = serving.requests(name, version, {COLD})(1)\n"
        "began = time.perf_counter()\nserved = SavedModelSession(version)\n"
        "told = {'load': time.perf_counter() - began}\n"
        "began = time.perf_counter()\n"
        + ("warmup.replay(version, served)\n" if warm else "")
        + "told['replay'] = time.perf_counter() - began\n"
        "began = time.perf_counter()\nserved.ask(request)\n"
        "told['first'] = time.perf_counter() - began\nprint(json.dumps(told))\n"
    )
    found = []
    for _ in range(STARTS):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return {key: float(np.median([each[key] for each in found])) for key in found[0]}


def megabytes(folder: Path) -> float:
    """The size of what a server reads of a version."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if "assets.extra" not in path.parts) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    args = parser.parse_args()
    answers, starts = [], []
    with tempfile.TemporaryDirectory() as work:
        for name in tasks.names():
            if not export.versions(args.saved_models / name):
                print(f"{name}: no version in {args.saved_models}", file=sys.stderr)
                continue
            version = export.find(args.saved_models, name)
            served = [SavedModelSession(version)]
            if name in PEERS:
                served.append(SavedModelSession(peer(name, version, Path(work))))
            for length in LENGTHS if name != "captioning" else (0,):
                for batch in BATCHES:
                    print(f"{name}: {length} words, batch {batch}", file=sys.stderr)
                    found = latencies(served, requests(name, version, length), batch)
                    ours = np.percentile(found[0], (50, 95, 99)) * 1e3
                    rate = batch * len(found[0]) / found[0].sum()
                    medians = [np.median(each) for each in found]
                    shown = [f"{each:.1f}" for each in ours] + [f"{rate:.0f}"]
                    shown += [f"{medians[0] / medians[1]:.2f}" if medians[1:] else ""]
                    answers.append([name, length or "", batch, *shown])
            print(f"{name}: starts", file=sys.stderr)
            cold, warm = started(name, version, False), started(name, version, True)
            figures = (cold["load"], warm["replay"], cold["first"], warm["first"])
            shown = [f"{1e3 * figure:.0f}" for figure in figures]
            starts.append([name, f"{megabytes(version):.1f}", *shown])
    columns = ["task", "words", "batch", "p50 ms", "p95 ms", "p99 ms", "rows/s"]
    print(results.markdown([*columns, "p50, of Keras's"], answers))
    columns = ["task", "MB", "load ms", "warm-up ms", "first answer, cold ms", "warm ms"]
    print("\n" + results.markdown(columns, starts))
    print(f"\n{results.machine()}")


if __name__ == "__main__":
    main()
