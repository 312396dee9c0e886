"""Corpora of TensorFlow Datasets, by name: `tfds:imdb_reviews`."""

import dataclasses
from collections.abc import Iterator

from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream


@dataclasses.dataclass(frozen=True)
class Known:
    """What a data set's own description does not say.

    Attributes:
        text, label: The features to take.
        test: The part that is judged, where it is not the one called test.
        note: What a person should know.
    """

    text: str = "text"
    label: str = "label"
    test: str = "test"
    note: str = ""


LABELLED_TEXTS = {
    "imdb_reviews": Known(),
    "glue/sst2": Known(
        text="sentence",
        test="validation",
        note="the labels of its test part are not public (-1), so its validation part is judged",
    ),
    "yelp_polarity_reviews": Known(),
    "sentiment140": Known(label="polarity"),
}
TAGGED_SENTENCES = ("universal_dependencies/en_ewt", "conll2003", "xtreme_pos/xtreme_pos_en")
TRANSLATIONS = ("ted_hrlr_translate/pt_to_en", "wmt14_translate/de-en", "para_crawl/ende")
CAPTIONED_IMAGES = ("coco_captions",)
# What universal_dependencies has as head where a row of CoNLL-U is no word: of ranges
# and empty nodes, which it keeps.
_NO_HEAD = b"None"


def labelled_texts(
    name: str, data_dir: str, text_key: str, label_key: str
) -> tuple[dict[str, Stream], list[str]]:
    """Returns the parts of a data set of texts and labels, and notes on them.

    Args:
        name: As TensorFlow Datasets has it; `LABELLED_TEXTS` knows some, others
            need to have features `text` and `label`, or be told of theirs.
        data_dir: The folder of prepared data sets; "" for its default.
        text_key, label_key: The features to take instead; "" for the known ones.

    Raises:
        UserError: There is no such data set or feature, or it is not on this
            machine and cannot be downloaded.
    """
    known = LABELLED_TEXTS.get(name.split(":")[0].removesuffix("/plain_text"), Known())
    builder = _prepared(name, data_dir, LABELLED_TEXTS)
    features = builder.info.features
    text_key, label_key = text_key or known.text, label_key or known.label
    for key, flag in ((text_key, "--text-key"), (label_key, "--label-key")):
        if key not in features:
            raise UserError(
                f"tfds:{name} has no feature {key!r}, only {sorted(features)}; name it with {flag}."
            )
    label_of = getattr(features[label_key], "int2str", str)

    def stream(split: str) -> Stream:
        def read() -> Iterator[Example]:
            for origin, row in _rows(name, builder, split):
                label = row[label_key]
                label = label.decode() if isinstance(label, bytes) else label_of(int(label))
                text = row[text_key].decode("utf-8", "replace").strip()
                yield Example({"text": text, "label": label}, origin)

        return Stream(read)

    notes = [f"tfds:{name}: {known.note}"] if known.note else []
    return _parts(name, builder, stream, known.test), notes


