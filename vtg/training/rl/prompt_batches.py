"""Which prompts of a pass make a micro-batch and a rollout, on how many ranks, and what each costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate.utils import broadcast_object_list
from trl.trainer.grpo_config import GRPOConfig

from vtg.annotations.sample_table import SampleTable
from vtg.batching.cost import sample_costs, video_facts
from vtg.batching.prompt_plan import plan_fixed_prompts, plan_prompts
from vtg.config.data_settings import BatchingConfig, DataConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.grounding_dataset import GroundingDataset
from vtg.errors import ConfigError
from vtg.training.rl.rollouts import Plan
from vtg.video.video_index import VideoIndex


@dataclass(frozen=True)
class PromptBatches:
    """What a micro-batch may hold, and how many make a rollout and a step: what a run may resume with others of.

    `prompts`: under `by: fixed`; `budget`: tokens or seconds, otherwise. `steps`: micro-batches of a rollout.
    """

    prompts: int
    budget: float
    max_batch_size: int
    steps: int
    accumulation: int

    @classmethod
    def of(cls, arguments: GRPOConfig, batching: BatchingConfig, *, longest: int) -> "PromptBatches":
        """Those of a run with these settings, whose longest prompt has `longest` tokens."""
        return cls(
            prompts=arguments.per_device_train_batch_size // (arguments.num_generations or 1),
            budget=budget(arguments, batching, longest=longest),
            max_batch_size=batching.max_batch_size or 0,
            steps=arguments.steps_per_generation or 1,
            accumulation=arguments.gradient_accumulation_steps,
        )


@dataclass(frozen=True)
class PromptCosts:
    """What the group of each of N prompts takes of a micro-batch's budget.

    Attributes:
        each: (N,) float64, tokens or seconds.
        clips: (N,) int64, which clip each is about, where prompts share theirs (`batching.share_video`); else None.
        shared: (N,) float64, the part of each that is there once for a clip's prompts in a micro-batch; else None.
    """

    each: np.ndarray
    clips: np.ndarray | None = None
    shared: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.each)

    def select(self, chosen: np.ndarray) -> "PromptCosts":
        """Those of some prompts: indices, or (N,) bool."""
        kept = (None if values is None else values[chosen] for values in (self.clips, self.shared))
        return PromptCosts(self.each[chosen], *kept)

    def of(self, batch: np.ndarray) -> np.ndarray:
        """(ranks,) what a planned micro-batch (ranks, n) takes on each rank: the prompts of a clip are side by side."""
        total = self.each[batch].sum(axis=1)
        if self.clips is None or self.shared is None:
            return total
        again = np.diff(self.clips[batch], axis=1) == 0
        return total - (self.shared[batch][:, 1:] * again).sum(axis=1)


def prompt_costs(
    prompts: GroundingDataset,
    arguments: GRPOConfig,
    *,
    batching: BatchingConfig,
    data: DataConfig,
    video: VideoConfig,
    shares: bool,
) -> PromptCosts:
    """What the group of each prompt takes of a micro-batch's budget: tokens of the prompt, once or with each
    completion, and of all completions; seconds under `by: duration`. The main process computes it for all.

    Args:
        shares: a prompt runs once for all of its completions.
    """
    results: list[PromptCosts | None] = [None]
    # One rank reads the headers of the videos: all of them at once would only slow a shared disk.
    if arguments.process_index == 0:
        samples, facts = SampleTable.of(prompts.samples), None
        if batching.by == "tokens":
            index = VideoIndex.beside(data.annotation_file, data.index_file)
            facts = video_facts(samples.videos()[0], video_dir=prompts.video_dir, index=index, progress=True)
        shape: Any = {"task": prompts.task, "processor": prompts.processor, "video": video}
        costs = sample_costs(samples, facts, **shape)
        # Unshared, the prompt runs once for each completion, and costs as much.
        times = 1 if shares else arguments.num_generations or 1
        in_tokens = times * costs.tokens.astype(np.float64) + completion_tokens(arguments)
        by_clip = costs.seconds if batching.by == "duration" else costs.shared_tokens.astype(np.float64)
        each = costs.seconds if batching.by == "duration" else in_tokens
        shared = (samples.clips(), by_clip) if batching.share_video and shares else ()
        results = [PromptCosts(each, *shared)]
    (result,) = broadcast_object_list(results)
    assert result is not None
    return result


def completion_tokens(arguments: GRPOConfig) -> int:
    """The most that all completions of one prompt have."""
    return (arguments.num_generations or 0) * (arguments.max_completion_length or 0)


def budget(arguments: GRPOConfig, batching: BatchingConfig, *, longest: int) -> float:
    """What a micro-batch may cost, in seconds or tokens."""
    if batching.by == "duration":
        return batching.target_batch_duration
    return float(batching.target_batch_tokens or longest + completion_tokens(arguments))


def plan(
    chosen: Sequence[int],
    epoch: int,
    ranks: int,
    *,
    batching: BatchingConfig,
    costs: PromptCosts,
    size: PromptBatches,
    seed: int,
) -> Plan:
    """The rollouts of a pass over the chosen samples, for all ranks; of the first, the costliest micro-batch first.

    Raises:
        ConfigError: prompts over the budget, where `batching.oversize` is `error`.
    """
    steps = size.steps
    shape: Any = {"ranks": ranks, "seed": seed, "epoch": epoch, "steps_multiple": steps, "clips": costs.clips}
    order = np.asarray(chosen, np.int64)
    if batching.by == "fixed":
        # Seeded by pass: a resumed run plans the same rollouts.
        shuffled = np.random.default_rng((seed, epoch)).permutation(order)
        batches = plan_fixed_prompts(len(costs), batch_size=size.prompts, order=shuffled, **shape)
    else:
        limit = size.budget
        over = order[costs.each[order] > limit]
        if len(over) and batching.oversize == "error":
            raise ConfigError(
                f"{len(over)} of {len(order)} prompts do not fit into the budget of a micro-batch of {limit:.10g} "
                f"(the costliest takes {costs.each[over].max():.10g}); raise batching.target_batch_"
                f"{'duration' if batching.by == 'duration' else 'tokens'}, lower rl.num_generations or "
                "rl.max_completion_length, or set batching.oversize=alone or skip"
            )
        shape |= {"budget": limit, "max_batch_size": size.max_batch_size, "shared": costs.shared}
        batches = plan_prompts(costs.each, order=order, **shape)
    # The costliest first: if memory runs out, it does so in the first minute and not after hours.
    if batching.largest_first and epoch == 0:
        costliest = max(range(len(batches)), key=lambda at: costs.of(batches[at]).max())
        batches[0], batches[costliest] = batches[costliest], batches[0]
    return [batches[at : at + steps] for at in range(0, len(batches), steps)]
