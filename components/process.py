"""Processes that end with whoever started them, also when that one is killed with -9."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

OWNER = "RCVIT_OWNER_PID"  # process id of the run that everything below belongs to
_owner_is_gone = threading.Event()


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
    _owner_is_gone.set()
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


def run_owned(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    seconds: float,
    cwd: Path | None = None,
    stdout: IO[bytes] | None = None,
    started: Callable[["subprocess.Popen[bytes]"], None] | None = None,
) -> int:
    """Run a command in a session of its own until it ends, leave no process behind, return its exit code.

    Args:
        command: the program and its arguments.
        env: its whole environment.
        seconds: between TERM and KILL for what is still there when this block ends.
        cwd: its working folder; this process's own without one.
        stdout: where its standard output goes; this process's own without one.
        started: called with the process once it runs.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        start_new_session=True,
        preexec_fn=kill_when_parent_dies,
    )
    tree = psutil.Process(process.pid)
    try:
        if started:
            started(process)
        code = process.wait()
        if _owner_is_gone.is_set():
            # The thread that ends us has ended the command too, and may have taken its exit code, for which
            # subprocess then says 0: nobody must take that for a success in the moment that is left.
            threading.Event().wait()
        return code
    finally:
        end_tree(tree, seconds=seconds)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """`python -m components.process COMMAND ...`: run a command that may start processes of its own.

    The death signal of the kernel reaches a child and not its children; this process stays between and
    ends them all when its owner ends.
    """
    die_with_owner(os.environ)
    sys.exit(subprocess.call(sys.argv[1:]))


if __name__ == "__main__":
    main()
