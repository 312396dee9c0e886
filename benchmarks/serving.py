"""Latency of published versions in the graph session of the SavedModel, as a server runs them.

    python -m benchmarks.serving                        # the versions in saved_models/
    python -m benchmarks.serving --tasks tagging --profile  # time of ops by part of the network
    python -m benchmarks.serving --tasks translation --longest  # outputs of the maximum length

Sends requests to `serving_default` of the latest version of each task, one after another, by
batch size and by number of words. For networks with one `GatedRNN` between other layers, the
same task is exported again with `keras.layers.LSTM` or `GRU` in its place (according to the
equation of its cell), and the two take turns. These have random weights, with which a decoder
writes texts of other lengths: with `--longest` both networks have random weights and never end a
text, so that each response has the maximum length. Loading is measured in processes of their own:
the time until the session is ready, until the first response to a text of 50 words, and the
time of that response after the warm-up requests.
"""

import argparse
import contextlib
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import tasks
from app.serving import export, payloads, versions
from app.serving.session import SavedModelSession
from benchmarks import records
from models.cells import specs
from models.text.subwords import END

BATCHES = (1, 8, 32)
LENGTHS = (10, 50, 200)  # words
SECONDS = 6.0  # of requests per row of the table
MIN_REQUESTS, MAX_REQUESTS = 20, 400  # per row
PEERS = {  # by task, the modules that make its recurrent layers
    "sentiment": ("models.networks.classifier",),
    "tagging": ("models.networks.tagger", "models.layers.characters"),
    "translation": ("models.networks.translator", "models.layers.decoder"),
    "captioning": ("models.layers.grid", "models.layers.decoder"),
}
PARTS = ("encoder", "character_reader")  # layers of the tagger in a profile
STARTS = 3  # processes that load a version; the table has the median
FIRST_LENGTH = 50  # words of the first request


class KerasRNN(keras.layers.Layer):
    """Keras layers with the arguments of a `GatedRNN`, and the attributes that a decoder reads."""

    def __init__(
        self,
        units,
        cell,
        *,
        layers=1,
        direction="forward",
        dropout=0.0,
        return_sequences=False,
        return_state=False,
        implementation="auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        del dropout, implementation  # serving has no dropout, and Keras one implementation
        equation = specs.find(cell).equation
        kind = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[equation.split("_")[0]]
        self.output_size = units * (2 if direction == "both" else 1)
        self.layers = []
        for index in range(layers):
            layer = kind(
                units,
                return_sequences=return_sequences or index < layers - 1,
                return_state=return_state,
                name=f"layer_{index}",
            )
            if direction == "both":
                layer = keras.layers.Bidirectional(layer, name=f"both_{index}")
            self.layers.append(layer)
        # The steps of a decoder read the cell of a layer in one direction.
        self.cells = [KerasCell(layer.cell) for layer in self.layers if hasattr(layer, "cell")]

    def build(self, shape):
        features = shape[-1]
        for layer in self.layers:
            layer.build((None, None, features))
            features = self.output_size
        self.built = True

    def call(self, x, mask=None, initial_state=None):
        for layer in self.layers:
            x = layer(x, mask=mask, initial_state=initial_state)
        return x


class KerasCell:
    """A cell of Keras with the interface of a `GatedCell` in inference."""

    state_dtype = "float32"

    def __init__(self, cell: keras.layers.Layer):
        self._cell = cell
        self.state_size = [int(size) for size in np.atleast_1d(cell.state_size)]

    def __call__(self, x, states, noise=None):
        outputs, states = self._cell(x, states)
        return outputs, list(states)


def peer(name: str, version: Path, folder: Path, longest: bool = False) -> Path:
    """Exports a version's task with layers of Keras and random weights, and returns the draft."""
    with contextlib.ExitStack() as stack:
        for module in PEERS[name]:
            stack.enter_context(mock.patch(f"{module}.GatedRNN", KerasRNN))
        return untrained(name, version, folder / f"draft-{name}", longest)


def untrained(name: str, version: Path, folder: Path, longest: bool) -> Path:
    """Exports a version's task with random weights, and returns the draft.

    Args:
        name: Name of the task.
        version: Folder of the version.
        folder: Folder of the draft; it is created.
        longest: Whether the decoder never writes the end of a text.
    """
    task = tasks.find(name).restore(version / "assets")
    model = task.build("serving")
    if longest:
        bias = model.get_layer("decoder").bias
        bias.assign(np.where(np.arange(bias.shape[0]) == END, -1e9, 0.0))
    return export.draft(task, model, folder)


def requests(name: str, version: Path, length: int) -> Callable[[int], dict]:
    """Returns a function from a batch size to a request: texts of known words, or images."""
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
    sessions: list[SavedModelSession], request: Callable[[int], dict], batch: int
) -> list[np.ndarray]:
    """Returns the seconds of each response by session; sessions take turns on each request."""
    seconds = [[] for _ in sessions]
    for session in sessions:
        session.predict_columns(request(batch))
    end = time.monotonic() + SECONDS
    while len(seconds[0]) < MIN_REQUESTS or (
        time.monotonic() < end and len(seconds[0]) < MAX_REQUESTS
    ):
        payload = request(batch)
        for session, values in zip(sessions, seconds, strict=True):
            began = time.perf_counter()
            session.predict_columns(payload)
            values.append(time.perf_counter() - began)
    return [np.array(values) for values in seconds]