def tagged_sentences(
    name: str, data_dir: str, tokens_key: str, tags_key: str, tags: str = "upos"
) -> tuple[dict[str, Stream], list[str]]:
    """Returns the parts of a data set of words and their tags, and notes on them.

    Args:
        name: As TensorFlow Datasets has it, such as those of `TAGGED_SENTENCES`.
        data_dir: The folder of prepared data sets; "" for its default.
        tokens_key, tags_key: The features to take; "" for `tokens`, and for what
            the column `tags` of CoNLL-U is called there.
        tags: A column of CoNLL-U; where `upos` is none, `pos` or `tags` is taken.

    Raises:
        UserError: There is no such data set or feature, or it is not on this
            machine and cannot be downloaded.
    """
    builder = _prepared(name, data_dir, TAGGED_SENTENCES)
    sequences = {
        key: feature.feature
        for key, feature in builder.info.features.items()
        if hasattr(feature, "feature")
    }
    usual = {"upos": ("upos", "pos", "tags"), "lemma": ("lemmas",)}.get(tags, (tags,))
    tokens_key = tokens_key or "tokens"
    tags_key = tags_key or next((key for key in usual if key in sequences), usual[0])
    for key, flag in ((tokens_key, "--tokens-key"), (tags_key, "--tags-key")):
        if key not in sequences:
            raise UserError(
                f"tfds:{name} has no sequence {key!r}, only {sorted(sequences)}; "
                f"name it with {flag}."
            )
    names = getattr(sequences[tags_key], "int2str", str)

    def text(value) -> str:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else names(int(value))

    def stream(split: str) -> Stream:
        def read() -> Iterator[Example]:
            for origin, row in _rows(name, builder, split):
                pairs = zip(row[tokens_key], row[tags_key], strict=True)
                if "head" in sequences:
                    heads = zip(pairs, row["head"], strict=True)
                    pairs = (pair for pair, head in heads if head != _NO_HEAD)
                words = [(text(token), text(tag)) for token, tag in pairs]
                if words:
                    tokens, tags = zip(*words, strict=True)
                    yield Example({"tokens": tokens, "tags": tags}, origin)

        return Stream(read)

    return _parts(name, builder, stream, valid=("validation", "dev")), []


def translations(
    name: str, data_dir: str, source: str, target: str
) -> tuple[dict[str, Stream], list[str]]:
    """Returns the parts of a data set of sentences and their translations, and notes on them.

    A pair of which one side is empty is left out, as most of these data sets do themselves.

    Args:
        name: As TensorFlow Datasets has it, such as those of `TRANSLATIONS`. Its
            texts are features by language, or are in one feature that has them so.
        data_dir: The folder of prepared data sets; "" for its default.
        source, target: The languages; "" for those that the data set has as its
            input and its target.

    Raises:
        UserError: There is no such data set or language, or it is not on this
            machine and cannot be downloaded.
    """
    builder = _prepared(name, data_dir, TRANSLATIONS)
    place, languages = _languages(builder.info.features)
    notes = []
    if not source:
        pair = builder.info.supervised_keys or ()
        if len(pair) != 2 or not set(pair) <= set(languages):
            raise UserError(
                f"tfds:{name}: which of {languages} is to be translated into which? Name them "
                "with --source and --target."
            )
        source, target = pair
        notes = [f"tfds:{name}: translated from {source} into {target}"]
    for language, flag in ((source, "--source"), (target, "--target")):
        if language not in languages:
            raise UserError(
                f"tfds:{name} has no texts in {language!r}, only in {languages}; "
                f"name one with {flag}."
            )

    def stream(split: str) -> Stream:
        def read() -> Iterator[Example]:
            for origin, row in _rows(name, builder, split):
                row = row[place] if place else row
                sides = (row[language].decode("utf-8", "replace") for language in (source, target))
                text, translation = (side.strip() for side in sides)
                if text and translation:
                    yield Example({"text": text, "translation": translation}, origin)

        return Stream(read)

    return _parts(name, builder, stream, valid=("validation", "dev")), notes


