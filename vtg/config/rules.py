"""Settings that cannot be, alone or together: found before any model loads."""

import re
import shutil
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from typing import Any

from vtg.config.argument_values import check_values
from vtg.config.arguments import check_arguments
from vtg.config.data_rules import check_data
from vtg.config.data_settings import AugmentationConfig, BatchingConfig
from vtg.config.derived import TEXT_TOKENS, longest_clip_tokens, needs_mask, token_cost_of
from vtg.config.file_rules import read_fault
from vtg.config.foreign_names import VALUES
from vtg.config.latent_rules import check_latents
from vtg.config.latents_schema import LatentsConfig
from vtg.config.loss_rules import check_loss
from vtg.config.mixture_rules import check_mixed
from vtg.config.model_settings import LoraConfig, ModelConfig
from vtg.config.part_rules import check_parts
from vtg.config.programs import DoctorConfig, PredictConfig
from vtg.config.rollout_rules import check_decoding, check_shared_clips
from vtg.config.schema import RLConfig, RunConfig, SFTConfig
from vtg.config.score_rules import check_score
from vtg.config.score_settings import ScoreConfig
from vtg.config.setting import setting_of
from vtg.config.task_settings import EvaluationConfig, TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.errors import ConfigError
from vtg.models.families.token_cost import TokenCost
from vtg.video.files import address


def check_choices(config: Any, prefix: str = "") -> None:
    """Raises ConfigError for a value outside the choices of its setting, here or in a group below."""
    for entry in fields(config):
        value, known = getattr(config, entry.name), setting_of(entry)
        if is_dataclass(value):
            check_choices(value, f"{prefix}{entry.name}.")
        elif known is not None and known.choices and value is not None and value not in known.choices:
            same = VALUES.get(entry.name, {}).get(value)
            hint = f"that is {same} here; " if same else ""
            raise ConfigError(f"{prefix}{entry.name} = {value!r}: {hint}must be one of {', '.join(known.choices)}")


def check_together(config: Any) -> None:
    if isinstance(config, RunConfig):
        check_run(config)
    if isinstance(config, LatentsConfig):
        check_latents(config)
    if isinstance(config, SFTConfig):
        check_loss(config)
        check_lora(config.lora)
        check_parts(config)
        check_evaluation(config.evaluation)
        for key in ("patch_factor", "max_length"):
            if getattr(config.model, key) < 1:
                raise ConfigError(f"model.{key} = {getattr(config.model, key)}: must be at least 1")
        check_video(config.video)
        check_batching(config.batching, config)
        check_augmentation(config.augmentation, shares_video=bool(config.batching.share_video))
        check_mixed(config)
        check_constrained(config.task, engine=config.rollout.engine if isinstance(config, RLConfig) else "transformers")
    if isinstance(config, RLConfig):
        check_decoding(config.rollout)
        check_shared_clips(config)
    if isinstance(config, DoctorConfig):  # which reports on the token budget itself
        check_counts(config, "samples", "probed_clips", "gpus")
    elif isinstance(config, SFTConfig):
        check_token_budget(config.video, config.model, token_cost_of(config.model))
    if isinstance(config, PredictConfig):
        check_predict(config)
    if isinstance(config, ScoreConfig):
        check_score(config)


def check_run(config: RunConfig) -> None:
    """Raises ConfigError for what no training can be asked: names and values of `trainer`, a seed, data."""
    for key in ("run_name", "output_dir"):
        if not getattr(config, key):
            raise ConfigError(f"{key} is empty; give a name, or leave it out for the default")
    check_arguments(config)
    check_values(config)
    if not 0 <= config.seed < 2**32:  # the range of numpy's seeds
        raise ConfigError(f"seed = {config.seed}: must be at least 0 and below {2**32}")
    check_data(config.data)
    check_on_nan(config)


