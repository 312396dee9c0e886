"""Corpora of captioned images, for tasks of the form 1→N.

A corpus is a folder, a zip archive or a single table. File names define its parts:

    captions_train.tsv ...           one caption per line: the path of the image, relative to the
                                     folder of the table, a tab and the caption; or just train.tsv
    captions.txt                     as in Flickr8k of Kaggle: image,caption in CSV; images may be
                                     in any folder. Other tables precede it
    captions_train2017.json ...      as in COCO, possibly in a folder `annotations`; images are
                                     in `train2017`, in `images` or next to it
    Flickr_8k.trainImages.txt ...    as in Flickr8k: one image name per line. Captions are in
                                     Flickr8k.token.txt, as NAME.jpg#0, a tab and the caption;
                                     images may be in any folder

`dev` and `val` are accepted for `valid`. A table may be compressed, as in
train.tsv.gz. If the root of the corpus has no tables, those in its folders are read. A corpus
that is not divided into parts is one such table: captions.tsv, captions.json or
Flickr8k.token.txt.

An image may have several captions, on lines that need not be adjacent; it is one example with
all of them. Captions are collected in a temporary file on disk that is deleted with the process;
only COCO tables are loaded whole. Each image is decoded once, before training, so that missing
and broken images are reported early. Images without a caption are ignored.
"""

import csv
import dataclasses
import functools
import hashlib
import io
import json
import re
import sqlite3
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.json_text import parse_json
from tasks.core.settings import setting
from tasks.corpora import filesystem, tfds
from tasks.corpora.filesystem import AnyPath

# Kinds of tables and lists of images by the end of their names; for a list, what follows the part.
_KINDS = {
    ".tsv": "tsv",
    ".json": "coco",
    "captions.txt": "csv",
    ".token.txt": "tokens",
    ".token": "tokens",
    "Images.txt": "list",
}
_LEMMAS = ".lemma.token"  # lemmatised duplicate of the captions of Flickr8k
_PREFIX = "captions"  # of names of COCO tables; other COCO tables have no captions
_CSV_HEADER = ["image", "caption"]
_MAX_LISTED = 3  # bad images that a note lists
_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks of a PNG that its pixels can be decoded without.
_METADATA = {
    b"tEXt", b"zTXt", b"iTXt", b"tIME", b"eXIf", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"sBIT",
    b"bKGD", b"hIST", b"tRNS", b"pHYs", b"sPLT",
}  # fmt: skip
_SCAN = re.compile(rb"\xff\xda\0(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")  # its header, in a JPEG
# The signature at the start of an image, and the marker at its end.
_SIGNATURES = {_PNG: b"\0\0\0\0IEND\xaeB`\x82", b"\xff\xd8\xff": b"\xff\xd9"}
_FORMATS = ("JPEG", "PNG")

Row = tuple[str, str, str]  # an origin, the path of an image and a caption


@dataclasses.dataclass
class ImageCaptions:
    """Captions of one image.

    Attributes:
        origin: Origin of the first caption.
        captions: The captions that are not empty.
        empty: Origins of the empty captions.
    """

    origin: str
    captions: list[str] = dataclasses.field(default_factory=list)
    empty: list[str] = dataclasses.field(default_factory=list)


class Table:
    """Captions grouped by image, in a temporary database on disk."""

    def __init__(self, rows: Iterable[Row]):
        self._database = sqlite3.connect("")  # an anonymous file, deleted when closed
        self._database.execute("CREATE TABLE captions (name TEXT, origin TEXT, caption TEXT)")
        self._database.executemany(
            "INSERT INTO captions VALUES (?, ?, ?)",
            (
                (_relative_path(name, origin), origin, caption.strip())
                for origin, name, caption in rows
            ),
        )
        self._database.execute("CREATE INDEX by_name ON captions (name)")

    def __len__(self) -> int:
        """Returns the number of images."""
        count = "SELECT count(DISTINCT name) FROM captions"
        return self._database.execute(count).fetchone()[0]

    def __iter__(self) -> Iterator[str]:
        """Yields the paths of the images, in order of their first caption."""
        ordered = "SELECT name FROM captions GROUP BY name ORDER BY min(rowid)"
        return (name for (name,) in self._database.execute(ordered))

    def __getitem__(self, name: str) -> ImageCaptions | None:
        """Returns the captions of an image, or None if the table does not mention it."""
        rows = self._database.execute(
            "SELECT origin, caption FROM captions WHERE name = ? ORDER BY rowid", [name]
        ).fetchall()
        if not rows:
            return None
        return ImageCaptions(
            origin=rows[0][0],
            captions=[caption for _, caption in rows if caption],
            empty=[origin for origin, caption in rows if not caption],
        )


