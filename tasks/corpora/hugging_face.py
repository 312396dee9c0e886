"""Folders of data sets of Hugging Face: as saved to disk, and as published.

dataset_dict.json train/state.json train/data-00000-of-00001.arrow ...   save_to_disk of parts
state.json data-00000-of-00001.arrow ...                                 save_to_disk of one
data/train-00000-of-00002.parquet ...                                    as published, in shards
"""

import json
import re

from tasks.core.errors import UserError
from tasks.corpora import filesystem
from tasks.corpora.filesystem import Access, AnyPath

_SHARD = re.compile(r"(.+?)-[0-9]{5}-of-[0-9]{5}\.parquet")


def parts(root: AnyPath, access: Access) -> tuple[dict[str, list[AnyPath]], list[str]]:
    """Returns the files of each part of a data set, and the names of parts that are not used.

    A data set that is not divided has the train part only.

    Args:
        root: Folder of the data set.
        access: What may be read.

    Returns:
        The files by part, {} if the folder is not such a data set; and names of other parts.

    Raises:
        UserError: A file that describes the data set is malformed, or there is no train part.
    """
    files = _saved(root, access) or _shards(root)
    named = {}
    for part, names in filesystem.PART_NAMES.items():
        present = [name for name in names if name in files]
        if len(present) > 1:
            raise UserError(
                f"{root}: the data set has several {part} parts, {present}: remove one."
            )
        if present:
            named[part] = files[present[0]]
    if files and "train" not in named:
        raise UserError(f"{root}: the data set has no train part, only {sorted(files)}.")
    used = [name for names in filesystem.PART_NAMES.values() for name in names]
    return named, sorted(name for name in files if name not in used)


def _saved(root: AnyPath, access: Access) -> dict[str, list[AnyPath]]:
    """Returns the files that `save_to_disk` has written, by the name of the part."""
    if (root / "dataset_dict.json").is_file():
        names = _json(root / "dataset_dict.json", "splits", access)
        return {str(name): _arrow_files(root / str(name), access) for name in names}
    if (root / "state.json").is_file() and (root / "dataset_info.json").is_file():
        return {"train": _arrow_files(root, access)}
    return {}


def _arrow_files(folder: AnyPath, access: Access) -> list[AnyPath]:
    path = folder / "state.json"
    if not path.is_file():
        raise UserError(f"{path}: not found; the data set was not saved completely.")
    try:
        names = [str(file["filename"]) for file in _json(path, "_data_files", access)]
    except (TypeError, KeyError) as error:
        raise UserError(f"{path}: '_data_files' must list objects with a 'filename'.") from error
    if any("/" in name or "\\" in name for name in names):
        raise UserError(f"{path}: '_data_files' must name files of this folder, got {names}.")
    return [folder / name for name in names]


def _json(path: AnyPath, key: str, access: Access) -> list:
    """Returns the list that a JSON file has under a key."""
    try:
        content = json.loads(filesystem.read_bytes(path, access))
        values = content[key]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: must be a JSON object with {key!r}.") from error
    if not isinstance(values, list):
        raise UserError(f"{path}: {key!r} must be a list.")
    return values


def _shards(root: AnyPath) -> dict[str, list[AnyPath]]:
    """Returns the shards in `root`, or else in its only folder that has any."""
    data_sets = {
        folder.name: shards
        for folder in [root, *(entry for entry in filesystem.entries(root) if entry.is_dir())]
        if (shards := _shards_in(folder))
    }
    if len(data_sets) > 1:
        raise UserError(f"{root}: several data sets: {sorted(data_sets)}; name the folder of one.")
    return next(iter(data_sets.values()), {})


def _shards_in(folder: AnyPath) -> dict[str, list[AnyPath]]:
    shards: dict[str, list[AnyPath]] = {}
    for entry in filesystem.entries(folder):
        if match := _SHARD.fullmatch(entry.name):
            shards.setdefault(match[1], []).append(entry)
    return shards
