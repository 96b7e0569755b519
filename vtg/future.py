"""Prediction of future latents: `python train_latents.py [overrides]`, or `vtg future [overrides]`."""

from contextlib import nullcontext

from vtg.config.latents_schema import LatentsConfig
from vtg.entry import hydra_program, loading
from vtg.latents.encoder_finding import find_encoder
from vtg.report import report_sweep


def main() -> None:
    """Composes conf/latents.yaml and trains; see `python train_latents.py --help`."""
    hydra_program("latents", schema=LatentsConfig, job=_train, after_sweep=report_sweep)


def _train(config: LatentsConfig) -> None:
    from vtg.training.processes import processes_exit_together
    from vtg.training.run_dir import RunDir

    # A dry run may look at settings of which a run is going on in the same folder.
    with nullcontext() if config.dry_run else RunDir(config).claimed():
        find_encoder(config.encoder)
        with loading("torch and transformers"):  # after the settings were checked
            from vtg.training.latents.dry_run import print_plan
            from vtg.training.latents.run_latents import train

        with processes_exit_together():
            (print_plan if config.dry_run else train)(config)


if __name__ == "__main__":
    main()
