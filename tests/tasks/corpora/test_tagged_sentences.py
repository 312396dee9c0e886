"""Tagged sentences: every supported layout, and messages about broken corpora."""

import collections
import gzip
import hashlib
import itertools
import json
import shutil

import pytest

from models.text.edit_scripts import apply_script
from tasks.core.errors import UserError
from tasks.core.examples import PARTS
from tasks.corpora.samples import english_grammar
from tasks.corpora.tagged_sentences import TaggedSentences

SENTENCES = [
    (("the", "old", "man", "the", "boats"), ("DET", "ADJ", "VERB", "DET", "NOUN")),
    (("Ça", "coûte", "1/2", "€", "#1"), ("PRON", "VERB", "NUM", "SYM", "X")),
    (("fish", "!"), ("VERB", "PUNCT")),
]
UNIVERSAL = {
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN",
    "PUNCT", "SCONJ", "SYM", "VERB", "X",
}  # fmt: skip
SPACED = (("13 819", "pages", "12\u00a0000"), ("NUM", "NOUN", "NUM"))


def conllu(sentences=SENTENCES, column="upos", filled=("lemma",)):
    """Returns CoNLL-U that also contains comments, a range and an empty node."""
    names = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
    text = ""
    for number, (tokens, tags) in enumerate(sentences):
        text += f"# sent_id = {number}\n# text = {' '.join(tokens)}\n"
        text += "\t".join(["1-2", "".join(tokens[:2]), *"_" * 8]) + "\n"
        for index, (token, tag) in enumerate(zip(tokens, tags, strict=True), start=1):
            row = dict.fromkeys(names, "_") | dict.fromkeys(filled, "x")
            row |= {"id": str(index), "form": token, column: tag}
            text += "\t".join(row.values()) + "\n"
            if index == 1:
                text += "\t".join(["1.1", "elided", "elide", "VERB", *"_" * 6]) + "\n"
        text += "\n"
    return text


def columns(sentences=SENTENCES, between="\t", middle=()):
    rows = (zip(*sentence, strict=True) for sentence in sentences)
    return "\n".join(
        "".join(between.join([token, *middle, tag]) + "\n" for token, tag in row) for row in rows
    )


def conll2003(sentences=SENTENCES):
    return "-DOCSTART- -X- -X- O\n\n" + columns(sentences, " ", ("NN", "B-NP"))


def slashed(sentences=SENTENCES):
    pairs = (zip(*sentence, strict=True) for sentence in sentences)
    return "".join(" ".join(f"{token}/{tag}" for token, tag in pair) + "\n" for pair in pairs)


def jsonl(sentences=SENTENCES):
    return "".join(json.dumps({"tokens": t, "tags": n}) + "\n" for t, n in sentences)


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return root


def read(*streams):
    examples = (example.values for stream in streams for example in stream)
    return sorted((values["tokens"], values["tags"]) for values in examples)


def read_all(splits):
    return read(*(getattr(splits, part) for part in PARTS))


def tagged(path, **flags):
    return TaggedSentences(data=str(path), **flags).open()


WRITTEN = {
    "conllu": (conllu(), ".conllu"),
    "conllu as .conll": (conllu(), ".conll"),
    "conllu as .txt": (conllu(), ".txt"),
    "tabs": (columns(), ".tsv"),
    "blanks": (columns(between=" "), ".txt"),
    "many blanks": (columns(between=" \t "), ".pos"),
    "conll2000": (columns(between=" ", middle=("NN",)), ".bio"),
    "conll2003": (conll2003(), ".conll"),
    "conll2003 with tabs": (conll2003().replace(" ", "\t"), ".iob2"),
    "many blank lines": (columns().replace("\n\n", "\n \n\n\n"), ".tsv"),
    "slashes": (slashed(), ".txt"),
    "slashes, blank lines": (slashed().replace("\n", " \n\n").replace(" ", "  "), ".tagged"),
    "jsonl": (jsonl(), ".jsonl"),
}
ENDS = {
    "as it is": lambda text: text,
    "windows": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "no last newline": lambda text: text.rstrip("\n"),
}


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("written", WRITTEN)
def test_every_format_gives_the_same_examples(tmp_path, written, ends):
    text, suffix = WRITTEN[written]
    write(tmp_path, {f"all{suffix}": ENDS[ends](text)})
    splits = tagged(tmp_path / f"all{suffix}")
    assert read_all(splits) == sorted(SENTENCES)
    assert read_all(splits) == sorted(SENTENCES)  # again, from the beginning


