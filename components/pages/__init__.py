"""The pages people look at: photos with boxes, texts, turns and citations, each page one HTML file."""

from components.pages.render import COLOURS, data_uri, image_uri, render_page

__all__ = ["COLOURS", "data_uri", "image_uri", "render_page"]
