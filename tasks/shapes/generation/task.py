"""What 1→N and N→M share: a sentence written subword by subword by beam search in the graph.

A task of either shape says what its decoder looks at (`Generation.read`); learning,
searching, watching and judging are here.
"""

import abc
import dataclasses
import heapq
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import keras
import tensorflow as tf
from sacrebleu.metrics import BLEU, CHRF

from models.beam_search import BeamSearchConfig, Hypotheses, search
from models.cells.tracing import CellTrace
from models.layers.decoder import Decoder, Memory
from models.layers.losses import SmoothedCrossEntropy, StepAccuracy
from models.text.subwords import END, MARKS, START, Subwords
from models.text.words import PADDING
from tasks.core import inspection, task
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment, AttentionMaps, Evaluation, Table
from tasks.core.examples import Example
from tasks.core.inspection import Reading
from tasks.core.settings import setting

_SUBWORDS = "subwords.txt"
_WORST, _SHOWN = 20, 3  # answers that a report shows, and those of each epoch
_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Config(task.Config):
    """Settings of tasks that generate sentences."""

    vocabulary: int = setting(4000, "maximum number of subwords", at_least=300)
    input_feeding: bool = setting(
        False,
        "whether each step of the decoder reads the attentional state of the previous one; slower",
        affects="training",
    )
    monitor: str = setting(
        "loss",
        "score on the validation part that selects the best epoch",
        choices=("loss", "bleu"),
        affects="training",
        old_name="choose_by",
    )
    label_smoothing: float = setting(
        0.1,
        "share of the target that is spread over all subwords",
        at_least=0,
        below=1,
        affects="training",
        old_name="smoothing",
    )
    # The beam search of the served graph, on which training does not depend.
    beam_size: int = setting(
        4,
        "beams of the search in the served graph; 1: greedy",
        at_least=1,
        affects="serving",
        old_name="beams",
    )
    n_best: int = setting(
        4, "sentences returned by the signature n_best", at_least=1, affects="serving"
    )
    length_penalty: float = setting(
        1.0,
        "exponent of the length penalty (Wu et al. 2016, eq. 14)",
        at_least=0,
        affects="serving",
        old_name="normalization",
    )
    coverage: float = setting(
        0.0,
        "weight of the coverage penalty (Wu et al. 2016, eq. 14)",
        at_least=0,
        affects="serving",
    )
    no_repeat_ngram: int = setting(
        0,
        "length of subword n-grams that may not repeat; 0: all may",
        at_least=0,
        affects="serving",
        old_name="no_repeat",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.n_best > self.beam_size:
            raise UserError(
                f"--n-best must be at most --beam-size ({self.beam_size}), got {self.n_best}."
            )


@dataclasses.dataclass(frozen=True)
class RequestFormat(task.RequestFormat):
    """How sentences are asked for, and what they looked at is drawn.

    Class attributes:
        picture: The field that names the file of the picture, and the signature that is
            asked for it.
    """

    picture: ClassVar[str]

    def __post_init__(self):
        super().__post_init__()
        self._check_is_new("is there already")

    def _check_is_new(self, trouble: str) -> None:
        file = getattr(self, self.picture)
        if file and Path(file).exists():
            raise UserError(f"--{self.picture}: {file} {trouble}.")

    @property
    def signature(self):
        return self.picture if self.draws else "serving_default"

    @property
    def draws(self):
        return bool(getattr(self, self.picture))

    def drawing(self, asked, answer):
        file = getattr(self, self.picture)
        if not file:
            return None
        self._check_is_new("has the picture of one, and the next has none")
        return file, self.pictured(asked, answer)

    @abc.abstractmethod
    def pictured(self, asked: object, answer: dict) -> Alignment | AttentionMaps:
        """What is to be drawn of an answer."""


class Generation(task.Task):
    """Something to sentences.

    Class attributes:
        answer: The output that is the sentence.
        reported: The metrics of sacreBLEU, of `_METRICS`, that are scores.
    """

    Config = Config
    answer: ClassVar[str]
    reported: ClassVar[Sequence[str]] = ("bleu", "chrf")

    def __init__(self, config, folder):
        super().__init__(config, folder)
        self.subwords = Subwords(folder / _SUBWORDS)

    @property
    def monitor(self):
        return f"val_{self.config.monitor}"

    @classmethod
    def _learn_assets(cls, config, train, folder):
        texts = (text for example in train for text in cls.texts(example.values))
        Subwords.learn(folder / _SUBWORDS, texts, config.vocabulary)

    @classmethod
    @abc.abstractmethod
    def texts(cls, values: Mapping) -> Iterable[str]:
        """What subwords are learnt from, of an example."""

    @abc.abstractmethod
    def wanted(self, values: Mapping) -> Sequence[str]:
        """The sentences of an example, each as good an answer as the others."""

    @abc.abstractmethod
    def shown(self, example: Example) -> str:
        """What was asked by an example, for a person."""

    def pictured(self, example: Example) -> str | bytes:
        """The same where there may be pictures: the bytes of an image, if it is one."""
        return self.shown(example)

    @abc.abstractmethod
    def read(self, model: keras.Model, asked: tf.Tensor) -> tuple[Memory, tf.Tensor]:
        """What the layer "decoder" of a model looks at.

        Args:
            model: One that `build` made.
            asked: The one input of a request, (B,).

        Returns:
            The memory, and the most tokens to be written of each row, (B,) int32.
        """

    def rejection_reason(self, example):
        return ""

    def right(self, example: Example, text: str) -> dict[str, bool]:
        """Whether an answer is right, by the names of scores that count this; mostly none."""
        return {}

    def compile(self, model, optimizer):
        model.compile(
            optimizer,
            loss=SmoothedCrossEntropy(self.config.label_smoothing),
            weighted_metrics=[StepAccuracy("accuracy")],
            jit_compile=False,  # XLA would compile anew for each length of batch
        )

    # --- Serving -------------------------------------------------------------

    def writer(self, model: keras.Model) -> "Writer":
        """What writes by the decoder of a model as the settings say."""
        c = self.config
        settings = BeamSearchConfig(c.beam_size, c.length_penalty, c.coverage, c.no_repeat_ngram)
        return Writer(model.get_layer("decoder"), settings)

    def best(self, found: Hypotheses) -> dict[str, tf.Tensor]:
        """The outputs of a signature that gives the best sentence of each row."""
        return {
            self.answer: self.subwords.decode(found.tokens[:, 0]),
            "log_probability": found.scores[:, 0],
        }

    def n_best(self, found: Hypotheses) -> dict[str, tf.Tensor]:
        """The outputs of a signature that gives some sentences of each row."""
        count = self.config.n_best
        tokens = found.tokens[:, :count]
        batch, _, written = tf.unstack(tf.shape(tokens))
        flat, shape = tf.reshape(tokens, [batch * count, written]), [batch, count]
        return {
            f"{self.answer}s": tf.reshape(self.subwords.decode(flat), shape),
            "log_probabilities": found.scores[:, :count],
        }

    def validation_sampler(self, model, valid):
        ((name, spec),) = self.request.items()
        writer = Writer(model.get_layer("decoder"), BeamSearchConfig(1))
        every = self.config.monitor == "bleu"

        @tf.function(input_signature=[spec])
        def write(asked):
            return self.subwords.decode(writer.write(*self.read(model, asked)).tokens[:, 0])

        def watch():
            shown, given, wanted = [], [], []
            for batch in valid.batches(_AT_ONCE) if every else [self.first(valid)]:
                found = write(tf.constant([example.values[name] for example in batch]))
                given += [text.decode("utf-8") for text in found.numpy()]
                wanted += [self.wanted(example.values) for example in batch]
                for example, text in zip(batch, given, strict=False) if not shown else ():
                    shown.append(f"  {self.shown(example)} -> {text}")
            figures = {"val_bleu": _figure(BLEU(force=True), given, wanted)} if every else {}
            return task.ValidationSample(figures, shown[:_SHOWN])

        return watch

    def first(self, examples) -> list[Example]:
        """The few examples that are shown."""
        return next(examples.batches(_SHOWN))

    # --- Looking inside ------------------------------------------------------

    def ids_of(self, pieces: Sequence[str]) -> tf.Tensor:
        """The ids (1, T) of subwords as an answer shows them."""
        shown = self.subwords.pieces(tf.range(len(self.subwords))).numpy()
        known = {piece.decode("utf-8"): number for number, piece in enumerate(shown)}
        return tf.constant([known[piece] for piece in pieces], tf.int32)[None]

    def decoded(self, seen: Iterable[CellTrace], pieces: Sequence[str]) -> list[Reading]:
        """What the cells of the decoder did as they wrote subwords, each reading the one before."""
        of_decoder = [each for each in seen if each.place.startswith("decoder/")]
        return [
            inspection.reading(each, "decoder", [MARKS[START], *pieces], layer=at)
            for at, each in enumerate(of_decoder)
        ]

    def notes_inside(self) -> list[str]:
        """What a person should know of what was seen of the decoder."""
        if self.config.input_feeding:
            return ["The decoder feeds what it looked at into its next step; it is not shown."]
        return ["The decoder reads at each step the subword that it wrote before."]

    # --- Judging -------------------------------------------------------------

    def judge(self, answered: Iterable[tuple[Example, dict]]) -> Evaluation:
        given, wanted, worst, right = [], [], [], {}
        sentence = CHRF()
        for number, (example, answer) in enumerate(answered):
            given.append(answer[self.answer].decode("utf-8"))
            wanted.append(self.wanted(example.values))
            for name, is_right in self.right(example, given[-1]).items():
                right[name] = right.get(name, 0) + is_right
            score = sentence.sentence_score(given[-1], wanted[-1]).score
            mistake = (-score, -number, given[-1], example)
            (heapq.heappush if len(worst) < _WORST else heapq.heappushpop)(worst, mistake)
        scores = {name: count / len(given) for name, count in right.items()}
        rows = []
        for name, metric in (
            ("bleu", BLEU(force=True)),  # without a warning where text is tokenised already
            ("bleu, lower case", BLEU(force=True, lowercase=True)),
            ("chrf", CHRF()),
        ):
            figure = _figure(metric, given, wanted)
            rows.append([name, figure, str(metric.get_signature()) if given else ""])
            if name in self.reported:
                scores[name] = figure
        return Evaluation(
            count=len(given),
            scores=scores,
            tables=[Table("Scores by sacreBLEU", ["metric", "score", "signature"], rows)],
            mistakes=Table(
                f"The {self.answer}s farthest from what was wanted, by chrF",
                ["chrf", "asked", "given", "wanted", "from"],
                [
                    [
                        -minus,
                        self.pictured(example),
                        text,
                        " / ".join(self.wanted(example.values)),
                        example.origin,
                    ]
                    for minus, _, text, example in sorted(worst, reverse=True)
                ],
            ),
        )


def _figure(metric, given: Sequence[str], wanted: Sequence[Sequence[str]]) -> float:
    """What a metric of sacreBLEU finds; where some have fewer references the rest are None."""
    if not given:
        return 0.0
    most = max(map(len, wanted))
    columns = [[row[at] if at < len(row) else None for row in wanted] for at in range(most)]
    return metric.corpus_score(given, columns).score


def taught(target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What teacher forcing needs of sentences.

    Args:
        target: Their ids (B, T) int32, 0 at padding.

    Returns:
        Each (B, T + 1): the tokens before, the tokens to predict with the end behind
        them, both int32, and weights, float32, 0 at padding.
    """
    length = tf.reduce_sum(tf.cast(target != PADDING, tf.int32), axis=1, keepdims=True)
    place = tf.range(tf.shape(target)[1] + 1)[None]
    before = tf.concat([tf.fill([tf.shape(target)[0], 1], START), target], axis=1)
    after = tf.where(place == length, END, tf.pad(target, [[0, 0], [0, 1]]))
    return before, after, tf.cast(place <= length, tf.float32)


class Writer:
    """Writes what a trained decoder makes of a memory, as the settings of a search say."""

    def __init__(self, decoder: Decoder, settings: BeamSearchConfig):
        self._decoder, self._settings = decoder, settings

    def write(self, memory: Memory, longest: tf.Tensor) -> Hypotheses:
        """Searches for what memories become, of at most `longest` (B,) tokens."""
        beams = Memory(*(tf.repeat(each, self._settings.beam_size, axis=0) for each in memory))
        return search(
            lambda tokens, _, states: self._decoder.step(tokens, beams, states),
            self._decoder.initial_states(memory),
            memory.mask,
            vocabulary=self._decoder.embedding.input_dim,
            start=START,
            end=END,
            longest=longest,
            settings=self._settings,
            forbidden=[PADDING],
        )

    def attention(self, memory: Memory, tokens: tf.Tensor) -> tf.Tensor:
        """What each of the tokens (B, T) looked at, (B, T, S), when it was to be written."""
        before = tf.concat([tf.fill([tf.shape(tokens)[0], 1], START), tokens], axis=1)
        _, weights = self._decoder(before, memory.values, memory.mask, training=False)
        return weights[:, :-1] * tf.cast(tokens != PADDING, tf.float32)[..., None]
