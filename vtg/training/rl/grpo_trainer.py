"""TRL's GRPOTrainer, with the video in every forward and every prompt run once for all of its completions.

TRL's own: losses, clipping, KL, advantages, schedules, logging, all options. Here: where prompts and clips come from
(`RolloutLoader`), how completions are sampled (`ENGINES`) and how log-probs are computed (`Policy`), and that a
rollout's prompts stay whole, so that the completions of one share its forward.
"""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.nn.functional import pad
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from vtg.config.derived import shares_prompts
from vtg.config.schema import RLConfig
from vtg.data.encoding import vision_token_ids
from vtg.data.grounding_dataset import GroundingDataset, SkipReport
from vtg.decoding.shared_prefix import Prompt
from vtg.errors import ConfigError
from vtg.models.checkpoint import base_model
from vtg.output import write_json
from vtg.training.batch_log import BatchSizes
from vtg.training.grounding_trainer import GroundingTrainer, SaveBest
from vtg.training.guard import StepBatch
from vtg.training.processes import is_main_process
from vtg.training.progress import Progress, TrainLog
from vtg.training.rl.completions import (
    completion_row,
    completion_statistics,
    drop_completions,
    set_completions_aside,
    write_completions,
)
from vtg.training.rl.curriculum import IoURecord, Plateau
from vtg.training.rl.engine_protocol import Completions
from vtg.training.rl.engines import ENGINES, check_parity
from vtg.training.rl.policy import Policy
from vtg.training.rl.prompt_batches import PromptBatches
from vtg.training.rl.rewards.mixture import Term
from vtg.training.rl.rewards.trl_functions import reward_functions
from vtg.training.rl.rollout_batch import MicroBatch, Sampled, Saved
from vtg.training.rl.rollouts import MicroStep, Rollout, RolloutLoader, RolloutState
from vtg.training.stopping import StopOnSignal

log = logging.getLogger(__name__)

CHECKED_TRL = ("1.16",)
"""Versions of TRL whose trainer this subclass was read against and tested with."""

STATE_FILE = "rollouts.json"
RECORD_FILE = "curriculum.json"
"""In every checkpoint: where the stream of prompts is, and the IoU of every sample so far."""

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


