"""Reinforcement learning with GRPO: `python train_rl.py [overrides]`, or `vtg rl [overrides]`. Not there yet."""

from vtg.config.schema import RLConfig
from vtg.entry import hydra_program
from vtg.errors import RunError


def main() -> None:
    """Composes and checks conf/rl.yaml, then says that there is no GRPO yet; see `python train_rl.py --help`."""
    hydra_program("rl", schema=RLConfig, job=_train)


def _train(config: RLConfig) -> None:
    raise RunError(
        "GRPO training is not there yet, so nothing was trained; the same settings train by supervised fine-tuning: "
        "python train_sft.py (vtg sft)"
    )


if __name__ == "__main__":
    main()
