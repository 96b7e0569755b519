"""The course of every training run: the base measured, the model trained, the best kept, the tuned model measured."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerState

from vtg.config.checks import needs_mask
from vtg.config.schema import SFTConfig
from vtg.data.dataset import GroundingDataset, SkipReport, make_provider, read_splits
from vtg.data.schema import Sample
from vtg.data.table import SampleTable
from vtg.demo.dataset import ensure_demo
from vtg.evaluation.report import write_report
from vtg.evaluation.so_far import AnswersSoFar, stamps
from vtg.models.checkpoint import has_weights
from vtg.models.loading import base_weights, load_model, tokens_per_second
from vtg.tasks.span import SpanTask
from vtg.training.arguments import has_validation
from vtg.training.grounding import GroundingTrainer
from vtg.training.processes import is_main_process, wait_for_all
from vtg.training.results import FILES, Results
from vtg.training.run_dir import RunDir
from vtg.training.saving import BEST_BEFORE, STAGING, put_in_place, writes_to

log = logging.getLogger(__name__)


class Course:
    """A run directory, samples, a model, and what is done with them, whichever way the model is trained.

    Attributes:
        checkpoint: what a run that was interrupted goes on from, if any.
        model, processor: as loaded.
        validation: the prompts to validate on while training, None without validation.

    Raises:
        ConfigError: for a run directory of other settings, files without rows, or a model that cannot be.
        TooManyBadRows: when more than `data.max_bad_share` of the rows cannot be used.
    """

    def __init__(self, config: SFTConfig) -> None:
        self.config = config
        self.task = SpanTask(config.task)
        if config.task.answer == "tokens":
            log.info(
                "task.answer = tokens: times are written as text such as <12>, in several tokens that the model has; "
                "none is added to its vocabulary"
            )
        run = RunDir(config.output_dir)
        self.path = run.path
        self.checkpoint = run.open(config)
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.path / "tensorboard")
        if config.data.demo is not None:
            assert config.data.video_dir is not None
            ensure_demo(config.data.video_dir, config.data.demo)
        self.report = self._begin_report()
        self.splits = read_splits(config.data, seed=config.seed, report=self.report)
        if config.model.attention == "auto" and needs_mask(config):
            config.model.attention = "sdpa"  # which takes any mask
        self.model, self.processor = load_model(config.model)
        self._provider = make_provider(config.video, self.processor)
        self._tokens_per_second = tokens_per_second(self.model)
        val = self.splits.val[: config.evaluation.max_val_samples or None]
        self.validation = self.dataset(val) if has_validation(config) else None
        self.test = self.dataset(self.splits.test)
        sizes = len(self.splits.train), len(val), len(self.splits.test)
        log.info("%d training, %d validation, %d test samples", *sizes)

    def _begin_report(self) -> SkipReport:
        """The main process begins the file, and the others join."""
        joins = not is_main_process()
        if joins:
            wait_for_all()
        report = SkipReport(
            self.path / "skipped.jsonl",
            max_bad_share=self.config.data.max_bad_share,
            goes_on=self.checkpoint is not None,
            joins=joins,
        )
        if not joins:
            wait_for_all()
        return report

    def dataset(
        self, samples: Sequence[Sample], *, training: bool = False, answers: bool = True, keep_clips: bool = False
    ) -> GroundingDataset:
        """The samples as model input; see `GroundingDataset`."""
        return GroundingDataset(
            samples,
            task=self.task,
            processor=self.processor,
            provider=self._provider,
            video_dir=self.config.data.video_dir,
            max_length=self.config.model.max_length,
            tokens_per_second=self._tokens_per_second,
            training=training,
            answers=answers,
            keep_clips=keep_clips,
            seed=self.config.seed,
        )

    def run(self, trainer: GroundingTrainer, *, continued: bool, before: Callable[[], None] | None = None) -> None:
        """Measures, trains, measures again, and writes what there is to see.

        Args:
            continued: an adapter that was loaded is trained on.
            before: called once the base is measured, before training.
        """
        results = Results(self.path)
        trainer.tested = [self.test]
        if self.test.samples and not results.has("base"):
            with base_weights(trainer.model, continued=continued):
                self._answer(trainer, results, "base", progress="testing the base model")
        if before is not None:
            before()
        self._fit(trainer)
        if self.test.samples:
            self._measure(trainer, results)
        elif is_main_process():
            print(f"saved {self.path / 'best'}; nothing was tested: there is no data.test_file, and no validation rows")
        trainer.end_reading()
        if is_main_process():
            print(write_report(self.path))

    def _measure(self, trainer: GroundingTrainer, results: Results) -> None:
        self._answer(trainer, results, "tuned", progress="testing the tuned model")
        wants_control = self.config.evaluation.shuffled_video_control
        if wants_control and len(SampleTable.of(self.splits.test).videos()[0]) > 1:
            self._answer(trainer, results, "shuffled", progress="testing with shuffled videos", shuffled_videos=True)
        if is_main_process():
            print(results.finish(title=self.config.run_name, skipped=len(self.report.skipped)))

    def _answer(self, trainer: GroundingTrainer, results: Results, name: str, **how: Any) -> None:
        """Has the test questions answered and keeps it; what was answered before a stop is not asked again."""
        data = self.config.data
        told = {  # what else they depend on is the configuration, and a run directory has one
            "ranks": trainer.args.world_size,
            "weights": [] if name == "base" else stamps(self.path / "best", "*.safetensors"),
            "rows": [stamps(file) for file in (data.annotation_file, data.val_file, data.test_file) if file],
        }
        so_far = AnswersSoFar(self.path / f"{FILES[name]}.part{trainer.args.process_index}", told)
        results.keep(name, trainer.answers(self.test, so_far=so_far, **how))
        if is_main_process():
            for part in self.path.glob(f"{FILES[name]}.part*"):  # of all ranks, also of those before a stop
                part.unlink()

    def _fit(self, trainer: GroundingTrainer) -> None:
        """Trains to the end and leaves the best weights in the model and in best/; what is done already is not redone.

        Exits where a signal asked for it: the same command goes on from the saved checkpoint.
        """
        best, checkpoint = self.path / "best", self.checkpoint
        if has_weights(best):
            log.info("training is done already: %s", best)
            trainer.load_weights(str(best))
            return
        if checkpoint is not None:
            log.info("going on from %s", checkpoint)
            trainer.go_on(checkpoint)
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else None
        if state is not None and state.global_step >= state.max_steps:  # the Trainer would take one step more
            trainer.load_weights(state.best_model_checkpoint or str(checkpoint))
        else:
            trainer.begin_interval()
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.stop.exit_code is not None:
            log.warning("stopped; start the same command again to go on")
            sys.exit(trainer.stop.exit_code)
        beside = self.path / STAGING / best.name
        with writes_to(self.path, best.name):
            trainer.save_model(str(beside))
            if is_main_process():
                put_in_place(beside, best)
                shutil.rmtree(self.path / STAGING)
                shutil.rmtree(self.path / BEST_BEFORE, ignore_errors=True)
