"""Published versions that nothing was learnt in but what is counted, made in seconds."""

import itertools
import shutil
from pathlib import Path

import filelock
import keras

import tasks
from app.serving import export, versions
from tasks.core.examples import Stream

SMALL = {"units": 8, "embedding": 8}
# What makes a version small, beside `SMALL`, by the settings that a task may have.
SIZES = {"filters": 2, "height": 16, "width": 16, "max_length_ratio": 1.0, "sweeps": 1}
EXAMPLES = 60


# Versions that tests by task check, too: the task, and data that give it other signatures.
MORE = [("tagging", "sample:entities")]
# The settings that give the versions of a task the signatures of streams.
STREAMS = {
    "sentiment": {"direction": "forward"},
    "tagging": {"direction": "forward", "lookahead": 2},
    "translation": {"stream": True},
}


def examples(task: str, count: int = EXAMPLES, data: str = "sample") -> Stream:
    """The first of the train part of a task's sample."""
    train = tasks.find(task).Corpus(data=data).open().train
    return Stream(lambda: itertools.islice(iter(train), count))


def version(
    task: str,
    folder: Path,
    cell: str = "lstm",
    learnt: Path | None = None,
    data: str = "sample",
    **settings,
) -> Path:
    """Publishes a version of a task below `folder` with the weights that a seed gives.

    Args:
        task: Its name.
        folder: That of the saved models.
        cell: A name in `models.cells.specs.CELLS`.
        learnt: A new folder for what is learnt; None makes one below `folder`.
        data: Its sample.
        **settings: Of the task's `Config`.
    """
    task_class = tasks.find(task)
    own = {name: size for name, size in SIZES.items() if hasattr(task_class.Config, name)}
    config = task_class.Config(cell=cell, **{**SMALL, **own, **settings})
    known = examples(task, data=data)
    (folder / task).mkdir(parents=True, exist_ok=True)
    learnt = learnt or folder / f"learnt-{task}-{cell}"
    learnt.mkdir()
    keras.utils.set_random_seed(3)
    made = task_class.learn(config, known, learnt)
    model = made.build()
    draft = export.draft(made, model, folder / task / f"draft-{cell}")
    export.complete(made, task, model, draft, known)
    return export.publish(draft)


def copy(
    published: Path,
    task: str,
    folder: Path,
    cell: str = "lstm",
    data: str = "sample",
    streams: bool = False,
) -> Path:
    """Publishes a version like `version`, as a copy of one that is published on first use.

    Args:
        published: Folder of the versions to copy, which several processes may share.
        task: Its name.
        folder: That of the saved models.
        cell: A name in `models.cells.specs.CELLS`.
        data: Its sample.
        streams: Whether the version has the signatures of streams; `STREAMS` has the settings.
    """
    published.mkdir(parents=True, exist_ok=True)
    name = f"{task}-{cell}-{data.replace(':', '-')}{'-streams' * streams}"
    settings = STREAMS[task] if streams else {}
    source = published / name
    with filelock.FileLock(published / f"{name}.lock"):
        if not source.exists():
            draft = published / f"draft-{name}"
            shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
            draft.mkdir()
            version(task, draft, cell, data=data, **settings)
            draft.rename(source)
    number = versions.next_number(folder / task)
    return Path(shutil.copytree(source / task / "1", folder / task / str(number)))