@pytest.mark.parametrize("written", WRITTEN)
def test_files_may_be_compressed(tmp_path, written):
    text, suffix = WRITTEN[written]
    write(tmp_path, {f"a{suffix}.gz": gzip.compress(text.encode("utf-8"))})
    assert read_all(tagged(tmp_path)) == sorted(SENTENCES)


PART_NAMES = {
    "universal dependencies": "xx_name-ud-{}.conllu",
    "conllu": "{}.conllu",
    "conll2003": "{}.txt",
    "slashes": "{}.txt",
    "jsonl": "{}.jsonl",
}


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("valid", ["valid", "dev", "val"])
@pytest.mark.parametrize("layout", PART_NAMES)
def test_every_layout_with_parts_is_read(tmp_path, layout, valid, zipped):
    text = WRITTEN[layout][0] if layout in WRITTEN else conllu()
    names = [PART_NAMES[layout].format(part) for part in ("train", valid, "test")]
    others = {"README.md": "about the corpus", "LICENSE.txt": "the licence"}
    if layout == "universal dependencies":
        others["xx_name-ud-train.txt"] = "the text"
    path = write(tmp_path / "corpus", dict.fromkeys(names, text) | others)
    if zipped:
        path = shutil.make_archive(str(tmp_path / "corpus"), "zip", tmp_path, "corpus")
    splits = tagged(path)
    assert not splits.notes
    for part in PARTS:
        assert read(getattr(splits, part)) == sorted(SENTENCES)


def test_files_that_accompany_a_corpus_are_ignored(tmp_path):
    write(tmp_path, {"xx-ud-all.conllu": conllu(), "LICENSE.txt": "", "readme.txt": ""})
    assert read_all(tagged(tmp_path)) == sorted(SENTENCES)
    part, notes = TaggedSentences(test=str(tmp_path)).part("test")
    assert read(part) == sorted(SENTENCES) and not notes


def test_a_missing_test_part_is_split_off_by_the_hash_of_the_words(tmp_path):
    sentences = [((f"word{n % 1500}", "."), ("NOUN", "PUNCT")) for n in range(2000)]
    write(tmp_path, {"train.conllu": conllu(sentences), "dev.conllu": conllu()})
    splits = tagged(tmp_path)
    assert splits.notes == (
        "no test part: split by the hash of the text into train 88.9 %, test 11.1 %",
    )
    train, test = read(splits.train), read(splits.test)
    assert sorted(train + test) == sorted(sentences)
    assert 130 < len(test) < 320
    assert not set(train) & set(test)
    assert read(splits.valid) == sorted(SENTENCES)


@pytest.mark.parametrize("column", ["lemma", "upos", "xpos", "feats", "deprel"])
def test_the_tags_flag_selects_the_column(tmp_path, column):
    write(tmp_path, {"a.conllu": conllu(column=column, filled=("deprel", "xpos"))})
    sentences = read_all(tagged(tmp_path / "a.conllu", tags=column))
    if column == "lemma":  # as edit scripts
        sentences = [(words, tuple(map(apply_script, tags, words))) for words, tags in sentences]
    assert sorted(sentences) == sorted(SENTENCES)


def test_words_may_contain_spaces_if_columns_are_separated_by_tabs(tmp_path):
    texts = {"a.conllu": conllu([SPACED]), "b.tsv": columns([SPACED]), "c.jsonl": jsonl([SPACED])}
    write(tmp_path, texts)
    for name in texts:
        assert read_all(tagged(tmp_path / name)) == [SPACED]
    nobreak = (SPACED[0][2:], SPACED[1][2:])
    write(tmp_path, {"d.txt": columns([nobreak], " "), "e.txt": slashed([nobreak])})
    for name in ("d.txt", "e.txt"):
        assert read_all(tagged(tmp_path / name)) == [nobreak]


