"""Export of a trained model: draft, compatibility check, publication."""

import errno
import os
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from app.serving import compatibility, session, streaming, versions, warmup
from models import manifest
from models.networks.ensemble import is_ensemble, members
from tasks.core.errors import UserError
from tasks.core.examples import Stream
from tasks.core.task import Purpose, Task

_WARM_UP_EXAMPLES = 512  # examples that the warm-up requests are chosen from
_WARM_UP_BYTES = 2**26  # of these examples; photographs are large


def rehearse(folder: Path) -> None:
    """Writes an empty SavedModel to a folder, loads it and removes it, as `draft` will do.

    Args:
        folder: The folder of the draft.

    Raises:
        UserError: The folder cannot be written, what is in it cannot be loaded, or no later
            version is possible.
    """
    module = tf.Module()
    module.variable = tf.Variable([0.0])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="value")], autograph=False)
    def add(value: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"value": value + module.variable}

    shutil.rmtree(folder, ignore_errors=True)
    versions.next_number(folder.parent)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tf.saved_model.save(module, str(folder), signatures={"serving_default": add})
        session.SavedModelSession(folder)
    except (OSError, tf.errors.OpError) as error:
        if os.strerror(errno.ENOSPC) in str(error):  # the caller reports a full disk
            raise
        reason = error.message if isinstance(error, tf.errors.OpError) else str(error)
        raise UserError(
            f"--saved-models: {folder.parent} must be a folder that can be written and read: "
            f"{reason}."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def draft(task: Task, model: keras.Model, folder: Path) -> Path:
    """Rebuilds the network of a model for serving, and writes it as a SavedModel.

    Args:
        task: The task that built the model.
        model: The trained model.
        folder: Folder to write to. Its name must not be a number, because TensorFlow Serving
            loads folders named by numbers. An unfinished draft in it is removed.

    Returns:
        The folder.

    Raises:
        compatibility.IncompatibleModel: Stock TensorFlow Serving cannot run the SavedModel.
    """
    shutil.rmtree(folder, ignore_errors=True)
    network = rebuild(task, model, "serving")
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


def rebuild(task: Task, model: keras.Model, purpose: Purpose) -> keras.Model:
    """Builds the network for another purpose, with the weights of a model by their paths."""
    if is_ensemble(model):
        network = task.combine([rebuild(task, member, purpose) for member in members(model)])
        own = [layer for layer in network.layers if layer not in members(network)]
        pairs = [(layer, model.get_layer(layer.name)) for layer in own]
    else:
        network = task.build(purpose)
        pairs = [(network, model)]
    for new, trained in pairs:
        values = {weight.path: weight for weight in trained.weights}
        for weight in new.weights:
            weight.assign(values[weight.path])
    return network


def complete(task: Task, name: str, model: keras.Model, draft: Path, examples: Stream) -> None:
    """Writes the extra assets of a draft, and finally its manifest.

    Args:
        task: The task that built the model.
        name: Name under which the model is served.
        model: The trained model, which is saved as `model.keras` for reuse.
        draft: Folder of the draft.
        examples: Examples of requests; the warm-up requests are chosen from the first of them.
    """
    extra = draft / "assets.extra"
    extra.mkdir(exist_ok=True)
    rebuild(task, model, "reuse").save(extra / "model.keras")
    first = next(examples.batches(_WARM_UP_EXAMPLES, _WARM_UP_BYTES))
    rows = [task.row(example.values) for example in first]
    signatures = session.signatures(draft)
    if streaming.FEED in signatures:
        rows = streaming.with_states(session.SavedModelSession(draft), rows)
    warmup.write(draft, name, signatures, rows)
    manifest.write(draft)


def publish(draft: Path) -> Path:
    """Publishes a draft as the latest version, and returns its folder.

    TensorFlow Serving loads any folder named by a number as soon as it appears. Therefore the
    draft, which is complete and evaluated, gets its number in one rename. It never replaces a
    version: `os.rename` fails if the target is a folder with files, on Windows if it exists.
    """
    for path in (*draft.rglob("*"), draft):
        _sync(path)
    while True:
        version = draft.parent / str(versions.next_number(draft.parent))
        try:
            draft.rename(version)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not version.is_dir():
                raise
            continue  # another run took that number
        _sync(draft.parent)
        return version


def _sync(path: Path) -> None:
    """Flushes a file or folder to disk, so that a power cut leaves no incomplete version."""
    windows = os.name == "nt"
    if windows and path.is_dir():  # Windows cannot flush a folder
        return
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
