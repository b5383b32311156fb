"""Nothing outlives its owner, also when the owner is killed with -9."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from components.process import OWNER

OWNED = """
import os, subprocess, sys, time
from components.process import die_with_owner
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
die_with_owner(os.environ)
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write("up")
time.sleep(600)
"""
RUNS_A_COMMAND = """
import os, subprocess, sys
from components.process import die_with_owner, run_owned
subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1] + ".stubborn"])  # ends after the command
die_with_owner(os.environ)
open(sys.argv[1], "w").write(str(os.getpid()))
code = run_owned([sys.executable, "-c", "import time; time.sleep(600)"], env=os.environ, seconds=5)
open(sys.argv[1] + ".ended", "w").write(str(code))
"""
WITH_KERNEL = """
import subprocess, sys, time
from components.process import kill_when_parent_dies
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(sleep, preexec_fn=kill_when_parent_dies)
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(600)
"""


def wait_for(path: Path) -> str:
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} was never written")


def gone(*pids: int) -> bool:
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20)
    return not alive


def test_a_stage_and_its_children_end_with_the_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    environment = {**os.environ, "RCVIT_OWNER_PID": str(owner.pid)}
    started = tmp_path / "pids"
    owned = subprocess.Popen([sys.executable, "-c", OWNED, str(started)], env=environment)
    pids = [int(pid) for pid in wait_for(started).split()]
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owned.wait(timeout=30)
    assert gone(*pids)


def test_a_command_that_ends_because_the_owner_is_gone_is_no_success(tmp_path: Path) -> None:
    """Two threads wait for it: the one that loses reads the exit code as 0, and a stage would go on."""
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    environment = {**os.environ, OWNER: str(owner.pid)}
    mark = tmp_path / "mark"
    stage = subprocess.Popen([sys.executable, "-c", RUNS_A_COMMAND, str(mark), STUBBORN], env=environment)
    wait_for(mark)
    wait_for(tmp_path / "mark.stubborn")
    time.sleep(0.5)  # until the command runs
    owner.kill()
    owner.wait()
    assert stage.wait(timeout=30) == -signal.SIGKILL
    assert not (tmp_path / "mark.ended").exists()


def test_a_child_ends_with_its_killed_parent(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", WITH_KERNEL, str(started)])
    pid = int(wait_for(started))
    parent.kill()
    parent.wait()
    assert gone(pid)


def test_a_process_that_ignores_term_is_killed(tmp_path: Path) -> None:
    from components.process import end_tree

    started = tmp_path / "up"
    stubborn = subprocess.Popen([sys.executable, "-c", STUBBORN, str(started)])
    wait_for(started)
    end_tree(psutil.Process(stubborn.pid), seconds=0.5)
    assert gone(stubborn.pid)
