"""Comparison of the predictions of an exported network with those of its version."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from app.exporting.formats import Runner
from app.exporting.id_reader import IdReader
from app.serving import warmup
from app.serving.session import SavedModelSession
from tasks.core.errors import UserError

TOLERANCE = 1e-4  # of numbers between 0 and 1, relative for larger ones
# Share of tags that may differ: two tags of a word may be equally probable but for rounding.
TOLERATED_TAGS = 0.01
_MAX_TEXTS = 64
_TAG_IDS = "tag_ids"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Differences between an exported network and the SavedModel.

    Attributes:
        texts: Number of texts.
        largest_difference: Largest difference of a number.
        tags: Number of tags; 0 for a network that does not tag.
        different_names: Number of tags that differ.
    """

    texts: int
    largest_difference: float
    tags: int
    different_names: int

    def sentence(self) -> str:
        """Returns the comparison in a sentence."""
        tags = f", {self.different_names} of {self.tags} tags different" if self.tags else ""
        return (
            f"compared with the SavedModel on {self.texts} texts: largest difference of a number "
            f"{self.largest_difference:.1e}{tags}"
        )


def texts_of(version: Path) -> list[str]:
    """Returns texts of the warm-up requests of a version, which are of its test part."""
    texts = {}
    for request in warmup.read(version):
        if request.model_spec.signature_name == "serving_default":
            for text in tf.make_ndarray(request.inputs["text"]).tolist():
                texts[text.decode("utf-8", "replace")] = None
    return list(texts)[:_MAX_TEXTS]


def compare(
    version: Path, reader: IdReader, run: Runner, texts: Sequence[str], length: int | None = None
) -> Comparison:
    """Compares an exported network, with the ids of its reader, with the SavedModel.

    Args:
        version: Folder of the version.
        reader: Reader of the exported rules.
        run: Runs the exported network.
        texts: The texts; those of more than `length` words are left out.
        length: Number of words of a network of fixed length; None for any.

    Raises:
        UserError: Numbers differ by more than `TOLERANCE`, or more than the share
            `TOLERATED_TAGS` of the tags.
    """
    words = [reader.split(text) for text in texts]
    if length is not None:
        texts = [text for text, row in zip(texts, words, strict=True) if len(row) <= length]
        words = [row for row in words if len(row) <= length]
    if not texts:
        raise UserError(f"no warm-up request of {version} has at most {length} words to compare.")
    expected = SavedModelSession(version).predict([{"text": text} for text in texts])
    inputs = reader.word_inputs(words, length)
    outputs = run({name: np.array(value, np.int32) for name, value in inputs.items()})
    differences, count_of_tags, different_names = [0.0], 0, 0
    for row, response in enumerate(expected):
        tags = outputs.get(_TAG_IDS)
        if tags is not None:
            names = [reader.names[number].encode() for number in tags[row][: len(words[row])]]
            count_of_tags += len(names)
            different_names += int(np.sum(np.array(names) != response["tags"][: len(names)]))
        for name in outputs.keys() & response.keys():
            ours, theirs = outputs[name][row], np.asarray(response[name])
            if theirs.dtype.kind == "f":
                count = len(words[row]) if tags is not None else None
                ours, theirs = np.atleast_1d(ours)[:count], np.atleast_1d(theirs)[:count]
                scale = np.maximum(1.0, np.abs(theirs))
                differences.append(float(np.max(np.abs(ours - theirs) / scale, initial=0.0)))
    comparison = Comparison(len(texts), max(differences), count_of_tags, different_names)
    are_other_tags = different_names > TOLERATED_TAGS * count_of_tags
    if comparison.largest_difference > TOLERANCE or are_other_tags:
        raise UserError(f"the exported network differs from {version}: {comparison.sentence()}.")
    return comparison
