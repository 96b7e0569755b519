"""`vtg.get_dataloader` gives anybody's loop the batches of a training, on any number of ranks, and resumes."""

import json
from pathlib import Path

import numpy as np
import pytest

import vtg
from vtg.errors import ConfigError


def words(demo: Path) -> list[str]:
    return [
        "data=jsonl",
        *(f"data.sources.{name}.annotation_file={demo / f'{name}.jsonl'}" for name in ("train", "test")),
        *(f"data.sources.{name}.video_dir={demo}" for name in ("train", "test")),
        "data.epoch_samples=12",
    ]


def asked(loader) -> list[str]:
    """The questions of the rest of an epoch, in order."""
    return [row.qid for batch in loader if len(batch["input_ids"]) for row in loader.rows]


def test_a_loop_of_ones_own_gets_the_batches_of_the_training(demo_dir):
    loader = vtg.get_dataloader(*words(demo_dir), batch_size=4, num_workers=0, rank=0, world_size=1)
    assert len(loader) == 3 and loader.mixture is not None
    batches = [(batch, [row.qid for row in loader.rows]) for batch in loader]
    assert len(batches) == 3 and loader.epoch == 1
    qids = [qid for _, each in batches for qid in each]
    assert sum(qid.startswith("train/") for qid in qids) == 6 == sum(qid.startswith("test/") for qid in qids)
    assert {"input_ids", "labels", "pixel_values_videos"} <= set(batches[0][0]) and "rows" not in batches[0][0]
    assert (batches[0][0]["labels"] >= 0).any()


def test_a_loader_goes_on_where_another_was_also_on_other_ranks(demo_dir):
    def loader(rank: int = 0, ranks: int = 1):
        return vtg.get_dataloader(*words(demo_dir), batch_size=2, num_workers=0, rank=rank, world_size=ranks)

    first = loader()
    epoch = [[row.qid for row in first.rows] for _ in first]
    again = loader()
    for _, _batch in zip(range(2), again, strict=False):
        state = json.loads(json.dumps(again.state_dict()))
    same, parts = loader(), [loader(rank, 2) for rank in (0, 1)]
    for one in (same, *parts):
        one.load_state_dict(state)
    assert asked(same) == [qid for batch in epoch[2:] for qid in batch]
    on_two = [qid for part in parts for qid in asked(part)]
    assert sorted(on_two) == sorted(qid for batch in epoch[2:] for qid in batch)
    same.set_epoch(0)
    assert asked(same) == [qid for batch in epoch for qid in batch]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stage": "no_such"}, "experiment=no_such: there is no such choice"),
        ({"rank": 1}, "rank = 1, world_size = None: give both, or neither"),
        ({"rank": 2, "world_size": 2}, "must be 0 <= rank < world_size"),
        ({"num_workers": -1}, r"num_workers = -1: must be 0 \(none\) or more"),
        ({"stage": "long"}, r"data\.sources\.captions\.annotation_file is not set"),
    ],
)
def test_what_no_loader_can_be_made_of_is_named(demo_dir, given, says):
    with pytest.raises(ConfigError, match=says):
        vtg.get_dataloader(**given)


def test_accumulation_makes_the_global_size(demo_dir):
    loader = vtg.get_dataloader(*words(demo_dir), "batching=tokens", "batching.global_size=6", rank=0, world_size=1)
    per_batch = 12 / len(loader)
    assert loader.accumulation == max(1, np.round(6 / per_batch))
