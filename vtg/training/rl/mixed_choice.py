"""Which samples of a mixture an RL run takes next: its weights say how many of each source, the curriculum which."""

import numpy as np

from vtg.batching import Mixture
from vtg.config.rl_settings import CurriculumConfig
from vtg.training.rl.curriculum import SELECTIONS, STREAM, Choice, IoURecord


def choose_of_each(record: IoURecord, config: CurriculumConfig, mixture: Mixture, *, epoch: int, seed: int) -> Choice:
    """Draws the prompts of a pass: of each source its share, whatever the curriculum makes of its samples.

    Of each source the selection draws without replacement, and again from the first where it keeps fewer samples of
    the source than the share asks. A source of which it keeps none is drawn whole, and a note says so.
    """
    assert len(record) == sum(mixture.sizes)
    count = max(1, round(config.size * mixture.count))
    if config.select == "all":
        drawn = mixture.draw(epoch, count=count)
        rng = np.random.default_rng([seed, epoch, STREAM])
        return Choice(rng.permutation(drawn), len(record))
    rng = np.random.default_rng([seed, epoch, STREAM])
    weights = SELECTIONS[config.select](record, config)
    keys = weights + rng.gumbel(size=len(weights))
    chosen, eligible, without, first = [], 0, [], 0
    for name, size, quota in zip(mixture.names, mixture.sizes, mixture.quotas(count).tolist(), strict=True):
        own = keys[first : first + size]
        kept = int((~np.isneginf(own)).sum())
        if not kept and quota:
            without.append(name)
            own, kept = rng.gumbel(size=size), size
        # Cut to those that are kept first: a share over their number repeats them, and takes none that was left out.
        chosen.append(first + np.resize(np.argsort(-own)[:kept], quota))
        eligible, first = eligible + kept, first + size
    note = (
        f"curriculum.select = '{config.select}' keeps no sample of {', '.join(without)} (curriculum.min_iou = "
        f"{config.min_iou:g}, curriculum.max_iou = {config.max_iou:g}), so this pass takes them all; widen the "
        "limits, or lower the weight of these sources"
        if without
        else None
    )
    return Choice(rng.permutation(np.concatenate(chosen)), eligible, note)
