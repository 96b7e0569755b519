"""What a frozen vision tower makes of a clip, once: from features that hold it, from its cache, or by the tower."""

from collections.abc import Sequence
from typing import Any

import torch

from vtg.config.video_settings import VideoConfig
from vtg.data.encoding import Features
from vtg.data.seen_clip import TICKET
from vtg.data.tower_cache import TowerCache
from vtg.decoding.shared_prefix import encode_video, is_encoded
from vtg.models.families import family_of
from vtg.models.plain_model import on_device, plain_model
from vtg.models.tower_identity import tower_identity


def make_tower_cache(video: VideoConfig, model: Any) -> TowerCache | None:
    """That of the settings for this model; None where it is off.

    Raises:
        ConfigError: a folder that cannot be.
    """
    if video.tower_cache_dir is None:
        return None
    max_bytes = int(video.tower_cache_gb * 1e9)
    return TowerCache(video.tower_cache_dir, max_bytes=max_bytes, tower=tower_identity(model))


def encoded_video(model: Any, features: Features, cache: TowerCache | None = None) -> torch.Tensor:
    """`encode_video` of one clip, (tokens, width) on the model's device; with a cache, what it holds, or will.

    Args:
        model: as `encode_video` takes it.
        features: of `vtg.data.encoding.encode`, on any device; the tokens are not looked at.
    """
    plain = plain_model(model)
    names = family_of(plain.config).vision_inputs
    if is_encoded(plain, features[names[0]], features[names[-1]]):
        return features[names[0]].to(plain.device)
    # Another process, or an earlier row of this batch, may have put it there since these features were made.
    known = cache.find(features, pixels=names[0]) if cache is not None and TICKET in features else None
    if known is not None:
        return known.to(plain.device)
    seen = {name: features[name].to(plain.device) for name in names}
    seen[names[0]] = seen[names[0]].to(plain.dtype)
    if cache is None or TICKET not in features:
        with on_device(plain):
            return encode_video(plain, seen)
    # In the weights' own type, so that training and answering keep the same.
    with on_device(plain), torch.autocast(plain.device.type, enabled=False):
        encoded = encode_video(plain, seen)
    cache.keep(features, encoded, inputs=names)
    return encoded


def encoded_videos(model: Any, clips: Sequence[Features], cache: TowerCache) -> torch.Tensor:
    """Of several clips, one after the other, as a batch of them has its pixels."""
    return torch.cat([encoded_video(model, clip, cache) for clip in clips])
