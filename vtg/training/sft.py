"""Supervised fine-tuning on the Hugging Face Trainer: base measured, trained, best kept, tuned measured."""

import logging
import os
import sys
from pathlib import Path

from peft import PeftModel
from transformers import TrainerState, set_seed

from vtg.config.checks import needs_mask
from vtg.config.schema import SFTConfig
from vtg.data.dataset import GroundingDataset, SkipReport, TrainingCollator, make_provider, read_splits
from vtg.demo.dataset import ensure_demo
from vtg.models.checkpoint import (
    Settings,
    has_weights,
    read_settings,
    resolve_checkpoint,
)
from vtg.models.loading import base_weights, load_model, prepare_training, tokens_per_second
from vtg.models.settings import differences
from vtg.tasks.span import SpanTask
from vtg.training.batches import plan_batches
from vtg.training.results import Results
from vtg.training.run import RunDir, is_main_process, start_logging, training_arguments
from vtg.training.trainer import SFTTrainer

log = logging.getLogger(__name__)


def train(config: SFTConfig) -> None:
    """One run of `train_sft.py`, from checked settings to the table of base and tuned.

    Raises:
        ConfigError: for settings found wrong before any model loads.
        TooManyBadRows: when more than `data.max_bad_share` of the rows cannot be used.
    """
    start_logging()
    task = SpanTask(config.task)
    has_validation = config.data.val_file is not None or config.data.val_share > 0
    arguments = training_arguments(config, has_validation=has_validation)
    run = RunDir(config.output_dir)
    checkpoint = run.open(config)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.path / "tensorboard")
    if config.data.demo is not None:
        assert config.data.video_dir is not None
        ensure_demo(config.data.video_dir, config.data.demo)
    report = SkipReport(run.path / "skipped.jsonl", max_bad_share=config.data.max_bad_share)
    splits = read_splits(config.data, seed=config.seed, report=report)
    _warn_of_other_settings(config)
    if config.model.attention == "auto" and needs_mask(config):
        config.model.attention = "sdpa"  # which takes any mask
    model, processor = load_model(config.model)
    provider = make_provider(config.video, processor)

    def dataset(samples: list, *, training: bool = False) -> GroundingDataset:
        return GroundingDataset(
            samples,
            task=task,
            processor=processor,
            provider=provider,
            video_dir=config.data.video_dir,
            max_length=config.model.max_length,
            tokens_per_second=tokens_per_second(model),
            training=training,
            seed=config.seed,
        )

    val = splits.val[: config.evaluation.max_val_samples or None]
    log.info("%d training, %d validation, %d test samples", len(splits.train), len(val), len(splits.test))
    results = Results(run.path)
    test, train_set = dataset(splits.test), dataset(splits.train, training=True)
    batches = plan_batches(config, train_set, arguments, report=report)
    set_seed(config.seed)
    continued = isinstance(model, PeftModel)
    trainer = SFTTrainer(
        model=prepare_training(model, config.model, config.lora),
        args=arguments,
        train_dataset=train_set,
        eval_dataset=dataset(val) if has_validation else None,
        data_collator=TrainingCollator(processor.tokenizer.pad_token_id, config.batching),  # type: ignore[attr-defined]
        processing_class=processor,
        config=config,
        report=report,
        batches=batches,
    )
    if test.samples and not results.has("base"):
        with base_weights(trainer.model, continued=continued):
            results.keep("base", trainer.answers(test, progress="testing the base model"))
    _fit(trainer, checkpoint, best=run.path / "best")
    if test.samples:
        results.keep("tuned", trainer.answers(test, progress="testing the tuned model"))
        if config.evaluation.shuffled_video_control and len({sample.video for sample in splits.test}) > 1:
            shuffled = trainer.answers(test, progress="testing with shuffled videos", shuffled_videos=True)
            results.keep("shuffled", shuffled)
        if is_main_process():
            print(results.finish(title=config.run_name, skipped=len(report.skipped)))
    elif is_main_process():
        print(f"saved {run.path / 'best'}; nothing was tested: there is no data.test_file, and no validation rows")


def _fit(trainer: SFTTrainer, checkpoint: Path | None, *, best: Path) -> None:
    """Trains to the end and leaves the best weights in the model and in `best`; what is done already is not redone.

    Exits where a signal asked for it: the same command goes on from the saved checkpoint.
    """
    if has_weights(best):
        log.info("training is done already: %s", best)
        trainer._load_from_checkpoint(str(best))
        return
    if checkpoint is not None:
        log.info("going on from %s", checkpoint)
        trainer.go_on(checkpoint)
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
    if state is not None and state.global_step >= state.max_steps:  # the Trainer would take one step more
        trainer._load_from_checkpoint(state.best_model_checkpoint or str(checkpoint))
    else:
        trainer.begin_interval()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.stop.exit_code is not None:
        log.warning("stopped; start the same command again to go on")
        sys.exit(trainer.stop.exit_code)
    beside = best.with_name(".best.tmp")
    trainer.save_model(str(beside))
    if is_main_process():
        beside.rename(best)


def _warn_of_other_settings(config: SFTConfig) -> None:
    """Says what differs from how the checkpoint that training starts from was trained."""
    trained = read_settings(resolve_checkpoint(config.model.path))
    if trained is not None:
        for difference in differences(trained, Settings(config.model, config.video, config.task)):
            log.warning("%s of %s", difference, config.model.path)
