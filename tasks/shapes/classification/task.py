"""N→1: a text in, one of K classes out.

Signature: serving_default(text: string[B]) -> label: string[B],
probability: float32[B], probabilities: float32[B, K], whose columns are the
lines of the asset `labels.txt`.
"""

import collections
import dataclasses
import heapq
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from models import metrics
from models.cells.recurrent import PORTABLE
from models.cells.tracing import trace
from models.networks.classifier import classifier
from models.text.words import PADDING, LossyCounter, Vocabulary, split
from tasks.core import inspection, task
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment, Confusion, Evaluation, Table
from tasks.core.examples import Example
from tasks.core.inspection import Inspection
from tasks.core.settings import setting

_WORDS, _LABELS = "words.txt", "labels.txt"
_AT_ONCE = 1024  # texts split at once where vocabularies are counted
_MISTAKES = 20


@dataclasses.dataclass(frozen=True)
class Config(task.Config):
    """Settings of N→1."""

    vocabulary: int = setting(20_000, "maximum number of words in the vocabulary", at_least=1)
    evidence: int = setting(
        2**18,
        "buckets of word pairs counted by class (naive Bayes features); 0: none",
        at_least=0,
        affects="training",
    )
    word_dropout: float = setting(
        0.2,
        "share of words that training replaces by the unknown word",
        at_least=0,
        below=1,
        affects="training",
    )


@dataclasses.dataclass(frozen=True)
class RequestFormat(task.RequestFormat):
    """A text a line, answered by a line: its label, how probable that is, and the text."""

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, str]]:
        for line in lines:
            yield {"text": line}, line.decode("utf-8", "replace")

    def show(self, asked, answer):
        return f"{answer['label']}\t{answer['probability']:.3f}\t{asked}"


