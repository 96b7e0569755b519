"""The typed schema of every training setting: its default, its explanation, its choices, and what a resume may change.

conf/ holds the same defaults, for reading and overriding; tests/config/test_settings.py holds the two together.
"""

from dataclasses import dataclass, field
from typing import Any

from vtg.config.setting import setting


@dataclass
class DemoConfig:
    """Size of the synthetic data set."""

    train_videos: int = setting(0, "videos that are trained on")
    val_videos: int = setting(0, "videos that are validated on")
    test_videos: int = setting(0, "videos that are tested on")
    seed: int = setting(0, "draws the videos, events and sentences")


@dataclass
class DataConfig:
    """Which annotation rows are trained on, validated on while training, and tested at the end."""

    annotation_file: str | None = setting(
        None,
        "JSONL rows: video, duration, timestamp, sentence (python -m vtg.validate FILE checks them); or shards/*.tar",
        on_resume="may_change",
    )
    video_dir: str | None = setting(
        None,
        "where relative `video` names are looked up, or s3://bucket/videos; null: as they are",
        on_resume="may_change",
    )
    index_file: str | None = setting(
        None,
        "facts of the videos, made by python -m vtg.inspect --index FILE; null: FILE.videos.parquet, if it is there",
        on_resume="may_change",
    )
    cache_dir: str | None = setting(
        None,
        "where large annotation files are kept in a form to be mapped; null: ~/.cache/vtg",
        on_resume="may_change",
    )
    val_file: str | None = setting(
        None,
        "validated on while training; null: val_share of the training videos, or no validation",
        on_resume="may_change",
    )
    val_share: float = setting(0.0, "share of the training videos to validate on instead of val_file; 0: none")
    test_file: str | None = setting(
        None, "measured before and after training; null: the validation rows", on_resume="may_change"
    )
    max_samples: int = setting(0, "train on the first N rows only; 0: all")
    max_bad_share: float = setting(
        0.05, "stop when more than this share of the rows cannot be used", on_resume="may_change"
    )
    demo: DemoConfig | None = None


@dataclass
class VideoConfig:
    """How a clip is turned into frames: which moments, at which size, and by what means."""

    sampling: str = setting(
        "fps",
        "which frames are taken",
        choices={
            "fps": "fps frames a second",
            "uniform": "max_frames, evenly",
            "random": "one at random of each of max_frames equal parts",
            "keyframe": "those that decode on their own",
            "molmo2": "fps, and always the last frame",
        },
    )
    fps: float = setting(2.0, "frames a second; 0: every frame of the file")
    last_frame: bool = setting(False, "the fps grid also takes the last frame")
    max_frames: int = setting(256, "of a clip; a longer one is sampled more thinly, evenly")
    min_frames: int = setting(4, "of a clip; a shorter one is sampled more densely")
    pad: bool = setting(False, "a clip with fewer than min_frames frames is filled up with masked repeats of its last")
    min_pixels: int = setting(65536, "of a frame; a smaller one is enlarged")
    max_pixels: int = setting(262144, "of a frame; a larger one is reduced")
    total_pixels: int = setting(25165824, "of all frames of a clip together; Qwen3-VL has a vision token for 2048")
    resize: str = setting(
        "exact",
        "how frames are resized",
        choices={
            "exact": "torchvision's bicubic, as Hugging Face's processors resize",
            "fast": "FFmpeg's scaler while decoding",
        },
    )
    decoder: str = setting(
        "auto",
        "what decodes",
        choices=("auto", "pyav", "torchcodec", "decord", "ffmpeg"),
        on_resume="may_change",
    )
    isolate: bool = setting(
        False, "decode in a child process: a crash or a hang costs one sample, not the run", on_resume="may_change"
    )
    timeout_s: float = setting(
        300.0,
        "of one clip: one that takes longer costs its row; its decoder is ended where decoding is isolated",
        on_resume="may_change",
    )
    cache_dir: str | None = setting(None, "keep decoded and resized clips in this folder", on_resume="may_change")
    cache_gb: float = setting(
        100.0, "size limit of cache_dir; the least recently used clips go first", on_resume="may_change"
    )
    cache_format: str = setting(
        "compact",
        "how clips are kept",
        choices={"compact": "near-lossless H.264", "raw": "the very pixels, about 30 times as large"},
        on_resume="may_change",
    )
    fetch_dir: str | None = setting(
        None,
        "where videos of a store (s3://, gs://, https://) are kept once fetched; null: ~/.cache/vtg/videos",
        on_resume="may_change",
    )
    fetch_gb: float = setting(
        50.0, "size limit of fetch_dir; the least recently used videos go first", on_resume="may_change"
    )


