"""Word vectors learnt from the training part and from texts without labels, by skip-gram.

They are trained by gensim, which is optional: its loops in C are ten times as fast as ops of
TensorFlow, and word vectors are not what this project is about.

Importable without TensorFlow.
"""

import importlib.util
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.unlabelled import files, path_of

WINDOW = 5  # words before and after, of which each predicts the word
_WORDS_READ = 3_000_000  # in all passes together, as far as `_MAX_PASSES` allows
_MIN_PASSES, _MAX_PASSES = 5, 30
_MAX_VOCABULARY = 500_000  # most frequent words that have vectors


def check(unlabelled: str) -> None:
    """Checks that vectors can be learnt, before the corpus is read.

    Args:
        unlabelled: File or folder of texts; empty for none.

    Raises:
        UserError: gensim is not installed, or there are no such texts.
    """
    if importlib.util.find_spec("gensim") is None:
        raise UserError(
            "--vectors train needs gensim, which is not installed: "
            "pip install -r requirements-vectors.txt."
        )
    if unlabelled:
        files(path_of(unlabelled))


def learn(sentences: Iterable[Sequence[str]], dimensions: int, seed: int, folder: Path) -> Path:
    """Learns vectors of words, and returns their file in the binary format of word2vec.

    Skip-gram with negative sampling (Mikolov et al. 2013), in one thread: gensim's vectors
    depend on the order in which several threads update them.

    Args:
        sentences: The words of each text.
        dimensions: Features of a vector.
        seed: Seed of the first vectors and of the samples.
        folder: Folder of the file, and of a copy of the words.

    Raises:
        UserError: There are too few words.
    """
    from gensim.models import Word2Vec  # slow to import, and optional

    copy, words = folder / "sentences.jsonl", 0
    with copy.open("w", encoding="utf-8") as file:
        for sentence in sentences:
            words += len(sentence)
            file.write(json.dumps(sentence) + "\n")
    if words < 2:
        raise UserError(f"--vectors train needs at least two words, got {words}.")
    model = Word2Vec(
        _Lines(copy),
        vector_size=dimensions,
        sg=1,
        window=WINDOW,
        min_count=1,
        max_final_vocab=_MAX_VOCABULARY,
        epochs=max(_MIN_PASSES, min(_MAX_PASSES, _WORDS_READ // words)),
        seed=seed,
        workers=1,
    )
    result = folder / "vectors.bin"
    model.wv.save_word2vec_format(str(result), binary=True)
    copy.unlink()
    return result


class _Lines:
    """Lists of words, one per line of JSON, that gensim can read several times."""

    def __init__(self, file: Path):
        self._file = file

    def __iter__(self) -> Iterator[list[str]]:
        with self._file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