def check_on_nan(config: RunConfig) -> None:
    """Raises ConfigError for on_nan=skip with DeepSpeed."""
    # DeepSpeed's engine updates within backward: when the guard sees the gradient norm, the update is done.
    if config.on_nan == "skip" and config.deepspeed.is_on:
        raise ConfigError(
            "on_nan = 'skip' cannot be with DeepSpeed, which makes its update within the backward pass, before anyone "
            "can look at it; set on_nan=stop, or deepspeed=none"
        )


def check_predict(config: PredictConfig) -> None:
    """Raises ConfigError unless exactly one thing to answer is named: a video with its query, or annotation rows."""
    check_counts(config, "batch_size", "max_new_tokens")
    if config.num_workers < 0:
        raise ConfigError(f"num_workers = {config.num_workers}: must be 0 (none) or more")
    if config.video_file is None:
        if config.query is not None:
            raise ConfigError(f"query = {config.query!r}, but video is not set; give its file: video=FILE")
        for key in ("video_start", "video_end"):
            if (time_s := getattr(config, key)) is not None:
                raise ConfigError(f"{key} = {time_s}, but video is not set; rows have their own {key}")
        if config.data.annotation_file is None and not config.data.sources:
            raise ConfigError(
                "nothing to answer: neither video nor data is set; give video=FILE query=TEXT, or "
                "data.annotation_file=ROWS.jsonl, or data=GROUP"
            )
        check_data(config.data)
        read = list(config.data.sources.values()) or [config.data]
        if config.split == "val" and all(rows.val_file is None for rows in read):
            key = "val_file of any source" if config.data.sources else "data.val_file"
            raise ConfigError(f"split = 'val', but {key} is not set; set it, or choose split=test or train")
        return
    if config.data.sources:
        raise ConfigError(
            f"video = {config.video_file!r} and data.sources ({', '.join(config.data.sources)}) are both set; keep one "
            "of them"
        )
    if config.data.annotation_file is not None:
        raise ConfigError(
            f"video = {config.video_file!r} and data.annotation_file = {config.data.annotation_file!r} are both set; "
            "keep one of them"
        )
    if config.query is None or not config.query.strip():
        raise ConfigError("video is set, but query is not; say what to look for: query='a person opens a door'")
    if fault := address.fault(config.video_file):
        raise ConfigError(f"video: {fault}")
    # Videos in a store or a tar are found when they are opened: asking a store here would need the network.
    in_place = not address.is_address(config.video_file) and address.TAR_MEMBER not in config.video_file
    if in_place and (fault := read_fault(config.video_file)):
        raise ConfigError(f"video = {config.video_file!r}: {fault}")


def check_counts(config: Any, *keys: str) -> None:
    """Raises ConfigError where one of these settings is below 1; null is none."""
    for key in keys:
        if (count := getattr(config, key)) is not None and count < 1:
            raise ConfigError(f"{key} = {count}: must be at least 1")


def check_settings(settings: Any, *, prefix: str) -> None:
    """Raises ConfigError, naming keys under `prefix`, for settings (`video`, `task`, `model`) that cannot be."""
    check_choices(settings, prefix)
    check_video(settings.video)
    check_constrained(settings.task, prefix=prefix)


def check_constrained(task: TaskConfig, *, prefix: str = "", engine: str = "transformers") -> None:
    """Raises ConfigError where answers are to be constrained and cannot be."""
    if task.constrained and task.think:
        raise ConfigError(
            f"{prefix}task.constrained = true: what a model thinks before it answers (task.think) can be any text; set "
            f"{prefix}task.constrained=false, or {prefix}task.think=false"
        )
    if task.constrained and engine == "vllm":
        raise ConfigError(
            "rollout.engine = 'vllm': it samples what task.constrained does not allow, and its log-probs are of all "
            "tokens; set rollout.engine=transformers, or task.constrained=false"
        )