class Classification(task.Task):
    """Texts to classes; a task of this shape says where its examples come from."""

    Config = Config
    RequestFormat = RequestFormat
    request = {"text": tf.TensorSpec([None], tf.string, "text")}

    def __init__(self, config, folder):
        super().__init__(config, folder)
        self.words = Vocabulary(folder / _WORDS)
        self.labels = Vocabulary(folder / _LABELS, first=0)

    @classmethod
    def _learn_assets(cls, config, train, folder):
        words, labels = LossyCounter(), collections.Counter()
        for batch in train.batches(_AT_ONCE):
            texts = tf.constant([example.values["text"] for example in batch])
            words.update(split(texts).flat_values.numpy().tolist())
            labels.update(example.values["label"] for example in batch)
        if len(labels) < 2:
            raise UserError(
                f"the train part needs at least two classes, got {len(labels)}: {sorted(labels)}."
            )
        if not words:
            raise UserError("the train part holds no words, only blanks.")
        # The commonest first; the order of equals is the alphabet's, not the files'.
        common = sorted(words.items(), key=lambda item: (-item[1], item[0]))[: config.vocabulary]
        Vocabulary.write(folder / _WORDS, (word.decode("utf-8") for word, _ in common))
        Vocabulary.write(folder / _LABELS, sorted(labels))

    def rejection_reason(self, example):
        label = example.values["label"]
        return "" if label in self.labels.words else f"the train part has no class {label!r}"

    def encode(self, values):
        ids = self.ids(values["text"])
        return {
            "ids": ids,
            "label": self.labels.encode(values["label"]),
            "length": tf.cast(ids.row_lengths(), tf.int32),
        }

    def ids(self, text: tf.Tensor) -> tf.RaggedTensor:
        """The ids of the words of texts (B,): (B, T) int32, cut at the longest."""
        return self.words.encode(split(text)[:, : self.config.max_length])

    def tensors(self, encoded, *, learning):
        ids, label = encoded["ids"], encoded["label"]
        if not self.config.evidence:
            return ids, label
        own = tf.one_hot(label, len(self.labels)) * (1.0 if learning else 0.0)
        return {"ids": ids, "left_out": own}, label

    def build(self, purpose="training"):
        c, trains = self.config, purpose != "serving"
        return classifier(
            vocabulary=len(self.words),
            classes=len(self.labels),
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            evidence=c.evidence,
            leaves_out=purpose == "training",
            dropout=c.dropout if trains else 0.0,
            word_dropout=c.word_dropout if trains else 0.0,
            implementation="auto" if trains else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    def adapt(self, model, batches):
        if self.config.evidence:
            counted = ((batch["ids"], batch["label"]) for batch in batches)
            model.get_layer("evidence").adapt(counted)

    def compile(self, model, optimizer):
        model.compile(
            optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")],
            jit_compile=False,  # XLA would compile anew for each length of batch
        )

    def signatures(self, model):
        @tf.function(input_signature=[self.request["text"]])
        def classify(text):
            logits = model(self.ids(text).to_tensor(PADDING), training=False)
            probabilities = tf.nn.softmax(logits)
            return {
                "label": self.labels.decode(tf.argmax(probabilities, axis=-1)),
                "probability": tf.reduce_max(probabilities, axis=-1),
                "probabilities": probabilities,
            }

        return {"serving_default": classify}

    def inside(self, model, ask, row, at=""):
        (answer,), text = ask([row]), tf.constant([row["text"]])
        words = [word.decode("utf-8") for word in split(text)[0].numpy()]
        if not words:
            raise UserError("there is nothing to look at: the text holds no words.")
        label = answer["label"].decode("utf-8")
        number, ids = self.labels.words.index(label), self.ids(text).to_tensor(PADDING)
        read = words[: ids.shape[1]]
        saliency = inspection.salience(
            model,
            model.get_layer("reader").input[0],
            {"ids": ids},
            lambda logits, _: tf.nn.log_softmax(logits)[:, number],
            answers=1,
        )
        at = inspection.chosen(at, inspection.numbered(read), saliency)
        with trace(model) as seen:
            model(ids, training=False)
        cut = f"Of {len(words)} words the first {len(read)} are read."
        return Inspection(
            answer=f"{label} ({answer['probability']:.3f})",
            at=at,
            readings=[inspection.reading(each, "reader", read) for each in seen],
            saliency=Alignment(read, [label], saliency),
            notes=[cut] if len(read) < len(words) else [],
        )

    def judge(self, answered: Iterable[tuple[Example, dict]]) -> Evaluation:
        classes = self.labels.words
        index = {label: at for at, label in enumerate(classes)}
        counts = np.zeros([len(classes)] * 2, int)
        worst = []
        for number, (example, answer) in enumerate(answered):
            wanted, given = example.values["label"], answer["label"].decode("utf-8")
            counts[index[wanted], index[given]] += 1
            if wanted != given:
                mistake = (float(answer["probability"]), -number, wanted, given, example)
                (heapq.heappush if len(worst) < _MISTAKES else heapq.heappushpop)(worst, mistake)
        rows = [
            [label, *map(float, figures), int(count)]
            for label, figures, count in zip(
                classes, metrics.per_class(counts), counts.sum(axis=1), strict=True
            )
        ]
        return Evaluation(
            count=int(counts.sum()),
            scores={"accuracy": metrics.accuracy(counts), "macro_f1": metrics.macro_f1(counts)},
            tables=[Table("Classes", ["label", "precision", "recall", "f1", "examples"], rows)],
            confusions=[Confusion("Wanted and given classes", classes, counts.tolist())],
            mistakes=Table(
                "The mistakes made with most confidence",
                ["probability", "given", "wanted", "text", "from"],
                [
                    [probability, given, wanted, example.values["text"], example.origin]
                    for probability, _, wanted, given, example in sorted(worst, reverse=True)
                ],
            ),
        )

    def limits(self):
        return (
            f"Reads the first {self.config.max_length} tokens of a text; what is beyond is cut.",
            "Its probabilities are those of the network and have not been calibrated.",
        )
