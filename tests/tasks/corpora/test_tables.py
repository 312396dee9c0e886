"""Tables of labelled texts: delimiters, headers and the order of columns are detected."""

import gzip

import pytest

from tasks.core.errors import UserError
from tasks.corpora.labelled_text import LabelledTexts

ROWS = [(f"this is text number {n}", "good" if n % 2 else "bad") for n in range(12)]
SWAPPED = [row[::-1] for row in ROWS]


def table(separator, rows=ROWS, header=""):
    return "".join(f"{line}\n" for line in [header, *map(separator.join, rows)] if line)


def open_table(folder, name, content, **settings):
    """Returns the texts and labels of a file and the notes on it."""
    path = folder / name
    raw = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    parts, notes = LabelledTexts(data=str(path), **settings)._existing_parts()
    assert not notes
    examples = [(e.values["text"], e.values["label"]) for e in parts["train"]]
    return examples, list(parts["train"].notes())


NUMBERED = [("1", *row) for row in ROWS]
# name, content, settings, note after the name
DETECTED = {
    "semicolons": ("a.csv", table(";", ROWS, "text;label"), {}, ";, header text;label, UTF-8"),
    "compressed": ("a.csv.gz", table(";", ROWS, "text;label"), {}, ";, header text;label, UTF-8"),
    "byte order mark": ("a.csv", "\ufeff" + table("|", ROWS, "text|label"), {}, "|, header text|"),
    "known names": (
        "a.csv",
        table(",", ROWS, "review,sentiment"),
        {},
        "commas, header review,sentiment, the text is review and the label sentiment, UTF-8",
    ),
    "label first": ("a.csv", table("\t", SWAPPED, "Stars\tComment"), {}, "tabs, header Stars, Co"),
    "named columns": (
        "a.csv",
        table(";", NUMBERED, "id;Kommentar;Note"),
        {"text_key": "Kommentar", "label_key": "Note"},
        ";, header id;Kommentar;Note, the text is Kommentar and the label Note, UTF-8",
    ),
    "encoding": (
        "a.csv",
        table(";", ROWS, "text;label").encode("utf-16"),
        {"encoding": "utf-16"},
        ";, header text;label, UTF-16",
    ),
    "no header": (
        "a.csv",
        table(";", SWAPPED),
        {"header": False},
        ";, no header, the text is column 2 and the label column 1, UTF-8",
    ),
    "numbers": (
        "a.csv",
        table(",", NUMBERED),
        {"header": False, "text_key": "2", "label_key": "3"},
        "commas, no header, the text is column 2 and the label column 3, UTF-8",
    ),
    "SST-2 of GLUE": (
        "a.tsv",
        table("\t", ROWS, "sentence\tlabel"),
        {},
        "tabs, header sentence, label, the text is sentence and the label label, UTF-8",
    ),
    "other columns": ("a.tsv", table("\t", NUMBERED, "Id\tPhrase\tSentiment"), {}, "tabs, header"),
    "tsv, label first": (
        "a.tsv",
        table("\t", SWAPPED),
        {},
        "tabs, no header, the text is column 2 and the label column 1, UTF-8",
    ),
    "tsv with a header": ("a.tsv", table("\t", ROWS, "Satz\tNote"), {"header": True}, "tabs, head"),
    "txt": ("a.txt", table(";"), {}, ";, no header, the text is column 1 and the label column 2"),
    "txt with a header": ("a.txt", "\n" + table(",", ROWS, "text,label"), {}, "commas, header te"),
    "given": ("a.csv", table("~", ROWS, "text~label"), {"delimiter": "~"}, "~, header text~label"),
}


@pytest.mark.parametrize("name", DETECTED)
def test_the_format_of_a_table_is_detected_and_reported(tmp_path, name):
    file, content, settings, note = DETECTED[name]
    examples, notes = open_table(tmp_path, file, content, **settings)
    assert examples == ROWS
    assert len(notes) == 1 and notes[0].startswith(f"{file}: separated by {note}")


