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
from tasks.core.examples import Example

WINDOW = 5  # words before and after, of which each predicts the word
_WORDS_READ = 3_000_000  # in all passes together, where MAX_PASSES allow it
_MIN_PASSES, _MAX_PASSES = 5, 30
_MAX_VOCABULARY = 500_000  # most frequent words that have vectors
_MAX_LINE = 2**20  # characters of a text without a label


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
        files(Path(unlabelled).expanduser())


def files(path: Path) -> list[Path]:
    """Returns a file of texts, or the .txt files of a folder and its folders, sorted by name.

    Raises:
        UserError: There are none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"--unlabelled: no file or folder {path}.")
    names = sorted(file for file in path.rglob("*.txt") if file.is_file())
    if not names:
        raise UserError(f"--unlabelled: the folder {path} has no .txt files.")
    return names


def texts(path: Path) -> Iterator[Example]:
    """Yields the texts of a file or folder, one per line, without empty lines, as key `text`.

    Raises:
        UserError: A line is not UTF-8, or has more than a million characters.
    """
    for name in files(path):
        try:
            with name.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                    if len(text) > _MAX_LINE:
                        raise UserError(
                            f"--unlabelled: {name}:{number}: a line has one text, of at most "
                            f"{_MAX_LINE} characters, got {len(text)}."
                        )
                    if text:
                        yield Example({"text": text}, f"{name}:{number}")
        except UnicodeDecodeError as error:
            raise UserError(f"--unlabelled: {name}:{number}: not UTF-8: {error}") from error
        except OSError as error:
            raise UserError(f"--unlabelled: {name}: {error.strerror}.") from error


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
