"""Bytes to pixels, against Pillow; what is no image harms nobody."""

import io
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from models import images
from tasks.corpora.captioned_images import image_defect

SIDE = 16


def picture(seed=0, side=SIDE):
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8))


def written(image, kind="png", **how):
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


PNG, JPEG = written(picture()), written(picture(), "jpeg", quality=95)
GOOD = {
    "png": (PNG, picture()),
    "palette": (written(picture().convert("P")), picture().convert("P").convert("RGB")),
    "grey": (written(picture().convert("L")), picture().convert("L").convert("RGB")),
    "jpeg": (JPEG, Image.open(io.BytesIO(JPEG))),
    "grey jpeg": (written(picture().convert("L"), "jpeg", quality=95), None),
    "progressive": (written(picture(), "jpeg", progressive=True), None),
}
BAD = {
    "nothing": b"",
    "text": b"hello",
    "gif": written(picture(), "gif"),
    "half a png": PNG[: len(PNG) // 2],
    "half a jpeg": JPEG[: len(JPEG) // 2],
    "a png without its end": PNG[:-14],
    "a jpeg without its end": JPEG[:-2],
    "the head of a png": PNG[:20],
    "the head of a jpeg": JPEG[:12],
    "a png with a broken row": PNG[:60] + b"\0\0\0\0" + PNG[64:],
}


def pixels(*all_bytes, height=SIDE, width=SIDE):
    read = tf.function(lambda given: images.pixels(given, height, width))
    return [each.numpy() for each in read(tf.constant(list(all_bytes), tf.string))]


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_image_is_read_as_another_library_reads_it(name):
    given, wanted = GOOD[name]
    wanted = Image.open(io.BytesIO(given)).convert("RGB") if wanted is None else wanted
    ((found,), valid) = pixels(given)
    assert valid.tolist() == [True] and found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), np.asarray(wanted).astype(int), atol=2)


def test_images_of_any_size_are_scaled_to_one():
    whole = np.zeros((40, 100, 3), np.uint8)
    whole[:, 50:] = 200
    tall = whole.transpose(1, 0, 2)
    found, valid = pixels(
        written(Image.fromarray(whole)), written(Image.fromarray(tall)), height=10, width=20
    )
    assert found.shape == (2, 10, 20, 3) and valid.all()
    assert (found[0, :, :9] == 0).all() and (found[0, :, 11:] == 200).all()
    assert (found[1, :4] == 0).all() and (found[1, 6:] == 200).all()


def test_what_is_no_image_is_black_and_its_neighbours_are_as_they_were():
    given = [PNG, *BAD.values(), JPEG]
    found, valid = pixels(*given)
    assert valid.tolist() == [True, *[False] * len(BAD), True]
    assert not found[1:-1].any()
    for at, alone in ((0, pixels(PNG)), (-1, pixels(JPEG))):
        np.testing.assert_array_equal(found[at], alone[0][0])


