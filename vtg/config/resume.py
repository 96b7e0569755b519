"""Which settings may be others when a run resumes: the means, and what steers the steps that are still to come.

The run directory (`vtg.training.run_dir`) logs every change and keeps it; it refuses what would be another run.
"""

import re
from functools import cache

from vtg.config.latents_schema import LatentsConfig
from vtg.config.schema import RLConfig
from vtg.config.setting import settings

# TrainingArguments of the machine, of logging, evaluating and saving: the weights come out the same.
TRAINER_MEANS = frozenset(
    (
        *("activation_checkpointing", "activation_checkpointing_kwargs", "gradient_checkpointing"),
        *("gradient_checkpointing_kwargs", "torch_compile", "torch_empty_cache_steps", "use_cpu", "debug"),
        *("skip_memory_metrics", "logging_strategy", "logging_steps", "logging_first_step"),
        *("log_on_each_node", "log_level", "log_level_replica", "report_to", "run_name", "project"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "include_num_input_tokens_seen"),
        *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "save_strategy"),
        *("save_steps", "save_total_limit", "save_on_each_node", "dataloader_num_workers", "dataloader_pin_memory"),
        *("dataloader_prefetch_factor", "ddp_bucket_cap_mb", "ddp_backend", "ddp_timeout"),
    )
)

# What a run that failed or ended too soon is advised to change: it holds for the steps after the resume, and tests hold
# that it does. Any other either decides what is learned from the first step on, or would be undone by the optimizer
# state of the checkpoint.
TRAINER_REMAINING_STEPS = frozenset(
    (
        *("learning_rate", "max_grad_norm", "max_steps", "num_train_epochs", "bf16", "fp16"),
        *("per_device_train_batch_size", "gradient_accumulation_steps"),
    )
)

# The same of GRPOConfig: where completions are generated.
RL_MEANS = frozenset(
    (
        *("ds3_gather_for_generation", "vllm_mode", "vllm_model_impl", "vllm_enable_sleep_mode"),
        *("vllm_server_base_url", "vllm_server_host", "vllm_server_port"),
        *("vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization", "vllm_tensor_parallel_size"),
    )
)


def may_change_on_resume(key: str) -> bool:
    """Whether a run may resume with another value of this setting (`video.decoder`, `trainer.save_steps`).

    False for a key that is no setting.
    """
    group, _, name = key.partition(".")
    if group in ("trainer", "rl"):
        return name.partition(".")[0] in (TRAINER_MEANS | TRAINER_REMAINING_STEPS if group == "trainer" else RL_MEANS)
    return re.sub(r"^data\.sources\.[^.]+", "data.sources.NAME", key) in _changeable()


@cache
def _changeable() -> frozenset[str]:
    # Of both families of programs: no key of one means something else in the other.
    known = [*settings(RLConfig), *settings(LatentsConfig)]
    return frozenset(key for key, _, one in known if one.on_resume == "may_change")
