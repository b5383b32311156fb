"""What every page shares: the templates' settings, the colours of the regions, embedded images.

Everything is embedded and nothing holds a clock, so the same data gives the same bytes. Text is escaped by
the templates; images keep their original bytes, the boxes are drawn over them as SVG.
"""

import base64

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from components.rcmu import Scene

# Okabe and Ito's palette for colour-blind readers; region [k] keeps colour k in picture and text.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00", "#000000")


def render_page(package: str, template: str, **values: object) -> str:
    """The HTML of a template that lies in `package` and may use those of this one."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("components.pages", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["colour"] = lambda k: COLOURS[(k - 1) % len(COLOURS)]
    return environment.get_template(template).render(**values)


def image_uri(scene: Scene) -> str:
    """The scene's image as a data URI."""
    kind = "png" if scene.image.startswith(b"\x89PNG") else "jpeg"
    return data_uri(scene.image, f"image/{kind}")


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes to embed in a page."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
