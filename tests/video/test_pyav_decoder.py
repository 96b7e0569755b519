"""Only what the wanted frames need is decoded: the pictures must be those of decoding everything."""

from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from vtg.video.clip import DecodeError
from vtg.video.container import probe, read_index, read_part
from vtg.video.decoders.picture import resized
from vtg.video.decoders.pyav_decoder import decode, decode_stretches
from vtg.video.frame_index import FrameIndex

SIZE = (48, 64)

STREAMS = {
    "b-frames": ("libx264", {"bf": "3", "g": "30", "x264-params": "b-pyramid=normal:scenecut=0"}),
    "open groups": ("libx264", {"bf": "3", "g": "12", "x264-params": "open-gop=1:scenecut=0"}),
    "no b-frames": ("libx264", {"bf": "0", "g": "250"}),
    "all keyframes": ("libx264", {"g": "1"}),
    "intra refresh": ("libx264", {"g": "20", "x264-params": "intra-refresh=1:bframes=0"}),
    "interlaced": ("libx264", {"bf": "2", "g": "24", "x264-params": "interlaced=1"}),
    "hevc": ("libx265", {"x265-params": "log-level=none:keyint=30:bframes=4"}),
    "hevc open groups": ("libx265", {"x265-params": "log-level=none:keyint=15:open-gop=1:bframes=4:scenecut=0"}),
    "hevc in temporal layers": ("libx265", {"x265-params": "log-level=none:temporal-layers=3:bframes=7:b-pyramid=1"}),
    "mpeg4": ("mpeg4", {"bf": "2", "g": "12"}),
    "vp9": ("libvpx-vp9", {"g": "40", "deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", {"g": "40", "preset": "11"}),
}


def moving(count: int) -> list[np.ndarray]:
    """Textured pictures that move, so that a frame decoded from wrong references looks wrong."""
    texture = np.random.default_rng(3).integers(0, 255, (12, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return [
        np.ascontiguousarray(np.roll(texture, (2 * at, 5 * at), (0, 1))[: SIZE[0], : SIZE[1]]) for at in range(count)
    ]


def every_picture(index: FrameIndex, count: int | None = None) -> dict[int, np.ndarray]:
    """The first `count` pictures of a file by pts, decoded one after another."""
    with av.open(index.info.path) as container:
        stream = container.streams[index.stream_index]
        found = {frame.pts: frame.to_ndarray(format="rgb24") for frame in islice(container.decode(stream), count)}
    return {pts: np.rot90(picture, k=-(index.info.rotation // 90)).copy() for pts, picture in found.items()}


@pytest.fixture(params=STREAMS)
def stream(request, make_video, monkeypatch) -> FrameIndex:
    monkeypatch.setenv("SVT_LOG", "1")  # errors only
    codec, options = STREAMS[request.param]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    return read_index(
        make_video(
            [40 * at for at in range(90)],
            name="video.mkv" if codec == "libvpx-vp9" else "video.mp4",
            codec=codec,
            size=SIZE,
            rate=200 if codec == "libsvtav1" else 1000,  # it takes no more than 240
            options=options,
            pictures=moving(90),
        )
    )


def test_pictures_are_those_of_decoding_everything(stream):
    pictures = every_picture(stream)
    assert len(pictures) == len(stream.pts)
    generator = np.random.default_rng(0)
    for count in (1, 2, 5, 30, 90):
        chosen = np.sort(generator.choice(90, count, replace=False))
        frames = decode(stream, chosen, size=SIZE)
        for at, frame in zip(chosen.tolist(), frames, strict=True):
            assert np.array_equal(frame, pictures[int(stream.pts[at])].transpose(2, 0, 1)), at


def test_a_part_gives_the_frames_of_the_whole(stream):
    pictures = every_picture(stream)
    for start_s, end_s in ((0.0, 0.5), (1.0, 1.04), (1.21, 2.5), (2.9, 3.6)):
        part = read_part(stream.info, start_s, end_s)
        assert part is not None and not part.is_whole
        assert part.info == stream.info and len(part.packet_pts) <= len(stream.packet_pts)
        for index in (part, stream):
            inside = np.flatnonzero((index.times_s >= start_s) & (index.times_s < end_s))
            assert index.times_s[inside].tolist() == [at * 0.04 for at in range(90) if start_s <= at * 0.04 < end_s]
            frames = decode(index, inside[::2], size=SIZE)
            for at, frame in zip(inside[::2].tolist(), frames, strict=True):
                assert np.array_equal(frame, pictures[int(index.pts[at])].transpose(2, 0, 1)), at


def test_pictures_of_every_shared_video_are_those_of_decoding_everything(shared_videos: Path):
    checked = 0
    for path in sorted(path for path in shared_videos.iterdir() if path.is_file()):
        try:
            index = read_index(str(path))
        except DecodeError:
            continue
        if index.fault or index.by_order or path.name == "decord__corrupted.mp4":
            continue
        pictures = every_picture(index, 60)
        shown = np.flatnonzero(np.isin(index.pts, list(pictures)))
        chosen = np.unique(shown[np.linspace(0, len(shown) - 1, 5).round().astype(np.int64)])
        size = (index.info.height, index.info.width)
        frames = decode(index, chosen, size=size)
        for at, frame in zip(chosen.tolist(), frames, strict=True):
            assert np.array_equal(frame, pictures[int(index.pts[at])].transpose(2, 0, 1)), (path.name, at)
        small = decode(index, chosen, size=(32, 64))
        assert np.array_equal(small, resized(np.stack([pictures[int(index.pts[at])] for at in chosen]), (32, 64)))
        checked += 1
    assert checked >= 27


def test_frames_of_every_part_of_every_shared_video_are_those_of_the_whole(shared_videos: Path):
    parts = 0
    for path in sorted(path for path in shared_videos.iterdir() if path.is_file()):
        try:
            info, whole = probe(str(path)), read_index(str(path))
        except DecodeError:
            continue
        for first, last in ((0.0, 0.2), (0.3, 0.4), (0.55, 1.0)):
            start_s, end_s = first * info.duration_s, last * info.duration_s
            part = read_part(info, start_s, end_s)
            if part is None:
                continue
            times_s = [index.times_s[(index.times_s >= start_s) & (index.times_s < end_s)] for index in (part, whole)]
            assert np.array_equal(*times_s), path.name
            parts += 1
    assert parts >= 60


def test_formats_without_a_table_of_keyframes_have_no_parts(make_video):
    path = make_video([40 * at for at in range(40)], name="video.ts")
    assert read_part(probe(path), 0.5, 1.0) is None


def test_stretches_begin_at_keyframes_and_leave_out_what_no_wanted_frame_needs(make_video):
    options = {"bf": "0", "g": "10", "sc_threshold": "0"}
    index = read_index(make_video([40 * at for at in range(60)], size=SIZE, options=options, pictures=moving(60)))
    chosen = index.pts[[3, 5, 31, 59]]
    assert decode_stretches(index, chosen) == [(0, 5), (30, 31), (50, 59)]
    assert decode_stretches(index, index.pts) == [(0, 59)]


def test_fast_pictures_are_close_to_exact_ones(shared_videos: Path):
    index = read_index(str(shared_videos / "timer1__OHOFG.mp4"))
    chosen = np.arange(0, len(index.pts), 30)
    exact, fast = (decode(index, chosen, size=(128, 224), exact=exact).astype(int) for exact in (True, False))
    assert np.abs(exact - fast).mean() < 2.5 and np.abs(exact - fast).max() > 0
