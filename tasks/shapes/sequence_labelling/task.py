"""Sequence labelling: data, network and signatures."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from models.cells.recurrent import PORTABLE
from models.layers.crf import CRF, ConstrainedDecoder, CRFAccuracy, CRFLoss
from models.layers.entity_f1 import EntityF1
from models.layers.fixed_lag import FixedLagDecoder
from models.layers.losses import (
    JointAccuracy,
    JointCrossEntropy,
    SmoothedCrossEntropy,
    StepAccuracy,
    split_logits,
)
from models.layers.macro_f1 import MacroF1
from models.layers.temperature import Temperature, fit_temperature
from models.networks.ensemble import ensemble
from models.networks.tagger import tagger
from models.text import case, entities, ud_tokenizer
from models.text.edit_scripts import EditScripts, is_edit_script
from models.text.pieces import CHUNK_RULES, chunks
from models.text.ud_tokenizer import tokenize
from models.text.windows import windows
from models.text.words import PADDING, UNKNOWN, LossyCounter, Vocabulary, spell
from tasks.core import calibration, class_weights, task, word_vectors
from tasks.core.direction import FORWARD
from tasks.core.errors import UserError
from tasks.core.examples import Example
from tasks.core.id_rules import IdRules, Stage
from tasks.core.task import Purpose
from tasks.shapes.sequence_labelling import annotations, entity_scheme
from tasks.shapes.sequence_labelling.entity_scheme import EntityScheme
from tasks.shapes.sequence_labelling.entity_signature import entity_outputs
from tasks.shapes.sequence_labelling.evaluation import Evaluator
from tasks.shapes.sequence_labelling.inspection import Inspector
from tasks.shapes.sequence_labelling.requests import RequestFormat
from tasks.shapes.sequence_labelling.settings import Config
from tasks.shapes.sequence_labelling.streaming import TagStream

_WORDS, _CHARACTERS, _TAGS = "words.txt", "characters.txt", "tags.txt"
_TRAINING_WORDS = "seen.txt"  # all words of the training part, which evaluation needs
_CLASS_WEIGHTS = "class_weights.json"  # only with --class-weights
_MARGIN = 8  # the margin of a window is this part of its width
_CHUNK_TOKENS = 4096  # tokens that the network reads at once, to bound the memory of a request
_MAX_CELLS = 2**21  # of a response: rows times the tokens of the longest


class SequenceLabelling(task.Task):
    """Task of this shape; a subclass adds its `Corpus`.

    Attributes:
        annotations: The annotations, if there are several; `tags` are those of the first.
        tags: Vocabulary of the tags that the network is trained on.
        scheme: Scheme of the tags.
        edit_scripts: The scripts of the lemmas; None if the tags are not scripts.
        training_words: The words of the train part.
    """

    Config = Config
    RequestFormat = RequestFormat
    Evaluator = Evaluator
    Inspector = Inspector
    evaluation_signature = "tokens"
    vocabularies = {
        "words": _WORDS,
        "characters": _CHARACTERS,
        "tags": _TAGS,
        "training_words": _TRAINING_WORDS,
    }
    label_vocabularies = ("tags",)
    layer_groups = {
        "embeddings": ["embedding", "character_reader"],
        "encoder": ["embedding", "character_reader", "encoder"],
    }
    word_reader = "encoder"
    request = {
        "tokens": tf.TensorSpec([None, None], tf.string, "tokens"),
        "lengths": tf.TensorSpec([None], tf.int32, "lengths"),
    }

    def __init__(self, config: Config, folder: Path):
        super().__init__(config, folder)
        lower_unknown = bool(config.vectors) and not config.fold_case
        self.words = Vocabulary(folder / _WORDS, lower_unknown=lower_unknown)
        self._trained_size = self.vectors.vocabulary if self.vectors else len(self.words)
        self._folder = folder
        self.annotations, self._annotations_file = annotations.restore(folder, _TAGS)
        self.characters = Vocabulary(folder / _CHARACTERS)
        if self.annotations:
            self.tags, self.edit_scripts = self.annotations[0].tags, None
            self.scheme = EntityScheme(None, self.tags.words)
        else:
            self.tags = Vocabulary(folder / _TAGS, first=0)
            self.scheme = EntityScheme.restore(folder, config, self.tags.words)
            is_lemmas = all(map(is_edit_script, self.tags.words))
            self.edit_scripts = EditScripts(self.tags.words) if is_lemmas else None
        self._class_weights = None
        if config.class_weights != class_weights.NONE:
            path = folder / _CLASS_WEIGHTS
            self._class_weights_file = tf.saved_model.Asset(str(path))
            self._class_weights = class_weights.read(path, self.scheme.reported_alone)
        training_words = folder / _TRAINING_WORDS
        self._training_words_file = tf.saved_model.Asset(str(training_words))
        lines = training_words.read_text(encoding="utf-8").split("\n")
        self.training_words = frozenset(lines[:-1])

    @classmethod
    def _learn_assets(cls, config, train, folder):
        words = LossyCounter()
        counts: dict[str, collections.Counter[str]] = {}  # of tags, by annotation
        pairs = collections.Counter()  # of neighbouring tags
        for example in train:
            if not counts:
                names = annotations.names_of(example.values)
                annotations.check(config, names)
                counts = {name: collections.Counter() for name in names}
            words.update(example.values["tokens"])
            for name, own in counts.items():
                own.update(example.values[name])
            if len(counts) == 1:
                pairs.update(entities.neighbours(example.values["tags"]))
        counts = counts or {annotations.FIRST: collections.Counter()}
        for name, own in counts.items():
            if len(own) < 2:
                of_name = "" if len(counts) == 1 else f" of {name}"
                raise UserError(
                    f"the train part needs at least two tags{of_name}, got {len(own)}: "
                    f"{sorted(own)}."
                )
        if len(counts) > 1:
            annotations.write(folder, counts, _TAGS)
        else:
            cls._learn_tags(config, counts["tags"], pairs, folder)
        Vocabulary.write(folder / _TRAINING_WORDS, sorted(words))
        Vocabulary.write(folder / _CHARACTERS, _frequent_characters(words))
        forms = collections.Counter()
        normalized = _normalize(tf.constant(list(words)), config).numpy()
        for word, form in zip(words, normalized, strict=True):
            forms[form.decode("utf-8")] += words[word]
        # By count, then alphabetically, so that the order of the files does not matter.
        common = sorted(forms.items(), key=lambda item: (-item[1], item[0]))
        Vocabulary.write(folder / _WORDS, (word for word, _ in common[: config.vocabulary]))
        return forms

    @classmethod
    def _learn_tags(
        cls,
        config: Config,
        tags: Mapping[str, int],
        pairs: Mapping[tuple[str, str], int],
        folder: Path,
    ) -> None:
        """Writes the tags of a single annotation, their scheme and their weights.

        Args:
            config: The settings.
            tags: Counts of tags.
            pairs: Counts of neighbouring tags.
            folder: Folder of the assets.
        """
        trained_tags, reported_tags = entity_scheme.learn(config, pairs, folder)
        if config.class_weights != class_weights.NONE:
            weights = class_weights.resolve(config.class_weights, tags)
            weights = {tag: weights.get(tag, 1.0) for tag in reported_tags}
            class_weights.write(folder / _CLASS_WEIGHTS, weights)
        Vocabulary.write(folder / _TAGS, trained_tags)

    @classmethod
    def _continue_assets(cls, base, folder, drop_labels):
        annotations.reject_continuing(base, folder)
        super()._continue_assets(base, folder, drop_labels)

    @classmethod
    def _resolve(cls, config, size, folder):
        config = super()._resolve(config, size, folder)
        if config.monitor is not None:
            return config
        if annotations.is_learnt(folder):
            return dataclasses.replace(config, monitor="accuracy")
        is_entities = entity_scheme.is_learnt(config, folder, Vocabulary.read(folder / _TAGS))
        monitor = "entity_f1" if is_entities else "accuracy"
        return dataclasses.replace(config, monitor=monitor)

    @classmethod
    def _looked_up_words(cls, config, batch):
        if "tokens" in batch[0].values:
            words = tf.ragged.constant([example.values["tokens"] for example in batch], tf.string)
        else:
            words = tokenize(tf.constant([example.values["text"] for example in batch]))
        return words.with_flat_values(_normalize(words.flat_values, config))

    def row(self, values: Mapping) -> dict:
        tokens = values["tokens"]
        return {"text": " ".join(tokens), "tokens": tokens, "lengths": len(tokens)}

    def rejection_reason(self, example: Example) -> str | None:
        names = annotations.names_of(example.values)
        own = self.annotation_names
        if set(names) != set(own):
            if not self.annotations:
                return "sentences with several annotations (--tags); the version has one"
            return f"sentences without the annotations of the version (--tags {','.join(own)})"
        if len(example.values["tokens"]) > self.config.max_tokens:
            return f"sentences of more than {self.config.max_tokens} tokens (--max-tokens)"
        return None

    @property
    def annotation_names(self) -> tuple[str, ...]:
        """Names of the annotations; `tags` if there is only one."""
        return tuple(each.name for each in self.annotations) or (annotations.FIRST,)

    def encode(self, values: dict[str, tf.Tensor]) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        tokens = values["tokens"]
        steps, _ = windows(tokens.row_lengths(), self.config.max_length)
        flat = self.network_inputs(tokens.flat_values)
        if self.annotations:  # (N, A)
            columns = [each.tags.encode(values[each.name].flat_values) for each in self.annotations]
            flat["tags"] = tf.stack(columns, axis=1)
        else:
            flat["tags"] = self._encode_tags(values["tags"].flat_values)
        encoded = {name: tf.gather(value, steps) for name, value in flat.items()}
        if self.scheme.converts:  # after the division into windows, each of which is well formed
            tags = encoded["tags"]
            converted = self.scheme.to_trained(tags.flat_values, tags.value_rowids())
            encoded["tags"] = tags.with_flat_values(converted)
        return {**encoded, "length": tf.cast(steps.row_lengths(), tf.int32)}

    def _encode_tags(self, tags: tf.Tensor) -> tf.Tensor:
        """Returns the ids of tags of the data (N,): int32, -1 for those not in the train part."""
        if not self.scheme.converts:
            return self.tags.encode(tags)
        return entity_scheme.ids_of(tags, self.scheme.reported)

    def trained_ids(self, tags: Sequence[str]) -> tf.Tensor:
        """Returns the ids that the network has for the tags of one response, (T,) int32."""
        ids = self._encode_tags(tf.constant(tags, tf.string))
        return self.scheme.to_trained(ids, tf.zeros_like(ids)) if self.scheme.converts else ids

    def network_inputs(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the network's inputs for tokens (N,): ids (N,), and characters (N, C) if read."""
        inputs = {"ids": self.words.encode(_normalize(tokens, self.config))}
        if self.config.characters:
            limit = self.config.max_word_length
            characters = self.characters.encode(spell(tokens, limit))
            inputs["characters"] = characters.to_tensor(PADDING, shape=[None, limit])
        return inputs

    def to_inputs(self, encoded: dict[str, tf.Tensor], *, training: bool) -> tuple:
        inputs = {name: encoded[name] for name in ("ids", "characters") if name in encoded}
        if self.annotations:
            # An annotation that the train part does not have, -1, is left to loss and metrics.
            return inputs, encoded["tags"], tf.cast(encoded["ids"] != PADDING, tf.float32)
        valid = (encoded["ids"] != PADDING) & (encoded["tags"] >= 0)  # -1: not in the train part
        tags, weights = tf.maximum(encoded["tags"], 0), tf.cast(valid, tf.float32)
        if self._class_weights is not None and training:
            weights *= tf.gather(self._class_weights, tags)
        return inputs, tags, weights

    def build(self, purpose: Purpose = "training") -> keras.Model:
        c, trainable = self.config, purpose != "serving"
        return tagger(
            vocabulary=self._trained_size,
            vectors=self.vectors and self.vectors.layer(c.vectors_mode),
            alphabet=len(self.characters),
            tags=self._tag_counts() if self.annotations else len(self.tags),
            cell=c.cell,
            units=c.units,
            layers=c.layers,
            embedding=c.embedding,
            characters=c.characters,
            character_embedding=c.character_embedding,
            affixes=c.affixes,
            crf=c.crf,
            direction=c.direction,
            lookahead=c.lookahead,
            constraints=self.scheme.constraints,
            dropout=c.dropout if trainable else 0.0,
            word_dropout=c.word_dropout if trainable else 0.0,
            implementation="auto" if trainable else PORTABLE,
            dtype=c.precision if purpose == "training" else "float32",
        )

    def _tag_counts(self) -> dict[str, int]:
        """Returns the number of tags of each of several annotations."""
        return {each.name: len(each.tags) for each in self.annotations}

    def head(self, logits: tf.Tensor, index: int) -> tf.Tensor:
        """Returns the logits of one annotation, of those of all of them side by side."""
        if not self.annotations:
            return logits
        return split_logits(logits, list(self._tag_counts().values()))[index]

    def combine(self, networks: Sequence[keras.Model]) -> keras.Model:
        if not self.config.crf:
            calibration_layer = Temperature(dtype="float32", name="calibration")
            return ensemble(networks, head=[calibration_layer])
        # The geometric mean of CRFs: the mean of their scores of tags and of transitions.
        model = ensemble(networks, "log_probabilities")
        crf = CRF(len(self.tags), constraints=self.scheme.constraints, name="crf")
        weights = [network.get_layer("crf").get_weights() for network in networks]
        crf.set_weights([np.mean(each, axis=0) for each in zip(*weights, strict=True)])
        logits = crf(model.output, mask=model.input["ids"] != PADDING)
        return keras.Model(model.input, logits, name=model.name)

    def adapt(
        self,
        model: keras.Model,
        train: Iterable[dict[str, np.ndarray]],
        valid: Iterable[dict[str, np.ndarray]],
    ) -> None:
        if self.vectors:
            table = word_vectors.table(self._folder)
            model.get_layer("embedding").set_vectors(table, self.config.seed)
        if self.config.word_dropout:
            ids = (batch["ids"] for batch in train)
            countable = (np.where(batch < self._trained_size, batch, UNKNOWN) for batch in ids)
            model.get_layer("word_dropout").adapt(countable)

    def fit_on_valid(self, model: keras.Model, batches: Iterable[dict[str, np.ndarray]]) -> None:
        if not self.calibration_layers(model):
            return
        for column, layer in enumerate(self._temperatures(model).values()):
            network, of_column = model, None
            if self.annotations:
                network, of_column = keras.Model(model.input, layer.output), column
            values = calibration.logits_and_classes(
                self, network, batches, self.config.seed, of_column
            )
            layer.temperature.assign(fit_temperature(*values))

    def fitted_on_valid(self, model: keras.Model) -> dict[str, float]:
        if self.config.crf:
            return {}
        layers = self._temperatures(model)
        return {name: float(layer.temperature.numpy()) for name, layer in layers.items()}

    def calibration_layers(self, model: keras.Model) -> Sequence[Temperature]:
        if not self.config.calibrate or self.config.crf:
            return ()
        return tuple(self._temperatures(model).values())

    def _temperatures(self, model: keras.Model) -> dict[str, Temperature]:
        """Returns the layers with temperatures, by the names of these."""
        if not self.annotations:
            return {"temperature": model.get_layer("calibration")}
        names = self.annotation_names
        return {f"{name}_temperature": model.get_layer(f"calibration_{name}") for name in names}

    def _compile_joint(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        """Compiles a model of several annotations."""
        sizes = list(self._tag_counts().values())
        metrics = [JointAccuracy(sizes, name="accuracy")]
        for index, name in enumerate(self.annotation_names):
            metrics.append(JointAccuracy(sizes, index, name=f"{name}_accuracy"))
        model.compile(
            optimizer,
            loss=JointCrossEntropy(sizes, self.config.label_smoothing),
            weighted_metrics=metrics,
            jit_compile=False,  # XLA would compile again for each length
        )

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        if self.annotations:
            self._compile_joint(model, optimizer)
            return
        crf = None
        loss = SmoothedCrossEntropy(self.config.label_smoothing)
        accuracy = StepAccuracy("accuracy")
        if self.config.crf:
            crf = model.get_layer("crf")
            loss, accuracy = CRFLoss(crf), CRFAccuracy(crf, name="accuracy")
        metrics = [accuracy]
        if self.config.monitor == "macro_f1":
            metrics.append(MacroF1(len(self.tags)))
        if self.config.monitor == "entity_f1":
            metrics.append(EntityF1(self.tags.words, crf or self._constrained_decoder()))
        model.compile(
            optimizer,
            loss=loss,
            weighted_metrics=metrics,
            jit_compile=False,  # XLA would compile again for each length
        )

    # --- Serving -------------------------------------------------------------

    def signatures(self, model: keras.Model) -> dict[str, Callable]:
        stream = TagStream(self, model) if self.config.direction == FORWARD else None

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")], autograph=False)
        def serving_default(text):
            return self._respond(model, tokenize(chunks(text) if stream else text), stream)

        @tf.function(input_signature=list(self.request.values()), autograph=False)
        def tag_tokens(tokens, lengths):
            # Otherwise a single length would be broadcast to all rows.
            tf.debugging.assert_equal(
                tf.shape(tokens)[0], tf.shape(lengths)[0], "tokens and lengths must have equal rows"
            )
            lengths = tf.clip_by_value(lengths, 0, tf.shape(tokens)[1])
            tokens = tf.strings.unicode_transcode(tokens, "UTF-8", "UTF-8", errors="replace")
            tokens = tf.RaggedTensor.from_tensor(tokens, lengths=lengths)
            return self._respond(model, tokens, stream)

        signatures = {"serving_default": serving_default, "tokens": tag_tokens}
        if self.scheme.scheme_name:

            @tf.function(
                input_signature=[tf.TensorSpec([None], tf.string, "text")], autograph=False
            )
            def entities(text):
                tokens = tokenize(chunks(text) if stream else text)
                tagged = self._tag_sentences(model, tokens, stream)
                lengths = tokens.row_lengths()
                return entity_outputs(text, tagged[0], lengths, *tagged[1:], self.scheme.reported)

            signatures["entities"] = entities
        return signatures | (stream.signatures() if stream else {})

    def id_signature(self, model: keras.Model) -> Callable:
        if self.config.crf or self._constrained_decoder():
            raise UserError(
                "its tags are decoded as a sequence, by the Viterbi algorithm, which is a loop "
                "around the network; train with --no-crf --no-constrain, or use the SavedModel."
            )
        if self.scheme.converts or self.edit_scripts:
            raise UserError(
                "its tags become those of responses by rules on strings (lemmas, --train-scheme), "
                "which are part of the SavedModel only."
            )
        names = ("ids", "characters") if self.config.characters else ("ids",)
        shapes = {"ids": [None, None], "characters": [None, None, self.config.max_word_length]}
        specs = [tf.TensorSpec(shapes[name], tf.int32, name) for name in names]

        @tf.function(input_signature=specs, autograph=False)
        def tag_ids(*inputs):
            tags, probability = self._decode(model, dict(zip(names, inputs, strict=True)))
            return {"tag_ids": tags, "probability": probability}

        return tag_ids

    def id_rules(self) -> IdRules:
        c = self.config
        chunk_rules = CHUNK_RULES if c.direction == FORWARD else ()
        stages = [
            Stage([*chunk_rules, *ud_tokenizer.BLANKS]),
            Stage(ud_tokenizer.EDGES),
            Stage(ud_tokenizer.WITHIN_WORDS, whole=f"(?i){ud_tokenizer.WHOLE}"),
        ]
        return IdRules(
            stages=stages,
            max_bytes=0,
            max_length=c.max_length,
            fold_case=c.fold_case,
            lower_unknown=self.words.lower_unknown,
            words=self.words.words,
            characters=self.characters.words if c.characters else None,
            max_word_length=c.max_word_length,
            names=self.tags.words,
        )

    def _respond(
        self, model: keras.Model, tokens: tf.RaggedTensor, stream: TagStream | None
    ) -> dict[str, tf.Tensor]:
        """Returns the outputs of a signature for the tokens of sentences (B, T)."""
        lengths = tokens.row_lengths()
        tokens, ids, probability = self._tag_sentences(model, tokens, stream)
        if self.annotations:
            flat = {"tokens": tokens.flat_values, **self._joint_outputs(tokens, ids, probability)}
            outputs = {name: tokens.with_flat_values(v).to_tensor() for name, v in flat.items()}
            return {**outputs, "lengths": tf.cast(lengths, tf.int32)}
        tags = self.reported_tags(ids)
        flat = {"tokens": tokens.flat_values, "tags": tags, "probability": probability}
        if self.edit_scripts:
            flat["lemmas"] = self.edit_scripts.apply(ids, tokens.flat_values)
        outputs = {name: tokens.with_flat_values(v).to_tensor() for name, v in flat.items()}
        return {**outputs, "lengths": tf.cast(lengths, tf.int32)}

    def reported_tags(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the tags of responses for their indices, strings of the same shape."""
        if self.scheme.converts:
            return tf.gather(tf.constant(self.scheme.reported), ids)
        return self.tags.decode(ids)

    def probability_of(self, tags: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Returns the probability of tags in responses, float32 (...).

        Args:
            tags: Ids of the network, int32 (...).
            probabilities: Of all tags of the network, (..., K).
        """
        if not self.scheme.converts:
            return tf.gather(probabilities, tags, batch_dims=2)
        # The sum over the tags that are the same in a response.
        same = tf.gather(tf.constant(self.scheme.reported_as_same, tf.float32), tags)
        return tf.minimum(1.0, tf.reduce_sum(probabilities * same, -1))

    def _joint_outputs(
        self, tokens: tf.RaggedTensor, ids: tf.Tensor, probability: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns the outputs of several annotations for N tokens, (N,) each.

        Args:
            tokens: (B, T) strings.
            ids: Indices of tags, (N, A) int32.
            probability: Of the tags, (N, A).
        """
        outputs = {}
        for index, annotation in enumerate(self.annotations):
            values = annotation.values(ids[:, index], tokens.flat_values)
            own = {annotation.name: values, f"{annotation.name}_probability": probability[:, index]}
            if not index:
                own |= {"tags": values, "probability": probability[:, 0]}
            outputs |= own
        return outputs

    def _tag_sentences(
        self, model: keras.Model, tokens: tf.RaggedTensor, stream: TagStream | None
    ) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
        """Returns the tokens of sentences (B, T) that have tags, and for each of these its tag.

        Returns:
            The first tokens of each sentence; indices of the tags of responses, (N,) int32; and
            the probabilities of the tags, (N,). With several annotations both are (N, A).
        """
        tokens = tokens[:, : self.config.max_tokens]
        longest = tf.reduce_max(tf.concat([[0], tokens.row_lengths()], 0))
        tf.debugging.assert_less_equal(
            tokens.nrows() * longest,
            tf.constant(_MAX_CELLS, tf.int64),
            f"rows times the tokens of the longest must be at most {_MAX_CELLS}",
        )
        if stream:  # which reads a sentence of any length without windows
            return tokens, *stream.tag(tokens)
        width = self.config.max_length
        steps, places = windows(tokens.row_lengths(), width, width // _MARGIN)
        tags, probability = self._tag(model, tokens.flat_values, steps)
        starts = tf.cast(steps.row_starts(), tf.int32)
        indices = tf.gather(starts, places[:, 0]) + places[:, 1]
        ids = tf.gather(tags, indices)
        if self.scheme.converts:  # also repairs entities where two windows meet
            ids = self.scheme.to_reported(ids, tokens.value_rowids())
        return tokens, ids, tf.gather(probability, indices)

    def _tag(
        self, model: keras.Model, words: tf.Tensor, steps: tf.RaggedTensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Tags the steps of windows, some windows at a time, so that they take constant memory.

        Args:
            model: The network.
            words: (N,) strings.
            steps: Indices of the words of each window, (W, T) int32.

        Returns:
            For each of `steps.flat_values` its tag, int32, and the probability of the tag; with
            several annotations, these of each.
        """
        width = tf.reduce_max(tf.concat([[1], steps.row_lengths()], 0))
        count = tf.maximum(_CHUNK_TOKENS // width, 1)

        def tag_chunk(start, *tagged):
            chunk = steps[start : start + count]
            inputs = {
                name: _pad_to_one_step(chunk.with_flat_values(values).to_tensor(PADDING))
                for name, values in self.network_inputs(tf.gather(words, chunk.flat_values)).items()
            }
            outputs = [
                tf.RaggedTensor.from_tensor(output, lengths=chunk.row_lengths()).flat_values
                for output in self._decode(model, inputs)
            ]
            grown = [tf.concat(both, 0) for both in zip(tagged, outputs, strict=True)]
            return start + count, *grown

        inner = [len(self.annotations)] if self.annotations else []
        start, shape = tf.constant(0, tf.int64), tf.TensorShape([None, *inner])
        _, tags, probabilities = tf.while_loop(
            lambda start, *_: start < steps.nrows(),
            tag_chunk,
            [start, tf.zeros([0, *inner], tf.int32), tf.zeros([0, *inner])],
            shape_invariants=[start.shape, shape, shape],
            parallel_iterations=1,
        )
        return tags, probabilities

    def _decode(
        self, model: keras.Model, inputs: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the tag (W, T), int32, and its probability (W, T) at each step of W windows.

        With several annotations both are (W, T, A).
        """
        logits = model(inputs, training=False)  # with their mask, which a CRF needs
        if self.annotations:
            heads = split_logits(logits, list(self._tag_counts().values()))
            tags = [tf.argmax(head, axis=-1, output_type=tf.int32) for head in heads]
            shares = [tf.reduce_max(tf.nn.softmax(head), axis=-1) for head in heads]
            return tf.stack(tags, axis=-1), tf.stack(shares, axis=-1)
        if self.config.crf:
            crf = model.get_layer("crf")
            tags, probabilities = crf.decode(logits)[0], crf.marginals(logits)
        else:
            probabilities = tf.nn.softmax(logits)
            decoder = self._constrained_decoder()
            if decoder:
                tags = decoder.decode(logits, inputs["ids"] != PADDING)[0]
            else:
                tags = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return tags, self.probability_of(tags, probabilities)

    def fixed_lag_decoder(self, model: keras.Model) -> FixedLagDecoder | None:
        """Returns what decodes the tags of a stream; None if each is chosen by itself."""
        if self.config.crf:
            return model.get_layer("crf").fixed_lag_decoder(self.config.lag)
        decoder = self._constrained_decoder()
        return decoder and decoder.fixed_lag_decoder(self.config.lag)

    def _constrained_decoder(self) -> ConstrainedDecoder | None:
        """Returns what decodes well-formed tags without a CRF; None if they are not constrained."""
        if self.config.crf or self.scheme.constraints is None:
            return None
        return ConstrainedDecoder(self.scheme.constraints)

    def remarks(self) -> Sequence[str]:
        marking = (each.name for each in self.annotations if entities.scheme(each.tags.words))
        return (
            *super().remarks(),
            *self.scheme.remarks,
            *self._remarks_on_numbers(),
            *(
                f"tags of {name} mark entities; with other annotations they are trained as they are"
                for name in marking
            ),
        )

    def _remarks_on_numbers(self) -> list[str]:
        """Returns a remark on tags that are numbers, as of a data set whose names are elsewhere."""
        tags = self.scheme.reported
        if self.annotations or not tags or not all(tag.isdecimal() for tag in tags):
            return []
        return [f"all {len(tags)} tags are numbers, such as {tags[0]}: the data lacks their names"]

    def limits(self) -> Sequence[str]:
        c = self.config
        sentences = (
            f"Reads sentences of more than {c.max_length} tokens in overlapping windows, and tags "
            f"the first {c.max_tokens} tokens of a sentence."
        )
        probabilities = calibration.caveat(c.calibrate and not c.crf)
        if not c.characters:
            return sentences, probabilities
        words = f"Reads the head and the tail of words of more than {c.max_word_length} characters."
        return sentences, words, probabilities


def _frequent_characters(words: Mapping[str, int]) -> list[str]:
    """Returns the characters that occur twice or more; all of them if there are none.

    A character that occurs once is left to the unknown character, which is trained by it.
    """
    counts = collections.Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += min(count, 2)
    return sorted(c for c, count in counts.items() if count > 1) or sorted(counts)


def _normalize(tokens: tf.Tensor, config: Config) -> tf.Tensor:
    """Returns words as they are looked up in the vocabulary."""
    return case.lower(tokens) if config.fold_case else tokens


def _pad_to_one_step(padded: tf.Tensor) -> tf.Tensor:
    """Pads a batch (W, T, ...) to at least one step."""
    missing = tf.maximum(1 - tf.shape(padded)[1], 0)
    return tf.pad(padded, [[0, 0], [0, missing], *[[0, 0]] * (padded.shape.rank - 2)])
