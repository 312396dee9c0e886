"""Cost of BPE-dropout: seconds of segmentation per epoch, and subwords that are read more.

    DATA_DIR=... python -m benchmarks.bpe_dropout

The train part of Multi30k is encoded as `app.train translation` encodes it. Then all batches of an
epoch are prepared for training, without a network, at several probabilities.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import records

_PROBABILITIES = (0.0, 0.1, 0.3)
_PAIRS = 29_000


def measure(pairs: int, repeats: int) -> dict[str, dict]:
    """Returns the seconds of each repeated epoch and the subwords of one, by probability.

    Args:
        pairs: Pairs of the train part.
        repeats: Epochs that are measured.
    """
    import tasks
    from app.training.batches import Batches
    from app.training.example_cache import EncodedExamples
    from tasks.core.examples import Stream

    cls = tasks.find("translation")
    data = records.data_dir() / "translation/multi30k"
    corpus = cls.Corpus(data=str(data), source="de", target="en")
    examples = corpus.open().train
    train = Stream(lambda: itertools.islice(iter(examples), pairs))
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        assets = Path(folder, "assets")
        assets.mkdir()
        config = cls.learn(cls.Config(), train, assets).config
        encoded = EncodedExamples.write(cls(config, assets), train, Path(folder, "train"))
        for probability in _PROBABILITIES:
            task = cls(cls.Config(bpe_dropout=probability), assets)
            batches = Batches(encoded, config.batch_tokens, config.seed)
            dataset = iter(batches.training_dataset(task, 0))
            next(dataset)  # traces
            seconds, subwords = [], 0
            for _ in range(repeats):
                began, subwords = time.perf_counter(), 0
                for (x, _, weights), _ in itertools.islice(dataset, batches.steps):
                    subwords += int((x["source"].numpy() > 0).sum() + weights.numpy().sum())
                seconds.append(time.perf_counter() - began)
            measured[f"{probability:g}"] = {
                "seconds": seconds,
                "subwords": subwords,
                "pairs": len(encoded),
                "steps": batches.steps,
            }
    return measured


def table(measured: dict[str, dict]) -> str:
    """Returns the measurements as Markdown."""
    base = measured["0"]
    rows = [
        [
            probability,
            f"{min(row['seconds']):.1f}",
            f"{1000 * (min(row['seconds']) - min(base['seconds'])) / row['steps']:.1f}",
            f"{row['subwords'] / base['subwords']:.2f}",
        ]
        for probability, row in measured.items()
    ]
    columns = ["--bpe-dropout", "seconds per epoch", "more per batch, ms", "× subwords"]
    return records.markdown_table(columns, rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=_PAIRS, help="pairs of the train part")
    parser.add_argument(
        "--repeats", type=int, default=2, help="epochs, of which the fastest counts"
    )
    args = parser.parse_args(argv)
    measured = records.load_or_measure(
        "bpe_dropout", f"{args.pairs}", lambda: measure(args.pairs, args.repeats)
    )
    print(table(measured))
    first = measured["0"]
    print(f"\n*{records.machine()}; {first['pairs']} pairs in {first['steps']} batches.*")


if __name__ == "__main__":
    main()
