"""Records and reports do not name folders of the machine."""

import dataclasses
import html
from pathlib import Path

import pytest

from app.training.privacy import Folders


@dataclasses.dataclass
class Settings:
    data: str
    units: int = 3
    vectors: str = "relative/glove.txt"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/reviews", "reviews"),
        ("/home/me/reviews/train.tsv:3", "reviews/train.tsv:3"),
        (
            "line of /home/me/reviews/a b.tsv, and /home/me/other.txt",
            "line of reviews/a b.tsv, and other.txt",
        ),
        ("--data=/home/me/reviews --units=3", "--data=reviews --units=3"),
        ("'/home/me/reviews'", "'reviews'"),
        ("https://example.org/home/me/reviews", "https://example.org/home/me/reviews"),
        ("/usr/share", "/usr/share"),  # no folder of this run
        ("relative/glove.txt", "relative/glove.txt"),
    ],
)
def test_a_path_loses_the_folder_that_leads_to_it(text, expected):
    folders = Folders([Settings("/home/me/reviews")])
    assert folders.left_out(text) == expected
    nested = {"a": [text, 3, None], "b": {"c": (text,)}}
    assert folders.left_out(nested) == {"a": [expected, 3, None], "b": {"c": (expected,)}}


def test_further_folders_are_left_out_escaped_ones_too():
    folders = Folders([Settings("<b>/x")], [Path("/home/<me>/saved_models")])
    page = html.escape("/home/<me>/saved_models/sentiment/1")
    assert folders.left_out(page) == "saved_models/sentiment/1"
    assert folders.left_out(f"{Path.home()}/x y") in ("x y", f"{Path.home()}/x y"[1:])