# A description for messages and an example; or a description of a problem and None.
Candidate = tuple[str, Example | None]


@dataclasses.dataclass(frozen=True)
class CaptionedImages(Corpus):
    """Location of captioned images; each example has `image_bytes` and `captions`.

    `image_bytes` is the unchanged file, a complete JPEG or PNG; `captions` a non-empty tuple
    of non-empty str. The origin is the path of the image.
    """

    skip_bad: bool = setting(False, "skip and count broken or missing images, instead of stopping")
    encoding: str = setting(
        "", "encoding of the tables (default: UTF-8, or Windows-1252 where a file is not UTF-8)"
    )

    identified_by = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        filesystem.check_encoding(self.encoding)

    def identity(self, example: Example) -> str:
        """Returns the hash of the image, so that identical images share a part."""
        return hashlib.sha256(example.values["image_bytes"]).hexdigest()

    def sample(self) -> dict[str, Stream]:
        from tasks.corpora.samples import scenes  # imports NumPy

        return scenes.parts()

    def tfds_parts(self, name: str) -> tuple[dict[str, Stream], list[str]]:
        def checked(stream: Stream) -> Stream:
            return _checked(f"tfds:{name}", lambda: ((e.origin, e) for e in stream), self.skip_bad)

        parts, notes = tfds.captioned_images(name, self.tfds_dir)
        return {part: checked(stream) for part, stream in parts.items()}, notes

    def parts_in(self, path: Path) -> tuple[dict[str, Stream], list[str]]:
        if filesystem.is_plain_file(path):
            return {"train": self.single_part(path)}, []
        root = filesystem.corpus_root(path)
        tables = _tables(root)
        parts = filesystem.find_parts(
            path, root, lambda names: self._part(root, tables, names), skip=self.flagged_parts()
        )
        if parts:
            return parts, self._unlisted(root, tables)
        return {"train": self._undivided(path, root)}, []

    def single_part(self, path: Path) -> Stream:
        if not filesystem.is_plain_file(path):
            return self._undivided(path, filesystem.corpus_root(path))
        if _kind(path) in ("", "list"):
            filesystem.check_is_text(path)
            raise UserError(
                f"{path}: not a table of captions; its name must be NAME.tsv, {_PREFIX}*.json "
                f"(COCO) or NAME.token.txt (Flickr8k), got {path.name!r}."
            )
        root = path.parent
        if _kind(path) == "coco" and root.name == "annotations":
            root = root.parent  # the folders of images are next to `annotations`
        return self._stream(path, root)

    def _part(
        self, root: AnyPath, tables: Sequence[AnyPath], names: tuple[str, ...]
    ) -> filesystem.Matches:
        """Returns the tables and lists that have one of the names of a part."""
        name = rf"({'|'.join(names)})"
        table, listing = rf"({_PREFIX}_)?{name}\d*", rf"(.*[._-])?{name}Images"
        return [
            (file.name, self._stream(file, root, tables))
            for file in tables
            if re.fullmatch(listing if _kind(file) == "list" else table, _stem(file))
        ]

    def _undivided(self, path: AnyPath, root: AnyPath) -> Stream:
        """Returns the examples below a `root` that is not divided into parts."""
        tables = [table for table in _tables(root) if _kind(table) != "list"]
        layouts = (
            f"train, valid and test as {_PREFIX}_train.tsv, {_PREFIX}_train2017.json (COCO) or "
            f"Flickr_8k.trainImages.txt; or a single {_PREFIX}.tsv, {_PREFIX}.json or "
            "Flickr8k.token.txt"
        )
        matches = [(table.name, self._stream(table, root)) for table in tables]
        return filesystem.single_match(path, root, matches, layouts)

    def _unlisted(self, root: AnyPath, tables: Sequence[AnyPath]) -> list[str]:
        """Returns a note on captioned images that are in none of the lists, if there are lists."""
        lists = [table for table in tables if _kind(table) == "list"]
        if not lists:
            return []
        token_table = _token_table(root, tables)
        captioned = Table(self._captions(token_table))
        listed = {name for path in lists for _, name in self._names(path)}
        unlisted = [name for name in captioned if name not in listed]
        if not unlisted:
            return []
        return [
            f"{token_table}: {len(unlisted)} of {len(captioned)} images are in no list and "
            f"therefore in no part; the first is {unlisted[0]}"
        ]

    # --- Readers -------------------------------------------------------------

    def _stream(self, path: AnyPath, root: AnyPath, tables: Sequence[AnyPath] = ()) -> Stream:
        """Returns the examples of a table, or of a list of images with captions in `tables`."""
        is_list = _kind(path) == "list"

        @functools.cache
        def table() -> Table:
            return Table(self._captions(_token_table(root, tables) if is_list else path))

        def images() -> Iterator[tuple[str, ImageCaptions]]:
            captioned = table()
            if not is_list:
                return ((name, captioned[name]) for name in captioned)
            listed = {name: origin for origin, name in self._names(path)}
            return (
                (name, captioned[name] or ImageCaptions(origin)) for name, origin in listed.items()
            )

        def candidates() -> Iterator[Candidate]:
            access = filesystem.Access.of(self)
            return _candidates(images(), _folders(path, root), access)

        def notes() -> Iterator[str]:
            text = _token_table(root, tables) if is_list else path
            yield from filesystem.encoding_notes([text], self.encoding, filesystem.Access.of(self))
            yield from stream.notes()

        stream = _checked(path, candidates, self.skip_bad)
        return Stream(lambda: stream, notes)

    def _captions(self, path: AnyPath) -> Iterator[Row]:
        """Yields the rows of a table."""
        readers = {
            "csv": self._csv,
            "tsv": self._tsv,
            "coco": self._coco,
            "tokens": self._token_rows,
        }
        return readers[_kind(path)](path)

    def _tsv(self, path: AnyPath) -> Iterator[Row]:
        for origin, line in filesystem.lines(path, self.encoding, filesystem.Access.of(self)):
            if not line.strip():
                continue
            row = line.split("\t")
            if len(row) != 2:
                raise UserError(
                    f"{origin}: expected the path of an image, a tab and a caption, got "
                    f"{filesystem.columns(len(row))}: {filesystem.shorten(line)}."
                )
            yield origin, *row

    def _csv(self, path: AnyPath) -> Iterator[Row]:
        """Yields the rows of a table with commas; a caption may contain some without quotes."""
        rows = csv.reader(
            filesystem.csv_lines(path, self.encoding, filesystem.Access.of(self)), strict=True
        )
        try:
            for row in rows:
                origin = f"{path}:{rows.line_num}"
                if not row or [name.strip().casefold() for name in row] == _CSV_HEADER:
                    continue
                if len(row) < 2:
                    raise UserError(
                        f"{origin}: expected the path of an image, a comma and a caption, got "
                        f"1 column: {filesystem.shorten(row[0])}."
                    )
                yield origin, row[0], ",".join(row[1:])
        except csv.Error as error:
            raise UserError(f"{path}:{rows.line_num}: not valid CSV: {error}.") from error

    def _token_rows(self, path: AnyPath) -> Iterator[Row]:
        for origin, line in filesystem.lines(path, self.encoding, filesystem.Access.of(self)):
            if not line.strip():
                continue
            key, tab, caption = line.partition("\t")
            name, mark, _ = key.rpartition("#")
            if not (tab and mark):
                raise UserError(
                    f"{origin}: expected NAME.jpg#0, a tab and a caption, got "
                    f"{filesystem.shorten(line)}."
                )
            yield origin, name, caption

    def _coco(self, path: AnyPath) -> Iterator[Row]:
        table = parse_json(
            filesystem.read_text(path, self.encoding, filesystem.Access.of(self)), path
        )
        images = {
            row["id"]: row["file_name"]
            for _, row in _objects(path, table, "images", {"id": int, "file_name": str})
        }
        types = {"image_id": int, "caption": str}
        for origin, row in _objects(path, table, "annotations", types):
            if row["image_id"] not in images:
                raise UserError(
                    f"{origin}: 'image_id' must be the 'id' of one of the {len(images)} entries "
                    f"in 'images', got {row['image_id']}."
                )
            # JSON can contain an unpaired surrogate, which UTF-8 cannot encode.
            texts = (images[row["image_id"]], row["caption"])
            yield origin, *(text.encode("utf-8", "replace").decode() for text in texts)

    def _names(self, path: AnyPath) -> Iterator[tuple[str, str]]:
        """Yields `(path:number, image)` for each line of a list."""
        for origin, line in filesystem.lines(path, self.encoding, filesystem.Access.of(self)):
            if line.strip():
                yield origin, _relative_path(line, origin)