# Prints the seconds of loading, of the warm-up, and of the first response as JSON.
_START = """
import json, sys, time
from pathlib import Path
from app.serving import warmup
from app.serving.session import SavedModelSession
from benchmarks import serving

name, version, warm = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "warm"
request = serving.requests(name, version, serving.FIRST_LENGTH)(1)
times = [time.perf_counter()]
session = SavedModelSession(version)
times.append(time.perf_counter())
if warm:
    warmup.replay(version, session)
times.append(time.perf_counter())
session.predict_columns(request)
times.append(time.perf_counter())
print(json.dumps([later - earlier for earlier, later in zip(times, times[1:])]))
"""


class Start(NamedTuple):
    """Seconds of the start of a server.

    Attributes:
        load: Time until the session is ready.
        warm_up: Time of the warm-up requests.
        first_response: Time of the first response after that.
    """

    load: float
    warm_up: float
    first_response: float


def start(name: str, version: Path, warm: bool) -> Start:
    """Returns the median seconds of several starts, with or without warm-up requests."""
    argv = [sys.executable, "-c", _START, name, str(version), "warm" if warm else "cold"]
    starts = []
    for _ in range(STARTS):
        process = subprocess.run(argv, capture_output=True, text=True)
        if process.returncode:
            sys.exit(process.stderr)
        starts.append(json.loads(process.stdout.splitlines()[-1]))
    return Start(*(float(value) for value in np.median(starts, axis=0)))


def megabytes(folder: Path) -> float:
    """Returns the size of the files of a version that a server reads, in MB."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if "assets.extra" not in path.parts) / 1e6


def latency_rows(
    name: str, sessions: list[SavedModelSession], version: Path, lengths: Sequence[int]
) -> list[list]:
    """Returns the rows of a task's latencies; `sessions` has the version and perhaps a peer."""
    rows = []
    for length in lengths if name != "captioning" else (0,):
        for batch in BATCHES:
            print(f"{name}: {length} words, batch {batch}", file=sys.stderr)
            seconds = latencies(sessions, requests(name, version, length), batch)
            percentiles = np.percentile(seconds[0], (50, 95, 99)) * 1e3
            rate = batch * len(seconds[0]) / seconds[0].sum()
            medians = [np.median(values) for values in seconds]
            ratio = f"{medians[0] / medians[1]:.2f}" if len(medians) > 1 else ""
            shown = [f"{value:.1f}" for value in percentiles]
            rows.append([name, length or "", batch, *shown, f"{rate:.0f}", ratio])
            print(*rows[-1], file=sys.stderr, flush=True)  # an interrupted command has them
    return rows