def test_other_keys_columns_and_encodings_are_read(tmp_path):
    write(
        tmp_path,
        {
            "a.jsonl": json.dumps({"words": ["été", "2"], "ids": [3, "B"]}),
            "b.txt": "1 été 3 x\n2 2 B x\n",
            "c.txt": "été/3 2/B".encode("latin-1"),
        },
    )
    expected = [(("été", "2"), ("3", "B"))]
    assert read_all(tagged(tmp_path / "a.jsonl", tokens_key="words", tags_key="ids")) == expected
    assert read_all(tagged(tmp_path / "b.txt", tokens_key="2", tags_key="3")) == expected
    assert read_all(tagged(tmp_path / "c.txt", encoding="latin-1")) == expected


def test_a_slash_inside_a_word_does_not_start_a_tag(tmp_path):
    write(tmp_path, {"a.txt": "and/or CCONJ\n", "b.txt": "and/or/CCONJ\n"})
    for name in ("a.txt", "b.txt"):
        assert read_all(tagged(tmp_path / name)) == [(("and/or",), ("CCONJ",))]


THE_KING = [(("the", "king"), ("O", "B-PER")), (("#", "1", "!"), ("O", "B-NUM", "O"))]
# Comments as in published corpora, and the columns of a word between its form and its tag.
COMMENTS = {
    "MultiCoNER": ("# id 6f8-a1\tdomain=en\n", " ", ("_", "_")),
    "GermEval": ("#\thttp://de.wikipedia.org/wiki/Königin [2009-10-17]\n", "\t", ("O",)),
    "CoNLL-2012": ("#begin document (bc/cctv/00); part 000\n", "   ", ("0", "NN", "(*)", "-")),
    "CoNLL-U": ("# sent_id = 7\n# text = the king\n", " ", ("_",)),
    "two columns by blanks": ("# 1\n", " ", ()),
    "beginnings of documents": ("# newdoc\n# newpar\n", " ", ()),
    "two columns by tabs": ("# id 1\tdomain=en\n", "\t", ()),
    "several in a row": ("# a b c\n#\n#meta a b c d\n# 2\n", " ", ()),
}


@pytest.mark.parametrize("where", ["before every sentence", "before the first", "at the end"])
@pytest.mark.parametrize("name", COMMENTS)
def test_comments_before_a_sentence_are_not_words(tmp_path, name, where):
    comment, between, middle = COMMENTS[name]
    sentences = [columns([sentence], between, middle) for sentence in THE_KING]
    text = {
        "before every sentence": "\n".join(comment + sentence for sentence in sentences),
        "before the first": "-DOCSTART- O\n\n" + comment + "\n".join(sentences),
        "at the end": "\n".join([*sentences, comment]),
    }[where]
    write(tmp_path, {"a.txt": text})
    assert read_all(tagged(tmp_path / "a.txt")) == sorted(THE_KING)


HASHES = {
    "WNUT": [(("#tag", "is", "#"), ("O", "O", "O"))],
    "first word": [(("#", "1"), ("O", "O")), (("#", "#"), ("O", "O"))],
    "tag of its own": [(("#", "5"), ("#", "CD")), (("a", "#"), ("DT", "SYM"))],
    "tag used once": [(("#", "5"), ("SYM", "CD"))],
    "digits as tags": [(("#", "a"), ("1", "0")), (("a",), ("1",))],
    "hashtags": [(("#lol", "#"), ("#", "#"))],
    "only words with #": [(("#a", "#"), ("X", "O"))],
}


@pytest.mark.parametrize("middle", [(), ("_", "NN")], ids=["two columns", "four columns"])
@pytest.mark.parametrize("name", HASHES)
def test_words_that_begin_with_a_hash_are_not_comments(tmp_path, name, middle):
    write(tmp_path, {"a.txt": columns(HASHES[name], " ", middle)})
    assert read_all(tagged(tmp_path / "a.txt")) == sorted(HASHES[name])


