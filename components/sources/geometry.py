"""From pixels to the boxes of the prompt, and where a box lies in its image."""

from components.rcmu import BOX_SCALE, Box

LEFT, MIDDLE, RIGHT = POSITIONS = ("on the left", "in the middle", "on the right")


def scaled_box(x1: float, y1: float, x2: float, y2: float, *, width: int, height: int) -> Box:
    """Corners in pixels to 0..1000 of the image's size, rounded half up.

    Raises:
        ValueError: when nothing is left of the box after rounding.
    """

    def scaled(value: float, side: int) -> int:
        return int(value * BOX_SCALE / side + 0.5)

    return Box(x1=scaled(x1, width), y1=scaled(y1, height), x2=scaled(x2, width), y2=scaled(y2, height))


def position_of(box: Box) -> str:
    """The third of the image's width that holds the centre of the box (own choice)."""
    centre = 3 * (box.x1 + box.x2)  # in sixths of the box scale, so that it stays an integer
    if centre < 2 * BOX_SCALE:
        return LEFT
    return RIGHT if centre > 4 * BOX_SCALE else MIDDLE
