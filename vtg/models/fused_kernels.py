"""Liger's kernels in place of a model's own norms, rotary positions and MLPs: the same sums in fewer passes.

    fuse(model)     # once, after loading; before or after adapters are added

RMSNorm, the product of an MLP's gate, and the rotation of queries and keys are bound by memory on a GPU: PyTorch's own
write every step of them out, several of them in float32. The loss is left alone: answers are a few dozen tokens, whose
positions alone are projected (`vtg.training.sft.sft_trainer`). What is on a CPU is computed as before, and so is what
torch.compile traces: it fuses the model's own as well, and its tracing of Liger's failed on torch 2.11.
"""

import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from vtg.errors import ConfigError

NORMS = {
    "Qwen3VLTextRMSNorm": (0.0, "llama"),
    "Qwen3VLMoeTextRMSNorm": (0.0, "llama"),
    "Qwen2RMSNorm": (0.0, "llama"),
    "Qwen2_5_VLRMSNorm": (0.0, "llama"),
    "Qwen3_5RMSNorm": (1.0, "gemma"),
    "Qwen3_5MoeRMSNorm": (1.0, "gemma"),
}
"""Class of transformers → what is added to its weight, and where it rounds, as Liger names the model that does so."""

MLPS = ("Qwen3VLTextMLP", "Qwen3VLMoeTextMLP", "Qwen2MLP", "Qwen2_5_VLMLP", "Qwen3_5MLP", "Qwen3_5MoeMLP")
"""Classes that compute down(silu(gate(x)) * up(x))."""

ROTARY = "apply_rotary_pos_emb"


def uses_liger(kernels: str, *, on_gpu: bool) -> bool:
    """Whether `model.kernels` means Liger's.

    Raises:
        ConfigError: they are asked for where they cannot be.
    """
    is_there = find_spec("liger_kernel") is not None
    if kernels == "liger" and not (is_there and on_gpu):
        missing = "there is no GPU" if is_there else "liger-kernel is not installed (pip install 'vtg[gpu]')"
        raise ConfigError(f"model.kernels = 'liger': {missing}; set model.kernels=auto")
    return kernels != "torch" and is_there and on_gpu


def fuse(model: Any) -> int:
    """Gives a model on a GPU Liger's kernels, in place; returns for how many layers. Names of parameters stay.

    The rotation is a function of transformers' module, and so is replaced for all models of this class in the process.
    """
    found = 0
    for module in model.modules():
        name = type(module).__name__
        if name in NORMS:
            module.__class__ = _fused_norm(type(module), *NORMS[name])
            found += 1
        elif name in MLPS:
            module.__class__ = _fused_mlp(type(module))
            found += 1
        source = sys.modules[type(module).__module__]
        rotate = getattr(source, ROTARY, None)
        if name.endswith("Attention") and rotate is not None and not hasattr(rotate, "plain"):
            setattr(source, ROTARY, _fused_rotation(rotate))
    return found


def unfuse(model: Any) -> None:
    """Takes them out again."""
    for module in model.modules():
        source = sys.modules[type(module).__module__]
        rotate: Any = getattr(source, ROTARY, None)
        if hasattr(rotate, "plain"):
            setattr(source, ROTARY, rotate.plain)
        if hasattr(type(module), "plain"):
            module.__class__ = type(module).plain


def _runs_liger(states: torch.Tensor) -> bool:
    return states.is_cuda and not torch.compiler.is_compiling()


def _named_as(plain: type, forward: Callable[..., torch.Tensor]) -> type:
    """A subclass that stands where `plain` does and computes by `forward`."""
    return type(
        f"Fused{plain.__name__}", (plain,), {"forward": forward, "plain": plain, "__module__": plain.__module__}
    )


@cache
def _fused_norm(plain: type, offset: float, rounding: str) -> type:
    from liger_kernel.transformers.functional import liger_rms_norm  # type: ignore[import-not-found]

    def forward(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
        if not _runs_liger(hidden_states):
            return plain.forward(self, hidden_states)  # type: ignore[attr-defined]
        epsilon = self.eps if rounding == "gemma" else self.variance_epsilon
        # In place, Liger would write the gradient of its input over that of its output, which others may read.
        return liger_rms_norm(hidden_states, self.weight, epsilon, offset, rounding, False)

    return _named_as(plain, forward)


@cache
def _fused_mlp(plain: type) -> type:
    from liger_kernel.transformers.functional import liger_swiglu  # type: ignore[import-not-found]

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        if not _runs_liger(x):
            return plain.forward(self, x)  # type: ignore[attr-defined]
        return self.down_proj(liger_swiglu(self.gate_proj(x), self.up_proj(x)))

    return _named_as(plain, forward)


def _fused_rotation(plain: Callable[..., Any]) -> Callable[..., Any]:
    from liger_kernel.transformers.functional import liger_rope  # type: ignore[import-not-found]

    def rotate(
        q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and keys (B, heads, L, d), by cosines and sines (B, L, d)."""
        # A part of a head alone (Qwen3.5) is beyond older versions of Liger, which would not say so.
        if not _runs_liger(q) or unsqueeze_dim != 1 or cos.shape[-1] != q.shape[-1]:
            return plain(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
        return liger_rope(q, k, cos, sin)

    rotate.plain = plain  # type: ignore[attr-defined]
    return rotate
