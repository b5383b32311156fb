"""Benchmark images that are near-identical to a training image: resized, recompressed, cropped, mirrored.

Two steps, both our own choice: perceptual hashes (`imagehash.phash`) of the image and of crops and mirror
images of it name candidates; a candidate counts when some crop of one picture, mirrored or not, correlates
with the other. Hashes alone would take drawn scenes of one layout for copies.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

_CROPPED = 0.05  # of a side, between the hashed image and its crops
_BITS = 12  # of 64 in which the hashes of a candidate may differ
_ALIKE = 0.97  # correlation of copies
_RELATED = 0.35  # correlation of the whole pictures, below which no crop is tried
_PROMISING = 0.7  # correlation of the best crop of the grid, below which no side is moved
_SIDE = 64  # pixels of the pictures that crops are taken of
_SHRUNK = 32  # pixels of what is correlated
# Pixels of _SIDE cut off at two opposite ends.
_LACKS = ((0, 0), (3, 0), (0, 3), (2, 2), (6, 0), (0, 6), (3, 3))

_Vector = npt.NDArray[np.float32]  # (3 * _SHRUNK * _SHRUNK,)
_Window = tuple[float, float, float, float]  # x1, y1, x2, y2
_WHOLE: _Window = (0, 0, _SIDE, _SIDE)


class Fingerprint(NamedTuple):
    """What is kept of an image: 12 hashes, its own first, and the picture, shrunk."""

    hashes: npt.NDArray[np.uint64]  # (12,)
    picture: Image.Image  # _SIDE x _SIDE, RGB


def fingerprint(pixels: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB image."""
    # Twice the side: the hash shrinks it once more.
    shrunk = pixels.resize((2 * _SIDE, 2 * _SIDE))
    views = [view for picture in (shrunk, ImageOps.mirror(shrunk)) for view in _crops(picture)]
    hashes = [np.packbits(imagehash.phash(view).hash).view(np.uint64)[0] for view in views]
    return Fingerprint(np.array(hashes, dtype=np.uint64), shrunk.resize((_SIDE, _SIDE)))


def find_near_copies(
    benchmark: Sequence[Fingerprint], training: Sequence[Fingerprint]
) -> Iterator[tuple[int, int, float]]:
    """(index in benchmark, index in training, correlation) of the likeliest original of each copy."""
    if not benchmark or not training:
        return
    known = np.stack([item.hashes for item in training])  # (T, 12)
    for index, item in enumerate(benchmark):
        asked = np.bitwise_count(known[:, :1] ^ item.hashes[None]).min(1)  # (T,) crops of the benchmark's
        given = np.bitwise_count(known ^ item.hashes[:1]).min(1)  # (T,) crops of the training's
        candidates = np.flatnonzero(np.minimum(asked, given) <= _BITS)
        found = [(_correlation(item.picture, training[int(c)].picture), -int(c)) for c in candidates]
        likeness, place = max(found, default=(0.0, 0))
        if likeness >= _ALIKE:
            yield index, -place, likeness


def _crops(picture: Image.Image) -> Iterator[Image.Image]:
    """The picture, its middle, its four corners."""
    width, height = picture.size
    x, y = int(width * _CROPPED), int(height * _CROPPED)
    yield picture
    yield picture.crop((x // 2, y // 2, width - x // 2, height - y // 2))
    for left in (0, x):
        for top in (0, y):
            yield picture.crop((left, top, width - x + left, height - y + top))


def _correlation(one: Image.Image, other: Image.Image) -> float:
    """The best over crops of one of the two and both ways round of the other, -1 to 1."""
    best = -1.0
    for target in (other, ImageOps.mirror(other)):
        if float(np.dot(_normed(one, _WHOLE), _normed(target, _WHOLE))) >= _RELATED:
            best = max(best, _fit(one, target), _fit(target, one))
    return best


def _fit(picture: Image.Image, target: Image.Image) -> float:
    """The correlation of `target` with the best crop of `picture`: of a grid, then moved side by side."""
    wanted = _normed(target, _WHOLE)

    def likeness(window: _Window) -> float:
        return float(np.dot(_normed(picture, window), wanted))

    ends = [(float(low), float(_SIDE - high)) for low, high in _LACKS]
    windows: list[_Window] = [(x1, y1, x2, y2) for x1, x2 in ends for y1, y2 in ends]
    value, window = max((likeness(window), window) for window in windows)
    if value < _PROMISING:
        return value
    for step in (1.0, 0.5, 0.25):
        for side in range(4):
            for move in (step, -step):
                moved = list(window)
                moved[side] = min(max(moved[side] + move, 0.0), float(_SIDE))
                nearby: _Window = (moved[0], moved[1], moved[2], moved[3])
                if (found := likeness(nearby)) > value:
                    value, window = found, nearby
    return value


def _normed(picture: Image.Image, window: _Window) -> _Vector:
    """A window as a vector of mean 0 per colour and length 1."""
    shrunk = picture.resize((_SHRUNK, _SHRUNK), Image.Resampling.BILINEAR, box=window)
    values = np.asarray(shrunk, dtype=np.float32)
    values = values - values.mean((0, 1), dtype=np.float32)
    length = float(np.linalg.norm(values))
    vector: _Vector = (values / length if length else values).reshape(-1)
    return vector
