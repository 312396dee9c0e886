"""Links that lead out of a corpus are read only with --follow-links."""

import pytest

from tasks.core.errors import UserError
from tasks.corpora.captioned_images import CaptionedImages
from tasks.corpora.labelled_text import LabelledTexts
from tasks.corpora.samples import scenes

TEXTS = {"a.txt": "a fine film", "b.txt": "a superb film"}


@pytest.fixture
def secret(tmp_path):
    """Files beside the corpus, which links refer to."""
    folder = tmp_path / "secret"
    (folder / "pos").mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / "pos" / name).write_text(text)
    (folder / "train.tsv").write_text("a fine film\tgood\na dull film\tbad\n")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(picture())
    return folder


@pytest.fixture
def corpus(tmp_path):
    """Class folders, of which one is missing."""
    folder = tmp_path / "corpus"
    (folder / "train" / "neg").mkdir(parents=True)
    (folder / "train" / "neg" / "a.txt").write_text("a dull film")
    return folder


def picture():
    return next(iter(scenes.parts()["train"])).values["image_bytes"]


def texts(data, **settings):
    corpus = LabelledTexts(data=str(data), **settings)
    parts, _ = corpus._existing_parts()
    return sorted(example.values["text"] for example in parts["train"])


def refused(data, link, cls=LabelledTexts):
    """The corpus is an error that names the link, and is read with --follow-links."""
    with pytest.raises(UserError) as error:
        list(cls(data=str(data))._existing_parts()[0]["train"])
    assert f"{link}: this link leads out of the corpus, to " in str(error.value)
    assert "--follow-links reads it." in str(error.value) or cls is CaptionedImages
    assert list(cls(data=str(data), follow_links=True)._existing_parts()[0]["train"])


def test_a_link_to_a_folder_of_a_class_is_refused(corpus, secret):
    (corpus / "train/pos").symlink_to(secret / "pos")
    refused(corpus, corpus / "train/pos")
    assert texts(corpus, follow_links=True) == ["a dull film", "a fine film", "a superb film"]


def test_a_link_to_a_text_is_refused(corpus, secret):
    (corpus / "train/pos").mkdir()
    (corpus / "train/pos/a.txt").symlink_to(secret / "pos/a.txt")
    refused(corpus, corpus / "train/pos/a.txt")


def test_a_link_to_a_table_is_refused(tmp_path, secret):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/train.tsv").symlink_to(secret / "train.tsv")
    refused(tmp_path / "tables", tmp_path / "tables/train.tsv")
    refused(tmp_path / "tables" / "*.tsv", tmp_path / "tables/train.tsv")


def test_a_link_to_the_only_folder_is_refused(tmp_path, secret):
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer/inner").symlink_to(secret)
    refused(tmp_path / "outer", tmp_path / "outer/inner")


def test_links_that_stay_inside_are_read(corpus, secret):
    (corpus / "texts").mkdir()
    (corpus / "texts/a.txt").write_text("a fine film")
    (corpus / "train/pos").symlink_to("../texts")
    (corpus / "train/neg/b.txt").symlink_to(corpus / "train/neg/a.txt")
    assert texts(corpus) == ["a dull film", "a dull film", "a fine film"]


def test_a_corpus_that_is_given_as_a_link_is_read(tmp_path, corpus, secret):
    (corpus / "train/pos").mkdir()
    (corpus / "train/pos/a.txt").write_text("a fine film")
    (tmp_path / "link").symlink_to(corpus)
    (tmp_path / "link.tsv").symlink_to(secret / "train.tsv")
    assert texts(tmp_path / "link") == ["a dull film", "a fine film"]
    assert len(texts(tmp_path / "link.tsv")) == 2
    assert len(texts("sample", train=str(tmp_path / "link.tsv"))) == 2


def test_a_relative_path_is_read(corpus, monkeypatch):
    (corpus / "train/pos").mkdir()
    (corpus / "train/pos/a.txt").write_text("a fine film")
    for folder, data in ((corpus, "."), (corpus / "train", ".."), (corpus.parent, "corpus")):
        monkeypatch.chdir(folder)
        assert texts(data) == ["a dull film", "a fine film"]


@pytest.mark.parametrize("data", ["captions", "captions/captions_train.tsv"])
@pytest.mark.parametrize("linked", ["images", "images/a.png"])
def test_a_link_to_an_image_is_refused(tmp_path, secret, data, linked):
    folder = tmp_path / "captions"
    (folder / linked).parent.mkdir(parents=True)
    (folder / "captions_train.tsv").write_text("images/a.png\ta square\n")
    (folder / linked).symlink_to(secret / "pictures" / linked.removeprefix("images").strip("/"))
    refused(tmp_path / data, folder / linked, CaptionedImages)


@pytest.mark.parametrize(("length", "fits"), [(100, True), (101, False)])
def test_the_length_of_a_line_is_bounded(tmp_path, length, fits):
    path = tmp_path / "train.tsv"
    path.write_text(f"a dull film\tbad\n{'x' * (length - 5)}\tgood\n")
    if fits:
        assert len(texts(path, max_line=100)) == 2
        return
    with pytest.raises(UserError) as error:
        texts(path, max_line=100)
    assert str(error.value) == (
        f"{path}:2: the line has more than 100 characters; --max-line is the limit."
    )
