"""Labelled texts in JSON arrays, of which one object at a time is in memory."""

import json

import pytest

from tasks.core.errors import UserError
from tasks.corpora import filesystem
from tasks.corpora.labelled_text import LabelledTexts

ROWS = [{"text": f"text {n} [{{\"'é\n", "label": "good" if n % 2 else n} for n in range(300)]


def read(path, **settings):
    parts, notes = LabelledTexts(data=str(path), **settings)._existing_parts()
    assert not [*notes, *parts["train"].notes()]
    return [(e.values["text"], e.values["label"], e.origin) for e in parts["train"]]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("chunk", [7, 2**15])
def test_an_array_is_read_whatever_its_layout(tmp_path, monkeypatch, indent, ascii_only, chunk):
    monkeypatch.setattr(filesystem, "_CHUNK_BYTES", chunk)
    path = tmp_path / "a.json"
    content = json.dumps(ROWS, indent=indent, ensure_ascii=ascii_only)
    path.write_text("\ufeff\n" + content + "\n", encoding="utf-8")
    examples = read(path)
    assert [(t, n) for t, n, _ in examples] == [(r["text"].strip(), str(r["label"])) for r in ROWS]
    lines = [2 + (1 + 4 * n if indent else 0) for n in range(len(ROWS))]
    assert [origin for _, _, origin in examples] == [f"{path}:{line}" for line in lines]


def test_an_array_on_one_line_may_be_longer_than_a_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "a" * 9000, "label": "b"}] * 40))
    assert len(read(path, max_line=100_000)) == 40


def test_lines_of_objects_may_be_named_json(tmp_path):
    (tmp_path / "train.json").write_text('{"review": "a", "stars": 5}\n{"review":"b","stars":1}\n')
    examples = read(tmp_path, text_key="review", label_key="stars")
    assert [example[:2] for example in examples] == [("a", "5"), ("b", "1")]
    (tmp_path / "train.csv").write_text("text,label\na,x\n")  # precedes it, as before
    assert [example[:2] for example in read(tmp_path)] == [("a", "x")]


BROKEN = {
    '[{"text": "a", "label": "b"},\n {"text": "c"}]': "a.json:2: missing key 'label'",
    '[{"text": "a", "label": 0.5}]': "a.json:1: 'label' must be a string",
    "[1]": "a.json:1: expected a JSON object, got '1'",
    '["a",\n"b"]': "a.json:1: expected a JSON object, got",
    '"text"': r"a.json:1: expected a JSON array of objects, \[",
    '[{"text": "a", "label": "b"}': "a.json:1: not valid JSON: expected a comma or ]",
    '[{"text": "a", "label": "b"} {}]': "a.json:1: not valid JSON: expected a comma or ]",
    '[\n{"text": "a",\n"label": b}]': "a.json:3: not valid JSON: Expecting value",
    '[{"text": "a': "a.json:1: not valid JSON: Unterminated string",
    '[{"text": "a", "label": "b"}]\n[]': "a.json:2: not valid JSON: there is text after the array",
    "[]": "a.json: the file contains no examples",
    "": "a.json: the file contains no examples",
    '[{"text": ' + "[" * 100_000 + "]" * 100_000 + "}]": "it is nested too deeply",
    '[{"text": "' + "a" * 300_000 + '", "label": "b"}]': "more than 200,000 characters",
}


@pytest.mark.parametrize("content", BROKEN, ids=[text[:40] for text in BROKEN])
def test_a_broken_array_is_reported_with_file_and_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=BROKEN[content]):
        read(path, max_line=200_000 if "aaa" in content else 2**26)
