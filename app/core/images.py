"""Images that are scaled down, for pages and for requests of bounded size."""

import io

from PIL import Image, ImageOps

_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # of damaged images


def thumbnail(image_bytes: bytes, size: tuple[int, int]) -> Image.Image:
    """Returns an image in RGB, upright, scaled down to fit into a width and a height.

    Raises:
        OSError: The bytes are not an image that Pillow reads.
    """
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(image_bytes)))
    if image.mode.startswith("I"):  # 16 bits per pixel, which convert("RGB") would clip
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    image = image.convert("RGB")
    image.thumbnail(size)
    return image


def scaled_down(image_bytes: bytes, size: tuple[int, int]) -> bytes | None:
    """Returns an image as a JPEG that fits into a width and a height.

    None stands for bytes that are not an image, or one that is damaged.
    """
    file = io.BytesIO()
    try:
        thumbnail(image_bytes, size).save(file, "JPEG")
    except _ERRORS:
        return None
    return file.getvalue()