def check_video(video: VideoConfig) -> None:
    """Raises ConfigError for sampling and pixel limits that contradict each other."""
    if video.fps < 0:
        raise ConfigError(f"video.fps = {video.fps}: must be positive, or 0 for the file's own rate")
    if not 1 <= video.min_frames <= video.max_frames:
        raise ConfigError(
            f"video.min_frames = {video.min_frames}, video.max_frames = {video.max_frames}: "
            "must be 1 <= min_frames <= max_frames"
        )
    if not 0 < video.min_pixels <= video.max_pixels <= video.total_pixels:
        raise ConfigError(
            f"video.min_pixels = {video.min_pixels}, video.max_pixels = {video.max_pixels}, video.total_pixels = "
            f"{video.total_pixels}: must be 0 < min_pixels <= max_pixels <= total_pixels"
        )
    check_frame_size(video)
    if video.tower_cache_dir is not None and video.sampling == "random":
        raise ConfigError(
            "video.tower_cache_dir is set, but video.sampling = 'random' draws other frames of a clip every time; set "
            "video.sampling=fps, or video.tower_cache_dir=null"
        )
    # Looked for here: a worker would find out only after the model is loaded, once for every row.
    if video.decoder in ("decord", "torchcodec") and find_spec(video.decoder) is None:
        raise ConfigError(
            f"video.decoder = {video.decoder!r}: {video.decoder} is not installed; pip install 'vtg[video]', or "
            "set video.decoder=auto"
        )
    if video.decoder == "ffmpeg" and shutil.which("ffmpeg") is None:
        raise ConfigError("video.decoder = 'ffmpeg': there is no command ffmpeg; install it, or set video.decoder=auto")
    for key in ("timeout_s", "cache_gb", "fetch_gb"):
        if not getattr(video, key) > 0:
            raise ConfigError(f"video.{key} = {getattr(video, key)}: must be positive")


def check_frame_size(video: VideoConfig) -> None:
    """Raises ConfigError for a size of frames that is none, or of which not one fits into the limit of a clip."""
    size = video.frame_size
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 0 for side in sides):
        raise ConfigError(
            f"video.frame_size = {size!r}: must be pixels: N for N x N, [height, width], or 0, with which frames keep "
            "their shape"
        )
    if isinstance(size, list) and not all(sides):
        raise ConfigError(f"video.frame_size = {size!r}: height and width must be at least 1; or set 0 alone")
    if sides[0] * sides[1] > video.total_pixels:
        raise ConfigError(
            f"video.frame_size = {size!r}: a frame of it does not fit into video.total_pixels = {video.total_pixels}; "
            "raise that, or lower video.frame_size"
        )


def check_lora(lora: LoraConfig) -> None:
    """Raises ConfigError for sizes that cannot be, and layers that are named neither by a text nor by a list."""
    if lora.r < 1:
        raise ConfigError(f"lora.r = {lora.r}: must be at least 1; lora=none trains without LoRA")
    if lora.alpha < 1:
        raise ConfigError(f"lora.alpha = {lora.alpha}: must be at least 1, or the update is scaled to nothing")
    if not 0 <= lora.dropout < 1:
        raise ConfigError(f"lora.dropout = {lora.dropout}: must be at least 0 and below 1")
    wanted = lora.target_modules
    if not isinstance(wanted, str | list) or any(not isinstance(name, str) for name in wanted):
        raise ConfigError(
            f"lora.target_modules = {wanted!r}: must be all-linear, a list of names, or a regular expression"
        )
    if isinstance(wanted, str):
        try:  # PEFT takes a text as a regular expression over the names of all layers
            re.compile(wanted)
        except re.error as error:
            raise ConfigError(f"lora.target_modules = {wanted!r}: not a regular expression ({error})") from None


def check_evaluation(evaluation: EvaluationConfig) -> None:
    """Raises ConfigError for counts below the least that can be."""
    leasts = {"batch_size": 1, "max_new_tokens": 1, "max_val_samples": 0, "early_stopping_patience": 0}
    for key, least in leasts.items():
        if (value := getattr(evaluation, key)) is not None and value < least:
            raise ConfigError(f"evaluation.{key} = {getattr(evaluation, key)}: must be at least {least}")


