"""Images and their captions: the corpora of 1→N, in the layouts that people have them in.

A corpus is a folder or a zip, or one table. Its parts are told by names:

    captions_train.tsv ...           a caption a line: the path of the image, below the folder
                                     of the table, a tab and the caption; or just train.tsv
    captions_train2017.json ...      as COCO has them, perhaps in a folder annotations; the
                                     images are in train2017, in images or beside
    Flickr_8k.trainImages.txt ...    as Flickr8k has them: the name of an image a line. Their
                                     captions are in Flickr8k.token.txt, as NAME.jpg#0, a tab
                                     and the caption; they are in whatever folder

`dev` and `val` are names of the valid part too. A table may be compressed, as in
train.tsv.gz. If none is in the root of the corpus, those in its folders are read. A corpus
without parts is one such table: captions.tsv, captions.json or Flickr8k.token.txt.

An image may have many captions, on lines that need not be neighbours: it is one example with
all of them. Captions are gathered in a file on disk that goes with the process; only a table
of COCO is read as a whole. Each image is decoded once, before training, so that one that is
missing or broken is told by then. An image that is there and has no caption is no example.
"""

import dataclasses
import functools
import hashlib
import io
import json
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath

from tasks.core.corpus import Corpus
from tasks.core.errors import UserError
from tasks.core.examples import Example, Stream
from tasks.core.settings import setting
from tasks.corpora import filesystem, tfds
from tasks.corpora.samples import scenes

# How the names of tables end, and of lists of images. That of a list goes after a part's.
_KINDS = {
    ".tsv": "tsv",
    ".json": "coco",
    ".token.txt": "tokens",
    ".token": "tokens",
    "Images.txt": "list",
}
_LEMMAS = ".lemma.token"  # the captions of Flickr8k for a second time
_NAME = "captions"  # what the name of a table of COCO begins with; others have no captions
_TOLD = 3  # bad images that a note names
# What an image begins with, and what it has nowhere but at its end.
_MARKS = {b"\x89PNG\r\n\x1a\n": b"\0\0\0\0IEND\xaeB`\x82", b"\xff\xd8\xff": b"\xff\xd9"}
_FORMATS = ("JPEG", "PNG")

Row = tuple[str, str, str]  # where a caption is, the path of its image, the caption


@dataclasses.dataclass
class Told:
    """What is told of an image: where first, its captions, and where there are empty ones."""

    origin: str
    captions: list[str] = dataclasses.field(default_factory=list)
    empty: list[str] = dataclasses.field(default_factory=list)


class Table:
    """The captions of each image, wherever in a table they are, on disk until asked for."""

    def __init__(self, rows: Iterable[Row]):
        self._rows = sqlite3.connect("")  # a file without a name
        self._rows.execute("CREATE TABLE told (name TEXT, origin TEXT, caption TEXT)")
        self._rows.executemany(
            "INSERT INTO told VALUES (?, ?, ?)",
            ((_inside(name, origin), origin, caption.strip()) for origin, name, caption in rows),
        )
        self._rows.execute("CREATE INDEX of ON told (name)")

    def __len__(self):
        return self._rows.execute("SELECT count(DISTINCT name) FROM told").fetchone()[0]

    def __iter__(self) -> Iterator[str]:
        """The paths of the images, in the order in which they are first told of."""
        ordered = "SELECT name FROM told GROUP BY name ORDER BY min(rowid)"
        return (name for (name,) in self._rows.execute(ordered))

    def __getitem__(self, name: str) -> Told | None:
        """What is told of an image; None if nothing is."""
        found = self._rows.execute(
            "SELECT origin, caption FROM told WHERE name = ? ORDER BY rowid", [name]
        ).fetchall()
        if not found:
            return None
        captions = [caption for _, caption in found if caption]
        return Told(found[0][0], captions, [origin for origin, caption in found if not caption])


# An example and what messages call it; or, without one, what is wrong.
Candidate = tuple[str, Example | None]


