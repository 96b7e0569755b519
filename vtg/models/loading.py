"""Loading a Qwen-VL model and its processor."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PretrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from vtg.config.model_settings import ModelConfig
from vtg.config.part_rules import check_bitsandbytes
from vtg.config.task_settings import TaskConfig
from vtg.data.encoding import patch_factor
from vtg.data.layout import ATTENTIONS
from vtg.errors import ConfigError, RunError
from vtg.models.attention import attend_in_layouts, choose_attention
from vtg.models.chat_template import check_chat_template
from vtg.models.checkpoint import check_model_type, is_adapter, resolve_base, resolve_checkpoint
from vtg.models.families import family_of
from vtg.models.fit import adapter_tokens, check_adapter_shapes, check_tokens, empty_model
from vtg.models.fused_adapters import fuse_adapters
from vtg.models.fused_kernels import fuse, uses_liger
from vtg.models.patch_embed import project_patches_by_matmul
from vtg.models.quantization import keep_gradients, quantization_config
from vtg.models.recurrence import is_recurrent, kernels_can_train, part_sequences
from vtg.models.time_tokens import digit_ids, give_heads_a_bias, initialise, make_room
from vtg.tasks.time_vocabulary import add_time_tokens, time_vocabulary

log = logging.getLogger(__name__)

Model = PreTrainedModel | PeftModel


def load_model(
    config: ModelConfig,
    processor: ProcessorMixin | None = None,
    *,
    task: TaskConfig | None = None,
    seed: int = 0,
    device: str | None = None,
    dequantize: bool = False,
    check_fit: bool = True,
) -> tuple[Model, ProcessorMixin]:
    """The model and the processor of `config.path`: a plain model, or an adapter on its base model.

    `processor`: the result of `load_processor`, where it was loaded before. `device`: as `choose_device` takes it.
    `task`: temporal tokens of its answer form that the checkpoint has not are added to the processor's tokenizer and to
    the model, and begin as `task.token_init` says; what is random of it comes from `seed`.
    `dequantize`: the rounded weights of `model.quantization` in full width, so that an adapter can be merged into them.
    `check_fit`: compare the shapes of an adapter with those of its base; False where that was done before.

    Raises:
        ConfigError: for a model of another family or patch factor than the config says, an attention whose package is
            not installed, tokens that the model has no embeddings for, another number of temporal tokens, or an adapter
            of a model of other sizes.
        ValueError: for a path that holds no model.
        RunError: for an adapter of which a part matches nothing in its base model, and for truncated weight files.
    """
    where = resolve_checkpoint(config.path)
    adapter, base = where if is_adapter(where) else None, resolve_base(config.path)
    target = choose_device(device)
    dtype = choose_dtype(config.dtype, target)
    if processor is None:
        processor = load_processor(config.path)
    attention = choose_attention(config.attention, target, family=family_of(processor))
    fused = uses_liger(config.kernels, on_gpu=target.type == "cuda")
    # Batches are planned from model.patch_factor before any model loads: a wrong one would plan wrong sizes.
    if patch_factor(processor) != config.patch_factor:
        raise ConfigError(
            f"model.patch_factor = {config.patch_factor}, but one vision token of {config.path} is "
            f"{patch_factor(processor)} pixels a side; set model.patch_factor={patch_factor(processor)}"
        )
    with whole_files(path=config.path, folder=base):
        read = AutoConfig.from_pretrained(base, trust_remote_code=False)
    tokens = _new_tokens(config.path, processor, task, adapter)
    check_tokens(config.path, processor, read, rows=1 + max(tokens.ids, default=-1))
    if adapter and check_fit:
        check_adapter_shapes(adapter, empty_model(read), base=base)
    quantized: dict[str, Any] = {}
    if config.quantization != "none":
        check_bitsandbytes(config.quantization)
        quantized["quantization_config"] = quantization_config(config.quantization, read, dtype)
        quantized["device_map"] = {"": target}  # weights are quantized where they are read to, and do not move later
    named = "sdpa" if attention in ATTENTIONS else attention
    try:
        with whole_files(path=config.path, folder=base):
            model = AutoModelForImageTextToText.from_pretrained(
                base, dtype=dtype, attn_implementation=named, trust_remote_code=False, **quantized
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
    if tokens.ids:
        _add_tokens(model, processor, tokens, init=task.token_init if task else "mean", seed=seed)
    project_patches_by_matmul(model)
    part_sequences(model)
    if attention in ATTENTIONS:
        attend_in_layouts(model, attention)
    if target.type == "cuda" and is_recurrent(model):
        kernels_can_train()  # what it warns of is told before hours of training
    if fused:
        fuse(model)
    if quantized:
        keep_gradients(model)
    if quantized and dequantize:
        model = model.dequantize()
        model.to(dtype)  # type: ignore[arg-type]
    if adapter:
        with whole_files(path=config.path, folder=adapter):
            model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
            _check_adapter(model, adapter)
            give_heads_a_bias(model)
            fuse_adapters(model)
    if not quantized:
        model.to(target)  # type: ignore[arg-type]
    kind = f"{config.quantization}, " * bool(quantized) + str(dtype).removeprefix("torch.")
    log.info("%s: %s on %s, attention %s%s", config.path, kind, target, attention, ", Liger's kernels" * fused)
    return model, processor


@dataclass(frozen=True)
class NewTokens:
    """Tokens that a model needs rows for; `are_times`: temporal ones that no checkpoint has trained yet."""

    ids: Sequence[int] = ()
    are_times: bool = False


def _new_tokens(path: str, processor: ProcessorMixin, task: TaskConfig | None, adapter: str | None) -> NewTokens:
    """What is added to the tokenizer for `task`, else what the adapter was trained with.

    Raises:
        ConfigError: for an adapter without temporal tokens or with another number of them.
    """
    tokenizer: Any = processor.tokenizer  # type: ignore[attr-defined]
    if task is not None and add_time_tokens(tokenizer, task, path=path):
        if adapter:
            raise ConfigError(
                f"task.answer = 'tokens': {path} is an adapter without temporal tokens, and none can be added to it; "
                f"merge it (python -m vtg.export {path} -o merged) and set model.path=merged, or train its base model"
            )
        times = time_vocabulary(tokenizer, task)
        assert times is not None
        return NewTokens(times.ids, are_times=True)
    return NewTokens(adapter_tokens(adapter)) if adapter else NewTokens()


def _add_tokens(model: PreTrainedModel, processor: ProcessorMixin, tokens: NewTokens, *, init: str, seed: int) -> None:
    """Rows for `tokens`; those that an adapter brings stand in for those of the model, whatever they are."""
    sizes = make_room(model, 1 + max(tokens.ids))
    if tokens.are_times:
        digits = digit_ids(processor.tokenizer, len(tokens.ids))  # type: ignore[attr-defined]
        initialise(model, tokens.ids, sizes=sizes, init=init, seed=seed, digits=digits)


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
