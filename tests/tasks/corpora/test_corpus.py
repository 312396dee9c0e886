"""Labelled texts: every supported layout, and messages about broken corpora."""

import gzip
import json
import shutil
import zipfile

import pytest
import tensorflow as tf

from models.text.words import Vocabulary
from tasks.core.errors import UserError
from tasks.core.examples import PARTS, position
from tasks.corpora.labelled_text import LabelledTexts

ROWS = [("a fine film", "good"), ("a dull film", "bad"), ("ça , non", "bad"), ("one, two", "good")]


def tsv(rows=ROWS):
    return "".join(f"{text}\t{label}\n" for text, label in rows)


def csv(rows=ROWS):
    return "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows)


def jsonl(rows=ROWS):
    return "".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in rows)


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return root


def class_files(name):
    return {
        f"{name}.{label}": "".join(f"{t}\n" for t, n in ROWS if n == label)
        for label in ("good", "bad")
    }


def class_folders(name):
    return {f"{name}/{label}/{i}.txt": text for i, (text, label) in enumerate(ROWS)}


def read(*streams):
    return sorted((e.values["text"], e.values["label"]) for stream in streams for e in stream)


def read_all(splits):
    return read(*(getattr(splits, part) for part in PARTS))


LAYOUTS = {
    "tsv": {f"{part}.tsv": tsv() for part in ("train", "valid", "test")},
    "dev": {f"{part}.tsv": tsv() for part in ("train", "dev", "test")},
    "val": {f"{part}.csv": csv() for part in ("train", "val", "test")},
    "jsonl": {f"{part}.jsonl": jsonl() for part in ("train", "valid", "test")},
    "class files": class_files("train") | class_files("dev") | class_files("test"),
    "class folders": class_folders("train") | class_folders("valid") | class_folders("test"),
    "mixed": {"train.csv": csv(), "valid.jsonl": jsonl()} | class_folders("test"),
    "windows": {f"{p}.tsv": "\ufeff" + tsv().replace("\n", "\r\n") for p in PARTS},
}


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_with_parts_is_read(tmp_path, layout, zipped):
    path = write(tmp_path / "corpus", LAYOUTS[layout])
    if zipped:
        path = shutil.make_archive(str(tmp_path / "corpus"), "zip", tmp_path, "corpus")
    splits = LabelledTexts(data=str(path)).open()
    assert not splits.notes
    for part in PARTS:
        assert read(getattr(splits, part)) == sorted(ROWS)
        assert read(getattr(splits, part)) == sorted(ROWS)  # again, from the beginning