@dataclasses.dataclass(frozen=True)
class CaptionedImages(Corpus):
    """Where the captioned images are; the values of an example are `image_bytes` and `captions`.

    The first is the file as it is, a whole JPEG or PNG; the second a tuple of one str or
    more, none of them empty. The origin is the path of the image.
    """

    skip_bad: bool = setting(
        False, "pass over broken or missing images, and count them, rather than stop"
    )
    encoding: str = setting("utf-8", "encoding of the tables")

    def __post_init__(self):
        super().__post_init__()
        filesystem.check_encoding(self.encoding)

    def identity(self, example):
        """The image, so that equal ones never fall into two parts."""
        return hashlib.sha256(example.values["image_bytes"]).hexdigest()

    def sample(self):
        return scenes.parts()

    def dataset(self, name):
        def checked(stream: Stream) -> Stream:
            return _checked(f"tfds:{name}", lambda: ((e.origin, e) for e in stream), self.skip_bad)

        parts, notes = tfds.captioned_images(name, self.tfds_dir)
        return {part: checked(stream) for part, stream in parts.items()}, notes

    def files(self, path):
        if filesystem.is_one_file(path):
            return {"train": self.one_file(path)}, []
        root = filesystem.root(path)
        tables = _tables(root)
        parts = filesystem.parts(
            path, root, lambda names: self._part(root, tables, names), self.named()
        )
        if parts:
            return parts, self._unlisted(root, tables)
        return {"train": self._whole(path, root)}, []

    def one_file(self, path):
        if not filesystem.is_one_file(path):
            return self._whole(path, filesystem.root(path))
        if _kind(path) in ("", "list"):
            raise UserError(
                f"{path}: expected a table of captions, {_NAME}.tsv, {_NAME}.json of COCO or "
                f"NAME.token.txt of Flickr8k, got {path.name!r}."
            )
        # Beside the folder annotations of COCO are those of its images.
        coco = _kind(path) == "coco" and path.parent.name == "annotations"
        return self._stream(path, path.parent.parent if coco else path.parent)

    def _part(self, root, tables, names) -> filesystem.Found:
        """All of the tables and lists that goes by one of the names of a part."""
        name = rf"({'|'.join(names)})"
        table, listing = rf"({_NAME}_)?{name}\d*", rf"(.*[._-])?{name}Images"
        return [
            (file.name, self._stream(file, root, tables))
            for file in tables
            if re.fullmatch(listing if _kind(file) == "list" else table, _stem(file))
        ]

    def _whole(self, path, root) -> Stream:
        """The examples below a `root` that knows no parts."""
        tables = [table for table in _tables(root) if _kind(table) != "list"]
        rule = (
            f"{_NAME}_train.tsv, {_NAME}_train2017.json of COCO or Flickr_8k.trainImages.txt, "
            f"and so on; or {_NAME}.tsv, {_NAME}.json or Flickr8k.token.txt alone"
        )
        found = [(table.name, self._stream(table, root)) for table in tables]
        return filesystem.the_only(path, root, found, rule)

    def _unlisted(self, root, tables) -> list[str]:
        """A note on images that have captions and are in none of the lists, if there are lists."""
        lists = [table for table in tables if _kind(table) == "list"]
        if not lists:
            return []
        tokens = _tokens(root, tables)
        captioned = Table(self._captions(tokens))
        listed = {name for path in lists for _, name in self._names(path)}
        left = [name for name in captioned if name not in listed]
        if not left:
            return []
        return [
            f"{tokens}: {len(left)} of {len(captioned)} images are in no list, and so in no part; "
            f"the first is {left[0]}"
        ]

    # --- Readers -------------------------------------------------------------

    def _stream(self, path, root, tables=()) -> Stream:
        """The examples of a table, or of a list of the images of one of the tables."""

        lists = _kind(path) == "list"

        @functools.cache
        def table() -> Table:
            return Table(self._captions(_tokens(root, tables) if lists else path))

        def images() -> Iterator[tuple[str, Told]]:
            captioned = table()
            if not lists:
                return ((name, captioned[name]) for name in captioned)
            listed = {name: origin for origin, name in self._names(path)}
            return ((name, captioned[name] or Told(origin)) for name, origin in listed.items())

        def candidates():
            return _candidates(images(), _folders(path, root))

        return _checked(path, candidates, self.skip_bad)

    def _captions(self, path) -> Iterator[Row]:
        """The rows of a table."""
        return {"tsv": self._tsv, "coco": self._coco, "tokens": self._numbered}[_kind(path)](path)

    def _tsv(self, path):
        for origin, line in filesystem.lines(path, self.encoding):
            row = line.split("\t")
            if len(row) != 2 and line.strip():
                raise UserError(
                    f"{origin}: expected the path of an image, a tab and a caption, got "
                    f"{len(row)} column{'s' * (len(row) != 1)}: {filesystem.shown(line)}."
                )
            if line.strip():
                yield origin, *row

    def _numbered(self, path):
        for origin, line in filesystem.lines(path, self.encoding):
            numbered, tab, caption = line.partition("\t")
            name, mark, _ = numbered.rpartition("#")
            if not (tab and mark) and line.strip():
                raise UserError(
                    f"{origin}: expected NAME.jpg#0, a tab and a caption, got "
                    f"{filesystem.shown(line)}."
                )
            if line.strip():
                yield origin, name, caption

    def _coco(self, path):
        with filesystem.open_bytes(path) as file:
            text = filesystem.decode(file.read(), self.encoding, path)
        try:
            table = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path}: not valid JSON: {error}.") from error
        images = {
            row["id"]: row["file_name"]
            for _, row in _objects(path, table, "images", {"id": int, "file_name": str})
        }
        wanted = {"image_id": int, "caption": str}
        for origin, row in _objects(path, table, "annotations", wanted):
            if row["image_id"] not in images:
                raise UserError(
                    f"{origin}: 'image_id' must be the 'id' of one of its {len(images)} images, "
                    f"got {row['image_id']}."
                )
            # JSON can tell half a surrogate pair, which no UTF-8 can.
            texts = (images[row["image_id"]], row["caption"])
            yield origin, *(text.encode("utf-8", "replace").decode() for text in texts)

    def _names(self, path) -> Iterator[tuple[str, str]]:
        """The images of a list, each with its line."""
        for origin, line in filesystem.lines(path, self.encoding):
            if line.strip():
                yield origin, _inside(line, origin)


