"""N→M: a text in, another text out, written subword by subword by beam search in the graph.

Signatures, B texts, N = the setting `n_best`:

    serving_default(text: string[B]) -> translation: string[B], log_probability: float32[B]
    n_best(text: string[B]) -> translations: string[B, N], log_probabilities: float32[B, N]
    align(text: string[B]) -> translation: string[B], source_tokens: string[B, S],
        target_tokens: string[B, T], attention: float32[B, T, S], source_lengths: int32[B],
        target_lengths: int32[B]

A log-probability is normalised by length, as `models.search` does it. Where a text has
fewer than N translations the rest are "" with `models.search.IMPOSSIBLE`. The tokens of
`align` are subwords, "" beyond their lengths, and its translation is the best one.
"""

import dataclasses
import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import tensorflow as tf
from sacrebleu.metrics import BLEU, CHRF

from models.decoder import KINDS, Memory
from models.losses import SmoothedCrossEntropy, StepAccuracy
from models.recurrent import PORTABLE
from models.search import Found, Search, search
from models.subwords import END, START, Subwords
from models.text import PADDING
from models.translator import translator
from tasks import UserError
from tasks.corpora import Example
from tasks.shapes import task
from tasks.shapes.judgement import Alignment, Judgement, Table
from tasks.shapes.settings import setting

_SUBWORDS = "subwords.txt"
_WORST, _SHOWN = 20, 3  # translations that a report shows, and those of each epoch
_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Config(task.Config):
    """Settings of N→M."""

    longest: int = setting(256, "subwords read of a text; what is beyond is cut", at_least=1)
    vocabulary: int = setting(8000, "subwords of both languages together", at_least=300)
    attention: str = setting("multiplicative", "what the decoder looks with", choices=KINDS)
    input_feeding: bool = setting(
        False, "whether a step of the decoder reads what the one before looked at; slower"
    )
    choose_by: str = setting(
        "loss", "which figure of valid says which epoch is the best", choices=("loss", "bleu")
    )
    smoothing: float = setting(
        0.1, "share of the loss against the uniform distribution", at_least=0, below=1
    )
    unequal: float = setting(
        4.0, "train leaves out pairs of which one side has more than this times the other's "
        "subwords, and 5 more", at_least=1,
    )  # fmt: skip
    # How the served graph searches, which training knows nothing of.
    beams: int = setting(
        4, "unfinished translations that the served graph keeps", at_least=1, serving=True
    )
    n_best: int = setting(
        4, "translations that the signature n_best gives", at_least=1, serving=True
    )
    normalization: float = setting(
        1.0, "weight of length, as Wu et al. (2016)", at_least=0, serving=True
    )
    coverage: float = setting(0.0, "weight of coverage, likewise", at_least=0, serving=True)
    no_repeat: int = setting(
        0, "no run of so many subwords comes twice; 0: any may", at_least=0, serving=True
    )
    longest_output: float = setting(
        2.0,
        "subwords of the longest translation, by those of its source, and 10 more",
        above=0,
        serving=True,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.n_best > self.beams:
            raise UserError(f"--n-best must be at most --beams ({self.beams}), got {self.n_best}.")


@dataclasses.dataclass(frozen=True)
class Exchange(task.Exchange):
    """A text a line, answered by a line: its translation."""

    align: str = setting("", "file to be made: a PNG of what each subword looked at; of one text")

    def __post_init__(self):
        super().__post_init__()
        if self.align and Path(self.align).exists():
            raise UserError(f"--align: {self.align} is there already.")

    @property
    def signature(self):
        return "align" if self.align else "serving_default"

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, None]]:
        for line in lines:
            yield {"text": line}, None

    def show(self, asked, answer):
        return answer["translation"].replace("\n", " ")

    def drawing(self, answer):
        if not self.align:
            return None
        if Path(self.align).exists():
            raise UserError(f"--align draws one text: {self.align} has it, and the next has none.")
        return self.align, _alignment(answer)


