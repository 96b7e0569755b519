"""How the GRPO trainer samples and scores a rollout: completions, rewards, advantages, and the record of their IoU.

Methods that TRL calls are overridden where its own would leave out the video.
"""

import logging
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.nn.functional import pad
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from vtg.annotations.sample import Sample
from vtg.batching.prompt_plan import draw_prompts
from vtg.config.rl_settings import CurriculumConfig, RolloutConfig
from vtg.data.grounding_dataset import GroundingDataset, GroundingItem
from vtg.ranks import is_main_process
from vtg.training.grounding_trainer import GroundingTrainer
from vtg.training.rl.completions import (
    completion_row,
    completion_statistics,
    write_completions,
)
from vtg.training.rl.curriculum import IoURecord, Plateau
from vtg.training.rl.engine_protocol import Completions, Engine
from vtg.training.rl.engines import check_parity
from vtg.training.rl.policy import Policy
from vtg.training.rl.prompt_batches import PromptCosts
from vtg.training.rl.rollout_batch import MicroBatch, SampledRollout, drawn_of
from vtg.training.rl.rollouts import Rollout, RolloutLoader

log = logging.getLogger(__name__)


class RolloutSampling(GroundingTrainer, GRPOTrainer):
    """The part of `VideoGRPOTrainer` that turns the prompts of a `Rollout` into a `SampledRollout`."""

    rollout_settings: RolloutConfig
    curriculum: CurriculumConfig
    args: GRPOConfig  # type: ignore[assignment]
    num_generations: int
    prompts: GroundingDataset
    loader: RolloutLoader
    costs: PromptCosts
    record: IoURecord
    plateau: Plateau
    policy: Policy
    engine: Engine
    drawn_last: Counter[str]
    """What the rollout in training drew of the sources of a mixture."""
    means: defaultdict[str, list[float]]
    """Of what is logged, since the last entry."""
    _current_batches: list[MicroBatch]
    """Micro-batches that the next forward or generation is about: TRL passes on texts, which hold no video."""
    _scores: dict[str, Any]
    """`texts` and `rewards` of the completions just scored: TRL returns neither with its tensors."""
    _check_after: float | None
    """The optimizer step after which the engine is compared again: that of the first rollout, then infinity."""
    _rollout_logged: bool
    """Whether rows of this rollout are written already; those of resampled prompts go into the same file."""

    @property
    def pad_token_id(self) -> int:
        processor: Any = self.processing_class
        return processor.tokenizer.pad_token_id

    def _sample_rollout(self, rollout: Rollout) -> SampledRollout:
        sampled = self._sample_and_score(rollout.indices, rollout.items)
        self._count_sources(rollout, sampled)
        if self.drawn is not None:
            self.drawn.add(self.drawn_last)
        if self.curriculum.zero_variance == "resample":
            for attempt in range(self.curriculum.resample_rounds):
                # Reduced over ranks before the decision: sampling is collective, so all ranks draw again or none does.
                dead = self.accelerator.reduce((~sampled.live).sum(), reduction="sum")
                if not int(dead):  # type: ignore[call-overload]
                    break
                drawn = self._draw(sampled.indices, attempt)
                fresh = self._sample_and_score(drawn, [[self.prompts[index] for index in batch] for batch in drawn])
                sampled.replace_groups_without_loss(fresh, self._padded)
        self._finish(sampled)
        return sampled

    def _count_sources(self, rollout: Rollout, sampled: SampledRollout) -> None:
        """Sets `drawn_last`."""
        tokens = sampled.tensors["completion_mask"].sum(1).view(-1, self.num_generations).sum(1).tolist()
        self.drawn_last = drawn_of([item for items in rollout.items for item in items], tokens)

    def _sample_and_score(self, indices: list[list[int]], items: list[list[GroundingItem]]) -> SampledRollout:
        """Completions, rewards and log-probs of these prompts; writes the completions and updates the IoU record."""
        batches: list[MicroBatch] = []
        rows: list[dict[str, Any]] = []
        for batch_indices, batch_items in zip(indices, items, strict=True):
            clips = [item.clip for item in batch_items]
            durations_s = [item.sample.duration_s for item in batch_items]
            features = [item.features for item in batch_items]
            start, prompts = len(rows), self.policy.prompts(features, durations_s, clips)
            for index, item in zip(batch_indices, batch_items, strict=True):
                row = {"index": index, "sample": item.sample, "skipped": item.skipped is not None}
                # TRL logs the prompt of each row; what the model gets is `_current_batches` (`_tokenize_prompts`).
                row["prompt"] = [{"role": "user", "content": row["sample"].query}]
                rows += [dict(row) for _ in range(self.num_generations)]
                self.parts.report.add([item.skipped] if item.skipped is not None else [])
                self.policy.counts += Counter({f"clips/{name}": count for name, count in item.counts.items()})
            batches.append(MicroBatch(prompts, slice(start, len(rows)), self.num_generations))
        self._current_batches = batches
        output = self._generate_and_score_completions(rows)
        output = {key: value for key, value in output.items() if isinstance(value, torch.Tensor)}
        live = self._log_and_record(rows, output["advantages"])
        return SampledRollout([list(batch) for batch in indices], batches, output, live)

    def _log_and_record(self, rows: list[dict[str, Any]], advantages: torch.Tensor) -> torch.Tensor:
        """Writes the completions just scored and records their IoU; returns (rows,) bool: which carry loss."""
        weights = self.reward_weights.to(self.args.device)
        rewards = self._scores["rewards"]
        # nansum: TRL keeps NaN for a reward that returned None (a clip that could not be decoded).
        totals = (rewards * weights).nansum(1)
        groups = totals.view(-1, self.num_generations)
        # 1e-6, not 0: weighted float32 sums of equal rewards differ by rounding.
        varies = ((groups.max(1).values - groups.min(1).values) > 1e-6).repeat_interleave(self.num_generations)
        skipped = torch.tensor([row["skipped"] for row in rows], device=varies.device)
        logged = []
        for at, row in enumerate(rows):
            if not row["skipped"]:
                sample: Sample = row["sample"]
                answer = self.prompts.tasks.read(self._scores["texts"][at], sample)
                parts = {
                    name: round(value, 6)
                    for name, value in zip(self.reward_func_names, rewards[at].tolist(), strict=True)
                    if value == value  # NaN: it is for other tasks
                }
                scores = {"rewards": parts, "reward": float(totals[at]), "advantage": float(advantages[at])}
                logged.append(
                    (
                        row["index"],
                        completion_row(self.prompts.tasks, sample, answer, step=self.state.global_step, **scores),
                    )
                )
        # Every rank updates its record with the rows of all, so that all choose the same samples for the next pass.
        logged = gather_object(logged) if self.args.world_size > 1 else logged
        ious = np.array([row["iou"] if "iou" in row else row["score"] for _, row in logged])
        # Groups stay whole: their rows were skipped all or none, and ranks' rows are gathered one rank after the other.
        indices = [index for index, _ in logged[:: self.num_generations]]
        means = ious.reshape(-1, self.num_generations).mean(axis=1).tolist()
        self.record.update(zip(indices, means, strict=True), self.state.global_step)
        written = [row for _, row in logged]
        if written:
            for name, value in completion_statistics(written).items():
                self.means[name].append(value)
            # The plateau counts optimizer steps: a second round of prompts in the same step must not feed it again.
            if not self._rollout_logged:
                self.plateau.feed(sum(row["reward"] for row in written) / len(written))
        if is_main_process():
            write_completions(
                Path(str(self.args.output_dir)), self.state.global_step, written, begin=not self._rollout_logged
            )
        self._rollout_logged = True
        live = ~skipped
        if self.curriculum.zero_variance != "keep":
            live &= varies
        return live

    def _padded(self, key: str, value: torch.Tensor, length: int) -> torch.Tensor:
        """A tensor of TRL's output with its completions padded to `length` tokens; others as they are."""
        if value.ndim < 2 or key in ("prompt_ids", "prompt_mask"):
            return value
        if key == "importance_sampling_ratio" and self.vllm_importance_sampling_mode.startswith("sequence"):
            return value  # one ratio for the whole completion, not one per token
        fill = self.pad_token_id if key == "completion_ids" else 0
        return pad(value, (0, length - value.shape[1]), value=fill)

    def _draw(self, indices: list[list[int]], attempt: int) -> list[list[int]]:
        """As many other prompts for each micro-batch, none costlier than its costliest, so that they fit in memory;
        where prompts share clips, those of a micro-batch are about few clips."""
        state = self.loader.state
        # Seeded by the position in the stream alone: a resumed run draws the same prompts.
        key = (self.args.seed, state.passes, state.rollouts, state.micro_steps, attempt, self.args.process_index)
        generator = np.random.default_rng(key)
        pool = np.array(state.chosen if state.chosen else range(len(self.prompts)))
        taken = [index for batch in indices for index in batch]
        drawn = []
        for batch in indices:
            fits = pool[self.costs.each[pool] <= self.costs.each[batch].max()]
            others = np.setdiff1d(fits, taken)
            if not len(others):  # in a data set of a few rows all are in the rollout already
                others = fits
            drawn.append(draw_prompts(others, len(batch), rng=generator, clips=self.costs.clips).tolist())
        return drawn

    def _finish(self, sampled: SampledRollout) -> None:
        """Masks the rows without loss, and counts over all ranks what is left."""
        tensors, dead = sampled.tensors, ~sampled.live
        tensors["completion_mask"] = tensors["completion_mask"].masked_fill(dead[:, None], 0)
        tensors["advantages"] = tensors["advantages"].masked_fill(dead, 0.0)
        # The loss does not run them again, and gives them log-probs of 0: a ratio of exp(0 - old) could be infinite.
        for key in ("old_per_token_logps", "ref_per_token_logps"):
            if key in tensors:
                tensors[key] = tensors[key].masked_fill(dead[:, None], 0.0)
        # TRL counted before the mask: its token-level losses would divide by tokens that carry no loss.
        tensors["num_items_in_batch"] = self.accelerator.gather(tensors["completion_mask"].sum()).sum()  # type: ignore[union-attr]
        live = torch.stack([sampled.live[batch.rows].sum() for batch in sampled.batches])
        sampled.live_rows = self.accelerator.reduce(live, reduction="sum").tolist()  # type: ignore[union-attr]
        self.means["groups/without_loss"].append(float(dead.float().mean()))
        self._rollout_logged = False

    # What TRL calls while it generates and scores.

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict]:
        """Token ids that are encoded already: TRL's own would be without the video."""
        ids = [prompt.features["input_ids"].tolist() for batch in self._current_batches for prompt in batch.prompts]
        return [prompt_ids for prompt_ids in ids for _ in range(self.num_generations)], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Completions:
        """Completions of every prompt of `self._current_batches`."""
        # An engine with a model of its own does not run this rank's forward, whose passes the counts are about.
        if not self.engine.own_model:
            for batch in self._current_batches:
                self.policy.count(batch)
        self._check_updated_engine()
        self.engine.sync(self.model, self.state.global_step)
        prompts = [batch.prompts for batch in self._current_batches]
        return self.engine.sample(self.model_wrapped, prompts, n=self.num_generations)

    def _check_updated_engine(self) -> None:
        """Compares the engine once more, at the first rollout after an update.

        Before training it has seen one set of weights. What it keeps of those shows with the second.
        """
        step = self.state.global_step
        if self._check_after is None:
            self._check_after = step
        elif step > self._check_after:
            self._check_after = math.inf
            self.check_engine()

    def check_engine(self) -> None:
        """Compares an engine that holds its own copy of the model with the training forward.

        Raises:
            RunError: the token ids or log-probs differ.
        """
        rollout = self.rollout_settings
        if not self.engine.own_model:
            return
        # Spread over the whole list: neighbours are often queries of one video.
        chosen = np.linspace(0, len(self.prompts) - 1, min(rollout.parity_samples, len(self.prompts))).astype(int)
        places = [self.prompts.samples[index].place for index in chosen.tolist()]
        items = [self.prompts[index] for index in chosen.tolist()]
        durations_s = [item.sample.duration_s for item in items]
        prompts = self.policy.prompts([item.features for item in items], durations_s, [item.clip for item in items])
        model: Any = self.model
        was_training = model.training
        model.eval()
        self.engine.sync(self.model, self.state.global_step)
        parity = check_parity(
            self.engine,
            self.model,
            self.policy.completion_log_probs,
            dict(zip(places, prompts, strict=True)),
            tolerance=rollout.parity_tolerance,
        )
        self.model.train(was_training)  # type: ignore[union-attr]
        log.info(
            "rollout.engine = %s agrees with training: the token ids of %d prompts are the same, the log-probs of %d "
            "tokens differ by %.4f at most and %.4f in the mean",
            *(self.engine.name, parity.prompts, parity.tokens, parity.largest, parity.mean),
        )

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        # TRL gathers rewards from all ranks; the texts are this rank's only.
        mine = slice(self.args.process_index * len(inputs), (self.args.process_index + 1) * len(inputs))
        texts = [messages[0]["content"] for messages in completions]
        self._scores = {"texts": texts, "rewards": rewards[mine]}
        return rewards

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Log-probs (rows, C) and entropies of the completions of `self._current_batches`; their mean router loss."""
        completions, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        outputs, router_losses = [], []
        for batch in self._current_batches:
            own, real = completions[batch.rows], mask[batch.rows]
            # Cut to the longest completion of the micro-batch: TRL pads to the longest of the whole rollout.
            length = max(1, int(real.sum(1).max()))
            results = self.policy.log_probs(model, batch, own[:, :length], real[:, :length])
            outputs.append([pad(x[:, :length], (0, logits_to_keep - length)) for x in results])
            if compute_aux_loss:
                assert self.policy.router_loss is not None
                router_losses.append(self.policy.router_loss)
        logps, entropies = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        router_loss = torch.stack(router_losses).mean() if compute_aux_loss else None
        return logps, entropies if compute_entropy else None, router_loss
