"""A training with a transformers or TRL whose next version has renamed a private method of its trainer.

    python tests/renamed.py MODULE OLD NEW [--keep] sft|rl [key=value ...]

MODULE is loaded from its own source with OLD replaced by NEW throughout. `--keep`: OLD is still there, but not called.
"""

import importlib.util
import sys
from pathlib import Path


def rename(module: str, old: str, new: str, *, keeps: bool) -> None:
    """Puts the module with the renamed method in the place of the installed one."""
    installed = importlib.util.find_spec(module)
    assert installed is not None and installed.origin is not None and installed.loader is not None
    source = Path(installed.origin).read_text(encoding="utf-8").replace(old, new)
    assert new in source
    if keeps:
        (cls,) = ("GRPOTrainer",) if module.endswith("grpo_trainer") else ("Trainer",)
        source += f"\n{cls}.{old} = {cls}.{new}\n"
    spec = importlib.util.spec_from_file_location(module, installed.origin)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made
    exec(compile(source, installed.origin, "exec"), made.__dict__)


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--keep"]
    module, old, new, kind, *rest = words
    rename(module, old, new, keeps="--keep" in sys.argv)
    sys.argv = [f"train_{kind}.py", *rest]
    if kind == "sft":
        from vtg.sft import main as train
    else:
        from vtg.rl import main as train
    train()


if __name__ == "__main__":
    main()
