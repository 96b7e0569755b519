"""Encoders, small enough for every test to use them."""

import pytest

from vtg.config.encoder_settings import EncoderConfig
from vtg.latents.encoders import load_encoder
from vtg.latents.encoders.encoder import Encoder


@pytest.fixture(scope="session")
def qwen_tower() -> Encoder:
    """The tower of the tiny model that ships with the package. Shared: leave it as it is."""
    return load_encoder(EncoderConfig(), device="cpu")
