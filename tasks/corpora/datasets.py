"""Corpora of TensorFlow Datasets, by name: `tfds:imdb_reviews`."""

import dataclasses
from collections.abc import Iterator

from tasks import UserError
from tasks.corpora import Example, Stream


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
    builder = _prepared(name, data_dir)
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
            import tensorflow_datasets as tfds

            rows = tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))
            for number, row in enumerate(rows):
                label = row[label_key]
                label = label.decode() if isinstance(label, bytes) else label_of(int(label))
                text = row[text_key].decode("utf-8", "replace").strip()
                yield Example({"text": text, "label": label}, f"tfds:{name}:{split}:{number}")

        return Stream(read)

    splits = builder.info.splits
    test = known.test if known.test in splits else "test"
    wanted = {"train": "train", "valid": "validation", "test": test}
    if wanted["valid"] == wanted["test"]:
        del wanted["valid"]
    parts = {part: stream(split) for part, split in wanted.items() if split in splits}
    if "train" not in parts:
        raise UserError(f"tfds:{name} has no part called train, only {sorted(splits)}.")
    return parts, [f"tfds:{name}: {known.note}"] if known.note else []


def _prepared(name, data_dir):
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
            f"{sorted(LABELLED_TEXTS)} and all that https://www.tensorflow.org/datasets lists."
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
