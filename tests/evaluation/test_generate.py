"""Answers by generation, whoever reads the clips."""

import json
from copy import copy
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

from vtg.config.data_settings import DemoConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VideoConfig
from vtg.data.grounding_dataset import GroundingDataset, make_provider
from vtg.data.skip_report import Skipped, SkipReport
from vtg.data.splits import read_split
from vtg.demo.demo_dataset import ensure_demo
from vtg.evaluation.generate import predict
from vtg.evaluation.question_reader import QuestionReader
from vtg.models.loading import tokens_per_second
from vtg.tasks.span_task import SpanTask


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A demo of its own, one video of which is broken."""
    folder = tmp_path_factory.mktemp("broken") / "demo"
    ensure_demo(str(folder), DemoConfig(train_videos=4, test_videos=1, seed=0))
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    (folder / rows[0]["video"]).write_bytes(b"no video")
    return folder


@pytest.fixture
def questions(folder, qwen3_vl, tmp_path) -> GroundingDataset:
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=1.0)
    return GroundingDataset(
        read_split(str(folder / "train.jsonl"), video_dir=str(folder), report=report),
        task=SpanTask(TaskConfig()),
        processor=qwen3_vl.processor,
        provider=make_provider(VideoConfig(), qwen3_vl.processor),
        video_dir=str(folder),
        max_length=4096,
        tokens_per_second=tokens_per_second(qwen3_vl.model),
        training=False,
    )


@pytest.mark.parametrize("shuffled_videos", [False, True])
def test_answers_are_the_same_with_workers_that_read_clips_ahead(qwen3_vl, questions, shuffled_videos):
    told = {"batch_size": 3, "max_new_tokens": 12, "shuffled_videos": shuffled_videos}
    torch.manual_seed(5)
    rows, skipped = predict(qwen3_vl.model, questions, **told)
    drawn = torch.rand(2)
    torch.manual_seed(5)
    ahead, skipped_ahead = predict(qwen3_vl.model, questions, **told, reader=QuestionReader([questions], num_workers=2))
    assert torch.equal(torch.rand(2), drawn)  # training goes on with the same random numbers
    assert ahead == rows and skipped_ahead == skipped
    assert len(rows) + len(skipped) == len(questions) and rows and skipped
    reader = QuestionReader([questions], num_workers=1)
    halves = [predict(qwen3_vl.model, questions, **told, reader=reader, rank=rank, world_size=2) for rank in (0, 1)]
    assert halves[0][0] | halves[1][0] == rows and len(halves[0][1]) + len(halves[1][1]) == len(skipped)


def test_a_reader_starts_its_workers_once_whatever_it_is_asked_and_ends_them_with_itself(questions):
    before = set(active_children())  # an earlier test's may end meanwhile
    reader = QuestionReader([questions, other := copy(questions)], num_workers=2)
    alone = QuestionReader([questions, other])
    assert set(active_children()) <= before  # nothing was asked yet
    started = []
    for dataset, indices, shuffled in ((questions, [0, 2, 3], False), (other, range(5), True), (questions, [1], False)):
        for asked in (reader, alone):
            part = asked.read(dataset, indices, most=2, shuffled_videos=shuffled)
            assert next(part)[0] == indices[0]
            del part  # given up in the middle
        found, same = (
            list(asked.read(dataset, indices, most=2, shuffled_videos=shuffled)) for asked in (reader, alone)
        )
        assert [index for index, _ in found] == list(indices)
        for (_, ours), (_, theirs) in zip(found, same, strict=True):
            if isinstance(theirs, Skipped):
                assert ours == theirs
            else:
                assert not isinstance(ours, Skipped) and ours.keys() == theirs.keys()
                assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        started.append(set(active_children()) - before)
    assert len(started[0]) == 2 and started[0] == started[1] == started[2]
    assert not list(reader.read(questions, [], most=2))
    del reader
    assert set(active_children()) <= before
