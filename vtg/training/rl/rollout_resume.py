"""What a GRPO checkpoint holds besides the weights, so that a run resumes in the middle of a rollout."""

import json
import logging
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from vtg.decoding.prompt_sequence import Prompt
from vtg.ranks import is_main_process
from vtg.storage.json_files import write_json
from vtg.training.progress import TrainLog
from vtg.training.rl.completions import (
    drop_completions,
    set_completions_aside,
)
from vtg.training.rl.curriculum import IoURecord, Plateau
from vtg.training.rl.prompt_batches import PromptBatches
from vtg.training.rl.rollout_batch import SampledRollout, SavedRollout
from vtg.training.rl.rollout_sampling import RolloutSampling
from vtg.training.rl.rollouts import Rollout, RolloutState

log = logging.getLogger(__name__)

STATE_FILE = "rollouts.json"
RECORD_FILE = "curriculum.json"
"""In every checkpoint: where the stream of prompts is, and the IoU of every sample so far."""


class ResumableRollouts(RolloutSampling):
    """The part of `VideoGRPOTrainer` that saves and restores the stream of prompts and the rollout in training."""

    train_log: TrainLog
    prompt_batches: PromptBatches
    has_max_steps: bool
    _sampled: SampledRollout | None
    _saved: SavedRollout | None
    """A rollout of the checkpoint, until its prompts come out of the loader."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint's README would be about TRL."""

    def save_extra(self, checkpoint: Path) -> None:
        """Writes the position in the stream of prompts, the rollout being trained on, and the IoU of every sample."""
        # micro_steps is 0 between rollouts: then there is nothing sampled that is still to be trained on.
        if self.loader.state.micro_steps and self._sampled is not None:
            save_file(self._sampled.saved(), checkpoint / self._rollout_file)
        drawn: dict[str, dict[str, int]] = {}
        if self.drawn is not None:
            done = self.drawn.total(
                self.accelerator, without=self.drawn_last if self.loader.state.micro_steps else None
            )
            drawn = {"drawn": self.drawn.total(self.accelerator), "drawn_done": done}
        if is_main_process():
            self.record.write(checkpoint / RECORD_FILE)
            state = {"loader": asdict(self.loader.state), "plateau": self.plateau.state()}
            state |= {"batches": asdict(self.prompt_batches), **drawn}
            write_json(
                checkpoint / STATE_FILE, state | {"log_lines": self.train_log.lines, "ranks": self.args.world_size}
            )

    def resume(self, checkpoint: Path) -> None:
        """Prepares to resume from a checkpoint: in the middle of its rollout, or, where the world size or the batches
        differ from its own, after the last rollout that was trained to its end.
        """
        state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        ranks, step = state["ranks"], int(checkpoint.name.rpartition("-")[2])
        size = self.prompt_batches
        before = PromptBatches(**state["batches"]) if "batches" in state else size
        planner: Any = self.loader.plan
        planned = partial(planner, size=before) if before != size else None
        self.loader.resume(RolloutState(**state["loader"]), ranks=ranks, plan=planned)
        self.plateau = Plateau.load(state["plateau"], self.curriculum)
        saved = IoURecord.read(checkpoint / RECORD_FILE, self.prompts.samples)
        # In place: the loader's `choose` holds this very record.
        self.record.iou, self.record.met, self.record.step = saved.iou, saved.met, saved.step
        self.train_log.lines = state["log_lines"]
        if is_main_process():
            drop_completions(Path(str(self.args.output_dir)), after=step)
        # A saved rollout is one rank's share of one plan: with another world size or batches it fits no rank.
        is_anew = ranks != self.args.world_size or before != size
        if self.drawn is not None and is_main_process():  # a total of all ranks
            # The rollout in training is drawn again where it is planned again.
            self.drawn.add(Counter(state.get("drawn_done" if is_anew else "drawn", {})))
        if is_anew:
            self._recount_steps(checkpoint, step, ranks)
        elif (checkpoint / self._rollout_file).is_file():
            saved_rollout = load_file(checkpoint / self._rollout_file)
            self._saved = SavedRollout({key: value.to(self.args.device) for key, value in saved_rollout.items()})

    def planned_steps(self) -> int:
        return self.args.max_steps

    def _recount_steps(self, checkpoint: Path, step: int, ranks: int) -> None:
        """Recounts the steps done where the world size or the batches changed, since a pass now takes more or fewer."""
        planned = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).max_steps
        # max_steps that the user set is a budget of optimizer steps: those done stay done, whatever a pass takes now.
        steps = step if self.has_max_steps else round(step * self.args.max_steps / planned)
        log.info("%d ranks go on from %d: step %d of %d", self.args.world_size, ranks, steps, self.args.max_steps)
        self.recount_steps(checkpoint, steps)
        if is_main_process():
            set_completions_aside(Path(str(self.args.output_dir)), since=steps, folder=f"on_{ranks}_ranks")

    @property
    def _rollout_file(self) -> str:
        return f"rollout_{self.args.process_index}.safetensors"

    def _restored(self, rollout: Rollout) -> SampledRollout:
        """The rollout that the checkpoint was saved in the middle of, its prompts encoded again."""
        saved, self._saved = self._saved, None
        assert saved is not None
        # Resampled prompts are not in the planned rollout, whose clips are decoded already: only they are read again.
        decoded = {
            index: item
            for batch, items in zip(rollout.indices, rollout.items, strict=True)
            for index, item in zip(batch, items, strict=True)
        }

        def prompts(indices: list[int]) -> list[Prompt]:
            items = [decoded.get(index) or self.prompts[index] for index in indices]
            durations_s = [item.sample.duration_s for item in items]
            return self.policy.prompts([item.features for item in items], durations_s)

        restored = saved.with_prompts(list(map(len, rollout.indices)), prompts, self.num_generations)
        self._count_sources(rollout, restored)  # of which the totals of the checkpoint hold it already
        return restored
