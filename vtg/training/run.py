"""What every run does, SFT or RL: test the base model, train, choose the best weights, test the tuned model."""

import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from accelerate.utils import broadcast_object_list

from vtg.annotations.sample import Sample
from vtg.annotations.sample_table import SampleTable
from vtg.config.derived import needs_mask
from vtg.config.schema import RLConfig, SFTConfig
from vtg.data.augmentation import Augmentation
from vtg.data.grounding_dataset import GroundingDataset, make_provider
from vtg.data.splits import read_splits
from vtg.decoding.tower_output import make_tower_cache
from vtg.demo.synthetic_data import ensure_synthetic
from vtg.evaluation.input_record import input_record, write_input
from vtg.evaluation.partial_answers import PartialAnswers, stamps
from vtg.models.adapting import prepare_training, warn_of_rounding
from vtg.models.loading import Model, base_weights, load_model, tokens_per_second
from vtg.models.part_table import part_rows, part_table
from vtg.models.tower_identity import check_frozen
from vtg.ranks import is_main_process
from vtg.report import write_report
from vtg.storage.json_files import read_jsonl
from vtg.tasks.span_task import SpanTask
from vtg.tasks.time_vocabulary import time_vocabulary
from vtg.training.answer_lengths import settle_answer_lengths
from vtg.training.course import TrainingCourse, begin_report
from vtg.training.grounding_trainer import GroundingTrainer
from vtg.training.row_identity import answers_match, check_rows, row_digest, row_notes
from vtg.training.run_dir import RunDir
from vtg.training.run_record import FILES, RunRecord
from vtg.training.run_results import Results

log = logging.getLogger(__name__)


