"""Speed of translation, compared with the same network in plain Keras.

    DATA_DIR=... python -m benchmarks.translation --only de-en   # trains the versions
    DATA_DIR=... python -m benchmarks.translation_speed

The plain network is what a Keras user would write: `keras.layers.GRU` with attention, and a
Python loop that calls a compiled step for each token, with the hypotheses in NumPy. It has the
weights and the subwords of the published version and searches by the same rules, so the number
of identical translations is printed too. One client sends one request after another; training is
`fit` on the same batches. The two take turns; the table has medians over turns.
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
from benchmarks import records, translation
from benchmarks.tagging_speed import row, turns
from models.cells import convert
from models.text.subwords import END, START

SENTENCES = {1: 60, 32: 320}  # per turn, by batch size
BEAM_SIZES = (1, 4)
STEPS = 20  # of training per turn


class Tied(layers.Layer):
    """Output layer that shares the weights of an embedding."""

    def __init__(self, embedding: layers.Embedding, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, shape):
        self.bias = self.add_weight(shape=(self.embedding.input_dim,), initializer="zeros")

    def call(self, inputs):
        return ops.matmul(inputs, ops.transpose(self.embedding.embeddings)) + self.bias


class Plain:
    """The default network of the task in plain Keras, with the weights of a trained network."""

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
        valid = ops.cast(mask, "float32")[..., None]
        memory = drop(encoder(drop(read(source)), mask=mask)) * valid
        keys = key(memory)
        mean = ops.sum(memory, axis=1) / ops.maximum(ops.sum(valid, axis=1), 1.0)
        initial = begin(mean)

        def write(tokens, state, memory, keys, valid):
            hidden, state = decoder(drop(written(tokens)), initial_state=state)
            scores = ops.matmul(hidden, ops.transpose(keys, (0, 2, 1))) * (2 * c.units) ** -0.5
            weights = ops.softmax(scores + (valid[:, None, :, 0] - 1.0) * 1e9)
            context = ops.matmul(weights, memory)
            mixed = drop(mix(ops.concatenate([hidden, context], -1)))
            return tied(mixed), state

        step_inputs = [
            keras.Input((None,), dtype="int32"),
            keras.Input((2 * c.units,)),
            *(keras.Input((None, size)) for size in (2 * c.units, 2 * c.units, 1)),
        ]
        encode = keras.Model(source, [memory, keys, valid, initial])
        step = keras.Model(step_inputs, write(*step_inputs))
        logits, _ = write(before, initial, memory, keys, valid)
        self.network = keras.Model({"source": source, "before": before}, logits)
        self._copy_weights(trained)
        self._encode = tf.function(lambda ids: encode(ids, training=False), reduce_retracing=True)
        self._step = tf.function(self._stepped(step), reduce_retracing=True)
        self._read = tf.function(task.source_ids, input_signature=[task.request["text"]])

    @staticmethod
    def _stepped(step):
        def call(tokens, state, memory, keys, valid):
            logits, state = step([tokens[:, None], state, memory, keys, valid], training=False)
            return tf.nn.log_softmax(logits[:, 0]), state

        return call

    def _copy_weights(self, trained: keras.Model) -> None:
        """Copies the weights of this project's network."""
        target, source = self.network.get_layer, trained.get_layer
        decoder = source("decoder")
        target("read").set_weights(source("embedding").get_weights())
        target("encoder").set_weights(convert.to_keras(source("encoder_0")).weights)
        target("begin").set_weights(decoder.first[0].get_weights())
        target("key").set_weights(decoder.attention.get_weights())
        target("written").set_weights(decoder.embedding.get_weights())
        target("decoder").set_weights(convert.to_keras(decoder.layers[0]).weights)
        target("mix").set_weights(decoder.mix.get_weights())
        target("tied").bias.assign(decoder.bias)

    def translate(self, texts: list[str], beam_size: int) -> list[str]:
        """Translates texts by greedy or beam search in a Python loop."""
        source = self._read(tf.constant(texts))
        ratio = self._task.config.max_length_ratio
        limits = [int(ratio * n + 10) for n in np.count_nonzero(source.numpy(), axis=1)]
        encoded = self._encode(source)
        if beam_size == 1:
            hypotheses = self._greedy_search(encoded, limits)
        else:
            hypotheses = self._beam_search(encoded, limits, beam_size)
        return [text.decode() for text in self._decode(hypotheses)]

    def _decode(self, hypotheses):
        longest = max(1, *map(len, hypotheses))
        rows = [[*tokens, *[0] * (longest - len(tokens))] for tokens in hypotheses]
        return self._task.subwords.decode(tf.constant(np.array(rows, np.int32))).numpy()

    def _greedy_search(self, encoded, limits):
        """Returns the most probable tokens of each row, of at most `limits` tokens."""
        memory, keys, valid, state = encoded
        tokens = tf.fill([len(limits)], START)
        hypotheses, unfinished = [[] for _ in limits], set(range(len(limits)))
        while unfinished:
            logs, state = self._step(tokens, state, memory, keys, valid)
            best = _without_special(logs.numpy()).argmax(axis=1)
            for index in list(unfinished):
                if best[index] == END or len(hypotheses[index]) == limits[index]:
                    unfinished.remove(index)
                else:
                    hypotheses[index].append(int(best[index]))
            tokens = tf.constant(best, tf.int32)
        return hypotheses

    def _beam_search(self, encoded, limits, width):
        """Returns the best hypothesis of each row, of at most `limits` tokens."""
        memory, keys, valid, state = (tf.repeat(tensor, width, axis=0) for tensor in encoded)
        # Hypotheses by row: log-probability and tokens of unfinished ones, score and tokens of
        # finished ones.
        unfinished = [[(0.0, [])] for _ in limits]
        finished = [[] for _ in limits]
        t = 0
        while any(unfinished):
            last = np.full(len(limits) * width, START, np.int32)
            for index, beam in enumerate(unfinished):
                for rank, (_, tokens) in enumerate(beam):
                    last[index * width + rank] = tokens[-1] if tokens else START
            logs, state = self._step(tf.constant(last), state, memory, keys, valid)
            logs, parents = _without_special(logs.numpy()), np.arange(len(last))
            for index, beam in enumerate(unfinished):
                if not beam:
                    continue
                own = logs[index * width : index * width + len(beam)]
                if t == limits[index]:
                    own = np.where(np.arange(own.shape[1]) == END, own, -1e9)
                extended = _extend(beam, own, finished[index], width, t)
                is_done = len(finished[index]) >= width
                unfinished[index] = [] if is_done else [entry[:2] for entry in extended]
                for rank, (_, _, parent) in enumerate(extended):
                    parents[index * width + rank] = index * width + parent
            state, t = tf.gather(state, parents), t + 1
        return [max(entries, key=lambda entry: entry[0])[1] for entries in finished]


