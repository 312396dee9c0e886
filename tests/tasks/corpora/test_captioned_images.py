"""Captioned images: every supported layout, and messages about broken corpora and images."""

import collections
import gzip
import io
import itertools
import json
import random
import re
import shutil
import struct
import tracemalloc
import zipfile
import zlib

import pytest
from PIL import Image, ImageFile

from models import images as image_ops
from tasks.core.errors import UserError
from tasks.core.examples import PARTS, Stream
from tasks.corpora import captioned_images
from tasks.corpora.captioned_images import CaptionedImages, image_defect
from tasks.corpora.samples import scenes


def picture(seed, kind="PNG", size=(9, 7), **options):
    """Returns an image file that is unique to its seed."""
    file = io.BytesIO()
    pixels = random.Random(str(seed)).randbytes(3 * size[0] * size[1])
    Image.frombytes("RGB", size, pixels).save(file, kind, **options)
    return file.getvalue()


def images(seed):
    """Returns images with their captions, by name."""
    return {
        f"{seed} 1.png": (picture((seed, 1)), ("a red square", "something red")),
        f"{seed} 2.jpg": (picture((seed, 2), "JPEG"), ("Ça brûle !",)),
        f"{seed}é3.JPEG": (picture((seed, 3), "JPEG"), ("a cat", "the cat", "a #1 cat, 1/2")),
    }


def rows(pictures):
    """Returns one row per caption: the first of every image, then the others in reverse order."""
    pairs = [(name, text) for name, (_, captions) in pictures.items() for text in captions]
    first = {name: captions[0] for name, (_, captions) in pictures.items()}
    later = [row for row in pairs if row[1] != first[row[0]]]
    return [*first.items(), *sorted(later, key=lambda row: -list(pictures).index(row[0]))]


def tsv(pictures, folder=""):
    return "".join(f"{folder}{name}\t {caption} \n" for name, caption in rows(pictures))


def tokens(pictures):
    count = collections.Counter()
    text = ""
    for name, caption in rows(pictures):
        text += f"{name}#{count[name]}\t{caption}\n"
        count[name] += 1
    return text


def coco(pictures, **other):
    ids = {name: 7 * n for n, name in enumerate(pictures)}
    return json.dumps(
        {
            "info": {"year": 2017},
            "images": [{"id": i, "file_name": name, "height": 7} for name, i in ids.items()],
            "annotations": [
                {"id": n, "image_id": ids[name], "caption": caption + "\n"}
                for n, (name, caption) in enumerate(rows(pictures))
            ],
            **other,
        }
    )


def listed(pictures):
    return "".join(f"{name}\n" for name in pictures)


def below(folder, pictures):
    return {f"{folder}{name}": raw for name, (raw, _) in pictures.items()}


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = content if isinstance(content, bytes) else content.encode("utf-8")
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return root


def read(*streams):
    values = (example.values for stream in streams for example in stream)
    return sorted((value["image_bytes"], value["captions"]) for value in values)


def read_all(splits):
    return read(*(getattr(splits, part) for part in PARTS))


def captions_in(path, **flags):
    return CaptionedImages(data=str(path), **flags).open()


# Layouts: each maps parts, as {name: images}, to files.


def tables(parts, name="captions_{}.tsv"):
    files = {}
    for part, pictures in parts.items():
        files |= {name.format(part): tsv(pictures, f"{part}/images/")}
        files |= below(f"{part}/images/", pictures)
    return files


def of_coco(parts, table="captions_{}2017.json", folder="{}2017/"):
    files = {}
    for part, pictures in parts.items():
        files |= {table.format(part): coco(pictures)}
        # Other folders may contain images with the same names.
        files |= below("images/", dict.fromkeys(pictures, (picture("other"), ())))
        files |= below(folder.format(part), pictures)
    return files


def flickr(parts, text="", folder="Flicker8k_Dataset/"):
    everything = {name: image for pictures in parts.values() for name, image in pictures.items()}
    lemmas = {name: (raw, ("cat",)) for name, (raw, _) in everything.items()}
    files = {
        f"{text}Flickr8k.token.txt": tokens(everything),
        f"{text}Flickr8k.lemma.token.txt": tokens(lemmas),
        f"{text}ExpertAnnotations.txt": "x\ty\n",
        f"{text}latestImages.txt": listed(
            everything
        ),  # not a part, although its name ends like one
    }
    files |= {f"{text}Flickr_8k.{p}Images.txt": listed(pictures) for p, pictures in parts.items()}
    return files | below(folder, everything)


def flickr30k(parts):
    text = flickr(parts, folder="flickr30k-images/")
    return {name.replace("Flickr8k.token.txt", "results_2013.token"): c for name, c in text.items()}