def test_comments_between_lines_of_slashed_words_are_not_words(tmp_path):
    write(tmp_path, {"a.txt": "# id 1\n" + slashed() + "# end\n#/SYM 1/NUM\n"})
    expected = [*SENTENCES, (("#", "1"), ("SYM", "NUM"))]
    assert read_all(tagged(tmp_path / "a.txt")) == sorted(expected)
    write(tmp_path, {"b.txt": "#/SYM 1/NUM\n"})
    assert read_all(tagged(tmp_path / "b.txt")) == [expected[-1]]


def test_an_unpaired_surrogate_is_not_an_error(tmp_path):
    write(tmp_path, {"a.jsonl": '{"tokens": ["a\\ud83d"], "tags": ["X"]}'})
    assert read_all(tagged(tmp_path / "a.jsonl")) == [(("a?",), ("X",))]


def test_sentences_without_words_are_skipped(tmp_path):
    write(tmp_path, {"a.jsonl": '{"tokens": [], "tags": []}\n' + jsonl()})
    assert read_all(tagged(tmp_path / "a.jsonl")) == sorted(SENTENCES)


def test_origins_name_file_and_line_of_the_first_word(tmp_path):
    texts = {"conllu": conllu(), "txt": conll2003(), "tagged": slashed(), "jsonl": jsonl()}
    lines = {"conllu": (4, 14), "txt": (3, 9), "tagged": (1, 2), "jsonl": (1, 2)}
    for suffix, text in texts.items():
        path = write(tmp_path, {f"a.{suffix}": text}) / f"a.{suffix}"
        train = TaggedSentences(train=str(path)).part("train")[0]
        origins = [example.origin for example in itertools.islice(train, 2)]
        assert origins == [f"{path}:{line}" for line in lines[suffix]]


def test_files_are_read_lazily(tmp_path):
    path = write(tmp_path, {"a.conllu": conllu() + "broken\n"}) / "a.conllu"
    stream = TaggedSentences(train=str(path)).part("train")[0]
    assert len(list(itertools.islice(stream, 3))) == 3
    with pytest.raises(UserError):
        list(stream)


def row(**values):
    names = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
    return "\t".join({**dict.fromkeys(names, "_"), **values}.values()) + "\n"


