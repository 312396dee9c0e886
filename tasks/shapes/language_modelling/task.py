"""Language modelling: data, network and signatures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from models.cells.recurrent import PORTABLE
from models.layers.losses import SmoothedCrossEntropy
from models.networks.language_model import language_model
from models.text.pieces import chunks
from models.text.subwords import Subwords
from models.text.tokens import SubwordTokens, Tokens, WordTokens
from models.text.windows import windows
from models.text.words import PADDING, LossyCounter, split
from tasks.core import task
from tasks.core.errors import UserError
from tasks.core.task import Purpose
from tasks.shapes.language_modelling.evaluation import Evaluator
from tasks.shapes.language_modelling.inspection import Inspector
from tasks.shapes.language_modelling.requests import RequestFormat
from tasks.shapes.language_modelling.scoring import Sampler, Scorer
from tasks.shapes.language_modelling.settings import CHARACTERS, WORDS, Config
from tasks.shapes.language_modelling.streaming import TokenStream

_WORDS, _SUBWORDS, _CHARACTERS = "words.txt", "subwords.txt", "characters.txt"
_BATCH_SIZE = 1024  # texts that are split together to count their words
_NEXT = 10  # tokens that `next` returns
_MAX_LOSS = 80.0  # beyond, the perplexity is not a finite float32
_WARM_UP = {"seed": 0, "temperature": 1.0, "length": 8}  # in requests that warm a server up


class LanguageModelling(task.Task):
    """Task of this shape; a subclass adds its `Corpus`."""

    Config = Config
    RequestFormat = RequestFormat
    Evaluator = Evaluator
    Inspector = Inspector
    request = {"text": tf.TensorSpec([None], tf.string, "text")}
    vocabularies = {"words": _WORDS}
    inherited_assets = (_SUBWORDS, _CHARACTERS)
    layer_groups = {"embeddings": ["embedding"], "encoder": ["embedding", "reader"]}

    def __init__(self, config: Config, folder: Path):
        super().__init__(config, folder)
        self.tokens: Tokens
        self.words = None
        path = folder / _file(config)
        if config.token == WORDS:
            self.tokens = WordTokens(path)
            self.words = self.tokens.vocabulary
        else:
            self.tokens = SubwordTokens(path, config.token == CHARACTERS)
        self.vocabulary_text = path.read_text(encoding="utf-8")

    @classmethod
    def row(cls, values: Mapping) -> dict:
        return {**super().row(values), **_WARM_UP}

    @classmethod
    def _learn_assets(cls, config, train, folder):
        path = folder / _file(config)
        if config.token == WORDS:
            WordTokens.write(path, _common_words(train, config.vocabulary))
            return
        learn = Subwords.learn_characters if config.token == CHARACTERS else Subwords.learn
        try:
            learn(path, (example.values["text"] for example in train), config.vocabulary)
        except ValueError as error:
            raise UserError(f"the train part: {error}") from error

    def encode(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        ids = self.tokens.whole(values["text"])
        ids = self.with_end(ids, ids.row_lengths() > 0)
        before = tf.concat([tf.fill([ids.nrows(), 1], self.tokens.start), ids], axis=1)[:, :-1]
        steps, _ = windows(ids.row_lengths(), self.config.steps)
        steps = tf.ragged.boolean_mask(steps, steps.row_lengths() > 0)
        return {
            "before": tf.gather(before.flat_values, steps),
            "following": tf.gather(ids.flat_values, steps),
            "length": tf.cast(steps.row_lengths(), tf.int32),
        }

    def skip_reason(self) -> str:
        return "texts without tokens"

    def to_inputs(self, encoded: dict[str, tf.Tensor], *, training: bool) -> tuple:
        following = encoded["following"]
        return encoded["before"], following, tf.cast(following != PADDING, tf.float32)

    def build(self, purpose: Purpose = "training") -> keras.Model:
        c, trainable = self.config, purpose != "serving"
        return language_model(
            vocabulary=len(self.tokens),
            excluded=self.tokens.excluded,
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            tied=c.tied,
            dropout=c.dropout if trainable else 0.0,
            implementation="auto" if trainable else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        model.compile(optimizer, loss=SmoothedCrossEntropy(), jit_compile=False)

    # --- Serving -------------------------------------------------------------

    def signatures(self, model: keras.Model) -> dict[str, Callable]:
        tokens, c = self.tokens, self.config
        scorer = Scorer(model, tokens.start, len(tokens))
        sampler = Sampler(scorer, tokens.end, tokens.unwritten, len(tokens))
        text = self.request["text"]
        sampling = [
            tf.TensorSpec([None], dtype, name)
            for name, dtype in (
                ("seed", tf.int32),
                ("temperature", tf.float32),
                ("length", tf.int32),
            )
        ]

        @tf.function(input_signature=[text], autograph=False)
        def serving_default(text):
            ids = self.ids(text)
            scores, _ = scorer.score(ids, scorer.initial(tf.shape(text)[0]))
            total, count = tf.reduce_sum(scores, axis=1), tf.cast(ids.row_lengths(), tf.float32)
            loss = tf.minimum(-total / tf.maximum(count, 1.0), _MAX_LOSS)
            return {
                **self.token_outputs(ids, scores),
                "log_probability": total,
                "perplexity": tf.exp(loss),
            }

        def read_prefix(text):
            ids = tokens.last(text, c.max_length)
            return scorer.advance(ids, scorer.initial(tf.shape(text)[0]))

        @tf.function(input_signature=[text], autograph=False)
        def next_tokens(text):
            names, scores = self.most_probable(scorer.following(read_prefix(text))[0])
            return {"tokens": names, "log_probabilities": scores}

        @tf.function(input_signature=[text, *sampling], autograph=False)
        def generate(text, seed, temperature, length):
            # With one dimension each, because the comparison of shapes broadcasts.
            text, *columns = (
                tf.ensure_shape(column, [None]) for column in (text, seed, temperature, length)
            )
            for column in columns:
                tf.debugging.assert_equal(
                    tf.shape(column),
                    tf.shape(text),
                    "text, seed, temperature and length must have equal rows",
                )
            seed, temperature, length = columns
            length = tf.clip_by_value(length, 0, c.max_generated)
            ids, scores = sampler.draw(read_prefix(text), seed, temperature, length)
            return {
                "continuation": tokens.decode(ids),
                "tokens": tokens.pieces(ids),
                "log_probabilities": scores,
                "lengths": tf.reduce_sum(tf.cast(ids != PADDING, tf.int32), axis=1),
            }

        streaming = TokenStream(self, model, scorer).signatures()
        return {
            "serving_default": serving_default,
            "next": next_tokens,
            "generate": generate,
            **streaming,
        }

    def id_signature(self, model: keras.Model) -> Callable:
        raise UserError(
            "a language model scores, and draws, token by token in loops around its network, which "
            "are part of the SavedModel only; --format keras copies the network."
        )

    def ids(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids that are scored of texts (B,): (B, T) int32.

        They are the first `max_length`, and the end of texts that have no more.
        """
        ids, has_more = self.tokens.first(text, self.config.max_length)
        return self.with_end(ids, ~has_more & (ids.row_lengths() > 0))

    def with_end(self, ids: tf.RaggedTensor, ended: tf.Tensor) -> tf.RaggedTensor:
        """Returns ids (B, T) with the end of the rows that are ended, (B,) bool."""
        count = tf.cast(ended, ids.row_splits.dtype)
        ends = tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.reduce_sum(count)], self.tokens.end), count
        )
        return tf.concat([ids, ends], axis=1)

    def token_outputs(self, ids: tf.RaggedTensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the outputs of scored tokens.

        Args:
            ids: (B, T) int32.
            scores: Their log-probabilities, (B, T), 0 beyond the end of a row.
        """
        return {
            "tokens": self.tokens.pieces(ids.to_tensor(PADDING)),
            "log_probabilities": scores,
            "lengths": tf.cast(ids.row_lengths(), tf.int32),
        }

    def most_probable(self, log_probabilities: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the most probable of V tokens, (B, 10) strings, and their log-probabilities."""
        count = min(_NEXT, len(self.tokens) - len(self.tokens.excluded))
        values, ids = tf.math.top_k(log_probabilities, count)
        return self.tokens.pieces(ids), values

    def limits(self) -> Sequence[str]:
        c = self.config
        return (
            f"Scores the first {c.max_length} tokens of a text and ignores the rest; a text that "
            "arrives in pieces is scored completely.",
            f"Continues the last {c.max_length} tokens of a text by at most {c.max_generated} "
            "tokens.",
            "The probabilities are the network's own and have not been calibrated.",
        )


def _file(config: Config) -> str:
    return {WORDS: _WORDS, CHARACTERS: _CHARACTERS}.get(config.token, _SUBWORDS)


def _common_words(train: task.Stream, count: int) -> list[str]:
    """Returns the most frequent words of the training part."""
    counts = LossyCounter()
    for batch in train.batches(_BATCH_SIZE):
        texts = tf.constant([example.values["text"] for example in batch])
        counts.update(split(chunks(texts)).flat_values.numpy().tolist())
    if not counts:
        raise UserError("the train part contains no words, only whitespace.")
    # By count, then alphabetically, so that the order of the files does not matter.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [word.decode("utf-8") for word, _ in ordered[:count]]