WRITTEN = {
    "tsv": tables,
    "tsv, just the parts": lambda parts: tables(parts, "{}.tsv"),
    "tsv in a folder": lambda parts: (
        {f"text/{n}" if n.endswith(".tsv") else n: c for n, c in tables(parts).items()}
    ),
    "tsv beside images in a folder": lambda parts: (
        {f"all/{name}": content for name, content in tables(parts).items()} | {"more/a.txt": ""}
    ),
    "coco": of_coco,
    "coco, annotations": lambda parts: of_coco(
        parts, "annotations/captions_{}2014.json", "{}2014/"
    ),
    "coco, images/train2017": lambda parts: of_coco(parts, folder="images/{}2017/"),
    "coco, images": lambda parts: of_coco(parts, "annotations/captions_{}.json", "images/"),
    "flickr8k": flickr,
    "flickr8k, beside": lambda parts: flickr(parts, folder=""),
    "flickr8k, folders": lambda parts: flickr(parts, "Flickr8k_text/", "Flickr8k_Dataset/Flicker/"),
    "flickr30k": flickr30k,
}
TABLES = (".tsv", ".json", ".txt", ".token")


@pytest.mark.parametrize("packed", ["folder", "zip", "gz", "gz in zip"])
@pytest.mark.parametrize("valid", ["valid", "dev", "val"])
@pytest.mark.parametrize("written", WRITTEN)
def test_every_layout_with_parts_is_read(tmp_path, written, valid, packed):
    parts = {part: images(part) for part in ("train", valid, "test")}
    files = WRITTEN[written](parts)
    if "gz" in packed:
        files = {f"{n}.gz" if n.endswith(TABLES) else n: c for n, c in files.items()}
    path = write(tmp_path / "corpus", files | {"README.md": "", "LICENSE": "", "answers.txt": ""})
    if "zip" in packed:
        path = shutil.make_archive(str(tmp_path / "corpus"), "zip", tmp_path, "corpus")
    splits = captions_in(path)
    assert not splits.notes
    for part, pictures in zip(PARTS, parts.values(), strict=True):
        assert read(getattr(splits, part)) == sorted(pictures.values())
        assert read(getattr(splits, part)) == sorted(pictures.values())  # again
        stream, notes = CaptionedImages(data=str(path)).part(part)
        assert read(stream) == sorted(pictures.values()) and not notes


ALONE = {
    "tsv": lambda pictures: {"captions.tsv": tsv(pictures)} | below("", pictures),
    "another tsv": lambda pictures: {"x.tsv": tsv(pictures, "./a//")} | below("a/", pictures),
    "tsv.gz": lambda pictures: {"captions.tsv.gz": tsv(pictures)} | below("", pictures),
    "coco": lambda pictures: {"captions.json": coco(pictures)} | below("images/", pictures),
    "tokens": lambda pictures: {"a.token.txt": tokens(pictures)} | below("Images/", pictures),
}
ENDS = {
    "as it is": lambda text: text,
    "windows": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "blank lines": lambda text: "\n" + text.replace("\n", "\n \n"),
    "no last newline": lambda text: text.rstrip("\n"),
}


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("written", ALONE)
def test_one_table_is_split_by_hash_or_is_one_part(tmp_path, written, ends):
    files = ALONE[written](images("x"))
    table = next(iter(files))
    write(tmp_path, {**files, table: ENDS[ends](files[table]), "instances.json": "{}"})
    for path in (tmp_path, tmp_path / table):
        splits = captions_in(path)
        assert splits.notes == (
            "no valid and no test part: split by the hash of the image into "
            "train 80 %, valid 10 %, test 10 %",
        )
        assert read_all(splits) == sorted(images("x").values())
        part, notes = CaptionedImages(test=str(path)).part("test")
        assert read(part) == sorted(images("x").values()) and not notes


def test_tables_can_be_named_one_by_one(tmp_path):
    parts = {part: images(part) for part in ("train", "val", "more")}
    write(tmp_path, of_coco(parts, "annotations/captions_{}2017.json") | tables(parts))
    named = {
        "train": "annotations/captions_train2017.json",
        "valid": "annotations/captions_val2017.json",
        "test": "captions_more.tsv",
    }
    splits = CaptionedImages(**{part: str(tmp_path / name) for part, name in named.items()}).open()
    assert not splits.notes
    for part, pictures in zip(PARTS, parts.values(), strict=True):
        assert read(getattr(splits, part)) == sorted(pictures.values())


def test_a_flag_settles_which_table_is_a_part(tmp_path):
    parts = {part: images(part) for part in ("train", "val", "test", "test2")}
    write(tmp_path, tables(parts))
    with pytest.raises(
        UserError,
        match=r"several candidates for the test part: captions_test\.tsv, captions_test2\.tsv",
    ):
        captions_in(tmp_path)
    splits = captions_in(tmp_path, test=str(tmp_path / "captions_test2.tsv"))
    assert read(splits.test) == sorted(images("test2").values())
    assert read(splits.valid) == sorted(images("val").values())


def test_an_image_has_all_its_captions_in_order(tmp_path):
    lines = ["a.png\tone", "b.png\tthree", "./a.png\ttwo", "b.png\tthree", "a.png\tone"]
    pictures = {"a.png": picture("a"), "b.png": picture("b")}
    write(tmp_path, {"train.tsv": "\n".join(lines), **pictures})
    train = CaptionedImages(train=str(tmp_path)).part("train")[0]
    assert [(example.origin, example.values) for example in train] == [
        (
            str(tmp_path / "a.png"),
            {"image_bytes": pictures["a.png"], "captions": ("one", "two", "one")},
        ),
        (
            str(tmp_path / "b.png"),
            {"image_bytes": pictures["b.png"], "captions": ("three", "three")},
        ),
    ]


