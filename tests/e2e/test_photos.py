"""Real photos: the same chain on a COCO file with phrases, to a registered version and a report."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Checkout, small_params


@pytest.mark.system  # a Prefect server of its own
def test_real_photos_come_in_under_dvc_and_end_as_a_version(
    repo: Path, real_regions: Path, make_checkout: Callable[..., Checkout]
) -> None:
    photos = small_params(
        repo,
        source={
            "kind": "coco",
            "annotations": "data/real_regions/annotations.json",
            "scenes": 14,
            "max_regions": 4,
        },
        training={"world_size": 1, "steps": 2},
        evaluation={"report_scenes": 4},
    )
    checkout = make_checkout("photos", photos)
    imported = checkout.run("data", "import", str(real_regions))
    assert imported.returncode == 0, imported.stderr
    assert "git add" in imported.stdout
    checkout.commit("photos")
    tracked = checkout.git("ls-files", "data").split()
    assert "data/real_regions.dvc" in tracked
    assert not [name for name in tracked if name.endswith(".jpg")]
    result = checkout.run("run")
    assert result.returncode == 0, result.stdout + result.stderr
    (version,) = checkout.versions()
    assert version.tags["rcvit.dirty"] == "false"
    (report,) = checkout.root.glob(".rcvit/runs/*/outs/evaluation/report.html")
    html = report.read_text()
    assert html.count("data:image/jpeg;base64,") == 4
    assert html.count("<rect ") >= 4
    assert "Flickr" in html
