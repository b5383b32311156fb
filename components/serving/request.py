"""A question from outside, checked and turned into a prompt and an image."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from components.errors import DataError
from components.rcmu import BOX_SCALE, Box, Prompt, PromptRegion, normalise
from components.rcmu.images import decode_image

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_IMAGE_BYTES = 20_000_000
MAX_IMAGE_PIXELS = 50_000_000
MAX_REGIONS = 50
MAX_TEXT = 4_000  # characters of a text or a question


def read_request(
    image: bytes, regions: Sequence[Mapping[str, Any]], question: str, *, where: str
) -> tuple[Prompt, "Image"]:
    """The prompt and the decoded image of one request.

    Args:
        image: an encoded PNG or JPEG.
        regions: mappings of label, bbox ([x, y, width, height] in pixels, as COCO has it) and text.
        question: free text; white space is normalised here as in every region's text.
        where: names the request in errors, such as "row 3".

    Raises:
        DataError: for anything that is broken, missing or too large.
    """
    if len(regions) > MAX_REGIONS:
        raise _broken(where, f"has {len(regions)} regions", f"give at most {MAX_REGIONS}")
    picture = _decode(image, where)
    lines = []
    for number, region in enumerate(regions, start=1):
        place = f"{where}, region {number}"
        try:
            label, bbox, text = str(region["label"]), region["bbox"], str(region["text"])
        except (KeyError, TypeError) as error:
            raise _broken(place, f"lacks {error}", "a region has label, bbox and text") from error
        _check_length(text, place)
        box = _box(bbox, picture.width, picture.height, place)
        try:
            lines.append(PromptRegion(label=normalise(label), box=box, text=normalise(text)))
        except ValidationError as error:
            raise _broken(place, f"is broken: {error.errors()[0]['msg']}", "correct the label") from error
    _check_length(question, where)
    if not normalise(question):
        raise _broken(where, "has an empty question", "ask something")
    return Prompt(regions=tuple(lines), question=normalise(question)), picture


def _decode(image: bytes, where: str) -> "Image":
    from PIL import Image

    if len(image) > MAX_IMAGE_BYTES:
        raise _broken(where, f"has an image of {len(image)} bytes", f"at most {MAX_IMAGE_BYTES} are taken")
    try:
        with Image.open(io.BytesIO(image), formats=("PNG", "JPEG")) as opened:
            if opened.width * opened.height > MAX_IMAGE_PIXELS:
                size = f"{opened.width} x {opened.height}"
                raise _broken(where, f"has an image of {size} pixels", f"at most {MAX_IMAGE_PIXELS}")
        return decode_image(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _broken(
            where, f"has an image that does not decode: {error}", "send a whole PNG or JPEG"
        ) from error


def _box(bbox: Any, width: int, height: int, place: str) -> Box:
    """COCO pixels to 0..1000 corners."""
    cure = f"bbox is [x, y, width, height] in pixels inside the image of {width} x {height}"
    try:
        x, y, w, h = (float(number) for number in bbox)
    except (TypeError, ValueError) as error:
        raise _broken(place, f"has the bbox {bbox!r}", cure) from error
    finite = all(math.isfinite(number) for number in (x, y, w, h))
    if not (finite and w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= width and y + h <= height):
        raise _broken(place, f"has the bbox {[x, y, w, h]}", cure)
    scaled = [round(x * BOX_SCALE / width), round(y * BOX_SCALE / height)]
    scaled += [round((x + w) * BOX_SCALE / width), round((y + h) * BOX_SCALE / height)]
    try:
        return Box(x1=scaled[0], y1=scaled[1], x2=scaled[2], y2=scaled[3])
    except ValidationError as error:
        raise _broken(place, f"has a bbox too small to see: {[x, y, w, h]}", cure) from error


def _check_length(text: str, place: str) -> None:
    if len(text) > MAX_TEXT:
        raise _broken(place, f"has a text of {len(text)} characters", f"at most {MAX_TEXT} are taken")


def _broken(where: str, what: str, cure: str) -> DataError:
    return DataError(f"{where} {what}", hint=cure)
