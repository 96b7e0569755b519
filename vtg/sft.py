"""Supervised fine-tuning: `python train_sft.py [overrides]`, or `vtg sft [overrides]`."""

from vtg.config.schema import SFTConfig
from vtg.entry import hydra_program, loading
from vtg.models.hub import find_model
from vtg.report import report_sweep
from vtg.training.zero.zero_settings import deepspeed_settings


def main() -> None:
    """Composes conf/sft.yaml and trains; see `python train_sft.py --help`."""
    hydra_program("sft", schema=SFTConfig, job=_train, after_sweep=report_sweep)


def _train(config: SFTConfig) -> None:
    from vtg.training.processes import processes_exit_together
    from vtg.training.run_dir import RunDir

    deepspeed_settings(config.deepspeed)
    with RunDir(config).claimed():
        find_model(config.model.path)
        with loading("torch and transformers"):  # after the settings were checked
            from vtg.training.sft.run_sft import train

        with processes_exit_together():
            train(config)


if __name__ == "__main__":
    main()
