"""Speed of translation beside the same network in plain Keras, in one run.

    DATA_DIR=... python -m benchmarks.translation --only de-en   # trains what is asked
    DATA_DIR=... python -m benchmarks.translation_speed

The plain network is what a Keras user would write: `keras.layers.GRU` with attention,
and a Python loop that calls a compiled step for each token and keeps the beams in NumPy.
It has the weights of the published one, reads and writes with the same subwords, and
searches by the same rules, so how many translations agree is printed too. One client
waits for each answer; training is `fit` on the same batches. The two take turns; medians
of all turns.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

import models
import tasks
from app.serving.session import SavedModelSession
from app.training.batches import Batches
from app.training.example_cache import EncodedExamples
from benchmarks import results, translation
from benchmarks.tagging_speed import row, turns
from models.cells import convert
from models.text.subwords import END, START

SENTENCES = {1: 60, 32: 320}  # asked in a turn, by batch
BEAMS = (1, 4)
STEPS = 20  # of training in a turn


class Tied(layers.Layer):
    """Logits by the weights of an embedding."""

    def __init__(self, embedding: layers.Embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, shape):
        self.bias = self.add_weight(shape=(self.embedding.input_dim,), initializer="zeros")

    def call(self, mixed):
        return ops.matmul(mixed, ops.transpose(self.embedding.embeddings)) + self.bias


class Plain:
    """The default network of the task in plain Keras, with the weights of a trained one."""

    def __init__(self, task, trained: keras.Model):
        self._task, c = task, task.config
        vocabulary = len(task.subwords)
        source = keras.Input((None,), dtype="int32", name="source")
        before = keras.Input((None,), dtype="int32", name="before")
        mask = ops.not_equal(source, 0)
        read = layers.Embedding(vocabulary, c.embedding, name="read")
        encoder = layers.Bidirectional(layers.GRU(c.units, return_sequences=True), name="encoder")
        begin = layers.Dense(2 * c.units, activation="tanh", name="begin")
        key = layers.Dense(2 * c.units, use_bias=False, name="key")
        written = layers.Embedding(vocabulary, c.embedding, name="written")
        decoder = layers.GRU(2 * c.units, return_sequences=True, return_state=True, name="decoder")
        mix = layers.Dense(c.embedding, activation="tanh", name="mix")
        tied = Tied(written, name="tied")
        drop = layers.Dropout(c.dropout)
        there = ops.cast(mask, "float32")[..., None]
        memory = drop(encoder(drop(read(source)), mask=mask)) * there
        keys = key(memory)
        mean = ops.sum(memory, axis=1) / ops.maximum(ops.sum(there, axis=1), 1.0)
        first = begin(mean)

        def write(tokens, state, memory, keys, there):
            hidden, state = decoder(drop(written(tokens)), initial_state=state)
            scores = ops.matmul(hidden, ops.transpose(keys, (0, 2, 1))) * (2 * c.units) ** -0.5
            weights = ops.softmax(scores + (there[:, None, :, 0] - 1.0) * 1e9)
            context = ops.matmul(weights, memory)
            mixed = drop(mix(ops.concatenate([hidden, context], -1)))
            return tied(mixed), state

        given = [
            keras.Input((None,), dtype="int32"),
            keras.Input((2 * c.units,)),
            *(keras.Input((None, size)) for size in (2 * c.units, 2 * c.units, 1)),
        ]
        encode = keras.Model(source, [memory, keys, there, first])
        step = keras.Model(given, write(*given))
        logits, _ = write(before, first, memory, keys, there)
        self.network = keras.Model({"source": source, "before": before}, logits)
        self._take(trained)
        self._encode = tf.function(lambda ids: encode(ids, training=False), reduce_retracing=True)
        self._step = tf.function(self._stepped(step), reduce_retracing=True)
        self._read = tf.function(task.source_ids, input_signature=[task.request["text"]])

    @staticmethod
    def _stepped(step):
        def call(tokens, state, memory, keys, there):
            logits, state = step([tokens[:, None], state, memory, keys, there], training=False)
            return tf.nn.log_softmax(logits[:, 0]), state

        return call

    def _take(self, trained):
        """Takes the weights of the project's network."""
        theirs, ours = self.network.get_layer, trained.get_layer
        decoder = ours("decoder")
        theirs("read").set_weights(ours("embedding").get_weights())
        theirs("encoder").set_weights(convert.to_keras(ours("encoder_0")).weights)
        theirs("begin").set_weights(decoder.first[0].get_weights())
        theirs("key").set_weights(decoder.attention.get_weights())
        theirs("written").set_weights(decoder.embedding.get_weights())
        theirs("decoder").set_weights(convert.to_keras(decoder.layers[0]).weights)
        theirs("mix").set_weights(decoder.mix.get_weights())
        theirs("tied").bias.assign(decoder.bias)

    def translate(self, texts: list[str], beams: int) -> list[str]:
        """The translations of texts, by greedy or beam search in a Python loop."""
        source = self._read(tf.constant(texts))
        longest = [int(2.0 * n + 10) for n in np.count_nonzero(source.numpy(), axis=1)]
        find = self._greedy if beams == 1 else self._beams
        found = find(self._encode(source), longest, beams)
        return [text.decode() for text in self._written(found)]

    def _written(self, found):
        longest = max(1, *map(len, found))
        ids = np.array([[*tokens, *[0] * (longest - len(tokens))] for tokens in found], np.int32)
        return self._task.subwords.decode(tf.constant(ids)).numpy()

    def _greedy(self, encoded, longest, _):
        memory, keys, there, state = encoded
        tokens = tf.fill([len(longest)], START)
        found, going = [[] for _ in longest], set(range(len(longest)))
        while going:
            logs, state = self._step(tokens, state, memory, keys, there)
            best = _allowed(logs.numpy()).argmax(axis=1)
            for at in list(going):
                if best[at] == END or len(found[at]) == longest[at]:
                    going.remove(at)
                else:
                    found[at].append(int(best[at]))
            tokens = tf.constant(best, tf.int32)
        return found

    def _beams(self, encoded, longest, width):
        memory, keys, there, state = (tf.repeat(each, width, axis=0) for each in encoded)
        alive = [[(0.0, [])] for _ in longest]
        done = [[] for _ in longest]
        t = 0
        while any(alive):
            last = np.full(len(longest) * width, START, np.int32)
            for at, beams in enumerate(alive):
                for place, (_, tokens) in enumerate(beams):
                    last[at * width + place] = tokens[-1] if tokens else START
            logs, state = self._step(tf.constant(last), state, memory, keys, there)
            logs, parents = _allowed(logs.numpy()), np.arange(len(last))
            for at, beams in enumerate(alive):
                if not beams:
                    continue
                own = logs[at * width : at * width + len(beams)]
                if t == longest[at]:
                    own = np.where(np.arange(own.shape[1]) == END, own, -1e9)
                totals = (own + np.array([[log] for log, _ in beams])).ravel()
                best = np.argpartition(-totals, 2 * width)[: 2 * width]
                best, going = best[np.argsort(-totals[best], kind="stable")], []
                for rank, flat in enumerate(best):
                    parent, token = divmod(int(flat), own.shape[1])
                    if totals[flat] < -5e8:
                        continue
                    if token != END:
                        going.append((totals[flat], [*beams[parent][1], token], parent))
                    elif rank < width:
                        score = totals[flat] / ((6.0 + t) / 6.0)
                        done[at].append((score, beams[parent][1]))
                alive[at] = [] if len(done[at]) >= width else [each[:2] for each in going[:width]]
                for place, (_, _, parent) in enumerate(going[:width]):
                    parents[at * width + place] = at * width + parent
            state, t = tf.gather(state, parents), t + 1
        return [max(each, key=lambda found: found[0])[1] for each in done]