WORD = row(id="1", form="a", upos="X")
BROKEN = {
    "no such file": ({}, "nowhere", r"--data: no such file or folder: .*nowhere"),
    "empty folder": ({"a/.hidden": ""}, "a", r"no corpus found among \[\]. Expected train, valid"),
    "other files": ({"a/x.png": "", "a/y.xml": ""}, "a", r"among \['x.png', 'y.xml'\]"),
    "two wholes": ({"a/x.tsv": "", "a/y.txt": ""}, "a", r"ambiguous: \['x.tsv', 'y.txt'\]"),
    "two trains": (
        {"a/en_x-ud-train.conllu": "", "a/en_y-ud-train.conllu": ""},
        "a",
        r"several candidates for the train part: en_x-ud-train.conllu, en_y-ud-train.conllu",
    ),
    "no train": ({"a/x-ud-test.conllu": ""}, "a", "there is a test part but no train part"),
    "not a zip": ({"a.zip": "nothing"}, "a.zip", r"a.zip: not a valid zip archive"),
    "empty": ({"a.txt": ""}, "a.txt", r"a.txt: the file contains no examples"),
    "only comments": ({"a.conllu": "# a\n\n"}, "a.conllu", r"the file contains no examples"),
    "only ranges": ({"a.conllu": row(id="1-2")}, "a.conllu", r"the file contains no examples"),
    "nine columns": (
        {"a.conllu": WORD + WORD[:-3] + "\n"},
        "a.conllu",
        r"a.conllu:2: expected the 10 tab-separated columns of CoNLL-U, got 9: '1\\ta",
    ),
    "blanks for tabs": (
        {"a.conllu": WORD.replace("\t", " ")},
        "a.conllu",
        r"a.conllu:1: expected the 10 tab-separated columns .* got 1",
    ),
    "no id": ({"a.conllu": row(id="x")}, "a.conllu", r":1: the id must be a number .*got 'x'"),
    "ids": ({"a.conllu": WORD + WORD}, "a.conllu", r":2: word ids must .* expected 2, got 1"),
    "no form": ({"a.conllu": row(id="1", upos="X", form="")}, "a.conllu", ":1: the word is empty"),
    "no words": ({"a.conllu": row(id="1", upos="X")}, "a.conllu", "every form is _"),
    "no tags": (
        {"a.conllu": row(id="1", form="a", xpos="X", deprel="det")},
        "a.conllu",
        r"a.conllu: every upos is _; --tags must be one of \['xpos', 'deprel'\]",
    ),
    "not utf-8": ({"a.txt": b"a X\n\xc4\xe3 X\n"}, "a.txt", r"a.txt:2: not valid utf-8.*0xc4"),
    "not utf-8 conllu": (
        {"a.conllu": WORD.encode() + b"\n# \xff\xff\n"},
        "a.conllu",
        r"a.conllu:3: not valid utf-8.*0xff",
    ),
    "one column": (
        {"a.txt": "word\n"},
        "a.txt",
        r"a.txt:1: expected a word and its tag, got 1 col",
    ),
    "other columns": (
        {"a.txt": "a b X\n\na X\n"},
        "a.txt",
        r"a.txt:3: expected 3 columns as above, got 2 columns: 'a X'",
    ),
    "commas": (
        {"a.csv": "word,tag\nthe,O\n"},
        "a.csv",
        r"a.csv:1: expected a word and its tag, .* separated by tabs or spaces, not by commas",
    ),
    "other columns after a comment": (
        {"a.txt": "# id 1\tdomain=en\nthe _ _ O\nking _ B-PER\n"},
        "a.txt",
        r"a.txt:3: expected 4 columns as above, got 3 columns: 'king _ B-PER'",
    ),
    "a hash among words": (
        {"a.txt": "the O\n# a comment\n"},
        "a.txt",
        r"a.txt:2: expected 2 columns as above, got 3 columns: '# a comment'",
    ),
    "no tag": ({"a.tsv": "a\tX\nb\t\n"}, "a.tsv", r"a.tsv:2: the tag is empty"),
    "no word": ({"a.tsv": "a\tX\n\tX\n"}, "a.tsv", r"a.tsv:2: the word is empty"),
    "no slash": ({"a.txt": "a/X\nb/X c\n"}, "a.txt", r"a.txt:2: expected word/TAG .*got 'c'"),
    "no tag after slash": ({"a.txt": "a/X b/\n"}, "a.txt", r"a.txt:1: expected word/TAG"),
    "no word before slash": ({"a.txt": "a/X /X\n"}, "a.txt", r"a.txt:1: expected .* got '/X'"),
    "bad json": ({"a.jsonl": jsonl() + "{\n"}, "a.jsonl", r"a.jsonl:4: not valid JSON"),
    "no object": ({"a.jsonl": "[1]\n"}, "a.jsonl", r"a.jsonl:1: expected a JSON object"),
    "no key": (
        {"a.jsonl": '{"tokens": []}\n'},
        "a.jsonl",
        r":1: missing key 'tags'; the keys are \['tokens'\]. Select one with --tags-key",
    ),
    "no list": (
        {"a.jsonl": '{"tokens": "a b", "tags": []}\n'},
        "a.jsonl",
        r":1: 'tokens' must be a list, got '\"a b\"'",
    ),
    "lengths": (
        {"a.jsonl": '{"tokens": ["a"], "tags": []}\n'},
        "a.jsonl",
        r":1: 'tokens' and 'tags' must have the same length, got 1 and 0",
    ),
    "number": (
        {"a.jsonl": '{"tokens": [1], "tags": ["X"]}\n'},
        "a.jsonl",
        r":1: 'tokens' must contain strings, got 1",
    ),
    "null": (
        {"a.jsonl": '{"tokens": ["a"], "tags": [null]}\n'},
        "a.jsonl",
        r":1: 'tags' must contain strings or integers, got null",
    ),
    "line break": (
        {"a.jsonl": '{"tokens": ["a\\nb"], "tags": ["X"]}\n'},
        "a.jsonl",
        r":1: a word must not contain line breaks, got 'a\\nb'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_corpus_is_reported_with_file_and_line(tmp_path, name):
    files, path, message = BROKEN[name]
    write(tmp_path, files)
    with pytest.raises(UserError, match=message):
        read_all(tagged(tmp_path / path))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"tags_key": "3"}, r"a.txt:1: --tags-key must be a column number from 1 to 2, got '3'"),
        ({"tags_key": "0"}, r"--tags-key must be a column number"),
        ({"tokens_key": "word"}, r"--tokens-key must be a column number.* got 'word'"),
        (
            {"tags": "xpos"},
            r"a.txt: --tags xpos names a column of CoNLL-U, but this is not CoNLL-U",
        ),
    ],
)
def test_a_flag_that_does_not_fit_the_file_is_reported(tmp_path, flags, message):
    write(tmp_path, {"a.txt": "a X\n"})
    with pytest.raises(UserError, match=message):
        read_all(tagged(tmp_path / "a.txt", **flags))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"tags": "pos"}, r"--tags must be one of \['lemma', 'upos', .*, got 'pos'"),
        ({"encoding": "utf-9"}, "--encoding must be an encoding that Python knows, .* got 'utf-9'"),
        ({"tags": "upos,lemma"}, "the sample has a single tag .* --tags upos,lemma needs data in"),
    ],
)
def test_an_invalid_flag_is_rejected(flags, message):
    with pytest.raises(UserError, match=message):
        TaggedSentences(**flags).open()


