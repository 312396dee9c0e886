"""Lower and upper case that the locale of the process does not change."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WORDS = "TITLE title İÇİNDE içinde ΣΑΣ Straße ǆ i I ı 語 \U0001f600"
PROGRAM = """
import sys
import tensorflow as tf
from models.text import case
words = tf.constant(sys.argv[1:])
for change in (case.lower, case.upper):
    sys.stdout.buffer.write(b" ".join(change(words).numpy()) + bytes([10]))
"""


@pytest.mark.parametrize("locale", ["C", "tr_TR.UTF-8"])
def test_case_is_that_of_unicode_in_every_locale(locale):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *WORDS.split()],
        env={"LC_ALL": locale, "PYTHONUTF8": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    lower, upper = result.stdout.decode("utf-8").splitlines()
    assert lower == WORDS.lower() and upper == WORDS.upper()
