"""Files of labelled trees: faults are reported with file and line, and the sample is consistent."""

import zipfile
from collections import Counter

import pytest

import tasks
from tasks.core.errors import UserError
from tasks.core.examples import PARTS
from tasks.corpora import treebank
from tasks.corpora.samples import review_trees

TREE = "(3 (2 It) (4 (2 's) (4 good)))"


def test_trees_are_read_line_by_line(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(f"{TREE}\n\n(1 dull)\n", encoding="utf-8")
    examples = list(treebank.read(path, children=2))
    assert [example.values["text"] for example in examples] == [TREE, "(1 dull)"]
    assert examples[1].origin == f"{path}:3"
    tree = treebank.parse(TREE)
    assert tree.labels == ["3", "2", "4", "2", "4"]
    assert tree.words == ["", "It", "", "'s", "good"]
    assert tree.parents == [-1, 0, 0, 2, 2]


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u2028"])
def test_only_blanks_of_ascii_separate_tokens(blank):
    tree = treebank.parse(f"(3 (2 13{blank}819) (4\t(2 's)\x0b(4 good)))")
    assert tree.words == ["", f"13{blank}819", "", "'s", "good"]
    with pytest.raises(ValueError, match=r"column 8: expected .*, got '\)'"):
        treebank.parse(f"(2{blank}film)")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 It", "column 1: expected '(', got '3'."),
        ("((3 a))", "column 2: expected a label, got '('."),
        ("(3)", "column 3: expected '(' or a word, got ')'."),
        ("(3 a b)", "column 6: expected ')', got 'b'."),
        ("(3 (2 a) b)", "column 10: expected '(' or ')', got 'b'."),
        ("(3 It) (2 a)", "column 8: the tree has ended, got '('."),
        ("(3 (2 a)", "the line ends before the tree, with 1 open brackets."),
        ("(3 (1 a) (2 b) (3 c))", "a node must have at most 2 children, got 3."),
        (
            "(3 (1\u00a0(2 a) (2 b)) (2 c))",
            "a label must not begin or end with a blank such as U+00A0, got '1\\xa0'.",
        ),
    ],
)
def test_a_line_that_is_not_a_tree_is_reported_with_its_number(tmp_path, line, message):
    path = tmp_path / "train.txt"
    path.write_text(f"{TREE}\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        list(treebank.read(path, children=2))
    assert str(error.value) == f"{path}:2: {message}"


@pytest.mark.parametrize("text", [None, "", "\n \n"])
def test_a_file_without_trees_is_reported(tmp_path, text):
    path = tmp_path / "train.txt"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.txt: "):
        list(treebank.read(path))


def _label(tree, node=0):
    """The label of a node by the rules of the sample, from its words alone."""
    below = [child for child, parent in enumerate(tree.parents) if parent == node]
    if not below:
        (score,) = {s for s, words in review_trees._WORDS.items() if tree.words[node] in words} or {
            2
        }
        return score
    first, second = below
    word, score = tree.words[first], _label(tree, second)
    if word in review_trees._DEGREES:
        return 4 if score > 2 else 0
    if word in review_trees._NEGATIONS:
        return 1 if score > 2 else 3
    return score


def test_labels_of_the_sample_follow_from_its_words():
    texts = []
    for part, examples in review_trees.parts().items():
        part_texts = [example.values["text"] for example in examples]
        assert len(part_texts) == review_trees.SIZES[part]
        assert part_texts == [example.values["text"] for example in examples]
        texts += part_texts
    assert len(set(texts)) == len(texts)
    roots = Counter()
    for text in texts[::10]:
        tree = treebank.parse(text)
        roots[tree.labels[0]] += 1
        assert [int(label) for label in tree.labels] == [
            _label(tree, node) for node in range(len(tree.labels))
        ]
    assert set(roots) == {"0", "1", "3", "4"} and min(roots.values()) > 20


def corpus(path, **settings):
    return tasks.declaration("sentiment").Corpus(data=str(path), trees=True, **settings)


def labelled(count):
    return "".join(f"({n % 2} (2 w{n}) (2 .))\n" for n in range(count))


def test_a_treebank_is_a_folder_an_archive_or_a_file(tmp_path):
    folder = tmp_path / "bank" / "trees"
    folder.mkdir(parents=True)
    for name, count in (("train", 30), ("dev", 4), ("test", 6)):
        (folder / f"{name}.txt").write_text(labelled(count), encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "bank.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"trees/{path.name}")
    for path in (tmp_path / "bank", tmp_path / "bank.zip"):
        splits = corpus(path).open()
        assert [len(list(getattr(splits, part))) for part in PARTS] == [30, 4, 6]
    (example, *_) = splits.test
    assert dict(example.values) == {"text": "(0 (2 w0) (2 .))", "label": "0"}
    assert example.origin.endswith("test.txt:1")
    splits = corpus(folder / "train.txt", valid=str(folder / "dev.txt")).open()
    counts = [len(list(getattr(splits, part))) for part in PARTS]
    assert counts[1] == 4 and counts[0] + counts[2] == 30 and counts[2] > 0
    with pytest.raises(UserError, match=r"no corpus .* Expected train\.txt, dev\.txt"):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "notes.md").touch()
        list(corpus(tmp_path / "other").open().train)
