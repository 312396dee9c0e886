"""Inspection of a tagger."""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from models.cells.tracing import trace
from models.text.words import spell
from tasks.core import inspection
from tasks.core.errors import UserError
from tasks.core.inspection import Inspection, Reading


class Inspector(inspection.Inspector):
    """Gates and states over the words and over the characters of one of them."""

    def inspect(self, row: dict, token: str = "") -> Inspection:
        (response,) = self.predictor.predict([row])
        words = [word.decode("utf-8") for word in response["tokens"]]
        tags = [tag.decode("utf-8") for tag in response["tags"]]
        if not words:
            raise UserError("nothing to inspect: the sentence contains no words.")
        read = words[: self.task.config.max_length]
        network_inputs = self.task.network_inputs(tf.constant(read))
        inputs = {name: values[None] for name, values in network_inputs.items()}
        if self.task.annotations:
            logits = self.task.head(self.model(inputs, training=False), 0)
            ids = tf.argmax(logits[0], axis=-1, output_type=tf.int32)
        else:
            ids = self.task.trained_ids(tags[: len(read)])
        tagged = [f"{word}/{tag}" for word, tag in zip(words, tags, strict=True)]
        saliency = inspection.token_saliency(
            self.model,
            self.model.get_layer("encoder").input[0],
            inputs,
            self._log_probability(ids),
            (read, tagged[: len(read)]),
        )
        numbered = inspection.numbered_tokens(read)
        token = inspection.select_token(token, numbered, saliency.contributions.weights)
        with trace(self.model) as traces:
            self.model(inputs, training=False)
        readings = [
            inspection.reading(cell, "encoder", read) for cell in traces if cell.place == "encoder"
        ]
        notes = []
        if self.task.annotations:
            others = ", ".join(self.task.annotation_names[1:])
            notes.append(
                f"The saliency is that of {self.task.annotation_names[0]}, not of {others}."
            )
        if len(read) < len(words):
            notes.append(
                f"The first {len(read)} of {len(words)} words are shown: the model reads longer "
                "sentences in windows."
            )
        return Inspection(
            response=" ".join(tagged),
            token=token,
            readings=[*self._character_readings(inputs, read, numbered.index(token)), *readings],
            saliency=saliency,
            notes=notes,
        )

    def _log_probability(self, tags: tf.Tensor) -> Callable:
        """Returns the function of logits and step indices for `token_saliency`."""

        def log_probability(logits, indices):
            if self.task.config.crf:
                marginals = self.model.get_layer("crf").marginals(logits)
                logits = tf.math.log(tf.maximum(marginals, 1e-30))
            logits = self.task.head(logits, 0)
            return inspection.target_log_probability(logits, indices, tags)

        return log_probability

    def _character_readings(
        self, inputs: Mapping[str, tf.Tensor], words: Sequence[str], position: int
    ) -> list[Reading]:
        """Returns the readings over the characters of a word, if the model reads characters."""
        if not self.task.config.characters:
            return []
        reader = self.model.get_layer("character_reader")
        with trace(reader) as traces:
            reader(inputs["characters"][:, position : position + 1])
        word = words[position]
        characters = spell(tf.constant([word]), self.task.config.max_word_length)[0].numpy()
        steps = [character.decode("utf-8") for character in characters]
        return [inspection.reading(cell, f"characters of {word}", steps) for cell in traces]