# --- Real treebanks --------------------------------------------------------------


@pytest.mark.parametrize("name", ["en_ewt", "fr_sequoia"])
def test_a_treebank_is_read_as_it_was_published(data_dir, name):
    folder = data_dir / "tagging" / name
    splits = tagged(folder)
    assert not splits.notes
    for part, published in zip(PARTS, ("train", "dev", "test"), strict=True):
        text = (folder / f"{name}-ud-{published}.conllu").read_text("utf-8")
        words = [line.split("\t")[0].isdecimal() for line in text.split("\n")]
        examples = [example.values for example in getattr(splits, part)]
        assert len(examples) == text.count("# sent_id = ")
        assert sum(len(values["tokens"]) for values in examples) == sum(words)
        assert all(len(values["tokens"]) == len(values["tags"]) for values in examples)
        assert {tag for values in examples for tag in values["tags"]} <= UNIVERSAL


def test_an_empty_column_of_a_treebank_is_reported(data_dir):
    folder = data_dir / "tagging" / "fr_sequoia"
    with pytest.raises(
        UserError, match=r"every xpos is _; --tags must be one of \['lemma', 'upos', 'feats', 'dep"
    ):
        next(iter(tagged(folder, tags="xpos").train))
    relations = {tag for e in tagged(folder, tags="deprel").test for tag in e.values["tags"]}
    assert {"root", "nsubj", "obl:mod"} <= relations
    assert any(" " in token for e in tagged(folder).train for token in e.values["tokens"])


# --- The embedded sample -----------------------------------------------------------


@pytest.fixture(scope="module")
def sample():
    splits = TaggedSentences().open()
    return {
        part: [(e.values["tokens"], e.values["tags"]) for e in getattr(splits, part)]
        for part in PARTS
    }


def windows(sentences, reach):
    """Yields each word with `reach` neighbours on either side, and its tag."""
    for tokens, tags in sentences:
        padded = [""] * reach + list(tokens) + [""] * reach
        for i, tag in enumerate(tags):
            yield tuple(padded[i : i + 2 * reach + 1]), tag


def counted(sentences, reach):
    counts = collections.defaultdict(collections.Counter)
    for window, tag in windows(sentences, reach):
        counts[window][tag] += 1
    return counts


