"""Parallel sentences: every supported layout, and messages about broken corpora."""

import csv
import gzip
import itertools
import json
import shutil
import tracemalloc

import pytest

from tasks.core.errors import UserError
from tasks.core.examples import PARTS
from tasks.corpora.parallel_text import ParallelSentences

PAIRS = [
    ("Ein Haus.", "A house."),
    ("Ça coûte 1/2 €", "It costs 1/2 €"),
    ("zwei\u2028Zeilen\u0085in\x0ceiner", "two lines, in one"),
    ("13\u00a0819 Seiten", 'the "pages", 13 819'),
]
LANGUAGES = {"source": "de", "target": "en"}


def lines(pairs, side):
    return "".join(pair[side] + "\n" for pair in pairs)


def parallel(name, pairs=PAIRS, ends=("de", "en")):
    return {f"{name}.{end}": lines(pairs, side) for side, end in enumerate(ends)}


def tsv(pairs=PAIRS, header=""):
    return header + "".join(f"{text}\t{translation}\n" for text, translation in pairs)


def four_columns(pairs=PAIRS, header=""):
    return header + "".join(f"{n}\t{e}\tby me\t {d} \n" for n, (d, e) in enumerate(pairs))


def jsonl(pairs=PAIRS, keys=("text", "translation")):
    return "".join(json.dumps(dict(zip(keys, pair, strict=True))) + "\n" for pair in pairs)


def nested(pairs=PAIRS):
    return "".join(
        json.dumps({"id": n, "translation": {"en": e, "de": d}}) + "\n"
        for n, (d, e) in enumerate(pairs)
    )


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = content if isinstance(content, bytes) else content.encode("utf-8")
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return root


def read(*streams):
    values = (example.values for stream in streams for example in stream)
    return sorted((value["text"], value["translation"]) for value in values)


def read_all(splits):
    return read(*(getattr(splits, part) for part in PARTS))


def pairs_in(path, **flags):
    return ParallelSentences(data=str(path), **flags).open()


# Formats: a function from a name to files, and the flags that they require.
WRITTEN = {
    "parallel": (parallel, LANGUAGES),
    "parallel, other case": (parallel, {"source": "DE", "target": "EN"}),
    "parallel, no languages": (lambda name: parallel(name, ends=("source", "target")), {}),
    "tsv": (lambda name: {f"{name}.tsv": tsv()}, {}),
    "txt": (lambda name: {f"{name}.txt": tsv()}, {}),
    "columns": (lambda name: {f"{name}.tsv": four_columns()}, {"source": "4", "target": "2"}),
    "header": (lambda name: {f"{name}.tsv": four_columns(header="n\ten\tby\tde\n")}, LANGUAGES),
    "jsonl": (lambda name: {f"{name}.jsonl": jsonl()}, {}),
    "keys": (lambda name: {f"{name}.jsonl": jsonl(keys=("de", "en"))}, LANGUAGES),
    "object": (lambda name: {f"{name}.jsonl": nested()}, LANGUAGES),
}
ENDS = {
    "as it is": lambda text: text,
    "windows": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "outer blanks": lambda text: text.replace("\n", "  \n"),
    "no last newline": lambda text: text.rstrip("\n"),
}


def compressed(files):
    return {f"{name}.gz": content for name, content in files.items()}


