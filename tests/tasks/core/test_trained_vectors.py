"""Word vectors learnt from the training part and from texts without labels."""

import random

import numpy as np
import pytest
import tensorflow as tf

import tasks
from tasks.core import trained_vectors
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream

CLUSTERS = (["cat", "dog", "cow", "horse"], ["red", "blue", "green", "grey"])


def texts(count, seed=0):
    """Texts whose words are of one cluster each."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(CLUSTERS[n % 2], k=12)) for n in range(count)]


def learn(name, folder, unlabelled, **settings):
    pytest.importorskip("gensim")
    folder.mkdir()
    train = [
        Example({"text": text, "tokens": tuple(text.split()), "label": label, "tags": tags}, "x:1")
        for text, label in (("Cat red", "a"), ("cat Red", "b"))
        for tags in [("A", "B")]
    ]
    task, stream = tasks.find(name), Stream(lambda: iter(train))
    config = task.Config(vectors="train", unlabelled=str(unlabelled), vectors_size=8, **settings)
    return task.learn(config, stream, folder, stream)


@pytest.mark.parametrize("name", ["sentiment", "tagging"])
def test_words_of_texts_without_labels_are_known_and_near_those_they_occur_with(name, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts(400)), encoding="utf-8")
    task = learn(name, tmp_path / "assets", file)
    table = np.load(tmp_path / "assets" / "vectors.npy")
    table /= np.linalg.norm(table, axis=1, keepdims=True) + 1e-9
    ids = [task.words.encode(tf.constant(words)).numpy() for words in CLUSTERS]
    assert min(map(min, ids)) > 1 and task.vectors.rest == 6
    within = min((table[i] @ table[j]) for group in ids for i in group for j in group)
    between = max((table[i] @ table[j]) for i in ids[0] for j in ids[1])
    assert within > between
    remark = task.remarks()[0]
    assert "word vectors of the train part and texts.txt (skip-gram, " in remark
    assert "cover 100.0% of the different words" in remark
    assert (task.config.vectors, task.config.unlabelled) == ("train", "texts.txt")
    again = learn(name, tmp_path / "again", file)
    assert again.vectors == task.vectors


def test_what_cannot_be_learnt_from_is_rejected_before_the_corpus_is_read(tmp_path, monkeypatch):
    Config = tasks.find("sentiment").Config
    with pytest.raises(UserError, match=r"combined with the file of --vectors, glove\.txt"):
        Config(unlabelled="texts.txt", vectors="glove.txt")
    monkeypatch.setattr(trained_vectors.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(UserError, match=r"--unlabelled: no file or folder .*absent\.txt"):
        Config(vectors="train", unlabelled=str(tmp_path / "absent.txt")).check_files()
    with pytest.raises(UserError, match=r"--unlabelled: the folder .* has no \.txt files"):
        Config(vectors="train", unlabelled=str(tmp_path)).check_files()
    monkeypatch.setattr(trained_vectors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: pip install -r requirements-vectors"):
        Config(vectors="train").check_files()
