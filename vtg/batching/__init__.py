"""Plans which samples form a batch: under a budget of seconds, frames or tokens, ranks even, every sample once."""

from vtg.batching.epoch_plan import Plan
from vtg.batching.measure import PlanStatistics, statistics
from vtg.batching.mixture import Mixture, epoch_of_source, source_shares
from vtg.batching.plan import plan_epoch, plan_fixed, rest_of_epoch, steps_per_epoch

__all__ = [
    "Mixture",
    "Plan",
    "PlanStatistics",
    "epoch_of_source",
    "plan_epoch",
    "plan_fixed",
    "rest_of_epoch",
    "source_shares",
    "statistics",
    "steps_per_epoch",
]
