"""The manifest of a published version: the SHA-256 of every file in its folder.

It tells damage: a file cut short, lost, changed or added after publication. It is no
signature; who can change a file can change the manifest too.
"""

import hashlib
import json
from pathlib import Path

PLACE = Path("assets.extra", "manifest.json")


class Damage(ValueError):
    """The files of a version are not those that were published."""


def write(folder: Path) -> None:
    """Lists every file of a folder in its manifest, which must be the last to be written."""
    record = {name: _sha256(path) for name, path in _files(folder).items()}
    (folder / PLACE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def verify(folder: Path) -> None:
    """Holds the files of a version against its manifest.

    Raises:
        Damage: One differs, is missing or is not listed; the text names it.
    """
    place = folder / PLACE
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damage(f"{place} is missing, so {folder} cannot be held against it.") from None
    except ValueError as error:
        raise Damage(f"{place} is no manifest: {error}.") from None
    if not isinstance(record, dict):
        raise Damage(f"{place} must be an object of file names and SHA-256, got {record!r}.")
    files = _files(folder)
    for name in sorted({*record, *files}):
        if name not in files:
            raise Damage(f"{folder / name} is missing; {PLACE} lists it.")
        if name not in record:
            raise Damage(f"{folder / name} was not published: {PLACE} does not list it.")
        if _sha256(files[name]) != record[name]:
            raise Damage(f"{folder / name} is not what was published: its SHA-256 differs.")


def _files(folder: Path) -> dict[str, Path]:
    """The files below a folder but its manifest, by their names with slashes."""
    paths = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in paths if path != folder / PLACE}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