def _extend(beam, logs, finished, width, t):
    """Extends the hypotheses of one row by a token; adds those that end to `finished`.

    Args:
        beam: Log-probability and tokens of each hypothesis.
        logs: Log-probabilities of the next token of each hypothesis.
        finished: Score and tokens of hypotheses that have ended.
        width: Beam size.
        t: Number of tokens of each hypothesis.

    Returns:
        Log-probability, tokens, and index of the extended hypothesis in `beam`, of the best.
    """
    totals = (logs + np.array([[log] for log, _ in beam])).ravel()
    best = np.argpartition(-totals, 2 * width)[: 2 * width]
    extended = []
    for rank, flat in enumerate(best[np.argsort(-totals[best], kind="stable")]):
        parent, token = divmod(int(flat), logs.shape[1])
        if totals[flat] < -5e8:
            continue
        if token != END:
            extended.append((totals[flat], [*beam[parent][1], token], parent))
        elif rank < width:
            finished.append((totals[flat] / ((6.0 + t) / 6.0), beam[parent][1]))
    return extended[:width]


def _without_special(logs):
    """Excludes padding and the start token, which are never generated."""
    logs[:, [0, START]] = -1e9
    return logs


def version_folders(name: str) -> dict[int, Path]:
    """Returns the versions of a row of `benchmarks.translation` by their beam sizes."""
    versions = {}
    for path in translation.folder_of(name).glob("translation/*/assets"):
        versions[tasks.find("translation").restore(path).config.beam_size] = path.parent
    if any(beam_size not in versions for beam_size in BEAM_SIZES):
        raise SystemExit(f"error: first run python -m benchmarks.translation --only {name}")
    return versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    args = parser.parse_args()
    versions, task_class = version_folders("de-en"), tasks.find("translation")
    task = task_class.restore(versions[1] / "assets")
    trained = models.load(versions[1])
    plain = Plain(task, trained)
    data = str(records.data_dir() / "translation/multi30k")
    splits = task_class.Corpus(data=data, source="de", target="en").open()
    texts = [example.values["text"] for example in splits.test]
    rows, identical = [], []
    for beam_size in BEAM_SIZES:
        session = SavedModelSession(versions[beam_size])
        for size, count in SENTENCES.items():
            batches = [texts[:count][start : start + size] for start in range(0, count, size)]

            def ours(session=session, batches=batches):
                responses = [
                    session.predict_columns({"text": batch})["translation"] for batch in batches
                ]
                return [text.decode() for response in responses for text in response]

            def theirs(beam_size=beam_size, batches=batches):
                return [text for batch in batches for text in plain.translate(batch, beam_size)]

            search = "greedy" if beam_size == 1 else f"beam {beam_size}"
            equal = sum(map(str.__eq__, ours(), theirs()))
            identical.append(f"{search}, batch {size}: {equal} of {count}")
            seconds = turns({"ours": ours, "plain": theirs}, args.repeats)
            rows.append(row(f"{search}, batch {size}, sentences/s", count, seconds))
    rows.append(training_row(task, plain.network, splits, args.repeats))
    print(records.markdown_table(["", "this project", "plain Keras", "ratio"], rows))
    print(
        f"\n{records.machine()}; Multi30k de→en, default sizes, {trained.count_params():,} and "
        f"{plain.network.count_params():,} parameters; medians of {args.repeats} interleaved "
        f"turns. Identical translations: {'; '.join(identical)}"
    )


