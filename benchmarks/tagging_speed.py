"""Speed of the tagger, compared with the same network in plain Keras.

    DATA_DIR=... python -m benchmarks.tagging_speed

The plain network is what a Keras user would write: `StringLookup`, `Hashing` of the affixes,
`keras.layers.LSTM` in `Bidirectional` over the characters of each word and over the words, with
masks. Both networks have the default sizes, random weights, and the vocabularies of English-EWT.
Serving is measured through the SavedModels, from tokens to tags, by one client that sends one
request after another; training is `fit` on the same batches. The two take turns; the table has
medians over turns.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tasks
from app.serving import export
from app.serving.session import SavedModelSession
from app.training.batches import Batches
from app.training.example_cache import EncodedExamples
from benchmarks import records
from models.text.words import spell

BATCHES = (1, 64)
SENTENCES = {1: 150, 64: 2077}  # per turn, by batch size
STEPS = 30  # of training per turn


@keras.saving.register_keras_serializable(package="benchmarks")
class Flattened(keras.layers.Wrapper):
    """Runs a layer over (B * T, C, D) in place of (B, T, C, D)."""

    def call(self, inputs, mask):
        shape = tf.shape(inputs)
        flat = tf.reshape(inputs, [-1, shape[2], inputs.shape[3]])
        outputs = self.layer(flat, mask=tf.reshape(mask, [-1, shape[2]]))
        return tf.reshape(outputs, [shape[0], shape[1], outputs.shape[-1]])


def plain(task) -> keras.Model:
    """Returns the network of the task in plain Keras; the affixes are a third input."""
    c, layers = task.config, keras.layers
    ids = keras.Input((None,), dtype="int32", name="ids")
    characters = keras.Input((None, None), dtype="int32", name="characters")
    affixes = keras.Input((None, 2 * c.affixes), dtype="int32", name="affixes")
    embedded = layers.Embedding(len(task.characters), c.character_embedding)(characters)
    spelled = Flattened(layers.Bidirectional(layers.LSTM(c.characters)))
    spelled = spelled(embedded, mask=keras.ops.not_equal(characters, 0))
    hashed = layers.Embedding(2**14, 24)(affixes)
    hashed = layers.Reshape((-1, 2 * c.affixes * 24))(hashed)
    word = layers.Embedding(len(task.words), c.embedding)(ids)
    x, mask = layers.Concatenate()([word, spelled, hashed]), keras.ops.not_equal(ids, 0)
    for _ in range(c.layers):
        x = layers.Dropout(c.dropout)(x)
        x = layers.Bidirectional(layers.LSTM(c.units, return_sequences=True))(x, mask=mask)
    logits = layers.Dense(len(task.tags))(layers.Dropout(c.dropout)(x))
    return keras.Model({"ids": ids, "characters": characters, "affixes": affixes}, logits)


def plain_signature(task, model):
    """Returns a module and its signature from tokens and lengths to tags."""
    c = task.config
    words = keras.layers.StringLookup(vocabulary=list(task.words.words), mask_token="")
    letters = keras.layers.StringLookup(vocabulary=list(task.characters.words), mask_token="")
    hashing = keras.layers.Hashing(2**14)
    tags = tf.constant(task.tags.words)

    @tf.function(input_signature=list(task.request.values()))
    def tokens(tokens, lengths):
        valid = tf.sequence_mask(lengths, tf.shape(tokens)[1])
        tokens = tf.where(valid, tokens, "")
        flat = tf.reshape(tokens, [-1])
        spelled = letters(spell(flat, c.max_word_length).to_tensor(""))
        shape = tf.shape(tokens)
        spelled = tf.reshape(spelled, [shape[0], shape[1], tf.shape(spelled)[1]])
        sizes = tf.strings.length(tokens, unit="UTF8_CHAR")

        def affix(side, length):
            start = tf.zeros_like(sizes) if side == "<" else tf.maximum(sizes - length, 0)
            text = tf.strings.substr(tokens, start, tf.fill(shape, length), unit="UTF8_CHAR")
            return tf.strings.join([side, text])

        lengths = range(1, c.affixes + 1)
        affixes = [affix(side, length) for side in "<>" for length in lengths]
        inputs = {
            "ids": words(tf.strings.lower(tokens, encoding="utf-8")),
            "characters": spelled,
            "affixes": hashing(tf.stack(affixes, -1)),
        }
        predicted = tf.gather(tags, tf.argmax(model(inputs, training=False), -1))
        return {"tags": tf.where(valid, predicted, "")}

    module = tf.Module()
    module.tracked_weights = [weight.value for weight in model.weights]
    module.tables = [words.lookup_table, letters.lookup_table]
    return module, tokens


def turns(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Returns the seconds of each call; contestants take turns, after one call to warm up.

    Args:
        contestants: Function without arguments, by name.
        repeats: Number of turns.
    """
    for call in contestants.values():
        call()
    seconds = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, call in contestants.items():
            began = time.monotonic()
            call()
            seconds[name].append(time.monotonic() - began)
    return seconds


