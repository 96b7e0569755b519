"""Integrators of a flow from noise, at time 0, to latents, at time 1, where no velocity is asked for."""

from collections.abc import Callable

import torch

Velocity = Callable[[torch.Tensor, float], torch.Tensor]
"""dx/dt of (x, t), of the shape of x."""


def euler(velocity: Velocity, x: torch.Tensor, steps: int) -> torch.Tensor:
    """First order, one evaluation a step."""
    for step in range(steps):
        x = x + velocity(x, step / steps) / steps
    return x


def heun(velocity: Velocity, x: torch.Tensor, steps: int) -> torch.Tensor:
    """Second order, two evaluations a step: the mean of the slopes at both of its ends. The last step is Euler's, as in
    Karras et al. (2022, arXiv 2206.00364): the order is the same, since a single step of it is off by its square."""
    for step in range(steps):
        slope = velocity(x, step / steps)
        if step == steps - 1:
            return x + slope / steps
        ahead = velocity(x + slope / steps, (step + 1) / steps)
        x = x + (slope + ahead) / (2 * steps)
    return x


SAMPLERS: dict[str, Callable[[Velocity, torch.Tensor, int], torch.Tensor]] = {"euler": euler, "heun": heun}
"""The values of `predictor.sampler`."""