def training_row(task, plain: keras.Model, splits, repeats: int) -> list[str]:
    """Returns the row of training: `fit` of both networks on the same batches."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoded = EncodedExamples.write(task, splits.train, folder / "encoded")
        batches = Batches(encoded, task.config.batch_tokens, 0)
        steps = [
            task.to_inputs(batch, training=True)
            for _, batch in zip(range(STEPS), batches.one_pass(), strict=False)
        ]
        words = sum(_count_words(task, after) for _, after, _ in steps)
    networks = {"ours": task.build(), "plain": plain}
    calls = {}
    for name, network in networks.items():
        task.compile(network, keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
        calls[name] = lambda n=network: n.fit(_dataset(steps), verbose=0)
    return row("training, target words/s", words, turns(calls, repeats))


def _count_words(task, ids: np.ndarray) -> int:
    """Returns the number of words of subwords (B, T): one per sentence, and one per blank."""
    pieces = task.subwords.pieces(ids).numpy().ravel()
    return len(ids) + sum(piece.startswith("▁".encode()) for piece in pieces)


def _dataset(batches: list[tuple]) -> tf.data.Dataset:
    """Returns a dataset of batches of various lengths."""
    kinds = tf.nest.map_structure(lambda x: tf.TensorSpec([None, None], x.dtype), batches[0])
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=kinds)


if __name__ == "__main__":
    main()
