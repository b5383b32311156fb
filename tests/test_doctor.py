"""`rcvit doctor`: every finding that is not ok says how to fix it."""

from pathlib import Path

import pytest

from components.doctor import examine


def test_each_finding_says_how_to_fix_it(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCVIT_HOME", str(tmp_path))
    findings = {finding.check: finding for finding in examine(repo)}
    assert {"python", "torch", "git", "disk", "params.yaml", "MLflow", "Prefect"} <= set(findings)
    assert all(finding.cure for finding in findings.values() if finding.state != "ok")
    assert findings["deepspeed"].state == "ok"


def test_an_unreachable_server_is_broken_and_no_password_is_shown(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCVIT_HOME", str(tmp_path))
    monkeypatch.setenv("RCVIT_PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("RCVIT_TRACKING_URI", "postgresql://ada:hunter2@127.0.0.1:9/none")
    findings = {finding.check: finding for finding in examine(repo)}
    assert findings["Prefect"].state == "broken"
    assert findings["MLflow"].state == "broken"
    assert "RCVIT_PREFECT_API_URL" in findings["Prefect"].cure
    assert not any("hunter2" in finding.found + finding.cure for finding in findings.values())
