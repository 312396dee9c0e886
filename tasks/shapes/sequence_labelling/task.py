"""N→N: a tag for each token of a sentence.

Signatures, B sentences of up to T tokens:

    serving_default(text: string[B]) -> tokens, tags, probability, lengths
    tokens(tokens: string[B, T], lengths: int32[B]) -> the same

with tokens and tags: string[B, T], probability: float32[B, T], lengths: int32[B]. The
first cuts text into tokens (`models.text.ud_tokenizer`); the second takes them as they are,
and reads nothing of what stands beyond `lengths`, of which there must be one for each
sentence. Either answer is to be cut by the lengths that it gives, beyond which are "" and
0. The probability is that of the tag: of the softmax, or the marginal under a CRF.
"""

import collections
import dataclasses
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from models import metrics
from models.cells.recurrent import PORTABLE
from models.cells.tracing import trace
from models.layers.crf import CRFAccuracy, CRFLoss
from models.layers.losses import StepAccuracy
from models.networks.tagger import tagger
from models.text.ud_tokenizer import tokenize
from models.text.windows import windows
from models.text.words import PADDING, LossyCounter, Vocabulary, spell
from tasks.core import inspection, task
from tasks.core.errors import UserError
from tasks.core.evaluation import Alignment, Confusion, Evaluation, Table
from tasks.core.examples import Example
from tasks.core.inspection import Inspection, Reading
from tasks.core.settings import setting
from tasks.corpora import conllu

_WORDS, _CHARACTERS, _TAGS = "words.txt", "characters.txt", "tags.txt"
_SEEN = "seen.txt"  # the words of train as they are written, for the judge
_COMMONEST = 25  # mistakes and classes that are shown
_MARGIN = 8  # of a window: one part of its width


@dataclasses.dataclass(frozen=True)
class Config(task.Config):
    """Settings of N→N."""

    max_length: int = setting(
        128,
        "tokens read together; longer sentences are read in overlapping windows",
        at_least=2,
        old_name="longest",
    )
    vocabulary: int = setting(100_000, "maximum number of words in the vocabulary", at_least=1)
    fold_case: bool = setting(
        True, "whether words are looked up in lower case; characters keep their case"
    )
    word_dropout: float = setting(
        1.0,
        "strength s of word dropout: a word with n occurrences in the training part is replaced "
        "by the unknown word with probability s / (s + n)",
        at_least=0,
        affects="training",
    )
    characters: int = setting(
        64, "units per direction of the character reader; 0: words only", at_least=0
    )
    character_embedding: int = setting(
        32, "features of an embedded character", at_least=1, affects="training"
    )
    affixes: int = setting(
        4,
        "length of the longest embedded prefix and suffix, in characters",
        at_least=0,
        affects="training",
    )
    max_word_length: int = setting(
        24,
        "characters read per word; of longer words, the head and the tail",
        at_least=1,
        old_name="longest_word",
    )
    crf: bool = setting(False, "whether a CRF scores whole sequences of tags", affects="training")


@dataclasses.dataclass(frozen=True)
class RequestFormat(task.RequestFormat):
    """How sentences are asked and answered."""

    input: str = setting(
        "text",
        "what is read: text, a sentence a line; tokens, the same with blanks between tokens; or "
        "conllu, whose tags are told anew",
        choices=("text", "tokens", "conllu"),
    )
    format: str = setting("words", "words (word/TAG) or conllu", choices=("words", "conllu"))
    tags: str = setting("upos", "column of CoNLL-U for the tags", choices=conllu.TAGS)

    @property
    def signature(self):
        return "serving_default" if self.input == "text" else "tokens"

    @property
    def by_line(self):
        return self.input != "conllu"

    def requests(self, lines: Iterable[bytes]) -> Iterator[tuple[dict, conllu.Sentence | None]]:
        if self.input == "conllu":
            for sentence in conllu.sentences(lines):
                tokens = sentence.tokens()
                yield {"tokens": tokens, "lengths": len(tokens)}, sentence
            return
        for line in lines:
            if self.input == "text":
                yield {"text": line}, None
            else:
                tokens = line.split()
                yield {"tokens": tokens, "lengths": len(tokens)}, None

    def show(self, asked, answer):
        tokens, tags = answer["tokens"], answer["tags"]
        if self.format == "words":
            return " ".join(f"{token}/{tag}" for token, tag in zip(tokens, tags, strict=True))
        asked = asked or conllu.Sentence.from_tokens(tokens)
        return asked.with_tags(self.tags, tags)


