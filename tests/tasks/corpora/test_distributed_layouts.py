"""Corpora as they are distributed: those of Kaggle, CoNLL-2003, and parallel .csv files."""

import csv
import io
import zipfile

import pytest

from tasks.core.errors import UserError
from tasks.core.examples import PARTS
from tasks.corpora.captioned_images import CaptionedImages
from tasks.corpora.parallel_text import ParallelSentences
from tasks.corpora.samples import scenes
from tasks.corpora.tagged_sentences import TaggedSentences


def train(corpus):
    parts, notes = corpus._existing_parts()
    return list(parts["train"]), [*notes, *parts["train"].notes()]


def test_flickr8k_of_kaggle_is_read(tmp_path):
    (tmp_path / "Images").mkdir()
    for name, example in zip(("a.png", "b.png"), scenes.parts()["train"], strict=False):
        (tmp_path / "Images" / name).write_bytes(example.values["image_bytes"])
    (tmp_path / "captions.txt").write_text(
        'image,caption\na.png,A dog runs .\na.png,"A black dog, ""Rex"" ."\nb.png,One, two .\n'
    )
    for path in (tmp_path, tmp_path / "captions.txt"):
        examples, _ = train(CaptionedImages(data=str(path)))
        captions = [example.values["captions"] for example in examples]
        assert captions == [("A dog runs .", 'A black dog, "Rex" .'), ("One, two .",)]
    (tmp_path / "captions.tsv").write_text("Images/b.png\tprecedes\n")
    examples, _ = train(CaptionedImages(data=str(tmp_path)))
    assert [example.values["captions"] for example in examples] == [("precedes",)]
    (tmp_path / "captions.tsv").unlink()
    (tmp_path / "captions.txt").write_text("image,caption\na.png\n")
    with pytest.raises(UserError, match=r"captions.txt:2: expected the path of an image, a comma"):
        train(CaptionedImages(data=str(tmp_path)))


def test_conll_2003_is_read(tmp_path):
    words = "-DOCSTART- -X- O O\n\n{} NNP I-NP I-ORG\nrejects VBZ I-VP O\n\n"
    for suffix in ("train", "testa", "testb"):
        (tmp_path / f"eng.{suffix}").write_text(words.format(suffix))
    (tmp_path / "README.txt").write_text("about the corpus")
    splits = TaggedSentences(data=str(tmp_path)).open()
    for part, first in zip(PARTS, ("train", "testa", "testb"), strict=True):
        last = list(getattr(splits, part))[-1].values
        assert last == {"tokens": (first, "rejects"), "tags": ("I-ORG", "O")}
    assert not splits.notes
    (tmp_path / "train.conll").write_text("precedes O\n")
    examples, _ = train(TaggedSentences(data=str(tmp_path)))
    assert [example.values["tokens"] for example in examples] == [("precedes",)]


PAIRS = [("Hello, you", "Hallo, du"), ("one", "eins")]
CSV = {
    "commas": ('"Hello, you","Hallo, du"\none,eins\n', {}, "',', column 1 is"),
    "header": (
        'source,target\n"Hello, you","Hallo, du"\none,eins\n',
        {},
        "',', the first row is a header: source is the source and target the target",
    ),
    "languages": (
        'EN;de\n"Hello, you";Hallo, du\none;eins\n',
        {},
        "';', the first row is a header: EN is the source and de the target",
    ),
    "names of languages": (
        'English words/sentences,German words/sentences\n"Hello, you","Hallo, du"\none,eins\n',
        {},
        "',', the first row is a header: English words/sentences is the source",
    ),
    "languages and tabs": (
        "en\tde\nHello, you\tHallo, du\none\teins\n",
        {},
        "tabs, the first row is a header: en is the source and de the target",
    ),
    "semicolons": ('"Hello, you";Hallo, du\none;eins\n', {}, "';', column 1 is the source and 2"),
    "names": (
        'id;de;en\n1;"Hallo,\n du";Hello, you\n2;eins;one\n',
        {"source": "en", "target": "de"},
        "';', column en is the source and de the target",
    ),
    "tabs": ("Hello, you\tHallo, du\none\teins\n", {}, ""),
}


@pytest.mark.parametrize("name", CSV)
def test_parallel_csv_is_read(tmp_path, name):
    content, flags, note = CSV[name]
    (tmp_path / "pairs.csv").write_text(content)
    for path in (tmp_path, tmp_path / "pairs.csv"):
        examples, notes = train(ParallelSentences(data=str(path), **flags))
        assert [(e.values["text"], e.values["translation"]) for e in examples] == PAIRS
        assert bool(note) == bool(notes) and all(
            text.startswith(f"pairs.csv: separated by {note}") for text in notes
        )


