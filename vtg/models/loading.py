"""Loading a Qwen-VL model and its processor, and choosing what is trained."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PretrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.utils.import_utils import is_flash_attn_2_available

from vtg.config.model_settings import LoraConfig, ModelConfig
from vtg.data.encoding import patch_factor
from vtg.errors import ConfigError, RunError
from vtg.models.chat_template import check_chat_template
from vtg.models.checkpoint import check_model_type, is_adapter, resolve_base, resolve_checkpoint
from vtg.models.families import family_of
from vtg.models.patch_embed import project_patches_by_matmul
from vtg.models.recurrence import part_sequences

log = logging.getLogger(__name__)

Model = PreTrainedModel | PeftModel


def load_model(
    config: ModelConfig, processor: ProcessorMixin | None = None, *, device: str | None = None
) -> tuple[Model, ProcessorMixin]:
    """The model and the processor of `config.path`: a plain model, or an adapter on its base model.

    `processor`: the result of `load_processor`, where it was loaded before. `device`: as `choose_device` takes it.

    Raises:
        ConfigError: for a model of another family or patch factor than the config says, or an attention whose package
            is not installed.
        ValueError: for a path that holds no model.
        RunError: for an adapter of which a part matches nothing in its base model, and for truncated weight files.
    """
    where = resolve_checkpoint(config.path)
    adapter, base = where if is_adapter(where) else None, resolve_base(config.path)
    target = choose_device(device)
    dtype, attention = choose_dtype(config.dtype, target), choose_attention(config.attention, target)
    if processor is None:
        processor = load_processor(config.path)
    # Batches are planned from model.patch_factor before any model loads: a wrong one would plan wrong sizes.
    if patch_factor(processor) != config.patch_factor:
        raise ConfigError(
            f"model.patch_factor = {config.patch_factor}, but one vision token of {config.path} is "
            f"{patch_factor(processor)} pixels a side; set model.patch_factor={patch_factor(processor)}"
        )
    try:
        with whole_files(path=config.path, folder=base):
            model = AutoModelForImageTextToText.from_pretrained(
                base, dtype=dtype, attn_implementation=attention, trust_remote_code=False
            )
    except ImportError as error:  # transformers asks for the package of an attention when the model is built
        raise ConfigError(
            f"model.attention = {attention!r}: cannot be used here ({str(error).strip().splitlines()[0]}); set "
            "model.attention=auto, or install it (README says how)"
        ) from None
    if is_deepspeed_zero3_enabled():
        # Its loader notes every renaming it knows, applied or not, and saving would apply their reverse.
        if "_weight_conversions" not in vars(model):
            raise RunError(
                f"transformers {transformers.__version__} keeps the renamings of a model elsewhere than vtg empties "
                "them: checkpoints under ZeRO-3 would get wrong names; pip install -e . -c env/constraints.txt"
            )
        model._weight_conversions = []  # type: ignore[assignment]
    project_patches_by_matmul(model)
    part_sequences(model)
    if adapter:
        with whole_files(path=config.path, folder=adapter):
            model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
            _check_adapter(model, adapter)
    model.to(target)  # type: ignore[arg-type]
    log.info("%s: %s on %s, attention %s", config.path, str(dtype).removeprefix("torch."), target, attention)
    return model, processor


def load_processor(path: str) -> ProcessorMixin:
    """The processor of a model path (anything that `resolve_checkpoint` takes).

    Raises:
        ConfigError: if it cannot be found, belongs to no Qwen-VL model that vtg was tried with, or has a chat template
            that does not work.
    """
    where, base = resolve_checkpoint(path), resolve_base(path)
    try:
        model_type = PretrainedConfig.get_config_dict(base)[0].get("model_type")
        check_model_type(path, model_type)
        processor = AutoProcessor.from_pretrained(where, trust_remote_code=False)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"model {path!r} cannot be loaded ({reason}); give a run directory, a checkpoint or model folder, tiny, or "
            "a hub name that this machine can reach"
        ) from error
    except ConfigError:
        raise
    except ValueError as error:
        # transformers asks to be allowed to run the code; its advice to do so is not passed on.
        if "trust_remote_code" in str(error):
            raise ConfigError(
                f"model {path!r} can only be loaded by Python code that comes with it (auto_map in its config files), "
                "which vtg never runs; give a model that transformers itself knows, or take auto_map out"
            ) from None
        raise ConfigError(f"model {path!r}: {error}") from error
    family = family_of(processor)  # raises for a processor whose way of telling times is unknown
    if model_type not in family.model_types:
        raise ConfigError(
            f"model {path!r} is of the type {model_type!r}, but its processor and chat template are those of a "
            f"{family.title}; copy processor_config.json and chat_template.jinja of the model it was made from"
        )
    check_chat_template(processor, path)
    return processor


@contextmanager
def whole_files(*, path: str, folder: str) -> Iterator[None]:
    """Around reading weights from a folder or hub name. Raises RunError naming the file that cannot be read."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        # Loading does not say which of several files is truncated.
        broken = next(_broken_files(Path(folder)), None)
        if broken is not None:
            raise RunError(
                f"{broken[0]}: not a whole safetensors file ({broken[1]}); copy or fetch it again, or remove the "
                "checkpoint and go on from an earlier one"
            ) from error
        raise RunError(f"model {path!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from error


def _broken_files(folder: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            yield file, str(error)


def choose_device(name: str | None) -> torch.device:
    """The device called `name`; None: this process's GPU where there is one, else the CPU.

    Raises:
        ConfigError: for a name that is no device, or a GPU that is not there.
    """
    if name is None:
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    # Others, such as mps and meta, load without an error, but vtg is not tested with them.
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device = {name!r}: must be cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= count):
        raise ConfigError(f"device = {name!r}: PyTorch sees {count} GPUs here; choose one of these, or cpu")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and float32 on a CPU."""
    # Many CPUs emulate bfloat16, several times slower than float32.
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def choose_attention(name: str, device: torch.device) -> str:
    """`auto` is FlashAttention 2 on a GPU where it is installed, else PyTorch's SDPA."""
    if name == "auto":
        return "flash_attention_2" if device.type == "cuda" and is_flash_attn_2_available() else "sdpa"
    return name


def tokens_per_second(model: Model) -> float:
    """Temporal M-RoPE ids a second of video, from the vision config (Qwen2.5-VL; Qwen3-VL has none)."""
    return float(getattr(model.config.vision_config, "tokens_per_second", 2.0))


@contextmanager
def base_weights(model: Any, *, continued: bool) -> Iterator[None]:
    """The model as it was before training: a new adapter is switched off, one that is trained further stays on."""
    if isinstance(model, PeftModel) and not continued:
        with model.disable_adapter():
            yield
    else:
        yield


def prepare_training(model: Model, model_config: ModelConfig, lora: LoraConfig) -> Model:
    """Sets what is trained: new LoRA adapters, or all parameters of the parts that are not frozen.

    An adapter that was loaded with the model is trained further as it is.

    Raises:
        ConfigError: if nothing would be trained.
    """
    if isinstance(model, PeftModel):
        log.info("the adapter that was loaded is trained on; lora.* and model.freeze_* do not apply")
    frozen = {"vision": model_config.freeze_vision, "projector": model_config.freeze_projector, "language": False}
    if lora.enabled and not isinstance(model, PeftModel):
        targets = _lora_targets(model, lora.target_modules, frozen)
        peft_config = PeftLoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=targets,
            use_rslora=lora.use_rslora,
            use_dora=lora.use_dora,
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, peft_config)  # type: ignore[arg-type]
    elif not isinstance(model, PeftModel):
        part_of = family_of(model.config).part_of
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not frozen[part_of(name)])
    trained = sum(_size(parameter) for parameter in model.parameters() if parameter.requires_grad)
    total = sum(_size(parameter) for parameter in model.parameters())
    if not trained:
        raise ConfigError(
            "nothing would be trained: model.freeze_* freeze every part that lora or full training reaches"
        )
    log.info("training %s of %s parameters (%.1f %%)", f"{trained:,}", f"{total:,}", 100 * trained / total)
    return model


