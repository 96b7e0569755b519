"""Programs that run as the shell starts them, but forked from a process that has imported torch and all else before.

The imports of torch, transformers and TRL are six seconds of every start, and a fork a hundredth of one. A program has
processes of its own all the same, with arguments, environment, streams, signals and exit code. What tests that a start
imports nothing heavy, or changes what is imported, starts an interpreter instead.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FORKS = multiprocessing.get_context("forkserver")
# What is not installed is left out.
FORKS.set_forkserver_preload(
    [
        "vtg.training.sft.run_sft",
        "vtg.training.rl.run_rl",
        "vtg.report.html_page",
        "transformers.models.qwen3_vl.modeling_qwen3_vl",
        "matplotlib.pyplot",
        "torch.utils.tensorboard",
        "deepspeed",
    ]
)


class Program:
    """A program that is going on, in one process or in several that find each other (gloo)."""

    def __init__(
        self,
        script: Path | str,
        *words: str,
        ranks: int = 1,
        env: Mapping[str, str] = os.environ,
        before: Callable[[], Any] | None = None,
    ) -> None:
        """`script` is a file.py of the repository, or a module's name; `before` is called in each process first."""
        self.words = [str(script), *words]
        self.folder = tempfile.TemporaryDirectory()
        self.streams = [Path(self.folder.name) / name for name in ("stdout", "stderr")]
        places: list[dict[str, str]] = [{}]
        if ranks > 1:
            places, self.store = _meeting(ranks)
        self.processes = [
            FORKS.Process(target=_become, args=(self.words, self.streams, {**env, **place}, before)) for place in places
        ]
        for process in self.processes:
            process.start()

    def send_signal(self, number: int) -> None:
        for process in self.processes:
            assert process.pid is not None
            os.kill(process.pid, number)

    def ended(self, *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Waits for its end. Of several processes the exit code is 1 where any failed, as of torchrun.

        Raises subprocess.TimeoutExpired; its processes have been killed then.
        """
        deadline = time.monotonic() + timeout_s
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        late = [process for process in self.processes if process.exitcode is None]
        for process in late:
            process.kill()
            process.join()
        out, err = (path.read_text(encoding="utf-8") if path.is_file() else "" for path in self.streams)
        self.folder.cleanup()
        if late:
            raise subprocess.TimeoutExpired(self.words, timeout_s, out, err)
        codes = [process.exitcode or 0 for process in self.processes]
        return subprocess.CompletedProcess(self.words, codes[0] if len(codes) == 1 else int(any(codes)), out, err)


def run(
    script: Path | str, *words: str, ranks: int = 1, timeout_s: float = 400, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Starts a `Program` and waits for its end."""
    return Program(script, *words, ranks=ranks, **more).ended(timeout_s=timeout_s)


def _meeting(ranks: int) -> tuple[list[dict[str, str]], Any]:
    """What tells each of several processes where they meet, and the store that has to live as long as they do."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    place = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
    }
    return [place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)], store


def _become(
    words: Sequence[str], streams: Sequence[Path], env: Mapping[str, str], before: Callable[[], Any] | None
) -> None:
    """Makes this process that of the program."""
    for descriptor, path in enumerate(streams, 1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    script, sys.argv = words[0], [*words]
    if before is not None:
        before()
    try:
        if script.endswith(".py"):
            sys.path.insert(0, str((ROOT / script).parent))
            runpy.run_path(str(ROOT / script), run_name="__main__")
        else:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends its processes without
