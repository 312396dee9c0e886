"""Edit scripts give their lemma back, in Python and in a graph, and apply to any form."""

import itertools
import random

import pytest
import tensorflow as tf

from models.text.edit_scripts import EditScripts, apply_script, edit_script, is_edit_script

PAIRS = {  # written by hand
    ("the", "the"): "lower¦-0+¦-0+",
    ("The", "the"): "lower¦-0+¦-0+",
    ("Paris", "Paris"): "keep¦-0+¦-0+",
    ("parties", "party"): "lower¦-0+¦-3+y",
    ("Cities", "city"): "lower¦-0+¦-3+y",
    ("is", "be"): "=be",
    ("PARIS", "Paris"): "capital¦-0+¦-0+",
    ("nato", "NATO"): "upper¦-0+¦-0+",
    ("gelaufen", "laufen"): "lower¦-2+¦-0+",
    ("n't", "not"): "lower¦-0+¦-2+ot",
    ("2,000", "2,000"): "lower¦-0+¦-0+",
    ("étés", "été"): "lower¦-0+¦-1+",
    ("好", "好"): "lower¦-0+¦-0+",
    ("a¦b", "x¦y"): "lower¦-1+x¦-1+y",
    ("ab", "¦b¦"): "=¦b¦",
}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_scripts_are_the_shortest(pair):
    assert edit_script(*pair) == PAIRS[pair]


def drawn_words(count=150):
    rng = random.Random(2)
    return ["".join(rng.choices("abAB+-=¦éÉ好🙂'", k=rng.randint(1, 6))) for _ in range(count)]


def test_a_script_gives_back_its_lemma():
    words = drawn_words()
    for form, lemma in [*PAIRS, *zip(words, reversed(words), strict=True)]:
        script = edit_script(form, lemma)
        assert is_edit_script(script) and apply_script(script, form) == lemma


OTHER = ["NOUN", "O", "B-PER", "=", "lower", "lower¦-0+", "title¦-0+¦-0+", ""]


@pytest.mark.parametrize("tag", OTHER)
def test_other_tags_are_no_scripts(tag):
    assert not is_edit_script(tag)
    with pytest.raises(ValueError, match="not an edit script"):
        apply_script(tag, "form")


def test_a_graph_applies_any_script_to_any_form_as_python_does():
    forms = [*drawn_words(40), "", "x", "Straße"]
    drawn = {edit_script(form, lemma) for form, lemma in itertools.pairwise(forms) if lemma}
    scripts = sorted({*PAIRS.values(), *drawn})
    pairs = [(number, form) for number in range(len(scripts)) for form in forms]
    ids, words = zip(*pairs, strict=True)
    lemmas = tf.function(EditScripts(scripts).apply)(tf.constant(ids), tf.constant(words))
    for (number, form), lemma in zip(pairs, lemmas.numpy(), strict=True):
        assert lemma.decode() == apply_script(scripts[number], form), (scripts[number], form)