@pytest.mark.parametrize("packed", ["folder", "zip", "gz", "gz in zip"])
@pytest.mark.parametrize("valid", ["valid", "dev", "val"])
@pytest.mark.parametrize("written", WRITTEN)
def test_every_layout_with_parts_is_read(tmp_path, written, valid, packed):
    files_of, flags = WRITTEN[written]
    files = {}
    for name in ("train", valid, "test"):
        files |= files_of(name)
    files = compressed(files) if "gz" in packed else files
    path = write(tmp_path / "corpus", files | {"README.md": "", "_about.txt": "", "LICENSE": ""})
    if "zip" in packed:
        path = shutil.make_archive(str(tmp_path / "corpus"), "zip", tmp_path, "corpus")
    splits = pairs_in(path, **flags)
    assert not splits.notes
    for part in PARTS:
        assert read(getattr(splits, part)) == sorted(PAIRS)
        assert read(getattr(splits, part)) == sorted(PAIRS)  # again, from the beginning


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("written", WRITTEN)
def test_an_undivided_corpus_is_split_by_hash(tmp_path, written, ends):
    files_of, flags = WRITTEN[written]
    files = {name: ENDS[ends](text) for name, text in files_of("all").items()}
    write(tmp_path, files | {"README.txt": "", "_about.txt": ""})
    paths = [tmp_path, tmp_path / ("all" if len(files) == 2 else next(iter(files)))]
    for path in paths:
        splits = pairs_in(path, **flags)
        assert splits.notes == (
            "no valid and no test part: split by the hash of the text into "
            "train 80 %, valid 10 %, test 10 %",
        )
        assert read_all(splits) == sorted(PAIRS)
        part, notes = ParallelSentences(test=str(path), **flags).part("test")
        assert read(part) == sorted(PAIRS) and not notes


def test_translations_of_one_text_stay_in_one_part(tmp_path):
    pairs = [(f"Satz {n % 1000}", f"sentence {n}") for n in range(3000)]
    write(tmp_path, {"all.tsv": tsv(pairs)} | parallel("turned", pairs[::-1]))
    parts = []
    for name, flags in (("all.tsv", {}), ("turned", LANGUAGES)):
        splits = pairs_in(tmp_path / name, split="70/20/10", **flags)
        parts.append([read(getattr(splits, part)) for part in PARTS])
    assert parts[0] == parts[1]
    for pairs_of, share in zip(parts[0], (0.7, 0.2, 0.1), strict=True):
        assert abs(len(pairs_of) / 3000 - share) < 0.04
        assert len(pairs_of) == 3 * len({text for text, _ in pairs_of})


# --- Which part is which ---------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "read_as"),
    [
        (("train", "val", "test_2016_flickr"), ("train", "val", "test_2016_flickr")),
        (("train.tok", "dev2010", "test-a"), ("train.tok", "dev2010", "test-a")),
        (("train.de-en", "val.de-en", "test.en-de"), ("train.de-en", "val.de-en", "test.en-de")),
        (("train.de-en", "train.tags.de-en", "val", "value", "test_a", "testing"),
         ("train.de-en", "val", "test_a")),
        (("train", "train.bpe", "dev", "dev2010", "test", "test_2", "testing"),
         ("train", "dev", "test")),
    ],
)  # fmt: skip
def test_names_of_parts_may_have_a_continuation(tmp_path, names, read_as):
    for name in names:
        write(tmp_path, parallel(name, [(f"{name} {n}", str(n)) for n in range(3)]))
    splits = pairs_in(tmp_path, **LANGUAGES)
    assert not splits.notes
    for part, name in zip(PARTS, read_as, strict=True):
        assert read(getattr(splits, part)) == [(f"{name} {n}", str(n)) for n in range(3)]


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_a_flag_chooses_among_parts_by_path_or_by_name(tmp_path, zipped, monkeypatch):
    folder = write(tmp_path / "corpus", parallel("train") | parallel("val"))
    for name in ("test_2016", "test_2017", "more"):
        write(folder, parallel(name, [(name, "x")]))
    write(folder, {"last.tsv": "last\tx\n"})
    path = str(folder)
    if zipped:
        path = shutil.make_archive(str(tmp_path / "corpus"), "zip", tmp_path, "corpus")
    with pytest.raises(
        UserError,
        match=r"several candidates for the test part: test_2016, test_2017; .* with --test",
    ):
        pairs_in(path, **LANGUAGES)
    for name in ("test_2016", "test_2017", "more"):
        for test in (name, str(folder / name)):
            corpus = ParallelSentences(data=path, test=test, **LANGUAGES)
            assert read(corpus.open().test) == [(name, "x")]
            assert read(corpus.open().train) == read(corpus.open().valid) == sorted(PAIRS)
    columns = {"source": "1", "target": "2"}
    assert read(ParallelSentences(data=path, test="last.tsv", **columns).part("test")[0]) == [
        ("last", "x")
    ]
    monkeypatch.chdir(folder)  # an existing path takes precedence over a name in --data
    write(tmp_path / "other", parallel("train") | parallel("more", [("other", "x")]))
    corpus = ParallelSentences(data=str(tmp_path / "other"), test="more", **LANGUAGES)
    assert read(corpus.part("test")[0]) == [("more", "x")]


