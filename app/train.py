"""Trains a task and publishes a judged SavedModel: `python -m app.train sentiment`."""

import argparse
import collections
import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from app import cli
from tasks.core.errors import UserError
from tasks.core.examples import PARTS, Example, Splits, Stream


def main(argv: Sequence[str] | None = None) -> Path | None:
    """Trains, judges and publishes; returns the folder of the version.

    In a cluster the chief does so, and the other processes only train: they keep what they
    need in a folder that goes with them, say nothing but errors, and return None.
    """
    args, task_class = cli.parse("train", __doc__, argv, _add)
    config = cli.settings(task_class.Config, args)
    corpus = cli.settings(task_class.Corpus, args)
    from app.training import distribution

    strategy = distribution.strategy_of(args.strategy)  # before TensorFlow computes anything
    with contextlib.ExitStack() as left, distribution.in_cluster(strategy):
        if not distribution.is_chief(strategy):
            args.runs = Path(left.enter_context(tempfile.TemporaryDirectory()))
            left.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if strategy.num_replicas_in_sync > 1:
            _say(f"{strategy.num_replicas_in_sync} devices share each batch")
        return _main(args, task_class, config, corpus, strategy)


def _main(args, task_class, config, corpus, strategy) -> Path | None:
    from app.training import distribution, example_cache

    began = time.monotonic()
    splits = corpus.open()
    _say(*splits.notes)

    args.runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="draft-", dir=args.runs) as learnt:
        task, data = _learn(task_class, config, splits, Path(learnt))
        run = _open_run(args.runs / args.task, args.task, config, data["checksum"], learnt)
        name = example_cache.identity(config, data["checksum"], Path(learnt))
    cache = args.runs / "encoded" / args.task / name
    try:
        with _full_disks_told():
            distribution.broadcast_state(run, strategy)
            task = task_class.restore(run.assets)
            splits = _answerable(task, splits)
            seconds = {"read": time.monotonic() - began}
            data["told"] = args.data
            version = _train(args, task, splits, run, cache, data, seconds, strategy)
            distribution.wait(strategy)
            return version
    finally:
        run.close()


def _add(parser: argparse.ArgumentParser, task_class: type) -> None:
    from app.training import distribution

    cli.add_saved_models(parser)
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder of training state (default: %(default)s)",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same numbers each time, more slowly; without it threads add up in the order in "
        "which they end, and figures differ in their last digits",
    )
    parser.add_argument(
        "--strategy",
        choices=distribution.STRATEGIES,
        default="none",
        help="one device; mirrored: all devices of this machine; multiworker: those of the "
        "cluster that TF_CONFIG tells (default: %(default)s)",
    )
    cli.add_settings(parser, task_class.Corpus)
    cli.add_settings(parser, task_class.Config)


# --- Reading -----------------------------------------------------------------


class _Surveyed:
    """Counts and hashes the examples that pass through it."""

    def __init__(self, stream: Stream):
        self._stream = stream
        self.count, self.hash = 0, hashlib.sha256()

    def stream(self) -> Stream:
        return Stream(self._read)

    def _read(self):
        for example in self._stream:
            self.count += 1
            for key, value in sorted(example.values.items()):
                pieces = value if isinstance(value, tuple) else (value,)
                for piece in pieces:
                    piece = piece.encode() if isinstance(piece, str) else piece
                    self.hash.update(b"%s %d " % (key.encode(), len(piece)) + piece)
            yield example


def _counted(stream: Stream, doing: str) -> Stream:
    """The same examples, with a line that counts them where a person waits for long."""

    def read():
        from tqdm import tqdm

        return iter(tqdm(stream, doing, unit=" examples", delay=5, disable=None, leave=False))

    return Stream(read)


def _learn(task_class, config, splits: Splits, folder: Path):
    """Learns the task from train, and looks at every example of every part.

    Returns:
        The task, and what `run.json` says of the data.
    """
    surveys = {
        part: _Surveyed(_counted(getattr(splits, part), f"reading {part}")) for part in PARTS
    }
    task = task_class.learn(config, surveys["train"].stream(), folder)
    left_out = {}
    for part in PARTS[1:]:
        reasons = collections.Counter(map(task.rejection_reason, surveys[part].stream()))
        reasons.pop("", None)
        left_out[part] = sum(reasons.values())
        for reason, count in reasons.items():
            _say(f"{part}: {count} of {surveys[part].count} examples left out: {reason}")
    for part, survey in surveys.items():
        if survey.count == left_out.get(part, 0):
            raise UserError(f"the {part} part holds no examples that could be used.")
    checksum = hashlib.sha256("".join(s.hash.hexdigest() for s in surveys.values()).encode())
    counts = {part: survey.count - left_out.get(part, 0) for part, survey in surveys.items()}
    _say(", ".join(f"{part} {count}" for part, count in counts.items()) + " examples")
    return task, {
        "checksum": checksum.hexdigest(),
        "examples": counts,
        "left_out": left_out,
        "notes": list(splits.notes),
    }


