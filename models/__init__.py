"""Networks: cells, layers, text. Knows tensors; knows no task, no flag, no corpus file.

`models.load` opens a `model.keras` in any program that has this package.
"""

from pathlib import Path


def load(path: str | Path):
    """Loads a `model.keras`, or that of a published version, as a `keras.Model`.

    Keras finds a layer of this package only once its module is imported, and
    says something else when it was not; here they are.

    Args:
        path: The file, or the folder of a version: `saved_models/sentiment/1`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no Keras model, or its version is not what was published.
    """
    import keras

    from . import manifest
    from .layers import decoder  # noqa: F401 - importing a module registers its layers
    from .networks import captioner, classifier, tagger  # noqa: F401

    path = Path(path)
    file = path / "assets.extra" / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there; give a model.keras or a version's folder.")
    if file.suffix != ".keras":
        raise ValueError(f"{file} must be a .keras file, as assets.extra/model.keras is.")
    version = file.absolute().parents[1]
    if path.is_dir() or (version / manifest.PLACE).is_file():
        manifest.verify(version)
    return keras.saving.load_model(file)
