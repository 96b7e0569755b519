"""The log says what batches are to hold, and how small and how large they were."""

import logging

import pytest
from accelerate import Accelerator

from vtg.training.batch_log import BatchSizes, log_target


def test_the_least_and_the_most_of_an_interval_are_logged_with_the_mean():
    sizes, accelerator = BatchSizes(), Accelerator(cpu=True)
    assert sizes.take(accelerator) == {}
    for size in (3, 1, 8):
        sizes.add(size)
    assert sizes.take(accelerator) == {"batch/samples": 4.0, "batch/samples_min": 1, "batch/samples_max": 8}
    sizes.add(5)
    assert sizes.take(accelerator) == {"batch/samples": 5.0, "batch/samples_min": 5, "batch/samples_max": 5}


@pytest.mark.parametrize(
    ("by", "target"), [("duration", "target 120 s of video"), ("tokens", "120 tokens"), ("fixed", "120 clips")]
)
def test_the_start_says_target_accumulation_world_size_and_mean_duration(by, target, caplog):
    with caplog.at_level(logging.INFO):
        log_target(by, limit=120.0, mean_s=31.26, expected=3.5, accumulation=8, ranks=4, of="clips")
    assert f"batching.by = {by}" in caplog.text and target in caplog.text
    assert "gradient accumulation 8, world size 4; clips of 31.3 s on average" in caplog.text
    assert "expected: 3.5 clips a batch, 112.0 an optimizer step" in caplog.text