def _allowed(logs):
    """Without padding and the start, which are never written."""
    logs[:, [0, START]] = -1e9
    return logs


def served_by(name: str) -> dict[int, Path]:
    """The versions of a row of `benchmarks.translation`, by their beams."""
    found = {}
    for path in translation.folder_of(name).glob("translation/*/assets"):
        found[tasks.find("translation").restore(path).config.beam_size] = path.parent
    missing = [beams for beams in BEAMS if beams not in found]
    if missing:
        raise SystemExit(f"error: first run python -m benchmarks.translation --only {name}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    args = parser.parse_args()
    versions, task_class = served_by("de-en"), tasks.find("translation")
    task = task_class.restore(versions[1] / "assets")
    trained = models.load(versions[1])
    plain = Plain(task, trained)
    data = str(results.data_dir() / "translation/multi30k")
    splits = task_class.Corpus(data=data, source="de", target="en").open()
    texts = [example.values["text"] for example in splits.test]
    table, told = [], []
    for beams in BEAMS:
        served = SavedModelSession(versions[beams])
        for size in SENTENCES:
            some = texts[: SENTENCES[size]]
            batches = [some[at : at + size] for at in range(0, len(some), size)]

            def ours(served=served, batches=batches):
                answers = [
                    served.predict_columns({"text": batch})["translation"] for batch in batches
                ]
                return [text.decode() for answer in answers for text in answer]

            def theirs(beams=beams, batches=batches):
                return [text for batch in batches for text in plain.translate(batch, beams)]

            agree = sum(map(str.__eq__, ours(), theirs()))
            name = "greedy" if beams == 1 else f"beam {beams}"
            told.append(f"{name}, batch {size}: {agree} of {len(some)}")
            taken = turns({"ours": ours, "plain": theirs}, args.repeats)
            table.append(row(f"{name}, batch {size}, sentences/s", len(some), taken))
    table.append(training(task, trained, plain.network, splits, args.repeats))
    print(results.markdown(["", "this project", "plain Keras", "ratio"], table))
    print(
        f"\n{results.machine()}; Multi30k de→en, default sizes, {trained.count_params():,} and "
        f"{plain.network.count_params():,} parameters; medians of {args.repeats} interleaved "
        f"turns. Translations alike: {'; '.join(told)}"
    )


def training(task, ours, theirs, splits, repeats) -> list[str]:
    """The line of training: `fit` on batches that are the same for both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoded = EncodedExamples.write(task, splits.train, folder / "encoded")
        batches = Batches(encoded, task.config.batch_tokens, 0)
        steps = [
            task.to_inputs(batch, training=True)
            for _, batch in zip(range(STEPS), batches.one_pass(), strict=False)
        ]
        words = sum(_words(task, after) for _, after, _ in steps)
    networks = {"ours": task.build(), "plain": theirs}
    calls = {}
    for name, network in networks.items():
        task.compile(network, keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
        calls[name] = lambda n=network: n.fit(_dataset(steps), verbose=0)
    return row("training, target words/s", words, turns(calls, repeats))


def _words(task, ids) -> int:
    """How many words subwords (B, T) make: one a sentence, and one at each blank."""
    pieces = task.subwords.pieces(ids).numpy().ravel()
    return len(ids) + sum(piece.startswith("▁".encode()) for piece in pieces)


def _dataset(batches):
    kinds = tf.nest.map_structure(lambda x: tf.TensorSpec([None, None], x.dtype), batches[0])
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=kinds)


if __name__ == "__main__":
    main()