def test_parts_can_be_named_one_by_one(tmp_path):
    write(tmp_path, parallel("a") | compressed(parallel("b/c")) | {"d.jsonl": nested()})
    a, c, d = (str(tmp_path / name) for name in ("a", "b/c", "d.jsonl"))
    splits = ParallelSentences(train=a, valid=c, test=d, **LANGUAGES).open()
    assert read(splits.train) == read(splits.valid) == read(splits.test) == sorted(PAIRS)
    assert not splits.notes
    with_test = pairs_in(a, test=str(tmp_path / "b"), **LANGUAGES)
    assert read(with_test.test) == sorted(PAIRS)
    assert read(with_test.train, with_test.valid) == sorted(PAIRS)


def test_source_and_target_set_the_direction(tmp_path):
    write(tmp_path, parallel("train") | {"a.tsv": tsv(), "b.jsonl": nested()})
    turned = sorted((translation, text) for text, translation in PAIRS)
    for name, flags in (
        ("train", {"source": "en", "target": "de"}),
        ("b.jsonl", {"source": "en", "target": "de"}),
        ("a.tsv", {"source": "2", "target": "1"}),
    ):
        assert read_all(pairs_in(tmp_path / name, **flags)) == turned


# --- Lines -----------------------------------------------------------------------

HOLES = [("a", "b"), ("", "left"), ("", ""), ("right", " "), ("c", "d")]


@pytest.mark.parametrize("written", ["parallel", "tsv", "jsonl"])
def test_pairs_with_an_empty_side_are_skipped_and_counted(tmp_path, written):
    files = {"parallel": parallel("all", HOLES), "tsv": {"all.tsv": tsv(HOLES)}}
    write(tmp_path, files.get(written, {"all.jsonl": jsonl(HOLES)}))
    flags, name = (LANGUAGES, "all.de") if written == "parallel" else ({}, f"all.{written}")
    note = (
        f"{tmp_path / name}: skipped 2 of 4 pairs because one side is empty; "
        f"the first is {tmp_path / name}:2"
    )
    splits = pairs_in(tmp_path, **flags)
    assert splits.notes[0] == note and len(splits.notes) == 2
    assert read_all(splits) == [("a", "b"), ("c", "d")]
    part, notes = ParallelSentences(valid=str(tmp_path), **flags).part("valid")
    assert read(part) == [("a", "b"), ("c", "d")] and notes == (note,)
    origins = [example.origin for example in part]
    assert origins == [f"{tmp_path / name}:{line}" for line in (1, 5)]


def test_notes_of_a_part_are_about_that_part(tmp_path):
    write(tmp_path, {"train.tsv": "a\tb\n\tc\n", "valid.tsv": "a\tb\nd\t\n"})
    corpus = ParallelSentences(data=str(tmp_path))
    for part, files in (("train", ["train"]), ("valid", ["valid"]), ("test", ["train"])):
        notes = corpus.part(part)[1]
        assert [note.split(":")[0] for note in notes[:-1]] == [
            str(tmp_path / f"{file}.tsv") for file in files
        ]
        assert notes[-1].startswith("no test part")
    assert len(corpus.open().notes) == 3


def test_fields_of_a_table_may_be_long(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "field_size_limit", csv.field_size_limit)
    csv.field_size_limit(2**17)  # Python's default
    long = "Haus " * 2**15
    write(tmp_path, {"train.csv": f"de,en\n{long},house\n"})
    (pair,) = read(
        ParallelSentences(train=str(tmp_path / "train.csv"), **LANGUAGES).part("train")[0]
    )
    assert pair[0] == long.strip()


