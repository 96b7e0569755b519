"""Reinforcement learning with GRPO on TRL: from settings to a trained policy."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial

from peft import PeftModel
from transformers import set_seed
from trl.trainer.grpo_config import GRPOConfig

from vtg.annotations.sample_table import SampleTable
from vtg.batching import Mixture
from vtg.config.argument_values import number_of
from vtg.config.derived import LAYOUT_ATTENTIONS, longest_clip_tokens, shares_prompts
from vtg.config.rl_settings import CurriculumConfig
from vtg.config.schema import RLConfig
from vtg.data.encoding import token_cost
from vtg.data.grounding_dataset import GroundingDataset
from vtg.errors import ConfigError
from vtg.logs import start_logging
from vtg.memory.checkpointing import settle_checkpointing
from vtg.models.compiled_layers import compile_layers
from vtg.storage.json_files import read_jsonl
from vtg.tasks.answer import is_answer
from vtg.tasks.span_task import SpanTask
from vtg.training.batch_log import log_target
from vtg.training.hf_arguments import training_arguments
from vtg.training.mixture_record import log_mixture, without_over_budget
from vtg.training.model_check import check_model
from vtg.training.rl import curriculum, engines
from vtg.training.rl.grpo_trainer import VideoGRPOTrainer, check_trl
from vtg.training.rl.mixed_choice import choose_of_each
from vtg.training.rl.prompt_batches import PromptBatches, plan, prompt_costs
from vtg.training.rl.rewards.mixture import Term
from vtg.training.rl.rollouts import Plan, RolloutLoader
from vtg.training.run import TrainingRun
from vtg.training.run_record import FILES
from vtg.training.trainer_parts import TrainerParts

log = logging.getLogger(__name__)


def train(config: RLConfig, terms: Sequence[Term], notes: Sequence[str] = ()) -> None:
    """One run of `train_rl.py`, rewarded by `terms`. `notes`: lines to log at the start.

    Raises:
        ConfigError: for settings found wrong before any model loads.
        TooManyBadRows: when more than `data.max_bad_share` of the rows cannot be used.
    """
    start_logging()
    for note in notes:
        log.info("%s", note)
    # Before any model loads: what is wrong with versions or settings should show within seconds.
    check_trl()
    check_model(config)
    settle_checkpointing(config, time_tokens=len(SpanTask(config.task).tokens()))
    arguments = grpo_arguments(config)
    engines.check(
        *(config.rollout.engine, arguments),
        given=config.rl,
        pads=config.video.pad,
        answer=config.task.answer,
        model_path=config.model.path,
    )
    if config.model.attention not in ("auto", *LAYOUT_ATTENTIONS) and config.rollout.share_prompt:
        log.warning(
            "model.attention = %s cannot share prompts: each is run %d times, once a completion; set "
            "model.attention=sdpa to run it once",
            *(config.model.attention, arguments.num_generations),
        )
    run = TrainingRun(config)
    # vLLM processes the frames itself; transformers needs the features alone.
    keep_clips = config.rollout.engine != "transformers"
    prompts = run.dataset(run.splits.train, training=True, answers=False, keep_clips=keep_clips)
    shares = shares_prompts(config.rollout, config.model)
    costs = prompt_costs(
        prompts, arguments, batching=config.batching, data=config.data, video=config.video, shares=shares
    )
    longest = longest_clip_tokens(config.video, token_cost(run.processor))
    size = PromptBatches.of(arguments, config.batching, longest=longest)
    mixture = run.splits.mixture
    if config.batching.oversize == "skip":
        over = costs.each > size.budget
        prompts.leave_out(over, run.report, budget=size.budget)
        costs = costs.select(~over)
        mixture = None if mixture is None else without_over_budget(mixture, over)
    record = curriculum.IoURecord.start(prompts.samples)
    loader = _prompt_stream(
        prompts,
        arguments,
        choose=lambda epoch: _choose(record, config.curriculum, mixture, epoch, seed=config.seed),
        plan=partial(plan, batching=config.batching, costs=costs, size=size, seed=config.seed),
        whole=None if mixture is None else mixture.draw(0).tolist(),
    )
    if mixture is not None:
        log_mixture(mixture)
    _set_steps(arguments, loader)
    _log_batches(loader, arguments, by=config.batching.by, size=size)
    # Again, right before LoRA weights are drawn: what came before may differ between ranks and resumes.
    set_seed(config.seed)
    continued = isinstance(run.model, PeftModel)
    model = run.model_to_train(arguments.learning_rate)
    if config.trainer.get("torch_compile"):
        compile_layers(model)
    if arguments.sync_ref_model and isinstance(model, PeftModel):
        raise ConfigError(
            f"rl.sync_ref_model = true: {config.model.path} is an adapter, whose reference is the model without it and "
            "never moves; remove it"
        )
    trainer = VideoGRPOTrainer(
        model=model,
        args=arguments,
        parts=TrainerParts.of(config, report=run.report),
        rollout=config.rollout,
        curriculum=config.curriculum,
        shares_prompts=shares,
        prompt_batches=size,
        has_max_steps=(config.trainer.get("max_steps") or -1) > 0,
        train_dataset=prompts,
        eval_dataset=run.validation,
        processing_class=run.processor,
        loader=loader,
        costs=costs,
        terms=terms,
        record=record,
        mixture=mixture,
    )
    run.train_and_test(
        trainer, continued=continued, before=partial(_check_start, run, trainer, config.rollout.min_parsed)
    )


def _prompt_stream(
    prompts: GroundingDataset,
    arguments: GRPOConfig,
    *,
    choose: Callable[[int], Sequence[int]],
    plan: Callable[[Sequence[int], int, int], Plan],
    whole: Sequence[int] | None,
) -> RolloutLoader:
    """This rank's rollouts, read as the Trainer's own arguments for data loaders say."""
    return RolloutLoader(
        prompts,
        choose=choose,
        plan=plan,
        whole=whole,
        rank=arguments.process_index,
        ranks=arguments.world_size,
        iterations=arguments.num_iterations,
        workers=arguments.dataloader_num_workers,
        prefetch=arguments.dataloader_prefetch_factor,
        pin_memory=arguments.dataloader_pin_memory,
    )


def _log_batches(loader: RolloutLoader, arguments: GRPOConfig, *, by: str, size: PromptBatches) -> None:
    """Says what an optimizer step holds."""
    prompts = loader.dataset
    micro_batches = loader.micro_steps // arguments.num_iterations * arguments.world_size
    log_target(
        by,
        limit=size.prompts if by == "fixed" else size.budget,
        mean_s=float(SampleTable.of(prompts.samples).numbers("duration_s").mean()),
        expected=len(loader.whole or prompts) / micro_batches,
        accumulation=arguments.gradient_accumulation_steps,
        ranks=arguments.world_size,
        of="prompts",
    )


def grpo_arguments(config: RLConfig) -> GRPOConfig:
    """`trainer.*` and `rl.*` as TRL's GRPOConfig. `per_device_train_batch_size` counts prompts in ours, rows in TRL's.

    Raises:
        ConfigError: for a value that GRPOConfig refuses.
    """
    own = {entry.name: entry for entry in fields(GRPOConfig)}
    given = dict(config.rl)
    for key, value in given.items():
        if isinstance(own[key].default, (int, float)) and isinstance(value, str):
            given[key] = number_of(f"rl.{key}", value)
    group = given.get("num_generations", 8)
    prompts = config.trainer.get("per_device_train_batch_size", 1) if config.batching.by == "fixed" else 1
    # TRL counts completions here.
    rows = prompts * group
    # ignore_data_skip: the stream resumes by itself, without replaying batches.
    more = {"per_device_train_batch_size": rows, "per_device_eval_batch_size": group, "ignore_data_skip": True}
    # Without a number TRL takes the one of the model's config, and every mixture of experts has one.
    more["router_aux_loss_coef"] = config.parts.router_loss or 0.0
    arguments = training_arguments(config, GRPOConfig, **given, **more)
    assert isinstance(arguments, GRPOConfig)
    return arguments


def _choose(
    record: curriculum.IoURecord, settings: CurriculumConfig, mixture: Mixture | None, epoch: int, *, seed: int
) -> list[int]:
    if mixture is None:
        choice = curriculum.choose(record, settings, epoch=epoch, seed=seed)
    else:
        choice = choose_of_each(record, settings, mixture, epoch=epoch, seed=seed)
    if choice.note:
        log.warning("curriculum: %s", choice.note)
    of = "" if mixture is None else ", by the weights of their sources"
    log.info("pass %d: %d of %d samples%s", epoch + 1, len(choice.indices), len(record), of)
    return choice.indices.tolist()


def _set_steps(arguments: GRPOConfig, loader: RolloutLoader) -> None:
    """The number of optimizer steps, which the Trainer cannot read off a stream without end."""
    # Rounded up: the last step of a pass takes its remaining micro-batches from the next.
    updates = -(-loader.micro_steps // arguments.gradient_accumulation_steps)
    if arguments.max_steps < 0:
        arguments.max_steps = max(1, round(arguments.num_train_epochs * updates))
    log.info(
        "%d optimizer steps; a pass over all %d prompts has %d, with %d completions of each",
        *(arguments.max_steps, len(loader.dataset), updates, arguments.num_generations),
    )


def _check_start(run: TrainingRun, trainer: VideoGRPOTrainer, min_parsed: float) -> None:
    """Ends the run where the engine does not agree with training.

    Warns where most answers of the model that training starts from cannot be read: it would learn nothing.
    """
    trainer.check_engine()
    answers = run.path / FILES["base"]
    rows = read_jsonl(answers) if answers.is_file() else []
    parsed = sum(is_answer(row["status"]) for row in rows)
    if rows and parsed < min_parsed * len(rows):
        log.warning(
            "only %d of %d answers of %s could be read (rollout.min_parsed = %s): rewards will mostly be 0; fine-tune "
            "it first (train_sft.py, then model.path=outputs/sft_tiny_demo), or check task.answer; an answer: %r",
            *(parsed, len(rows), run.config.model.path, min_parsed, rows[0]["text"][:200]),
        )