def check_batching(batching: BatchingConfig, config: SFTConfig) -> None:
    """Raises ConfigError for batch limits that cannot be, and masks that the attention does not take."""
    if config.model.attention == "flash_attention_2" and needs_mask(batching, config.video):
        cause = "batching.share_video" if batching.share_video else "video.pad with batching.packing"
        raise ConfigError(
            f"model.attention = 'flash_attention_2' does not take the mask that {cause} needs; set "
            "model.attention=sdpa, or auto"
        )
    for key, least in (("target_batch_tokens", 0), ("max_batch_size", 0), ("attention_cost", 0), ("min_batch_size", 1)):
        if (getattr(batching, key) or 0) < least:
            raise ConfigError(f"batching.{key} = {getattr(batching, key)}: must be at least {least}")
    if not batching.target_batch_duration > 0:
        raise ConfigError(f"batching.target_batch_duration = {batching.target_batch_duration}: must be positive")
    if 0 < (batching.max_batch_size or 0) < batching.min_batch_size:
        raise ConfigError(
            f"batching.min_batch_size = {batching.min_batch_size}, batching.max_batch_size = "
            f"{batching.max_batch_size}: must be min_batch_size <= max_batch_size, or max_batch_size = 0 for no limit"
        )


def check_augmentation(augmentation: AugmentationConfig, *, shares_video: bool) -> None:
    """Raises ConfigError for shares outside [0, 1], a speed below 1, and what rows of one video cannot share."""
    for key in ("crop", "shift"):
        value = getattr(augmentation, key)
        if not 0 <= value <= 1:
            raise ConfigError(f"augmentation.{key} = {value}: must be a share of the rows, from 0 to 1")
        if value and shares_video:
            raise ConfigError(
                f"augmentation.{key} = {value} changes the clip of each row by itself, and batching.share_video holds "
                f"one for all of them; set augmentation.{key}=0, or batching.share_video=false"
            )
    if not 0 < augmentation.crop_min_share <= 1:
        raise ConfigError(f"augmentation.crop_min_share = {augmentation.crop_min_share}: must be over 0, and at most 1")
    # Twice as fast is already far from any camera: more is a share mistaken for a factor.
    if not 1 <= augmentation.speed <= 4:
        raise ConfigError(f"augmentation.speed = {augmentation.speed}: must be a factor from 1 (as it is) to 4")
    if not 0 <= augmentation.color < 1:
        raise ConfigError(f"augmentation.color = {augmentation.color}: must be at least 0 and below 1")


def check_token_budget(video: VideoConfig, model: ModelConfig, cost: TokenCost) -> None:
    """Raises ConfigError where the longest clip these settings allow does not fit into `model.max_length` tokens."""
    needed, vision, patches = longest_clip_tokens(video, cost), cost.longest_vision(video), cost.longest_patches(video)
    if needed > model.max_length:
        room = model.max_length - TEXT_TOKENS
        way = "lower video.max_frames"
        if cost.fixed_size(video) is not None:  # frames cost the same, whatever the pixel limits
            way += f" to at most {room // (cost.stamp_tokens + vision // patches)}"
        elif room > cost.longest_stamps(video):
            way = f"set video.total_pixels to at most {(room - cost.longest_stamps(video)) * cost.token_pixels}"
        raise ConfigError(
            f"a full clip takes up to {needed} tokens ({vision} vision tokens from video.max_frames = "
            f"{video.max_frames}, video.max_pixels = {video.max_pixels} and video.total_pixels = {video.total_pixels}, "
            f"{cost.stamp_tokens} around each of {patches} temporal patches, {TEXT_TOKENS} for prompt and answer), but "
            f"model.max_length = {model.max_length}; {way}, or raise model.max_length"
        )