def _answerable(task, splits: Splits) -> Splits:
    def can_answer(example: Example) -> bool:
        return not task.rejection_reason(example)

    return dataclasses.replace(
        splits, valid=splits.valid.filter(can_answer), test=splits.test.filter(can_answer)
    )


def _open_run(folder: Path, task: str, config, checksum: str, learnt: str):
    """The run of this task, config and data: what there is of it, or a new one."""
    from app.training import run_state

    run = run_state.Run(folder / run_state.identity(task, config, checksum, Path(learnt)))
    progress = run.progress()
    version = progress.version_of(config)
    if progress.ended(config) and version is not None:
        _say(f"this run ended and is version {version}: training anew")
        run.forget()
    elif progress.ended(config) and progress.published:
        _say("what this run came to will serve with other settings; nothing is trained")
    elif progress.ended(config):
        _say(f"resuming {run.folder}: trained for {progress.epoch} epochs, to be published")
    elif progress.epoch:
        _say(f"resuming {run.folder} after epoch {progress.epoch}")
    else:
        for other in run_state.unfinished(run.folder, config):
            _say(f"a new run: {other} was begun with other data, and stays as it is")
    shutil.rmtree(run.assets, ignore_errors=True)
    shutil.copytree(learnt, run.assets)
    return run


@contextlib.contextmanager
def _full_disks_told() -> Iterator[None]:
    """Says in plain words that a disk is full, whether Python or TensorFlow met it."""
    import tensorflow as tf

    full = os.strerror(errno.ENOSPC)
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if full not in str(error):
            raise
        raise UserError(
            f"{full.lower()}. What was finished is kept: make room, and the same command goes on."
        ) from error


# --- Training, judging, publishing -------------------------------------------


def _train(args, task, splits: Splits, run, cache, data, seconds, strategy) -> Path | None:
    import tensorflow as tf

    from app import report
    from app.serving import export
    from app.serving.session import SavedModelSession
    from app.training import distribution, loop
    from app.training.example_cache import EncodedExamples

    if args.deterministic:
        tf.config.experimental.enable_op_determinism()
    began = time.monotonic()
    encoded = {
        part: EncodedExamples.write(
            task, _counted(getattr(splits, part), f"encoding {part}"), cache / part
        )
        for part in PARTS[:2]
    }
    for part, some in encoded.items():
        skipped = data["examples"][part] - len(some)
        if skipped > 0:
            of_all = f"{skipped} of {data['examples'][part]} examples"
            _say(f"{part}: {of_all} skipped: {task.skip_reason()}")
            data["left_out"][part] = data["left_out"].get(part, 0) + skipped
        if not len(some):
            raise UserError(f"the {part} part holds no examples that could be used.")
    seconds["encode"] = time.monotonic() - began
    model, progress = loop.fit(task, **encoded, run=run, splits=splits, strategy=strategy)
    if not distribution.is_chief(strategy):
        return None
    seconds["fit"] = progress.seconds

    began = time.monotonic()
    folder = args.saved_models / args.task
    folder.mkdir(parents=True, exist_ok=True)
    draft = export.draft(task, model, folder / f"draft-{run.folder.name}")
    served = SavedModelSession(draft)
    judgement = task.judge(served.predict_examples(task, splits.test))
    looks = task.illustrate(served.predict, splits.test)
    seconds["export_and_judge"] = time.monotonic() - began

    extra = draft / "assets.extra"
    extra.mkdir()
    record = {
        "task": args.task,
        "scores": judgement.scores,
        "judged": {"signature": task.judged, "part": "test", "examples": judgement.count},
        "config": dataclasses.asdict(task.config),
        "data": data,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "tokens": progress.tokens or task.config.batch_tokens,
        "parameters": model.count_params(),
        "seconds": {key: round(value, 2) for key, value in seconds.items()},
        "versions": _versions(),
        "commit": _commit(),
        "device": "gpu" if tf.config.get_visible_devices("GPU") else "cpu",
        "devices": strategy.num_replicas_in_sync,
    }
    (extra / "run.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    shutil.copy(run.folder / "history.csv", extra)
    (extra / "report.html").write_text(
        report.page(record, progress.history, judgement, task.limits(), looks),
        encoding="utf-8",
    )
    export.complete(task, args.task, model, draft, splits.test)
    version = export.publish(draft)
    run.mark_published(int(version.name), task.config)
    _say(
        f"best epoch {progress.best_epoch} of {progress.epoch}; the served model on test: "
        + ", ".join(f"{name} {score:.4f}" for name, score in judgement.scores.items()),
        f"published {version}",
        f"report    {version / 'assets.extra' / 'report.html'}",
    )
    return version


def _versions() -> dict[str, str]:
    import keras
    import numpy
    import tensorflow

    modules = (keras, numpy, tensorflow)
    return {"python": platform.python_version()} | {m.__name__: m.__version__ for m in modules}


def _commit() -> str | None:
    """The commit of this program, None if it is not in a git checkout."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None


def _say(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    cli.run(main, interrupted="interrupted; the same command goes on from here")