def test_a_header_of_parallel_tsv_is_skipped_and_reported(tmp_path):
    path = tmp_path / "pairs.tsv"
    pairs = "Hello, you\tHallo, du\none\teins\n"
    note = "pairs.tsv: separated by tabs, the first row is a header: "
    for header, flags, notes in (
        ("en\tde\n", {}, [f"{note}en is the source and de the target"]),
        ("en\tde\n", {"source": "en", "target": "de"}, []),  # flags name the columns
        ("\nSource \tTarget\n", {}, [f"{note}Source is the source and Target the target"]),
        ("", {}, []),
    ):
        path.write_text(header + pairs)
        examples, given = train(ParallelSentences(data=str(path), **flags))
        assert [(e.values["text"], e.values["translation"]) for e in examples] == PAIRS
        assert given == notes
    for first in ("no\tno", "the\tde", "english\tfrancais", "text\tText"):  # pairs of words
        path.write_text(f"{first}\n{pairs}")
        assert len(train(ParallelSentences(data=str(path)))[0]) == 3


def test_other_files_precede_parallel_csv(tmp_path):
    (tmp_path / "train.csv").write_text("a,b\n")
    (tmp_path / "pairs.tsv").write_text("c\td\n")
    examples, _ = train(ParallelSentences(data=str(tmp_path)))
    assert [example.values["text"] for example in examples] == ["c"]
    with pytest.raises(UserError, match=r"train.csv:2: expected 2 columns as above, got 1"):
        (tmp_path / "train.csv").write_text("a,b\nc\n")
        train(ParallelSentences(data=str(tmp_path / "train.csv")))


NER = [
    "Sentence #,Word,POS,Tag",
    'Sentence: 1,"""",``,O',
    ",Müller,NNP,B-per",
    ',",",",",O',
    ",,NN,O",
    "Sentence: 2,Genève,NNP,B-geo",
    "Sentence: 2,sleeps,VBZ,O",
]
SENTENCES = [(('"', "Müller", ","), ("O", "B-per", "O")), (("Genève", "sleeps"), ("B-geo", "O"))]


def words_and_tags(examples):
    return [(example.values["tokens"], example.values["tags"]) for example in examples]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_entities_of_kaggle_are_read(tmp_path, separator, encoding):
    rows = ("\n".join(NER) + "\n").encode(encoding)
    if separator != ",":
        fields = [list(row) for row in csv.reader(rows.decode(encoding).splitlines())]
        with io.StringIO(newline="") as file:
            csv.writer(file, delimiter=separator).writerows(fields)
            rows = file.getvalue().encode(encoding)
    (tmp_path / "ner_dataset.csv").write_bytes(rows)
    (tmp_path / "ner.csv").write_text("lemma,word,tag\n")  # next to it in Kaggle's archive
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("ner_dataset.csv", rows)
    for path in (tmp_path, tmp_path / "ner_dataset.csv", tmp_path / "archive.zip"):
        examples, notes = train(TaggedSentences(data=str(path)))
        assert words_and_tags(examples) == SENTENCES
        assert [example.origin.rpartition(":")[2] for example in examples] == ["2", "6"]
        assert ("read as Windows-1252" in notes[0]) == (encoding == "latin-1")
        assert notes[-2:] == [
            "ner_dataset.csv: words in column Word, tags in Tag",
            "ner_dataset.csv: rows without a word, which are left out: 1",
        ]


COLUMN_FLAGS = [
    ({"tags": "xpos"}, ("``", "NNP", ",")),
    ({"tags_key": "pos"}, ("``", "NNP", ",")),
    ({"tags_key": "3"}, ("``", "NNP", ",")),
    ({"tags_key": "Word", "tokens_key": "4"}, ('"', "Müller", ",")),
]


@pytest.mark.parametrize(("flags", "expected"), COLUMN_FLAGS)
def test_columns_of_a_table_of_words_are_selected(tmp_path, flags, expected):
    path = tmp_path / "words.csv"
    path.write_text("\n".join(row for row in NER if row != ",,NN,O"), encoding="utf-8")
    examples, _ = train(TaggedSentences(data=str(path), **flags))
    assert examples[0].values["tags"] == expected


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        ([*NER[:3], ",a"], {}, r"words.csv:4: expected 4 columns as in the header, got 2\."),
        ([*NER[:3], ",a,NN,"], {}, r"words.csv:4: the tag is empty"),
        (NER[:2], {"tags_key": "ner"}, r"words.csv:1: --tags-key must be one of .*got 'ner'"),
        (NER[:2], {"tags_key": "5"}, r"words.csv:1: --tags-key must be one of .*got '5'"),
        (NER[:2], {"tags": "feats"}, r"words.csv: --tags feats names a column of CoNLL-U"),
        (["Sentence #,Word", "1,a"], {}, r"words.csv:1: --tags-key .*\['Sentence #', 'Word'\]"),
        ([*NER[:2], '1,"a"b,NN,O'], {}, r"words.csv:3: not valid CSV"),
        (NER[:1], {}, r"words.csv: .*no examples"),
    ],
)
def test_invalid_tables_of_words_are_rejected(tmp_path, rows, flags, message):
    path = tmp_path / "words.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        train(TaggedSentences(data=str(path), **flags))


def test_tables_of_words_are_parts_and_other_files_precede_them(tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text(f"Sentence #,Word,Tag\n1,{part},O\n")
    splits = TaggedSentences(data=str(tmp_path)).open()
    assert words_and_tags(splits.test) == [(("test",), ("O",))]
    (tmp_path / "words.conll").write_text("precedes O\n")
    examples, _ = train(TaggedSentences(data=str(tmp_path)))
    assert words_and_tags(examples) == [(("precedes",), ("O",))]
