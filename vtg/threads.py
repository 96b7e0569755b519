"""How many threads compute, and how they wait for each other: chosen before torch loads its OpenMP, which asks once.

Left alone, the threads of an OpenMP program spin at every barrier, GNU's for milliseconds. Where other programs want
the same cores, a thread spins away the time that the one it waits for needs: on a busy machine a step of the demo took
51 times as long as alone. Threads that sleep at once take 7 times as long there, which is their share, and cost an idle
machine nothing that could be measured (benchmarks/busy.py).
"""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

# Read by any OpenMP; by GNU's alone, which torch's wheels for Linux bring; by LLVM's and Intel's alone.
WAITING_NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")

THREADS_NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Local world size, as torchrun and accelerate, deepspeed, and Open MPI name it.
LOCAL_RANKS_NAMES = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


chosen: dict[str, str] = {}
"""What `share_cores` set in this process, as opposed to its user."""


def share_cores(environment: MutableMapping[str, str] = os.environ, *, cores: int | None = None) -> None:
    """Sets OpenMP's variables in `environment`, but those that the user set; too late where torch is loaded already.

    Processes that a launcher started on this machine get equal parts of its `cores` (default: those that this process
    may run on), unless the launcher bound each to cores of its own. A single one is left to torch's own choice, unless
    a container's CPU limit, which torch does not see, allows less.
    """
    if environment is os.environ and "torch" in sys.modules:
        return
    before = dict(environment)
    if not any(name in environment for name in WAITING_NAMES):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    _forget_launchers_choice(environment)
    if not any(name in environment for name in THREADS_NAMES):
        ranks = next((int(environment[name]) for name in LOCAL_RANKS_NAMES if environment.get(name, "").isdigit()), 1)
        if _has_cores_of_its_own():
            ranks = 1
        cores = cores or usable_cores()
        threads = max(1, within_limit(cores) // max(1, ranks))
        if threads < cores:
            environment["OMP_NUM_THREADS"] = str(threads)
    if environment is os.environ:
        chosen.update({name: value for name, value in environment.items() if before.get(name) != value})


def openmp_settings() -> dict[str, str]:
    """The variables of this process that say how OpenMP's threads behave."""
    return {name: os.environ[name] for name in (*THREADS_NAMES, *WAITING_NAMES) if name in os.environ}


def usable_cores() -> int:
    """Cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def within_limit(cores: int) -> int:
    """So many cores, or as many as the CPU limit of the container gives time for; at least 1."""
    limit = cpu_limit()
    return cores if limit is None else max(1, min(cores, round(limit)))


def _has_cores_of_its_own() -> bool:
    """Whether this process may run on fewer cores than what started it, as `srun --cpus-per-task` binds its tasks."""
    if sys.platform != "linux":
        return False
    try:
        return os.sched_getaffinity(0) < os.sched_getaffinity(os.getppid())
    except OSError:
        return False


def cpu_limit(proc: Path = PROC, groups: Path = CGROUPS) -> float | None:
    """Cores' worth of time that the control groups of this process allow (`docker run --cpus`), None for all."""
    limits = []
    try:
        own = (proc / "self" / "cgroup").read_text().split("0::/")[1].splitlines()[0]
        for group in (groups / own, *(groups / own).parents):
            if group.is_relative_to(groups) and (group / "cpu.max").is_file():
                quota, period = (group / "cpu.max").read_text().split()
                limits += [] if quota == "max" else [int(quota) / int(period)]
    except (OSError, IndexError, ValueError):  # another system, or another version of control groups
        pass
    return min(limits, default=None)


def _forget_launchers_choice(environment: MutableMapping[str, str]) -> None:
    """torchrun and accelerate set one thread a rank, on any machine, where the user had set none."""
    if environment.get("OMP_NUM_THREADS") != "1" or "TORCHELASTIC_RUN_ID" not in environment:
        return
    try:
        of_launcher = (PROC / str(os.getppid()) / "environ").read_bytes()  # as it was started
    except OSError:
        return
    if not any(entry.startswith(b"OMP_NUM_THREADS=") for entry in of_launcher.split(b"\0")):
        del environment["OMP_NUM_THREADS"]