# --- Tables ----------------------------------------------------------------------


def _stem(path: AnyPath) -> str:
    return filesystem.stem_and_suffix(path)[0]


def _kind(path: AnyPath) -> str:
    """Returns which of `_KINDS` a file is, judged by its name; "" if none."""
    name = "".join(filesystem.stem_and_suffix(path))
    return next((kind for end, kind in _KINDS.items() if name.endswith(end)), "")


def _tables(root: AnyPath) -> list[AnyPath]:
    """Returns the tables and lists in `root`, or those in its folders if it has none."""
    entries = filesystem.entries(root)
    in_folders = [file for e in entries if e.is_dir() for file in filesystem.entries(e)]
    for is_csv in (False, True):
        for files in (entries, in_folders):
            tables = [file for file in files if _is_table(file) and file.is_file()]
            tables = [file for file in tables if (_kind(file) == "csv") == is_csv]
            if tables:
                return tables
    return []


def _is_table(path: AnyPath) -> bool:
    """Whether a file is a table or a list, judged by its name."""
    if _kind(path) in ("coco", "csv") and not path.name.startswith(_PREFIX):
        return False
    return bool(_kind(path)) and not _stem(path).endswith(_LEMMAS)


def _token_table(root: AnyPath, tables: Sequence[AnyPath]) -> AnyPath:
    """Returns the table with the captions of listed images."""
    token_tables = [table for table in tables if _kind(table) == "tokens"]
    if len(token_tables) != 1:
        raise UserError(
            f"{root}: lists of images need exactly one table of captions, NAME.token.txt, in the "
            f"same folder, got {[table.name for table in token_tables]}."
        )
    return token_tables[0]


