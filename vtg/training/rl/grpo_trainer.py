"""TRL's GRPOTrainer, with the video in every forward and every prompt run once for all of its completions.

TRL's own: losses, clipping, KL, advantages, schedules, logging, all options. Here: where prompts and clips come from
(`RolloutLoader`), how completions are sampled (`ENGINES`) and how log-probs are computed (`Policy`), and that a
rollout's prompts stay whole, so that the completions of one share its forward.
"""

import copy
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from peft import PeftModel
from transformers import Trainer, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig

from vtg.annotations.sample_table import SampleTable
from vtg.batching import Mixture
from vtg.config.rl_settings import CurriculumConfig, RolloutConfig
from vtg.data.encoding import vision_token_ids
from vtg.data.grounding_dataset import GroundingDataset
from vtg.decoding.constrained import Constraint
from vtg.errors import ConfigError
from vtg.models.fused_adapters import fuse_adapters
from vtg.models.routing import Routers
from vtg.models.time_tokens import copy_rows, share_rows
from vtg.tasks.time_vocabulary import time_vocabulary
from vtg.training.batch_log import BatchSizes
from vtg.training.grounding_trainer import GroundingTrainer
from vtg.training.guard import StepBatch
from vtg.training.mixture_record import DrawnSources
from vtg.training.rl.curriculum import IoURecord, Plateau
from vtg.training.rl.engines import ENGINES
from vtg.training.rl.policy import Policy
from vtg.training.rl.prompt_batches import PromptBatches, PromptCosts
from vtg.training.rl.rewards.mixture import Term
from vtg.training.rl.rewards.trl_functions import TaskReward, reward_functions
from vtg.training.rl.rollout_batch import MicroBatch, SampledRollout, SavedRollout
from vtg.training.rl.rollout_resume import ResumableRollouts
from vtg.training.rl.rollouts import MicroStep, Rollout, RolloutLoader

CHECKED_TRL = ("1.16",)
"""Versions of TRL whose trainer this subclass was read against and tested with."""

PER_BATCH_LOSSES = ("grpo", "sapo", "bnpo", "dr_grpo", "luspo")
"""TRL's losses that are a mean over the rows of each micro-batch."""


def check_trl() -> None:
    """Raises ConfigError on a TRL that this trainer was not checked with."""
    if not trl.__version__.startswith(tuple(f"{version}." for version in CHECKED_TRL)):
        checked = " or ".join(f"{version}.*" for version in CHECKED_TRL)
        raise ConfigError(
            f"trl {trl.__version__} is installed, but video GRPO was checked with {checked} alone: another version may "
            f"compute its loss without the video, and say nothing; pip install 'trl=={CHECKED_TRL[-1]}.*'"
        )


