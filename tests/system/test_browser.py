"""The pages people look at, in a real Chromium."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog

from tests.evaluation.test_report import HOSTILE, page

pytestmark = pytest.mark.system


def test_the_report_shows_hostile_text_as_text_and_draws_boxes(browser: Browser, tmp_path: Path) -> None:
    page(tmp_path / "report.html")
    tab = browser.new_page()
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    tab.on("dialog", dismiss)
    tab.goto((tmp_path / "report.html").as_uri())
    assert HOSTILE in tab.inner_text("body")
    assert dialogs == []
    assert tab.locator("svg rect").count() == 2
    loaded = tab.evaluate("document.querySelector('img').naturalWidth")
    assert loaded > 0
    box = tab.locator("svg rect").first.bounding_box()
    assert box is not None
    assert box["width"] > 5
    tab.close()