DOCUMENTED = {
    "tsv": ("a.tsv", table("\t"), {}),
    "named tab": ("a.tsv", table("\t"), {"delimiter": "tab"}),
    "txt": ("a.txt", table("\t"), {}),
    "csv": ("a.csv", table(",", ROWS, "text,label"), {}),
    "tsv with numbers": (
        "a.tsv",
        table("\t", [(*row, "1") for row in ROWS]),
        {"header": False, "text_key": "1", "label_key": "2"},
    ),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_documented_layout_is_read_without_a_note(tmp_path, name):
    file, content, settings = DOCUMENTED[name]
    assert open_table(tmp_path, file, content, **settings) == (ROWS, [])


def test_quoted_fields_may_contain_delimiters_and_line_breaks(tmp_path):
    content = 'text;label\n"one; two,\nthree ""four""";x\n"five, six";y\n'
    examples, notes = open_table(tmp_path, "a.csv", content)
    assert examples == [('one; two,\nthree "four"', "x"), ("five, six", "y")]
    assert notes == ["a.csv: separated by ;, header text;label, UTF-8"]


def test_a_first_line_that_may_be_an_example_is_one(tmp_path):
    for header in ("Satz\tNote", "text\tgood", "this is a text\tlabel"):
        examples, notes = open_table(tmp_path, "a.tsv", table("\t", ROWS, header))
        assert examples == [tuple(header.split("\t")), *ROWS] and not notes
    named = [("review", "class"), *ROWS, ("a school", "class")]  # class is a label here
    assert open_table(tmp_path, "a.tsv", table("\t", named)) == (named, [])
    header = table("\t", ROWS, "sentence\tlabel")
    examples, _ = open_table(tmp_path, "a.tsv", header, header=False)
    assert examples == [("sentence", "label"), *ROWS]


@pytest.mark.parametrize(
    "rows",
    [
        SWAPPED[:6],  # too few rows to decide
        [(label, f"{n}") for n, (_, label) in enumerate(ROWS)],  # short texts
        [(f"{label} {n}", text) for n, (text, label) in enumerate(ROWS)],  # many labels
        [(label, "always the same long text") for _, label in ROWS],
    ],
)
def test_the_text_comes_first_in_doubt(tmp_path, rows):
    assert open_table(tmp_path, "a.tsv", table("\t", rows)) == (rows, [])


WRONG = {
    "names the flags": (
        ("a.csv", table(";", ROWS, "Kommentar;Note"), {}),
        r"a.csv:1: missing column 'text'; the columns are \['Kommentar', 'Note'\]. .*--no-header",
    ),
    "label": (("a.csv", "text,note\nx,y\n", {}), "missing column 'label'; .* with --label-key"),
    "ambiguous names": (("a.csv", "review,comment,class\na,b,c\n", {}), "missing column 'text'"),
    "no numbers": (
        ("a.csv", table(",", NUMBERED), {"header": False}),
        "a.csv:1: expected a text and a label, got 3 columns without a header; select two",
    ),
    "numbers out of range": (
        ("a.csv", table(","), {"header": False, "text_key": "3", "label_key": "1"}),
        "--text-key must be a column number from 1 to 2, because there is no header, got '3'",
    ),
    "prose": (("a.txt", "Hello, world\nOne, two\n" * 9, {}), "a.txt:1: .*got 1 column: 'Hello, w"),
    "one column": (("a.csv", "text\nx\n", {}), "a.csv:1: missing column 'label'"),
    "another count": (
        ("a.csv", "a,b\nc,d,e\n", {"header": False}),
        "a.csv:2: expected 2 columns as in the first row, got 3",
    ),
    "malformed header": (("a.csv", '"a"b,c\n', {}), "a.csv:1: not valid CSV"),
    "delimiter": (("a.csv", "", {"delimiter": "::"}), "--delimiter must be one character, .*'::'"),
    "quote": (("a.csv", "", {"delimiter": '"'}), "--delimiter must be one character"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_table_that_is_not_understood_is_an_error(tmp_path, name):
    (file, content, settings), message = WRONG[name]
    with pytest.raises(UserError, match=message):
        open_table(tmp_path, file, content, **settings)
