"""The pages people look at, in a real Chromium."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog

from tests.evaluation.test_report import HOSTILE, page
from tests.generation.test_samples import page as samples_page

pytestmark = pytest.mark.system


@pytest.mark.parametrize("shown", ["report", "samples"])
def test_hostile_text_is_shown_as_text_and_boxes_are_drawn(
    browser: Browser, repo: Path, tmp_path: Path, shown: str
) -> None:
    if shown == "report":
        path, scenes = tmp_path / "report.html", 1
        page(path)
    else:
        path, scenes = samples_page(tmp_path), 4
    tab = browser.new_page()
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    tab.on("dialog", dismiss)
    tab.goto(path.as_uri())
    assert HOSTILE in tab.inner_text("body")
    assert dialogs == []
    assert tab.locator("svg rect").count() == 2 * scenes
    if shown == "report":
        assert tab.evaluate("document.querySelector('img').naturalWidth") > 0
    box = tab.locator("svg rect").first.bounding_box()
    assert box is not None
    assert box["width"] > 5
    tab.screenshot(path=repo / f".rcvit/test-output/{shown}.png", full_page=True)  # for people to look at
    tab.close()
