"""A rollout that was saved is the same again: its rows, and what its prompts share."""

import pytest
import torch

from vtg.data.pixels import PIXELS
from vtg.decoding.prompt_sequence import Prompt
from vtg.training.rl.rollout_batch import MicroBatch, SampledRollout, SavedRollout

G = 2


@pytest.fixture
def rollout() -> SampledRollout:
    """Two prompts about a clip that share it in a micro-batch, and one about the same clip that came later, alone."""
    pixels = torch.zeros(4, 2)
    features = [{"input_ids": torch.arange(9), PIXELS: pixels} for _ in range(3)]
    group = object()
    prompts = [Prompt(one, common=5, group=group) for one in features[:2]] + [Prompt(features[2])]
    tensors = {"completion_ids": torch.arange(3 * G * 4).view(3 * G, 4), "num_items_in_batch": torch.tensor(24)}
    batches = [MicroBatch(prompts[:2], slice(0, 2 * G), G), MicroBatch(prompts[2:], slice(2 * G, 3 * G), G)]
    live = torch.tensor([True, True, False, False, True, True])
    return SampledRollout([[7, 3], [8]], batches, tensors, live, [2, 2])


def restored(saved: dict[str, torch.Tensor]) -> SampledRollout:
    """The rollout again, whose prompts are read anew: they then share all that they could."""
    shown, group = torch.zeros(4, 2), object()

    def read(indices: list[int]) -> list[Prompt]:
        return [
            Prompt({"input_ids": torch.full((9,), index), PIXELS: shown}, common=6, group=group) for index in indices
        ]

    return SavedRollout(saved).with_prompts([2, 1], read, G)


def test_rows_and_what_prompts_share_are_those_that_were_saved(rollout):
    found = restored(rollout.saved())
    assert found.indices == rollout.indices and found.live_rows == [2, 2] and torch.equal(found.live, rollout.live)
    assert torch.equal(found.tensors["completion_ids"], rollout.tensors["completion_ids"])
    assert [batch.rows for batch in found.batches] == [slice(0, 4), slice(4, 6)]
    one, other, later = (prompt for batch in found.batches for prompt in batch.prompts)
    assert [int(prompt.features["input_ids"][0]) for prompt in (one, other, later)] == [7, 3, 8]
    assert one.common == other.common == 5 and one.begins_as(other)
    assert later.common == 0 and not one.begins_as(later)


def test_a_rollout_saved_before_clips_were_shared_has_its_prompts_as_they_are_read(rollout):
    saved = {key: value for key, value in rollout.saved().items() if key not in ("common", "groups")}
    one, other, later = (prompt for batch in restored(saved).batches for prompt in batch.prompts)
    assert one.common == later.common == 6 and one.begins_as(other) and one.begins_as(later)
