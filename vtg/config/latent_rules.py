"""What settings of predictors of latents, and of their training, must satisfy, checked before torch is imported."""

from vtg.config.clip_settings import check_clips
from vtg.config.derived import activation_checkpointing
from vtg.config.latent_settings import PredictorConfig
from vtg.config.latents_schema import LatentsConfig
from vtg.errors import ConfigError


def check_predictor(predictor: PredictorConfig) -> None:
    """Raises ConfigError for sizes that cannot be, and settings of a flow that no sampler could follow."""
    for key in ("width", "depth", "heads", "steps", "samples"):
        if getattr(predictor, key) < 1:
            raise ConfigError(f"predictor.{key} = {getattr(predictor, key)}: must be at least 1")
    # Places of the grid take pairs of features of the row and of the column.
    for key, of in ((4, "4"), (predictor.heads, f"predictor.heads = {predictor.heads}")):
        if predictor.width % key:
            raise ConfigError(f"predictor.width = {predictor.width}: must be a multiple of {of}")
    if not 0 <= predictor.context_dropout < 1:
        raise ConfigError(
            f"predictor.context_dropout = {predictor.context_dropout}: a share of the clips, at least 0 and below 1"
        )
    if predictor.guidance < 0:
        raise ConfigError(f"predictor.guidance = {predictor.guidance}: must be at least 0; 1 samples without guidance")
    if predictor.kind == "flow" and predictor.guidance != 1 and not predictor.context_dropout:
        raise ConfigError(
            f"predictor.guidance = {predictor.guidance} with predictor.context_dropout = 0: guidance needs a model "
            "that was trained without its context at times; set predictor.context_dropout=0.1, or predictor.guidance=1"
        )


def check_latents(config: LatentsConfig) -> None:
    """Raises ConfigError for settings of `train_latents.py` that cannot be, alone or together."""
    if config.data.sources:
        raise ConfigError(
            f"data.sources ({', '.join(config.data.sources)}): train_latents.py trains on one data set at a time; give "
            "each: data=GROUP, or data=jsonl data.annotation_file=FILE"
        )
    check_clips(config.clips)
    check_predictor(config.predictor)
    for key in ("context_s", "horizon_s", "batch_size"):
        value = getattr(config.future, key)
        if not value > 0:
            raise ConfigError(f"future.{key} = {value}: must be more than 0")
    # Also asked of the model once it is loaded: there by its parameters, here before anything loads.
    if config.clips.cache_dir is not None and config.encoder.trained:
        raise ConfigError(
            f"clips.cache_dir is set, but encoder.trained = {config.encoder.trained}: latents change with every step; "
            "set clips.cache_dir=null, or encoder.trained=[]"
        )
    # With clips.stride it depends on each video's rate, and is found out with the clip.
    length_s = config.clips.seconds
    if length_s is not None and config.future.context_s >= length_s:
        raise ConfigError(
            f"future.context_s = {config.future.context_s}: leaves nothing of clips.seconds = {length_s} to predict; "
            "set less, or longer clips"
        )
    # Its engine would part what FutureModel leaves out of its state.
    if config.deepspeed.is_on:
        raise ConfigError("deepspeed: a predictor of latents is trained by DDP on several GPUs; set deepspeed=none")
    # They are modules of transformers' models that recompute, which a predictor is none of.
    if activation_checkpointing(config.trainer) != "none":
        raise ConfigError(
            "trainer.gradient_checkpointing: a predictor of latents keeps all of its activations; set "
            "trainer.gradient_checkpointing=none, and where memory is short a smaller "
            "trainer.per_device_train_batch_size"
        )
    if config.trainer.get("torch_compile"):
        raise ConfigError("trainer.torch_compile = true: is for train_sft.py and train_rl.py; set it to false")