@pytest.mark.parametrize("written", ["tsv", "coco"])
def test_identical_images_share_a_part_whatever_their_names(tmp_path, written):
    pictures = {f"{n}.png": (picture(n % 300, size=(2, 2)), (f"{n}",)) for n in range(900)}
    text = (
        {"captions.tsv": tsv(pictures)} if written == "tsv" else {"captions.json": coco(pictures)}
    )
    write(tmp_path, text | below("", pictures))
    splits = captions_in(tmp_path, split="60/20/20")
    parts = [read(getattr(splits, part)) for part in PARTS]
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) / 900 - share) < 0.07
        assert len(part) == 3 * len({raw for raw, _ in part})
    assert sorted(itertools.chain(*parts)) == sorted(pictures.values())


def test_a_test_part_is_split_off_train_for_coco(tmp_path):
    parts = {"train": images(1) | images(2) | images(3), "val": images("val")}
    write(tmp_path, of_coco(parts))
    splits = captions_in(tmp_path, split="1/1/1")
    assert splits.notes == (
        "no test part: split by the hash of the image into train 50 %, test 50 %",
    )
    assert read(splits.valid) == sorted(images("val").values())
    assert read(splits.train, splits.test) == sorted(parts["train"].values())


def test_unlisted_images_are_counted(tmp_path):
    parts = {"train": images("train"), "dev": images("dev"), "test": images("test")}
    files = flickr(parts)
    files["Flickr8k.token.txt"] = "x.jpg.1#0\ta cat\nx.jpg.1#1\tcat\n" + files["Flickr8k.token.txt"]
    write(tmp_path, files)
    note = (
        f"{tmp_path}/Flickr8k.token.txt: 1 of 10 images are in no list and therefore in no part; "
    )
    test = str(write(tmp_path / "other", ALONE["tsv"](images("x"))))
    for splits in (captions_in(tmp_path), captions_in(tmp_path, test=test)):
        assert splits.notes == (note + "the first is x.jpg.1",)
        assert read(splits.train) == sorted(images("train").values())


def test_images_without_a_caption_are_ignored(tmp_path):
    write(tmp_path, ALONE["tsv"](images("x")) | {"more.png": picture("more"), "broken.jpg": ""})
    assert read_all(captions_in(tmp_path)) == sorted(images("x").values())
    pictures = images("y")
    bare = {"y 1.png": (pictures["y 1.png"][0], ()), **dict(list(pictures.items())[1:])}
    write(tmp_path / "coco", {"captions.json": coco_of(bare)} | below("", bare))
    assert read_all(captions_in(tmp_path / "coco")) == sorted(list(pictures.values())[1:])


def coco_of(pictures):
    """Returns a COCO table that also lists images without captions."""
    whole = json.loads(coco({name: image for name, image in pictures.items() if image[1]}))
    whole["images"] += [
        {"id": 1000 + n, "file_name": name}
        for n, (name, (_, captions)) in enumerate(pictures.items())
        if not captions
    ]
    return json.dumps(whole)


def test_other_encodings_are_read(tmp_path):
    pictures = images("x")
    write(tmp_path, below("", pictures) | {"captions.tsv": tsv(pictures).encode("latin-1")})
    assert read_all(captions_in(tmp_path, encoding="latin-1")) == sorted(pictures.values())


def test_an_unpaired_surrogate_is_not_an_error(tmp_path):
    text = coco({"a?.png": (picture("a"), ("CAT",))}).replace("CAT", "cat \\ud83d")
    write(tmp_path, {"captions.json": text.replace("a?", "a\\ud83d"), "a?.png": picture("a")})
    assert read_all(captions_in(tmp_path)) == [(picture("a"), ("cat ?",))]


# --- When images are read ---------------------------------------------------------


def test_images_are_read_lazily(tmp_path):
    files = ALONE["tsv"](images("x"))
    path = write(tmp_path, {**files, "xé3.JPEG": b"broken"}) / "captions.tsv"
    stream = CaptionedImages().single_part(path)
    assert len(list(itertools.islice(stream, 2))) == 2
    with pytest.raises(UserError, match=r"é3\.JPEG is not a JPEG or PNG file"):
        list(stream)
    skipping = CaptionedImages(skip_bad=True).single_part(path)
    assert len(list(skipping)) == len(list(skipping)) == 2  # even though the notes were not read


@pytest.mark.parametrize("skip_bad", [False, True])
def test_images_are_decoded_once_and_checked_before_training(tmp_path, monkeypatch, skip_bad):
    decoded = []
    monkeypatch.setattr(
        captioned_images, "image_defect", lambda raw: decoded.append(raw) or image_defect(raw)
    )
    parts = {part: images(part) for part in ("train", "val", "test")}
    write(tmp_path, tables(parts))
    everything = sorted(raw for pictures in parts.values() for raw, _ in pictures.values())
    splits = captions_in(tmp_path, skip_bad=skip_bad)
    assert sorted(decoded) == everything
    for _ in range(2):
        read_all(splits)
    assert len(decoded) == len(everything)
    write(tmp_path, {"test/images/testé3.JPEG": b"broken"})
    corpus = CaptionedImages(data=str(tmp_path), skip_bad=skip_bad)
    if skip_bad:
        assert len(read_all(corpus.open())) == len(everything) - 1
    else:
        with pytest.raises(UserError, match=r"captions_test.tsv:3: .*testé3.JPEG is not a"):
            corpus.open()
    assert len(corpus.part("valid")[1]) == 0