def accuracy(sample, reach):
    """Returns the accuracy on test of the commonest tag of the widest window that is in train."""
    counts_by_width = [counted(sample["train"], width) for width in range(reach + 1)]
    correct = []
    for window, tag in windows(sample["test"], reach):
        prediction = "NOUN"
        for width, counts in enumerate(counts_by_width):
            if tags := counts.get(window[reach - width : reach + width + 1]):
                prediction = tags.most_common(1)[0][0]
        correct.append(prediction == tag)
    return sum(correct) / len(correct)


def test_the_sample_is_the_same_on_every_machine(sample):
    digest = hashlib.sha256(json.dumps(sample).encode()).hexdigest()
    assert digest[:16] == "877e7fd86f7724a5"


def test_the_sample_has_the_stated_sizes_and_no_duplicates(sample):
    assert {part: len(sentences) for part, sentences in sample.items()} == english_grammar.SIZES
    texts = [tokens for sentences in sample.values() for tokens, _ in sentences]
    assert len(set(texts)) == len(texts)
    for part in PARTS:
        assert {tag for _, tags in sample[part] for tag in tags} == UNIVERSAL - {"SYM", "X"}


def test_words_of_the_sample_are_ambiguous_and_context_decides(sample):
    assert accuracy(sample, 0) < 0.9
    assert accuracy(sample, 0) + 0.02 < accuracy(sample, 1) < 0.95
    assert accuracy(sample, 2) < 0.95
    tags = counted(sample["train"], 0)
    for word, expected in {
        "that": {"SCONJ", "PRON", "DET"},
        "to": {"ADP", "PART"},
        "man": {"NOUN", "VERB"},
        "saw": {"NOUN", "VERB"},
        "plants": {"NOUN", "VERB"},
        "light": {"NOUN", "ADJ"},
        "clean": {"VERB", "ADJ"},
        "left": {"VERB", "ADJ"},
        "will": {"AUX", "NOUN"},
        "has": {"AUX", "VERB"},
        "after": {"ADP", "SCONJ"},
    }.items():
        assert set(tags[(word,)]) == expected


def test_the_number_of_a_distant_noun_decides_in_the_sample(sample):
    singular = set(english_grammar.WORDS["PERSON"])
    people = singular | set(english_grammar.WORDS["PEOPLE"])
    counts, numbers_by_window = collections.Counter(), collections.defaultdict(set)
    for tokens, tags in itertools.chain.from_iterable(sample.values()):
        for i in range(2, len(tokens) - 2):
            both, mass = tokens[i : i + 2]
            if both in english_grammar.WORDS["BOTHS"] and mass in english_grammar.WORDS["MASS"]:
                subject = max(n for n in range(i) if tokens[n] in people)
                is_singular = tokens[subject] in singular
                assert tags[i : i + 2] == (("VERB", "NOUN") if is_singular else ("NOUN", "VERB"))
                counts[is_singular] += 1
                numbers_by_window[tokens[i - 1 : i + 2]].add(is_singular)
                assert i - subject > 2
    assert min(counts.values()) > 200
    assert sum(len(numbers) == 2 for numbers in numbers_by_window.values()) > 100


def test_new_words_of_the_sample_have_endings_that_determine_their_tags(sample):
    train_words = {token for tokens, _ in sample["train"] for token in tokens}
    for part in PARTS[1:]:
        new = [
            (token, tag)
            for sentence in sample[part]
            for token, tag in zip(*sentence, strict=True)
            if token not in train_words and not token.isdecimal()
        ]
        assert len(new) > 60
        endings = {
            "ness": "NOUN", "ful": "ADJ", "ous": "ADJ", "ed": "VERB", "ing": "VERB", "ly": "ADV",
            "ize": "VERB",
        }  # fmt: skip
        for token, tag in new:
            tags = [endings[ending] for ending in endings if token.endswith(ending)]
            assert tags == [tag] or (token.istitle() and tag == "PROPN")
        assert {tag for _, tag in new} == {"NOUN", "ADJ", "VERB", "ADV", "PROPN"}
