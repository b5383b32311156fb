"""DVC as the flow calls it: ran, skipped, the stage's own error, and a push to an S3 server."""

from pathlib import Path

import pytest
import yaml

from components import doctor
from components.errors import DataError, LostRankError, SettingsError, StageError
from components.settings import Settings
from components.workspace import Run, opened
from flows import dvc


def times_run(run: Run) -> int:
    return len((run.folder / ".rcvit/count").read_text())


def test_a_stage_runs_then_is_skipped_then_runs_for_a_new_input(miniature: Run) -> None:
    assert not dvc.unchanged(miniature)
    assert dvc.repro(miniature, "copy") == "ran"
    assert (miniature.folder / "out").read_text() == "hello"
    assert dvc.unchanged(miniature)
    assert dvc.repro(miniature, "copy") == "skipped"
    assert times_run(miniature) == 1
    (miniature.folder / "input").write_text("again")
    assert not dvc.unchanged(miniature)
    assert dvc.repro(miniature, "copy") == "ran"
    assert times_run(miniature) == 2


@pytest.mark.parametrize("error", [DataError, LostRankError])
def test_a_failing_stage_raises_what_its_record_says(
    error: type[DataError | LostRankError], miniature: Run
) -> None:
    (miniature.folder / "input").write_text(str(error.exit_code))
    with pytest.raises(error, match=f"broken as {error.exit_code}") as caught:
        dvc.repro(miniature, "copy")
    assert caught.value.hint == "change input"
    assert not (miniature.folder / "out").exists()


def test_an_old_record_is_not_taken_for_this_failure(miniature: Run) -> None:
    (miniature.folder / "input").write_text(str(DataError.exit_code))
    with pytest.raises(DataError):
        dvc.repro(miniature, "copy")
    (miniature.folder / "input").write_text("no reason")
    with pytest.raises(StageError, match="no reason") as caught:
        dvc.repro(miniature, "copy")
    assert str(miniature.folder) in caught.value.hint


@pytest.mark.parametrize("used", [False, True])
def test_only_the_imported_data_that_the_params_name_is_needed(
    used: bool, miniature: Run, repo: Path
) -> None:
    """A clone of a checkout into which photos were imported, without their cache or a remote."""
    from flows.retrain import fetch_data

    params = yaml.safe_load((repo / "params.yaml").read_text())
    if used:
        params["source"].update(kind="coco", annotations="data/photos/annotations.json")
    (miniature.folder / "params.yaml").write_text(yaml.safe_dump(params))
    (miniature.folder / "data").mkdir()
    absent = {"outs": [{"md5": "0" * 32, "size": 1, "hash": "md5", "path": "photos"}]}
    (miniature.folder / "data/photos.dvc").write_text(yaml.safe_dump(absent))
    settings = Settings(home=miniature.folder / ".rcvit", tracking_uri="sqlite:///unused.db")
    if used:
        with pytest.raises(SettingsError, match=r"data/photos\.dvc"):
            fetch_data.fn(miniature, settings)
    else:
        fetch_data.fn(miniature, settings)
        assert dvc.repro(miniature, "copy") == "ran"
        assert dvc.unchanged(miniature)


def test_outs_are_pushed_to_an_s3_server_and_the_doctor_sees_it(
    s3_bucket: str, miniature: Run, tmp_path: Path
) -> None:
    import boto3

    from flows.retrain import push

    home = tmp_path / "home"
    settings = Settings(
        home=home, tracking_uri=f"sqlite:///{home}/mlflow.db", dvc_remote=f"s3://{s3_bucket}/path"
    )
    (miniature.folder / "params.yaml").touch()
    with opened(miniature, settings):
        dvc.repro(miniature, "copy")
        push.fn(miniature, settings)
    stored = boto3.client("s3").list_objects_v2(Bucket=s3_bucket)["Contents"]
    assert [item["Size"] for item in stored] == [len("hello")]
    assert stored[0]["Key"].startswith("path/files/md5/")
    config = (miniature.folder / ".dvc/config.local").read_text()
    assert "not-a-real-secret" not in config

    for remote, state in (("s3://rcvit-outs/path", "ok"), ("s3://missing/path", "broken")):
        finding = doctor._remote(remote)
        assert finding.state == state
        assert remote.split("/")[2] in finding.found
        assert bool(finding.cure) == (state == "broken")

    missing = settings.model_copy(update={"dvc_remote": "s3://missing/path"})
    with opened(miniature, missing), pytest.raises(SettingsError, match="could not be pushed") as caught:
        push.fn(miniature, missing)
    assert "RCVIT_DVC_REMOTE" in caught.value.hint