@pytest.mark.parametrize("packed", ["folder", "zip"])
def test_images_are_streamed(tmp_path, packed):
    pictures = {f"{n}.png": (picture(n, size=(200, 100)), (f"{n}",)) for n in range(50)}
    path = write(tmp_path / "corpus", tables({"train": pictures}))
    if packed == "zip":
        path = shutil.make_archive(str(tmp_path / "corpus"), "zip", tmp_path, "corpus")
    tracemalloc.start()
    splits = captions_in(path, skip_bad=True)
    assert sum(1 for part in PARTS for _ in getattr(splits, part)) == 50
    assert tracemalloc.get_traced_memory()[1] < 1_000_000  # of 3 MB
    tracemalloc.stop()


# --- Messages ------------------------------------------------------------------

GOOD = {"a.png": picture("a"), "b.jpg": picture("b", "JPEG")}
LINES = "a.png\tone\nb.jpg\ttwo\n"
EXPECTED = (
    "Expected train, valid and test as captions_train.tsv, captions_train2017.json (COCO) or "
    "Flickr_8k.trainImages.txt; or a single captions.tsv, captions.json or Flickr8k.token.txt."
)


def as_coco(**other):
    return coco({"a.png": (b"", ("one",))}, **other)


# Files in addition to `GOOD`, the path to read, and the message; {} is the folder.
BROKEN = {
    "no such file": ({}, "nowhere", "--data: no such file or folder: '{}/nowhere'."),
    "empty folder": ({"a/.hidden": ""}, "a", f"{{}}/a: no corpus found among []. {EXPECTED}"),
    "other files": (
        {"a/x.png": "", "a/captions.csv": "", "a/instances_train2017.json": "{}"},
        "a",
        "{}/a: no corpus found among ['captions.csv', 'instances_train2017.json', 'x.png']. "
        + EXPECTED,
    ),
    "another file": (
        {},
        "a.png",
        "{}/a.png: not a table of captions; its name must be NAME.tsv, captions*.json (COCO) or "
        "NAME.token.txt (Flickr8k), got 'a.png'.",
    ),
    "only a list": (
        {"x.trainImages.txt": "a.png\n"},
        "x.trainImages.txt",
        "{}/x.trainImages.txt: not a table of captions; its name must be NAME.tsv, captions*.json "
        "(COCO) or NAME.token.txt (Flickr8k), got 'x.trainImages.txt'.",
    ),
    "two wholes": (
        {"x.tsv": LINES, "y.tsv": LINES},
        "",
        "{}: ambiguous: ['x.tsv', 'y.tsv']. Name one of them, or provide " + EXPECTED[9:],
    ),
    "two trains": (
        {"train.tsv": LINES, "captions_train2017.json": as_coco()},
        "",
        "{}: several candidates for the train part: captions_train2017.json, train.tsv; keep one, "
        "or name one with --train.",
    ),
    "no train": (
        {"captions_test.tsv": LINES},
        "",
        "{}: there is a test part but no train part (named train or training).",
    ),
    "not a zip": ({"a.zip": "x"}, "a.zip", "{}/a.zip: not a valid zip archive: File is not a zip "
                  "file."),
    "not a gz": (
        {"x.tsv.gz": b""},
        "x.tsv",
        "--data: no such file or folder: '{}/x.tsv'.",
    ),
    "empty": ({"x.tsv": ""}, "x.tsv", "{}/x.tsv: the file contains no examples."),
    "empty part": (
        {"train.tsv": LINES, "test.tsv": "\n"},
        "",
        "{}/test.tsv: the file contains no examples.",
    ),
    "empty list": (
        {"x.token.txt": "a.png#0\tone\n", "x.trainImages.txt": "a.png\n", "x.testImages.txt": ""},
        "",
        "{}/x.testImages.txt: the file contains no examples.",
    ),
    "no annotations": (
        {"captions.json": as_coco(annotations=[])},
        "",
        "{}/captions.json: the file contains no examples.",
    ),
    "no tab": (
        {"x.tsv": LINES + "a.png one\n"},
        "",
        "{}/x.tsv:3: expected the path of an image, a tab and a caption, got 1 column: "
        "'a.png one'.",
    ),
    "two tabs": (
        {"x.tsv": LINES + "a.png\tone\ten\n"},
        "",
        "{}/x.tsv:3: expected the path of an image, a tab and a caption, got 3 columns: "
        "'a.png\\tone\\ten'.",
    ),
    "no tab in tokens": (
        {"x.token.txt": "a.png#0\tone\na.png#1 two\n"},
        "",
        "{}/x.token.txt:2: expected NAME.jpg#0, a tab and a caption, got 'a.png#1 two'.",
    ),
    "no number in tokens": (
        {"x.token.txt": "a.png\tone\n"},
        "",
        "{}/x.token.txt:1: expected NAME.jpg#0, a tab and a caption, got 'a.png\\tone'.",
    ),
    "not utf-8": (
        {"x.tsv": b"a.png\tone\na.png\t\xc4\xe3\n"},
        "",
        "{}/x.tsv:2: not valid utf-8: invalid continuation byte (byte 0xc4); choose another "
        "encoding with --encoding.",
    ),
    "json not utf-8": (
        {"captions.json": b'{"images": "\xc4\xe3"}'},
        "",
        "{}/captions.json:1: not valid utf-8: invalid continuation byte (byte 0xc4); choose "
        "another encoding with --encoding.",
    ),
    "bad json": (
        {"captions.json": '{"images": '},
        "",
        "{}/captions.json: not valid JSON: Expecting value: line 1 column 12 (char 11).",
    ),
    "no object": (
        {"captions.json": "[1]"},
        "",
        "{}/captions.json: expected a JSON object with the lists 'images' and 'annotations' "
        "(COCO), got '[1]'.",
    ),
    "no lists": (
        {"captions.json": '{"images": [], "info": []}'},
        "",
        "{}/captions.json: expected a JSON object with the lists 'images' and 'annotations' "
        "(COCO), got the keys ['images', 'info'].",
    ),
    "no object in a list": (
        {"captions.json": as_coco(images=["a.png"])},
        "",
        "{}/captions.json: images[0]: 'id' must be an integer, got '\"a.png\"'.",
    ),
    "no file name": (
        {"captions.json": as_coco(images=[{"id": 0, "file_name": "a.png"}, {"id": 1}])},
        "",
        "{}/captions.json: images[1]: 'file_name' must be a string, got 'null'.",
    ),
    "caption no string": (
        {"captions.json": as_coco(annotations=[{"image_id": 0, "caption": ["one"]}])},
        "",
        "{}/captions.json: annotations[0]: 'caption' must be a string, got '[\"one\"]'.",
    ),
    "image of no list": (
        {"captions.json": as_coco(annotations=[{"image_id": 8, "caption": "one"}])},
        "",
        "{}/captions.json: annotations[0]: 'image_id' must be the 'id' of one of the 1 entries in "
        "'images', got 8.",
    ),
    "no tokens": (
        {"x.trainImages.txt": "a.png\n"},
        "",
        "{}: lists of images need exactly one table of captions, NAME.token.txt, in the "
        "same folder, got [].",
    ),
    "two tokens": (
        {"x.trainImages.txt": "a.png\n", "x.token.txt": "", "y.token": ""},
        "",
        "{}: lists of images need exactly one table of captions, NAME.token.txt, in the "
        "same folder, got ['x.token.txt', 'y.token'].",
    ),
}  # fmt: skip
PATH = "the path of an image must be relative to the folder and must not contain '..', got"
for path in ("/etc/a.png", "../a.png", "x/../../a.png", "x/..", "", "."):
    BROKEN[f"path {path!r}"] = (
        {"x.tsv": f"{LINES}{path}\tone\n"},
        "",
        f"{{}}/x.tsv:3: {PATH} {path!r}.",
    )