def test_other_columns_are_ignored(tmp_path):
    text = "Go.\tVa !\tCC-BY 2.0 (France)\nHi.\tSalut !\t\n"
    write(tmp_path, {"fra-eng/fra.txt": text, "fra-eng/_about.txt": "** Info **\n"})
    expected = [("Go.", "Va !"), ("Hi.", "Salut !")]
    assert read_all(pairs_in(tmp_path)) == expected


def test_a_tab_in_a_parallel_file_is_part_of_the_sentence(tmp_path):
    write(tmp_path, parallel("all", [("in einer \tFontäne", "in a fountain")]))
    assert read_all(pairs_in(tmp_path, **LANGUAGES)) == [("in einer \tFontäne", "in a fountain")]


def test_other_encodings_are_read(tmp_path):
    texts = parallel("all", [PAIRS[0], ("für", "été")])
    write(tmp_path, {name: text.encode("latin-1") for name, text in texts.items()})
    expected = [PAIRS[0], ("für", "été")]
    assert read_all(pairs_in(tmp_path, encoding="latin-1", **LANGUAGES)) == expected


def test_an_unpaired_surrogate_is_not_an_error(tmp_path):
    write(tmp_path, {"a.jsonl": '{"text": "a\\ud83d", "translation": "b"}'})
    assert read_all(pairs_in(tmp_path)) == [("a?", "b")]


def test_origins_name_file_and_line_of_the_source(tmp_path):
    files = compressed(parallel("a")) | {"b.tsv": "de\ten\n\n" + tsv(), "c.jsonl": nested()}
    write(tmp_path, files)
    for name, shown, line in (
        ("a", "a.de.gz", 1),
        ("b.tsv", "b.tsv", 3),
        ("c.jsonl", "c.jsonl", 1),
    ):
        train = ParallelSentences(train=str(tmp_path / name), **LANGUAGES).part("train")[0]
        origins = [example.origin for example in itertools.islice(train, 2)]
        assert origins == [f"{tmp_path / shown}:{n}" for n in (line, line + 1)]


@pytest.mark.parametrize("written", ["parallel", "parallel.gz", "tsv", "jsonl"])
def test_a_corpus_is_streamed(tmp_path, written):
    pairs = [(f"{n} " * 40, "x " * 40) for n in range(8_000)]
    files = {"tsv": {"all.tsv": tsv(pairs)}, "jsonl": {"all.jsonl": jsonl(pairs)}}
    files = files.get(written) or parallel("all", pairs)
    write(tmp_path, compressed(files) if "gz" in written else files)
    flags = LANGUAGES if "parallel" in written else {}
    tracemalloc.start()
    splits = pairs_in(tmp_path, **flags)
    assert sum(1 for part in PARTS for _ in getattr(splits, part)) == len(pairs)
    assert tracemalloc.get_traced_memory()[1] < 500_000  # of 2 MB and more
    tracemalloc.stop()


# --- Messages ----------------------------------------------------------------


