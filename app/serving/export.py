"""From a trained model to a version that TensorFlow Serving serves: draft, gate, publish."""

import errno
import os
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from app.serving import compatibility, session, warmup
from models import manifest
from tasks.core.errors import UserError
from tasks.core.examples import Stream
from tasks.core.task import Purpose, Task

_WARM_UP = 512  # examples that the warm-up requests are chosen from


def draft(task: Task, model: keras.Model, folder: Path) -> Path:
    """Writes the network of `model`, rebuilt for serving, as a SavedModel into `folder`.

    The name of the folder must be no number, for Serving looks at those.

    Args:
        task: The task that the model was built by.
        model: The trained model.
        folder: Where to; what is there of a draft that was never finished goes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    network = rebuilt(task, model, "serving")
    module = tf.Module()
    module.task = task  # owns the tables and the assets
    module.variables_of_network = [weight.value for weight in network.weights]
    tf.saved_model.save(
        module,
        str(folder),
        signatures=task.signatures(network),
        options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
    )
    compatibility.check(folder)
    return folder


def rebuilt(task: Task, model: keras.Model, purpose: Purpose) -> keras.Model:
    """The network of `model` for another purpose, with the weights of the same paths."""
    network = task.build(purpose)
    trained = {weight.path: weight for weight in model.weights}
    for weight in network.weights:
        weight.assign(trained[weight.path])
    return network


def complete(task: Task, name: str, model: keras.Model, draft: Path, examples: Stream) -> None:
    """Writes beside a draft what its users want with it, and last the manifest of it all.

    Args:
        task: The task that the model was built by.
        name: The name under which it is served: the task's.
        model: The trained model, which is written as `model.keras` for reuse.
        draft: The folder.
        examples: What it may be asked: the first of them are the warm-up requests.
    """
    extra = draft / "assets.extra"
    extra.mkdir(exist_ok=True)
    rebuilt(task, model, "reuse").save(extra / "model.keras")
    rows = [task.row(example.values) for example in next(examples.batches(_WARM_UP))]
    warmup.write(draft, name, session.signatures(draft), rows)
    manifest.write(draft)


def versions(folder: Path) -> list[int]:
    """The published versions in a task's folder, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name)
        for path in folder.iterdir()
        if path.name.isascii() and path.name.isdigit() and path.is_dir()
    )


def published(saved_models: Path) -> dict[str, list[int]]:
    """Returns the published versions of each model that has any, in ascending order."""
    models = {folder.name: versions(folder) for folder in sorted(saved_models.glob("*"))}
    return {name: numbers for name, numbers in models.items() if numbers}


def find(saved_models: Path, task: str, version: int | None = None) -> Path:
    """Returns the folder of a published version, the newest if none is named.

    Raises:
        UserError: There is none, or its files are not those that were published.
    """
    folder = saved_models / task
    known = versions(folder)
    if not known:
        raise UserError(f"{folder} holds no version; run: python -m app.train {task}")
    if version is not None and version not in known:
        raise UserError(f"--version must be one of {known} in {folder}, got {version}.")
    found = folder / str(known[-1] if version is None else version)
    try:
        manifest.verify(found)
    except manifest.Damage as damage:
        raise UserError(str(damage)) from damage
    return found


def publish(draft: Path) -> Path:
    """Makes a draft the newest version, and returns its folder.

    Serving loads any folder whose name is a number as soon as it appears, so a
    model gets its number in one rename, whole and judged, or not at all.
    """
    for path in (*draft.rglob("*"), draft):
        _sync(path)
    while True:
        version = draft.parent / str(max(versions(draft.parent), default=0) + 1)
        try:
            draft.rename(version)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue  # another run took that number
        _sync(draft.parent)
        return version


def _sync(path):
    """Has the disk hold what was written, so that a power cut leaves no half version."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
