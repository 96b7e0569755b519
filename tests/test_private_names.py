"""The contract with other libraries: their private names, as vtg uses them."""

import ast
import inspect
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtg.errors import RunError
from vtg.private_names import PRIVATE_NAMES, PrivateName, check_private_names

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS / "training"))
PACKAGE = TESTS.parent / "vtg"
SFT_OWNER = "transformers.trainer:Trainer"
TRAINERS = {one.owner for one in PRIVATE_NAMES if one.owner.endswith("Trainer")}


@pytest.mark.parametrize("one", PRIVATE_NAMES, ids=str)
def test_every_private_name_is_there_and_takes_what_the_table_says(one: PrivateName):
    assert one.difference() is None, f"{one} {one.difference()}; without it: {one.breaks}"


def test_every_private_name_of_a_trainer_that_vtg_uses_is_in_the_table():
    from transformers import Trainer
    from trl.trainer.grpo_trainer import GRPOTrainer

    from vtg.training.rl.grpo_trainer import VideoGRPOTrainer
    from vtg.training.sft.sft_trainer import SFTTrainer

    theirs: set[str] = set()
    for cls in (Trainer, GRPOTrainer):
        source = inspect.getsource(sys.modules[cls.__module__])
        theirs |= {name for name in dir(cls) if re.match(r"_[a-z]", name)}
        theirs |= set(re.findall(r"self\.(_[a-z]\w+)\b[^\n=]*=", source))
    used, ours = set[str](), set[str]()
    classes = {cls for cls in (*VideoGRPOTrainer.__mro__, *SFTTrainer.__mro__) if cls.__module__.startswith("vtg.")}
    files = {Path(inspect.getfile(cls)) for cls in classes}
    assert len(files) == 8
    for path in (*files, PACKAGE / "training" / "run.py", PACKAGE / "training" / "rl" / "engines.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                used.add(node.attr)
                if isinstance(node.ctx, ast.Store):
                    ours.add(node.attr)
            elif isinstance(node, ast.FunctionDef):
                used.add(node.name)
    declared = {one.name for one in PRIVATE_NAMES if one.owner in TRAINERS}
    assert used & theirs - declared == set()
    assert declared <= used
    assert not ours & theirs, "an attribute of vtg's own has the name of one of theirs"


def vtg_class(one: PrivateName, kind: str) -> type:
    from vtg.decoding.key_pool import OwnKeys
    from vtg.training.rl.grpo_trainer import VideoGRPOTrainer
    from vtg.training.sft.sft_trainer import SFTTrainer

    if not one.owner.endswith("Trainer"):
        return OwnKeys
    return VideoGRPOTrainer if kind == "rl" else SFTTrainer


def counted(one: PrivateName, cls: type, calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the calls of vtg's own method of that name."""
    owner = next(base for base in cls.__mro__ if one.name in vars(base))
    assert owner.__module__.startswith("vtg."), f"{cls.__name__} does not override {one}"
    own: Callable[..., Any] = vars(owner)[one.name]

    def called(*args: Any, **kwargs: Any) -> Any:
        calls[str(one)] += 1
        return own(*args, **kwargs)

    monkeypatch.setattr(owner, one.name, called)


@pytest.mark.parametrize("kind", ["sft", pytest.param("rl", marks=pytest.mark.slow)])
def test_every_override_is_called_in_a_training(kind, demo_dir, tmp_path, monkeypatch):
    import rl_runs
    import sft_runs

    from vtg.training.sft.run_sft import train

    expected = [one for one in PRIVATE_NAMES if one.overrides and (kind == "rl" or one.owner == SFT_OWNER)]
    calls: Counter[str] = Counter()
    for one in expected:
        counted(one, vtg_class(one, kind), calls, monkeypatch)
    more = ("trainer.max_steps=2", "trainer.save_steps=1", "trainer.eval_steps=1", "trainer.eval_strategy=steps")
    more += (f"data.val_file={demo_dir / 'val.jsonl'}", "data.test_file=null", "evaluation.max_val_samples=1")
    for _ in range(2):  # the second time it resumes from its first step
        if kind == "sft":
            train(sft_runs.compose(sft_runs.overrides(demo_dir, tmp_path, *more)))
        else:
            rl_runs.train(rl_runs.overrides(demo_dir, tmp_path, *more))
        shutil.rmtree(tmp_path / "best")
        shutil.rmtree(tmp_path / "checkpoint-2")
    assert [str(one) for one in expected if not calls[str(one)]] == []


def renamed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TESTS / "renamed.py"), *words], capture_output=True, text=True, timeout=300
    )


TRAINER = ("transformers.trainer", "_get_grad_norm", "_norm_of_gradients")


@pytest.mark.slow
def test_a_name_that_is_gone_ends_the_run_before_training_and_says_what_it_would_break(demo_dir, tmp_path):
    import sft_runs

    done = renamed(*TRAINER, "sft", *sft_runs.overrides(demo_dir, tmp_path, "data.test_file=null"))
    assert done.returncode == 1
    assert re.search(r"^error: peft \S+ and transformers \S+: vtg stands on private names", done.stderr, re.MULTILINE)
    assert "\n  transformers.trainer.Trainer._get_grad_norm is gone: a loss that is no number trains on" in done.stderr
    assert done.stderr.endswith("pip install -e . -c env/constraints.txt\n")
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.slow
def test_a_guard_that_is_not_asked_ends_the_run_before_its_first_update(demo_dir, tmp_path):
    import sft_runs

    words = sft_runs.overrides(demo_dir, tmp_path, "data.test_file=null")
    done = renamed(*TRAINER, "--keep", "sft", *words)
    assert done.returncode == 1
    told = "error: step 1: nothing asked whether its loss and gradient are finite: the Trainer of transformers "
    assert told in done.stderr and "does not call _get_grad_norm as vtg needs it to; install" in done.stderr
    assert not list(tmp_path.glob("checkpoint-*"))


def test_what_is_not_as_it_was_is_told_together(monkeypatch):
    from transformers import Trainer

    def other(self, model):
        """Of a later version."""

    monkeypatch.delattr(Trainer, "_get_output_dir")
    monkeypatch.setattr(Trainer, "_save", other)
    with pytest.raises(RunError) as raised:
        check_private_names(["transformers"])
    _, *lines, last = str(raised.value).splitlines()
    assert lines == [
        "  transformers.trainer.Trainer._get_output_dir is gone: checkpoints are not written beside",
        "  transformers.trainer.Trainer._save takes (model), not (output_dir, state_dict): "
        "tied weights are saved twice under ZeRO-1 and ZeRO-2",
    ]
    assert last == "install versions that were tried: pip install -e . -c env/constraints.txt"
    check_private_names(["peft"])
