"""The names that `trainer.*` and `rl.*` may have: those of TrainingArguments and GRPOConfig that have an effect here.

They are read from the source of transformers and TRL, without importing either.
"""

import difflib
from functools import cache
from importlib.util import find_spec
from typing import Any

from vtg.config.argument_values import GRPO, TRAINER, annotations
from vtg.config.foreign_names import our_key
from vtg.config.latents_schema import LatentsConfig
from vtg.config.programs import reinforces
from vtg.config.schema import RLConfig, RunConfig
from vtg.errors import ConfigError

# TrainingArguments that vtg sets → the key to set instead: two keys for one thing would contradict each other.
REPLACED = {
    "output_dir": "output_dir",
    "seed": "seed",
    "data_seed": "seed",
    "resume_from_checkpoint": "resume",
    "dataloader_drop_last": "batching.drop_last",
    "train_sampling_strategy": "batching.by",
    "length_column_name": "batching.by",
    "deepspeed": "deepspeed=zero2 (or zero3, zero2_offload, zero3_offload), or deepspeed.file",
    "fsdp": "deepspeed=zero3 (FSDP is not offered)",
    "fsdp_config": "deepspeed=zero3 (FSDP is not offered)",
    "parallelism_config": "deepspeed=zero3 (a model is shared out by ZeRO alone)",
    "auto_find_batch_size": "batching.target_batch_tokens",
    "logging_nan_inf_filter": "on_nan",
    "load_best_model_at_end": "data.val_file or data.val_share (the best mIoU is kept where there is validation)",
    "per_device_eval_batch_size": "evaluation.batch_size",
    **dict.fromkeys(("torch_compile_backend", "torch_compile_mode"), "trainer.torch_compile"),
    "use_liger_kernel": "model.kernels=liger",
    "liger_kernel_config": "model.kernels=liger",
    "bf16_full_eval": "model.dtype",
    "fp16_full_eval": "model.dtype",
}

# TrainingArguments that would change nothing → why. They are refused, because a setting that is taken and ignored
# looks as if it worked.
WITHOUT_EFFECT = {
    "ignore_data_skip": "a run that goes on never trains again what it trained",
    "dataloader_persistent_workers": "workers start anew with every epoch, whose frames and prompts differ",
    "dataloader_multiprocessing_context": "workers start as Python starts processes on this machine",
    "dataloader_in_order": "batches come in the order of their plan",
    "accelerator_config": "batches are planned for all ranks together",
    "remove_unused_columns": "the rows are read as they are",
    "label_names": "the loss is on the answer's tokens",
    "metric_for_best_model": "it is mIoU",
    "greater_is_better": "a higher mIoU is better",
    **dict.fromkeys(
        (
            *("prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps"),
            *("include_for_metrics", "batch_eval_metrics"),
        ),
        "validation is by generated answers",
    ),
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), "a run trains, validates and tests"),
    "use_cache": "training keeps no keys and values, and generation always does",
    "disable_tqdm": "the progress bar is vtg's own",
    "local_rank": "the launcher says it",
    "enable_jit_checkpoint": "SIGTERM and SIGUSR1 always save a checkpoint",
    **dict.fromkeys(
        (
            *("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push"),
            "hub_revision",
        ),
        "nothing is uploaded while training; python -m vtg.export makes a folder for `hf upload`",
    ),
}

# Further ones of `train_rl.py`.
WITHOUT_EFFECT_IN_RL = {
    "label_smoothing_factor": "GRPO has no labels",
    "average_tokens_across_devices": "rl.loss_type says how tokens are averaged",
    "include_num_input_tokens_seen": "prompt/tokens in train_log.jsonl counts them",
}

# Of `train_latents.py`, in place of those above of the same names.
REPLACED_IN_LATENTS = {
    **{key: key for key in ("output_dir", "seed")},
    "data_seed": "seed",
    "resume_from_checkpoint": "resume",
    "logging_nan_inf_filter": "on_nan",
    "load_best_model_at_end": "data.val_file or data.val_share (the weights of the least error are kept)",
    "per_device_eval_batch_size": "future.batch_size",
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval"), "trainer.bf16 or encoder.dtype"),
}
WITHOUT_EFFECT_IN_LATENTS = {
    **dict.fromkeys(("metric_for_best_model", "greater_is_better"), "it is the squared error of predicted latents"),
    **dict.fromkeys(("label_names", "label_smoothing_factor"), "latents have no labels"),
    **dict.fromkeys(
        ("dataloader_drop_last", "train_sampling_strategy", "length_column_name", "auto_find_batch_size"),
        "every clip is trained once an epoch, in an order drawn anew",
    ),
    **dict.fromkeys(("deepspeed", "fsdp", "fsdp_config", "parallelism_config"), "several GPUs train by DDP"),
    **dict.fromkeys(
        ("torch_compile_backend", "torch_compile_mode", "use_liger_kernel", "liger_kernel_config"),
        "a predictor runs as it is",
    ),
    "average_tokens_across_devices": "every latent of a step counts alike, whichever process has it",
    "include_num_input_tokens_seen": "latents are no tokens",
}

# GRPOConfig's own settings that vtg sets → the key to set instead.
RL_REPLACED = {
    "reward_weights": "rewards.terms",
    "use_vllm": "rollout.engine",
    "generation_batch_size": "rl.steps_per_generation",
    "model_init_kwargs": "model.dtype and model.attention",
    "chat_template_kwargs": "task.template",
    "router_aux_loss_coef": "parts.router_loss",
}

