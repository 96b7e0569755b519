"""How tests start runs of several processes: one run after the other in the same ones, which saves starts."""

import gc
import json
import os
import shutil
import sys
from pathlib import Path

import forked
import latent_runs
import rl_runs
import sft_runs

Job = tuple[str, list[str]]
"""`sft`, `rl` or `latents` and the settings of a run; or `copy` and two folders; or `cut`, two folders and a step: the
same, and what came after the checkpoint of that step is lost in the first."""


def launch(jobs: list[Job], *, processes: int, folder: Path, limit_s: float = 900) -> str:
    """Runs these jobs on `processes` processes (gloo); returns what they said on stderr.

    Raises AssertionError with that where they fail.
    """
    listed = folder / f"jobs_on_{processes}.json"
    listed.write_text(json.dumps(jobs))
    done = forked.run(Path(__file__), str(listed), ranks=processes, timeout_s=limit_s)
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stderr


def copy_to(run: Path, other: Path, replaced: dict[str, str]) -> None:
    """Copies a run, to go on elsewhere. `replaced`: what its settings say, and what they are to say there."""
    shutil.copytree(run, other)
    settings = (other / "config.yaml").read_text()
    for old, new in replaced.items():
        assert old in settings
        settings = settings.replace(old, new)
    (other / "config.yaml").write_text(settings)


def forget() -> None:
    """Lets the next run of this process choose anew how its processes work together."""
    from accelerate.state import AcceleratorState, GradientState
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    AcceleratorState._reset_state()
    GradientState._reset_state()
    unset_hf_deepspeed_config()
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    gc.collect()


def _run(kind: str, words: list[str]) -> None:
    import torch

    from vtg.ranks import is_main_process
    from vtg.training.sft.run_sft import train as train_sft

    if kind in ("copy", "cut"):
        if is_main_process():
            shutil.copytree(words[0], words[1])
            if kind == "cut":
                rl_runs.cut_back(Path(words[0]), step=int(words[2]))
        torch.distributed.barrier()
    elif kind == "rl":
        rl_runs.train(words)
    elif kind == "latents":
        latent_runs.train(words)
    else:
        train_sft(sft_runs.compose(words))
    forget()


if __name__ == "__main__":
    from vtg.training.processes import processes_exit_together

    gc.freeze()  # what is imported stays: DeepSpeed and Accelerate collect garbage again and again
    with processes_exit_together():
        for job in json.loads(Path(sys.argv[1]).read_text()):
            _run(*job)
