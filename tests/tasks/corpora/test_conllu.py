"""CoNLL-U that is read and written again: what is not asked to change stays as it was."""

import itertools
import re

import pytest

from tasks.core.errors import UserError
from tasks.corpora.conllu import COLUMNS, TAGS, Sentence, sentences

# All that the format has: comments of every kind, ranges, empty nodes, blanks inside of words.
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


def own(sentence, column):
    """The tags that a sentence has, told plainly."""
    return [row[COLUMNS.index(column)] for _, row in sentence.lines if row]


def is_word(line):
    return line.split("\t")[0].isdecimal()


def written(found, column, tags):
    """All sentences as one prints them, a line end after each."""
    return "".join(
        sentence.tagged(column, some) + "\n" for sentence, some in zip(found, tags, strict=True)
    )


def test_words_are_read_and_nothing_else_is_one():
    assert [sentence.tokens() for sentence in read(FILE)] == WORDS


@pytest.mark.parametrize("column", TAGS)
def test_every_byte_stays_but_the_column_that_is_tagged(column):
    found = read(FILE)
    assert written(found, column, [own(sentence, column) for sentence in found]) == FILE
    new = iter(f"new={number}" for number in range(99))
    wanted = []
    for line in FILE.split("\n"):
        row = line.split("\t")
        if is_word(line):
            row[COLUMNS.index(column)] = next(new)
        wanted.append("\t".join(row))
    tags = (f"new={number}" for number in range(99))
    tags = [list(itertools.islice(tags, len(words))) for words in WORDS]
    assert written(found, column, tags) == "\n".join(wanted)
    other = TAGS[TAGS.index(column) - 1]  # tagging changed no sentence
    assert written(found, other, [own(sentence, other) for sentence in found]) == FILE


def test_what_was_tagged_is_read_with_its_tags():
    (first, *_) = read(FILE)
    (again,) = read(first.tagged("xpos", "abcdef"))
    assert own(again, "xpos") == list("abcdef")
    assert own(again, "upos") == own(first, "upos")


def test_any_blank_lines_and_no_last_one_separate():
    assert [s.tokens() for s in read("\n \n" + FILE.replace("\n\n", "\n\n \t\n\n"))] == WORDS
    assert [s.tokens() for s in read(FILE.rstrip("\n"))] == WORDS
    assert read("") == read("\n\n") == []


def test_a_mark_of_byte_order_is_passed_over():
    assert [sentence.tokens() for sentence in read("\ufeff" + FILE)] == WORDS
    assert [sentence.tokens() for sentence in read("\ufeff" + FILE.split("\n\n")[2])] == WORDS[2:]


def test_bytes_that_are_no_utf8_are_replaced_and_no_others():
    lines = FILE.encode().replace(b"Gloss=us", b"Gloss=\xe9s").split(b"\n")
    found = list(sentences(lines))
    wanted = FILE.replace("Gloss=us", "Gloss=\ufffds")
    assert written(found, "upos", [own(sentence, "upos") for sentence in found]) == wanted


def check_valid(text):
    """Holds a sentence against https://universaldependencies.org/format.html; gives its words."""
    *lines, last, end = text.split("\n")
    assert (last, end) == ("", "")
    comments = [line for line in lines if line.startswith("#")]
    assert lines[: len(comments)] == comments
    rows = [line.split("\t") for line in lines[len(comments) :]]
    assert [len(row) for row in rows] == [10] * len(rows)
    assert [row[0] for row in rows] == [str(at + 1) for at in range(len(rows))]
    assert all(value and not re.search(r"[\t\n\r]", value) for row in rows for value in row)
    heads = [int(row[6]) for row in rows]
    assert heads.count(0) == 1
    assert [row[7] == "root" for row in rows] == [head == 0 for head in heads]
    for at in range(len(rows)):  # each word reaches the root, so that it is a tree
        way = [at + 1]
        while way[-1]:
            way.append(heads[way[-1] - 1])
            assert len(way) <= len(rows) + 1
    assert f"# text = {' '.join(row[1] for row in rows)}" in comments  # none has SpaceAfter=No
    return [row[1] for row in rows]


@pytest.mark.parametrize("tokens", [["one"], ["It", "'s", "#1", "好", "1-2", "_"], ["x"] * 300])
@pytest.mark.parametrize("column", ["upos", "xpos"])
def test_a_sentence_of_tokens_alone_is_valid(tokens, column):
    tags = [f"T{at}" for at in range(len(tokens))]
    sentence = Sentence.of(tokens)
    assert sentence.tokens() == tokens
    text = sentence.tagged(column, tags) + "\n"
    assert check_valid(text) == tokens
    (again,) = read(text)
    assert (again.tokens(), own(again, column)) == (tokens, tags)


def test_a_sentence_of_no_tokens_is_read_again_as_one():
    text = Sentence.of([]).tagged("upos", []) + "\n"
    assert [sentence.tokens() for sentence in read(text + FILE)] == [[], *WORDS]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\tword", r"line 5: expected the 10 columns of CoNLL-U .* got 2: '1\\tword'"),
        ("1 word _ _ _ _ 0 root _ _", "line 5: expected the 10 columns .* got 1"),
        ("1" + "\t_" * 10, "line 5: expected the 10 columns .* got 11"),
        ("x" + "\t_" * 9, "line 5: the id must be a number .* got 'x'"),
        ("-1" + "\t_" * 9, "line 5: the id must be a number .* got '-1'"),
        ("1-" + "\t_" * 9, "line 5: the id must be a number .* got '1-'"),
        ("١" + "\t_" * 9, "line 5: the id must be a number .* got '١'"),
        ("\t_" * 9, "line 5: the id must be a number .* got ''"),
        ("2" + "\t_" * 9, "line 5: the ids of words must count from 1 .* expected 1, got 2"),
        ("0" + "\t_" * 9, "line 5: the ids of words must count from 1 .* expected 1, got 0"),
    ],
)
def test_a_line_of_another_format_is_told_with_its_number_and_the_rule(line, message):
    before = "1\tfin" + "\t_" * 8 + "\n\n# one\n# two\n"
    found = sentences((before + line + "\n").encode().split(b"\n"))
    assert next(found).tokens() == ["fin"]  # what is before has been answered
    with pytest.raises(UserError, match=message):
        next(found)


def test_an_id_that_is_left_out_or_met_twice_is_told():
    for second, number in (("1", 2), ("3", 2), ("2.x", 2), ("1\t2", 2)):
        text = "1" + "\t_" * 9 + "\n" + second + "\t_" * 9 + "\n"
        with pytest.raises(UserError, match=f"line {number}: "):
            read(text)


def test_sentences_are_given_as_soon_as_they_end():
    lines = iter(FILE.encode().split(b"\n"))
    found = sentences(lines)
    assert next(found).tokens() == WORDS[0]
    assert next(lines) == b"# sent_id = a-2"


@pytest.mark.parametrize("name", ["en_ewt", "fr_sequoia"])
def test_treebanks_stay_as_they_were_published_when_they_get_their_own_tags(data_dir, name):
    paths = sorted((data_dir / "tagging" / name).glob("*.conllu"))
    assert len(paths) == 3
    for path in paths:
        published = path.read_bytes()
        found = list(sentences(published.split(b"\n")))
        for column in TAGS if "-test" in path.name else TAGS[1:2]:
            text = written(found, column, [own(sentence, column) for sentence in found])
            assert text.encode() == published
