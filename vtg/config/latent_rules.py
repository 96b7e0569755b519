"""What settings of predictors of latents must satisfy, checked before torch is imported."""

from vtg.config.latent_settings import PredictorConfig
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