def profile(session: SavedModelSession, payload: dict, layers: Sequence[str]) -> dict[str, float]:
    """Returns the milliseconds of all ops of a response, summed over threads, by layer.

    Args:
        session: The session.
        payload: A request.
        layers: Names of layers of the network; the ops of all others count as "other".
    """
    definition = session.signatures["serving_default"]
    feeds = {
        definition.inputs[name].name: payloads.array(definition.inputs[name], values)
        for name, values in payload.items()
    }
    fetches = {name: tensor.name for name, tensor in definition.outputs.items()}
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    for _ in range(3):  # the first one includes what tracing itself prepares
        state = tf.compat.v1.RunMetadata()
        session._session.run(fetches, feeds, options=options, run_metadata=state)
    times = dict.fromkeys([*layers, "other"], 0.0)
    for device in state.step_stats.dev_stats:
        for node in device.node_stats:
            names = [part.rsplit("_", 1)[0] for part in node.node_name.split("/")]
            layer = next((name for name in layers if name in names), "other")
            times[layer] += (node.op_end_rel_micros - node.op_start_rel_micros) / 1e3
    return times


def profile_rows(name: str, sessions: list[SavedModelSession], version: Path) -> list[list]:
    """Returns the rows of a task's profile, of this project and then of layers of Keras."""
    rows = []
    for length, batch in itertools.product(LENGTHS[:2], BATCHES):
        payload = requests(name, version, length)(batch)
        for title, session in zip(("this project", "Keras"), sessions, strict=True):
            times = profile(session, payload, PARTS)
            total = sum(times.values())
            shares = [f"{100 * value / total:.0f}" for value in times.values()]
            rows.append([name, length, batch, title, f"{total:.1f}", *shares])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--saved-models", type=Path, default=Path("saved_models"))
    parser.add_argument("--tasks", nargs="+", choices=tasks.names(), default=tasks.names())
    parser.add_argument(
        "--words", nargs="+", type=int, default=list(LENGTHS), help="words of a text"
    )
    parser.add_argument("--profile", action="store_true", help="print time of ops by layer alone")
    parser.add_argument(
        "--longest", action="store_true", help="compare untrained decoders that never end a text"
    )
    args = parser.parse_args()
    decoding = [name for name in args.tasks if "models.layers.decoder" in PEERS.get(name, ())]
    if args.longest and decoding != list(args.tasks):
        parser.error(f"--longest needs tasks with a decoder, got {args.tasks}.")
    profile_table: list[list] = []
    latency_table, start_table = [], []
    with tempfile.TemporaryDirectory() as work:
        for name in args.tasks:
            if not versions.numbers(args.saved_models / name):
                print(f"{name}: no version in {args.saved_models}", file=sys.stderr)
                continue
            version = versions.find(args.saved_models, name)
            ours = version
            if args.longest:
                ours = untrained(name, version, Path(work) / f"longest-{name}", longest=True)
            sessions = [SavedModelSession(ours)]
            if name in PEERS:
                sessions.append(SavedModelSession(peer(name, version, Path(work), args.longest)))
            if args.profile:
                profile_table += profile_rows(name, sessions, version)
                continue
            latency_table += latency_rows(name, sessions, version, args.words)
            if args.longest:
                continue
            print(f"{name}: starts", file=sys.stderr)
            cold, warm = start(name, version, False), start(name, version, True)
            seconds = (cold.load, warm.warm_up, cold.first_response, warm.first_response)
            milliseconds = [f"{1e3 * value:.0f}" for value in seconds]
            start_table.append([name, f"{megabytes(version):.1f}", *milliseconds])
    if args.profile:
        columns = ["task", "words", "batch", "layers", "ms of all ops"]
        columns += [f"{name} %" for name in (*PARTS, "other")]
        print(records.markdown_table(columns, profile_table) + f"\n\n{records.machine()}")
        return
    columns = ["task", "words", "batch", "p50 ms", "p95 ms", "p99 ms", "rows/s", "p50 / Keras"]
    print(records.markdown_table(columns, latency_table))
    if args.longest:
        print(f"\n{records.machine()}")
        return
    columns = ["task", "MB", "load ms", "warm-up ms"]
    columns += ["first response ms, cold", "first response ms, warm"]
    print("\n" + records.markdown_table(columns, start_table))
    print(f"\n{records.machine()}")


if __name__ == "__main__":
    main()
