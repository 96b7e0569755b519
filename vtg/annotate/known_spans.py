"""Spans of videos that are known before: what is asked about one by one, instead of windows of even length."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vtg.annotate.episode_sources import Source
from vtg.annotations.formats import format_of
from vtg.annotations.sample import Problem, resolve_video
from vtg.annotations.target import Span
from vtg.errors import ConfigError


def with_spans(sources: Sequence[Source], path: str) -> list[Source]:
    """Videos with their spans in a file of annotation rows, such as `vtg.latents boundaries` writes.

    Raises:
        ConfigError: a broken row, an episode, or a video of which the file has no spans.
    """
    spans = _spans_of(path)
    found = []
    for source in sources:
        # An episode is a part of a file, in which a row's seconds would be others.
        if source.root is not None:
            raise ConfigError(
                f"--spans {path}: spans are of videos, and {source.key} is an episode; leave out one of both"
            )
        (part,) = source.record.cameras.values()
        known = spans.get(os.path.realpath(part.path))
        if not known:
            raise ConfigError(
                f"--spans {path}: no row of it has a span of {part.path}; write some: "
                f"python -m vtg.latents boundaries {part.path} -o {path}"
            )
        found.append(replace(source, spans=tuple(sorted(known))))
    return found


def _spans_of(path: str) -> Mapping[str, set[Span]]:
    """Real path of a video → its spans in seconds."""
    spans: dict[str, set[Span]] = {}
    try:
        for row in format_of(path).samples(path):
            if isinstance(row, Problem):
                raise ConfigError(f"--spans: {row}")
            # A row's seconds are those of its part of the file.
            shift_s = row.video_start_s or 0.0
            of_video = spans.setdefault(os.path.realpath(resolve_video(row.video, None)), set())
            of_video.update((start_s + shift_s, end_s + shift_s) for start_s, end_s in row.spans)
    except OSError as error:
        raise ConfigError(f"--spans {path}: {error.strerror}; check the path") from None
    return spans
