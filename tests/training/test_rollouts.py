"""The stream of prompts: every prompt of a pass is rolled out once, whoever goes on with it."""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vtg.config.data_settings import BatchingConfig
from vtg.training.rl.completions import set_completions_aside
from vtg.training.rl.prompt_batches import PromptBatches, PromptCosts, plan
from vtg.training.rl.rollouts import RolloutLoader, RolloutState


class Indices(list):
    """A data set whose items are their own numbers."""

    def set_epoch(self, epoch: int) -> None:
        pass


def loader(count: int, *, ranks: int, rank: int = 0, batch: int = 2, steps: int = 2, by: str = "") -> RolloutLoader:
    """`by`: how prompts that share clips, three each, are planned; empty for prompts that do not, in fixed batches."""
    costs, clips = np.arange(count) % 7 + 40.0, np.arange(count) // 3
    costs = PromptCosts(costs, clips, np.full(count, 30.0)) if by else PromptCosts(costs)
    size = PromptBatches(prompts=batch, budget=100.0, max_batch_size=0, steps=steps, accumulation=steps)
    batching = BatchingConfig(by=by or "fixed", share_video=bool(by))
    return RolloutLoader(
        Indices(range(count)),  # type: ignore[arg-type]
        choose=lambda epoch: range(count),
        plan=partial(plan, batching=batching, costs=costs, size=size, seed=0),
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


@given(
    count=st.integers(1, 40),
    before=st.integers(1, 4),
    now=st.integers(1, 4),
    steps=st.integers(0, 30),
    by=st.sampled_from(["", "fixed", "tokens"]),
)
def test_other_ranks_take_the_prompts_of_a_pass_that_were_not_trained(count, before, now, steps, by):
    first = [loader(count, ranks=before, rank=rank, by=by) for rank in range(before)]
    pass_of(first, steps=steps)
    state = first[0].state
    if state.passes or state.chosen is None:
        return
    whole = [batch for rollout in first[0].plan(state.chosen, 0, before)[: state.rollouts] for batch in rollout]
    trained = {index for batch in whole for index in batch.ravel().tolist()}
    rest = [loader(count, ranks=now, rank=rank, by=by) for rank in range(now)]
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


@given(count=st.integers(1, 40), steps=st.integers(0, 30), by=st.sampled_from(["fixed", "tokens"]))
def test_a_pass_of_shared_clips_goes_on_with_the_rollouts_that_were_planned(count, steps, by):
    whole = pass_of([loader(count, ranks=1, by=by)])
    first, second = loader(count, ranks=1, by=by), loader(count, ranks=1, by=by)
    begun = pass_of([first], steps=steps)
    if first.state.passes:
        return
    second.resume(RolloutState(**vars(first.state)), ranks=1)
    rest = pass_of([second])
    assert whole[: len(begun)] == begun
    assert whole[len(whole) - len(rest) :] == rest and len(begun) + len(rest) >= len(whole)


def test_completions_of_steps_that_are_counted_anew_are_kept_beside(tmp_path: Path):
    folder = tmp_path / "completions"
    folder.mkdir()
    for step in (0, 3, 7):
        (folder / f"step_{step:06d}.jsonl").write_text(f"{step}")
    set_completions_aside(tmp_path, since=3, folder="on_4_ranks")
    assert [file.name for file in sorted(folder.glob("*.jsonl"))] == ["step_000000.jsonl"]
    assert [file.read_text() for file in sorted((folder / "on_4_ranks").iterdir())] == ["3", "7"]
