"""What predicts future latents from past ones, and how it is trained."""

from dataclasses import dataclass

from vtg.config.setting import setting


@dataclass
class PredictorConfig:
    """The network that predicts latents of the future."""

    kind: str = setting(
        "regression",
        "what it predicts",
        choices={
            "regression": "one future, of the least error",
            "flow": "futures drawn by flow matching, and their mean",
        },
    )
    width: int = setting(128, "of its tokens")
    depth: int = setting(2, "blocks over the context, and as many over the target")
    heads: int = setting(4, "of attention; of which width must be a multiple")
    attention: str = setting(
        "full",
        "which latents a latent attends to",
        choices={
            "full": "all of the clip",
            "factorised": "those of its time, then those of its place: cheaper where the grid or the clip is large",
        },
    )
    residual: bool = setting(True, "it predicts the change since the last latent of the context, not the latent itself")
    loss: str = setting(
        "l2",
        "of kind=regression",
        choices={
            "l1": "absolute error",
            "l2": "squared error",
            "cosine": "1 - cosine: directions alone, lengths are left free",
        },
    )
    flow_times: str = setting(
        "uniform",
        "with kind=flow: how times between noise and latents are drawn in training",
        choices={"uniform": "", "logit_normal": "more in the middle, as Stable Diffusion 3"},
    )
    context_dropout: float = setting(
        0.1, "with kind=flow: share of clips trained without their context, which guidance needs"
    )
    guidance: float = setting(
        1.0, "with kind=flow: how far samples are driven away from those without context; 1: not at all"
    )
    sampler: str = setting(
        "heun",
        "with kind=flow: what integrates drawn futures",
        choices={"euler": "first order, one pass a step", "heun": "second order, two passes a step"},
    )
    steps: int = setting(8, "with kind=flow: of the sampler")
    samples: int = setting(
        8, "with kind=flow: futures drawn of a clip for its crps; its prediction averages over as many draws of noise"
    )
