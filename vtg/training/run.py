"""The course of every training run: the base measured, the model trained, the best kept, the tuned model measured."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from accelerate.utils import broadcast_object_list
from transformers import TrainerState

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.config.rules import needs_mask
from vtg.config.schema import RLConfig, SFTConfig
from vtg.data.grounding_dataset import GroundingDataset, SkipReport, make_provider, read_splits
from vtg.demo.demo_dataset import ensure_demo
from vtg.evaluation.partial_answers import AnswersSoFar, stamps
from vtg.models.checkpoint import has_weights
from vtg.models.loading import base_weights, load_model, tokens_per_second
from vtg.output import read_jsonl
from vtg.report import write_report
from vtg.tasks.span_task import SpanTask
from vtg.training.checkpoint_saving import BEST_BEFORE, STAGING, explain_write_errors, rename_into_place
from vtg.training.grounding_trainer import GroundingTrainer
from vtg.training.hf_arguments import has_validation
from vtg.training.processes import is_main_process, wait_for_all
from vtg.training.row_identity import answers_match, check_rows, row_digest, row_notes
from vtg.training.run_dir import RunDir
from vtg.training.run_record import FILES, RunRecord
from vtg.training.run_results import Results, best_weights_note

log = logging.getLogger(__name__)


class TrainingRun:
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
        self.checkpoint, self.changes = run.open(config)
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.path / "tensorboard")
        if config.data.demo is not None:
            assert config.data.video_dir is not None
            ensure_demo(config.data.video_dir, config.data.demo)
        self.report = self._begin_report()
        self.splits = read_splits(config.data, seed=config.seed, report=self.report)
        self._check_rows()
        if config.model.attention == "auto" and (isinstance(config, RLConfig) or needs_mask(config)):
            config.model.attention = "sdpa"  # which takes any mask: a prompt runs once for all its completions
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

    def _check_rows(self) -> None:
        """Ends the run where its rows are no longer those it began with; remembers those of a run that begins."""
        if not is_main_process():
            return
        record = RunRecord.read(self.path)
        before = record.rows if self.checkpoint is not None else {}
        record.rows = check_rows(self.splits, before, self.config.data, run=self.path)
        record.notes = row_notes(self.splits, chooses=self._selects_best)
        record.write(self.path)
        for note in record.notes:
            log.warning("%s", note)

    @property
    def _selects_best(self) -> bool:
        """Whether the best of several weights are chosen, by validation."""
        strategies = [str(self.config.trainer.get(key, "no")) for key in ("eval_strategy", "save_strategy")]
        return has_validation(self.config) and "no" not in strategies

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

    def train_and_test(
        self, trainer: GroundingTrainer, *, continued: bool, before: Callable[[], None] | None = None
    ) -> None:
        """Measures, trains, measures again, and writes what there is to see.

        Args:
            continued: an adapter that was loaded is trained on.
            before: called once the base is measured, before training.
        """
        results = Results(self.path)
        trainer.test_sets = [self.test]
        if self.test.samples and not self._has_base(results):
            with base_weights(trainer.model, continued=continued):
                self._answer(trainer, results, "base", progress="testing the base model")
        if before is not None:
            before()
        self._fit(trainer)
        if self.test.samples:
            self._measure(trainer, results)
        elif is_main_process():
            print(f"saved {self.path / 'best'}; nothing was tested: there is no data.test_file, and no validation rows")
        trainer.stop_readers()
        if is_main_process():
            print(write_report(self.path))

    def _has_base(self, results: Results) -> bool:
        """Whether the base model has answered these very test questions before; the same on every rank."""
        has = results.has("base")
        if has and is_main_process():
            before = RunRecord.read(self.path).base
            now = self._test_rows
            if before:
                has, count = before == now, before["count"]
            else:  # a run of before it was remembered
                answers, skipped = self.path / FILES["base"], self.path / "skipped.jsonl"
                unread = len(read_jsonl(skipped)) if skipped.is_file() else 0
                has, count = answers_match(answers, self.splits.test, skipped=unread), len(read_jsonl(answers))
            if not has:
                log.warning(
                    "the test rows are not those that the base model was measured on (%d there, %d here): it is "
                    "measured again",
                    *(count, now["count"]),
                )
        (has,) = broadcast_object_list([has])
        return has

    @cached_property
    def _test_rows(self) -> dict[str, Any]:
        """What tells the test questions from others."""
        return row_digest(self.splits.test, with_ids=True)

    def _measure(self, trainer: GroundingTrainer, results: Results) -> None:
        self._answer(trainer, results, "tuned", progress="testing the tuned model")
        wants_control = self.config.evaluation.shuffled_video_control
        if wants_control and len(SampleTable.of(self.splits.test).videos()[0]) > 1:
            self._answer(trainer, results, "shuffled", progress="testing with shuffled videos", shuffled_videos=True)
        if is_main_process():
            record = RunRecord.read(self.path)
            record.notes = [*(record.trained or {}).get("said", []), *results.notes(), *record.notes]
            record.write(self.path)
            print(results.finish(title=self.config.run_name, skipped=len(self.report.skipped), notes=record.notes))

    def _answer(self, trainer: GroundingTrainer, results: Results, name: str, **how: Any) -> None:
        """Has the test questions answered and keeps it; what was answered before a stop is not asked again."""
        told = {  # what else they depend on is the configuration, and a run directory has one
            "ranks": trainer.args.world_size,
            "weights": [] if name == "base" else stamps(self.path / "best", "*.safetensors"),
            "rows": self._test_rows,
        }
        so_far = AnswersSoFar(self.path / f"{FILES[name]}.part{trainer.args.process_index}", told)
        results.keep(name, trainer.answers(self.test, so_far=so_far, **how))
        if is_main_process():
            if name == "base":
                record = RunRecord.read(self.path)
                record.base = self._test_rows
                record.write(self.path)
            for part in self.path.glob(f"{FILES[name]}.part*"):  # of all ranks, also of those before a stop
                part.unlink()

    def _is_done(self) -> bool:
        """Whether the training that the settings ask for was made; also says what settings come too late for it."""
        if not has_weights(self.path / "best"):
            return False
        record = RunRecord.read(self.path)
        length = self._length
        before = {key: self.changes[f"trainer.{key}"][0] for key in length if f"trainer.{key}" in self.changes}
        trained = record.trained or {"length": length | before, "said": []}
        if trained["length"] != length and self.checkpoint is not None:
            if record.trained is None and is_main_process():  # and is remembered, should this start be interrupted
                record.trained = trained
                record.write(self.path)
            return False
        late = [key for key in self.changes if key.startswith(("trainer.", "batching."))]
        if late:
            log.warning("training is done already, so that these change nothing: %s", ", ".join(late))
        return True

    @property
    def _length(self) -> dict[str, Any]:
        """The settings that say how long training is."""
        return {key: self.config.trainer.get(key) for key in ("max_steps", "num_train_epochs")}

    def _fit(self, trainer: GroundingTrainer) -> None:
        """Trains to the end and leaves the best weights in the model and in best/; what is done already is not redone.

        Exits where a signal asked for it: the same command goes on from the saved checkpoint.
        """
        best, checkpoint = self.path / "best", self.checkpoint
        if self._is_done():
            log.info("training is done already: %s", best)
            trainer.load_weights(str(best))
            return
        if checkpoint is not None:
            log.info("going on from %s", checkpoint)
            trainer.resume(checkpoint)
            trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        steps = trainer.resumed_steps or trainer.state.global_step
        if checkpoint is None or steps < trainer.planned_steps():  # else the Trainer would take one step more
            trainer.begin_interval()
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.stop.exit_code is not None:
            log.warning("stopped; start the same command again to go on")
            sys.exit(trainer.stop.exit_code)
        trainer.find_best()
        chosen = trainer.state.best_model_checkpoint or (str(checkpoint) if steps >= trainer.planned_steps() else None)
        if chosen is not None:
            trainer.load_weights(chosen)
        said = best_weights_note(trainer.state, warmup_steps=trainer.args.get_warmup_steps(trainer.planned_steps()))
        log.info("%s", said)
        beside = self.path / STAGING / best.name
        with explain_write_errors(self.path, best.name):
            trainer.save_model(str(beside))
            if is_main_process():
                rename_into_place(beside, best)
                record = RunRecord.read(self.path)
                record.trained = {"length": self._length, "said": [said]}
                record.write(self.path)
                shutil.rmtree(self.path / STAGING)
                shutil.rmtree(self.path / BEST_BEFORE, ignore_errors=True)
