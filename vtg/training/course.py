"""Training to its end, once: it resumes, chooses the best weights, and leaves them in the model and in best/."""

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerState

from vtg.config.schema import RunConfig
from vtg.data.skip_report import SkipReport
from vtg.models.checkpoint import has_weights
from vtg.ranks import is_main_process
from vtg.training.best_weights import best_weights_note
from vtg.training.checkpoint_saving import BEST_BEFORE, STAGING, explain_write_errors, rename_into_place
from vtg.training.processes import wait_for_all
from vtg.training.run_dir import Changes
from vtg.training.run_record import RunRecord
from vtg.training.run_trainer import RunTrainer

log = logging.getLogger(__name__)


def begin_report(config: RunConfig, path: Path, *, resumes: bool) -> SkipReport:
    """The report of skipped rows of a run in `path`; the main process begins its file before the others open it."""
    is_begun = not is_main_process()
    # Beginning the file may empty it: a rank that came first would lose what it had written.
    if is_begun:
        wait_for_all()
    report = SkipReport(
        path / "skipped.jsonl", max_bad_share=config.data.max_bad_share, resumes=resumes, is_begun=is_begun
    )
    if not is_begun:
        wait_for_all()
    return report


class TrainingCourse:
    """The training of a run, from where its directory stands to the end that the settings ask for.

    Args:
        path: the run directory.
        checkpoint: the checkpoint to resume from, None where the run starts from the beginning.
        changes: settings that differ from those of the run's last start.
    """

    def __init__(self, config: RunConfig, path: Path, *, checkpoint: Path | None, changes: Changes) -> None:
        self.config, self.path, self.checkpoint, self.changes = config, path, checkpoint, changes

    def _is_done(self) -> bool:
        """Whether training has come to the end that the settings ask for; warns of settings that come too late."""
        if not has_weights(self.path / "best"):
            return False
        record = RunRecord.read(self.path)
        length = self._length
        before = {key: self.changes[f"trainer.{key}"][0] for key in length if f"trainer.{key}" in self.changes}
        trained = record.trained or {"length": length | before, "said": []}
        if trained["length"] != length and self.checkpoint is not None:
            # The length that was trained is known from this start's changes alone; the next start sees none.
            if record.trained is None and is_main_process():
                with RunRecord.update(self.path) as record:
                    record.trained = trained
            return False
        late = [key for key in self.changes if key.startswith(("trainer.", "batching."))]
        if late:
            log.warning("training is done already, so that these change nothing: %s", ", ".join(late))
        return True

    @property
    def _length(self) -> dict[str, Any]:
        """The settings that say how long training is."""
        return {key: self.config.trainer.get(key) for key in ("max_steps", "num_train_epochs")}

    def train(self, trainer: RunTrainer) -> None:
        """Trains to the end and leaves the best weights in the model and in best/; does nothing where that is done.

        Exits where a signal asked for it: the same command resumes from the saved checkpoint.
        """
        best = self.path / "best"
        if self._is_done():
            log.info("training is done already: %s", best)
            trainer.load_weights(str(best))
            return
        steps = self._train_steps(trainer)
        if trainer.stop.exit_code is not None:
            log.warning("stopped; start the same command again to go on")
            sys.exit(trainer.stop.exit_code)
        trainer.find_best()
        is_complete = steps >= trainer.planned_steps()
        chosen = trainer.state.best_model_checkpoint or (str(self.checkpoint) if is_complete else None)
        if chosen is not None:  # else the last weights, which are in the model
            trainer.load_weights(chosen)
        warmup = trainer.args.get_warmup_steps(trainer.planned_steps())
        note = best_weights_note(trainer.state, trainer.args, warmup_steps=warmup)
        log.info("%s", note)
        self._save_best(trainer, best, note)

    def _train_steps(self, trainer: RunTrainer) -> int:
        """Trains the steps that are left; returns how many were done before."""
        checkpoint = self.checkpoint
        if checkpoint is not None:
            log.info("going on from %s", checkpoint)
            trainer.resume(checkpoint)
            trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        done = trainer.resumed_steps or trainer.state.global_step
        # From a checkpoint of the last step the Trainer would take one step more.
        if checkpoint is None or done < trainer.planned_steps():
            trainer.begin_interval()
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return done

    def _save_best(self, trainer: RunTrainer, best: Path, note: str) -> None:
        """Writes the model as best/, whole or not at all, and records that training is done; every rank calls it."""
        staging = self.path / STAGING / best.name
        with explain_write_errors(self.path, best.name):
            trainer.save_model(str(staging))
            if is_main_process():
                rename_into_place(staging, best)
                # Only now: a record of a training without its weights would end every later start at once.
                with RunRecord.update(self.path) as record:
                    record.trained = {"length": self._length, "said": [note]}
                shutil.rmtree(self.path / STAGING)
                shutil.rmtree(self.path / BEST_BEFORE, ignore_errors=True)