def _size(parameter: nn.Parameter) -> int:
    """Elements of a parameter."""
    # ZeRO-3 leaves an empty tensor on each rank, with the whole size in ds_numel.
    return getattr(parameter, "ds_numel", parameter.numel())


def _lora_targets(model: PreTrainedModel, wanted: Any, frozen: dict[str, bool]) -> list[str]:
    """Names of the linear layers that get an adapter.

    `wanted`: "all-linear", a list of name endings (both within the parts that are not frozen), or a regular expression.
    """
    # PEFT's own matching would also reach the vision tower, which in Qwen2.5-VL shares layer names with the LM.
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and "lm_head" not in name]
    part_of = family_of(model.config).part_of
    free = [name for name in linear if not frozen[part_of(name)]]
    ways = f"use all-linear, a list of names such as {_examples(linear)}, or a regular expression over names"
    if isinstance(wanted, list):
        ends = {end: [name for name in free if f".{name}".endswith(f".{end}")] for end in wanted}
        unmatched = [end for end, names in ends.items() if not names]
        if unmatched or not wanted:
            raise ConfigError(
                f"lora.target_modules = {wanted!r}: {unmatched} match no linear layer that is not frozen; {ways}"
            )
        return [name for name in free if any(name in names for names in ends.values())]
    chosen = free if wanted == "all-linear" else [name for name in linear if re.search(wanted, name)]
    if not chosen:
        raise ConfigError(f"lora.target_modules = {wanted!r}: matches no linear layer; {ways}")
    return chosen


def _examples(names: Iterable[str]) -> str:
    last = sorted({name.rpartition(".")[2] for name in names})
    return ", ".join(last)


def _check_adapter(model: PeftModel, adapter: str) -> None:
    """Raises RunError where B matrices of the adapter did not reach the model."""
    # A rename between versions makes PEFT load an adapter in part, with a warning at most: B keeps its initial zeros.
    saved = load_file(Path(adapter) / "adapter_model.safetensors")
    untrained = _zeros(value for name, value in saved.items() if "lora_B" in name)  # as after a step of warm-up alone
    matrices = [parameter for name, parameter in model.named_parameters() if "lora_B" in name]
    lost = _zeros(matrices) - untrained
    if lost or not matrices:
        raise RunError(
            f"{adapter}: the adapter's weights did not reach the model ({lost} of its {len(matrices)} B matrices are "
            "zero); it was made for another base model or another version of transformers or peft"
        )


def _zeros(matrices: Iterable[torch.Tensor]) -> int:
    return sum(not bool(matrix.any()) for matrix in matrices)
