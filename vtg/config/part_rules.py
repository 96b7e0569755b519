"""Settings of what is trained, and of quantized weights, that cannot be: found before any weights load."""

import json
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vtg.config.model_settings import DeepspeedConfig, LoraConfig, PartsConfig
from vtg.config.schema import RLConfig, SFTConfig
from vtg.errors import ConfigError

# The oldest that was tried; before 0.46 its 4- and 8-bit layers did not run on CPUs.
BITSANDBYTES = (0, 50)

# Groups with parameters in the blocks of the language model, besides `language`.
IN_BLOCKS = ("experts", "router")


def methods(parts: PartsConfig, lora: LoraConfig) -> dict[str, str]:
    """How each group of parameters is trained: frozen, lora or full; a tied head follows the embeddings."""
    language = ("lora" if lora.enabled else "full") if parts.language == "auto" else parts.language
    chosen = {"vision": parts.vision, "projector": parts.projector, "language": language, "router": parts.router}
    with_language = "full" if language == "full" else "frozen"
    for part, how in {"experts": parts.experts, "embedding": parts.embedding, "head": parts.head}.items():
        chosen[part] = with_language if how == "auto" else how
    rates = asdict(parts)
    return {part: "frozen" if rates.get(f"{part}_lr") == 0 else how for part, how in chosen.items()}


def check_parts(config: SFTConfig) -> None:
    """Raises ConfigError for parts that contradict LoRA or the quantization, and numbers that cannot be."""
    parts, how = config.parts, methods(config.parts, config.lora)
    for key, value in asdict(parts).items():
        if value is None or isinstance(value, str):
            continue
        if key.endswith("_blocks"):
            part = key.removesuffix("_blocks")
            if value < 1:
                raise ConfigError(
                    f"parts.{key} = {value}: must be at least 1, or null for all; parts.{part}=frozen trains none"
                )
            if all(how[each] == "frozen" for each in (part, *(IN_BLOCKS if part == "language" else ()))):
                raise ConfigError(
                    f"parts.{key} = {value}, but the part is frozen; set parts.{part}=lora or full, or remove it"
                )
        elif value < 0:
            raise ConfigError(f"parts.{key} = {value}: must be 0 or more")
    if not config.lora.enabled:
        for part, method in how.items():
            if method == "lora":
                raise ConfigError(
                    f"parts.{part} = 'lora', but lora=none; set parts.{part}=full, or choose a lora: lora=default"
                )
    elif "lora" not in how.values() and set(how.values()) != {"frozen"}:
        raise ConfigError(
            "lora is on, but no part is trained with it (parts.vision, parts.projector, parts.language, "
            "parts.experts); set one of them to lora, or set lora=none"
        )
    check_mixture(config, how)
    check_quantization(config, how)
    check_tower_cache(config, how)
    if config.trainer.get("torch_compile") and zero_stage(config.deepspeed) == 3:
        raise ConfigError(
            "trainer.torch_compile = true: ZeRO-3 gathers the weights of a layer around it, which was not tried with "
            "compiled layers; set deepspeed=zero2 or none, or trainer.torch_compile=false"
        )


def check_mixture(config: SFTConfig, how: dict[str, str]) -> None:
    """Raises ConfigError for adapters of experts that PEFT has not, and a router loss that no router learns from."""
    lora, loss = config.lora, config.parts.router_loss
    if how["experts"] == "lora" and (lora.use_dora or lora.dropout):
        key = "lora.use_dora = true" if lora.use_dora else f"lora.dropout = {lora.dropout}"
        raise ConfigError(
            f"{key}: PEFT's adapters of experts (parts.experts=lora) have neither DoRA nor dropout; set "
            f"{key.partition(' ')[0]}={'false' if lora.use_dora else '0'}, or parts.experts=frozen"
        )
    if loss and how["router"] == "frozen":
        raise ConfigError(
            f"parts.router_loss = {loss}: the routers are frozen, so that nothing would learn from it; set "
            "parts.router=full, or parts.router_loss=null"
        )


def check_quantization(config: SFTConfig, how: dict[str, str]) -> None:
    """Raises ConfigError for quantized weights that would have to be trained, sharded or handed on."""
    kind = config.model.quantization
    if kind == "none":
        return
    place = f"model.quantization = {kind!r}"
    check_bitsandbytes(kind)
    if how["language"] == "full" or not config.lora.enabled:
        key = "parts.language=full" if config.lora.enabled else "lora=none"
        raise ConfigError(
            f"{place}: quantized weights cannot be trained in full ({key}); set lora=qlora and parts.language=lora, or "
            "model.quantization=none"
        )
    if zero_stage(config.deepspeed) == 3:
        raise ConfigError(
            f"{place}: ZeRO-3 cannot share out quantized weights; set deepspeed=zero2 or none, or "
            "model.quantization=none"
        )
    if isinstance(config, RLConfig) and config.rollout.engine == "vllm":
        raise ConfigError(
            f"{place}: vLLM would be given merged weights, which quantized ones cannot be; set "
            "rollout.engine=transformers, or model.quantization=none"
        )


def check_tower_cache(config: SFTConfig, how: dict[str, str]) -> None:
    """Raises ConfigError where what the vision tower makes of a clip is to be kept and would not be the same again."""
    if config.video.tower_cache_dir is None:
        return
    trained = [part for part in ("vision", "projector") if how[part] != "frozen"]
    augmented = config.augmentation.is_on
    vllm = isinstance(config, RLConfig) and config.rollout.engine == "vllm"
    for is_so, why, remedy in (
        (trained, f"parts.{', parts.'.join(trained)} trains, and it changes with every step", "freeze it"),
        (augmented, "augmentation draws other frames every time", "set augmentation=none"),
        (zero_stage(config.deepspeed) == 3, "ZeRO-3 runs the tower on all ranks together", "set deepspeed=zero2"),
        (vllm, "vLLM reads the frames themselves", "set rollout.engine=transformers"),
    ):
        if is_so:
            raise ConfigError(f"video.tower_cache_dir is set, but {why}; {remedy}, or set video.tower_cache_dir=null")


def check_bitsandbytes(kind: str, *, or_else: str = "model.quantization=none") -> None:
    """Raises ConfigError where bitsandbytes is missing or too old for a quantization.

    Args:
        or_else: the setting that does without.
    """
    try:
        found = version("bitsandbytes")
    except PackageNotFoundError:
        raise ConfigError(
            f"model.quantization = {kind!r}: bitsandbytes is not installed; pip install 'bitsandbytes>=0.50', or set "
            f"{or_else}"
        ) from None
    numbers = tuple(int(number) for number in found.split(".")[:2] if number.isdigit())
    if numbers < BITSANDBYTES:
        raise ConfigError(
            f"model.quantization = {kind!r}: bitsandbytes {found} is too old; pip install 'bitsandbytes>=0.50', or set "
            f"{or_else}"
        )


def zero_stage(deepspeed: DeepspeedConfig) -> int:
    """The stage of ZeRO that the settings or their file ask for; 0 without, and for a file that cannot be read."""
    if deepspeed.file is None:
        return deepspeed.stage
    try:
        document = json.loads(Path(deepspeed.file).read_text(encoding="utf-8"))
        return int(document["zero_optimization"]["stage"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # the check of the file itself says what is wrong with it
