"""Fifty steps of each way of computing a step: the loss goes as it does with PEFT's casts and autocast."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.soak
def test_losses_of_fifty_steps_are_those_of_autocast(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from step_losses import EXACT, PLAIN, losses, ways  # pyright: ignore[reportMissingImports]

    models, batches = ways()
    found = {name: losses(model, batches, autocast=name == PLAIN) for name, model in models.items()}
    wanted, true = found.pop(PLAIN), found.pop(EXACT)
    noise = (wanted - true).abs()
    assert wanted[-8:].mean() < 0.7 * wanted[:8].mean()  # it learns
    assert len(found) == 3
    for name, one in found.items():
        # Rounded fewer times, so not the same bits: as near to float32.
        apart = (one - true).abs()
        assert apart.max() <= 1.5 * noise.max(), (name, apart.max(), noise.max())
