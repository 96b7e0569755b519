"""The stream of prompts: every prompt of a pass is rolled out once, whoever goes on with it."""

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vtg.batching.prompt_plan import plan_fixed_prompts
from vtg.training.rl.completions import set_completions_aside
from vtg.training.rl.rollouts import Plan, RolloutLoader, RolloutState


class Indices(list):
    """A data set whose items are their own numbers."""

    def set_epoch(self, epoch: int) -> None:
        pass


def loader(count: int, *, ranks: int, rank: int = 0, batch: int = 2, steps: int = 2) -> RolloutLoader:
    def plan(chosen, epoch: int, ranks: int) -> Plan:
        order = np.random.default_rng((0, epoch)).permutation(np.asarray(chosen))
        shape = {"ranks": ranks, "batch_size": batch, "seed": 0, "epoch": epoch, "steps_multiple": steps}
        batches = plan_fixed_prompts(count, order=order, **shape)
        return [batches[at : at + steps] for at in range(0, len(batches), steps)]

    return RolloutLoader(
        Indices(range(count)),  # type: ignore[arg-type]
        choose=lambda epoch: range(count),
        plan=plan,
        rank=rank,
        ranks=ranks,
        iterations=2,
    )


def pass_of(loaders: list[RolloutLoader], *, steps: int | None = None) -> list[int]:
    """The prompts of the rollouts that are begun until the pass ends, or in so many micro-steps, on all ranks."""
    begun = []
    for one in loaders:
        stream, last, done = iter(one), None, 0
        passes = one.state.passes
        while one.state.passes == passes and done != steps:
            step = next(stream)
            if one.state.passes != passes:
                break
            if step.rollout is not last:
                begun += [index for some in step.rollout.indices for index in some]
            last, done = step.rollout, done + 1
    return begun


@given(count=st.integers(1, 40), before=st.integers(1, 4), now=st.integers(1, 4), steps=st.integers(0, 30))
def test_other_ranks_take_the_prompts_of_a_pass_that_were_not_trained(count, before, now, steps):
    first = [loader(count, ranks=before, rank=rank) for rank in range(before)]
    pass_of(first, steps=steps)
    state = first[0].state
    if state.passes or state.chosen is None:
        return
    whole = [batch for rollout in first[0].plan(state.chosen, 0, before)[: state.rollouts] for batch in rollout]
    trained = {index for batch in whole for index in batch.ravel().tolist()}
    rest = [loader(count, ranks=now, rank=rank) for rank in range(now)]
    for one in rest:
        one.resume(RolloutState(**vars(state)), ranks=before)
    left = set(range(count)) - trained
    if now == before:
        return
    if not left:
        assert all(one.state == RolloutState(passes=1) for one in rest)
        return
    taken = Counter(pass_of(rest))
    assert set(taken) == left
    assert sum(taken.values()) - len(left) < now * 2 * 2  # as many again as the last rollout lacks


def test_completions_of_steps_that_are_counted_anew_are_kept_beside(tmp_path: Path):
    folder = tmp_path / "completions"
    folder.mkdir()
    for step in (0, 3, 7):
        (folder / f"step_{step:06d}.jsonl").write_text(f"{step}")
    set_completions_aside(tmp_path, since=3, folder="on_4_ranks")
    assert [file.name for file in sorted(folder.glob("*.jsonl"))] == ["step_000000.jsonl"]
    assert [file.read_text() for file in sorted((folder / "on_4_ranks").iterdir())] == ["3", "7"]