class SequenceLabelling(task.Task):
    """Sentences to tags; a task of this shape says where its examples come from."""

    Config = Config
    RequestFormat = RequestFormat
    judged = "tokens"
    request = {
        "tokens": tf.TensorSpec([None, None], tf.string, "tokens"),
        "lengths": tf.TensorSpec([None], tf.int32, "lengths"),
    }
    monitor = "val_accuracy"

    def __init__(self, config, folder):
        super().__init__(config, folder)
        self.words = Vocabulary(folder / _WORDS)
        self.tags = Vocabulary(folder / _TAGS, first=0)
        self.characters = Vocabulary(folder / _CHARACTERS)
        self._seen_file = tf.saved_model.Asset(str(folder / _SEEN))
        self._seen = frozenset((folder / _SEEN).read_text(encoding="utf-8").split("\n")[:-1])

    @classmethod
    def _learn_assets(cls, config, train, folder):
        words, tags = LossyCounter(), collections.Counter()
        for example in train:
            words.update(example.values["tokens"])
            tags.update(example.values["tags"])
        if len(tags) < 2:
            raise UserError(
                f"the train part needs at least two tags, got {len(tags)}: {sorted(tags)}."
            )
        Vocabulary.write(folder / _SEEN, sorted(words))
        Vocabulary.write(folder / _TAGS, sorted(tags))
        # A character met in one place only is as good as an unknown one, and teaches what
        # to make of those.
        met = collections.Counter(c for word, n in words.items() for c in word * min(n, 2))
        again = sorted(c for c, n in met.items() if n > 1) or sorted(met)
        Vocabulary.write(folder / _CHARACTERS, again)
        known = collections.Counter()
        for word, form in zip(
            words, _folded(tf.constant(list(words)), config).numpy(), strict=True
        ):
            known[form.decode("utf-8")] += words[word]
        # The commonest first; the order of equals is the alphabet's, not the files'.
        common = sorted(known.items(), key=lambda item: (-item[1], item[0]))
        Vocabulary.write(folder / _WORDS, (word for word, _ in common[: config.vocabulary]))

    def rejection_reason(self, example):
        return ""  # a tag that train does not have is a mistake, in a sentence that has others

    def row(self, values):
        tokens = values["tokens"]
        return {"text": " ".join(tokens), "tokens": tokens, "lengths": len(tokens)}

    def encode(self, values):
        tokens = values["tokens"]
        steps, _ = windows(tokens.row_lengths(), self.config.max_length)
        encoded = {
            name: tf.gather(each, steps)
            for name, each in (
                *self._inputs(tokens.flat_values).items(),
                ("tags", self.tags.encode(values["tags"].flat_values)),
            )
        }
        return {**encoded, "length": tf.cast(steps.row_lengths(), tf.int32)}

    def _inputs(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the network reads of tokens (N,): ids (N,), and characters (N, C) if it does."""
        inputs = {"ids": self.words.encode(_folded(tokens, self.config))}
        if self.config.characters:
            longest = self.config.max_word_length
            characters = self.characters.encode(spell(tokens, longest))
            inputs["characters"] = characters.to_tensor(PADDING, shape=[None, longest])
        return inputs

    def tensors(self, encoded, *, learning):
        inputs = {name: encoded[name] for name in ("ids", "characters") if name in encoded}
        known = (encoded["ids"] != PADDING) & (encoded["tags"] >= 0)
        return inputs, tf.maximum(encoded["tags"], 0), tf.cast(known, tf.float32)

    def build(self, purpose="training"):
        c, trains = self.config, purpose != "serving"
        return tagger(
            vocabulary=len(self.words),
            alphabet=len(self.characters),
            tags=len(self.tags),
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            characters=c.characters,
            character_embedding=c.character_embedding,
            affixes=c.affixes,
            crf=c.crf,
            dropout=c.dropout if trains else 0.0,
            word_dropout=c.word_dropout if trains else 0.0,
            implementation="auto" if trains else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    def adapt(self, model, batches):
        if self.config.word_dropout:
            model.get_layer("word_dropout").adapt(batch["ids"] for batch in batches)

    def compile(self, model, optimizer):
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )
        accuracy = StepAccuracy("accuracy")
        if self.config.crf:
            crf = model.get_layer("crf")
            loss, accuracy = CRFLoss(crf), CRFAccuracy(crf, name="accuracy")
        model.compile(
            optimizer,
            loss=loss,
            weighted_metrics=[accuracy],
            jit_compile=False,  # XLA would compile anew for each length of batch
        )

    # --- Serving -------------------------------------------------------------

    def signatures(self, model):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def of_text(text):
            return self._answer(model, tokenize(text))

        @tf.function(input_signature=list(self.request.values()))
        def of_tokens(tokens, lengths):
            # A single length would else be taken for that of every row.
            tf.debugging.assert_equal(
                tf.shape(tokens)[0], tf.shape(lengths)[0], "tokens and lengths must have equal rows"
            )
            lengths = tf.clip_by_value(lengths, 0, tf.shape(tokens)[1])
            tokens = tf.strings.unicode_transcode(tokens, "UTF-8", "UTF-8", errors="replace")
            return self._answer(model, tf.RaggedTensor.from_tensor(tokens, lengths=lengths))

        return {"serving_default": of_text, "tokens": of_tokens}

    def _answer(self, model, tokens: tf.RaggedTensor) -> dict[str, tf.Tensor]:
        """Tags of the tokens of sentences (B, T), with what a client sees beside them."""
        longest = self.config.max_length
        steps, places = windows(tokens.row_lengths(), longest, longest // _MARGIN)
        inputs = {
            name: _at_least_a_step(tf.gather(each, steps).to_tensor(PADDING))
            for name, each in self._inputs(tokens.flat_values).items()
        }
        tags, probability = self._decode(model, inputs)
        found = {
            "tokens": tokens.flat_values,
            "tags": self.tags.decode(tf.gather_nd(tags, places)),
            "probability": tf.gather_nd(probability, places),
        }
        found = {name: tokens.with_flat_values(each).to_tensor() for name, each in found.items()}
        return {**found, "lengths": tf.cast(tokens.row_lengths(), tf.int32)}

    def _decode(self, model, inputs) -> tuple[tf.Tensor, tf.Tensor]:
        """The tag of each step, (W, T) int32, and how probable it is."""
        logits = model(inputs, training=False)  # under a CRF they bring their mask along
        if self.config.crf:
            crf = model.get_layer("crf")
            tags, probabilities = crf.decode(logits)[0], crf.marginals(logits)
        else:
            tags = tf.argmax(logits, axis=-1, output_type=tf.int32)
            probabilities = tf.nn.softmax(logits)
        return tags, tf.gather(probabilities, tags, batch_dims=2)

    def inside(self, model, ask, row, at=""):
        (answer,) = ask([row])
        words, tags = ([each.decode("utf-8") for each in answer[n]] for n in ("tokens", "tags"))
        if not words:
            raise UserError("there is nothing to look at: the sentence holds no words.")
        read = words[: self.config.max_length]
        inputs = {name: each[None] for name, each in self._inputs(tf.constant(read)).items()}
        saliency = inspection.salience(
            model,
            model.get_layer("encoder").input[0],
            inputs,
            self._log_probability(model, self.tags.encode(tf.constant(tags[: len(read)]))),
            answers=len(read),
        )
        at = inspection.chosen(at, inspection.numbered(read), saliency)
        with trace(model) as seen:
            model(inputs, training=False)
        readings = [inspection.reading(e, "encoder", read) for e in seen if e.place == "encoder"]
        tagged = [f"{word}/{tag}" for word, tag in zip(words, tags, strict=True)]
        cut = f"Of {len(words)} words the first {len(read)} are shown: more are read in windows."
        return Inspection(
            answer=" ".join(tagged),
            at=at,
            readings=[*self._spelt(model, inputs, read, at), *readings],
            saliency=Alignment(read, tagged[: len(read)], saliency),
            notes=[cut] if len(read) < len(words) else [],
        )

    def _log_probability(self, model, tags):
        """How probable the tags (T,) are, by what the model gives of each and its number."""

        def of(logits, which):
            if self.config.crf:
                shares = model.get_layer("crf").marginals(logits)
                logits = tf.math.log(tf.maximum(shares, 1e-30))
            return inspection.picked(logits, which, tags)

        return of

    def _spelt(self, model, inputs, words, at) -> list[Reading]:
        """What was read in the characters of one of the words, if any are."""
        if not self.config.characters:
            return []
        place, reader = inspection.numbered(words).index(at), model.get_layer("character_reader")
        with trace(reader) as seen:
            reader(inputs["characters"][:, place : place + 1])
        word = words[place]
        characters = spell(tf.constant([word]), self.config.max_word_length)[0].numpy()
        steps = [each.decode("utf-8") for each in characters]
        return [inspection.reading(each, f"characters of {word}", steps) for each in seen]

    def limits(self):
        c = self.config
        read = f"Reads sentences of more than {c.max_length} tokens in windows of as many"
        if c.characters:
            read += (
                f", and of words with more than {c.max_word_length} characters the head and tail"
            )
        return (
            f"{read}.",
            "Its probabilities are those of the network and have not been calibrated.",
        )

    # --- Judging -------------------------------------------------------------

    def judge(self, answered: Iterable[tuple[Example, dict]]) -> Evaluation:
        counts, right = collections.Counter(), collections.Counter()
        mistakes = {}
        for example, answer in answered:
            tokens, wanted = example.values["tokens"], example.values["tags"]
            given = [tag.decode("utf-8") for tag in answer["tags"]]
            counts.update(zip(wanted, given, strict=True))
            right["sentences", tuple(given) == tuple(wanted)] += 1
            for at, pair in enumerate(zip(wanted, given, strict=True)):
                if tokens[at] not in self._seen:
                    right["unseen", pair[0] == pair[1]] += 1
                if pair[0] != pair[1]:
                    first = (_marked(tokens, at), example.origin)
                    mistakes.setdefault((tokens[at], *pair), [0, *first])[0] += 1
        classes = [*self.tags.words, *sorted({w for w, _ in counts} - set(self.tags.words))]
        matrix = np.array([[counts[w, g] for g in classes] for w in classes], int)
        scores = {"accuracy": metrics.accuracy(matrix)}
        for kind, name in (("unseen", "unseen_accuracy"), ("sentences", "sentence_accuracy")):
            if total := right[kind, True] + right[kind, False]:
                scores[name] = right[kind, True] / total
        return Evaluation(
            count=right["sentences", True] + right["sentences", False],
            scores=scores,
            tables=[_per_tag(classes, matrix), _confused(counts)],
            confusions=[_confusion(classes, matrix)],
            mistakes=_commonest(mistakes),
        )


def _folded(tokens, config):
    """Words as the vocabulary has them."""
    return tf.strings.lower(tokens, encoding="utf-8") if config.fold_case else tokens


def _at_least_a_step(padded):
    """A batch (W, T, ...), with a step of padding where it would have none."""
    missing = tf.maximum(1 - tf.shape(padded)[1], 0)
    return tf.pad(padded, [[0, 0], [0, missing], *[[0, 0]] * (padded.shape.rank - 2)])


def _per_tag(classes, matrix) -> Table:
    rows = [
        [tag, *map(float, figures), int(count)]
        for tag, figures, count in zip(
            classes, metrics.per_class(matrix), matrix.sum(axis=1), strict=True
        )
    ]
    return Table("Tags", ["tag", "precision", "recall", "f1", "words"], rows)


def _confused(counts) -> Table:
    """The pairs of tags most often confused."""
    wanted = collections.Counter()
    for (tag, _), count in counts.items():
        wanted[tag] += count
    pairs = [(n, w, g) for (w, g), n in counts.items() if w != g]
    rows = [[w, g, n, n / wanted[w]] for n, w, g in sorted(pairs, key=lambda p: (-p[0], *p[1:]))]
    columns = ["wanted", "given", "words", "share of the wanted"]
    return Table("The tags most often confused", columns, rows[:_COMMONEST])


def _confusion(classes, matrix) -> Confusion:
    """The matrix of the commonest classes, all others in one where there are many."""
    title = "Wanted and given tags"
    if len(classes) <= _COMMONEST:
        return Confusion(title, classes, matrix.tolist())
    order = np.argsort(-matrix.sum(axis=1), kind="stable")
    kept, rest = np.sort(order[:_COMMONEST]), order[_COMMONEST:]
    summed = np.zeros([_COMMONEST + 1] * 2, int)
    summed[:-1, :-1] = matrix[np.ix_(kept, kept)]
    summed[:-1, -1] = matrix[np.ix_(kept, rest)].sum(axis=1)
    summed[-1, :-1] = matrix[np.ix_(rest, kept)].sum(axis=0)
    summed[-1, -1] = matrix[np.ix_(rest, rest)].sum()
    names = [*(classes[at] for at in kept), f"{len(rest)} others"]
    return Confusion(f"{title}, the {_COMMONEST} commonest", names, summed.tolist())


def _commonest(mistakes) -> Table:
    rows = [
        [count, word, wanted, given, sentence, origin]
        for (word, wanted, given), (count, sentence, origin) in mistakes.items()
    ]
    rows.sort(key=lambda row: (-row[0], *row[1:4]))
    columns = ["times", "word", "wanted", "given", "first in", "from"]
    return Table("The commonest mistakes", columns, rows[:_COMMONEST])


def _marked(tokens, at) -> str:
    """A sentence with one word marked, or what is near the word if it is long."""
    some = [f"[{word}]" if n == at else word for n, word in enumerate(tokens)]
    first, last = max(0, at - _COMMONEST), at + _COMMONEST
    cut = ["…"] * (first > 0) + some[first:last] + ["…"] * (last < len(some))
    return " ".join(cut)