BROKEN["path of coco"] = (
    {"captions.json": coco({"../a.png": (b"", ("one",))})},
    "",
    f"{{}}/captions.json: annotations[0]: {PATH} '../a.png'.",
)
BROKEN["path in a list"] = (
    {"x.token.txt": "a.png#0\tone\n", "x.trainImages.txt": "a.png\n../b.jpg\n"},
    "",
    f"{{}}/x.trainImages.txt:2: {PATH} '../b.jpg'.",
)


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_corpus_is_reported_with_file_and_line(tmp_path, name, skip_bad):
    files, path, message = BROKEN[name]
    write(tmp_path, (GOOD if path != "a" else {}) | files)
    with pytest.raises(UserError) as error:
        captions_in(tmp_path / path, skip_bad=skip_bad)
    assert str(error.value) == message.replace("{}", str(tmp_path), 1)


def test_a_damaged_compressed_table_is_reported(tmp_path):
    whole = gzip.compress(LINES.encode() * 100)
    for raw, why in ((b"a.png\tone", "Not a gzipped file"), (whole[:-20], "ended before the end")):
        write(tmp_path, GOOD)
        (tmp_path / "x.tsv.gz").write_bytes(raw)
        with pytest.raises(UserError, match=rf"x\.tsv\.gz: cannot be read: .*{why}"):
            captions_in(tmp_path)


def test_an_unknown_encoding_is_rejected():
    with pytest.raises(
        UserError, match=r"--encoding must be an encoding that Python knows, .*'utf-9'"
    ):
        CaptionedImages(encoding="utf-9")


