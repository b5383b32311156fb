"""Processes that end with whoever started them, also when that one is killed with -9."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping

import psutil

OWNER = "RCVIT_OWNER_PID"  # process id of the run that everything below belongs to


def die_with_owner(environment: Mapping[str, str]) -> None:
    """End this process and its children as soon as the owner ends.

    The owner is the process named by RCVIT_OWNER_PID, else the parent. DVC closes inherited pipes and
    leaves its children running when it is killed, so the owner's process id is what we can hold on to.
    """
    owner = int(environment.get(OWNER, os.getppid()))
    threading.Thread(target=_end_after, args=(owner,), daemon=True, name="die-with-owner").start()


def _end_after(owner: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(owner).wait()
    end_tree(psutil.Process(), seconds=5.0, including_root=False)
    os.kill(os.getpid(), signal.SIGKILL)


def end_tree(root: psutil.Process, *, seconds: float, including_root: bool = True) -> None:
    """TERM to a process and all below it, KILL to those that still live after `seconds`."""
    try:
        members = root.children(recursive=True)
    except psutil.NoSuchProcess:
        return
    if including_root:
        members.append(root)
    for member in members:
        _send(member, signal.SIGTERM)
    _, alive = psutil.wait_procs(members, timeout=seconds)
    for member in alive:
        _send(member, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=seconds)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def kill_when_parent_dies() -> None:
    """For `subprocess.Popen(preexec_fn=...)`: the kernel kills this child when its parent ends (Linux)."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG, linux/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main() -> None:
    """`python -m components.process COMMAND ...`: run a command that may start processes of its own.

    The death signal of the kernel reaches a child and not its children; this process stays between and
    ends them all when its owner ends.
    """
    die_with_owner(os.environ)
    sys.exit(subprocess.call(sys.argv[1:]))


if __name__ == "__main__":
    main()
