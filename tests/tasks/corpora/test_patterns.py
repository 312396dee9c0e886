"""A part may be many files, by a pattern: every task reads them in turn, compressed or not."""

import gzip
import itertools
import re

import pytest

import tasks
from tasks.core.errors import UserError
from tests.support import untrained

ROWS = 7


def tagged(example):
    rows = zip(example.values["tokens"], example.values["tags"], strict=True)
    return "".join(f"{token}\t{tag}\n" for token, tag in rows) + "\n"


def captioned(example, folder):
    name = "images/" + re.sub(r"\W", "", example.origin) + ".png"
    (folder / "images").mkdir(exist_ok=True)
    (folder / name).write_bytes(example.values["image_bytes"])
    return "".join(f"{name}\t{caption}\n" for caption in example.values["captions"])


def written(task, example, folder):
    """An example as lines of a file, and how the name of such a file ends."""
    values = example.values
    return {
        "sentiment": lambda: f"{values['text']}\t{values['label']}\n",
        "tagging": lambda: tagged(example),
        "captioning": lambda: captioned(example, folder),
        "translation": lambda: f"{values['text']}\t{values['translation']}\n",
    }[task]()


def told(examples):
    """Examples so that they can be compared: without what only the sample knows."""
    return [
        {key: value for key, value in example.values.items() if key != "scene"}
        for example in examples
    ]


@pytest.fixture(params=tasks.names())
def shards(request, tmp_path):
    """A task, its examples, and three files of them, each other one compressed."""
    task, examples = request.param, list(untrained.examples(request.param, 3 * ROWS))
    for number in range(3):
        lines = [
            written(task, each, tmp_path) for each in examples[number * ROWS : (number + 1) * ROWS]
        ]
        raw = "".join(lines).encode()
        if number % 2:
            (tmp_path / f"part-{number}.tsv.gz").write_bytes(gzip.compress(raw))
        else:
            (tmp_path / f"part-{number}.tsv").write_bytes(raw)
    return tasks.find(task).Corpus, examples, tmp_path


@pytest.mark.parametrize("flag", ["data", "train"])
def test_a_pattern_is_all_files_that_it_matches_in_turn(shards, flag):
    corpus, examples, folder = shards
    opened = corpus(**{flag: str(folder / "part-*.tsv*")}).open()
    parts = [told(part) for part in (opened.train, opened.valid, opened.test)]
    for part in parts:  # the order within a part is that of the files
        places = [told(examples).index(each) for each in part]
        assert places == sorted(places)
    assert sum(map(len, parts)) == len(examples)
    two = corpus(
        train=str(folder / "part-[01]*"), valid=str(folder / "part-2.tsv"), test=str(folder / "*2*")
    ).open()
    assert told(two.train) == told(examples[: 2 * ROWS])
    assert told(two.valid) == told(two.test) == told(examples[2 * ROWS :])


def test_a_mistake_is_told_with_its_file_and_line(shards):
    corpus, _, folder = shards
    with gzip.open(folder / "part-1.tsv.gz", "ab") as file:
        file.write(b"one\ttwo\tthree\tfour\n" if "Tagged" not in corpus.__name__ else b"alone\n")
    with pytest.raises(UserError, match=re.escape(f"{folder / 'part-1.tsv.gz'}:")):
        list(corpus(train=str(folder / "part-*")).open().train)


def test_a_pattern_that_matches_nothing_is_told(shards):
    corpus, _, folder = shards
    with pytest.raises(UserError, match=r"--train: there is no file that '.*none-\*' matches"):
        corpus(train=str(folder / "none-*")).open()


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(shards):
    corpus, examples, folder = shards
    (folder / "part-0.tsv").rename(folder / "part-[1]*.tsv")
    opened = corpus(train=str(folder / "part-[1]*.tsv")).open()
    parts = itertools.chain(opened.train, opened.valid, opened.test)
    assert sorted(map(str, told(parts))) == sorted(map(str, told(examples[:ROWS])))


def test_pairs_of_files_are_matched_by_either_side(tmp_path):
    corpus = tasks.find("translation").Corpus
    for number, (one, other) in enumerate([("a", "b"), ("c", "d")]):
        (tmp_path / f"part-{number}.en").write_text(f"{one}\n")
        (tmp_path / f"part-{number}.de.gz").write_bytes(gzip.compress(f"{other}\n".encode()))
    own = {"source": "en", "target": "de", "valid": str(tmp_path / "part-0")}
    for pattern in ("part-*", "part-*.en", "part-?.de.gz"):
        opened = corpus(train=str(tmp_path / pattern), test=str(tmp_path / "part-1"), **own).open()
        assert [tuple(each.values.values()) for each in opened.train] == [("a", "b"), ("c", "d")]
    (tmp_path / "part-1.de.gz").unlink()
    with pytest.raises(UserError, match=r"part-1\.en: is one side of a pair of files, and the"):
        corpus(train=str(tmp_path / "part-*"), **own).open()
