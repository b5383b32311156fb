"""What every test shares: where the repository and the real photos are, and which tests wait for a server."""

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("RCVIT_TEST_DATA", REPO.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, variable, target in (
        ("system", "RCVIT_TEST_SYSTEM", "test-system"),
        ("long", "RCVIT_TEST_LONG", "test-long"),
    ):
        if not os.environ.get(variable):
            skip = pytest.mark.skip(reason=f"runs under `make {target}`")
            for item in items:
                if marker in item.keywords:
                    item.add_marker(skip)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def real_regions() -> Path:
    """Real photos with boxes and phrases in COCO layout; they are not part of the repository."""
    return _shared("real_regions")


@pytest.fixture(scope="session")
def source_formats(real_regions: Path) -> Path:
    """Small files in the formats that the readers take; the photos they name are those of `real_regions`."""
    return _shared("source_formats")


@pytest.fixture(scope="session")
def personal_objects() -> Path:
    """Photos of objects that have a name and a text, three of each; not part of the repository."""
    return _shared("personal_objects")


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set RCVIT_TEST_DATA to a folder that holds {name}")
    return folder
