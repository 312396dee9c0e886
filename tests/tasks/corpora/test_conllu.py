"""Reading and writing CoNLL-U: only the tag column changes."""

import itertools
import re

import pytest

from tasks.core.errors import UserError
from tasks.corpora.conllu import COLUMNS, TAGS, Sentence, sentences

# Every element of the format: comments, ranges, empty nodes, spaces inside words.
FILE = """\
# newdoc id = a
# sent_id = a-1
# text = Vámonos al mar   "13 000"
#
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=Yes
1\tVamos\tir\tVERB\t_\tMood=Imp|Number=Plur\t0\troot\t0:root\t_
2\tnos\tnosotros\tPRON\tx\tCase=Acc\t1\tobj\t1:obj|3:nsubj\tGloss=us 
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\t_\t_\t5\tcase\t_\t_
4\tel\tel\tDET\t_\tDefinite=Def\t5\tdet\t_\t_
5\tmar\tmar\tNOUN\t#\t_\t1\tobl\t_\tSpaceAfter=No
5.1\tsea\tsea\tNOUN\t_\t_\t_\t_\t1:obl\tCopyOf=5
# a comment in between
6\t13 000\t13\u00a0000\tNUM\t_\tNumForm=Digit\t5\tnummod\t_\t_

# sent_id = a-2
1\t#1\t_\tX\t_\t_\t0\troot\t_\t好=👍
2\t_\t_\t_\t_\t_\t1\tdep\t_\t_

1\tfin\tfin\tNOUN\t_\t_\t0\troot\t_\t_

"""
WORDS = [["Vamos", "nos", "a", "el", "mar", "13 000"], ["#1", "_"], ["fin"]]


def read(text):
    return list(sentences(text.encode().split(b"\n")))


def column_of(sentence, column):
    """Returns the values of a column of a sentence."""
    return [row[COLUMNS.index(column)] for _, row in sentence.lines if row]


def is_word(line):
    return line.split("\t")[0].isdecimal()


def written(parsed, column, tags):
    """Returns the text of all sentences with new tags."""
    return "".join(
        sentence.with_tags(column, new) + "\n" for sentence, new in zip(parsed, tags, strict=True)
    )


def test_only_words_are_read_as_words():
    assert [sentence.tokens() for sentence in read(FILE)] == WORDS


@pytest.mark.parametrize("column", TAGS)
def test_tagging_changes_only_the_tag_column(column):
    parsed = read(FILE)
    assert written(parsed, column, [column_of(sentence, column) for sentence in parsed]) == FILE
    new = iter(f"new={number}" for number in range(99))
    expected = []
    for line in FILE.split("\n"):
        row = line.split("\t")
        if is_word(line):
            row[COLUMNS.index(column)] = next(new)
        expected.append("\t".join(row))
    tags = (f"new={number}" for number in range(99))
    tags = [list(itertools.islice(tags, len(words))) for words in WORDS]
    assert written(parsed, column, tags) == "\n".join(expected)
    other = TAGS[TAGS.index(column) - 1]  # tagging did not modify the sentences
    assert written(parsed, other, [column_of(sentence, other) for sentence in parsed]) == FILE


def test_a_tagged_sentence_is_read_back_with_its_tags():
    (first, *_) = read(FILE)
    (again,) = read(first.with_tags("xpos", "abcdef"))
    assert column_of(again, "xpos") == list("abcdef")
    assert column_of(again, "upos") == column_of(first, "upos")


def test_sentences_are_separated_by_any_number_of_blank_lines():
    assert [s.tokens() for s in read("\n \n" + FILE.replace("\n\n", "\n\n \t\n\n"))] == WORDS
    assert [s.tokens() for s in read(FILE.rstrip("\n"))] == WORDS
    assert read("") == read("\n\n") == []


def test_a_byte_order_mark_is_skipped():
    assert [sentence.tokens() for sentence in read("\ufeff" + FILE)] == WORDS
    assert [sentence.tokens() for sentence in read("\ufeff" + FILE.split("\n\n")[2])] == WORDS[2:]


def test_only_invalid_utf8_is_replaced():
    lines = FILE.encode().replace(b"Gloss=us", b"Gloss=\xe9s").split(b"\n")
    parsed = list(sentences(lines))
    expected = FILE.replace("Gloss=us", "Gloss=\ufffds")
    assert written(parsed, "upos", [column_of(sentence, "upos") for sentence in parsed]) == expected


