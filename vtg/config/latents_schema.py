"""All settings of the training of latent video models."""

from dataclasses import dataclass, field

from vtg.config.clip_settings import ClipsConfig
from vtg.config.encoder_settings import EncoderConfig
from vtg.config.latent_settings import PredictorConfig
from vtg.config.schema import RunConfig
from vtg.config.setting import setting


@dataclass
class FutureConfig:
    """What of a clip is seen and what is predicted, and how predictions are scored."""

    context_s: float = setting(4.0, "seconds of a clip that are seen; the latents of what follows are predicted")
    horizon_s: float = setting(1.0, "errors are told for each so many seconds of time ahead")
    batch_size: int = setting(16, "clips that are predicted at once in validation and test", on_resume="may_change")


@dataclass
class LatentsConfig(RunConfig):
    """All settings of `train_latents.py`."""

    dry_run: bool = setting(
        False,
        "print settings, parameters and the optimizer's groups, and end before any row is read",
        on_resume="may_change",
    )
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    clips: ClipsConfig = field(default_factory=ClipsConfig)
    predictor: PredictorConfig = field(default_factory=PredictorConfig)
    future: FutureConfig = field(default_factory=FutureConfig)
