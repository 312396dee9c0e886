"""Speed of the tagger beside the same network in plain Keras, in one run.

    DATA_DIR=... python -m benchmarks.tagging_speed

The plain network is what a Keras user would write: `StringLookup`, `Hashing` of the
affixes, `keras.layers.LSTM` in `Bidirectional` over the characters of every word and
over the words, with masks. Both have the sizes of the defaults, weights as they are
drawn, and the vocabularies of English-EWT. Serving is asked through the SavedModels, tokens
in and tags out, by one client that waits for each answer; training is `fit` on the
same batches. The two take turns; medians of all turns.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import tasks
from app.serving import export
from app.serving.session import SavedModelSession
from app.training.batches import Batches
from app.training.example_cache import EncodedExamples
from benchmarks import results
from models.text.words import spell

BATCHES = (1, 64)
SENTENCES = {1: 150, 64: 2077}  # asked in a turn, by batch
STEPS = 30  # of training in a turn


@keras.saving.register_keras_serializable(package="benchmarks")
class Flattened(keras.layers.Wrapper):
    """Runs a layer over (B * T, C, D) in place of (B, T, C, D)."""

    def call(self, inputs, mask):
        shape = tf.shape(inputs)
        flat = tf.reshape(inputs, [-1, shape[2], inputs.shape[3]])
        read = self.layer(flat, mask=tf.reshape(mask, [-1, shape[2]]))
        return tf.reshape(read, [shape[0], shape[1], read.shape[-1]])


def plain(task) -> keras.Model:
    """The network of the task in plain Keras; the affixes come as a third input."""
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
    """Tokens and lengths to tags, as a Keras user would export it."""
    c = task.config
    words = keras.layers.StringLookup(vocabulary=list(task.words.words), mask_token="")
    letters = keras.layers.StringLookup(vocabulary=list(task.characters.words), mask_token="")
    hashing = keras.layers.Hashing(2**14)
    tags = tf.constant(task.tags.words)

    @tf.function(input_signature=list(task.request.values()))
    def tokens(tokens, lengths):
        there = tf.sequence_mask(lengths, tf.shape(tokens)[1])
        tokens = tf.where(there, tokens, "")
        flat = tf.reshape(tokens, [-1])
        spelled = letters(spell(flat, c.max_word_length).to_tensor(""))
        shape = tf.shape(tokens)
        spelled = tf.reshape(spelled, [shape[0], shape[1], tf.shape(spelled)[1]])
        sizes = tf.strings.length(tokens, unit="UTF8_CHAR")

        def affix(side, length):
            at = tf.zeros_like(sizes) if side == "<" else tf.maximum(sizes - length, 0)
            taken = tf.strings.substr(tokens, at, tf.fill(shape, length), unit="UTF8_CHAR")
            return tf.strings.join([side, taken])

        lengths = range(1, c.affixes + 1)
        affixes = [affix(side, length) for side in "<>" for length in lengths]
        inputs = {
            "ids": words(tf.strings.lower(tokens, encoding="utf-8")),
            "characters": spelled,
            "affixes": hashing(tf.stack(affixes, -1)),
        }
        found = tf.gather(tags, tf.argmax(model(inputs, training=False), -1))
        return {"tags": tf.where(there, found, "")}

    module = tf.Module()
    module.kept = [weight.value for weight in model.weights]
    module.tables = [words.lookup_table, letters.lookup_table]
    return module, tokens


def turns(contestants: dict, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, the contestants taking turns after one call to warm up."""
    for call in contestants.values():
        call()
    taken = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, call in contestants.items():
            began = time.monotonic()
            call()
            taken[name].append(time.monotonic() - began)
    return taken


def row(title: str, words: int, taken: dict[str, list[float]]) -> list[str]:
    """A line of the table."""
    speeds = {name: words / statistics.median(seconds) for name, seconds in taken.items()}
    ours, plain = taken.values()
    ratio = statistics.median(p / o for o, p in zip(ours, plain, strict=True))
    return [title, *(f"{speed:,.0f}" for speed in speeds.values()), f"{ratio:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    args = parser.parse_args()
    task_class = tasks.find("tagging")
    splits = task_class.Corpus(data=str(results.data_dir() / "tagging/en_ewt")).open()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "assets").mkdir()
        task = task_class.learn(task_class.Config(), splits.train, folder / "assets")
        theirs = plain(task)
        networks = {"ours": task.build(), "plain": theirs}
        parameters = {name: network.count_params() for name, network in networks.items()}
        export.draft(task, networks["ours"], folder / "ours")
        module, signature = plain_signature(task, theirs)
        tf.saved_model.save(module, str(folder / "plain"), signatures={"tokens": signature})
        served = {name: SavedModelSession(folder / name) for name in networks}
        tokens = [example.values["tokens"] for example in splits.test]
        table = []
        for size in BATCHES:
            some = tokens[: SENTENCES[size]]
            requests = [
                {"tokens": some[at : at + size], "lengths": list(map(len, some[at : at + size]))}
                for at in range(0, len(some), size)
            ]
            calls = {
                name: lambda s=each, r=requests: [
                    s.predict_columns(request, "tokens") for request in r
                ]
                for name, each in served.items()
            }
            words = sum(map(len, some))
            table.append(row(f"tagging, batch {size}", words, turns(calls, args.repeats)))
        encoded = EncodedExamples.write(task, splits.train, folder / "encoded")
        table.append(training(task, networks, encoded, args.repeats))
    columns = ["", "this project, words/s", "plain Keras, words/s", "ratio"]
    print(results.markdown(columns, table))
    print(
        f"\n{results.machine()}; English-EWT, LSTM, default sizes, {parameters['ours']:,} and "
        f"{parameters['plain']:,} parameters; medians of {args.repeats} interleaved turns"
    )


def training(task, networks, encoded, repeats) -> list[str]:
    """The line of training: `fit` on batches that are the same for both."""
    batches, words, calls = Batches(encoded, task.config.batch_tokens, 0), 0, {}
    steps = []
    for _, batch in zip(range(STEPS), batches.one_pass(), strict=False):
        words += int((batch["ids"] > 0).sum())
        steps.append(task.to_inputs(batch, training=True))
    for name, network in networks.items():
        task.compile(network, keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
        given = steps
        if name == "plain":
            width, random = 2 * task.config.affixes, np.random.default_rng(0)
            given = [
                (
                    {**x, "affixes": random.integers(0, 2**14, (*x["ids"].shape, width), np.int32)},
                    y,
                    weight,
                )
                for x, y, weight in steps
            ]
        calls[name] = lambda n=network, g=given: n.fit(_dataset(g), verbose=0)
    return row("training", words, turns(calls, repeats))


def _dataset(batches):
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
