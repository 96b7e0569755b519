"""Settings of the loss that cannot be."""

import pytest
from test_values import composed

from vtg.errors import ConfigError

WRONG = {
    "loss.label_smoothing=1": "loss.label_smoothing = 1.0: must be at least 0 and below 1",
    "loss.soft_time=2": "loss.soft_time = 2.0: must be a share of the target, from 0 to 1",
    "loss=soft_time loss.soft_time_sigma_s=0": (
        "loss.soft_time_sigma_s = 0.0: must be over 0 seconds; loss.soft_time=0 is without"
    ),
    "loss.soft_time_sigma_s=0.5": (
        "loss.soft_time_sigma_s = 0.5: changes nothing where loss.soft_time = 0; set loss=soft_time, or remove it"
    ),
    "loss.boundary_weight=-1": "loss.boundary_weight = -1.0: must be 0 (off) or more",
    "loss.expected_time_weight=nan": "loss.expected_time_weight = nan: must be 0 (off) or more",
    "loss.token_weights=sqrt": "loss.token_weights = 'sqrt': must be one of mean, sqrt_length, by_task",
    "loss=smoothed trainer.label_smoothing_factor=0.2": (
        "trainer.label_smoothing_factor = 0.2 and loss.label_smoothing = 0.1 are both set, and are the same; remove "
        "trainer.label_smoothing_factor"
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_loss_that_cannot_be_is_refused_by_its_key(words):
    with pytest.raises(ConfigError) as error:
        composed(*words.split())
    assert str(error.value) == WRONG[words]


def test_reinforcement_learning_has_no_labels_and_refuses_a_loss_on_them():
    with pytest.raises(ConfigError) as error:
        composed("loss=smoothed", program="rl")
    assert str(error.value) == (
        "loss.label_smoothing = 0.1: changes nothing in train_rl.py (GRPO has no labels); set "
        "loss.label_smoothing=0.0, or loss=cross_entropy"
    )
