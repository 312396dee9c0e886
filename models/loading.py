"""Loading of saved models and of published versions."""

from pathlib import Path

import keras

from . import manifest

# Importing a module registers its layers with Keras.
from .cells import tree  # noqa: F401
from .layers import decoder, entity_f1, losses, macro_f1  # noqa: F401
from .networks import (  # noqa: F401
    captioner,
    classifier,
    ensemble,
    language_model,
    tagger,
    tree_network,
)


def load(path: str | Path) -> keras.Model:
    """Loads a `.keras` file, or that of a published version, as a `keras.Model`.

    Keras can deserialise a layer of this package only after its module has been imported,
    which this function ensures.

    Args:
        path: A `.keras` file, or the folder of a version, such as `saved_models/sentiment/1`,
            whose files are first verified against its manifest.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a `.keras` file, or the version differs from its manifest.
    """
    path = Path(path)
    file = path / "assets.extra" / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; give a .keras file or the folder of a version."
        )
    if file.suffix != ".keras":
        raise ValueError(f"{file} must be a .keras file, such as assets.extra/model.keras.")
    version = file.absolute().parents[1]
    if path.is_dir() or (version / manifest.PLACE).is_file():
        manifest.verify(version)
    return keras.saving.load_model(file)
