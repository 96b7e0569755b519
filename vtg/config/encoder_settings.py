"""Which encoder makes latents of clips, and what of it is trained."""

from dataclasses import dataclass

from vtg.config.setting import setting


@dataclass
class EncoderConfig:
    """The encoder of clips."""

    name: str = setting(
        "qwen_tower",
        "its kind",
        choices={
            "qwen_tower": "the vision tower of a Qwen-VL, merged as the language model reads it",
            "vjepa2": "V-JEPA 2",
            "dinov3": "DINOv3, frame by frame",
        },
    )
    path: str = setting("tiny", "a hub name or a local folder; of qwen_tower also a run directory, or tiny")
    frame_size: int | None = setting(
        64,
        "pixels a side of the frames that it reads, in whole vision tokens or patches; null: as its processor says, "
        "which a qwen_tower cannot; vjepa2 has one size",
    )
    trained: list[str] = setting(
        factory=list, help="modules that are trained too, by their dotted names or parts of them; []: all are frozen"
    )
    dtype: str = setting(
        "auto",
        "of its weights and latents",
        choices={"auto": "bfloat16 on a GPU, float32 on a CPU", "float32": "", "bfloat16": "", "float16": ""},
    )
