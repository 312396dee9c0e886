"""The manifest of a published version: the SHA-256 of every file in its folder.

It detects damage: files that were truncated, lost, changed or added after publication. It is
not a signature: whoever can change a file can change the manifest.
"""

import hashlib
import json
from pathlib import Path

PLACE = Path("assets.extra", "manifest.json")


class Damage(ValueError):
    """Raised if the files of a version differ from those that were published."""


def write(folder: Path) -> None:
    """Writes the manifest of a folder; it must be the last file that is written.

    Args:
        folder: Folder of a version.
    """
    record = {name: _sha256(path) for name, path in _files(folder).items()}
    (folder / PLACE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def verify(folder: Path) -> None:
    """Verifies the files of a version against its manifest.

    Args:
        folder: Folder of a version.

    Raises:
        Damage: A file differs, is missing or is not listed, or the manifest is invalid.
    """
    place = folder / PLACE
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Damage(f"{place} is missing, so {folder} cannot be verified.") from None
    except ValueError as error:
        raise Damage(f"{place} is not a manifest: {error}.") from None
    except RecursionError:
        raise Damage(f"{place} is not a manifest: it is nested too deeply.") from None
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
    """Files in a folder except its manifest, by relative path with slashes."""
    paths = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in paths if path != folder / PLACE}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