@pytest.mark.parametrize("layout", ["tsv", "dev", "val", "jsonl", "class files"])
def test_files_may_be_compressed(tmp_path, layout):
    write(tmp_path, LAYOUTS[layout])
    for path in list(tmp_path.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    splits = LabelledTexts(data=str(tmp_path)).open()
    assert not splits.notes
    for part in PARTS:
        assert read(getattr(splits, part)) == sorted(ROWS)


UNDIVIDED = {
    "reviews.tsv": {"reviews.tsv": tsv()},
    "reviews.txt": {"reviews.txt": tsv()},
    "reviews.csv": {"reviews.csv": csv()},
    "reviews.jsonl": {"reviews.jsonl": jsonl()},
    "class files": class_files("polarity") | {"README.md": "about the corpus"},
    "class folders": class_folders("."),
}


@pytest.mark.parametrize("name", UNDIVIDED)
def test_an_undivided_corpus_is_split_by_label_and_hash(tmp_path, name):
    root = write(tmp_path / "corpus", UNDIVIDED[name])
    splits = LabelledTexts(data=str(root / name if "." in name else root)).open()
    assert splits.notes == (
        "no valid and no test part: split by label and the hash of the text into "
        "train 80 %, valid 10 %, test 10 %",
    )
    assert read_all(splits) == sorted(ROWS)


def test_splits_are_stable_keep_duplicates_together_and_have_the_right_shares(tmp_path):
    rows = [(f"text {n % 3000}", "good" if n % 2 else "bad") for n in range(6000)]
    rows += [(f"  text {n} ", "good") for n in range(100)]
    write(tmp_path, {"all.tsv": tsv(rows), "shuffled.tsv": tsv(rows[::-1])})
    corpora = [
        LabelledTexts(data=str(tmp_path / name), split="70/20/10").open()
        for name in ("all.tsv", "shuffled.tsv")
    ]
    for part, share in zip(PARTS, (0.7, 0.2, 0.1), strict=True):
        ordered, shuffled = (read(getattr(corpus, part)) for corpus in corpora)
        assert ordered == shuffled
        assert abs(len(ordered) / 6100 - share) < 0.03
    texts = [{t for t, _ in read(getattr(corpora[0], part))} for part in PARTS]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    assert position("text") == pytest.approx(0.5949, abs=1e-3)  # sha256("text") = 982d9e3e...


def test_a_missing_part_is_split_off_train_and_the_others_are_unchanged(tmp_path):
    rows = [(f"text {n}", "good" if n % 2 else "bad") for n in range(2000)]
    write(tmp_path, {"train.tsv": tsv(rows), "test.tsv": tsv()})
    splits = LabelledTexts(data=str(tmp_path)).open()
    assert splits.notes == (
        "no valid part: split by label and the hash of the text into train 88.9 %, valid 11.1 %",
    )
    assert read(splits.test) == sorted(ROWS)
    train, valid = read(splits.train), read(splits.valid)
    assert sorted(train + valid) == sorted(rows)
    assert [label for _, label in valid].count("good") == len(valid) / 2 == 111


def test_parts_can_be_named_one_by_one(tmp_path):
    write(tmp_path, {"a.tsv": tsv(), "b.csv": csv(), "c/good/1.txt": "x", "c/bad/2.txt": "y"})
    a, b, c = (str(tmp_path / name) for name in ("a.tsv", "b.csv", "c"))
    splits = LabelledTexts(train=a, valid=b, test=c).open()
    assert read(splits.train) == read(splits.valid) == sorted(ROWS)
    assert read(splits.test) == [("x", "good"), ("y", "bad")]
    write(tmp_path, {"all/train.tsv": tsv(), "all/test.tsv": tsv(), "all/test.csv": csv()})
    for data in (
        b,
        str(tmp_path / "all"),
    ):  # --test resolves the ambiguity of test.tsv and test.csv
        with_test = LabelledTexts(data=data, test=c).open()
        assert read(with_test.test) == [("x", "good"), ("y", "bad")]


def test_other_keys_and_encodings_are_read(tmp_path):
    write(
        tmp_path,
        {
            "a.jsonl": '{"review": "été", "stars": 5}\n{"review": "b", "stars": true}\n',
            "b.csv": 'id,stars,review\n1,5,"two\nlines"\n2,1,b\n',
            "c.tsv": "été\tgood\nhiver\tbad\n".encode("latin-1"),
        },
    )
    keys = {"text_key": "review", "label_key": "stars", "split": "1/1/1"}
    for name, expected in (
        ("a.jsonl", [("b", "true"), ("été", "5")]),
        ("b.csv", [("b", "1"), ("two\nlines", "5")]),
    ):
        assert read_all(LabelledTexts(data=str(tmp_path / name), **keys).open()) == expected
    latin = LabelledTexts(train=str(tmp_path / "c.tsv"), encoding="latin-1").open()
    assert ("été", "good") in read_all(latin)


def test_an_unpaired_surrogate_is_not_an_error(tmp_path):
    write(tmp_path, {"a.jsonl": '{"text": "a \\ud83d b", "label": "x"}\n' + jsonl()})
    splits = LabelledTexts(train=str(tmp_path / "a.jsonl")).open()
    assert ("a ? b", "x") in read_all(splits)


LABELS = {
    "Persian": "می\u200cخواهم",
    "emoji": "👨\u200d👩\u200d👧",
    "French": "très\u00a0bien\u202f!",
    "soft hyphen": "un\u00adsure",
    "private use": "a\ue000b",
    "right to left": "\u200fטוב",
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_may_contain_invisible_characters(tmp_path, name):
    label = LABELS[name]
    rows = [("a fine film", label), ("a dull film", f"{label}2")]
    layouts = {"a.tsv": tsv(rows), "a.csv": csv(rows), "a.jsonl": jsonl(rows)}
    layouts |= {f"files/a.{n}": f"{text}\n" for text, n in rows}
    layouts |= {f"folders/{n}/1.txt": text for text, n in rows}
    write(tmp_path, layouts)
    for path in ("a.tsv", "a.csv", "a.jsonl", "files", "folders"):
        assert read_all(LabelledTexts(data=str(tmp_path / path)).open()) == sorted(rows)
    labels = [n for _, n in rows]
    Vocabulary.write(tmp_path / "labels.txt", labels)
    served = Vocabulary(tmp_path / "labels.txt", first=0)
    decoded = served.decode(served.encode(tf.constant(labels))).numpy()
    assert [raw.decode() for raw in decoded] == labels


def test_origins_name_file_and_line(tmp_path):
    write(tmp_path, {"train.tsv": "\n" + tsv(), "test.tsv": tsv(), "valid.csv": csv()})
    splits = LabelledTexts(data=str(tmp_path)).open()
    assert next(iter(splits.train)).origin == f"{tmp_path / 'train.tsv'}:2"
    assert next(iter(splits.valid)).origin == f"{tmp_path / 'valid.csv'}:2"


def test_unlabelled_reviews_are_skipped_with_a_note(tmp_path):
    write(tmp_path, class_folders("train") | class_folders("test") | {"train/unsup/0.txt": "x"})
    splits = LabelledTexts(data=str(tmp_path)).open()
    assert "train/unsup contains unlabelled texts: skipped" in splits.notes[0]
    assert {label for _, label in read(splits.train)} == {"good", "bad"}


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_hidden_files_in_class_folders_are_not_texts(tmp_path, zipped):
    metadata = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \xff"
    hidden = {
        "train/good/._1.txt": metadata,
        "train/good/.DS_Store": metadata,
        "train/bad/.draft.txt": "hidden",
        "train/.git/a.txt": "hidden",
        "train/images/._a.txt": metadata,  # no texts, so not a class
        "._train/good/1.txt": metadata,
        "__MACOSX/train/good/._1.txt": metadata,
    }
    path = write(tmp_path / "corpus", class_folders("train") | hidden)
    if zipped:
        path = shutil.make_archive(str(tmp_path / "corpus"), "zip", tmp_path, "corpus")
    assert read_all(LabelledTexts(data=str(path)).open()) == sorted(ROWS)
    if not zipped:
        assert read_all(LabelledTexts(data=str(path / "train")).open()) == sorted(ROWS)


BROKEN = {
    "no such file": ({}, "nowhere", r"--data: no such file or folder: .*nowhere"),
    "empty folder": ({"a/.hidden": ""}, "a", r"no corpus found among \[\]. Expected train, valid"),
    "other files": ({"a/x.png": "", "a/y.xml": ""}, "a", r"among \['x.png', 'y.xml'\]"),
    "two wholes": ({"a/x.tsv": tsv(), "a/y.tsv": tsv()}, "a", r"ambiguous: \['x.tsv', 'y.tsv'\]"),
    "two trains": (
        {"a/train.tsv": tsv(), "a/train.csv": csv()},
        "a",
        r"several candidates for the train part: train.csv, train.tsv",
    ),
    "no train": ({"a/test.tsv": tsv()}, "a", "there is a test part but no train part"),
    "empty": ({"a.tsv": ""}, "a.tsv", r"a.tsv: the file contains no examples"),
    "blank": ({"a.tsv": "\n  \n"}, "a.tsv", r"a.tsv: the file contains no examples"),
    "one column": ({"a.tsv": tsv() + "no tab here\n"}, "a.tsv", r"a.tsv:5: .*got 1 column: 'no"),
    "three columns": ({"a.tsv": "a\tb\tc\n"}, "a.tsv", r"a.tsv:1: .*got 3 columns"),
    "no label": ({"a.tsv": "text\t \n"}, "a.tsv", r"a.tsv:1: the label is empty"),
    "control character in a label": (
        {"a.tsv": "text\ta\x07b\n"},
        "a.tsv",
        r"a.tsv:1: the label must be one line without control characters, got 'a\\x07b'",
    ),
    "line separator in a label": ({"a.tsv": "text\ta\u2028b\n"}, "a.tsv", r":1: the label must be"),
    "label of two lines": ({"a.csv": 'text,label\nx,"a\nb"\n'}, "a.csv", r":3: the label must be"),
    "surrogate in a label": (
        {"a.jsonl": '{"text": "a", "label": "x\\ud83d"}\n'},
        "a.jsonl",
        r"a.jsonl:1: the label must be",
    ),
    "not utf-8": (
        {"a.tsv": b"ok\tgood\n\xc4\xe3\tbad\n"},
        "a.tsv",
        r"a.tsv:2: not valid utf-8.*0xc4",
    ),
    "no header": (
        {"a.csv": "x,y\n1,2\n"},
        "a.csv",
        r"a.csv:1: missing column 'text'; the columns are .*--text-key",
    ),
    "short row": ({"a.csv": 'text,label\n"a\nb",x\nc\n'}, "a.csv", r"a.csv:4: expected 2 columns"),
    "bad csv": ({"a.csv": 'text,label\n"a"b,c\n'}, "a.csv", r"a.csv:2: not valid CSV"),
    "chinese csv": (
        {"a.csv": b"text,label\n\xc4\xe3,good\n"},
        "a.csv",
        r"a.csv:2: not valid utf-8",
    ),
    "bad json": ({"a.jsonl": jsonl() + "{\n"}, "a.jsonl", r"a.jsonl:5: not valid JSON"),
    "no object": ({"a.jsonl": "3\n"}, "a.jsonl", r"a.jsonl:1: expected a JSON object, got '3'.$"),
    "array": ({"a.jsonl": "[1]\n"}, "a.jsonl", r"a.jsonl:1: expected a JSON .* one array to .json"),
    "empty table": ({"a.csv": ""}, "a.csv", r"a.csv: the file contains no examples"),
    "no key": ({"a.jsonl": '{"txt": 1}\n'}, "a.jsonl", r"a.jsonl:1: missing key 'text'; .*'txt'"),
    "number": ({"a.jsonl": '{"text": 1, "label": "a"}\n'}, "a.jsonl", r":1: 'text' must be a str"),
    "float": ({"a.jsonl": '{"text": "a", "label": 0.5}\n'}, "a.jsonl", r":1: 'label' must be"),
    "not a zip": ({"a.zip": "nothing"}, "a.zip", r"a.zip: not a valid zip archive"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_corpus_is_reported_with_file_and_line(tmp_path, name):
    files, path, message = BROKEN[name]
    write(tmp_path, files)
    with pytest.raises(UserError, match=message):
        for part in PARTS:
            list(getattr(LabelledTexts(data=str(tmp_path / path)).open(), part))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"split": "80/20"}, "--split must be three positive numbers"),
        ({"split": "80/20/0"}, "--split must be three positive numbers"),
        ({"split": "a/b/c"}, "--split must be three positive numbers"),
        ({"encoding": "utf-9"}, "--encoding must be an encoding that Python knows, .* got 'utf-9'"),
        ({"encoding": "undefined"}, "--encoding must be .* got 'undefined'"),
        ({"encoding": "hex"}, "--encoding must be .* got 'hex'"),
        ({"encoding": "a\0b"}, "--encoding must be .* got 'a.x00b'"),
    ],
)
def test_an_invalid_flag_is_rejected(flags, message):
    with pytest.raises(UserError, match=message):
        LabelledTexts(**flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"train": "x", "data": "y"}, "--train and --data both specify"),
        ({"test": "x"}, "--test requires --train or --data"),
        ({"train": "nowhere"}, "--train: no such file or folder"),
    ],
)
def test_contradicting_flags_are_rejected(flags, message):
    with pytest.raises(UserError, match=message):
        LabelledTexts(**flags).open()


def test_a_zip_is_read_in_place(tmp_path, data_dir):
    path = data_dir / "sentiment/movie_reviews/movie_reviews.zip"
    splits = LabelledTexts(data=str(path)).open()
    counts = [sum(1 for _ in getattr(splits, part)) for part in PARTS]
    assert sum(counts) == 2000
    assert {e.values["label"] for e in splits.test} == {"neg", "pos"}
    with zipfile.ZipFile(path) as file:
        assert len([n for n in file.namelist() if n.endswith(".txt")]) == 2000


def test_rotten_tomatoes_is_read_as_it_was_published(data_dir):
    splits = LabelledTexts(data=str(data_dir / "sentiment/mr")).open()
    labels = [e.values["label"] for part in PARTS for e in getattr(splits, part)]
    assert labels.count("pos") == labels.count("neg") == 5331