class VideoGRPOTrainer(ResumableRollouts):
    """GRPO for prompts with a video: the optimizer step, its logging and the wiring of the parts.

    Args:
        model: a plain Qwen-VL model or a PeftModel on one.
        shares_prompts: a prompt runs once for all of its completions.
        prompt_batches: what a micro-batch may hold, which a checkpoint records.
        has_max_steps: `trainer.max_steps` was set, a budget that another world size does not change.
        train_dataset: prompts without answers (`GroundingDataset(answers=False)`).
        loader: this rank's stream of prompts.
        costs: of each of the samples, as the loader's plan counts them.
        terms: the rewards and their weights.
        mixture: that the prompts are drawn from, where they are of several sources.

    Raises:
        ConfigError: for a version of TRL that was not checked.
    """

    private_names_of = GroundingTrainer.private_names_of | {"trl"}

    def __init__(
        self,
        *,
        model: Any,
        args: GRPOConfig,
        rollout: RolloutConfig,
        curriculum: CurriculumConfig,
        shares_prompts: bool,
        prompt_batches: PromptBatches,
        has_max_steps: bool,
        train_dataset: GroundingDataset,
        loader: RolloutLoader,
        costs: PromptCosts,
        terms: Sequence[Term],
        record: IoURecord,
        mixture: Mixture | None = None,
        **kwargs: Any,
    ) -> None:
        check_trl()
        self.prompts, self.loader, self.costs, self.record = train_dataset, loader, costs, record
        self.drawn = None if mixture is None else DrawnSources(mixture, Path(str(args.output_dir)))
        self.drawn_last = Counter()
        self.rollout_settings, self.curriculum = rollout, curriculum
        self.prompt_batches, self.has_max_steps = prompt_batches, has_max_steps
        rewarded: list[Any] = list(reward_functions(terms, train_dataset.task))
        args.reward_weights = [term.weight for term in terms]
        if SampleTable.of(train_dataset.samples).of_other_tasks().any():
            # As heavy as the terms together, so that the rewards of all tasks are of one size.
            rewarded.append(TaskReward(train_dataset.tasks))
            args.reward_weights.append(sum(abs(term.weight) for term in terms))
        given: dict[str, Any] = args.generation_kwargs or {}  # type: ignore[assignment]
        # A sampled vision token would be taken for a frame in the next forward.
        never = {*vision_token_ids(kwargs["processing_class"]), *(given.get("suppress_tokens") or ())}
        args.generation_kwargs = given | {"suppress_tokens": sorted(never)}
        # TRL refuses any other type, and reads nothing of it: `get_train_dataloader` is ours (docs/decisions.md).
        placeholder = Dataset.from_dict({"prompt": [""]})
        adapter_weights = [(one, one.data) for one in model.parameters() if one.requires_grad]
        checkpointing: Any = copy.copy(args.gradient_checkpointing_kwargs)
        super().__init__(model=model, args=args, reward_funcs=rewarded, train_dataset=placeholder, **kwargs)
        # TRL makes it reentrant for PEFT under ZeRO-3, as DeepSpeed before 0.19.8 needed it. Adapters of the vision
        # tower, whose inputs need no gradient, would then get none, and nothing would say so.
        args.gradient_checkpointing_kwargs = checkpointing
        # TRL rounds the adapter of a quantized model to bfloat16, in which a step of 1e-5 on a weight of 0.01 is lost,
        # and which PEFT makes float32 again in a run that resumes.
        for parameter, weight in adapter_weights:
            if parameter.dtype != weight.dtype:
                parameter.data = weight
        copy_rows(self.model, "ref")
        fuse_adapters(self.model)  # of the adapter `ref` too
        times = time_vocabulary(kwargs["processing_class"].tokenizer, train_dataset.task.config)
        # Under DeepSpeed no row was added: vtg.training.model_check refuses that, for its parameters are shared out.
        if times is not None and self.ref_model is not None and not args.deepspeed:
            share_rows(self.model, self.accelerator.unwrap_model(self.ref_model), times.ids)
        self.policy = Policy(
            self.model,
            self.ref_model,
            accelerator=self.accelerator,
            args=args,
            pad_token_id=self.pad_token_id,
            shares=shares_prompts,
            constraint=Constraint.of(train_dataset.task, kwargs["processing_class"]),
            towers=train_dataset.towers,
        )
        if self.aux_loss_enabled:
            self.policy.routers = Routers(self.policy.plain)
        self.engine = ENGINES[rollout.engine](self)
        # To TRL this means: the engine gives log-probs of its own, so importance sampling must correct for them.
        self.use_vllm = self.engine.own_model
        self._sampled: SampledRollout | None = None
        self._saved: SavedRollout | None = None
        self._rollout_logged = False
        self._check_after: float | None = None
        self._sampled_of: Rollout | None = None
        self._current_batches: list[MicroBatch] = []
        self._window: list[MicroStep] = []
        self.sizes = BatchSizes()
        self._scores: dict[str, Any] = {}
        self.means: defaultdict[str, list[float]] = defaultdict(list)  # of what is logged, since the last entry
        self.begin_interval()
        self.plateau = Plateau(curriculum)
        self.add_callback(StreamPosition(self))
        if isinstance(self.model, PeftModel):
            # TRL keeps the reference policy as a second adapter, rebuilt at each start: it would double a checkpoint.
            adapter: Any = self.model
            adapter.save_pretrained = partial(adapter.save_pretrained, selected_adapters=["default"])

    # What TRL and the Trainer call, in the order of a step.

    def get_train_dataloader(self) -> Any:
        """The stream of this rank. It holds its own share already, so accelerate must not shard it."""
        return self.loader

    def train(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().train(*args, **kwargs)
        finally:
            self.loader.end()  # the stream is endless: its workers would decode on through the last evaluation

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, None]:
        """The micro-steps of the next optimizer step."""
        self._window = [next(epoch_iterator) for _ in range(num_batches)]
        return self._window, None

    def step_batch(self, inputs: MicroStep) -> StepBatch:
        rows = tuple(item.row for item in inputs.rollout.items[inputs.at])
        times = 1 if self.policy.shares else self.num_generations
        completions = len(rows) * self.num_generations * (self.args.max_completion_length or 0)
        return StepBatch(rows, times * sum(row.tokens for row in rows) + completions)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """A MicroStep → the tensors of its loss. A rollout is sampled and scored at its first micro-step."""
        if not isinstance(generation_batch, MicroStep):
            return super()._prepare_inputs(generation_batch)  # not of our loader
        step = generation_batch
        if self._sampled_of is not step.rollout:
            self._sampled = self._restored(step.rollout) if self._saved else self._sample_rollout(step.rollout)
            self._sampled_of = step.rollout
        assert self._sampled is not None
        batch = self._sampled.batches[step.at].alone
        return self._sampled.inputs(step.at) | {"batch": batch, "weight": self._weight(step)}

    def _weight(self, step: MicroStep) -> float:
        """The factor that makes every completion of an optimizer step count the same, however large its micro-batch.

        TRL averages `PER_BATCH_LOSSES` over the rows of a micro-batch, then over micro-batches and ranks. Rows without
        loss must not count.
        """
        if self.loss_type not in PER_BATCH_LOSSES:
            return 1.0
        total = 0
        for micro in self._window:
            # A later rollout of this window is not sampled yet, so which of its rows carry loss is unknown: all count.
            known = self._sampled if micro.rollout is self._sampled_of else None
            planned = len(micro.rollout.indices[micro.at]) * self.num_generations * self.args.world_size
            total += known.live_rows[micro.at] if known else planned
        assert self._sampled is not None
        live = self._sampled.live[self._sampled.batches[step.at].rows]
        # bnpo averages over tokens under the mask, which leaves out rows without loss; the others divide by all rows.
        rows = int(live.sum()) if self.loss_type == "bnpo" else len(live)
        return rows * len(self._window) * self.args.world_size / total if total else 0.0

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """TRL's loss of a micro-batch, weighed times `_weight`."""
        self._current_batches = [inputs["batch"]]
        self.sizes.add(len(inputs["batch"].prompts))
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch) * inputs["weight"]

    def answers(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        before = self.policy.counts.copy()
        rows = super().answers(*args, **kwargs)
        self.policy.counts = before  # the counts show the cost of training; an evaluation must not add to them
        return rows

    def floating_point_ops(self, inputs: Any) -> int:
        """0: the Trainer counts from `input_ids`, which a MicroStep has not."""
        return 0

    def begin_interval(self) -> None:
        super().begin_interval()
        self.prompts.take_counts()
        self.policy.counts.clear()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds TRL's metrics and the counts to entries with a loss; those of an evaluation or the end stay."""
        if "loss" not in logs:
            if self.drawn is not None and "train_loss" in logs:
                logs |= self.drawn.logged(self.accelerator)
            return Trainer.log(self, logs, start_time)
        logs |= {name: sum(values) / len(values) for name, values in self.means.items()}
        logs |= {name: float(count) for name, count in sorted(self.policy.counts.items())}
        logs |= self.sizes.take(self.accelerator)
        self.means.clear()
        self.policy.counts.clear()
        return super().log(logs, start_time)


class StreamPosition(TrainerCallback):
    """Tells the Trainer's state how many passes the stream has made, and stops the run at the reward plateau."""

    def __init__(self, trainer: VideoGRPOTrainer) -> None:
        self.trainer = trainer
        self.micro_steps = trainer.loader.micro_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.epoch = state.global_step * args.gradient_accumulation_steps / self.micro_steps
        if self.trainer.plateau.reached:
            control.should_save = control.should_training_stop = True
