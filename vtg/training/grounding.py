"""What vtg's trainers have in common: evaluation by generation, and settings beside every checkpoint."""

import time
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import Trainer

from vtg.config.schema import ModelConfig, SFTConfig
from vtg.data.dataset import GroundingDataset, SkipReport
from vtg.evaluation.generate import predict, score
from vtg.models.checkpoint import Settings, save_settings
from vtg.training.run import StopOnSignal, is_main_process


class GroundingTrainer(Trainer):
    """A Trainer whose evaluation are greedy answers, scored in temporal IoU.

    Subclasses set, before they evaluate or save: `config`; `report`, which hears of what cannot be read; `base`, the
    model that an adapter stands on; and `stop`, which knows whether a signal ended the run.
    """

    config: SFTConfig
    report: SkipReport
    base: ModelConfig
    stop: StopOnSignal
    interval_s: float

    def go_on(self, checkpoint: Path) -> None:
        """Prepares to go on from a checkpoint; what the Trainer itself restores comes later."""
        raise NotImplementedError

    def begin_interval(self) -> None:
        """Begins what the next log entry counts: what was read and how long it took before is not training."""
        self.interval_s = time.monotonic()
        for dataset in (self.train_dataset, self.eval_dataset):
            if isinstance(dataset, GroundingDataset):
                dataset.provider.take_counts()

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Answers to the validation samples by generation, scored in temporal IoU."""
        began_s = time.monotonic()
        rows = self.answers(eval_dataset or self.eval_dataset, progress="validating")  # type: ignore[arg-type]
        metrics = {f"{metric_key_prefix}_{key}": float(value) for key, value in score(rows).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        training_s = began_s - self.interval_s
        self.begin_interval()
        self.interval_s -= training_s
        return metrics

    def answers(
        self, dataset: GroundingDataset, *, progress: str, shuffled_videos: bool = False
    ) -> list[dict[str, Any]]:
        """Prediction rows for all samples that can be read, shared among the ranks, on every rank."""
        found, skipped = predict(
            self.accelerator.unwrap_model(self.model),
            dataset,
            batch_size=self.config.evaluation.batch_size,
            max_new_tokens=self.config.evaluation.max_new_tokens,
            rank=self.args.process_index,
            world_size=self.args.world_size,
            shuffled_videos=shuffled_videos,
            progress=progress if is_main_process() else None,
        )
        if self.args.world_size > 1:
            found = dict(gather_object(list(found.items())))
            skipped = gather_object(skipped)
        self.report.add(skipped)
        return [found[index] for index in sorted(found)]

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = output_dir or self.config.output_dir
            save_settings(Settings(self.base, self.config.video, self.config.task), folder)
