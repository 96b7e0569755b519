"""Which model is loaded, what of it is trained, and how its state is spread over GPUs."""

from dataclasses import dataclass
from typing import Any

from vtg.config.setting import setting


@dataclass
class ModelConfig:
    """Which model is loaded, and how."""

    path: str = setting("tiny", "a hub name, a local folder, a run directory, or tiny")
    patch_factor: int = setting(32, "pixels a side of one vision token: 32 for Qwen3-VL, 28 for Qwen2.5-VL")
    # An error beyond, because a cut conversation loses its video's end or its answer.
    max_length: int = setting(32768, "tokens; a longer conversation is an error, nothing is cut")
    dtype: str = setting(
        "auto",
        "of the weights",
        choices={"auto": "bfloat16 on a GPU, float32 on a CPU", "float32": "", "bfloat16": "", "float16": ""},
    )
    attention: str = setting(
        "auto",
        "the kernel",
        choices={
            "auto": "flash_attention_2 on a GPU where it is installed, else sdpa",
            "flash_attention_2": "",
            "sdpa": "PyTorch's, a call for each sample of a packed batch",
            "varlen": "PyTorch's for samples of any length in one call; its kernel: GPUs, half precision",
            "eager": "",
        },
        on_resume="may_change",
    )
    kernels: str = setting(
        "auto",
        "of norms, rotary positions and MLPs",
        choices={
            "auto": "liger on a GPU where liger-kernel is installed, else torch",
            "liger": "fused, the same sums",
            "torch": "",
        },
        on_resume="may_change",
    )
    quantization: str = setting(
        "none",
        "of the linear layers of the language model, which are frozen then; needs bitsandbytes",
        choices={"none": "", "4bit": "NF4 with double quantization (QLoRA)", "8bit": "LLM.int8()"},
    )


HOW = {"frozen": "", "lora": "with LoRA", "full": "every weight"}
WITH_LANGUAGE = {"auto": "full where parts.language is, else frozen", "frozen": "", "full": "every weight"}


@dataclass
class PartsConfig:
    """Which parts of the model are trained, how, and how fast. A learning rate of 0 freezes too."""

    vision: str = setting("frozen", "how the vision tower is trained", choices=HOW)
    projector: str = setting("frozen", "how the projector from vision to language is trained", choices=HOW)
    language: str = setting(
        "auto", "how the language model is trained", choices={"auto": "lora, or full with lora=none", **HOW}
    )
    embedding: str = setting("auto", "how the token embeddings are trained", choices=WITH_LANGUAGE)
    head: str = setting("auto", "how an output head of its own is trained", choices=WITH_LANGUAGE)
    experts: str = setting(
        "auto", "how the experts of a mixture are trained", choices={"auto": WITH_LANGUAGE["auto"], **HOW}
    )
    # A router that moves with few rows sends tokens to experts that never saw their like.
    router: str = setting(
        "frozen", "how the routers of a mixture are trained", choices={"frozen": "", "full": "every weight"}
    )
    vision_blocks: int | None = setting(
        None, "of the tower only the last so many blocks, and what follows them; null: all"
    )
    language_blocks: int | None = setting(
        None, "of the language model only the last so many blocks, and what follows them; null: all"
    )
    router_loss: float | None = setting(
        None,
        "the loss that keeps a mixture's experts evenly used, times this, is added; null or 0: off; published: 0.001",
    )
    vision_lr: float | None = setting(None, "learning rate of the tower; null: trainer.learning_rate; 0: frozen")
    projector_lr: float | None = setting(None, "learning rate of the projector; null: trainer.learning_rate; 0: frozen")
    embedding_lr: float | None = setting(
        None,
        "learning rate of all token embeddings, with lora=none temporal tokens too; null: trainer.learning_rate; "
        "0: frozen",
    )
    head_lr: float | None = setting(
        None, "learning rate of an output head of its own; null: trainer.learning_rate; 0: frozen"
    )
    experts_lr: float | None = setting(None, "learning rate of the experts; null: trainer.learning_rate; 0: frozen")
    router_lr: float | None = setting(None, "learning rate of the routers; null: trainer.learning_rate; 0: frozen")
    time_tokens_lr: float | None = setting(
        None, "learning rate of the temporal tokens that are added beside LoRA; null: trainer.learning_rate; 0: frozen"
    )
    vision_weight_decay: float | None = setting(None, "null: trainer.weight_decay")
    projector_weight_decay: float | None = setting(None, "null: trainer.weight_decay")
    embedding_weight_decay: float | None = setting(None, "null: trainer.weight_decay")
    head_weight_decay: float | None = setting(None, "null: trainer.weight_decay")
    experts_weight_decay: float | None = setting(None, "null: trainer.weight_decay")
    router_weight_decay: float | None = setting(None, "null: trainer.weight_decay")
    time_tokens_weight_decay: float | None = setting(None, "null: trainer.weight_decay")


@dataclass
class LoraConfig:
    """PEFT's LoRA."""

    enabled: bool = setting(True, "false: the parts that are trained are trained in full")
    r: int = setting(16, "rank of the update")
    alpha: int = setting(32, "the update is scaled by alpha / r")
    dropout: float = setting(0.0, "share of the update's inputs that are dropped while training")
    # Any: OmegaConf knows no union of a text and a list. rules.py checks it.
    target_modules: Any = setting(
        "all-linear",
        "all-linear: of the parts with LoRA; or a list of names (q_proj), of these parts; or a regular expression",
    )
    use_rslora: bool = setting(False, "the update is scaled by alpha / sqrt(r)")
    use_dora: bool = setting(False, "DoRA: length and direction of the weights are trained apart")


@dataclass
class DeepspeedConfig:
    """DeepSpeed ZeRO."""

    stage: int = setting(
        0, "0: off | 1: optimizer state shared out among the GPUs | 2: and gradients | 3: and parameters"
    )
    offload_optimizer: bool = setting(False, "optimizer state in the memory of the host")
    offload_parameters: bool = setting(False, "with stage 3: parameters in the memory of the host too")
    file: str | None = setting(
        None, "a DeepSpeed JSON of your own instead of the keys above; without an optimizer or scheduler block"
    )

    @property
    def is_on(self) -> bool:
        """Whether a run trains under DeepSpeed."""
        return self.stage > 0 or self.file is not None
