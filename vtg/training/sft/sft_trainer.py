"""The Hugging Face Trainer for SFT: planned batches, the loss on answer tokens, and where in an epoch it resumes."""

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import seed_worker

from vtg.data.encoding import IGNORE_INDEX
from vtg.data.layout import ATTENTIONS
from vtg.data.packing import attention
from vtg.data.padding import without_padding_mask
from vtg.data.pixels import PIXELS
from vtg.data.training_collator import LabelledAnswer
from vtg.data.workers import worker_context
from vtg.decoding.shared_prefix import accept_encoded_videos
from vtg.decoding.tower_output import encoded_videos
from vtg.models.attention import attention_of, choose_attention
from vtg.models.families import family_of
from vtg.models.plain_model import plain_model
from vtg.models.routing import Routers, token_weights
from vtg.ranks import is_main_process
from vtg.training.batch_log import BatchSizes
from vtg.training.grounding_trainer import GroundingTrainer
from vtg.training.guard import StepBatch
from vtg.training.mixture_record import DrawnSources
from vtg.training.sft.answer_loss import AnswerLoss, AnswerTokens
from vtg.training.sft.batches import PlannedBatches, PlannedLoader
from vtg.training.sft.epoch_position import Position
from vtg.training.sft.time_targets import TimeTargets

BATCH_COUNTS = ("samples", "batches", "tokens", "slots")
"""A collator's counts of its batches; `slots` are the tokens that are computed, padding included."""


