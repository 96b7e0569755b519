"""Settings as the TrainingArguments of transformers."""

import dataclasses
import logging
from collections.abc import Collection
from typing import Any

import torch
from transformers import TrainingArguments

from vtg.config.argument_values import number_of
from vtg.config.derived import activation_checkpointing, autocasts
from vtg.config.launcher import launched_by_deepspeed
from vtg.config.schema import RunConfig, SFTConfig
from vtg.errors import ConfigError
from vtg.training.zero.zero_settings import deepspeed_settings, set_single_process_launch

log = logging.getLogger("vtg")


NEWER = {
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}
"""Names until and since transformers 5.24; version 6 removes the former. Either may be set, whichever is installed."""


def training_arguments(
    config: RunConfig,
    kind: type[TrainingArguments] = TrainingArguments,
    *,
    best: tuple[str, bool] = ("mIoU", True),
    **more: Any,
) -> TrainingArguments:
    """`trainer.*`, `more`, and the arguments that other settings decide, as TrainingArguments or their subclass `kind`.

    The names are checked before (`vtg.config.arguments`).

    Args:
        best: the number of validation that weights are chosen by, and whether more of it is better.

    Raises:
        ConfigError: for a value of the wrong type.
    """
    known = {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}
    given = _renamed(dict(config.trainer), known.keys())
    for name in ("gradient_checkpointing", "activation_checkpointing"):
        if name in given:
            # A word here, a bool in the Trainer; first, since 5.17 has a default that is taken for a number's below.
            given[name] = activation_checkpointing(config.trainer) != "none"
    for key, value in given.items():
        if isinstance(known[key].default, (int, float)) and isinstance(value, str):
            given[key] = number_of(f"trainer.{key}", value)
    validated = config.data.has_validation
    if not validated:
        given["eval_strategy"] = "no"
    # Without it each of several processes on CPUs takes itself for the only one.
    given.setdefault("use_cpu", not torch.accelerator.is_available())
    on_gpu = torch.cuda.is_available() and not given.get("use_cpu", False)
    given.setdefault("dataloader_pin_memory", on_gpu)
    for name in ("bf16", "fp16"):
        given.setdefault(name, on_gpu and name == _mixed_precision(config))
    given.pop("torch_compile", None)  # the Trainer would compile all of the model (see vtg.models.compiled_layers)
    # Reentrant checkpointing gives no gradients where the inputs need none, as of a frozen embedding under LoRA.
    given = {"gradient_checkpointing_kwargs": {"use_reentrant": False}} | given
    given = _renamed(given, known.keys())
    given.setdefault("ddp_find_unused_parameters", False)  # every batch has a video, and so uses all of them
    settings = deepspeed_settings(config.deepspeed)
    if settings is not None:
        if launched_by_deepspeed():
            stage = settings.get("zero_optimization", {}).get("stage", 0)
            log.info("started by deepspeed: ZeRO-%s (deepspeed=none: DDP, all of the model's state on each GPU)", stage)
        given["deepspeed"] = settings
        set_single_process_launch()
    try:
        arguments = kind(
            **(given | more),
            output_dir=config.output_dir,
            seed=config.seed,
            data_seed=config.seed,
            remove_unused_columns=False,
            logging_nan_inf_filter=False,  # which would hide what on_nan looks for
            load_best_model_at_end=False,  # which demands that save_steps be a multiple of eval_steps; see SaveBest
            metric_for_best_model=best[0] if validated else None,
            greater_is_better=best[1] if validated else None,
            disable_tqdm=True,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {error}") from error
    if settings is not None:
        # ZeRO-3 partitions a model as it is loaded, and must know of its processes by then.
        import deepspeed  # type: ignore[import-not-found]

        deepspeed.init_distributed("gloo" if arguments.use_cpu else "nccl")
    # Reading `device` starts the process group of several processes, which TrainingRun waits in.
    log.debug("training on %s", arguments.device)
    use_one_gpu(arguments)
    return arguments


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Keeps a process that no launcher started to one GPU, where it sees several: the Trainer would split each batch
    over all of them by DataParallel, which packed rows, positions of several axes and quantized weights do not allow.
    """
    if arguments.n_gpu > 1:
        log.warning(
            "training on one of %d GPUs; to train on all, start it with torchrun --nproc_per_node=%d or deepspeed "
            "--num_gpus=%d; CUDA_VISIBLE_DEVICES chooses one",
            *[arguments.n_gpu] * 3,
        )
        arguments._n_gpu = 1


def _mixed_precision(config: RunConfig) -> str | None:
    """The type of a GPU's arithmetic where the weights are of another: bf16 or fp16; None where they are not."""
    if not isinstance(config, SFTConfig):
        return "bf16"  # of a predictor, whose weights are float32
    if config.model.dtype == "float16":
        return "fp16"
    return "bf16" if autocasts(config) else None


def _renamed(given: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Settings by the names that this transformers has for them; where one is set by both, the newer name counts."""
    renamed = dict(given)
    for old, new in NEWER.items():
        values = [renamed.pop(name) for name in (new, old) if name in renamed]
        if values:
            renamed[new if new in known else old] = values[0]
    return renamed