def row(title: str, count: int, seconds: dict[str, list[float]]) -> list[str]:
    """Returns a row of the table.

    Args:
        title: Title of the row.
        count: Number of words or sentences of a turn.
        seconds: Seconds of each turn of this project, then of plain Keras.
    """
    speeds = [count / statistics.median(values) for values in seconds.values()]
    ours, plain = seconds.values()
    ratio = statistics.median(p / o for o, p in zip(ours, plain, strict=True))
    return [title, *(f"{speed:,.0f}" for speed in speeds), f"{ratio:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    args = parser.parse_args()
    task_class = tasks.find("tagging")
    splits = task_class.Corpus(data=str(records.data_dir() / "tagging/en_ewt")).open()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "assets").mkdir()
        task = task_class.learn(task_class.Config(), splits.train, folder / "assets")
        networks = {"ours": task.build(), "plain": plain(task)}
        parameters = {name: network.count_params() for name, network in networks.items()}
        export.draft(task, networks["ours"], folder / "ours")
        module, signature = plain_signature(task, networks["plain"])
        tf.saved_model.save(module, str(folder / "plain"), signatures={"tokens": signature})
        sessions = {name: SavedModelSession(folder / name) for name in networks}
        tokens = [example.values["tokens"] for example in splits.test]
        rows = [serving_row(sessions, tokens, size, args.repeats) for size in BATCHES]
        encoded = EncodedExamples.write(task, splits.train, folder / "encoded")
        rows.append(training_row(task, networks, encoded, args.repeats))
    columns = ["", "this project, words/s", "plain Keras, words/s", "ratio"]
    print(records.markdown_table(columns, rows))
    print(
        f"\n{records.machine()}; English-EWT, LSTM, default sizes, {parameters['ours']:,} and "
        f"{parameters['plain']:,} parameters; medians of {args.repeats} interleaved turns"
    )


def serving_row(
    sessions: dict[str, SavedModelSession], tokens: list[list[str]], size: int, repeats: int
) -> list[str]:
    """Returns the row of serving with a batch size."""
    sentences = tokens[: SENTENCES[size]]
    batches = [sentences[start : start + size] for start in range(0, len(sentences), size)]
    payloads = [{"tokens": batch, "lengths": list(map(len, batch))} for batch in batches]

    def caller(session: SavedModelSession) -> Callable[[], object]:
        return lambda: [session.predict_columns(payload, "tokens") for payload in payloads]

    calls = {name: caller(session) for name, session in sessions.items()}
    words = sum(map(len, sentences))
    return row(f"tagging, batch {size}", words, turns(calls, repeats))


def training_row(
    task, networks: dict[str, keras.Model], encoded: EncodedExamples, repeats: int
) -> list[str]:
    """Returns the row of training: `fit` of both networks on the same batches."""
    batches, words, steps = Batches(encoded, task.config.batch_tokens, 0), 0, []
    for _, batch in zip(range(STEPS), batches.one_pass(), strict=False):
        words += int((batch["ids"] > 0).sum())
        steps.append(task.to_inputs(batch, training=True))
    calls = {}
    for name, network in networks.items():
        task.compile(network, keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
        data = _with_affixes(steps, task) if name == "plain" else steps
        calls[name] = lambda n=network, d=data: n.fit(_dataset(d), verbose=0)
    return row("training", words, turns(calls, repeats))


def _with_affixes(steps: list[tuple], task) -> list[tuple]:
    """Returns the batches with random ids of affixes."""
    width, random = 2 * task.config.affixes, np.random.default_rng(0)
    return [
        (
            {**x, "affixes": random.integers(0, 2**14, (*x["ids"].shape, width), np.int32)},
            y,
            weight,
        )
        for x, y, weight in steps
    ]


def _dataset(batches: list[tuple]) -> tf.data.Dataset:
    """Returns a dataset of batches of various lengths."""
    kinds = tf.nest.map_structure(
        lambda x: tf.TensorSpec([None] * np.ndim(x), tf.as_dtype(np.asarray(x).dtype)), batches[0]
    )
    kinds[0].update(
        (name, tf.TensorSpec([None, None, x.shape[2]], tf.int32))
        for name, x in batches[0][0].items()
        if np.ndim(x) == 3
    )
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=kinds)


if __name__ == "__main__":
    main()