# --- Tables ----------------------------------------------------------------------


def _stem(path) -> str:
    return filesystem.stem_and_suffix(path)[0]


def _kind(path) -> str:
    """Which of `_KINDS` a file is, by its name; "" if it is none."""
    name = "".join(filesystem.stem_and_suffix(path))
    return next((kind for end, kind in _KINDS.items() if name.endswith(end)), "")


def _tables(root) -> list:
    """The tables and lists in `root`; if there are none, those in its folders."""
    entries = filesystem.entries(root)
    for inside in (
        entries,
        (file for e in entries if e.is_dir() for file in filesystem.entries(e)),
    ):
        tables = [file for file in inside if _is_table(file) and file.is_file()]
        if tables:
            return tables
    return []


def _is_table(path) -> bool:
    """Whether it is a table or a list, as far as its name tells."""
    other = _kind(path) == "coco" and not path.name.startswith(_NAME)
    return bool(_kind(path)) and not other and not _stem(path).endswith(_LEMMAS)


def _tokens(root, tables):
    """The one table that has the captions of what is listed."""
    found = [table for table in tables if _kind(table) == "tokens"]
    if len(found) != 1:
        raise UserError(
            f"{root}: lists of images need one table of captions, NAME.token.txt, beside them, "
            f"got {[table.name for table in found]}."
        )
    return found[0]


def _objects(path, table, key: str, wanted: dict[str, type]) -> Iterator[tuple[str, dict]]:
    """The objects under a key of what COCO has, each with where it is.

    Args:
        wanted: The keys that each must have, and of what kind they are.
    """
    rows = table.get(key) if isinstance(table, dict) else None
    if not isinstance(rows, list):
        raise UserError(
            f"{path}: expected an object of COCO with the lists 'images' and 'annotations', got "
            f"{sorted(table) if isinstance(table, dict) else filesystem.shown(json.dumps(table))}."
        )
    kinds = {int: "a whole number", str: "a string"}
    for number, row in enumerate(rows):
        origin = f"{path}: {key}[{number}]"
        for name, kind in wanted.items():
            value = row.get(name) if isinstance(row, dict) else None
            if not isinstance(value, kind):
                raise UserError(
                    f"{origin}: {name!r} must be {kinds[kind]}, got "
                    f"{filesystem.shown(json.dumps(value if isinstance(row, dict) else row))}."
                )
        yield origin, row


def _inside(name: str, origin: str) -> str:
    """The path of an image as it is looked for, which must not lead out of the corpus."""
    path = PurePath(name.strip())
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{origin}: the path of an image must be one below the folder, without .., "
            f"got {filesystem.shown(name)}."
        )
    return path.as_posix()