def test_an_image_too_large_is_not_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", SIDE * SIDE)
    sizes = [
        written(picture(side=side), kind) for side in (SIDE, SIDE + 1) for kind in ("png", "jpeg")
    ]
    assert pixels(*sizes)[1].tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [
        (5_000, 5_000, True),
        (25_000_001, 1, False),  # 25,000,000 as float32
        (5_001, 5_000, False),
        (2**32 - 1, 2**32 - 1, False),
        (2**31, 2**32 - 2, False),
    ],
)
def test_the_limit_of_pixels_is_exact(width, height, fits):
    header = PNG[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    assert bool(images._is_affordable(tf.constant(header))) is fits


def test_a_png_with_a_forged_size_before_its_header_is_not_decoded(monkeypatch):
    forged = chunk(b"teSt", (1).to_bytes(4, "big") * 2 + bytes(5))
    hidden = PNG[:8] + forged + PNG[8:]
    Image.open(io.BytesIO(hidden)).load()  # decoders ignore the chunk
    tf.io.decode_png(hidden)
    _, valid = pixels(PNG, hidden, JPEG)
    assert valid.tolist() == [True, False, True]
    assert image_defect(hidden) == "is broken: it does not begin with its header"


def chunk(kind, data):
    checksum = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + checksum


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_of_too_many_scans_is_not_decoded(mode):
    image = picture().convert(mode)
    progressive = written(image, "jpeg", progressive=True)
    scans = progressive.count(b"\xff\xda\x00")
    assert scans > 3
    first = progressive.rindex(b"\xff\xda\x00")
    last = progressive[first:-2]  # the last scan, which refines what is there
    full, over = (
        progressive[:-2] + last * (images.MAX_SCANS - scans + more) + b"\xff\xd9" for more in (0, 1)
    )
    tf.io.decode_jpeg(over)  # the decoder has no limit
    assert pixels(full, over, JPEG)[1].tolist() == [True, False, True]
    assert image_defect(full) is None
    assert image_defect(over) == f"has {images.MAX_SCANS + 1} scans, of which 64 are allowed"


def test_scans_are_counted_only_where_a_header_is(monkeypatch):
    monkeypatch.setattr(images, "MAX_SCANS", 1)
    comment = b"\xff\xfe" + (2 + 4000).to_bytes(2, "big") + b"\xff\xda\x00\x07" * 1000
    assert pixels(JPEG[:2] + comment + JPEG[2:])[1].tolist() == [True]


def test_no_images_are_no_pixels():
    found, valid = pixels()
    assert found.shape == (0, SIDE, SIDE, 3) and valid.shape == (0,)


# --- Orientation -----------------------------------------------------------------


def exif(orientation, order, *, type_=3, before=1, count=None):
    """Returns EXIF with an orientation after other entries."""

    def number(value, length):
        return value.to_bytes(length, order)

    start = b"MM" if order == "big" else b"II"
    maker = number(0x010F, 2) + number(2, 2) + number(4, 4) + b"abc\0"
    turned = number(0x0112, 2) + number(type_, 2) + number(1, 4) + number(orientation, 2) + bytes(2)
    entries = maker * before + turned
    entry_count = before + 1 if count is None else count
    header = start + number(42, 2) + number(8, 4)
    return b"Exif\0\0" + header + number(entry_count, 2) + entries + number(0, 4)


def turned_picture(kind, how, size=(40, 24)):
    smooth = picture(side=6).resize(size, Image.Resampling.BICUBIC)
    return written(smooth, kind, exif=how, **({"quality": 95} if kind == "jpeg" else {}))


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_images_are_turned_as_their_exif_says(kind, order):
    files = [turned_picture(kind, exif(n, order)) for n in range(10)]
    found, valid = pixels(*files, height=24, width=40)
    assert valid.all()
    for raw, image in zip(files, found, strict=True):
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(raw))).convert("RGB")
        wanted = tf.image.resize(np.asarray(upright), [24, 40], antialias=True).numpy().round()
        np.testing.assert_allclose(image, wanted, atol=1)
    different = {image.tobytes() for image in found}
    assert len(different) == 8  # 0 and 9 do not exist, so that they are upright


def test_other_segments_may_precede_exif():
    plain, how = turned_picture("jpeg", b""), exif(6, "big")
    profile = turned_picture("jpeg", how)
    expected = pixels(profile)[0]
    for kind in (0xE0, 0xE2, 0xFE):
        before = b"\xff" + bytes([kind]) + (9_000).to_bytes(2, "big") + bytes(8_998)
        raw = plain[:2] + before + b"\xff\xe1" + (len(how) + 2).to_bytes(2, "big") + how
        found, valid = pixels(raw + plain[2:])
        assert valid.all()
        np.testing.assert_array_equal(found, expected)


def test_damaged_exif_does_not_harm_an_image():
    random, plain = np.random.default_rng(1), turned_picture("jpeg", b"")
    whole = exif(6, "little")
    damaged = [
        exif(6, "big", type_=4),  # numbers of another size
        exif(6, "big", count=0),
        exif(0, "little", count=65_535),
        whole[:12] + b"\xff\xff\xff\xff" + whole[16:],  # entries after the end
        *(whole[:length] for length in range(6, len(whole) - 8)),
        *(whole[:10] + random.bytes(40) for _ in range(40)),
    ]
    files = [turned_picture("jpeg", how) for how in damaged]
    found, valid = pixels(plain, *files, turned_picture("jpeg", whole))
    assert valid.all()
    for image in found[1 : 4 + len(whole) - 14]:
        np.testing.assert_array_equal(image, found[0])
    assert (found[-1] != found[0]).any()


def test_exif_at_the_end_of_a_file_is_read():
    whole = turned_picture("jpeg", exif(6, "little"))
    start = whole.index(b"Exif")
    for end in range(start + 10, start + len(exif(6, "little"))):
        assert 1 <= int(images._orientation(tf.constant(whole[:end]))) <= 8
