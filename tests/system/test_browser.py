"""The pages people look at, in a real Chromium."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.evaluation.test_report import HOSTILE, page

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=os.environ["RCVIT_TEST_CHROMIUM"],
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        yield chromium
        chromium.close()


def test_the_report_shows_hostile_text_as_text_and_draws_boxes(browser: Browser, tmp_path: Path) -> None:
    page(tmp_path / "report.html")
    tab = browser.new_page()
    dialogs: list[str] = []
    tab.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
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
