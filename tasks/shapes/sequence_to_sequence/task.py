"""N→M: a text in, another text out, written subword by subword by beam search in the graph.

Signatures, B texts, N = the setting `n_best`:

    serving_default(text: string[B]) -> translation: string[B], log_probability: float32[B]
    n_best(text: string[B]) -> translations: string[B, N], log_probabilities: float32[B, N]
    align(text: string[B]) -> translation: string[B], source_tokens: string[B, S],
        target_tokens: string[B, T], attention: float32[B, T, S], source_lengths: int32[B],
        target_lengths: int32[B]

A log-probability is normalised by length, as `models.beam_search` does it. Where a text has
fewer than N translations the rest are "" with `models.beam_search.IMPOSSIBLE`. The tokens of
`align` are subwords, "" beyond their lengths, and its translation is the best one.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import keras
import tensorflow as tf

from models.cells.recurrent import PORTABLE
from models.cells.tracing import trace
from models.layers.decoder import KINDS
from models.networks.translator import translator
from models.text.subwords import END, MARKS
from models.text.words import PADDING
from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment
from tasks.core.inspection import Inspection
from tasks.core.settings import setting
from tasks.shapes import generation

_BLANKS = r"^[\s\x0b\x1c-\x1f\x85\pZ]+$"


@dataclasses.dataclass(frozen=True)
class Config(generation.Config):
    """Settings of N→M."""

    max_length: int = setting(
        256, "subwords read per text; longer texts are truncated", at_least=1, old_name="longest"
    )
    vocabulary: int = setting(4000, "subwords, shared by both languages", at_least=300)
    attention: str = setting(
        "multiplicative", "attention of the decoder", choices=KINDS, affects="training"
    )
    max_side_ratio: float = setting(
        4.0,
        "training skips pairs in which one side has more subwords than this times those of the "
        "other, plus 5",
        at_least=1,
        old_name="unequal",
    )
    max_length_ratio: float = setting(
        2.0,
        "maximum subwords of a translation: this times those of its source, plus 10",
        above=0,
        affects="serving",
        old_name="longest_output",
    )


@dataclasses.dataclass(frozen=True)
class RequestFormat(generation.RequestFormat):
    """A text a line, answered by a line: its translation."""

    picture = "align"
    align: str = setting(
        "", "PNG file to write: the attention weights of each subword; for a single text"
    )

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, None]]:
        for line in lines:
            yield {"text": line}, None

    def show(self, asked, answer):
        return answer["translation"].replace("\n", " ")

    def pictured(self, asked, answer):
        return _alignment(answer)


class Transduction(generation.Generation):
    """Texts to texts; a task of this shape says where its examples come from."""

    Config = Config
    RequestFormat = RequestFormat
    request = {"text": tf.TensorSpec([None], tf.string, "text")}
    answer = "translation"

    @classmethod
    def texts(cls, values):
        return values.values()

    def wanted(self, values):
        return [values["translation"]]

    def shown(self, example):
        return example.values["text"]

    def encode(self, values):
        longest, max_side_ratio = self.config.max_length, self.config.max_side_ratio
        source, target = (self.subwords.encode(values[key]) for key in ("text", "translation"))
        lengths = [tf.cast(each.row_lengths(), tf.int32) for each in (source, target)]
        short, long = tf.minimum(*lengths), tf.maximum(*lengths)
        fits = (short > 0) & (long <= longest)
        fits &= tf.cast(long, tf.float32) <= max_side_ratio * tf.cast(short, tf.float32) + 5
        return {
            "source": tf.ragged.boolean_mask(source, fits),
            "target": tf.ragged.boolean_mask(target, fits),
            "length": tf.boolean_mask(long, fits) + 1,
        }

    def skip_reason(self):
        c = self.config
        return (
            f"pairs of which a side is empty, has more than {c.max_length} subwords, or more than "
            f"{c.max_side_ratio:g} times those of the other side and 5"
        )

    def tensors(self, encoded, *, learning):
        before, after, weights = generation.taught(encoded["target"])
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

    # --- Serving -------------------------------------------------------------

    def signatures(self, model):
        text, writer = self.request["text"], self.writer(model)

        @tf.function(input_signature=[text])
        def serving_default(text):
            return self.best(writer.write(*self.read(model, text)))

        @tf.function(input_signature=[text])
        def n_best(text):
            return self.n_best(writer.write(*self.read(model, text)))

        @tf.function(input_signature=[text])
        def align(text):
            source, (memory, longest) = self.source(text), self.read(model, text)
            found = writer.write(memory, longest)
            lengths = found.lengths[:, 0]
            tokens = found.tokens[:, 0, : tf.reduce_max(tf.concat([[0], lengths], 0))]
            return {
                "translation": self.subwords.decode(tokens),
                "source_tokens": self.subwords.pieces(source),
                "target_tokens": self.subwords.pieces(tokens),
                "attention": writer.attention(memory, tokens),
                "source_lengths": _lengths(source),
                "target_lengths": lengths,
            }

        return {"serving_default": serving_default, "n_best": n_best, "align": align}

    def read(self, model, asked):
        source = self.source(asked)
        encoder = keras.Model(model.input["source"], model.get_layer("memory").output)
        values = encoder(source, training=False)
        memory = model.get_layer("decoder").prepare_memory(values, source != PADDING)
        read = tf.cast(_lengths(source), tf.float32)
        # Of nothing, nothing is all that is allowed.
        longest = tf.where(read > 0, read * self.config.max_length_ratio + 10, 0)
        return memory, tf.cast(longest, tf.int32)

    def source(self, text: tf.Tensor) -> tf.Tensor:
        """The ids of texts (B,), (B, S) int32, 0 at padding, of one step or more."""
        text = tf.strings.regex_replace(text, _BLANKS, "")  # alone they say nothing
        ids = self.subwords.encode(text)[:, : self.config.max_length].to_tensor(PADDING)
        return tf.pad(ids, [[0, 0], [0, tf.maximum(1 - tf.shape(ids)[1], 0)]])

    def illustrate(self, ask, examples):
        rows = [self.row(example.values) for example in self.first(examples)]
        return [_alignment(answer) for answer in ask(rows, "align")]

    def inside(self, model, ask, row, at=""):
        (answer,) = ask([row], "align")
        looked = _alignment(answer)
        if not looked.source:
            raise UserError("there is nothing to look at: the text is empty.")
        before, after, _ = generation.taught(self.ids_of(looked.target))
        inputs = {"source": self.source(tf.constant([row["text"]])), "before": before}
        saliency = inspection.salience(
            model,
            model.get_layer("embedding").output,
            inputs,
            lambda logits, which: inspection.picked(logits, which, after[0]),
            answers=after.shape[1],
        )
        tokens = [*inspection.numbered(looked.source), *inspection.numbered(looked.target)]
        at = inspection.chosen(at, tokens, saliency)
        with trace(model) as seen:
            model(inputs, training=False)
        readings = [
            inspection.reading(each, "encoder", looked.source, layer=int(each.place.split("_")[1]))
            for each in seen
            if each.place.startswith("encoder_")
        ]
        return Inspection(
            answer=answer["translation"].decode("utf-8"),
            at=at,
            readings=[*readings, *self.decoded(seen, looked.target)],
            saliency=Alignment(looked.source, [*looked.target, MARKS[END]], saliency),
            attention=None if self.config.attention == "none" else looked,
            notes=self.notes_inside(),
        )

    def limits(self):
        return (
            f"Reads the first {self.config.max_length} subwords of a text; what is beyond is cut.",
            "Its probabilities are those of the network and have not been calibrated.",
        )


def _lengths(ids):
    """How many of ids (B, S) are no padding, (B,) int32."""
    return tf.reduce_sum(tf.cast(ids != PADDING, tf.int32), axis=1)


def _alignment(answer) -> Alignment:
    """What an answer of `align` shows."""
    rows, columns = answer["target_lengths"], answer["source_lengths"]
    source, target = (
        [piece.decode("utf-8") if isinstance(piece, bytes) else piece for piece in some]
        for some in (answer["source_tokens"][:columns], answer["target_tokens"][:rows])
    )
    weights = [list(map(float, row[:columns])) for row in answer["attention"][:rows]]
    return Alignment(source, target, weights)
