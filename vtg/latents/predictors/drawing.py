"""Noise for clips of a batch, such that what is drawn for a clip does not depend on the others beside it."""

from collections.abc import Callable, Sequence

import torch

Generators = torch.Generator | Sequence[torch.Generator] | None
"""What is drawn from: one generator, by one clip after another; one of each clip; or None, torch's own."""


def drawn(
    draw: Callable[[torch.Generator | None], torch.Tensor], clips: int, generators: Generators, device: torch.device
) -> torch.Tensor:
    """(B, …) of draw(generator) for each of `clips` = B clips."""
    # Moved once drawn: a generator of the CPU cannot draw elsewhere.
    each = generators if isinstance(generators, Sequence) else [generators] * clips
    return torch.stack([draw(one) for one in each]).to(device)


def even(generator: torch.Generator | None) -> torch.Tensor:
    """() a number that is evenly spread from 0 to 1."""
    return torch.rand((), generator=generator, device=None if generator is None else generator.device)


def normal_steps(size: tuple[int, ...], steps: int, generator: torch.Generator | None) -> torch.Tensor:
    """Standard normal noise of `steps` times, stacked in dimension -3 of what is `size` at each; the first of them are
    the same however many follow, as others of a longer clip in the batch do."""
    device = None if generator is None else generator.device
    return torch.stack([torch.randn(size, generator=generator, device=device) for _ in range(steps)], dim=-3)