PHOTO = picture("photo", "JPEG", size=(40, 30))
DRAWN = picture("drawn", size=(40, 30))
NOT_IMAGE = "is not a JPEG or PNG file: it begins with "
# The content of a file, and the beginning of the message about it.
BAD_IMAGES = {
    "empty": (b"", NOT_IMAGE + "b''"),
    "text": (b"<html>404</html>", NOT_IMAGE + "b'<html>40'"),
    "gif": (picture("x", "GIF"), NOT_IMAGE + "b'GIF87a"),
    "bmp": (picture("x", "BMP"), NOT_IMAGE + "b'BM"),
    "webp": (picture("x", "WEBP"), NOT_IMAGE + "b'RIFF"),
    "tiff": (picture("x", "TIFF"), NOT_IMAGE + "b'II*"),
    "only a header": (DRAWN[:30], "is broken: its header cannot be read"),
    "only a mark": (PHOTO[:3], "is broken: "),
    "half a jpeg": (PHOTO[: len(PHOTO) // 2], "is broken: image file is truncated ("),
    "half a png": (DRAWN[: len(DRAWN) // 2], "is broken: image file is truncated"),
    "a jpeg without its end": (PHOTO[:-2], "is broken: "),
    "a png without its end": (DRAWN[:-12], "is broken: "),
    "a png with a wrong sum": (DRAWN[:-16] + bytes(4) + DRAWN[-12:], "is broken: broken PNG file"),
    "a png with a broken end": (DRAWN[:-1] + b"x", "is broken: its end is missing"),
    "a png with other bytes": (
        DRAWN[:900] + bytes([DRAWN[900] ^ 1]) + DRAWN[901:],
        "is broken: broken data stream when reading image file",
    ),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_reported_with_file_and_line_or_skipped(tmp_path, name):
    raw, why = BAD_IMAGES[name]
    write(tmp_path, {**GOOD, "c.png": raw, "x.tsv": f"a.png\tone\n\nc.png\tbad\n{LINES}"})
    with pytest.raises(UserError) as error:
        captions_in(tmp_path)
    where = f"{tmp_path}/x.tsv:3: {tmp_path}/c.png "
    assert str(error.value).startswith(where + why)
    assert str(error.value).endswith("; use --skip-bad to skip such images.")
    assert "object at 0x" not in str(error.value)
    splits = captions_in(tmp_path, skip_bad=True)
    assert splits.notes[0].startswith(
        f"{tmp_path}/x.tsv: skipped 1 bad images or captions, kept 2 images: {where}{why}"
    )
    want = sorted([(GOOD["a.png"], ("one", "one")), (GOOD["b.jpg"], ("two",))])
    assert read_all(splits) == read_all(splits) == want


def test_images_without_a_defect_decode_in_tensorflow():
    """Truncated or corrupted anywhere, an image that passes the check can be read in training."""
    import tensorflow as tf

    draw = random.Random(3)
    gray = io.BytesIO()
    Image.frombytes("L", (40, 30), draw.randbytes(1200)).save(gray, "PNG")
    progressive = picture("p", "JPEG", size=(40, 30), progressive=True)
    counts = collections.Counter()
    for raw in (PHOTO, DRAWN, gray.getvalue(), progressive, with_metadata()[0]):
        damaged = [raw[:-n] for n in range(1, 30)] + [raw, raw + b"data appended by some cameras"]
        for _ in range(60):
            i = draw.randrange(len(raw))
            flipped = bytes([raw[i] ^ 1 << draw.randrange(8)])
            damaged += [raw[:i], raw[:i] + flipped + raw[i + 1 :]]
            damaged += [raw[:i] + bytes(8) + raw[i + 8 :]]
        for changed in damaged:
            intact = image_defect(changed) is None
            counts[intact] += 1
            if intact:
                assert tf.io.decode_image(changed, 3, expand_animations=False).shape[2] == 3
    assert min(counts.values()) > 100


def test_images_of_cameras_and_drawing_programs_have_no_defect():
    pictures = {mode: Image.frombytes("RGB", (8, 8), bytes(range(192))).convert(mode)
                for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")}  # fmt: skip
    preview = b"Exif\0\0" + picture("preview", "JPEG")  # in the header, with an end of its own
    for mode, image in pictures.items():
        for kind in ("PNG", "JPEG"):
            if mode in {"PNG": ("CMYK",), "JPEG": ("LA", "P", "RGBA")}[kind]:
                continue
            file = io.BytesIO()
            image.save(file, kind)
            assert image_defect(file.getvalue()) is None
            assert image_defect(file.getvalue() + b"more") is None
    for seed in range(4):  # Pillow reads some of them completely without the end
        with_preview = picture(("x", seed), "JPEG", size=(160, 120), exif=preview)
        assert preview in with_preview and image_defect(with_preview) is None
        assert image_defect(with_preview[:-2]) is not None
    many = io.BytesIO()
    pictures["RGB"].save(many, "MPO", save_all=True, append_images=[pictures["L"].convert("RGB")])
    assert image_defect(many.getvalue()) is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_with_too_many_pixels_is_not_decompressed(monkeypatch, kind):
    raw, unpacked = picture("x", kind, size=(9, 7)), []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: unpacked.append(image))
    monkeypatch.setattr(image_ops, "MAX_PIXELS", 62)
    for limit in (10**6, 62, 31):  # Pillow warns above its limit, and refuses above twice of it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert image_defect(raw) == "has more than 62 pixels" and not unpacked
    monkeypatch.setattr(image_ops, "MAX_PIXELS", 63)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    assert image_defect(raw) is None and unpacked


def test_an_image_of_more_than_25_megapixels_is_reported_or_skipped(tmp_path):
    large = io.BytesIO()
    Image.new("1", (25_000_001, 1)).save(large, "PNG")  # 25,000,000.0 as float32
    write(tmp_path, {**GOOD, "c.png": large.getvalue(), "x.tsv": f"c.png\tbad\n{LINES}"})
    problem = f"{tmp_path}/x.tsv:1: {tmp_path}/c.png has more than 25,000,000 pixels"
    with pytest.raises(UserError, match=re.escape(f"{problem}; use --skip-bad to")):
        captions_in(tmp_path)
    assert problem in captions_in(tmp_path, skip_bad=True).notes[0]


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def with_metadata():
    """Returns a PNG with all kinds of metadata, each between the header and the pixels."""
    plain = picture("metadata", size=(40, 30))
    header = plain.index(b"IDAT") - 4
    profile = b"icc\0\0" + zlib.compress(bytes(200))
    metadata = {
        b"tEXt": b"Comment\0a text", b"zTXt": b"Comment\0\0" + zlib.compress(b"a text"),
        b"iTXt": b"Comment\0\0\0de\0\0a text", b"tIME": bytes([7, 230, 1, 1, 1, 1, 1]),
        b"eXIf": b"MM\0*\0\0\0\x08\0\0", b"iCCP": profile, b"sRGB": b"\0",
        b"gAMA": struct.pack(">I", 45455), b"cHRM": struct.pack(">8I", *[31270] * 8),
        b"sBIT": b"\x08\x08\x08", b"bKGD": bytes(6), b"tRNS": bytes(6),
        b"pHYs": struct.pack(">IIB", 2835, 2835, 1), b"sPLT": b"a\0\x08" + bytes(6),
    }  # fmt: skip
    chunks = b"".join(chunk(kind, content) for kind, content in metadata.items())
    return plain[:header] + chunks + plain[header:], tuple(metadata)


def test_damaged_metadata_of_a_png_is_no_defect():
    """TensorFlow ignores it, so an image must not be rejected because of it."""
    import tensorflow as tf

    raw, kinds = with_metadata()
    pixels = tf.io.decode_png(picture("metadata", size=(40, 30)), 3)
    for kind in kinds:
        start = raw.index(kind)
        (length,) = struct.unpack(">I", raw[start - 4 : start])
        wrong_sum = raw[: start + 4 + length] + bytes(4) + raw[start + 8 + length :]
        content = random.Random(0).randbytes(length)
        other = raw[: start - 4] + chunk(kind, content) + raw[start + 8 + length :]
        for damaged in (wrong_sum, other):
            assert damaged != raw and image_defect(damaged) is None, kind
            assert tf.reduce_all(tf.io.decode_png(damaged, 3) == pixels), kind


@pytest.mark.parametrize("packed", ["folder", "zip"])
def test_a_missing_image_is_reported_with_the_folders_searched(tmp_path, packed):
    long = "a" * 300
    lines = f"b.jpg\ttwo\nno.png\tnone\nsub\tfolder\n{long}\tlong\na\0b.png\tnull\n"
    path = write(tmp_path / "c", {**GOOD, "x.tsv": lines, "sub/a.png": GOOD["a.png"]})
    shown = f"{path}/"
    if packed == "zip":
        path = shutil.make_archive(str(tmp_path / "c"), "zip", tmp_path, "c")
        shown = f"{path}/c/"
    folder = shown if packed == "zip" else shown[:-1]
    with pytest.raises(UserError) as error:
        captions_in(path)
    assert str(error.value) == (
        f"{shown}x.tsv:2: image 'no.png' not found in {folder}; use --skip-bad to skip such images."
    )
    splits = captions_in(path, skip_bad=True)
    assert splits.notes[0] == (
        f"{shown}x.tsv: skipped 4 bad images or captions, kept 1 images: "
        f"{shown}x.tsv:2: image 'no.png' not found in {folder}; "
        f"{shown}x.tsv:3: image 'sub' not found in {folder}; "
        f"{shown}x.tsv:4: image '{long}' not found in {folder}; ..."
    )
    assert read_all(splits) == [(GOOD["b.jpg"], ("two",))]


def test_a_missing_coco_image_is_reported_with_the_folders_searched(tmp_path):
    write(tmp_path, {"captions_train2017.json": as_coco(), "train2017/b.jpg": GOOD["b.jpg"]})
    write(tmp_path, {"images/c.jpg": GOOD["b.jpg"]})
    with pytest.raises(UserError) as error:
        captions_in(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/captions_train2017.json: annotations[0]: image 'a.png' not found in "
        f"{tmp_path}/train2017 or {tmp_path}/images or {tmp_path}; "
        "use --skip-bad to skip such images."
    )


def test_a_listed_image_without_a_caption_is_reported(tmp_path):
    files = {"x.token.txt": "a.png#0\tone\n", "x.trainImages.txt": "a.png\nb.jpg\n"}
    write(tmp_path, GOOD | files)
    problem = f"{tmp_path}/x.trainImages.txt:2: 'b.jpg' has no caption"
    with pytest.raises(
        UserError, match=re.escape(f"{problem}; use --skip-bad to skip such images.")
    ):
        captions_in(tmp_path)
    splits = captions_in(tmp_path, skip_bad=True)
    assert splits.notes[0] == (
        f"{tmp_path}/x.trainImages.txt: skipped 1 bad images or captions, kept 1 images: {problem}"
    )
    assert read_all(splits) == [(GOOD["a.png"], ("one",))]


@pytest.mark.parametrize("written", ["tsv", "tokens", "coco"])
def test_an_empty_caption_is_reported(tmp_path, written):
    pairs = [("a.png", "one"), ("a.png", " "), ("b.jpg", "")]
    annotations = [
        {"image_id": "ab".index(name[0]), "caption": caption} for name, caption in pairs
    ]  # fmt: skip
    names = [{"id": n, "file_name": name} for n, name in enumerate(GOOD)]
    name, text = {
        "tsv": ("x.tsv", "".join(f"{name}\t{caption}\n" for name, caption in pairs)),
        "tokens": ("x.token.txt", "".join(f"{name}#0\t{caption}\n" for name, caption in pairs)),
        "coco": ("captions.json", json.dumps({"images": names, "annotations": annotations})),
    }[written]
    write(tmp_path, {**GOOD, name: text})
    lines = [": annotations[1]", ": annotations[2]"] if written == "coco" else [":2", ":3"]
    problems = [
        f"{tmp_path}/{name}{line}: the caption of {image!r} is empty"
        for line, image in zip(lines, GOOD, strict=True)
    ]
    with pytest.raises(UserError) as error:
        captions_in(tmp_path)
    assert str(error.value) == f"{problems[0]}; use --skip-bad to skip such images."
    splits = captions_in(tmp_path, skip_bad=True)
    assert splits.notes[0] == (
        f"{tmp_path}/{name}: skipped 2 bad images or captions, kept 1 images: "
        + "; ".join(problems)
    )
    assert read_all(splits) == [(GOOD["a.png"], ("one",))]


def test_a_damaged_image_in_a_zip_is_reported(tmp_path):
    write(tmp_path / "c", {**GOOD, "x.tsv": LINES})
    path = tmp_path / "c.zip"
    with zipfile.ZipFile(
        path, "w"
    ) as packed:  # uncompressed, so that the bytes of an image can be located
        for file in sorted((tmp_path / "c").iterdir()):
            packed.write(file, file.name)
    raw = path.read_bytes()
    at = raw.index(GOOD["b.jpg"]) + 100
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 255]) + raw[at + 1 :])
    problem = f"{path}/x.tsv:2: {path}/b.jpg: cannot be read: Bad CRC-32 for file 'b.jpg'"
    with pytest.raises(
        UserError, match=re.escape(f"{problem}; use --skip-bad to skip such images.")
    ):
        captions_in(path)
    splits = captions_in(path, skip_bad=True)
    assert splits.notes[0].endswith(f"skipped 1 bad images or captions, kept 1 images: {problem}")
    assert read_all(splits) == [(GOOD["a.png"], ("one",))]


def test_a_part_without_usable_examples_is_reported(tmp_path):
    write(tmp_path, {"train.tsv": LINES, "test.tsv": "c.png\tone\nd.png\ttwo\n", **GOOD})
    with pytest.raises(UserError) as error:
        captions_in(tmp_path, skip_bad=True)
    assert str(error.value) == (
        f"{tmp_path}/test.tsv: no usable examples: "
        f"{tmp_path}/test.tsv:1: image 'c.png' not found in {tmp_path}; "
        f"{tmp_path}/test.tsv:2: image 'd.png' not found in {tmp_path}."
    )


# --- The embedded sample, and real images -------------------------------------------


def test_the_sample_consists_of_scenes(monkeypatch):
    parts = dict.fromkeys(PARTS, Stream(tuple))
    monkeypatch.setattr(scenes, "parts", lambda: parts)
    assert CaptionedImages().sample() is parts


def test_shapes_of_easy_vqa_are_read_as_they_are(data_dir):
    folder = data_dir / "captioning" / "easy_vqa"
    splits = captions_in(folder)
    assert splits.notes == (
        "no valid part: split by the hash of the image into train 88.9 %, valid 11.1 %",
    )
    assert len(read(splits.train, splits.valid)) == 3578 and len(read(splits.test)) == 888
    assert len({problem for _, captions in read_all(splits) for problem in captions}) == 24
    for example in splits.test:
        assert len(example.values["captions"]) == 1
        with Image.open(io.BytesIO(example.values["image_bytes"])) as image:
            assert image.size == (64, 64) and image.format == "PNG"
    assert not {raw for raw, _ in read(splits.train)} & {raw for raw, _ in read(splits.valid)}


def test_photographs_of_coco_are_read_as_they_are(data_dir):
    folder = data_dir / "captioning" / "coco_mini"
    splits = captions_in(folder)
    assert splits.notes == (
        "no test part: split by the hash of the image into train 88.9 %, test 11.1 %",
    )
    assert len(read(splits.train, splits.test)) == 26 and len(read(splits.valid)) == 25
    files = {path.read_bytes() for path in (folder / "images").iterdir()}
    assert {raw for raw, _ in read_all(splits)} == files and len(files) == 51
    assert {len(captions) for _, captions in read_all(splits)} == {5}
    one = captions_in(folder / "captions_val2017.json")
    assert read_all(one) == read(splits.valid)