class Generation(task.Task):
    """Texts to texts; a task of this shape says where its examples come from."""

    Config = Config
    Exchange = Exchange
    request = {"text": tf.TensorSpec([None], tf.string, "text")}

    @property
    def chosen_by(self):
        return f"val_{self.config.choose_by}"

    def __init__(self, config, folder):
        super().__init__(config, folder)
        self.subwords = Subwords(folder / _SUBWORDS)

    @classmethod
    def _learn_assets(cls, config, train, folder):
        texts = (text for example in train for text in example.values.values())
        Subwords.learn(folder / _SUBWORDS, texts, config.vocabulary)

    def why_not(self, example):
        return ""

    def encode(self, values):
        longest, unequal = self.config.longest, self.config.unequal
        source, target = (self.subwords.encode(values[key]) for key in ("text", "translation"))
        lengths = [tf.cast(each.row_lengths(), tf.int32) for each in (source, target)]
        short, long = tf.minimum(*lengths), tf.maximum(*lengths)
        fits = (short > 0) & (long <= longest)
        fits &= tf.cast(long, tf.float32) <= unequal * tf.cast(short, tf.float32) + 5
        return {
            "source": tf.ragged.boolean_mask(source, fits),
            "target": tf.ragged.boolean_mask(target, fits),
            "length": tf.boolean_mask(long, fits) + 1,
        }

    def unfit(self):
        c = self.config
        return (
            f"pairs of which a side is empty, has more than {c.longest} subwords, or more than "
            f"{c.unequal:g} times those of the other side and 5"
        )

    def tensors(self, encoded, *, learning):
        target = encoded["target"]
        length = tf.reduce_sum(tf.cast(target != PADDING, tf.int32), axis=1, keepdims=True)
        place = tf.range(tf.shape(target)[1] + 1)[None]
        before = tf.concat([tf.fill([tf.shape(target)[0], 1], START), target], axis=1)
        after = tf.where(place == length, END, tf.pad(target, [[0, 0], [0, 1]]))
        weights = tf.cast(place <= length, tf.float32)
        return {"source": encoded["source"], "before": before}, after, weights

    def build(self, purpose="training"):
        c, trains = self.config, purpose != "serving"
        return translator(
            source_vocabulary=len(self.subwords),
            target_vocabulary=len(self.subwords),
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            attention=c.attention,
            input_feeding=c.input_feeding,
            dropout=c.dropout if trains else 0.0,
            implementation="auto" if trains else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    def compile(self, model, optimizer):
        model.compile(
            optimizer,
            loss=SmoothedCrossEntropy(self.config.smoothing),
            weighted_metrics=[StepAccuracy("accuracy")],
            jit_compile=False,  # XLA would compile anew for each length of batch
        )

    # --- Serving -------------------------------------------------------------

    def signatures(self, model):
        c, text = self.config, self.request["text"]
        writer = self._writer(model, Search(c.beams, c.normalization, c.coverage, c.no_repeat))

        @tf.function(input_signature=[text])
        def serving_default(text):
            found = writer.write(self.source(text))
            return {
                "translation": self.subwords.decode(found.tokens[:, 0]),
                "log_probability": found.scores[:, 0],
            }

        @tf.function(input_signature=[text])
        def n_best(text):
            found = writer.write(self.source(text))
            tokens = found.tokens[:, : c.n_best]
            batch, _, written = tf.unstack(tf.shape(tokens))
            flat, shape = tf.reshape(tokens, [batch * c.n_best, written]), [batch, c.n_best]
            return {
                "translations": tf.reshape(self.subwords.decode(flat), shape),
                "log_probabilities": found.scores[:, : c.n_best],
            }

        @tf.function(input_signature=[text])
        def align(text):
            source = self.source(text)
            found = writer.write(source)
            lengths = found.lengths[:, 0]
            tokens = found.tokens[:, 0, : tf.reduce_max(tf.concat([[0], lengths], 0))]
            return {
                "translation": self.subwords.decode(tokens),
                "source_tokens": self.subwords.pieces(source),
                "target_tokens": self.subwords.pieces(tokens),
                "attention": writer.attention(source, tokens),
                "source_lengths": tf.reduce_sum(tf.cast(source != PADDING, tf.int32), axis=1),
                "target_lengths": lengths,
            }

        return {"serving_default": serving_default, "n_best": n_best, "align": align}

    def _writer(self, model, settings):
        memory = keras.Model(model.input["source"], model.get_layer("memory").output)
        return Writer(memory, model.get_layer("decoder"), settings, self.config.longest_output)

    def source(self, text: tf.Tensor) -> tf.Tensor:
        """The ids of texts (B,), (B, S) int32, 0 at padding, of one step or more."""
        ids = self.subwords.encode(text)[:, : self.config.longest].to_tensor(PADDING)
        return tf.pad(ids, [[0, 0], [0, tf.maximum(1 - tf.shape(ids)[1], 0)]])

    def watcher(self, model, valid):
        writer = self._writer(model, Search(1))
        write = tf.function(
            lambda text: self.subwords.decode(writer.write(self.source(text)).tokens[:, 0]),
            input_signature=[self.request["text"]],
        )
        every = self.config.choose_by == "bleu"

        def watch():
            shown, given, wanted = [], [], []
            for batch in valid.batches(_AT_ONCE) if every else [self._first(valid)]:
                found = write(tf.constant([example.values["text"] for example in batch]))
                given += [text.decode("utf-8") for text in found.numpy()]
                wanted += [example.values["translation"] for example in batch]
                for example, text in zip(batch, given, strict=False) if not shown else ():
                    shown.append(f"  {example.values['text']} -> {text}")
            figures = (
                {"val_bleu": BLEU(force=True).corpus_score(given, [wanted]).score} if every else {}
            )
            return task.Watched(figures, shown[:_SHOWN])

        return watch

    def illustrate(self, ask, examples):
        rows = [self.row(example.values) for example in self._first(examples)]
        return [_alignment(answer) for answer in ask(rows, "align")]

    def _first(self, examples):
        return next(examples.batches(_SHOWN))

    def limits(self):
        return (
            f"Reads the first {self.config.longest} subwords of a text; what is beyond is cut.",
            "Its probabilities are those of the network and have not been calibrated.",
        )

    # --- Judging -------------------------------------------------------------

    def judge(self, answered: Iterable[tuple[Example, dict]]) -> Judgement:
        given, wanted, worst = [], [], []
        sentence = CHRF()
        for number, (example, answer) in enumerate(answered):
            given.append(answer["translation"].decode("utf-8"))
            wanted.append(example.values["translation"])
            score = sentence.sentence_score(given[-1], wanted[-1:]).score
            mistake = (-score, -number, given[-1], example)
            (heapq.heappush if len(worst) < _WORST else heapq.heappushpop)(worst, mistake)
        rows, scores = [], {}
        for name, metric in (
            ("bleu", BLEU(force=True)),  # without a warning where text is tokenised already
            ("bleu, lower case", BLEU(force=True, lowercase=True)),
            ("chrf", CHRF()),
        ):
            figure = metric.corpus_score(given, [wanted]).score if given else 0.0
            rows.append([name, figure, str(metric.get_signature())])
            if name.isalpha():
                scores[name] = figure
        return Judgement(
            count=len(given),
            scores=scores,
            tables=[Table("Scores by sacreBLEU", ["metric", "score", "signature"], rows)],
            mistakes=Table(
                "The translations farthest from what was wanted, by chrF",
                ["chrf", "text", "given", "wanted", "from"],
                [
                    [
                        -minus,
                        example.values["text"],
                        text,
                        example.values["translation"],
                        example.origin,
                    ]
                    for minus, _, text, example in sorted(worst, reverse=True)
                ],
            ),
        )


def _alignment(answer) -> Alignment:
    """What an answer of `align` shows."""
    rows, columns = answer["target_lengths"], answer["source_lengths"]
    source, target = (
        [piece.decode("utf-8") if isinstance(piece, bytes) else piece for piece in some]
        for some in (answer["source_tokens"][:columns], answer["target_tokens"][:rows])
    )
    weights = [list(map(float, row[:columns])) for row in answer["attention"][:rows]]
    return Alignment(source, target, weights)


class Writer:
    """Writes what a trained network makes of a source.

    Args:
        encoder: Of ids (B, S) to a memory (B, S, M).
        decoder: A `models.decoder.Decoder`.
        settings: How to search.
        longest: Tokens of the longest output by those of its source, and 10 more.
    """

    def __init__(self, encoder, decoder, settings: Search, longest: float):
        self._encoder, self._decoder = encoder, decoder
        self._settings, self._longest = settings, longest

    def write(self, source: tf.Tensor) -> Found:
        """Searches for what ids (B, S) become; of none, nothing is all that is allowed."""
        memory = self._memory(source)
        read = tf.reduce_sum(tf.cast(memory.mask, tf.float32), axis=1)
        longest = tf.cast(tf.where(read > 0, read * self._longest + 10, 0), tf.int32)
        beams = Memory(*(tf.repeat(each, self._settings.beams, axis=0) for each in memory))
        return search(
            lambda tokens, _, states: self._decoder.step(tokens, beams, states),
            self._decoder.begin(memory),
            memory.mask,
            vocabulary=self._decoder.embedding.input_dim,
            start=START,
            end=END,
            longest=longest,
            settings=self._settings,
            forbidden=[PADDING],
        )

    def attention(self, source: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        """What each of the tokens (B, T) looked at, (B, T, S), when it was to be written."""
        before = tf.concat([tf.fill([tf.shape(tokens)[0], 1], START), tokens], axis=1)
        memory = self._memory(source)
        _, weights = self._decoder(before, memory.values, memory.mask, training=False)
        return weights[:, :-1] * tf.cast(tokens != PADDING, tf.float32)[..., None]

    def _memory(self, source):
        return self._decoder.look_at(self._encoder(source, training=False), source != PADDING)