def _objects(
    path: AnyPath, table: object, key: str, types: dict[str, type]
) -> Iterator[tuple[str, dict]]:
    """Yields the objects in a list of a COCO table, each with its origin.

    Args:
        path: The table, for messages.
        table: Its content.
        key: Key of the list.
        types: Required keys of each object, with the types of their values.
    """
    rows = table.get(key) if isinstance(table, dict) else None
    if not isinstance(rows, list):
        raise UserError(
            f"{path}: expected a JSON object with the lists 'images' and 'annotations' (COCO), got "
            f"{_summary(table)}."
        )
    type_names = {int: "an integer", str: "a string"}
    for number, row in enumerate(rows):
        origin = f"{path}: {key}[{number}]"
        for name, expected in types.items():
            value = row.get(name) if isinstance(row, dict) else None
            if not isinstance(value, expected):
                actual = value if isinstance(row, dict) else row
                raise UserError(
                    f"{origin}: {name!r} must be {type_names[expected]}, got "
                    f"{filesystem.shorten(json.dumps(actual))}."
                )
        yield origin, row


def _summary(table: object) -> str:
    """Returns the keys of a JSON object, or the start of any other JSON value."""
    if isinstance(table, dict):
        return f"the keys {sorted(table)}"
    return filesystem.shorten(json.dumps(table))


def _relative_path(name: str, origin: str) -> str:
    """Normalises the path of an image, and checks that it does not leave the corpus."""
    path = PurePath(name.strip())
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{origin}: the path of an image must be relative to the folder and must not contain "
            f"'..', got {filesystem.shorten(name)}."
        )
    return path.as_posix()


# --- Images ----------------------------------------------------------------------


def _folders(path: AnyPath, root: AnyPath) -> list[AnyPath]:
    """Returns the folders in which to look for the images of a table, in order."""
    if _kind(path) in ("csv", "tokens", "list"):
        return list(_subfolders(root))
    folders = [path.parent, root]
    if _kind(path) == "coco":  # other parts may have images of the same name
        part = _stem(path).removeprefix(f"{_PREFIX}_")
        images = root / "images"
        folders = [f for f in (root / part, images / part, images) if f.is_dir()] + folders
    return list({str(folder): folder for folder in folders}.values())


def _subfolders(folder: AnyPath, depth: int = 2) -> Iterator[AnyPath]:
    """Yields a folder and its subfolders down to `depth` levels."""
    yield folder
    if depth == 0:
        return
    for entry in filesystem.entries(folder):
        if entry.is_dir():
            yield from _subfolders(entry, depth - 1)


def _candidates(
    images: Iterable[tuple[str, ImageCaptions]],
    folders: Sequence[AnyPath],
    access: filesystem.Access,
) -> Iterator[Candidate]:
    """Reads each image when its turn comes; yields examples and problems."""
    for name, image in images:
        for origin in image.empty:
            yield f"{origin}: the caption of {name!r} is empty", None
        if image.captions:
            yield _candidate(name, image, folders, access)
        elif not image.empty:
            yield f"{image.origin}: {name!r} has no caption", None


