"""Inference servers that an annotation starts for itself, each on its own GPUs, and stops when it ends."""

import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vtg.errors import ConfigError, RunError

# vLLM's; another server's is given as --serve-command, with the same fields.
COMMAND = "vllm serve {model} --port {port} --tensor-parallel-size {tensor_parallel_size} --allowed-local-media-path /"
POLL_S = 0.5
# For a server to end by itself before it is killed.
STOP_S = 10.0


@contextmanager
def servers(
    count: int, *, model: str, tensor_parallel_size: int, command: str, logs: Path, start_timeout_s: float
) -> Iterator[list[str]]:
    """Starts so many servers at once and waits for all; yields their addresses. However the block ends, they end.

    Args:
        tensor_parallel_size: GPUs of each; server k sees those from k * tensor_parallel_size on.
        command: with the fields {model}, {port} and {tensor_parallel_size}.
        logs: the folder of what they print.

    Raises:
        ConfigError: the command cannot be run.
        RunError: one ends, or does not answer in time.
    """
    logs.mkdir(parents=True, exist_ok=True)
    running: list[tuple[subprocess.Popen[bytes], str, Path]] = []
    try:
        for number in range(count):
            port, log = _free_port(), logs / f"server_{number}.log"
            words = shlex.split(command.format(model=model, port=port, tensor_parallel_size=tensor_parallel_size))
            gpus = range(number * tensor_parallel_size, (number + 1) * tensor_parallel_size)
            environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
            with log.open("wb") as out:
                try:
                    # A session of its own: a server's own processes end with it.
                    process = subprocess.Popen(
                        words, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
                    )
                except OSError as error:
                    raise ConfigError(f"--serve-command {command!r}: cannot be run ({error.strerror})") from error
            running.append((process, f"http://127.0.0.1:{port}/v1", log))
        deadline_s = time.monotonic() + start_timeout_s
        for process, address, log in running:
            _wait(process, address, log, deadline_s)
        yield [address for _, address, _ in running]
    finally:
        for process, _, _ in running:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path, deadline_s: float) -> None:
    while True:
        if process.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise RunError(f"a server ended with {process.returncode} before it answered: {''.join(said)}; see {log}")
        try:
            urllib.request.urlopen(f"{address}/models", timeout=POLL_S).close()
            return
        except urllib.error.HTTPError:  # it answers, though it knows no such page
            return
        except OSError:
            if time.monotonic() > deadline_s:
                raise RunError(f"{address} does not answer; see {log}, or give more time: --start-timeout-s") from None
        time.sleep(POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_S)
            return
        except ProcessLookupError:
            process.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
