"""The typed schema of every setting. The defaults stand in conf/; the values here only say the type."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class DemoConfig:
    """Size of the synthetic data set; `seed` draws its videos, events and sentences."""

    train_videos: int = 0
    val_videos: int = 0
    test_videos: int = 0
    seed: int = 0


@dataclass
class DataConfig:
    """Which annotation rows are trained on, validated on while training, and tested at the end."""

    annotation_file: str | None = None
    video_dir: str | None = None
    index_file: str | None = None
    cache_dir: str | None = None
    val_file: str | None = None
    val_share: float = 0.0
    test_file: str | None = None
    max_samples: int = 0
    max_bad_share: float = 0.05
    demo: DemoConfig | None = None


@dataclass
class VideoConfig:
    """How a clip is turned into frames: which moments, at which size, and by what means (`VIDEO_MEANS`)."""

    sampling: str = "fps"
    fps: float = 2.0
    last_frame: bool = False
    max_frames: int = 128
    min_frames: int = 4
    pad: bool = False
    min_pixels: int = 16384
    max_pixels: int = 262144
    total_pixels: int = 16777216
    resize: str = "exact"
    decoder: str = "auto"
    isolate: bool = False
    timeout_s: float = 300.0
    cache_dir: str | None = None
    cache_gb: float = 100.0
    cache_format: str = "compact"
    fetch_dir: str | None = None
    fetch_gb: float = 50.0


VIDEO_MEANS = (
    *("decoder", "isolate", "timeout_s", "cache_dir", "cache_gb", "cache_format"),
    *("fetch_dir", "fetch_gb"),
)
"""Video settings of the machine, not of the model: a checkpoint may be used with any."""


@dataclass
class TaskConfig:
    """What is asked of the model, and in which form it answers."""

    name: str = "span"
    answer: str = "seconds"
    decimals: int = 1
    num_bins: int = 100
    selection: str = "fixed"
    template: str | None = None
    think: bool = False


@dataclass
class ModelConfig:
    """Which model is loaded, and how. `path`: a hub name, a folder, a run directory, or `tiny`."""

    path: str = "tiny"
    patch_factor: int = 32
    max_length: int = 32768
    dtype: str = "auto"
    attention: str = "auto"
    freeze_vision: bool = True
    freeze_projector: bool = True


@dataclass
class LoraConfig:
    """PEFT's LoRA. `enabled: false` trains every parameter that the model group does not freeze."""

    enabled: bool = True
    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: str = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False


@dataclass
class BatchingConfig:
    """Which samples make a batch, and in which form: padded side by side, or packed end to end."""

    by: str = "fixed"
    target_batch_duration: float = 120.0
    target_batch_tokens: int = 0
    max_batch_size: int = 0
    min_batch_size: int = 1
    drop_last: bool = False
    oversize: str = "error"
    attention_cost: float = 24576.0
    packing: bool = False
    share_video: bool = False
    largest_first: bool = False


@dataclass
class EvaluationConfig:
    """Evaluation by generation: greedy answers, scored in temporal IoU."""

    batch_size: int = 8
    max_new_tokens: int = 48
    max_val_samples: int = 0
    early_stopping_patience: int = 0
    shuffled_video_control: bool = True


@dataclass
class DeepspeedConfig:
    """DeepSpeed ZeRO; `stage: 0` is without it."""

    stage: int = 0
    offload_optimizer: bool = False
    offload_parameters: bool = False
    file: str | None = None


@dataclass
class SFTConfig:
    """All settings of `train_sft.py`."""

    run_name: str = "sft"
    output_dir: str = "outputs/sft"
    seed: int = 0
    resume: str = "auto"
    on_nan: str = "stop"
    data: DataConfig = field(default_factory=DataConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    deepspeed: DeepspeedConfig = field(default_factory=DeepspeedConfig)
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass
class VideoOverrides:
    """`VideoConfig`, each key null where the checkpoint's own setting holds."""

    sampling: str | None = None
    fps: float | None = None
    last_frame: bool | None = None
    max_frames: int | None = None
    min_frames: int | None = None
    pad: bool | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None
    resize: str | None = None
    decoder: str | None = None
    isolate: bool | None = None
    timeout_s: float | None = None
    cache_dir: str | None = None
    cache_gb: float | None = None
    cache_format: str | None = None
    fetch_dir: str | None = None
    fetch_gb: float | None = None


@dataclass
class TaskOverrides:
    """`TaskConfig`, each key null where the checkpoint's own setting holds."""

    answer: str | None = None
    decimals: int | None = None
    num_bins: int | None = None
    selection: str | None = None
    template: str | None = None
    think: bool | None = None


@dataclass
class ModelOverrides:
    """How the checkpoint is loaded; null: its own `max_length`, and what this machine has."""

    max_length: int | None = None
    dtype: str | None = None
    attention: str | None = None


@dataclass
class SettingsOverrides:
    """What shall differ from the settings saved beside a checkpoint."""

    video: VideoOverrides = field(default_factory=VideoOverrides)
    task: TaskOverrides = field(default_factory=TaskOverrides)
    model: ModelOverrides = field(default_factory=ModelOverrides)


@dataclass
class FallbackSettings:
    """The settings of a checkpoint that has none beside it: a plain Hugging Face model."""

    video: VideoConfig = field(default_factory=VideoConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)


@dataclass
class RewardsConfig:
    """The rewards of a completion: `terms`, each a mapping with `name`, `weight`, `clip` and that reward's options."""

    terms: list[dict[str, Any]] = field(default_factory=list)
    normalise_weights: bool = False


@dataclass
class CurriculumConfig:
    """Which samples an RL run meets next, by the IoU of its answers so far; and when it has learned enough."""

    select: str = "all"
    min_iou: float = 0.0
    max_iou: float = 1.0
    mean: float = 0.5
    std: float = 0.2
    size: float = 1.0
    zero_variance: str = "keep"
    resample_rounds: int = 1
    plateau_steps: int = 0
    plateau_gain: float = 0.0


@dataclass
class RolloutConfig:
    """How completions are sampled, and how their prompt is shared."""

    engine: str = "transformers"
    share_prompt: bool = True
    parity_samples: int = 4
    parity_tolerance: float = 0.05
    min_parsed: float = 0.5


@dataclass
class RLConfig(SFTConfig):
    """All settings of `train_rl.py`: those of supervised fine-tuning, and TRL's GRPOConfig under `rl`."""

    rl: dict[str, Any] = field(default_factory=dict)
    rewards: RewardsConfig = field(default_factory=RewardsConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)


@dataclass
class DoctorConfig(RLConfig):
    """All settings of `python -m vtg.doctor`: those of the training it looks at, and how closely it looks.

    With nothing in `rl` it is supervised fine-tuning.
    """

    samples: int = 3
    probed_clips: int = 200
    json: bool = False
    look: str = "all"
    device: str = "gpu"
    gpus: int = 1
    gpu_gb: list[int] = field(default_factory=list)


@dataclass
class PredictConfig:
    """All settings of `python -m vtg.predict`."""

    checkpoint: str = "tiny"
    video_file: str | None = None
    query: str | None = None
    video_start: float | None = None
    video_end: float | None = None
    split: str = "test"
    output_dir: str = "outputs/predict"
    batch_size: int = 8
    max_new_tokens: int = 48
    num_workers: int = 4
    json: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    settings: SettingsOverrides = field(default_factory=SettingsOverrides)
    fallback: FallbackSettings = field(default_factory=FallbackSettings)