BROKEN = {
    "no such file": (
        {},
        "nowhere",
        {},
        r"--data: no such file or folder: .*nowhere', and no such pair",
    ),
    "no such pair": (
        parallel("a"),
        "b",
        LANGUAGES,
        r"no such file or folder: '.*b', and no such pair: .*b\.de and .*b\.en\.",
    ),
    "no such language": (
        parallel("a/train") | {"a/train.fr": ""},
        "a",
        {"source": "de", "target": "cs"},
        r"--source and --target must be two of \['de', 'en', 'fr'\], .* got 'de' and 'cs'",
    ),
    "no languages": (
        parallel("a/train"),
        "a",
        {},
        r"--source and --target must be two of \['de', 'en'\], .* got '' and ''",
    ),
    "one language": (
        {"a/train.de": "x\n"},
        "a",
        LANGUAGES,
        r"no corpus found among \['train.de'\]. Expected .* as train.de and train.en",
    ),
    "one side": (
        parallel("a"),
        "a.de",
        LANGUAGES,
        r"a.de: one side .*; give their common prefix, '.*a'",
    ),
    "twice": (
        parallel("a/train") | {"a/train.de.gz": ""},
        "a",
        LANGUAGES,
        r"train.de and train.de.gz are the same side of a pair; keep only one",
    ),
    "empty folder": ({"a/.hidden": ""}, "a", {}, r"no corpus found among \[\]. Expected train, va"),
    "other files": ({"a/x.png": "", "a/y.xml": ""}, "a", {}, r"among \['x.png', 'y.xml'\]"),
    "two wholes": (
        {"a/x.tsv": ""} | parallel("a/y"),
        "a",
        LANGUAGES,
        r"ambiguous: \['x.tsv', 'y'\]",
    ),
    "two trains": (
        {"a/train.tsv": ""} | parallel("a/train"),
        "a",
        LANGUAGES,
        r"several candidates for the train part: train.tsv, train; keep one, .*--train",
    ),
    "no train": (parallel("a/test"), "a", LANGUAGES, "there is a test part but no train part"),
    "not a zip": ({"a.zip": "nothing"}, "a.zip", {}, r"a.zip: not a valid zip archive"),
    "source shorter": (
        {"a.de": "x\ny\n", "a.en": "x\ny\nz\n\n"},
        "a",
        LANGUAGES,
        r"a.de has 2 lines and .*a.en has 4; line n of one must be the translation",
    ),
    "target shorter": (
        {"a.de.gz": "x\ny\nz\n\n", "a.en": "x\ny\n"},
        "a",
        LANGUAGES,
        r"a.de.gz has 4 lines and .*a.en has 2;",
    ),
    "source empty": ({"a.de": "", "a.en": "x\n"}, "a", LANGUAGES, r"a.de has 0 lines and .* has 1"),
    "empty": ({"a.tsv": ""}, "a.tsv", {}, r"a.tsv: the file contains no examples"),
    "empty pair": (
        {"a.de": "", "a.en": ""},
        "a",
        LANGUAGES,
        r"a.de: the file contains no examples",
    ),
    "only a header": ({"a.tsv": "de\ten\n"}, "a.tsv", LANGUAGES, r"the file contains no examples"),
    "only empty sides": ({"a.tsv": "x\t\n\ty\n"}, "a.tsv", {}, r"the file contains no examples"),
    "one column": (
        {"a.tsv": "\nword\n"},
        "a.tsv",
        {},
        r"a.tsv:2: expected a sentence, a tab and its translation, got 1 column: 'word'",
    ),
    "more columns": (
        {"a.tsv": "a\tb\n\nc\td\te\n"},
        "a.tsv",
        {},
        r"a.tsv:3: expected 2 columns as above, got 3: 'c\\td\\te'",
    ),
    "no such column": (
        {"a.tsv": "a\tb\n"},
        "a.tsv",
        {"source": "1", "target": "3"},
        r"a.tsv:1: --target must be a column number from 1 to 2, .* got '3'; the line is 'a\\tb'",
    ),
    "no column 0": (
        {"a.tsv": "a\tb\n"},
        "a.tsv",
        {"source": "0", "target": "1"},
        r"a.tsv:1: --source must be a column number from 1 to 2",
    ),
    "no such name": (
        {"a.tsv": "de\tfr\n"},
        "a.tsv",
        LANGUAGES,
        r"a.tsv:1: --target must be .* a column name .*, got 'en'; the line is 'de\\tfr'",
    ),
    "not utf-8": (
        {"a.de": "x\nx\n", "a.en": b"ok\n\xc4\xe3\n"},
        "a",
        LANGUAGES,
        r"a.en:2: not valid utf-8.*0xc4",
    ),
    "bad json": ({"a.jsonl": jsonl() + "{\n"}, "a.jsonl", {}, r"a.jsonl:5: not valid JSON"),
    "no object": ({"a.jsonl": "[1]\n"}, "a.jsonl", {}, r"a.jsonl:1: expected a JSON object"),
    "no key": (
        {"a.jsonl": '{"text": "x"}\n'},
        "a.jsonl",
        {},
        r":1: missing key 'translation'; the keys are \['text'\]. Select one with --target",
    ),
    "no nested key": (
        {"a.jsonl": nested()},
        "a.jsonl",
        {},
        r":1: missing key 'text'; the keys are \['de', 'en'\]. Select one with --source",
    ),
    "number": (
        {"a.jsonl": '{"text": "x", "translation": 1}\n'},
        "a.jsonl",
        {},
        r":1: 'translation' must be a string, got '1'",
    ),
    "null": (
        {"a.jsonl": '{"text": null, "translation": "x"}\n'},
        "a.jsonl",
        {},
        r":1: 'text' must be a string, got 'null'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_corpus_is_reported_with_file_and_line(tmp_path, name):
    files, path, flags, message = BROKEN[name]
    write(tmp_path, files)
    with pytest.raises(UserError, match=message):
        read_all(pairs_in(tmp_path / path, **flags))


@pytest.mark.parametrize("broken", ["cut short", "no gzip", "changed"])
def test_a_damaged_compressed_file_is_reported(tmp_path, broken):
    whole = gzip.compress(lines(PAIRS * 100, 0).encode())
    content = {
        "cut short": whole[:-20],
        "no gzip": b"Ein Haus.\n",
        "changed": whole[:30] + b"\xff" * 8 + whole[38:],
    }[broken]
    write(tmp_path, {"a.en": lines(PAIRS * 100, 1)})
    (tmp_path / "a.de.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.de\.gz: cannot be read: "):
        read_all(pairs_in(tmp_path / "a", **LANGUAGES))


def test_sides_of_different_length_are_reported_on_opening(tmp_path):
    write(tmp_path, parallel("train") | parallel("test") | {"valid.de": "x\n", "valid.en": ""})
    with pytest.raises(UserError, match=r"valid.de has 1 lines and .*valid.en has 0"):
        pairs_in(tmp_path, **LANGUAGES)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"source": "de"}, "--source requires --target"),
        ({"target": "de"}, "--target requires --source"),
        ({"source": "de", "target": "de"}, "must differ, got 'de' for both"),
        ({"encoding": "utf-9"}, "--encoding must be an encoding that Python knows, .* got 'utf-9'"),
        (LANGUAGES, "--source and --target cannot be used with the sample"),
        ({"train": "x", "data": "y"}, "--train and --data both specify"),
        ({"test": "x"}, "--test requires --train or --data"),
        ({"train": "x", **LANGUAGES}, r"--train: no such .* 'x', and no such pair: x.de and x.en"),
        ({"train": "x"}, r"--train: no such .* 'x', and no such pair: x.source and x.target"),
    ],
)
def test_an_invalid_flag_is_rejected(flags, message):
    with pytest.raises(UserError, match=message):
        ParallelSentences(**flags).open()