def _candidate(
    name: str, image: ImageCaptions, folders: Sequence[AnyPath], access: filesystem.Access
) -> Candidate:
    path = next((folder / name for folder in folders if _is_file(folder / name)), None)
    if path is None:
        searched = " or ".join(str(folder) for folder in folders)
        return f"{image.origin}: image {name!r} not found in {searched}", None
    try:
        raw = filesystem.read_bytes(path, access)
    except UserError as error:
        return f"{image.origin}: {str(error).removesuffix('.')}", None
    values = {"image_bytes": raw, "captions": tuple(image.captions)}
    return f"{image.origin}: {path}", Example(values, str(path))


def _is_file(path: AnyPath) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # names that no file can have
        return False


def _checked(
    path: AnyPath | str, read: Callable[[], Iterable[Candidate]], skip_bad: bool
) -> Stream:
    """Returns the candidates with intact images; a note lists the others.

    Args:
        path: Corpus file, for messages.
        read: Starts reading the candidates from the beginning.
        skip_bad: Whether problems are skipped; otherwise the first one is an error.
    """
    defects = {}  # by origin of the image
    problems = {}  # the skipped ones: a dict lists each once and in order
    decoded = 0  # number of candidates already decoded; each is decoded once

    def listing() -> str:
        listed = [*problems][:_MAX_LISTED]
        if len(problems) > _MAX_LISTED:
            listed.append("...")
        return "; ".join(listed)

    def examples() -> Iterator[Example]:
        nonlocal decoded
        any_intact = False
        for number, (description, example) in enumerate(read(), start=1):
            problem = description
            if example is not None:
                if number > decoded and (defect := image_defect(example.values["image_bytes"])):
                    defects[example.origin] = defect
                defect = defects.get(example.origin)
                problem = f"{description} {defect}" if defect else None
            decoded = max(decoded, number)
            if problem is None:
                any_intact = True
                yield example
            elif skip_bad:
                problems[problem] = None
            else:
                raise UserError(f"{problem}; use --skip-bad to skip such images.")
        if problems and not any_intact:
            raise UserError(f"{path}: no usable examples: {listing()}.")

    def notes() -> Iterator[str]:
        count = sum(1 for _ in stream)
        if problems:
            yield (
                f"{path}: skipped {len(problems)} bad images or captions, kept {count} images: "
                f"{listing()}"
            )

    stream = Stream(lambda: filesystem.require_examples(path, examples()), notes)
    return stream


def image_defect(raw: bytes) -> str | None:
    """Checks that an image is a complete JPEG or PNG that `models.images.pixels` decodes.

    Returns:
        A description of the defect, for messages, or None if there is none.
    """
    from PIL import Image

    from models import images as image_ops

    too_large = f"has more than {image_ops.MAX_PIXELS:,} pixels"

    end = next((end for start, end in _SIGNATURES.items() if raw.startswith(start)), None)
    if end is None:
        return f"is not a JPEG or PNG file: it begins with {raw[:8]!r}"
    if raw.startswith(_PNG):
        if raw[12:16] != b"IHDR":
            return "is broken: it does not begin with its header"
        raw = _without_metadata(raw)
    elif (scans := len(_SCAN.findall(raw))) > image_ops.MAX_SCANS:
        return f"has {scans} scans, of which {image_ops.MAX_SCANS} are allowed"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file := io.BytesIO(raw), formats=_FORMATS) as image:
                if image.width * image.height > image_ops.MAX_PIXELS:
                    return too_large
                # After the header, which may contain a preview with an end marker of its own.
                body = file.tell()
                image.load()
            with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
                image.verify()  # checksums of a PNG, which `load` ignores
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return too_large
    except Image.UnidentifiedImageError:
        return "is broken: its header cannot be read"
    except Exception as error:  # decoders raise many types on broken bytes
        return f"is broken: {error}"
    # Pillow accepts a file that ends early if no pixel is missing; TensorFlow does not.
    if raw.find(end, body) < 0:
        return "is broken: its end is missing"
    return None


def _without_metadata(raw: bytes) -> bytes:
    """Returns a PNG without texts, colour profiles and the like.

    TensorFlow ignores them if they are damaged, but Pillow refuses the image.
    """
    chunks, position = [raw[: len(_PNG)]], len(_PNG)
    while position + 8 <= len(raw):
        length, kind = struct.unpack_from(">I4s", raw, position)
        end = position + 12 + length
        if kind not in _METADATA:
            chunks.append(raw[position:end])
        position = end
        if kind == b"IEND":
            break
    return b"".join([*chunks, raw[position:]])
