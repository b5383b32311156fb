"""A real Chromium, and the finished workspaces of the registry's tests."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.registry.conftest import make_run, model_folder

__all__ = ["make_run", "model_folder"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium as the test script installed it."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=os.environ["RCVIT_TEST_CHROMIUM"],
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        yield chromium
        chromium.close()