def captioned_images(name: str, data_dir: str) -> tuple[dict[str, Stream], list[str]]:
    """Returns the parts of a data set of images and their captions, and notes on them.

    Images are the files that they were made of, not decoded. Empty captions are left out,
    and so are images that have no others.

    Args:
        name: As TensorFlow Datasets has it, such as those of `CAPTIONED_IMAGES`. Its
            images are the feature `image`; the captions of each are in `captions` or
            `caption`: a text, several, or several with other things under `text`.
        data_dir: The folder of prepared data sets; "" for its default.

    Raises:
        UserError: There is no such data set, or it has no such features, or it is
            not on this machine and cannot be downloaded.
    """
    builder = _prepared(name, data_dir, CAPTIONED_IMAGES)
    from tensorflow_datasets import decode
    from tensorflow_datasets.core.features import Image

    features = dict(builder.info.features)
    if not isinstance(features.get("image"), Image):
        raise UserError(
            f"tfds:{name} has no feature 'image' that is an image, only {sorted(features)}."
        )
    key = next((k for k in ("captions", "caption") if _is_texts(features.get(k))), "")
    if not key:
        raise UserError(
            f"tfds:{name} has no feature 'captions' or 'caption' that is a text, texts or has "
            f"them under 'text', only {sorted(features)}."
        )

    raw = {"image": decode.SkipDecoding()}
    wanted = decode.PartialDecoding({"image": True, key: True}, decoders=raw)

    def stream(split: str) -> Stream:
        def read() -> Iterator[Example]:
            for origin, row in _rows(name, builder, split, wanted):
                told = row[key]["text"] if isinstance(row[key], dict) else row[key]
                told = [told] if isinstance(told, bytes) else told
                captions = (caption.decode("utf-8", "replace").strip() for caption in told)
                if captions := tuple(filter(None, captions)):
                    yield Example({"image_bytes": row["image"], "captions": captions}, origin)

        return Stream(read)

    return _parts(name, builder, stream, valid=("validation", "val", "dev")), []


def _is_texts(feature) -> bool:
    """Whether a feature is a text, a sequence of texts, or one of objects with a `text`."""
    from tensorflow_datasets.core.features import FeaturesDict, Tensor

    feature = getattr(feature, "feature", feature)  # what a sequence is of
    if isinstance(feature, FeaturesDict):
        feature = dict(feature).get("text")
    return isinstance(feature, Tensor) and feature.shape == () and feature.tf_dtype == "string"


def _languages(features) -> tuple[str, list[str]]:
    """The feature that has the texts by language, "" if they are features, and the languages."""
    from tensorflow_datasets.core.features import Text, Translation

    nested = (key for key, feature in features.items() if isinstance(feature, Translation))
    place = next(nested, "")
    texts = features[place] if place else features
    return place, sorted(key for key, feature in texts.items() if isinstance(feature, Text))


def _rows(name, builder, split, decoders=None) -> Iterator[tuple[str, dict]]:
    """The rows of one part, each with where it came from."""
    import tensorflow_datasets as tfds

    read = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders)
    rows = tfds.as_numpy(read)
    for number, row in enumerate(rows):
        yield f"tfds:{name}:{split}:{number}", row


def _parts(name, builder, stream, test="test", valid=("validation",)) -> dict[str, Stream]:
    """The parts that a data set has; `test` is judged and the first of `valid` there chooses."""
    splits = builder.info.splits
    test = test if test in splits else "test"
    wanted = {
        "train": "train",
        "valid": next((split for split in valid if split in splits and split != test), ""),
        "test": test,
    }
    parts = {part: stream(split) for part, split in wanted.items() if split in splits}
    if "train" not in parts:
        raise UserError(f"tfds:{name} has no part called train, only {sorted(splits)}.")
    return parts


def _prepared(name, data_dir, known):
    """The builder of a data set, its files on disk."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"tfds:{name} needs the package tensorflow-datasets, which is not installed."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"tfds: there is no data set {name!r}, prepared or to be downloaded; known ones are "
            f"{sorted(known)} and all that https://www.tensorflow.org/datasets lists."
        ) from error
    except (ValueError, AssertionError) as error:  # a config or version that it does not have
        raise UserError(f"tfds:{name}: {error}") from error
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        except Exception as error:  # whatever a network, a host or a disk may answer
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(
                f"tfds:{name} is not on this machine and cannot be downloaded: {reason}\n"
                "To go on offline, prepare it where there is a network\n"
                f'  (python -c "import tensorflow_datasets as t; t.load({name!r}, data_dir=DIR)"), '
                "copy DIR here and add --tfds-dir DIR."
            ) from error
    return builder
