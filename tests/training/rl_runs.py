"""How the tests of reinforcement learning start a run, or build its trainer, and read what it leaves."""

import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import forked

from vtg.config.derived import longest_clip_tokens, shares_prompts
from vtg.config.load import load_config
from vtg.config.schema import RLConfig
from vtg.data.encoding import token_cost
from vtg.entry import conf_dir
from vtg.training.rl import curriculum
from vtg.training.rl.grpo_trainer import VideoGRPOTrainer
from vtg.training.rl.prompt_batches import PromptBatches, plan, prompt_costs
from vtg.training.rl.rewards.mixture import reward_terms
from vtg.training.rl.rollout_batch import MicroBatch
from vtg.training.rl.rollouts import RolloutLoader
from vtg.training.rl.run_rl import grpo_arguments
from vtg.training.run import TrainingRun
from vtg.training.trainer_parts import TrainerParts


def overrides(demo: Path, out: Path, *more: str) -> list[str]:
    """A run of 2 steps, each over 2 prompts with 4 completions, that measures nothing before and after."""
    return [
        "data=jsonl",
        f"data.annotation_file={demo / 'train.jsonl'}",
        f"data.video_dir={demo}",
        f"output_dir={out}",
        "trainer.max_steps=2",
        "trainer.per_device_train_batch_size=2",
        "trainer.save_strategy=steps",
        "trainer.save_steps=1",
        "trainer.save_total_limit=9",
        "trainer.logging_steps=1",
        "trainer.warmup_steps=0",
        "trainer.use_cpu=true",
        "rl.num_generations=4",
        "rl.max_completion_length=12",
        "evaluation.max_new_tokens=12",
        *more,
    ]


def compose(words: list[str]) -> RLConfig:
    from hydra import compose, initialize_config_dir

    words = [f"++{word}" if word.startswith(("trainer.", "rl.")) else word for word in words]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return load_config(compose("rl", overrides=words), RLConfig)


def train(words: list[str]) -> None:
    """A run in this process, as `train_rl.py` makes it."""
    from vtg.training.rl.run_rl import train as train_grpo

    config = compose(words)
    train_grpo(config, reward_terms(config.rewards))


def build(words: list[str]) -> VideoGRPOTrainer:
    """The trainer of these settings, as `vtg.training.rl.run_rl` builds it, in training mode and not yet trained."""
    from peft import PeftModel
    from transformers import set_seed

    from vtg.models.adapting import prepare_training

    config = compose(words)
    arguments = grpo_arguments(config)
    config.model.attention = "sdpa"
    run = TrainingRun(config)
    prompts = run.dataset(run.splits.train, training=True, answers=False)
    costs = prompt_costs(
        prompts, arguments, batching=config.batching, data=config.data, video=config.video, shares=True
    )
    longest = longest_clip_tokens(config.video, token_cost(run.processor))
    size = PromptBatches.of(arguments, config.batching, longest=longest)
    record = curriculum.IoURecord.start(prompts.samples)
    loader = RolloutLoader(
        prompts,
        choose=lambda epoch: range(len(prompts)),
        plan=partial(plan, batching=config.batching, costs=costs, size=size, seed=config.seed),
        rank=0,
        ranks=1,
        iterations=arguments.num_iterations,
    )
    set_seed(config.seed)
    model: Any = run.model
    trainer = VideoGRPOTrainer(
        model=prepare_training(model, config.parts, config.lora, time_tokens=run.time_tokens),
        args=arguments,
        parts=TrainerParts.of(config, report=run.report),
        rollout=config.rollout,
        curriculum=config.curriculum,
        shares_prompts=shares_prompts(config.rollout, config.model),
        prompt_batches=size,
        has_max_steps=True,
        train_dataset=prompts,
        eval_dataset=None,
        processing_class=run.processor,
        loader=loader,
        costs=costs,
        terms=reward_terms(config.rewards),
        record=record,
    )
    assert isinstance(trainer.model, PeftModel) == (config.lora.enabled or isinstance(model, PeftModel))
    trainer.model.train()
    return trainer


def window(trainer: VideoGRPOTrainer) -> list[dict[str, Any]]:
    """The inputs of the loss, a micro-batch each, of the next optimizer step."""
    stream = iter(trainer.get_train_dataloader())
    steps, _ = trainer.get_batch_samples(stream, trainer.args.gradient_accumulation_steps, trainer.args.device)
    trainer.current_gradient_accumulation_steps = len(steps)
    return [trainer._prepare_inputs(step) for step in steps]


def log_probs(trainer: VideoGRPOTrainer, model: Any, batches: list[MicroBatch], inputs: dict[str, Any]) -> Any:
    """What the trainer takes for the log-probs (rows, C) of the completions of these micro-batches, under `model`."""
    import torch

    trainer._current_batches = batches
    ids, mask = inputs["completion_ids"], inputs["completion_mask"]
    with torch.no_grad():
        return trainer._get_per_token_logps_and_entropies(model, ids, mask, ids.shape[1])[0]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return forked.run("train_rl.py", *words)


def cut_back(out: Path, *, step: int) -> None:
    """Leaves of a run what is there when it is killed after the checkpoint of a step."""
    shutil.rmtree(out / "best")
    for folder in out.glob("checkpoint-*"):
        if int(folder.name.rpartition("-")[2]) > step:
            shutil.rmtree(folder)
