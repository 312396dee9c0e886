"""Speed of training, compared with plain Keras programs of the same sizes, all four tasks.

    DATA_DIR=... python -m benchmarks.training
    DATA_DIR=... python -m benchmarks.training --only tagging
    python -m benchmarks.training --parts  # CPU time of a step of captioning, without parts of it

This project trains as `app.train` does: its network, its loop, implementations chosen by timing,
and its batches, which have similar lengths. The plain program is what a Keras user writes: layers
of Keras with masks, shuffled batches padded to the longest of their examples, and `fit`. Its
batches have as many examples as those of this project have on average, and are prepared in
advance, so that they cost it nothing. A turn is `STEPS` steps of one program, after a turn that is
not timed; the programs take turns. A task that was measured next to other work is marked as
disturbed, and measured again the next time. Tokens are those that a recurrent layer reads, without
padding.
"""

import argparse
import dataclasses
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

import tasks
from app.training import distribution, loop, tuning
from app.training.batches import Batches
from app.training.callbacks import WeightAverage
from app.training.example_cache import EncodedExamples
from app.training.optimizers import optimizer_of
from benchmarks import kernels, records, sentiment, tagging_speed, translation_speed
from tasks.core.examples import Splits, Stream
from tasks.core.task import Task

STEPS = 30  # of a turn
PARTS = {  # settings of captioning by the name of what remains of a step
    "whole": {},
    "without dropout": {"dropout": 0.0},
    "without sweeps": {"sweeps": 0},
    "without sweeps, one filter": {"sweeps": 0, "filters": 1},
}
EXAMPLES_OF_PARTS = 1000  # of captioning
READ = {  # names of the ids that recurrent layers read
    "sentiment": ("ids",),
    "tagging": ("ids",),
    "translation": ("source", "before"),
    "captioning": ("before",),
}


# --- The plain programs --------------------------------------------------------


def plain_classifier(task: Task) -> keras.Model:
    """Returns a network of words to the logits of classes."""
    c = task.config
    words = layers.Embedding(len(task.words), c.embedding, mask_zero=True)
    reader = layers.LSTM(c.units, return_sequences=True)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), words])
    model.add(layers.Dropout(c.dropout))
    model.add(layers.Bidirectional(reader))
    model.add(layers.GlobalAveragePooling1D())
    model.add(layers.Dropout(c.dropout))
    model.add(layers.Dense(task.target.outputs))
    return model


