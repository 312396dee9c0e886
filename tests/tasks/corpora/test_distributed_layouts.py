"""Corpora as they are distributed: Kaggle's Flickr8k, CoNLL-2003, and parallel .csv files."""

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
    "header": ('source,target\n"Hello, you","Hallo, du"\none,eins\n', {}, "',', column 1 is"),
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


def test_other_files_precede_parallel_csv(tmp_path):
    (tmp_path / "train.csv").write_text("a,b\n")
    (tmp_path / "pairs.tsv").write_text("c\td\n")
    examples, _ = train(ParallelSentences(data=str(tmp_path)))
    assert [example.values["text"] for example in examples] == ["c"]
    with pytest.raises(UserError, match=r"train.csv:2: expected 2 columns as above, got 1"):
        (tmp_path / "train.csv").write_text("a,b\nc\n")
        train(ParallelSentences(data=str(tmp_path / "train.csv")))
