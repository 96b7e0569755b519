"""The model that GRPO trains, as prompts with a video go through it: a clip encoded once, a prompt run once for all of
its completions, and both counted.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl.trainer.grpo_config import GRPOConfig

from vtg.data.encoding import Features
from vtg.data.layout import ATTENTIONS
from vtg.data.packing import same_pixels
from vtg.data.pixels import vision_inputs
from vtg.data.tower_cache import TowerCache
from vtg.decoding.constrained import Constraint
from vtg.decoding.prompt_sequence import Prompt, Sequenced, beginning_alike
from vtg.decoding.sampling import forward_log_probs
from vtg.decoding.shared_prefix import SHARED, accept_encoded_videos, repeated_batch, share_prompts, shared_batch
from vtg.decoding.tower_output import encoded_video
from vtg.models.attention import attention_of
from vtg.models.families import family_of
from vtg.models.plain_model import plain_model
from vtg.models.recurrence import is_recurrent
from vtg.models.routing import Routers
from vtg.training.rl.constrained_policy import add_constrained_head
from vtg.training.rl.rollout_batch import MicroBatch
from vtg.video.clip import Clip


class Policy:
    """A Qwen-VL model whose forward takes prompts and completions.

    Args:
        model: as it is trained: with PEFT around it or not.
        reference: another model that the same forwards are to go through, None without one.
        shares: a prompt is run once for all of its completions; else as often as it has completions.
        constraint: what completions are kept to, in sampling and so in their log-probs; None: nothing.
        towers: keeps what a frozen tower makes of clips.

    Attributes:
        plain: the Qwen-VL model without PEFT around it.
        encodes_once: the vision tower is frozen, so a clip is encoded once a rollout.
        trees: tokens that several completions of a prompt begin with are run once. Under varlen each part of a tree has
            a copy of the prompt's keys, and in recurrent layers each level a call of its own: that would cost more.
        in_step: every forward of one rank must be one of all ranks (ZeRO-3).
        routers: of a mixture with a router loss; None without.
        router_loss: of the last forward with a gradient, where there are routers.
        counts: vision/encoder_calls, prompt/passes, prompt/tokens …: what proves that the prompt is paid for once.
    """

    def __init__(
        self,
        model: Any,
        reference: Any,
        *,
        accelerator: Any,
        args: GRPOConfig,
        pad_token_id: int,
        shares: bool,
        constraint: Constraint | None = None,
        towers: TowerCache | None = None,
    ) -> None:
        self.towers = towers
        self.model, self.accelerator, self.args = model, accelerator, args
        self.pad_token_id, self.shares, self.constraint = pad_token_id, shares, constraint
        self.plain = plain_model(accelerator.unwrap_model(model))
        for network in (self.plain, reference and accelerator.unwrap_model(reference)):
            if network is not None:
                (share_prompts if shares else accept_encoded_videos)(network)
                if constraint is not None:
                    add_constrained_head(network, temperature=args.temperature)
        self.trees = shares and attention_of(self.plain) == ATTENTIONS["sdpa"] and not is_recurrent(self.plain)
        self.in_step = is_deepspeed_zero3_enabled()
        family = family_of(self.plain.config)
        vision = self.plain.model.get_submodule(family.tower[0])
        self.encodes_once = not any(parameter.requires_grad for parameter in vision.parameters())
        self.routers: Routers | None = None
        self.router_loss: torch.Tensor | None = None
        self.counts: Counter[str] = Counter()
        # Counted at the module itself, so that no path to the vision tower goes uncounted.
        vision.register_forward_pre_hook(self._count_clips, with_kwargs=True)

    def prompts(
        self, features: Sequence[Features], durations_s: Sequence[float], clips: Sequence[Clip | None] = ()
    ) -> list[Prompt]:
        """Prompts on the device, the clip of each encoded where the vision tower is frozen; a clip asked about twice,
        once.

        `durations_s`: of the clip of each.
        """
        prompts: list[Prompt] = []
        for prompt_features in features:
            on_device = {key: value.to(self.args.device) for key, value in prompt_features.items()}
            known = next((prompt for prompt in prompts if same_pixels(prompt.features, on_device)), None)
            encoded = None
            # Under ZeRO-3 each forward gathers weights on all ranks: one rank that skips an encoding hangs the rest.
            if self.encodes_once and (known is None or self.in_step):
                with self.accelerator.autocast():
                    encoded = encoded_video(self.plain, on_device, self.towers)
            if known is not None:  # one tensor for all
                on_device |= {name: known.features[name] for name in vision_inputs(on_device)}
                encoded = known.encoded
            prompts.append(Prompt(on_device, encoded))
        if self.shares:
            prompts = beginning_alike(prompts)
        if self.encodes_once:  # the pixels are no longer needed, and large
            none = {"pixel_values_videos": torch.empty(0, device=self.args.device)}
            prompts = [replace(prompt, features=prompt.features | none) for prompt in prompts]
        rows = zip_longest(prompts, durations_s, clips)
        return [replace(prompt, duration_s=seconds, clip=clip) for prompt, seconds, clip in rows]

    def log_probs(
        self, model: Any, batch: MicroBatch, completions: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies (rows, C) of one micro-batch, under `model`, which may have more around it.

        Prompts are left out whose completions have no token with `mask` 1, as those of a group without loss: their rows
        are 0.
        """
        live = self._live(batch, mask)
        if len(live) == len(batch.prompts):
            return self._run(model, batch, completions, mask)
        g = batch.generations
        rows = torch.tensor([row for at in live for row in range(at * g, at * g + g)], device=mask.device)
        part = MicroBatch([batch.prompts[at] for at in live], slice(0, len(rows)), g)
        log_probs, entropies = self._run(model, part, completions[rows], mask[rows])
        empty = log_probs.new_zeros(completions.shape)
        return empty.index_copy(0, rows, log_probs), empty.index_copy(0, rows, entropies)

    def _live(self, batch: MicroBatch, mask: torch.Tensor) -> list[int]:
        """The prompts of a micro-batch that have a token with `mask` 1 (rows, C); the first one where none has, since
        all ranks run the model."""
        if self.routers:  # experts are balanced over all prompts
            return list(range(len(batch.prompts)))
        has_tokens = mask.reshape(len(batch.prompts), -1).any(1).tolist()
        return [at for at, one in enumerate(has_tokens) if one] or [0]

    def _run(
        self, model: Any, batch: MicroBatch, completions: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies (rows, C) of all prompts of the micro-batch."""
        own, real = (list(part.split(batch.generations)) for part in (completions, mask))
        # -100 is what the fused head skips; padding must not count.
        labels = completions.masked_fill(mask == 0, -100)
        self.count(batch)
        if self.shares:
            both_ways = family_of(self.plain.config).both_ways
            inputs: dict[str, Any] = shared_batch(batch.prompts, own, real, tree=self.trees, both_ways=both_ways)
        else:
            inputs = repeated_batch(batch.prompts, own, real, pad_token_id=self.pad_token_id)
        own_inputs = dict(inputs)
        if self.constraint is not None:
            inputs |= self._constrained(batch, completions, mask)
        elif self.shares:
            inputs |= {"shift_labels": labels, "fused_lm_head": True}
        else:
            longest = inputs["input_ids"].shape[1] - completions.shape[1]
            inputs |= {"labels": pad(labels, (longest, 0), value=-100), "fused_lm_head": True}
        with self.routers.recorded() if self.routers else nullcontext([]) as routed, self.accelerator.autocast():
            outputs = model(**inputs)
        if self.routers and routed:
            weights = _shared_weights(batch, own_inputs, mask) if self.shares else _repeated_weights(own_inputs, mask)
            self.router_loss = self.routers.balance(routed, weights)
        if self.constraint is not None:
            return outputs
        entropy = outputs.entropy if outputs.entropy is not None else torch.zeros_like(outputs.log_probs)
        return outputs.log_probs[:, -completions.shape[1] :], entropy[:, -completions.shape[1] :]

    def _constrained(self, batch: MicroBatch, completions: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """What `add_constrained_head` is told of completions (rows, C), whose tokens have `mask` 1."""
        constraint = self.constraint
        assert constraint is not None
        columns = torch.tensor(constraint.columns, device=completions.device)
        durations_s = [prompt.duration_s for prompt in batch.prompts for _ in range(batch.generations)]
        allowed = constraint.mask(completions, durations_s, room=self.args.max_completion_length or 0)
        # Padding is no token of an answer: any column will do, for nothing is allowed there.
        labels_at = torch.searchsorted(columns, completions.contiguous()).clamp(max=len(columns) - 1)
        return {"columns": columns, "allowed": allowed & (mask > 0)[..., None], "labels_at": labels_at}

    def completion_log_probs(self, prompt: Prompt, completion: list[int]) -> list[float]:
        """Of each token of one completion, at temperature 1."""
        more: Any = {"pad_token_id": self.pad_token_id, "share": self.shares}
        with self.accelerator.autocast():
            return forward_log_probs(self.model, prompt, completion, **more)

    def count(self, batch: MicroBatch) -> None:
        """Counts the prompts of a forward, and their tokens that it runs."""
        if self.shares:
            # The parts are without the last token of each prompt, which its completions begin with.
            times, parts, after = 1, Sequenced.of(batch.prompts).parts, len(batch.prompts)
        else:
            times, parts, after = batch.generations, [prompt.features for prompt in batch.prompts], 0
        self.counts["prompt/passes"] += times * len(batch.prompts)
        self.counts["prompt/tokens"] += times * (sum(len(part["input_ids"]) for part in parts) + after)

    def _count_clips(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        # Towers that see frames one by one are not told where a clip ends.
        self.counts["vision/encoder_calls"] += len(kwargs.get("grid_thw", [None]))


def _shared_weights(batch: MicroBatch, inputs: dict[str, Any], mask: torch.Tensor) -> torch.Tensor:
    """(L,) how often each token of a `shared_batch` counts in the router loss; `mask` (rows, C) of the completions.

    As it would without sharing: a prompt's tokens for each of its completions. A completion's last token, from which
    nothing is predicted, never does.
    """
    sequence = Sequenced.of(batch.prompts)
    counts = [0] * len(sequence.parts)
    for at in range(len(batch.prompts)):
        for part in sequence.parts_of(at):
            counts[part] += batch.generations
    weights = [part["attention_mask"] * count for part, count in zip(sequence.parts, counts, strict=True)]
    counted = mask.new_zeros(inputs["input_ids"].shape[-1]).index_add(0, inputs[SHARED].flatten(), mask.flatten())
    before = torch.cat(weights)
    counted[: len(before)] += before
    return counted


def _repeated_weights(inputs: Features, mask: torch.Tensor) -> torch.Tensor:
    """The same of a `repeated_batch`, whose completions have the `mask` (rows, C)."""
    weights, after = inputs["attention_mask"].clone(), mask.shape[1]
    weights[:, -after - 1 : -1], weights[:, -1] = mask, 0
    return weights.flatten()