def plain_captioner(task: Task) -> keras.Model:
    """Returns a network of an image and the tokens before, (B, C, T), to the logits of tokens."""
    c = task.config
    image = keras.Input((c.height, c.width, 3), dtype="uint8", name="image")
    before = keras.Input((None, None), dtype="int32", name="before")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for number, factor in enumerate((1, 2, 4, 4)):
        x = layers.MaxPooling2D(2)(x) if number else x
        x = layers.Conv2D(factor * c.filters, 3, padding="same", activation="relu")(x)
    grid = layers.Conv2D(c.units, 1)(x)
    for _ in range(c.sweeps):
        for axes in ((0, 1, 2, 3), (0, 2, 1, 3)):
            turned = ops.transpose(layers.Dropout(c.dropout)(grid), axes)
            _, lines, steps, _ = turned.shape
            read = layers.Bidirectional(layers.GRU(c.units // 2, return_sequences=True))
            read = read(ops.reshape(turned, (-1, steps, c.units)))
            grid += ops.transpose(ops.reshape(read, (-1, lines, steps, c.units)), axes)
    memory = layers.Dropout(c.dropout)(layers.Reshape((-1, c.units))(grid))
    keys, initial = layers.Dense(c.units, use_bias=False), layers.Dense(c.units, activation="tanh")
    written = layers.Embedding(len(task.subwords), c.embedding)
    embedded = layers.Dropout(c.dropout)(written(before))
    hidden, context = Reading(c.units)(
        [embedded, initial(ops.mean(memory, axis=1)), keys(memory), memory]
    )
    mixed = layers.Dense(c.embedding, activation="tanh")(ops.concatenate([hidden, context], -1))
    logits = translation_speed.Tied(written)(layers.Dropout(c.dropout)(mixed))
    return keras.Model({"image": image, "before": before}, logits)


class Reading(layers.Layer):
    """A GRU over several captions of an image, with attention to the image."""

    def __init__(self, units: int):
        super().__init__()
        self.rnn = layers.GRU(units, return_sequences=True)

    def build(self, shapes):
        self.rnn.build((None, None, shapes[0][-1]))

    def call(self, inputs):
        embedded, initial, keys, memory = inputs
        rows, count, steps, _ = tf.unstack(tf.shape(embedded))
        flat = tf.reshape(embedded, [rows * count, steps, embedded.shape[-1]])
        hidden = self.rnn(flat, initial_state=tf.repeat(initial, count, axis=0))
        hidden = tf.reshape(hidden, [rows, count * steps, hidden.shape[-1]])
        scores = tf.matmul(hidden, keys, transpose_b=True) * self.rnn.units**-0.5
        context = tf.matmul(tf.nn.softmax(scores), memory)
        return [tf.reshape(x, [rows, count, steps, self.rnn.units]) for x in (hidden, context)]


def plain_network(name: str, task: Task) -> keras.Model:
    """Returns the plain network of a task."""
    if name == "sentiment":
        return plain_classifier(task)
    if name == "tagging":
        return tagging_speed.plain(task)
    if name == "translation":
        return translation_speed.Plain(task, task.build()).network
    return plain_captioner(task)


def plain_batch(name: str, task: Task, batch: tuple) -> tuple:
    """Returns a batch of this project's network as one of the plain network."""
    x, y, *weight = tf.nest.map_structure(np.asarray, batch)
    if name == "sentiment":
        return _ids(x), y
    if name == "tagging":
        width = 2 * task.config.affixes
        affixes = np.random.default_rng(0).integers(0, 2**14, (*x["ids"].shape, width), np.int32)
        return {**x, "affixes": affixes}, y, *weight
    return x, y, *weight


# --- Data ------------------------------------------------------------------------


def splits_of(name: str) -> Splits:
    """Returns the examples of a task; the sample in captioning, data of DATA_DIR in the others."""
    corpus_class = tasks.find(name).Corpus
    if name == "sentiment":
        parts = sentiment.split("mr", 0)
        return Splits(**{part: Stream(lambda e=examples: e) for part, examples in parts.items()})
    if name == "tagging":
        return corpus_class(data=str(records.data_dir() / "tagging/en_ewt")).open()
    if name == "translation":
        data = str(records.data_dir() / "translation/multi30k")
        return corpus_class(data=data, source="de", target="en").open()
    return corpus_class().open()


def _ids(x):
    return x["ids"] if isinstance(x, dict) else x


def count_tokens(name: str, inputs: dict | np.ndarray) -> int:
    """Returns the number of tokens of a batch that a recurrent layer reads."""
    inputs = inputs if isinstance(inputs, dict) else {"ids": inputs}
    return sum(int(np.count_nonzero(inputs[key])) for key in READ[name])


# --- The contestants -----------------------------------------------------------


def ours(task: Task, encoded: EncodedExamples) -> tuple[Callable[[], None], keras.Model]:
    """Returns a call that trains this project's network for some steps, and the network."""
    strategy = distribution.strategy_of("none")
    batches = Batches(encoded, task.config.batch_tokens, 0, task.config.buffer)
    model = loop.build(task, strategy, batches.steps, None)
    tuning.apply(model, tuning.choose(task, model, batches, tuning.MIN_STEPS))
    average = WeightAverage(model, model.optimizer, task.config.ema_momentum)
    step, _ = loop.make_steps(task, model, strategy)
    data = loop.distribute(strategy, lambda share: batches.training_dataset(task, 0, share))

    def train():
        for number in range(STEPS):
            logs = step(data)
            average.on_train_batch_end(number)
        float(logs["loss"])  # waits for the last step

    return train, model


def plain(
    name: str, task: Task, encoded: EncodedExamples, turns: int
) -> tuple[Callable[[], None], keras.Model, list[int]]:
    """Returns a call that trains the plain network, the network, and the tokens of each turn."""
    model = plain_network(name, task)
    task.compile(model, optimizer_of(task.config, 1))
    rows = encoded.read(range(len(encoded.sizes)))
    size = round(len(rows) / Batches(encoded, task.config.batch_tokens, 0).steps)
    order = np.random.default_rng(0).permutation(len(rows))
    chunks = (order[start : start + size] for start in itertools.count(0, size))
    batches = [
        plain_batch(name, task, task.to_inputs(rows.padded(chunk), training=True))
        for chunk in itertools.islice(chunks, STEPS * turns)
    ]
    tokens = [count_tokens(name, x) for x, *_ in batches]
    kinds = tf.nest.map_structure(_kind, *batches)
    taken = iter(range(0, len(batches), STEPS))

    def train():
        own = batches[(start := next(taken)) : start + STEPS]
        data = tf.data.Dataset.from_generator(lambda: own, output_signature=kinds)
        model.fit(data.apply(tf.data.experimental.assert_cardinality(STEPS)), verbose=0)

    return train, model, [sum(tokens[i : i + STEPS]) for i in range(0, len(tokens), STEPS)]


def _kind(*arrays: np.ndarray) -> tf.TensorSpec:
    """The kind of an array of a batch: only axes of the same size in all batches have one."""
    sizes = zip(*(array.shape for array in arrays), strict=True)
    known = [size[0] if len(set(size)) == 1 else None for size in sizes]
    return tf.TensorSpec([None, *known[1:]], arrays[0].dtype)


def _tokens_of_turns(name, task, encoded, turns):
    """The tokens of this project's batches, by turn."""
    batches = Batches(encoded, task.config.batch_tokens, 0, task.config.buffer)
    passes = itertools.chain.from_iterable(map(batches.one_pass, itertools.count()))
    counts = [
        count_tokens(name, task.to_inputs(batch, training=True)[0])
        for batch in itertools.islice(passes, STEPS * turns)
    ]
    return [sum(counts[i : i + STEPS]) for i in range(0, len(counts), STEPS)]


def measure(name: str, turns: int) -> dict:
    """Returns the tokens per second of each turn of both programs, and their parameters."""
    task_class = tasks.find(name)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "assets").mkdir()
        splits = splits_of(name)
        config = task_class.settle(task_class.Config(), task_class.Corpus())[0]
        task = task_class.learn(config, splits.train, folder / "assets", splits.valid)
        encoded = EncodedExamples.write(task, splits.train, folder / "encoded")
        tokens = {"ours": _tokens_of_turns(name, task, encoded, turns + 1)}
        train_ours, network = ours(task, encoded)
        train_plain, plain_model, tokens["plain"] = plain(name, task, encoded, turns + 1)
        calls = {"ours": train_ours, "plain": train_plain}
        began, busy = time.monotonic(), kernels.other_cpu_seconds()
        seconds = tagging_speed.turns(calls, turns)
        disturbance = (kernels.other_cpu_seconds() - busy) / (time.monotonic() - began)
    speeds = {
        key: [count / second for count, second in zip(tokens[key][1:], values, strict=True)]
        for key, values in seconds.items()
    }
    parameters = {"ours": network.count_params(), "plain": plain_model.count_params()}
    return {
        "tokens_per_second": speeds,
        "parameters": parameters,
        "cell": task.config.cell,
        "cores_of_others": disturbance,
    }


def cpu_of_parts(turns: int) -> dict[str, float]:
    """Returns the CPU milliseconds of a training step of captioning for each of `PARTS`.

    They are the least of some turns, since other work on the machine adds to them.
    """
    task_class, milliseconds = tasks.find("captioning"), {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        (folder / "assets").mkdir()
        all_examples = splits_of("captioning").train
        train_part = Stream(lambda: itertools.islice(all_examples, EXAMPLES_OF_PARTS))
        config = task_class.settle(task_class.Config(), task_class.Corpus())[0]
        task = task_class.learn(config, train_part, folder / "assets", train_part)
        encoded = EncodedExamples.write(task, train_part, folder / "encoded")
        for name, settings in PARTS.items():
            changed = dataclasses.replace(task.config, **settings)
            train, _ = ours(type(task)(changed, folder / "assets"), encoded)
            train()
            seconds = []
            for _ in range(turns):
                began = time.process_time()
                train()
                seconds.append(time.process_time() - began)
            milliseconds[name] = 1e3 * min(seconds) / STEPS
    return milliseconds


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=list(READ), default=list(READ), help="tasks")
    parser.add_argument("--turns", type=int, default=5, help="turns of each program (default: 5)")
    parser.add_argument("--parts", action="store_true", help="print CPU time by part alone")
    args = parser.parse_args(argv)
    if args.parts:
        rows = [[name, f"{value:.0f}"] for name, value in cpu_of_parts(args.turns).items()]
        print(records.markdown_table(["step of captioning", "CPU ms"], rows))
        print(f"\n{records.machine()}; TensorFlow {tf.__version__}")
        return
    rows, ratios = [], []
    for name in args.only:
        measured = functools.partial(measure, name, args.turns)
        key = ("training", f"{name}-{args.turns}")
        fresh = kernels.disturbed(records.load(*key))
        record = records.load_or_measure(*key, measured, fresh)
        own, peer = (record["tokens_per_second"][key] for key in ("ours", "plain"))
        ratios.append(statistics.median(a / b for a, b in zip(own, peer, strict=True)))
        speeds = [f"{statistics.median(values):,.0f}" for values in (own, peer)]
        parameters = [f"{count:,}" for count in record["parameters"].values()]
        mark = " (disturbed)" if kernels.disturbed(record) else ""
        rows.append([f"{name}{mark}", record["cell"], *speeds, f"{ratios[-1]:.2f}", *parameters])
    columns = ["task", "cell", "this project, tokens/s", "plain Keras, tokens/s", "ratio"]
    columns += ["parameters", "of plain Keras"]
    print(records.markdown_table(columns, rows))
    print(
        f"\n{records.machine()}; TensorFlow {tf.__version__}, Keras {keras.__version__}; geometric "
        f"mean of the ratios {statistics.geometric_mean(ratios):.2f}; medians of {args.turns} "
        f"interleaved turns of {STEPS} steps"
    )


if __name__ == "__main__":
    main()