# GRPOConfig's own settings that would change nothing → why.
RL_WITHOUT_EFFECT = {
    "num_generations_eval": "validation is by greedy answers",
    "log_completions": "they are always kept, in completions/",
    **dict.fromkeys(
        ("num_completions_to_print", "log_unique_prompts", "log_multimodal", "log_completions_hub_repo"),
        "completions are kept in completions/",
    ),
    "shuffle_dataset": "prompts are drawn anew each pass",
    "trust_remote_code": "code of a model repository is never run",
    "cache_implementation": "the keys and values of a prompt are handed to its completions",
    **dict.fromkeys(
        ("use_transformers_continuous_batching", "use_transformers_paged", "transformers_continuous_batching_config"),
        "it takes no video",
    ),
    "max_tool_calling_iterations": "there are no tools",
}


@cache
def trainer_names() -> frozenset[str]:
    """The names of transformers' TrainingArguments."""
    return frozenset(annotations(*TRAINER))


@cache
def rl_names() -> frozenset[str]:
    """The names that TRL's GRPOConfig has besides."""
    return frozenset(annotations(*GRPO)) - trainer_names()


# Values of `trainer.report_to` → the package each needs. transformers looks for it only after the model is loaded.
REPORTERS = {
    **{name: name for name in ("clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "kubeflow", "mlflow")},
    **{name: name for name in ("neptune", "swanlab", "tensorboard", "trackio", "wandb")},
    **{"azure_ml": "azureml", "flyte": "flytekit"},
}

# Settings of `batching` that `train_rl.py` knows one value of → that value, and why.
BATCHING_WITHOUT_EFFECT_IN_RL = {
    "packing": (False, "a prompt and its completions are one sequence already"),
    "drop_last": (False, "prompts are a stream without end"),
    "min_batch_size": (1, "every micro-batch holds at least one prompt"),
}


def check_arguments(config: RunConfig) -> None:
    """Raises ConfigError for a name under `trainer` or `rl` that is unknown, that vtg sets, or that changes nothing;
    and for settings of `batching` that reinforcement learning does not read.
    """
    is_rl = reinforces(config)
    replaced, idle = REPLACED, WITHOUT_EFFECT | (WITHOUT_EFFECT_IN_RL if is_rl else {})
    if isinstance(config, LatentsConfig):
        replaced, idle = REPLACED_IN_LATENTS, WITHOUT_EFFECT | WITHOUT_EFFECT_IN_LATENTS
    for key in config.trainer:
        _check("trainer", key, replaced, idle, trainer_names(), of="TrainingArguments of transformers")
    _check_reporters(config.trainer.get("report_to"))
    if is_rl and isinstance(config, RLConfig) and config.rl.get("sync_ref_model"):
        if config.lora.enabled:
            raise ConfigError(
                "rl.sync_ref_model = true: with LoRA the reference is the model without its adapter, which never "
                "moves; remove it, or set lora=none"
            )
        if not config.rl.get("beta"):
            raise ConfigError(
                "rl.sync_ref_model = true: rl.beta = 0 needs no reference model; set rl.beta, or remove it"
            )
    batching = config.batching if is_rl and isinstance(config, RLConfig) else None
    for key, (only, why) in BATCHING_WITHOUT_EFFECT_IN_RL.items() if batching else ():
        value = getattr(batching, key)
        if value != only:
            raise ConfigError(
                f"batching.{key} = {str(value).lower()}: changes nothing in train_rl.py ({why}); set "
                f"batching.{key}={str(only).lower()}, or another batching group"
            )
    for key in config.rl if isinstance(config, RLConfig) else ():
        if key in trainer_names():
            raise ConfigError(f"rl.{key}: is a setting of the Trainer; set trainer.{key}")
        _check("rl", key, RL_REPLACED, RL_WITHOUT_EFFECT, rl_names(), of="GRPOConfig of trl")


def _check(
    group: str, key: str, replaced: dict[str, str], idle: dict[str, str], known: frozenset[str], *, of: str
) -> None:
    if key in replaced:
        raise ConfigError(f"{group}.{key} is set by vtg; set {replaced[key]} instead")
    if key in idle:
        raise ConfigError(f"{group}.{key} changes nothing here ({idle[key]}); remove it")
    if key in known:
        return
    instead = our_key(f"{group}.{key}")
    if group == "trainer" and key in rl_names():
        instead = f"rl.{key}"
    if instead:
        raise ConfigError(f"{group}.{key}: there is no such key; set {instead}")
    free = sorted(known - replaced.keys() - idle.keys())
    close = difflib.get_close_matches(key, free, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"its names: {', '.join(free)}"
    raise ConfigError(f"{group}.{key}: {of} has no such setting; {hint}")


def _check_reporters(given: Any) -> None:
    for name in given if isinstance(given, list) else [given]:
        package = REPORTERS.get(name) if isinstance(name, str) else None
        if package is not None and find_spec(package) is None:
            install = "'vtg[wandb]'" if name == "wandb" else package
            raise ConfigError(
                f"trainer.report_to = {name!r}: {package} is not installed; pip install {install}, or set "
                "trainer.report_to=tensorboard, or none"
            )
        if package is None and name not in (None, "none", "all"):
            raise ConfigError(
                f"trainer.report_to = {name!r}: must be none, all, or some of {', '.join(sorted(REPORTERS))}"
            )
