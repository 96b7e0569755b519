"""Training a predictor of latents: from checked settings to the table of its errors beside those of the baselines."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import TrainingArguments

from vtg.annotations.sample import Sample
from vtg.config.latents_schema import LatentsConfig
from vtg.data.splits import Splits, read_splits
from vtg.demo.synthetic_data import ensure_synthetic
from vtg.latents.clip_reading import ClipReader
from vtg.latents.encoders.encoder_parts import parameter_table
from vtg.latents.future_clips import FutureReader
from vtg.latents.future_model import FutureModel
from vtg.latents.latent_cache import make_latent_cache
from vtg.latents.latent_run import LatentSettings, check_encoder
from vtg.latents.latents import Latents
from vtg.logs import start_logging
from vtg.progress_bar import ProgressBar
from vtg.ranks import is_main_process
from vtg.report import write_report
from vtg.training.course import TrainingCourse, begin_report
from vtg.training.hf_arguments import training_arguments
from vtg.training.latents.clip_batches import ClipBatches, StepShape
from vtg.training.latents.clip_dataset import ClipDataset
from vtg.training.latents.latent_results import LatentResults
from vtg.training.latents.latent_trainer import LatentTrainer
from vtg.training.latents.new_model import make_model
from vtg.training.latents.shown_futures import write_shown_futures
from vtg.training.part_rates import PartRates
from vtg.training.row_identity import check_rows, row_notes
from vtg.training.run_dir import RunDir
from vtg.training.run_record import RunRecord
from vtg.training.run_trainer import StepParts

log = logging.getLogger(__name__)

MEASURED_CLIPS = 512
"""Training clips whose latents say what mean and standard deviation each channel has."""


def train(config: LatentsConfig) -> None:
    """One run of `train_latents.py`.

    Raises:
        ConfigError: for settings or rows that cannot be, or an encoder that is not the run's.
        TooManyBadRows: when more than `data.max_bad_share` of the rows cannot be used.
    """
    start_logging()
    arguments = training_arguments(config, best=("l2", False))
    model, saved = make_model(config, arguments)
    log.info("what is trained:\n%s", parameter_table({"encoder": model.encoder, "predictor": model.predictor}))
    LatentRun(config, arguments, model, saved).train_and_test()


class LatentRun:
    """One run: its directory and clips, and the order of what is done with them."""

    def __init__(
        self, config: LatentsConfig, arguments: TrainingArguments, model: FutureModel, saved: LatentSettings
    ) -> None:
        self.config, self.arguments, self.model, self.saved = config, arguments, model, saved
        run_dir = RunDir(config)
        self.path = run_dir.path
        self.checkpoint, self.changes = run_dir.open()
        # Before rows are read, which may take minutes: nothing of this run could be of use with another encoder.
        if self.checkpoint is not None:
            check_encoder(model.encoder, LatentSettings.read(self.checkpoint).identity, self.checkpoint)
        # The Trainer's TensorBoard callback takes its folder from the environment alone since transformers 5.
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(self.path / "tensorboard")
        ensure_synthetic(config.data)
        self.report = begin_report(config, self.path, resumes=self.checkpoint is not None)
        self.splits = read_splits(config.data, seed=config.seed, report=self.report)
        if is_main_process():
            record_rows(config, self.splits, self.path, resumes=self.checkpoint is not None)
        self.reader = FutureReader(
            ClipReader(config.clips, frame_size_px=model.encoder.frame_size_px),
            make_latent_cache(config.clips, model.encoder),
            context_s=config.future.context_s,
            identity=model.encoder.identity,
        )
        self.train_set = self.dataset(self.splits.train, training=True)
        self.validation = self.dataset(self.splits.val) if config.data.has_validation else None
        self.test = self.dataset(self.splits.test)
        sizes = len(self.train_set), len(self.validation or ()), len(self.test)
        log.info("%d training, %d validation, %d test clips", *sizes)

    def dataset(self, samples: Sequence[Sample], *, training: bool = False) -> ClipDataset:
        """The clips of samples; see `ClipDataset`."""
        return ClipDataset(
            samples,
            reader=self.reader,
            video_dir=self.config.data.video_dir,
            training=training,
            seed=self.config.seed,
        )

    def train_and_test(self) -> None:
        """Trains, predicts the test clips, and writes metrics, errors and report."""
        trainer = self.trainer()
        # A checkpoint brings its own: clips that were added since must not change what its weights are used to.
        if self.checkpoint is None:
            with torch.no_grad():  # an encoder that is trained would give them gradients
                self.model.predictor.normalizer.measure(self._measured())
        course = TrainingCourse(self.config, self.path, checkpoint=self.checkpoint, changes=self.changes)
        course.train(trainer)
        if len(self.test):
            predictor = self.config.predictor
            found = trainer.errors(self.test, "testing", draws=predictor.samples if predictor.kind == "flow" else 0)
            if is_main_process():
                results = LatentResults(self.path, self.test, found, bin_s=self.config.future.horizon_s)
                write_shown_futures(self.path, self.model, self.test)
                print(results.write(notes=RunRecord.read(self.path).notes, skipped=len(self.report.skipped)))
        elif is_main_process():
            print(f"saved {self.path / 'best'}; nothing was tested: there is no data.test_file, and no validation rows")
        if is_main_process():
            print(write_report(self.path))

    def trainer(self) -> LatentTrainer:
        """The trainer of this run."""
        arguments, config = self.arguments, self.config
        shape = StepShape(
            arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps, arguments.world_size
        )
        return LatentTrainer(
            model=self.model,
            args=arguments,
            train_dataset=self.train_set,
            eval_dataset=self.validation,
            parts=StepParts(
                on_nan=config.on_nan,
                checkpointing="none",  # refused by the settings
                remedies=remedies(config),
                # None of their own: encoder and predictor learn at the Trainer's rate.
                own_rates=PartRates(lambda model: {}, {}, {}),
                report=self.report,
            ),
            batches=ClipBatches(self.train_set, shape, rank=arguments.process_index, seed=config.seed),
            saved=self.saved,
            batch_size=config.future.batch_size,
        )

    def _measured(self) -> Iterator[Latents]:
        """Latents of the first training clips, this rank's part of them."""
        # Each rank a part: moments of parts add up to those of the whole, exactly.
        own = range(self.arguments.process_index, min(MEASURED_CLIPS, len(self.train_set)), self.arguments.world_size)
        with ProgressBar(len(own), title="measuring latents", unit="clip") as bar:
            for at in own:
                item = self.train_set[at]
                self.report.add([] if item.skipped is None else [item.skipped])
                if item.found is not None:
                    latents = self.model.encoded([item.found], self.reader)
                    yield from (latents.context, latents.target)
                bar.update()


def record_rows(config: LatentsConfig, splits: Splits, path: Path, *, resumes: bool) -> None:
    """Ends a resumed run whose rows are no longer those it began with; records those of a run that begins."""
    with RunRecord.update(path) as record:
        record.rows = check_rows(splits, record.rows if resumes else {}, config.data, run=path)
        record.notes = row_notes(splits, chooses=config.data.has_validation)
    for note in record.notes:
        log.warning("%s", note)


def remedies(config: LatentsConfig) -> list[str]:
    """What lowers the memory of a training step, the least harm first."""
    size, count = config.trainer.get("per_device_train_batch_size"), config.trainer.get("gradient_accumulation_steps")
    return [
        f"trainer.per_device_train_batch_size = {size}; raise trainer.gradient_accumulation_steps = {count} as much",
        "predictor.attention=factorised, where the grid of latents is large",
        f"clips.n_frames = {config.clips.n_frames}, or encoder.frame_size",
    ]
