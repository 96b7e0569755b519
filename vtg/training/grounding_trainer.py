"""What the SFT and GRPO trainers share: evaluation by generation, scored in temporal IoU."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import EarlyStoppingCallback, TrainingArguments

from vtg.data.grounding_dataset import GroundingDataset
from vtg.evaluation.generate import predict
from vtg.evaluation.partial_answers import PartialAnswers
from vtg.evaluation.question_reader import QuestionReader
from vtg.evaluation.source_scores import by_source
from vtg.evaluation.task_scores import compared_by, score
from vtg.models.checkpoint import save_settings
from vtg.ranks import is_main_process
from vtg.tasks.task import flat_metrics
from vtg.training.best_weights import choose_by
from vtg.training.guard import answering_remedies, out_of_memory
from vtg.training.mixture_record import DrawnSources
from vtg.training.run_trainer import RunTrainer
from vtg.training.trainer_parts import TrainerParts


class GroundingTrainer(RunTrainer):
    """A Trainer that evaluates by greedy answers, scored in temporal IoU.

    Attributes:
        parts: what the run gives it.
        drawn: counts what is trained on of each source of a mixture.
        test_sets: data sets that will be answered beside the validation set.
    """

    parts: TrainerParts
    test_sets: Sequence[GroundingDataset] = ()
    drawn: DrawnSources | None = None
    _reader: QuestionReader | None = None

    def __init__(self, *, args: TrainingArguments, parts: TrainerParts, **kwargs: Any) -> None:
        choose_by(args, kwargs.get("eval_dataset"))
        super().__init__(args=args, parts=parts, **kwargs)
        if parts.evaluation.early_stopping_patience and self.eval_dataset is not None:
            self.add_callback(EarlyStoppingCallback(parts.evaluation.early_stopping_patience))

    def begin_interval(self) -> None:
        """Starts the clock and counts of the next log entry, those of the clips that were read among them."""
        super().begin_interval()
        for dataset in (self.train_dataset, self.eval_dataset):
            if isinstance(dataset, GroundingDataset):
                dataset.take_counts()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs, with what was drawn of the sources of a mixture beside a training loss."""
        if self.drawn is not None and ("loss" in logs or "train_loss" in logs):
            logs |= self.drawn.logged(self.accelerator)
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Answers to the validation samples by generation, scored in temporal IoU and by the metrics of other tasks."""
        began_s = time.monotonic()
        rows = self.answers(eval_dataset or self.eval_dataset, progress="validating")  # type: ignore[arg-type]
        metrics = {f"{metric_key_prefix}_{key}": float(value) for key, value in flat_metrics(score(rows)).items()}
        for name, own in by_source(rows).items():
            compared, value = compared_by(score(own))
            metrics[f"{metric_key_prefix}_{compared}/{name}"] = value
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        # The time of training before this evaluation still belongs to the next log entry.
        training_s = began_s - self.interval_s
        self.begin_interval()
        self.interval_s -= training_s
        return metrics

    def answers(
        self,
        dataset: GroundingDataset,
        *,
        progress: str,
        shuffled_videos: bool = False,
        partial_answers: PartialAnswers | None = None,
    ) -> list[dict[str, Any]]:
        """Prediction rows for all samples that can be read, in their order; ranks share the work, and all get the rows.

        Args:
            progress: title of the progress bar, and of an error.
            shuffled_videos: each question is asked about another's video.
            partial_answers: what this rank answered before the run was stopped.
        """
        room = self.parts.evaluation.max_new_tokens
        assert room is not None  # `settle_answer_lengths` has set it
        try:
            with self.whole_model() as model:
                rows, skipped = predict(
                    model,
                    dataset,
                    batch_size=self.parts.evaluation.batch_size,
                    max_new_tokens=room,
                    reader=self._reader_of(dataset),
                    rank=self.args.process_index,
                    world_size=self.args.world_size,
                    shuffled_videos=shuffled_videos,
                    progress=progress if is_main_process() else None,
                    partial_answers=partial_answers,
                )
        except torch.OutOfMemoryError as error:
            remedies = answering_remedies(self.parts.evaluation, self.parts.saved.video)
            raise out_of_memory(error, f"{progress}, by generation", remedies) from error
        if self.args.world_size > 1:
            rows = dict(gather_object(list(rows.items())))
            skipped = gather_object(skipped)
        self.parts.report.add(skipped)
        return [rows[index] for index in sorted(rows)]

    def _reader_of(self, dataset: GroundingDataset) -> QuestionReader:
        """The reader of all evaluations of a run."""
        # One, whose worker processes stay: training would wait for new ones at every validation.
        if self._reader is None or not any(dataset is known for known in self._reader.datasets):
            others = [known for known in (self.eval_dataset, *self.test_sets) if isinstance(known, GroundingDataset)]
            known = {id(each): each for each in (*others, dataset)}
            self._reader = QuestionReader(known.values(), num_workers=self.args.dataloader_num_workers)
        return self._reader

    def stop_readers(self) -> None:
        """Ends the processes that read prompts; a later evaluation would start them again."""
        self._reader = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the weights and, beside them, the settings of video and prompt that they were trained with."""
        super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            folder = output_dir or str(self.args.output_dir)
            # A model saves its own; beside an adapter PEFT leaves it out.
            plain: Any = self.accelerator.unwrap_model(self.model)
            plain.generation_config.save_pretrained(folder)
            save_settings(self.parts.saved, folder)
