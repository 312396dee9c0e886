"""Corpora of TensorFlow Datasets, by name: `tfds:imdb_reviews`."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


@dataclasses.dataclass(frozen=True)
class Preset:
    """Facts about a data set that are not in its own description.

    Attributes:
        text: Feature with the texts.
        label: Feature with the labels.
        test: Part for evaluation, if not `test`.
        note: Note for the user.
    """

    text: str = "text"
    label: str = "label"
    test: str = "test"
    note: str = ""


_HIDDEN = (
    "the labels of its test part are not public (-1), so its validation part is used for evaluation"
)
LABELLED_TEXTS = {
    "imdb_reviews": Preset(),
    "glue/sst2": Preset(
        text="sentence",
        test="validation",
        note=_HIDDEN,
    ),
    "yelp_polarity_reviews": Preset(),
    "sentiment140": Preset(label="polarity"),
}
TEXTS = ("lm1b", "wiki40b/en", "imdb_reviews")
TAGGED_SENTENCES = ("universal_dependencies/en_ewt", "conll2003", "xtreme_pos/xtreme_pos_en")
TRANSLATIONS = ("ted_hrlr_translate/pt_to_en", "wmt14_translate/de-en", "para_crawl/ende")
CAPTIONED_IMAGES = ("coco_captions",)
# The head, in universal_dependencies, of rows that are not words: ranges and empty nodes.
_NO_HEAD = b"None"


def labelled_texts(
    name: str, data_dir: str, text_key: str, label_key: str
) -> tuple[dict[str, Stream], list[str]]:
    """Returns the parts of a data set of texts and labels, and notes on them.

    Args:
        name: Name in TensorFlow Datasets. `LABELLED_TEXTS` has presets; others must
            have the features `text` and `label`, or the two keys must be given.
        data_dir: Folder of prepared data sets; "" for the default one.
        text_key: Feature with the texts; "" for the preset or `text`.
        label_key: Feature with the labels; "" for the preset or `label`.

    Raises:
        UserError: The data set or feature does not exist, or the data set is not on
            this machine and cannot be downloaded.
    """
    preset = LABELLED_TEXTS.get(name.split(":")[0].removesuffix("/plain_text"), Preset())
    builder = _prepared(name, data_dir, LABELLED_TEXTS)
    features = builder.info.features
    text_key, label_key = text_key or preset.text, label_key or preset.label
    for key, flag in ((text_key, "--text-key"), (label_key, "--label-key")):
        if key not in features:
            raise UserError(
                f"tfds:{name}: no feature {key!r}; the features are {sorted(features)}. Select one "
                f"with {flag}."
            )
    class_name = _class_names(features[label_key])

    def stream(split: str) -> Stream:
        def read() -> Iterator[Example]:
            for origin, row in _rows(name, builder, split):
                label = row[label_key]
                if isinstance(label, bytes):
                    label = label.decode()
                elif getattr(getattr(label, "dtype", None), "kind", "") == "f":
                    label = str(float(label))
                else:
                    label = class_name(int(label), origin)
                text = row[text_key].decode("utf-8", "replace").strip()
                yield Example({"text": text, "label": label}, origin)

        return Stream(read)

    test, note = preset.test, preset.note
    if not note and _hides_labels(name, builder, label_key):
        test, note = "validation", _HIDDEN
    notes = [f"tfds:{name}: {note}"] if note else []
    return _parts(name, builder, stream, test), notes


def texts(name: str, data_dir: str, text_key: str) -> dict[str, Stream]:
    """Returns the parts of a data set of texts, whose other features are not read.

    Args:
        name: Name in TensorFlow Datasets.
        data_dir: Folder of prepared data sets; "" for the default one.
        text_key: Feature with the texts; "" for `text`.

    Raises:
        UserError: The data set or feature does not exist, or the data set is not on
            this machine and cannot be downloaded.
    """
    builder, text_key = _prepared(name, data_dir, TEXTS), text_key or "text"
    if text_key not in builder.info.features:
        raise UserError(
            f"tfds:{name}: no feature {text_key!r}; the features are "
            f"{sorted(builder.info.features)}. Select one with --text-key."
        )

    def stream(split: str) -> Stream:
        def read() -> Iterator[Example]:
            for origin, row in _rows(name, builder, split):
                text = row[text_key].decode("utf-8", "replace").strip()
                if text:
                    yield Example({"text": text}, origin)

        return Stream(read)

    return _parts(name, builder, stream)


def tagged_sentences(
    name: str, data_dir: str, tokens_key: str, tags_key: str, tags: str = "upos"
) -> tuple[dict[str, Stream], list[str]]:
    """Returns the parts of a data set of words and their tags, and notes on them.

    Args:
        name: Name in TensorFlow Datasets, such as those in `TAGGED_SENTENCES`.
        data_dir: Folder of prepared data sets; "" for the default one.
        tokens_key: Feature with the words; "" for `tokens`.
        tags_key: Feature with the tags; "" for the one that corresponds to `tags`.
        tags: Column of CoNLL-U; if there is no `upos`, `pos` or `tags` is used instead.

    Raises:
        UserError: The data set or feature does not exist, or the data set is not on
            this machine and cannot be downloaded.
    """
    builder = _prepared(name, data_dir, TAGGED_SENTENCES)
    sequences = {
        key: feature.feature
        for key, feature in builder.info.features.items()
        if hasattr(feature, "feature")
    }
    usual_keys = {"upos": ("upos", "pos", "tags"), "lemma": ("lemmas",)}.get(tags, (tags,))
    tokens_key = tokens_key or "tokens"
    tags_key = tags_key or next((key for key in usual_keys if key in sequences), usual_keys[0])
    for key, flag in ((tokens_key, "--tokens-key"), (tags_key, "--tags-key")):
        if key not in sequences:
            raise UserError(
                f"tfds:{name}: no sequence feature {key!r}; the sequence features are "
                f"{sorted(sequences)}. Select one with {flag}."
            )
    class_name = _class_names(sequences[tags_key])

    def text(value: bytes | int, origin: str) -> str:
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return class_name(int(value), origin)

    def stream(split: str) -> Stream:
        def read() -> Iterator[Example]:
            for origin, row in _rows(name, builder, split):
                pairs = zip(row[tokens_key], row[tags_key], strict=True)
                if "head" in sequences:
                    heads = zip(pairs, row["head"], strict=True)
                    pairs = (pair for pair, head in heads if head != _NO_HEAD)
                words = [(text(token, origin), text(tag, origin)) for token, tag in pairs]
                if words:
                    tokens, tags = zip(*words, strict=True)
                    yield Example({"tokens": tokens, "tags": tags}, origin)

        return Stream(read)

    return _parts(name, builder, stream, valid=("validation", "dev")), []


def translations(
    name: str, data_dir: str, source: str, target: str
) -> tuple[dict[str, Stream], list[str]]:
    """Returns the parts of a data set of sentences and their translations, and notes on them.

    Pairs with an empty side are skipped, as most of these data sets do themselves.

    Args:
        name: Name in TensorFlow Datasets, such as those in `TRANSLATIONS`. The texts
            must be features named by language, or inside one `Translation` feature.
        data_dir: Folder of prepared data sets; "" for the default one.
        source: Language to translate from; "" for the declared input.
        target: Language to translate into; "" for the declared target.

    Raises:
        UserError: The data set or language does not exist, or the data set is not on
            this machine and cannot be downloaded.
    """
    builder = _prepared(name, data_dir, TRANSLATIONS)
    parent, languages = _languages(builder.info.features)
    notes = []
    if not source:
        pair = builder.info.supervised_keys or ()
        if len(pair) != 2 or not set(pair) <= set(languages):
            raise UserError(
                f"tfds:{name}: it declares no translation direction; choose two of {languages} "
                "with --source and --target."
            )
        source, target = pair
        notes = [f"tfds:{name}: translating from {source} into {target}"]
    for language, flag in ((source, "--source"), (target, "--target")):
        if language not in languages:
            raise UserError(
                f"tfds:{name}: {flag} must be one of its languages, {languages}, got {language!r}."
            )

    def stream(split: str) -> Stream:
        def read() -> Iterator[Example]:
            for origin, row in _rows(name, builder, split):
                row = row[parent] if parent else row
                sides = (row[language].decode("utf-8", "replace") for language in (source, target))
                text, translation = (side.strip() for side in sides)
                if text and translation:
                    yield Example({"text": text, "translation": translation}, origin)

        return Stream(read)

    return _parts(name, builder, stream, valid=("validation", "dev")), notes


def captioned_images(name: str, data_dir: str) -> tuple[dict[str, Stream], list[str]]:
    """Returns the parts of a data set of images and their captions, and notes on them.

    Images are the original encoded files. Empty captions are skipped, and so are images
    without any other caption.

    Args:
        name: Name in TensorFlow Datasets, such as those in `CAPTIONED_IMAGES`. The images
            must be the feature `image`; the captions `captions` or `caption`, which is a
            text, a sequence of texts, or a (sequence of) objects with the key `text`.
        data_dir: Folder of prepared data sets; "" for the default one.

    Raises:
        UserError: The data set does not exist or lacks these features, or it is not
            on this machine and cannot be downloaded.
    """
    builder = _prepared(name, data_dir, CAPTIONED_IMAGES)
    from tensorflow_datasets import decode
    from tensorflow_datasets.core.features import Image

    features = dict(builder.info.features)
    if not isinstance(features.get("image"), Image):
        raise UserError(
            f"tfds:{name}: no image feature 'image'; the features are {sorted(features)}."
        )
    key = next((k for k in ("captions", "caption") if _is_texts(features.get(k))), "")
    if not key:
        raise UserError(
            f"tfds:{name}: no feature 'captions' or 'caption' with a text, a sequence of texts, or "
            f"objects with the key 'text'; the features are {sorted(features)}."
        )

    decoders = decode.PartialDecoding(
        {"image": True, key: True}, decoders={"image": decode.SkipDecoding()}
    )

    def stream(split: str) -> Stream:
        def read() -> Iterator[Example]:
            for origin, row in _rows(name, builder, split, decoders):
                texts = row[key]["text"] if isinstance(row[key], dict) else row[key]
                if isinstance(texts, bytes):
                    texts = [texts]
                captions = (text.decode("utf-8", "replace").strip() for text in texts)
                if captions := tuple(filter(None, captions)):
                    yield Example({"image_bytes": row["image"], "captions": captions}, origin)

        return Stream(read)

    return _parts(name, builder, stream, valid=("validation", "val", "dev")), []


def _is_texts(feature: object) -> bool:
    """Whether a feature is a text, a sequence of texts, or objects with the key `text`."""
    from tensorflow_datasets.core.features import FeaturesDict, Tensor

    feature = getattr(feature, "feature", feature)  # the element of a sequence
    if isinstance(feature, FeaturesDict):
        feature = dict(feature).get("text")
    return isinstance(feature, Tensor) and feature.shape == () and feature.tf_dtype == "string"


def _languages(features: Mapping[str, object]) -> tuple[str, list[str]]:
    """Returns the `Translation` feature ("" if languages are top-level) and the languages."""
    from tensorflow_datasets.core.features import Text, Translation

    nested = (key for key, feature in features.items() if isinstance(feature, Translation))
    parent = next(nested, "")
    texts = features[parent] if parent else features
    return parent, sorted(key for key, feature in texts.items() if isinstance(feature, Text))


def _rows(
    name: str, builder: "tfds.core.DatasetBuilder", split: str, decoders: object = None
) -> Iterator[tuple[str, dict]]:
    """Yields the rows of one part, each with its origin."""
    import tensorflow_datasets as tfds

    dataset = builder.as_dataset(split=split, shuffle_files=False, decoders=decoders)
    for number, row in enumerate(tfds.as_numpy(dataset)):
        yield f"tfds:{name}:{split}:{number}", row


def _parts(
    name: str,
    builder: "tfds.core.DatasetBuilder",
    stream: Callable[[str], Stream],
    test: str = "test",
    valid: Sequence[str] = ("validation",),
) -> dict[str, Stream]:
    """Returns the parts of a data set.

    Args:
        name: Name of the data set.
        builder: Its builder.
        stream: Returns the examples of a split of the data set.
        test: Split to use as the test part, if it exists; else `test`.
        valid: Names of splits; the first that exists is the valid part.
    """
    splits = builder.info.splits
    test = test if test in splits else "test"
    names = {
        "train": "train",
        "valid": next((split for split in valid if split in splits and split != test), ""),
        "test": test,
    }
    parts = {part: stream(split) for part, split in names.items() if split in splits}
    if "train" not in parts:
        raise UserError(f"tfds:{name}: no split named 'train'; the splits are {sorted(splits)}.")
    return parts


def _hides_labels(name: str, builder: "tfds.core.DatasetBuilder", label_key: str) -> bool:
    """Whether the test part has no public classes, and a validation part can replace it."""
    has_classes = hasattr(builder.info.features[label_key], "int2str")
    if not has_classes or not {"validation", "test"} <= set(builder.info.splits):
        return False
    first = next((row for _, row in _rows(name, builder, "test")), None)
    return first is not None and int(first[label_key]) < 0


def _class_names(feature: Any) -> Callable[[int, str], str]:
    """Returns what maps the number of a class, and the origin of its example, to its name."""
    name_of = getattr(feature, "int2str", None)

    def class_name(number: int, origin: str) -> str:
        if name_of is None:
            return str(number)
        if number < 0:  # Python would count from the last class
            raise UserError(f"{origin}: the label {number} is that of no class.")
        return name_of(number)

    return class_name


def _prepared(name: str, data_dir: str, examples: Iterable[str]) -> "tfds.core.DatasetBuilder":
    """Returns the builder of a data set whose files are on disk, after downloading if necessary.

    Args:
        name: Name of the data set.
        data_dir: Folder of prepared data sets; "" for the default one.
        examples: Suitable data sets, for messages.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"tfds:{name} requires the package tensorflow-datasets, which is not installed."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"tfds: no data set {name!r}, neither on disk nor available for download. Examples are "
            f"{sorted(examples)}; https://www.tensorflow.org/datasets lists all."
        ) from error
    except (ValueError, AssertionError) as error:  # an unknown config or version
        raise UserError(f"tfds:{name}: {error}") from error
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        except Exception as error:  # network, server and disk errors have many types
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(
                f"tfds:{name} is not on this machine and cannot be downloaded: {reason}\n"
                "To work offline, prepare it on a machine with network access\n"
                f'  (python -c "import tensorflow_datasets as t; t.load({name!r}, data_dir=DIR)"), '
                "copy DIR to this machine and pass --tfds-dir DIR."
            ) from error
    return builder
