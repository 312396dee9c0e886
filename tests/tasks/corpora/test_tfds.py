"""TensorFlow Datasets by name, tested with small prepared data sets."""

import importlib
import io

import numpy as np
import pytest
from PIL import Image

from app import train
from tasks.core.errors import UserError
from tasks.core.examples import PARTS
from tasks.corpora.captioned_images import CaptionedImages
from tasks.corpora.labelled_text import LabelledTexts
from tasks.corpora.parallel_text import ParallelSentences
from tasks.corpora.tagged_sentences import TaggedSentences
from tests.conftest import SMALL, where
from tests.support.cells import slow_except

tfds = pytest.importorskip("tensorflow_datasets")
conll = "tensorflow_datasets.core.dataset_builders.conll"
shared_task = importlib.import_module(f"{conll}.conll_dataset_builder_utils")
universal = importlib.import_module(f"{conll}.conllu_dataset_builder_utils")

# Data sets as their builders declare them: version, config, features, splits.
LABELS = tfds.features.ClassLabel
PREPARED = {
    "imdb_reviews": (
        "1.0.0",
        "plain_text",
        "text",
        LABELS(names=["neg", "pos"]),
        ["train", "test"],
    ),
    "glue/sst2": (
        "2.0.0",
        "sst2",
        "sentence",
        LABELS(names=["negative", "positive"]),
        ["train", "validation", "test"],
    ),
    "yelp_polarity_reviews": ("0.2.0", None, "text", LABELS(names=["1", "2"]), ["train", "test"]),
    "sentiment140": ("1.0.0", None, "text", None, ["train", "test"]),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Returns a folder of small prepared data sets of labelled texts."""
    folder = tmp_path_factory.mktemp("tfds")
    for name, (version, config, text, label, parts) in PREPARED.items():
        key = "polarity" if label is None else "label"
        features = {text: tfds.features.Text(), key: label or tfds.features.Scalar(np.int32)}
        if name == "glue/sst2":
            features["idx"] = tfds.features.Scalar(np.int32)
        others = ("date", "user", "query") if name == "sentiment140" else ()
        features |= {other: tfds.features.Text() for other in others}

        def rows(part, text=text, key=key, name=name, others=others):
            for n in range(60 if part == "train" else 12):
                row = {text: f"{'good' if n % 2 else 'dull'} film {n} {part}", key: n % 2}
                row |= dict.fromkeys(others, "")
                if name == "sentiment140":
                    row[key] = 2 if part == "test" and n == 5 else 4 * (n % 2)
                if name == "glue/sst2":
                    row |= {"idx": n} | ({key: -1} if part == "test" else {})
                yield row

        tfds.dataset_builders.store_as_tfds_dataset(
            name=name.split("/")[0],
            config=config,
            version=version,
            features=tfds.features.FeaturesDict(features),
            split_datasets={part: list(enumerate(rows(part))) for part in parts},
            data_dir=str(folder),
        )
    return folder


@pytest.mark.parametrize("name", PREPARED)
def test_a_data_set_is_read_by_name(prepared, name):
    splits = LabelledTexts(data=f"tfds:{name}", tfds_dir=str(prepared)).open()
    read = {part: list(getattr(splits, part)) for part in PARTS}
    assert len(read["train"]) + len(read["valid"]) == 60
    assert len(read["test"]) == 12
    assert any("no valid part" in note for note in splits.notes)
    labels = {e.values["label"] for e in read["train"]}
    assert (
        labels
        == {
            "imdb_reviews": {"neg", "pos"},
            "glue/sst2": {"negative", "positive"},
            "yelp_polarity_reviews": {"1", "2"},
            "sentiment140": {"0", "4"},
        }[name]
    )
    evaluated = "validation" if name == "glue/sst2" else "test"
    texts = {f"{'good' if n % 2 else 'dull'} film {n} {evaluated}" for n in range(12)}
    assert {e.values["text"] for e in read["test"]} == texts
    assert read["test"][0].origin == f"tfds:{name}:{evaluated}:0"


@pytest.mark.parametrize(
    "splits", [["train", "validation", "test"], ["train", "test"], ["train", "validation"]]
)
def test_hidden_labels_are_never_those_of_the_last_class(tmp_path, splits):
    features = tfds.features.FeaturesDict(
        {"sentence": tfds.features.Text(), "label": LABELS(names=["bad", "good"])}
    )

    def rows(part):
        count = 40 if part == "train" else 6
        for n in range(count):
            yield {"sentence": f"{part} {n}", "label": -1 if part == "test" else n % 2}

    tfds.dataset_builders.store_as_tfds_dataset(
        name="hidden",
        version="1.0.0",
        features=features,
        split_datasets={part: list(enumerate(rows(part))) for part in splits},
        data_dir=str(tmp_path),
    )
    opened = LabelledTexts(data="tfds:hidden", tfds_dir=str(tmp_path), text_key="sentence").open()
    is_noted = any("labels of its test part are not public (-1)" in n for n in opened.notes)
    assert is_noted == (len(splits) == 3)
    if is_noted:
        assert {e.values["text"].split()[0] for e in opened.test} == {"validation"}
    elif "test" not in splits:
        assert {e.values["label"] for e in opened.test} <= {"bad", "good"}
    else:
        with pytest.raises(
            UserError, match=r"tfds:hidden:test:0: the label -1 is that of no class"
        ):
            list(opened.test)


def test_a_replaced_test_part_is_noted(prepared):
    notes = LabelledTexts(data="tfds:glue/sst2", tfds_dir=str(prepared)).open().notes
    assert "labels of its test part are not public (-1)" in notes[0]


@pytest.mark.parametrize("name", slow_except(["imdb_reviews"], ["imdb_reviews", "sentiment140"]))
def test_a_data_set_trains_by_name(prepared, tmp_path, capsys, name):
    data = ["--data", f"tfds:{name}", "--tfds-dir", str(prepared)]
    version = train.main(["sentiment", *data, *SMALL, *where(tmp_path)])
    assert version == tmp_path / "saved_models" / "sentiment" / "1"
    note = "test: 1 of 12 examples skipped: the train part has no class '2'"
    assert (note in capsys.readouterr().out) == (name == "sentiment140")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": "tfds:no_such_set"}, r"no data set 'no_such_set'.*Examples are"),
        ({"data": "tfds:glue/no_such"}, "tfds:glue/no_such"),
        (
            {"data": "tfds:imdb_reviews", "text_key": "review"},
            r"no feature 'review'; the features are \['label'",
        ),
        ({"data": "tfds:imdb_reviews", "label_key": "stars"}, "Select one with --label-key"),
    ],
)
def test_an_unknown_name_is_reported(prepared, flags, message):
    with pytest.raises(UserError, match=message):
        LabelledTexts(**flags, tfds_dir=str(prepared)).open()


def test_a_failed_download_is_reported_with_a_way_to_work_offline(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    with pytest.raises(
        UserError, match=r"cannot be downloaded: no route(.|\n)*offline(.|\n)*--tfds-dir"
    ):
        LabelledTexts(data="tfds:imdb_reviews", tfds_dir=str(tmp_path)).open()


# Tagged sentences, with the features that their builders declare.
TEXTS = tfds.features.Sequence(tfds.features.Text())
# "Du moulin"; the range and the empty node are rows too, and must be skipped.
ROWS = {
    "tokens": ["Du", "De", "le", "moulin", "blanc"],
    "lemmas": ["_", "de", "le", "moulin", "blanc"],
    "upos": ["_", "ADP", "DET", "NOUN", "NOUN"],
    "xpos": ["None", "P", "D", "N", "A"],
    "feats": ["None"] * 5,
    "head": ["None", "3", "3", "0", "None"],
    "deprel": ["_", "case", "det", "root", "_"],
    "deps": ["None"] * 5,
    "misc": ["None"] * 5,
    "idx": "1",
    "text": "Du moulin",
}
NEWS = {
    "tokens": ["De", "le", "moulin"],
    "pos": ["IN", "DT", "NN"],
    "chunks": ["B-PP", "B-NP", "I-NP"],
    "ner": ["O", "O", "B-LOC"],
}
TAGGED = {  # version, config, features, a row, splits, the expected tags
    "universal_dependencies/fr_gsd": (
        "1.0.1",
        "fr_gsd",
        universal.UNIVERSAL_DEPENDENCIES_FEATURES,
        ROWS,
        ["train", "dev", "test"],
        ("ADP", "DET", "NOUN"),
    ),
    "conll2003": (
        "1.0.0",
        "conll2003",
        shared_task.CONLL_2003_ORDERED_FEATURES,
        NEWS,
        ["train", "dev", "test"],
        ("IN", "DT", "NN"),
    ),
    "xtreme_pos/xtreme_pos_fr": (
        "1.0.0",
        "xtreme_pos_fr",
        universal.XTREME_POS_FEATURES,
        {"tokens": ["De", "le", "moulin"], "upos": ["ADP", "DET", "NOUN"]},
        ["train", "dev", "test"],
        ("ADP", "DET", "NOUN"),
    ),
    "my_words": (
        "1.0.0",
        None,
        {"tokens": TEXTS, "tags": TEXTS},
        {"tokens": ["De", "le", "moulin"], "tags": ["a", "b", "c"]},
        ["train", "validation"],
        ("a", "b", "c"),
    ),
}


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """Returns a folder of small prepared data sets of tagged sentences."""
    folder = tmp_path_factory.mktemp("tfds")
    for name, (version, config, features, row, parts, _) in TAGGED.items():
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name.split("/")[0],
            config=config,
            version=version,
            features=tfds.features.FeaturesDict(dict(features)),
            split_datasets={part: [(k, row) for k in range(n + 1)] for n, part in enumerate(parts)},
            data_dir=str(folder),
        )
    return folder


@pytest.mark.parametrize("name", TAGGED)
def test_tagged_sentences_are_read_by_name(tagged, name):
    *_, parts, tags = TAGGED[name]
    splits = TaggedSentences(data=f"tfds:{name}", tfds_dir=str(tagged)).open()
    assert any("no test part" in note for note in splits.notes) == ("test" not in parts)
    for count, part in ((2, "valid"), (3, "test"))[: len(parts) - 1]:
        examples = list(getattr(splits, part))
        assert len(examples) == count
        assert {e.values["tokens"] for e in examples} == {("De", "le", "moulin")}
        assert {e.values["tags"] for e in examples} == {tags}
        assert examples[1].origin.startswith(f"tfds:{name}:{parts[count - 1]}:")


@pytest.mark.parametrize(
    ("name", "flags", "tags"),
    [
        ("universal_dependencies/fr_gsd", {"tags": "deprel"}, ("case", "det", "root")),
        ("universal_dependencies/fr_gsd", {"tags": "lemma"}, ("lower¦-0+¦-0+",) * 3),
        ("universal_dependencies/fr_gsd", {"tags_key": "xpos"}, ("P", "D", "N")),
        ("conll2003", {"tags_key": "ner"}, ("O", "O", "B-LOC")),
    ],
)
def test_other_tags_of_a_data_set_can_be_named(tagged, name, flags, tags):
    splits = TaggedSentences(data=f"tfds:{name}", tfds_dir=str(tagged), **flags).open()
    assert {example.values["tags"] for example in splits.test} == {tags}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": "tfds:no_such_set"}, r"no data set 'no_such_set'.*universal_dependencies/en_ewt"),
        (
            {"tags": "deprel"},
            r"no sequence feature 'deprel'; .* are \['chunks', 'ner', 'pos', 'tokens'\]",
        ),
        ({"tags_key": "chunk"}, "no sequence feature 'chunk'; .* Select one with --tags-key"),
        ({"tokens_key": "words"}, "no sequence feature 'words'; .* Select one with --tokens-key"),
    ],
)
def test_an_unknown_name_of_tagged_sentences_is_reported(tagged, flags, message):
    with pytest.raises(UserError, match=message):
        TaggedSentences(**{"data": "tfds:conll2003", **flags}, tfds_dir=str(tagged)).open()


# Sentences and translations, with the features that their builders declare.
def languages(*names):
    return tfds.features.Translation(languages=names)


TRANSLATED = {  # version, config, features, splits, the declared input and target
    "ted_hrlr_translate/pt_to_en": (
        "1.0.0",
        "pt_to_en",
        languages("pt", "en"),
        ["train", "validation", "test"],
        ("pt", "en"),
    ),
    "wmt14_translate/de-en": (
        "1.0.0",
        "de-en",
        languages("de", "en"),
        ["train", "validation", "test"],
        ("de", "en"),
    ),
    "opus/medical": ("0.1.0", "medical", languages("de", "en"), ["train"], ("de", "en")),
    "my_subtitles": (
        "1.0.0",
        None,
        tfds.features.FeaturesDict(
            {"n": np.int32, "translation": languages("cs", "de", "en"), "by": tfds.features.Text()}
        ),
        ["train", "dev"],
        None,
    ),
    "my_columns": (
        "1.0.0",
        None,
        tfds.features.FeaturesDict(
            {"cs": tfds.features.Text(), "n": np.int32, "en": tfds.features.Text()}
        ),
        ["train", "validation", "test"],
        None,
    ),
}


@pytest.fixture(scope="module")
def translated(tmp_path_factory):
    """Returns a folder of prepared data sets of translations; the first pair has an empty side."""
    folder = tmp_path_factory.mktemp("tfds")

    def row(features, part, n):
        values = {code: f" {code} {part} {n}\u00a0" for code in ("cs", "de", "en", "pt")}
        values |= {"n": n, "by": "me"}
        if n == 0:
            values["en"] = " "
        return {
            key: row(features[key], part, n) if key == "translation" else values[key]
            for key in features
        }

    for name, (version, config, features, parts, _) in TRANSLATED.items():
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name.split("/")[0],
            config=config,
            version=version,
            features=features,
            split_datasets={
                part: [(n, row(features, part, n)) for n in range(count)]
                for count, part in enumerate(parts, start=3)
            },
            data_dir=str(folder),
        )
    return folder


@pytest.mark.parametrize("name", TRANSLATED)
def test_translations_are_read_by_name(translated, name):
    *_, parts, pair = TRANSLATED[name]
    directions = [("en", "cs"), ("cs", "en")] if pair is None else [(), pair, pair[::-1]]
    for direction in directions:
        flags = dict(zip(("source", "target"), direction, strict=False))
        corpus = ParallelSentences(data=f"tfds:{name}", tfds_dir=str(translated), **flags)
        splits, (source, target) = corpus.open(), direction or pair
        note = f"tfds:{name}: translating from {source} into {target}"
        assert (note in splits.notes) == (not direction)
        assert any("no test part" in note for note in splits.notes) == ("test" not in parts)
        for index, part in list(enumerate(PARTS))[1 : len(parts)]:
            examples = [*getattr(splits, part)]
            assert sorted((e.values["text"], e.values["translation"]) for e in examples) == [
                (f"{source} {parts[index]} {n}", f"{target} {parts[index]} {n}")
                for n in range(1, index + 3)
            ]
            assert all(e.origin.startswith(f"tfds:{name}:{parts[index]}:") for e in examples)
        read = [example for part in PARTS for example in getattr(splits, part)]
        assert len(read) == sum(n + 2 for n in range(len(parts)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": "tfds:no_such_set"}, r"no data set 'no_such_set'.*ted_hrlr_translate/pt_to_en"),
        (
            {"source": "pt", "target": "fr"},
            r"--target must be one of its languages, \['en', 'pt'\], got 'fr'",
        ),
        ({"source": "fr", "target": "en"}, r"--source must be one of its languages, .* got 'fr'"),
        (
            {"data": "tfds:my_subtitles"},
            r"choose two of \['cs', 'de', 'en'\] with --source and",
        ),
        (
            {"data": "tfds:my_columns", "source": "n", "target": "en"},
            r"--source must be one of its languages, \['cs', 'en'\], got 'n'",
        ),
    ],
)
def test_an_unknown_name_of_translations_is_reported(translated, flags, message):
    flags = {"data": "tfds:ted_hrlr_translate/pt_to_en", **flags}
    with pytest.raises(UserError, match=message):
        ParallelSentences(**flags, tfds_dir=str(translated)).open()


# Images and captions, with the features that their builders declare.
PICTURES = {"image": tfds.features.Image(), "image/filename": tfds.features.Text()}
CAPTIONED = {  # version, config, features in addition to `PICTURES`, splits
    "coco_captions/2014": (
        "1.1.0",
        "2014",
        {
            "captions": tfds.features.Sequence({"text": np.str_, "id": np.int64}),
            "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()}),
        },
        ["train", "val", "test", "restval"],
    ),
    "my_photos": ("1.0.0", None, {"captions": TEXTS}, ["train", "validation"]),
    "my_drawings": ("1.0.0", None, {"caption": tfds.features.Text()}, ["train"]),
    "my_scans": ("1.0.0", None, {"caption": {"text": np.str_, "by": np.str_}}, ["train", "dev"]),
    "bad_photos": ("1.0.0", None, {"caption": tfds.features.Text()}, ["train", "test"]),
}
NOT_CAPTIONED = {  # features in addition to `n`
    "no_image": {"image": tfds.features.Text(), "caption": tfds.features.Text()},
    "no_caption": {"image": tfds.features.Image(), "label": tfds.features.Text()},
    "numbers": {"image": tfds.features.Image(), "captions": tfds.features.Sequence(np.int64)},
}


def photo(part, n):
    """Returns a file that decoding and re-encoding would change."""
    file = io.BytesIO()
    image = Image.new("RGB", (8, 8), (n, 9 * len(part), 90))
    image.save(file, "JPEG" if n % 2 else "PNG", comment="as it was")
    return file.getvalue()


def captions_of(name, part, n):
    """Returns the stored captions of an image; those of the first image are all empty."""
    texts = [f" {part} {n} é\u00a0", "", f"{part} again"] if n else [" ", ""]
    return {
        "coco_captions/2014": [{"text": text, "id": at} for at, text in enumerate(texts)],
        "my_photos": texts,
        "my_scans": {"text": texts[0], "by": "me"},
    }.get(name, texts[0])


@pytest.fixture(scope="module")
def with_captions(tmp_path_factory):
    """Returns a folder of small prepared data sets of captioned images."""
    folder = tmp_path_factory.mktemp("tfds")

    def store(name, version, config, features, parts):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name.split("/")[0],
            config=config,
            version=version,
            features=tfds.features.FeaturesDict(features),
            split_datasets={part: list(enumerate(rows)) for part, rows in parts.items()},
            data_dir=str(folder),
        )

    for name, (version, config, features, parts) in CAPTIONED.items():
        key = "captions" if "captions" in features else "caption"
        rows = {
            part: [
                {"image": photo(part, n), "image/filename": f"{n}", "objects": []}
                | {key: captions_of(name, part, n)}
                for n in range(count)
            ]
            for count, part in enumerate(parts, start=4)
        }
        if name == "bad_photos":
            rows["test"][2]["image"] = photo("test", 2)[:-20]
        features = PICTURES | features
        rows = {
            part: [{key: row[key] for key in features} for row in part_rows]
            for part, part_rows in rows.items()
        }
        store(name, version, config, features, rows)
    for name, features in NOT_CAPTIONED.items():
        row = {"image": photo("", 1) if name != "no_image" else "", "n": 1}
        row |= {"caption": "", "label": "", "captions": [1]}
        features = features | {"n": np.int64}
        store(name, "1.0.0", None, features, {"train": [{key: row[key] for key in features}]})
    return folder


@pytest.mark.parametrize("name", [name for name in CAPTIONED if name != "bad_photos"])
def test_captioned_images_are_read_by_name(with_captions, name):
    *_, parts = CAPTIONED[name]
    single = not isinstance(captions_of(name, "", 1), list)
    splits = CaptionedImages(data=f"tfds:{name}", tfds_dir=str(with_captions)).open()
    assert any("no valid part" in note or "no test" in note for note in splits.notes) == (
        len(parts) < 3
    )
    assert len(splits.notes) == (len(parts) < 3)
    for index, part in list(enumerate(PARTS))[1 : len(parts)]:
        read = {example.origin: example.values for example in getattr(splits, part)}
        assert len(read) == index + 3
        for n in range(1, index + 4):
            texts = (f"{parts[index]} {n} é", f"{parts[index]} again")
            values = {
                "image_bytes": photo(parts[index], n),
                "captions": texts[:1] if single else texts,
            }
            assert values in read.values()
        assert all(origin.startswith(f"tfds:{name}:{parts[index]}:") for origin in read)
    whole = [example.values["image_bytes"] for part in PARTS for example in getattr(splits, part)]
    assert sorted(whole) == sorted(
        photo(part, n) for count, part in enumerate(parts[:3], start=4) for n in range(1, count)
    )


def test_a_bad_image_of_a_data_set_is_reported_or_skipped(with_captions):
    flags = {"data": "tfds:bad_photos", "tfds_dir": str(with_captions)}
    with pytest.raises(UserError, match=r"^tfds:bad_photos:test:\d is broken: .*; use --skip-bad"):
        CaptionedImages(**flags).open()
    splits = CaptionedImages(**flags, skip_bad=True).open()
    note = "tfds:bad_photos: skipped 1 bad images or captions, kept 3 images: tfds:bad_photos:t"
    assert splits.notes[0].startswith(note)
    read = sorted(example.values["image_bytes"] for example in splits.test)
    assert read == sorted(photo("test", n) for n in (1, 3, 4))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_set", r"no data set 'no_such_set'.*Examples are \['coco_captions'\]"),
        (
            "no_image",
            r"^tfds:no_image: no image feature 'image'; the features are "
            r"\['caption', 'image', 'n'\].$",
        ),
        (
            "no_caption",
            r"^tfds:no_caption: no feature 'captions' or 'caption' with a text, a sequence of "
            r"texts, or objects with the key 'text'; the features are \['image', 'label', 'n'\].$",
        ),
        ("numbers", r"^tfds:numbers: no feature 'captions' or 'caption' with a text, "),
    ],
)
def test_an_unknown_name_of_captioned_images_is_reported(with_captions, name, message):
    with pytest.raises(UserError, match=message):
        CaptionedImages(data=f"tfds:{name}", tfds_dir=str(with_captions)).open()