VIDEO_MEANS = (
    *("decoder", "isolate", "timeout_s", "cache_dir", "cache_gb", "cache_format"),
    *("fetch_dir", "fetch_gb"),
)
"""Video settings of the machine, not of the model: a checkpoint may be used with any."""


@dataclass
class TaskConfig:
    """What is asked of the model, and in which form it answers."""

    name: str = setting("span", "the task", choices={"span": "when does it happen"})
    answer: str = setting(
        "seconds",
        "form of the answer",
        choices={
            "seconds": "12.3 to 45.6 seconds",
            "relative": "fractions of the clip",
            "bins": "numbers of its num_bins equal parts",
            "tokens": "such numbers as the text <12>, of tokens that are there",
        },
    )
    decimals: int = setting(1, "of seconds, or of percentages where the answer is relative")
    num_bins: int = setting(100, "equal parts of the clip, where the answer is bins or tokens")
    selection: str = setting(
        "fixed",
        "of the prompt's wording",
        choices={
            "fixed": "always the first",
            "seeded": "by sample",
            "random": "anew each epoch",
        },
    )
    template: str | None = setting(None, "your own prompt; {query} is put in; null: the prompts of vtg")
    think: bool = setting(
        False, "the prompt asks for <think> </think> first, then for the answer in <answer> </answer>"
    )


@dataclass
class ModelConfig:
    """Which model is loaded, and how."""

    path: str = setting("tiny", "a hub name, a local folder, a run directory, or tiny")
    patch_factor: int = setting(32, "pixels a side of one vision token: 32 for Qwen3-VL, 28 for Qwen2.5-VL")
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
            "sdpa": "",
            "eager": "",
        },
        on_resume="may_change",
    )
    freeze_vision: bool = setting(True, "the vision tower is not trained")
    freeze_projector: bool = setting(True, "the projector from vision to language is not trained")


@dataclass
class LoraConfig:
    """PEFT's LoRA."""

    enabled: bool = setting(True, "false: every parameter that the model group does not freeze is trained")
    r: int = setting(16, "rank of the update")
    alpha: int = setting(32, "the update is scaled by alpha / r")
    dropout: float = setting(0.0, "share of the update's inputs that are dropped while training")
    target_modules: Any = setting(
        "all-linear",
        "all-linear: of the parts not frozen; or a list of names (q_proj), of these parts; or a regular expression",
    )
    use_rslora: bool = setting(False, "the update is scaled by alpha / sqrt(r)")
    use_dora: bool = setting(False, "DoRA: length and direction of the weights are trained apart")


@dataclass
class BatchingConfig:
    """Which samples make a batch, and in which form: padded side by side, or packed end to end."""

    by: str = setting(
        "fixed",
        "what a batch is filled up to",
        choices={
            "fixed": "trainer.per_device_train_batch_size samples",
            "duration": "target_batch_duration seconds of video",
            "tokens": "target_batch_tokens tokens",
        },
    )
    target_batch_duration: float = setting(
        120.0, "with by=duration: samples x the longest of them (packed: their sum), in seconds", on_resume="may_change"
    )
    target_batch_tokens: int = setting(
        0,
        "with by=tokens: likewise, in tokens; 0: as many as the longest clip that the settings allow",
        on_resume="may_change",
    )
    max_batch_size: int | None = setting(0, "samples; 0 or null: no limit", on_resume="may_change")
    min_batch_size: int = setting(1, "samples, where the budget allows", on_resume="may_change")
    drop_last: bool = setting(False, "leave out what does not fill a last step on all ranks, rather than split batches")
    oversize: str = setting(
        "error",
        "a sample that no batch can hold",
        choices={"error": "ends the run", "alone": "is a batch of its own", "skip": "is left out, and reported"},
    )
    attention_cost: float = setting(
        24576.0, "for balancing ranks, a sequence of l tokens takes as long as l + l²/this; 0: l"
    )
    packing: bool = setting(False, "samples end to end without padding, each attending to itself only")
    share_video: bool = setting(False, "packed, and rows of one clip hold its video once")
    largest_first: bool = setting(
        False, "the costliest step of the first epoch comes first, so that if memory runs out it does at once"
    )


