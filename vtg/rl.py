"""Reinforcement learning with GRPO: `python train_rl.py [overrides]`, or `vtg rl [overrides]`."""

from vtg.config.schema import RLConfig
from vtg.entry import hydra_program, loading
from vtg.report import report_sweep


def main() -> None:
    """Composes conf/rl.yaml and trains; see `python train_rl.py --help`."""
    hydra_program("rl", schema=RLConfig, job=_train, after_sweep=report_sweep)


def _train(config: RLConfig) -> None:
    from hydra.core.hydra_config import HydraConfig

    from vtg.config.chosen import chosen_settings
    from vtg.config.rules import check_together
    from vtg.models.checkpoint_settings import adopt
    from vtg.models.hub import find_model
    from vtg.training.processes import processes_exit_together
    from vtg.training.rl import curriculum
    from vtg.training.rl.rewards.mixture import reward_terms
    from vtg.training.rl.rewards.mixture_warnings import warnings_of
    from vtg.training.run_dir import RunDir
    from vtg.training.zero.zero_settings import deepspeed_settings

    curriculum.check(config.curriculum)
    terms = reward_terms(config.rewards)
    hydra = HydraConfig.get()
    folders = [source.path for source in hydra.runtime.config_sources if source.schema == "file"]
    notes = adopt(config, chosen_settings(hydra.job.config_name or "rl", hydra.overrides.task, folders))
    notes += [f"rewards: {warning}" for warning in warnings_of(terms, task=config.task)]
    check_together(config)
    deepspeed_settings(config.deepspeed)
    with RunDir(config).claimed():
        find_model(config.model.path)
        with loading("torch, transformers and trl"):  # after the settings were checked
            from vtg.training.rl.run_rl import train

        with processes_exit_together():
            train(config, terms, notes)


if __name__ == "__main__":
    main()
