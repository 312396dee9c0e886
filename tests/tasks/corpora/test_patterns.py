"""A part may be a glob pattern of files, compressed or not, for every task."""

import gzip
import itertools
import re

import pytest

import tasks
from tasks.core.errors import UserError
from tests.support import by_task, untrained

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
    """Returns an example as lines of a file."""
    values = example.values
    lines = {
        "sentiment": lambda: f"{values['text']}\t{values['label']}\n",
        "tagging": lambda: tagged(example),
        "captioning": lambda: captioned(example, folder),
        "translation": lambda: f"{values['text']}\t{values['translation']}\n",
        "language_model": lambda: f"{values['text']}\n",
    }
    return by_task.lookup(lines, task, "written() of tests/tasks/corpora/test_patterns.py")()


def comparable(examples):
    """Returns the values of examples without the scene, which files do not contain."""
    return [
        {key: value for key, value in example.values.items() if key != "scene"}
        for example in examples
    ]


@pytest.fixture(params=tasks.names())
def shards(request, tmp_path):
    """Returns a corpus class, examples, and a folder with three files of them, one compressed."""
    task, examples = request.param, list(untrained.examples(request.param, 3 * ROWS))
    for number in range(3):
        lines = [
            written(task, example, tmp_path)
            for example in examples[number * ROWS : (number + 1) * ROWS]
        ]
        raw = "".join(lines).encode()
        if number % 2:
            (tmp_path / f"part-{number}.tsv.gz").write_bytes(gzip.compress(raw))
        else:
            (tmp_path / f"part-{number}.tsv").write_bytes(raw)
    return tasks.find(task).Corpus, examples, tmp_path


@pytest.mark.parametrize("flag", ["data", "train"])
def test_a_pattern_reads_all_matching_files_in_order(shards, flag):
    corpus, examples, folder = shards
    opened = corpus(**{flag: str(folder / "part-*.tsv*")}).open()
    parts = [comparable(part) for part in (opened.train, opened.valid, opened.test)]
    for part in parts:  # the order within a part is that of the files
        positions = [comparable(examples).index(values) for values in part]
        assert positions == sorted(positions)
    assert sum(map(len, parts)) == len(examples)
    two = corpus(
        train=str(folder / "part-[01]*"), valid=str(folder / "part-2.tsv"), test=str(folder / "*2*")
    ).open()
    assert comparable(two.train) == comparable(examples[: 2 * ROWS])
    assert comparable(two.valid) == comparable(two.test) == comparable(examples[2 * ROWS :])


def test_an_invalid_line_is_reported_with_its_file_and_line(shards):
    corpus, _, folder = shards
    with gzip.open(folder / "part-1.tsv.gz", "ab") as file:
        file.write(b"one\ttwo\tthree\tfour\n" if "Tagged" not in corpus.__name__ else b"alone\n")
    with pytest.raises(UserError, match=re.escape(f"{folder / 'part-1.tsv.gz'}:")):
        list(corpus(train=str(folder / "part-*")).open().train)


def test_a_pattern_does_not_match_hidden_files(shards):
    corpus, examples, folder = shards
    metadata = b"\x00\x05\x16\x07 Mac OS X"
    (folder / "._part-0.tsv").write_bytes(metadata)
    (folder / ".cache").mkdir()
    (folder / ".cache/part-9.tsv").write_bytes(metadata)
    (folder / "part-0.tsv").rename(folder / "images.tsv")
    for pattern in ("*.tsv", "**/*.tsv"):
        train = corpus(train=str(folder / pattern), valid=str(folder / "part-2.tsv")).part("train")
        assert comparable(train[0]) == comparable(examples[:ROWS] + examples[2 * ROWS :])


def test_a_pattern_without_matches_is_reported(shards):
    corpus, _, folder = shards
    with pytest.raises(UserError, match=r"--train: no files match '.*none-\*'"):
        corpus(train=str(folder / "none-*")).open()


def test_an_existing_file_takes_precedence_over_a_pattern(shards):
    corpus, examples, folder = shards
    (folder / "part-0.tsv").rename(folder / "part-[1]*.tsv")
    opened = corpus(train=str(folder / "part-[1]*.tsv")).open()
    parts = itertools.chain(opened.train, opened.valid, opened.test)
    assert sorted(map(str, comparable(parts))) == sorted(map(str, comparable(examples[:ROWS])))


def test_pairs_of_files_match_by_either_side(tmp_path):
    corpus = tasks.find("translation").Corpus
    for number, (text, translation) in enumerate([("a", "b"), ("c", "d")]):
        (tmp_path / f"part-{number}.en").write_text(f"{text}\n")
        (tmp_path / f"part-{number}.de.gz").write_bytes(gzip.compress(f"{translation}\n".encode()))
    flags = {"source": "en", "target": "de", "valid": str(tmp_path / "part-0")}
    for pattern in ("part-*", "part-*.en", "part-?.de.gz"):
        opened = corpus(
            train=str(tmp_path / pattern), test=str(tmp_path / "part-1"), **flags
        ).open()
        assert [tuple(example.values.values()) for example in opened.train] == [
            ("a", "b"),
            ("c", "d"),
        ]
    (tmp_path / "part-1.de.gz").unlink()
    with pytest.raises(UserError, match=r"part-1\.en: the file of the other language is missing"):
        corpus(train=str(tmp_path / "part-*"), **flags).open()