def check_valid(text):
    """Checks a sentence against universaldependencies.org/format.html; returns its words."""
    *lines, last, end = text.split("\n")
    assert (last, end) == ("", "")
    comments = [line for line in lines if line.startswith("#")]
    assert lines[: len(comments)] == comments
    rows = [line.split("\t") for line in lines[len(comments) :]]
    assert [len(row) for row in rows] == [10] * len(rows)
    assert [row[0] for row in rows] == [str(index + 1) for index in range(len(rows))]
    assert all(value and not re.search(r"[\t\n\r]", value) for row in rows for value in row)
    heads = [int(row[6]) for row in rows]
    assert heads.count(0) == 1
    assert [row[7] == "root" for row in rows] == [head == 0 for head in heads]
    for index in range(len(rows)):  # every word reaches the root, so the graph is a tree
        path = [index + 1]
        while path[-1]:
            path.append(heads[path[-1] - 1])
            assert len(path) <= len(rows) + 1
    assert f"# text = {' '.join(row[1] for row in rows)}" in comments  # none has SpaceAfter=No
    return [row[1] for row in rows]


@pytest.mark.parametrize("tokens", [["one"], ["It", "'s", "#1", "好", "1-2", "_"], ["x"] * 300])
@pytest.mark.parametrize("column", ["upos", "xpos"])
def test_a_sentence_of_tokens_alone_is_valid(tokens, column):
    tags = [f"T{index}" for index in range(len(tokens))]
    sentence = Sentence.from_tokens(tokens)
    assert sentence.tokens() == tokens
    text = sentence.with_tags(column, tags) + "\n"
    assert check_valid(text) == tokens
    (again,) = read(text)
    assert (again.tokens(), column_of(again, column)) == (tokens, tags)


def test_a_sentence_without_tokens_round_trips():
    text = Sentence.from_tokens([]).with_tags("upos", []) + "\n"
    assert [sentence.tokens() for sentence in read(text + FILE)] == [[], *WORDS]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\tword", r"line 5: expected the 10 tab-separated columns of CoNLL-U, got 2: '1\\tword'"),
        ("1 word _ _ _ _ 0 root _ _", "line 5: expected the 10 tab-separated columns .* got 1"),
        ("1" + "\t_" * 10, "line 5: expected the 10 tab-separated columns .* got 11"),
        ("x" + "\t_" * 9, "line 5: the id must be a number .* got 'x'"),
        ("-1" + "\t_" * 9, "line 5: the id must be a number .* got '-1'"),
        ("1-" + "\t_" * 9, "line 5: the id must be a number .* got '1-'"),
        ("١" + "\t_" * 9, "line 5: the id must be a number .* got '١'"),
        ("\t_" * 9, "line 5: the id must be a number .* got ''"),
        (
            "2" + "\t_" * 9,
            "line 5: word ids must be consecutive and start at 1 .* expected 1, got 2",
        ),
        (
            "0" + "\t_" * 9,
            "line 5: word ids must be consecutive and start at 1 .* expected 1, got 0",
        ),
    ],
)
def test_an_invalid_line_is_reported_with_its_number_and_the_rule(line, message):
    before = "1\tfin" + "\t_" * 8 + "\n\n# one\n# two\n"
    parsed = sentences((before + line + "\n").encode().split(b"\n"))
    assert next(parsed).tokens() == ["fin"]  # sentences before the error are yielded
    with pytest.raises(UserError, match=message):
        next(parsed)


def test_missing_and_repeated_ids_are_reported():
    for second, number in (("1", 2), ("3", 2), ("2.x", 2), ("1\t2", 2)):
        text = "1" + "\t_" * 9 + "\n" + second + "\t_" * 9 + "\n"
        with pytest.raises(UserError, match=f"line {number}: "):
            read(text)


def test_sentences_are_yielded_as_soon_as_they_end():
    lines = iter(FILE.encode().split(b"\n"))
    parsed = sentences(lines)
    assert next(parsed).tokens() == WORDS[0]
    assert next(lines) == b"# sent_id = a-2"


@pytest.mark.parametrize("name", ["en_ewt", "fr_sequoia"])
def test_retagging_a_treebank_with_its_own_tags_changes_no_byte(data_dir, name):
    paths = sorted((data_dir / "tagging" / name).glob("*.conllu"))
    assert len(paths) == 3
    for path in paths:
        published = path.read_bytes()
        parsed = list(sentences(published.split(b"\n")))
        for column in TAGS if "-test" in path.name else TAGS[1:2]:
            text = written(parsed, column, [column_of(sentence, column) for sentence in parsed])
            assert text.encode() == published