class TrainingRun:
    """One run: its directory, samples and model, and the order of what is done with them.

    Attributes:
        checkpoint: the checkpoint to resume from, None where the run starts from the base weights.
        changes: settings that differ from those of the run's last start, key → (before, now).
        model, processor: as loaded.
        time_tokens: ids of the temporal tokens, where the answer form has such.
        validation: the prompts to validate on while training, None without validation.

    Raises:
        ConfigError: for a run directory of other settings, files without rows, or a model that cannot be.
        TooManyBadRows: when more than `data.max_bad_share` of the rows cannot be used.
    """

    def __init__(self, config: SFTConfig) -> None:
        self.config = config
        self.task = SpanTask(config.task)
        run_dir = RunDir(config)
        self.path = run_dir.path
        self.checkpoint, self.changes = run_dir.open()
        # The Trainer's TensorBoard callback takes its folder from the environment alone since transformers 5.
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(self.path / "tensorboard")
        ensure_synthetic(config.data)
        self.report = begin_report(config, self.path, resumes=self.checkpoint is not None)
        self.splits = read_splits(config.data, seed=config.seed, report=self.report, takes_sets=self.task.takes_sets)
        self._check_rows()
        settle_answer_lengths(config, self.splits, self.task)
        if config.model.attention == "auto" and (
            isinstance(config, RLConfig) or needs_mask(config.batching, config.video)
        ):
            # FlashAttention takes no mask of one's own; sdpa takes any, so a prompt runs once for all its completions.
            config.model.attention = "sdpa"
        # An adapter was compared with its base by `check_model`, before ZeRO-3 parts every model that is built.
        self.model, self.processor = load_model(config.model, task=config.task, seed=config.seed, check_fit=False)
        times = time_vocabulary(self.processor.tokenizer, config.task)  # type: ignore[attr-defined]
        self.time_tokens = times.ids if times else ()
        self._provider = make_provider(config.video, self.processor)
        self._towers = make_tower_cache(config.video, self.model)
        self._tokens_per_second = tokens_per_second(self.model)
        val = self.splits.val[: config.evaluation.max_val_samples or None]
        self.validation = self.dataset(val) if config.data.has_validation else None
        self.test = self.dataset(self.splits.test)
        sizes = len(self.splits.train), len(val), len(self.splits.test)
        log.info("%d training, %d validation, %d test samples", *sizes)

    def _check_rows(self) -> None:
        """Ends a resumed run whose rows are no longer those it began with; records those of a run that begins."""
        if not is_main_process():
            return
        with RunRecord.update(self.path) as record:
            before = record.rows if self.checkpoint is not None else {}
            record.rows = check_rows(self.splits, before, self.config.data, run=self.path)
            record.notes = row_notes(self.splits, chooses=self._selects_best)
        for note in record.notes:
            log.warning("%s", note)

    @property
    def _selects_best(self) -> bool:
        """Whether the best of several weights are chosen, by validation."""
        strategies = [str(self.config.trainer.get(key, "no")) for key in ("eval_strategy", "save_strategy")]
        return self.config.data.has_validation and "no" not in strategies

    def dataset(
        self, samples: Sequence[Sample], *, training: bool = False, answers: bool = True, keep_clips: bool = False
    ) -> GroundingDataset:
        """The samples as model input; see `GroundingDataset`."""
        return GroundingDataset(
            samples,
            task=self.task,
            processor=self.processor,
            provider=self._provider,
            video_dir=self.config.data.video_dir,  # of a mixture None: its rows name whole paths
            max_length=self.config.model.max_length,
            tokens_per_second=self._tokens_per_second,
            training=training,
            answers=answers,
            keep_clips=keep_clips,
            augmentation=Augmentation.of(self.config, self.processor) if training else None,
            towers=self._towers,
            clips_recur=training and bool(self.config.batching.share_video),
            seed=self.config.seed,
        )

    def model_to_train(self, learning_rate: float) -> Model:
        """The model with what is trained of it set, after its table is logged; `learning_rate`: the Trainer's."""
        config = self.config
        model = prepare_training(self.model, config.parts, config.lora, time_tokens=self.time_tokens)
        if self._towers is not None:
            check_frozen(model)
        warn_of_rounding(model, keeps_float32=config.deepspeed.is_on)
        rows = part_rows(model, config.parts, learning_rate, time_tokens=len(self.time_tokens))
        log.info("what is trained:\n%s", part_table(rows))
        return model

    def train_and_test(
        self, trainer: GroundingTrainer, *, continued: bool, before: Callable[[], None] | None = None
    ) -> None:
        """Tests the base model, trains, tests the tuned model, and writes metrics, picture and report.

        Args:
            continued: training starts from a loaded adapter.
            before: called once the base is tested, before training.
        """
        results = Results(self.path)
        trainer.test_sets = [self.test]
        if self.test.samples and not self._has_base_answers(results):
            with base_weights(trainer.model, continued=continued):
                self._answer(trainer, results, "base", progress="testing the base model")
        if before is not None:
            before()
        course = TrainingCourse(self.config, self.path, checkpoint=self.checkpoint, changes=self.changes)
        course.train(trainer)
        if self.test.samples:
            self._test_tuned(trainer, results)
        elif is_main_process():
            print(f"saved {self.path / 'best'}; nothing was tested: there is no data.test_file, and no validation rows")
        trainer.stop_readers()
        if is_main_process():
            print(write_report(self.path, frames=self.config.evaluation.report_frames))

    def _has_base_answers(self, results: Results) -> bool:
        """Whether the base model has answered these very test questions before; the same on every rank."""
        has = results.has("base")
        if has and is_main_process():
            before = RunRecord.read(self.path).base
            now = self._test_rows
            if before:
                has, count = before == now, before["count"]
            else:  # the run began before run.json recorded the rows of its test
                answers, skipped = self.path / FILES["base"], self.path / "skipped.jsonl"
                unread = len(read_jsonl(skipped)) if skipped.is_file() else 0
                has, count = answers_match(answers, self.splits.test, skipped=unread), len(read_jsonl(answers))
            if not has:
                log.warning(
                    "the test rows are not those that the base model was measured on (%d there, %d here): it is "
                    "measured again",
                    *(count, now["count"]),
                )
        # Ranks that saw the shared folder at different moments would otherwise part ways, and wait for each other.
        (has,) = broadcast_object_list([has])
        return has

    @cached_property
    def _test_rows(self) -> dict[str, Any]:
        """Count and digest of the test questions."""
        return row_digest(self.splits.test, with_ids=True)

    def _test_tuned(self, trainer: GroundingTrainer, results: Results) -> None:
        """Answers and scores of the tuned model, and of the control with shuffled videos."""
        self._answer(trainer, results, "tuned", progress="testing the tuned model")
        wants_control = self.config.evaluation.shuffled_video_control
        # With one video there is no other to show instead.
        if wants_control and len(SampleTable.of(self.splits.test).videos()[0]) > 1:
            self._answer(trainer, results, "shuffled", progress="testing with shuffled videos", shuffled_videos=True)
        if is_main_process():
            with RunRecord.update(self.path) as record:
                record.notes = [*(record.trained or {}).get("said", []), *results.notes(), *record.notes]
            shown = input_record(self.config.video, self.config.task, checkpoint=str(self.path))
            write_input(self.path, shown | {"max_new_tokens": self.config.evaluation.max_new_tokens})
            print(results.finish(title=self.config.run_name, skipped=len(self.report.skipped), notes=record.notes))

    def _answer(self, trainer: GroundingTrainer, results: Results, name: str, **options: Any) -> None:
        """Answers the test questions and keeps the answers as `name`; resumes after those of an interrupted start."""
        answers_of = {  # what else they depend on is the configuration, and a run directory has one
            "ranks": trainer.args.world_size,
            "weights": [] if name == "base" else stamps(self.path / "best", "*.safetensors"),
            "rows": self._test_rows,
        }
        partial = PartialAnswers(self.path / f"{FILES[name]}.part{trainer.args.process_index}", answers_of)
        results.keep(name, trainer.answers(self.test, partial_answers=partial, **options))
        if is_main_process():
            if name == "base":
                with RunRecord.update(self.path) as record:
                    record.base = self._test_rows
            for part in self.path.glob(f"{FILES[name]}.part*"):  # of all ranks, also of a former, larger world size
                part.unlink()