@dataclass
class EvaluationConfig:
    """Evaluation by generation: greedy answers, scored in temporal IoU."""

    batch_size: int = setting(8, "questions that are answered at once", on_resume="may_change")
    max_new_tokens: int = setting(48, "of an answer")
    max_val_samples: int = setting(0, "of the validation while training; 0: all")
    early_stopping_patience: int = setting(
        0, "evaluations without a better mIoU before stopping; 0: never", on_resume="may_change"
    )
    shuffled_video_control: bool = setting(
        True,
        "also test with every video replaced by another: what the text alone gives",
        on_resume="may_change",
    )


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


@dataclass
class SFTConfig:
    """All settings of `train_sft.py`."""

    run_name: str = setting("sft", "names the run and its folder", on_resume="may_change")
    output_dir: str = setting("outputs/sft", "folder of the run: checkpoints, log, answers", on_resume="may_change")
    seed: int = setting(0, "of everything that is drawn: weights, order of samples, frames, prompts")
    resume: str = setting(
        "auto",
        "where output_dir holds a run",
        choices={
            "auto": "resume from its last checkpoint, if any",
            "never": "refuse a used output_dir",
            "must": "refuse one without a checkpoint",
        },
        on_resume="may_change",
    )
    on_nan: str = setting(
        "stop",
        "a loss or gradient that is not finite",
        choices={"stop": "ends the run", "skip": "leaves out that update, at most 20 in a row"},
        on_resume="may_change",
    )
    data: DataConfig = field(default_factory=DataConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    deepspeed: DeepspeedConfig = field(default_factory=DeepspeedConfig)
    trainer: dict[str, Any] = setting(factory=dict, help="Hugging Face TrainingArguments, by their own names")


@dataclass
class RewardsConfig:
    """The rewards of a completion."""

    terms: list[dict[str, Any]] = setting(
        factory=lambda: [{"name": "temporal_iou", "weight": 1.0}],
        help="each {name, weight, clip: [low, high], label} and that reward's options (vtg/training/rl/rewards.py)",
    )
    normalise_weights: bool = setting(False, "the weights are divided by the sum of their absolute values")


@dataclass
class CurriculumConfig:
    """Which samples an RL run meets next, by the IoU of its answers so far; and when it has learned enough.

    The IoU of a sample is the mean of its latest completions; before, the annotation's difficulty / 100, or that of its
    pred. While it is unknown, no selection leaves the sample out.
    """

    select: str = setting(
        "all",
        "which samples a pass takes",
        choices={
            "all": "every one",
            "filter": "those with min_iou < IoU <= max_iou",
            "gaussian": "drawn by difficulty, 1 - IoU",
        },
    )
    min_iou: float = setting(0.0, "with select=filter: a sample's IoU must be above")
    max_iou: float = setting(1.0, "with select=filter: a sample's IoU may be at most")
    mean: float = setting(0.5, "with select=gaussian: the difficulty drawn most")
    std: float = setting(0.2, "with select=gaussian: how far from it is drawn still")
    size: float = setting(1.0, "share of the samples that the selection keeps, drawn anew for each pass")
    zero_variance: str = setting(
        "keep",
        "groups of one and the same reward, which teach nothing",
        choices={"keep": "stay", "drop": "carry no loss", "resample": "give way to other prompts"},
    )
    resample_rounds: int = setting(1, "with zero_variance=resample: how often at most in an optimizer step")
    plateau_steps: int = setting(
        0,
        "stop after so many optimizer steps without a better mean reward (of as many steps); 0: never",
        on_resume="may_change",
    )
    plateau_gain: float = setting(
        0.0, "with plateau_steps: a better reward is better by more than this", on_resume="may_change"
    )


@dataclass
class RolloutConfig:
    """How completions are sampled, and how their prompt is shared."""

    engine: str = setting(
        "transformers",
        "what generates completions",
        choices={
            "transformers": "",
            "vllm": "an extra package, on a GPU; checked against transformers before training",
        },
        on_resume="may_change",
    )
    share_prompt: bool = setting(
        True,
        "the prompt and its video run once for all of its completions; false: once for each",
        on_resume="may_change",
    )
    parity_samples: int = setting(
        4, "prompts that the check of another engine than transformers generates for", on_resume="may_change"
    )
    parity_tolerance: float = setting(
        0.05, "nats by which the log-probs of another engine may differ", on_resume="may_change"
    )
    min_parsed: float = setting(
        0.5, "warn at the start where a smaller share of the model's answers can be read", on_resume="may_change"
    )


@dataclass
class RLConfig(SFTConfig):
    """All settings of `train_rl.py`: those of supervised fine-tuning, and what reinforcement learning has besides."""

    rl: dict[str, Any] = setting(factory=dict, help="TRL's GRPOConfig, by its own names")
    rewards: RewardsConfig = field(default_factory=RewardsConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
