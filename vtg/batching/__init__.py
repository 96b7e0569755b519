"""Plans which samples form a batch: under a budget of seconds, frames or tokens, ranks even, every sample once."""

from vtg.batching.epoch_plan import Plan
from vtg.batching.measure import PlanStatistics, statistics
from vtg.batching.mixture import draw_mixture
from vtg.batching.plan import plan_epoch, plan_fixed, rest_of_epoch, steps_per_epoch

__all__ = [
    "Plan",
    "PlanStatistics",
    "draw_mixture",
    "plan_epoch",
    "plan_fixed",
    "rest_of_epoch",
    "statistics",
    "steps_per_epoch",
]