# --- Images ----------------------------------------------------------------------


def _folders(path, root) -> list:
    """Where the images of a table are looked for."""
    if _kind(path) in ("tokens", "list"):
        return list(_below(root))
    folders = [path.parent, root]
    if _kind(path) == "coco":  # other parts may have images of the same name
        own = _stem(path).removeprefix(f"{_NAME}_")
        images = root / "images"
        folders = [f for f in (root / own, images / own, images) if f.is_dir()] + folders
    return list({str(folder): folder for folder in folders}.values())


def _below(folder, depth: int = 2) -> Iterator[Path]:
    """A folder and those in it, some levels downwards."""
    yield folder
    for entry in filesystem.entries(folder) if depth else ():
        if entry.is_dir():
            yield from _below(entry, depth - 1)


def _candidates(images: Iterable[tuple[str, Told]], folders) -> Iterator[Candidate]:
    """The images that are told of, each read when its turn comes, and what is wrong with others."""
    for name, told in images:
        for origin in told.empty:
            yield f"{origin}: the caption of {name!r} is empty", None
        if told.captions:
            yield _candidate(name, told, folders)
        elif not told.empty:
            yield f"{told.origin}: {name!r} has no caption", None


def _candidate(name, told, folders) -> Candidate:
    place = next((folder / name for folder in folders if _is_file(folder / name)), None)
    if place is None:
        looked = " or ".join(str(folder) for folder in folders)
        return f"{told.origin}: there is no image {name!r} in {looked}", None
    try:
        with filesystem.open_bytes(place) as file:
            raw = file.read()
    except UserError as error:
        return f"{told.origin}: {str(error).removesuffix('.')}", None
    values = {"image_bytes": raw, "captions": tuple(told.captions)}
    return f"{told.origin}: {place}", Example(values, str(place))


def _is_file(path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no file can have such a name
        return False


def _checked(path, read: Callable[[], Iterable[Candidate]], skip_bad: bool) -> Stream:
    """Those of the candidates whose images are whole; its notes tell of the others.

    Args:
        path: What messages name.
        read: Starts reading the candidates from the beginning.
        skip_bad: Whether others are passed over; else the first is an error.
    """
    flaws = {}  # by origin, of the images that have one
    bad = {}  # what was told of those that were passed over, once and in order
    looked = 0  # at how many of the candidates, in the order of reading: once and never again

    def passed_over():
        return "; ".join([*bad][:_TOLD] + ["..."] * (len(bad) > _TOLD))

    def examples():
        nonlocal looked
        whole = False
        for number, (told, example) in enumerate(read(), start=1):
            if example is not None:
                if number > looked and (found := flaw(example.values["image_bytes"])):
                    flaws[example.origin] = found
                found = flaws.get(example.origin, "")
                told = f"{told} {found}" if found else ""
            looked = max(looked, number)
            if not told:
                whole = True
                yield example
            elif not skip_bad:
                raise UserError(f"{told}; --skip-bad passes over such.")
            else:
                bad[told] = None
        if bad and not whole:
            raise UserError(f"{path}: no example is left: {passed_over()}.")

    def notes():
        whole = sum(1 for _ in stream)
        if bad:
            yield (
                f"{path}: {len(bad)} bad images or captions passed over, {whole} images kept: "
                f"{passed_over()}"
            )

    stream = Stream(lambda: filesystem.told(path, examples()), notes)
    return stream


def flaw(raw: bytes) -> str:
    """What is wrong with an image, for a message; "" if it is a whole JPEG or PNG."""
    from PIL import Image

    end = next((end for begin, end in _MARKS.items() if raw.startswith(begin)), None)
    if end is None:
        return f"is neither JPEG nor PNG: it begins with {raw[:8]!r}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file := io.BytesIO(raw), formats=_FORMATS) as image:
                body = file.tell()  # behind the header, which may have a preview with an end
                image.load()
            with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
                image.verify()  # the sums of a PNG that loading passes over
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"has more than {Image.MAX_IMAGE_PIXELS} pixels"
    except Image.UnidentifiedImageError:
        return "is broken: its header cannot be read"
    except Exception as error:  # whatever a decoder may meet in broken bytes
        return f"is broken: {error}"
    # Pillow needs no end where all pixels are there, but TensorFlow refuses such files.
    return "" if raw.find(end, body) >= 0 else "is broken: its end is missing"
