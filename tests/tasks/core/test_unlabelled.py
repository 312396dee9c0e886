"""Texts without labels: how their files are read, and what a task learns of them."""

import pytest

import tasks
from tasks.core import unlabelled
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.unlabelled import UnlabelledTexts

TRAIN = [
    Example(
        {"text": "Cat red .", "label": "a", "tokens": ("Cat", "red"), "tags": ("A", "B")}, "x:1"
    ),
    Example({"text": "cat dog", "label": "b", "tokens": ("cat", "dog"), "tags": ("B", "A")}, "x:2"),
]


def learn(name, folder, text, **settings):
    folder.mkdir()
    file = folder.parent / "texts.txt"
    file.write_text(text, encoding="utf-8")
    task = tasks.find(name)
    config = task.Config(unlabelled=str(file), **settings)
    return task.learn(config, Stream(lambda: iter(TRAIN)), folder), folder


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.txt").write_bytes("\ufeffé\n\n  x  \n".encode())
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "c.csv").write_text("ignored")
    read = list(unlabelled.texts(tmp_path))
    assert [example.values["text"] for example in read] == ["first", "é", "x"]
    assert read[2].origin == f"{tmp_path / 'b' / '2.txt'}:3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ok\nb\xffd\n", r"texts.txt:2: not UTF-8"),
        (b"x" * (2**20 + 1), r"texts.txt:1: a line has one text, of at most 1048576 characters"),
        (b"\n \n", r"texts.txt has no texts, only empty lines"),
    ],
)
def test_a_text_that_cannot_be_read_is_reported_with_its_line(content, message, tmp_path):
    (tmp_path / "texts.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(unlabelled.texts(tmp_path / "texts.txt"))


@pytest.mark.parametrize("name", ["sentiment", "tagging"])
def test_new_words_follow_those_of_the_training_part_by_their_frequency(name, tmp_path):
    task, folder = learn(name, tmp_path / "assets", "A cow saw a Horse.\nThe cow, the COW!\n")
    own = ["cat", *([".", "dog", "red"] if name == "sentiment" else ["dog", "red"])]
    new = ["cow", "a", "the", "!", ",", "horse", "saw"]
    if name == "tagging":
        new.insert(5, ".")
    assert list(task.words.words) == [*own, *new]
    record = UnlabelledTexts.read(folder)
    assert (record.file, record.texts, record.words) == ("texts.txt", 2, 12)
    assert record.new_words == len(new)
    assert (task.config.vectors, task.config.unlabelled) == ("", "texts.txt")


def test_new_words_end_at_the_limit_of_the_vocabulary(tmp_path):
    task, _ = learn("sentiment", tmp_path / "one", "cow cow the", vocabulary=5)
    assert task.words.words == ("cat", ".", "dog", "red", "cow")
    task, folder = learn("sentiment", tmp_path / "two", "cow cow the", vocabulary=2)
    assert task.words.words == ("cat", ".")
    assert UnlabelledTexts.read(folder).new_words == 0


def test_the_record_depends_on_the_texts_alone(tmp_path):
    records = []
    for number, text in enumerate(("the cow", "the cow", "cow the")):
        (tmp_path / str(number)).mkdir()
        _, folder = learn("sentiment", tmp_path / str(number) / "assets", text)
        records.append(UnlabelledTexts.read(folder))
    assert records[0] == records[1] != records[2]