class VideoGRPOTrainer(GroundingTrainer, GRPOTrainer):
    """GRPO for prompts with a video.

    Args:
        model: a plain Qwen-VL model or a PeftModel on one.
        train_dataset: prompts without answers (`GroundingDataset(answers=False)`).
        loader: this rank's stream of prompts.
        costs: (samples,) of each prompt, as the loader's plan counts them.
        terms: the rewards and their weights.

    Raises:
        ConfigError: for a version of TRL that was not checked.
    """

    config: RLConfig  # type: ignore[assignment]
    args: GRPOConfig  # type: ignore[assignment]
    num_generations: int
    private_names_of = GroundingTrainer.private_names_of | {"trl"}

    def __init__(
        self,
        *,
        model: Any,
        args: GRPOConfig,
        config: RLConfig,
        train_dataset: GroundingDataset,
        loader: RolloutLoader,
        costs: np.ndarray,
        terms: Sequence[Term],
        record: IoURecord,
        report: SkipReport,
        **kwargs: Any,
    ) -> None:
        check_trl()
        self.prompts, self.loader, self.costs, self.record = train_dataset, loader, costs, record
        self.config, self.report, self.base = config, report, base_model(config.model)
        args.reward_weights = [term.weight for term in terms]
        tokenizer = kwargs["processing_class"].tokenizer
        given: dict[str, Any] = args.generation_kwargs or {}  # type: ignore[assignment]
        never = {*vision_token_ids(tokenizer), *(given.get("suppress_tokens") or ())}
        args.generation_kwargs = given | {"suppress_tokens": sorted(never)}
        # TRL refuses any other type, and reads nothing of it: `get_train_dataloader` is ours (docs/decisions.md).
        placeholder = Dataset.from_dict({"prompt": [""]})
        rewarded: Any = reward_functions(terms, train_dataset.task)
        super().__init__(model=model, args=args, reward_funcs=rewarded, train_dataset=placeholder, **kwargs)
        self.policy = Policy(
            self.model,
            self.ref_model,
            accelerator=self.accelerator,
            args=args,
            pad_token_id=self.pad_token_id,
            shares=shares_prompts(config),
        )
        self.engine = ENGINES[config.rollout.engine](self)
        self.use_vllm = self.engine.own_model  # to TRL: there are log-probs of the sampling, correct for them
        self._sampled: Sampled | None = None
        self._saved: Saved | None = None
        self._added = False
        self._rolled: Rollout | None = None
        self._current: list[MicroBatch] = []
        self._window: list[MicroStep] = []
        self.sizes = BatchSizes()
        self._scored: dict[str, Any] = {}
        self.means: defaultdict[str, list[float]] = defaultdict(list)  # of what is logged, since the last entry
        self.begin_interval()
        self.plateau = Plateau(config.curriculum)
        self.stop = StopOnSignal()
        self.remove_callback(PrinterCallback)
        self.train_log = TrainLog(Path(config.output_dir) / "train_log.jsonl")
        for callback in (SaveBest(), Progress(), self.train_log, self.stop, StreamPosition(self)):
            self.add_callback(callback)
        if config.evaluation.early_stopping_patience and self.eval_dataset is not None:
            self.add_callback(EarlyStoppingCallback(config.evaluation.early_stopping_patience))
        if isinstance(self.model, PeftModel):  # not TRL's copy of it, which a start makes anew
            adapter: Any = self.model
            adapter.save_pretrained = partial(adapter.save_pretrained, selected_adapters=["default"])

    @property
    def pad_token_id(self) -> int:
        processor: Any = self.processing_class
        return processor.tokenizer.pad_token_id

    # What TRL asks for, in the order of a step.

    def get_train_dataloader(self) -> Any:
        """The stream of this rank; nothing is sharded again."""
        return self.loader

    def train(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().train(*args, **kwargs)
        finally:
            self.loader.end()  # its stream has no end, and would decode on through the last evaluation

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, None]:
        """The micro-steps of the next optimizer step."""
        self._window = [next(epoch_iterator) for _ in range(num_batches)]
        return self._window, None

    def step_batch(self, inputs: MicroStep) -> StepBatch:
        rows = tuple(item["row"] for item in inputs.rollout.items[inputs.at])
        times = 1 if self.policy.shares else self.num_generations
        completions = len(rows) * self.num_generations * (self.args.max_completion_length or 0)
        return StepBatch(rows, times * sum(row.tokens for row in rows) + completions)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """A MicroStep → the tensors of its loss; its rollout is sampled and scored when its first micro-step comes."""
        if not isinstance(generation_batch, MicroStep):
            return super()._prepare_inputs(generation_batch)
        step = generation_batch
        if self._rolled is not step.rollout:
            self._sampled = self._restored(step.rollout) if self._saved else self._roll_out(step.rollout)
            self._rolled = step.rollout
        assert self._sampled is not None
        batch = self._sampled.batches[step.at].alone
        return self._sampled.inputs(step.at) | {"batch": batch, "weight": self._weight(step)}

    def _weight(self, step: MicroStep) -> float:
        """What makes every completion of an optimizer step count the same, whatever its micro-batch holds.

        TRL means such losses over the rows of a micro-batch, then over micro-batches and ranks; rows without loss are
        not to count.
        """
        if self.loss_type not in PER_BATCH_LOSSES:
            return 1.0
        total = 0
        for one in self._window:
            known = self._sampled if one.rollout is self._rolled else None
            planned = len(one.rollout.indices[one.at]) * self.num_generations * self.args.world_size
            total += known.live_rows[one.at] if known else planned
        assert self._sampled is not None
        live = self._sampled.live[self._sampled.batches[step.at].rows]
        rows = int(live.sum()) if self.loss_type == "bnpo" else len(live)  # bnpo's mean leaves out rows without loss
        return rows * len(self._window) * self.args.world_size / total if total else 0.0

    def _roll_out(self, rollout: Rollout) -> Sampled:
        sampled = self._sample(rollout.indices, rollout.items)
        if self.config.curriculum.zero_variance == "resample":
            for attempt in range(self.config.curriculum.resample_rounds):
                dead = self.accelerator.reduce((~sampled.live).sum(), reduction="sum")
                if not int(dead):  # type: ignore[call-overload]
                    break
                drawn = self._draw(sampled.indices, attempt)
                fresh = self._sample(drawn, [[self.prompts[index] for index in some] for some in drawn])
                sampled.replace_dead(fresh, self._widened)
        self._finish(sampled)
        return sampled

    def _sample(self, indices: list[list[int]], items: list[list[dict[str, Any]]]) -> Sampled:
        """Completions, rewards and log-probs of these prompts, logged and on the record."""
        batches: list[MicroBatch] = []
        rows: list[dict[str, Any]] = []
        for some, own in zip(indices, items, strict=True):
            clips = [item.get("clip") for item in own]
            start, prompts = len(rows), self.policy.prompts([item["features"] for item in own], clips)
            for index, item in zip(some, own, strict=True):
                row = {"index": index, "sample": self.prompts.samples[index], "skipped": item["skipped"] is not None}
                row["prompt"] = [{"role": "user", "content": row["sample"].query}]
                rows += [dict(row) for _ in range(self.num_generations)]
                self.report.add([item["skipped"]] if item["skipped"] is not None else [])
                self.policy.counts += Counter({f"clips/{name}": count for name, count in item["counts"].items()})
            batches.append(MicroBatch(prompts, slice(start, len(rows)), self.num_generations))
        self._current = batches
        output = self._generate_and_score_completions(rows)
        output = {key: value for key, value in output.items() if isinstance(value, torch.Tensor)}
        live = self._note(rows, output["advantages"])
        return Sampled([list(some) for some in indices], batches, output, live)

    def _note(self, rows: list[dict[str, Any]], advantages: torch.Tensor) -> torch.Tensor:
        """Logs the completions that were just scored, and puts their IoU on record; returns which rows carry loss."""
        weights = self.reward_weights.to(self.args.device)
        rewards = self._scored["rewards"]
        totals = (rewards * weights).nansum(1)
        groups = totals.view(-1, self.num_generations)
        varies = ((groups.max(1).values - groups.min(1).values) > 1e-6).repeat_interleave(self.num_generations)
        skipped = torch.tensor([row["skipped"] for row in rows], device=varies.device)
        logged = []
        for at, row in enumerate(rows):
            if not row["skipped"]:
                one = row["sample"]
                answer = self.prompts.task.parse(self._scored["texts"][at], duration_s=one.duration_s)
                parts = {
                    name: round(value, 6)
                    for name, value in zip(self.reward_func_names, rewards[at].tolist(), strict=True)
                }
                told = {"rewards": parts, "reward": float(totals[at]), "advantage": float(advantages[at])}
                logged.append((row["index"], completion_row(one, answer, step=self.state.global_step, **told)))
        logged = gather_object(logged) if self.args.world_size > 1 else logged
        by_sample: dict[int, list[float]] = {}
        for index, row in logged:
            by_sample.setdefault(index, []).append(row["iou"])
        self.record.update(
            [(index, sum(ious) / len(ious)) for index, ious in sorted(by_sample.items())], self.state.global_step
        )
        written = [row for _, row in logged]
        if written:
            for name, value in completion_statistics(written).items():
                self.means[name].append(value)
            if not self._added:
                self.plateau.feed(sum(row["reward"] for row in written) / len(written))
        if is_main_process():
            write_completions(Path(self.config.output_dir), self.state.global_step, written, begin=not self._added)
        self._added = True
        live = ~skipped
        if self.config.curriculum.zero_variance != "keep":
            live &= varies
        return live

    def _widened(self, key: str, value: torch.Tensor, length: int) -> torch.Tensor:
        if value.ndim < 2 or key in ("prompt_ids", "prompt_mask"):
            return value
        if key == "importance_sampling_ratio" and self.vllm_importance_sampling_mode.startswith("sequence"):
            return value  # one for the whole completion
        fill = self.pad_token_id if key == "completion_ids" else 0
        return pad(value, (0, length - value.shape[1]), value=fill)

    def _draw(self, indices: list[list[int]], attempt: int) -> list[list[int]]:
        """As many other samples for each micro-batch, none costlier than the costliest that it holds."""
        state = self.loader.state
        key = (self.args.seed, state.passes, state.rollouts, state.micro_steps, attempt, self.args.process_index)
        generator = np.random.default_rng(key)
        pool = np.array(state.chosen if state.chosen else range(len(self.prompts)))
        taken = [index for some in indices for index in some]
        drawn = []
        for some in indices:
            fits = pool[self.costs[pool] <= self.costs[some].max()]
            others = np.setdiff1d(fits, taken)
            if not len(others):  # a data set of a few rows
                others = fits
            drawn.append(generator.choice(others, len(some), replace=len(others) < len(some)).tolist())
        return drawn

    def _finish(self, sampled: Sampled) -> None:
        """Takes the loss off the rows that are to have none, and counts on all ranks what is left."""
        tensors, dead = sampled.tensors, ~sampled.live
        tensors["completion_mask"] = tensors["completion_mask"].masked_fill(dead[:, None], 0)
        tensors["advantages"] = tensors["advantages"].masked_fill(dead, 0.0)
        tensors["num_items_in_batch"] = self.accelerator.gather(tensors["completion_mask"].sum()).sum()  # type: ignore[union-attr]
        live = torch.stack([sampled.live[batch.rows].sum() for batch in sampled.batches])
        sampled.live_rows = self.accelerator.reduce(live, reduction="sum").tolist()  # type: ignore[union-attr]
        self.means["groups/without_loss"].append(float(dead.float().mean()))
        self._added = False

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict]:
        ids = [prompt.features["input_ids"].tolist() for batch in self._current for prompt in batch.prompts]
        return [one for one in ids for _ in range(self.num_generations)], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Completions:
        """Completions of every prompt of `self._current`."""
        if not self.engine.own_model:
            for batch in self._current:
                self.policy.count(batch)
        self.engine.sync(self.model, self.state.global_step)
        prompts = [batch.prompts for batch in self._current]
        return self.engine.sample(self.model_wrapped, prompts, n=self.num_generations)

    def check_engine(self) -> None:
        """Compares an engine that has a model of its own with the forward that is trained.

        Raises:
            RunError: where they do not agree.
        """
        rollout = self.config.rollout
        if not self.engine.own_model:
            return
        chosen = np.linspace(0, len(self.prompts) - 1, min(rollout.parity_samples, len(self.prompts))).astype(int)
        places = [self.prompts.samples[index].place for index in chosen.tolist()]
        items = [self.prompts[index] for index in chosen.tolist()]
        prompts = self.policy.prompts([item["features"] for item in items], [item["clip"] for item in items])
        model: Any = self.model
        was_training = model.training
        model.eval()
        self.engine.sync(self.model, self.state.global_step)
        found = check_parity(
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
            *(self.engine.name, found.prompts, found.tokens, found.largest, found.mean),
        )

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        mine = slice(self.args.process_index * len(inputs), (self.args.process_index + 1) * len(inputs))
        texts = [messages[0]["content"] for messages in completions]
        self._scored = {"texts": texts, "rewards": rewards[mine]}
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
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Log-probs (rows, C) and entropies of the completions of `self._current`."""
        completions, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]
        found = []
        for batch in self._current:
            own, real = completions[batch.rows], mask[batch.rows]
            length = max(1, int(real.sum(1).max()))
            outputs = self.policy.log_probs(model, batch, own[:, :length], real[:, :length])
            found.append([pad(x[:, :length], (0, logits_to_keep - length)) for x in outputs])
        logps, entropies = (torch.cat(parts) for parts in zip(*found, strict=True))
        return logps, entropies if compute_entropy else None, None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """TRL's loss of a micro-batch, weighed as `_weight` says."""
        self._current = [inputs["batch"]]
        self.sizes.add(len(inputs["batch"].prompts))
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch) * inputs["weight"]

    def answers(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        before = self.policy.counts.copy()
        rows = super().answers(*args, **kwargs)
        self.policy.counts = before  # of training alone
        return rows

    def floating_point_ops(self, inputs: Any) -> int:
        """Not known from a micro-step."""
        return 0

    def begin_interval(self) -> None:
        super().begin_interval()
        self.prompts.provider.take_counts()
        self.policy.counts.clear()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's metrics and the counts go with the losses; other entries (an evaluation, the end) are as they are."""
        if "loss" not in logs:
            return Trainer.log(self, logs, start_time)
        logs |= {name: sum(values) / len(values) for name, values in self.means.items()}
        logs |= {name: float(count) for name, count in sorted(self.policy.counts.items())}
        logs |= self.sizes.take(self.accelerator)
        self.means.clear()
        self.policy.counts.clear()
        return super().log(logs, start_time)

    # What a checkpoint holds, so that a run goes on as if it had not stopped.

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint's README would be about TRL."""

    def save_extra(self, checkpoint: Path) -> None:
        """Where the stream of prompts is, the rollout that is being trained on, and the IoU of every sample."""
        if self.loader.state.micro_steps and self._sampled is not None:
            save_file(self._sampled.saved(), checkpoint / self._rollout_file)
        if is_main_process():
            self.record.write(checkpoint / RECORD_FILE)
            told = {"loader": asdict(self.loader.state), "plateau": self.plateau.state()}
            told |= {"batches": asdict(PromptBatches.of(self.config, self.args))}
            write_json(
                checkpoint / STATE_FILE, told | {"log_lines": self.train_log.lines, "ranks": self.args.world_size}
            )

    def resume(self, checkpoint: Path) -> None:
        """Prepares to resume from a checkpoint: in the middle of its rollout, or with other ranks or batches than it
        had, after the last rollout that was trained to its end.
        """
        found = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        ranks, step = found["ranks"], int(checkpoint.name.rpartition("-")[2])
        size = PromptBatches.of(self.config, self.args)
        before = PromptBatches(**found["batches"]) if "batches" in found else size
        planner: Any = self.loader.plan
        planned = partial(planner, size=before) if before != size else None
        self.loader.resume(RolloutState(**found["loader"]), ranks=ranks, plan=planned)
        self.plateau = Plateau.load(found["plateau"], self.config.curriculum)
        saved = IoURecord.read(checkpoint / RECORD_FILE, self.prompts.samples)
        self.record.iou, self.record.met, self.record.step = saved.iou, saved.met, saved.step  # others hold it too
        self.train_log.lines = found["log_lines"]
        if is_main_process():
            drop_completions(Path(self.config.output_dir), after=step)
        if ranks != self.args.world_size or before != size:
            self._take_over(checkpoint, step, ranks)
        elif (checkpoint / self._rollout_file).is_file():
            saved_rollout = load_file(checkpoint / self._rollout_file)
            self._saved = Saved({key: value.to(self.args.device) for key, value in saved_rollout.items()})

    def planned_steps(self) -> int:
        return self.args.max_steps

    def _take_over(self, checkpoint: Path, step: int, ranks: int) -> None:
        """Counts the steps as these ranks and batches do, of which a pass takes more or fewer; a number of steps that
        was asked for stays.
        """
        planned = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).max_steps
        is_asked = (self.config.trainer.get("max_steps") or -1) > 0
        steps = step if is_asked else round(step * self.args.max_steps / planned)
        log.info("%d ranks go on from %d: step %d of %d", self.args.world_size, ranks, steps, self.args.max_steps)
        self.recount_steps(checkpoint, steps)
        if is_main_process():
            set_completions_aside(Path(self.config.output_dir), since=steps, folder=f"on_{ranks}_ranks")

    @property
    def _rollout_file(self) -> str:
        return f"rollout_{self.args.process_index}.safetensors"

    def _restored(self, rollout: Rollout) -> Sampled:
        """The rollout that a checkpoint was saved in the middle of."""
        saved, self._saved = self._saved, None
        assert saved is not None
        known = {
            index: item
            for some, items in zip(rollout.indices, rollout.items, strict=True)
            for index, item in zip(some, items, strict=True)
        }

        def prompts(indices: list[int]) -> list[Prompt]:
            return self.policy.prompts([(known.get(index) or self.prompts[index])["features"] for index in indices])

        return saved.with_prompts(list(map(len, rollout.indices)), prompts, self.num_generations)


class StreamPosition(TrainerCallback):
    """Tells the Trainer's state how many passes the stream has made, and stops the run at the reward plateau."""

    def __init__(self, trainer: VideoGRPOTrainer) -> None:
        self.trainer = trainer
        self.micro_steps = trainer.loader.micro_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.epoch = state.global_step * args.gradient_accumulation_steps / self.micro_steps
        if self.trainer.plateau.reached:
            control.should_save = control.should_training_stop = True
