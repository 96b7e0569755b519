"""Runs that are killed, for the tests: a program that forks a run, kills it with SIGKILL, and starts it again.

It has imported torch and all else before it forks, so that a start takes seconds. What a run is killed at is counted:
the n-th forward of the model (training, rollouts and answers alike), the n-th change of a file of its directory, or a
moment of the clock, for what happens outside Python.

    python kills.py sft|rl|latents KILLS SEED FOLDER OVERRIDE…

makes FOLDER/whole (never disturbed) and FOLDER/killed, and prints a JSON object of what happened.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
"""Events of the interpreter that change a folder; `open` where it is for writing."""

SECONDS = 600.0
"""No run of these tests takes longer."""


def count(kind: str, call: Callable[[], None], *, folder: Path) -> None:
    """Calls `call` at every event of the kind in this process."""
    if kind == "forward":
        from torch.nn.modules.module import register_module_forward_pre_hook

        def before(module: Any, args: Any) -> None:
            if type(module).__name__ in ("Qwen3VLModel", "FutureModel"):
                call()

        register_module_forward_pre_hook(before)
    elif kind == "change":

        def audit(event: str, args: tuple) -> None:
            if event in CHANGES and str(args[0]).startswith(str(folder)):
                writes = isinstance(args[1], str) and set("wax+") & set(args[1]) if event == "open" else True
                if writes:
                    call()

        sys.addaudithook(audit)


def forked(run: Callable[[list[str]], None], words: list[str], prepare: Callable[[], None] = lambda: None) -> int:
    """The pid of a child that runs it; its output goes to a file, for errors."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    log = os.open(os.environ["KILLS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        prepare()
        run(words)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int, *, after_s: float | None = None) -> int:
    """The exit status of a child, negative for a signal; killed after so many seconds, or at the tests' limit."""
    kill_at = time.monotonic() + (after_s if after_s is not None else SECONDS)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > kill_at:
            os.kill(pid, signal.SIGKILL)
            if after_s is None:
                raise TimeoutError(f"a run took longer than {SECONDS} s; see {os.environ['KILLS_LOG']}")
        time.sleep(0.01)


def events_of_a_whole_run(run: Callable[[list[str]], None], words: list[str], out: Path) -> dict[str, float]:
    """How many events of each kind there are in a run that nothing disturbs, and its seconds."""
    counts = {"forward": 0, "change": 0}
    reader, writer = os.pipe()

    def prepare() -> None:
        def one_more(kind: str) -> Callable[[], None]:
            def add() -> None:
                counts[kind] += 1

            return add

        for kind in counts:
            count(kind, one_more(kind), folder=out)

    def run_and_tell(words: list[str]) -> None:
        run(words)
        os.write(writer, json.dumps(counts).encode())

    began = time.monotonic()
    code = ended(forked(run_and_tell, words, prepare))
    if code:
        raise RuntimeError(f"the undisturbed run ended with {code}; see {os.environ['KILLS_LOG']}")
    return json.loads(os.read(reader, 4096)) | {"clock": time.monotonic() - began}


def killed_at(kind: str, at: float, run: Callable[[list[str]], None], words: list[str], out: Path) -> bool:
    """Starts the run and kills it at its event number `at` of this kind; whether it came to that."""
    if kind == "clock":
        code = ended(forked(run, words), after_s=at)
    else:
        left = int(at)

        def prepare() -> None:
            def act() -> None:
                nonlocal left
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)

            count(kind, act, folder=out)

        code = ended(forked(run, words, prepare))
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a run ended with {code} after a kill; see {os.environ['KILLS_LOG']}")
    return code != 0


def main(kind: str, kills: int, seed: int, folder: Path, more: list[str]) -> dict[str, Any]:
    if kind == "sft":
        from sft_runs import compose

        from vtg.training.sft.run_sft import train

        def run(words: list[str]) -> None:
            train(compose(words))
    elif kind == "latents":
        from latent_runs import train as run
    else:
        from rl_runs import train as run
    whole, out = folder / "whole", folder / "killed"
    events = events_of_a_whole_run(run, [*more, f"output_dir={whole}"], whole)
    words = [*more, f"output_dir={out}"]
    draw = random.Random(seed)
    done: list[list[Any]] = []
    left_behind: list[str] = []
    while len(done) < kills:
        what = ("change", "forward", "clock")[len(done) % 3]
        at = draw.uniform(0, events[what]) if what == "clock" else draw.randint(1, int(events[what]))
        if killed_at(what, at, run, words, out):
            done.append([what, at])
            left_behind += [name.name for name in out.glob(".saving/*")]
        elif len(done) < kills:  # it came to its end: once more from the beginning
            shutil.rmtree(out)
    code = ended(forked(run, words))
    return {"code": code, "events": events, "kills": done, "half_checkpoints": left_behind}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    kind, kills, seed, folder, *more = sys.argv[1:]
    os.environ.setdefault("KILLS_LOG", str(Path(folder) / "output.txt"))
    print(json.dumps(main(kind, int(kills), int(seed), Path(folder), more)))