# --- Real corpora ----------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "fr")])
def test_multi30k_is_read_as_it_was_published(data_dir, source, target):
    folder = data_dir / "translation" / "multi30k"
    splits = pairs_in(folder, source=source, target=target)
    assert not splits.notes
    names = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    for (part, name), count in zip(names.items(), (29_000, 1014, 1000), strict=True):
        examples = list(getattr(splits, part))
        assert len(examples) == count
        for key, language in (("text", source), ("translation", target)):
            published = gzip.decompress((folder / f"{name}.{language}.gz").read_bytes())
            published = published.decode("utf-8").split("\n")[:-1]
            assert [example.values[key] for example in examples] == [p.strip() for p in published]


def test_tatoeba_is_read_in_its_zip(data_dir):
    path = data_dir / "translation" / "tatoeba_fra_eng" / "fra-eng.zip"
    splits = pairs_in(path)
    parts = [read(getattr(splits, part)) for part in PARTS]
    assert sum(map(len, parts)) == 167_130
    texts = [{text for text, _ in part} for part in parts]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert ("Go.", "Va !") in parts[0] + parts[1] + parts[2]
    turned = ParallelSentences(data=str(path), source="2", target="1").part("train")[0]
    assert next(iter(turned)).values == {"text": "Va !", "translation": "Go."}
