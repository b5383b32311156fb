"""Image files as scenes hold them: encoded bytes in, pixels out."""

import hashlib
import io
import struct
import zlib

from PIL import Image, UnidentifiedImageError

# What Pillow's readers raise on broken files, besides OSError.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def decode_image(image: bytes) -> Image.Image:
    """All pixels of a PNG or JPEG file, as RGB.

    Raises:
        ValueError: when the bytes are no PNG or JPEG, are cut off, or unpack to a decompression bomb.
    """
    try:
        with Image.open(io.BytesIO(image), formats=("PNG", "JPEG")) as file:
            return file.convert("RGB")  # convert() decodes to the last byte
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except UnidentifiedImageError as error:
        raise ValueError("not a PNG or JPEG file") from error
    except _BROKEN as error:
        raise ValueError(f"does not decode: {error}") from error


def pixel_digest(pixels: Image.Image) -> str:
    """SHA-256 of size and pixels: two encodings of the same picture have the same digest."""
    return hashlib.sha256(f"{pixels.width}x{pixels.height}:".encode() + pixels.tobytes()).hexdigest()