def epoch_and_batches(global_step: int, batches: int, accumulation: int) -> tuple[int, int]:
    """(epoch, batches done in it) after so many optimizer steps, where an epoch has `batches` on every rank."""
    # The last update of an epoch may have fewer batches, so that an epoch is a whole number of updates.
    epoch, updates = divmod(global_step, -(-batches // accumulation))
    return epoch, updates * accumulation


class SFTTrainer(GroundingTrainer):
    """The Trainer with planned batches and the loss on answer tokens alone.

    Args:
        attention: the kernel, as `model.attention` names it.

    Attributes:
        batches: this rank's.
        shift: as in `Position`.
    """

    shift: int = 0

    def __init__(self, *, batches: PlannedBatches, attention: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batches, self._kernel = batches, attention
        self.towers = kwargs["train_dataset"].towers
        if self.towers is not None:
            accept_encoded_videos(plain_model(self.accelerator.unwrap_model(self.model)))
        mixture = batches.planner.mixture
        self.drawn = None if mixture is None else DrawnSources(mixture, Path(str(self.args.output_dir)))
        self.counts: Counter[str] = Counter()
        self.sizes = BatchSizes()
        tokenizer = self.processing_class.tokenizer  # type: ignore[union-attr]
        self.answer_loss = AnswerLoss.of(self.parts.loss, self.parts.saved.task, tokenizer)
        self.loss_terms: dict[str, torch.Tensor] = {}  # of the updates since the last log entry, on this rank
        self.updates = 0  # so many
        self.routing = Routers(self.model) if self.parts.parts.router_loss else None
        # Of micro-batches since the last log entry, (2,) each: weight of the answer tokens times router loss, weight.
        self.router_losses: list[torch.Tensor] = []
        self.begin_interval()
        self.model_accepts_loss_kwargs = True  # num_items_in_batch reaches compute_loss, which divides by it

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean loss (`loss`) over the answer tokens of the whole accumulated batch, on all ranks; with
        `parts.router_loss` also the mean over them of the router loss of their micro-batch, times that.
        """
        self.parts.report.add(inputs.pop("skipped"))
        del inputs["rows"]
        if "clips" in inputs:  # a frozen tower sees each that is new to it once
            inputs[PIXELS] = encoded_videos(self.accelerator.unwrap_model(self.model), inputs.pop("clips"), self.towers)
        counts, answers = inputs.pop("counts"), inputs.pop("answers")
        drawn = inputs.pop("drawn")
        if self.drawn is not None:
            self.drawn.add(drawn)
        self.counts += counts
        self.sizes.add(counts["samples"])
        weights = token_weights(inputs) if self.routing else None
        inputs = self._attention(model, inputs)
        labels = inputs.pop("labels")[:, 1:]
        # Only positions that predict an answer token are projected to the vocabulary: in float32 the logits of one
        # token are 0.6 MB (151,936 entries), and a clip has thousands of vision tokens.
        keep = (labels != IGNORE_INDEX).any(0).nonzero()[:, 0]
        # A stand-in has no labels, but must run forward and backward as other ranks do, or they wait for its gradients.
        keep = keep if len(keep) else torch.zeros(1, dtype=torch.long, device=labels.device)
        answered, tokens = self._answer_tokens(labels, keep, answers)
        with self.routing.recorded() if self.routing else nullcontext([]) as routed:
            outputs = model(**inputs, logits_to_keep=keep, use_cache=False)
        terms = self.answer_loss(
            outputs.logits.flatten(0, 1)[answered].float(),
            tokens,
            label_smoothing=self.args.label_smoothing_factor or self.parts.loss.label_smoothing,
        )
        total = torch.stack(list(terms.values())).sum()
        if self.routing and weights is not None:
            total = total + self._router_loss(self.routing.balance(routed, weights), tokens.weights)
        scale = 1 / max(1.0, float(tokens.weights.sum() if num_items_in_batch is None else num_items_in_batch))
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            scale *= self.accelerator.num_processes  # gradients are averaged over ranks, the count is their sum
        for name, term in terms.items():
            self.loss_terms[name] = self.loss_terms.get(name, 0) + term.detach() * scale
        loss = total * scale
        return (loss, outputs) if return_outputs else loss

    def _answer_tokens(
        self, labels: torch.Tensor, keep: torch.Tensor, answers: Sequence[LabelledAnswer]
    ) -> tuple[torch.Tensor, AnswerTokens]:
        """Which of the positions that are projected predict an answer token, (A,) int64, and what is expected there.

        Args:
            labels: (B, L) of the next token.
            keep: (K,) the positions of every row that are projected.
        """
        weights = self.answer_loss.weights(labels, answers)[:, keep].flatten()
        # Looked up before the forward pass, which a GPU would otherwise have to finish first.
        answered = weights.nonzero()[:, 0]
        reader, times = self.answer_loss.reader, None
        if reader is not None:
            times = TimeTargets.of(answers, reader, sigma_s=self.parts.loss.soft_time_sigma_s).to(labels.device)
        return answered, AnswerTokens(labels[:, keep].flatten()[answered], weights[answered], times)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The micro-batches of an optimizer step, and what their answer tokens weigh together, on all ranks."""
        self.updates += 1
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if items is not None and self.parts.loss.token_weights != "mean":  # of which the Trainer's count is the sum
            each = [self.answer_loss.items(batch["labels"], batch["answers"]) for batch in batches]
            items = torch.stack(each).sum().to(device)
            if self.args.average_tokens_across_devices and self.args.world_size > 1:
                gathered: Any = self.accelerator.gather(items)
                items = gathered.sum()
        return batches, items

    def _router_loss(self, balance: torch.Tensor, token_weights: torch.Tensor) -> torch.Tensor:
        """The router loss of a micro-batch, once for each of its answer tokens: divided by all of them, as the
        cross-entropy is, what accumulation and ranks add up to is a mean. (transformers adds the whole of every
        micro-batch, and so more of it the more are accumulated.)
        """
        answers = token_weights.sum()
        self.router_losses.append(torch.stack([answers * balance.detach(), answers]))
        return float(self.parts.parts.router_loss or 0) * answers * balance

    def step_batch(self, inputs: dict[str, Any]) -> StepBatch:
        return StepBatch(tuple(inputs["rows"]), inputs["input_ids"].numel())

    def get_train_dataloader(self) -> PlannedLoader:
        """This rank's batches."""
        # Planned for all ranks together: Accelerate would shard each rank's part a second time.
        return PlannedLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            multiprocessing_context=worker_context(self.args.dataloader_num_workers),
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            worker_init_fn=partial(
                seed_worker, num_workers=self.args.dataloader_num_workers, rank=self.args.process_index
            )
            if self.args.dataloader_num_workers
            else None,
        )

    def resume(self, checkpoint: Path) -> None:
        """Finds where in its epoch a checkpoint was saved; plans the rest anew for another world size or batch size."""
        position = Position.read(checkpoint)
        if position is None:
            return
        self.train_log.lines, self.shift = position.log_lines, position.shift
        if self.drawn is not None and is_main_process():  # a total of all ranks
            self.drawn.add(Counter(position.drawn))
        ranks, size = self.args.world_size, self.batches.planner.size
        sizes = position.sizes or (size,) * len(position.parts)
        is_own = [(count, each) == (ranks, size) for (count, _), each in zip(position.parts, sizes, strict=True)]
        if all(is_own):
            return
        done = 0
        if is_own[-1]:  # this world size had resumed from another before: its part is a prefix of the same plan
            done = position.parts[-1][1]
            position = replace(position, parts=position.parts[:-1], sizes=sizes[:-1])
        done += self.batches.resume(position)
        accumulation = self.args.gradient_accumulation_steps
        counted = position.epoch * -(-len(self.batches) // accumulation) + done // accumulation
        if self.args.max_steps > 0 and sizes[-1] != size:  # max_steps counts updates, of whatever batch size
            self.shift = int(checkpoint.name.rpartition("-")[2]) - counted
        elif not (is_own[-1] and self.shift):
            self.recount_steps(checkpoint, counted + self.shift)

    def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's counts, but for the number of epochs after a change of the batch size."""
        # The Trainer divides max_steps by the steps of an epoch of the present batches. After larger batches more
        # epochs have passed than it counts, and it would end early; max_steps ends the run as well.
        epochs, *others = super().set_initial_training_values(*args, **kwargs)
        return (sys.maxsize if self.shift else epochs, *others)

    def planned_steps(self) -> int:
        if self.args.max_steps > 0:
            return self.args.max_steps
        updates = -(-len(self.batches) // self.args.gradient_accumulation_steps)
        return math.ceil(self.args.num_train_epochs * updates)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        super()._init_training_state(*args, **kwargs)
        return epoch_and_batches(
            self.state.global_step - self.shift, len(self.batches), self.args.gradient_accumulation_steps
        )

    def _attention(self, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs, of a packed batch with what keeps its samples apart, of a padded one without a needless mask."""
        plain: Any = self.accelerator.unwrap_model(model)
        family, kernel = family_of(plain.config), attention_of(plain)
        if kernel not in ATTENTIONS.values():
            kernel = choose_attention(self._kernel, self.args.device, family=family)
        if "segments" not in inputs:
            skips = kernel in ATTENTIONS.values() and family.mrope and not family.both_ways
            return without_padding_mask(inputs) if skips else inputs
        dtype = torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else plain.dtype
        recurrent = family.recurrent is not None
        return attention(inputs, dtype=dtype, implementation=kernel, recurrent=recurrent, both_ways=family.both_ways)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs; beside a training loss also its terms, sizes, padding, balance and speed of the batches since the last
        entry, and how many clips of this rank were decoded, or read from memory or the cache.
        """
        if "loss" in logs:
            logs |= self._batch_statistics()
            clips = {name: count for name, count in sorted(self.counts.items()) if name not in BATCH_COUNTS}
            logs |= {f"clips/{name}": float(count) for name, count in clips.items()}
            self.counts.clear()
            logs |= self._mean_terms()
            if self.routing:
                own = torch.stack(self.router_losses or [torch.zeros(2, device=self.args.device)]).sum(0)
                gathered: Any = self.accelerator.gather(own[None])
                weighted, answers = gathered.sum(0).tolist()
                logs["router_loss"] = weighted / answers if answers else 0.0
                self.router_losses.clear()
        super().log(logs, start_time)

    def _mean_terms(self) -> dict[str, float]:
        """The terms of the loss, a mean over the updates since the last call; every rank has to call it."""
        terms, updates, self.loss_terms, self.updates = self.loss_terms, self.updates, {}, 0
        if len(terms) < 2:  # then the loss says it
            return {}
        gathered: Any = self.accelerator.gather(torch.stack(list(terms.values()))[None])
        means = gathered.mean(0) / max(1, updates)
        return {f"loss/{name}": value for name, value in zip(terms, means.tolist(), strict=True)}

    def _batch_statistics(self) -> dict[str, float]:
        """Means of all ranks' batches since the last call; every rank has to call it."""
        elapsed_s, self.interval_s = time.monotonic() - self.interval_s, time.monotonic()
        mine = torch.tensor([float(self.counts[name]) for name in BATCH_COUNTS], device=self.args.device)
        ranks: Any = self.accelerator.gather(mine[None])
        _, batches, tokens, slots = ranks.sum(0).tolist()
        sizes = self.sizes.take(self.accelerator)
        if not batches:
            return {}
        most = float(ranks[:, -1].max())  # all ranks wait for the one with most tokens
        return {
            **sizes,
            "batch/tokens": tokens / batches,
            "batch/padding": 1 - tokens / slots,
            "batch/rank_balance": slots / (len(ranks) * most),
            "batch/tokens_per_second": tokens / elapsed_s,
        }

    def save_extra(self, checkpoint: Path) -> None:
        """Writes how far the epoch has come, and what was drawn of each source."""
        drawn = {} if self.drawn is None else self.drawn.total(self.accelerator)
        if not is_main_process():
            return
        epoch, batches = epoch_and_batches(
            self.state.global_step - self.shift, len(self.batches), self.args.gradient_accumulation_steps
        )
        position = self.batches.position(epoch, batches)
        replace(position, log_lines=self.train_log.lines, shift=self.shift, drawn=drawn).write(checkpoint)
