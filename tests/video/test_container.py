import json
import os
import socket
import tarfile
import threading
import time
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest

from vtg.config.video_settings import VideoConfig
from vtg.video.clip import DecodeError
from vtg.video.clip_loading import load_clip
from vtg.video.container import probe, read_index
from vtg.video.files import formats
from vtg.video.video_window import VideoWindow

BAD = {
    "derived__html_error_page.mp4": "not a readable video .*102 bytes.*; check that the download is complete",
    "fq__aac.mp4": r"has no video stream \(streams: audio\)",
    "fq__dash_video_init.mp4": "no frame of the video can be decoded",
    "derived__truncated_mdat_sample_demo_1.mp4": r"breaks off: 135 of 243 frames can be read, up to 5\.48 s of 9\.72 s",
}
# ffprobe left out a frame that cannot be decoded: the container states the time of that one too.
UNDECODABLE_S = {"decord__corrupted.mp4": [3.0]}
# Older FFmpeg puts the start of a file before the silence that Opus starts with, which is never played.
START_S = {"decord__flipping_a_pancake.mkv": 0.0}


def test_times_of_every_good_shared_video_equal_those_of_ffprobe(shared_videos: Path):
    checked = 0
    for file in sorted((shared_videos / "expected").glob("*.pts.json")):
        expected = json.loads(file.read_text())
        name = expected["file"]
        if name in BAD:
            continue
        start_s = START_S.get(name, float(expected["start_time"] or 0))
        stored = [pts for pts in expected["pts"] if pts is not None]
        want_s = np.array(sorted(stored + UNDECODABLE_S.get(name, []))) - start_s
        got_s = read_index(str(shared_videos / name)).times_s
        assert len(got_s) == len(expected["pts"]) + len(UNDECODABLE_S.get(name, [])), name
        assert np.abs(got_s[: len(want_s)] - want_s).max() < 1e-3, name
        checked += 1
    assert checked >= 30


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_gives_one_error_with_its_name_and_cause_and_no_noise(name, shared_videos: Path, capfd):
    path = str(shared_videos / name)
    began = time.thread_time()
    with pytest.raises(DecodeError, match=f"{name}: .*{BAD[name]}"):
        load_clip(VideoWindow(path), VideoConfig())
    with pytest.raises(DecodeError, match=name):
        probe(path)
    assert time.thread_time() - began < 5
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_titles_that_are_no_utf8_do_not_make_a_video_unreadable(suffix, make_video, tmp_path: Path):
    plain, titled = make_video(range(0, 800, 40), name=f"plain.{suffix}"), tmp_path / f"titled.{suffix}"
    options = {"write_crc32": "0"} if suffix == "mkv" else {}
    with av.open(plain) as source, av.open(str(titled), "w", options=options) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        copy.metadata["title"] = stream.metadata["title"] = stream.metadata["handler_name"] = "a very long title"
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    before, stored = read_index(str(titled)), titled.read_bytes()
    assert stored.count(b"a very long title") >= 2  # of the container and of the stream
    titled.write_bytes(stored.replace(b"a very long title", b"caf\xe9 \xff\xfe in latin1"))
    after = read_index(str(titled))
    assert after.info == probe(str(titled)) == before.info
    assert len(after.times_s) > 0 and np.array_equal(after.times_s, before.times_s)


def test_probing_says_the_same_as_reading_the_whole_file(shared_videos: Path):
    good = [path for path in shared_videos.iterdir() if path.is_file() and path.name not in BAD]
    assert len(good) >= 30
    for path in good:
        assert probe(str(path)) == read_index(str(path)).info, path.name


def test_facts_are_upright_and_counted_from_the_start_of_the_container(shared_videos: Path):
    turned = probe(str(shared_videos / "derived__rot270_OHOFG.mp4"))
    assert (turned.height, turned.width, turned.rotation) == (320, 180, 90)
    offset = probe(str(shared_videos / "derived__start7p5_OHOFG.mkv"))
    assert offset.start_s == 7.5 and abs(offset.duration_s - 35.14) < 0.01 and offset.frames is None


def test_hidden_frames_of_a_stream_copy_have_no_time_but_their_keyframe_can_be_sought(shared_videos: Path):
    index = read_index(str(shared_videos / "derived__streamcopy_trim11_OHOFG.mp4"))
    assert len(index.times_s) == 145 and index.times_s[0] == 0 and not index.is_key.any()
    assert index.packet_pts[index.packet_is_key].min() < index.pts[0]


def test_a_variable_frame_rate_keeps_every_time(make_video):
    times_ms = [0, 7, 100, 130, 131, 900, 2500]
    assert read_index(make_video(times_ms)).times_s == pytest.approx(np.array(times_ms) / 1000, abs=1e-9)


@pytest.mark.parametrize("name", ["video.mp4", "video.mkv", "video.ts"])
def test_a_file_begins_at_zero_wherever_its_container_starts(make_video, name):
    index = read_index(make_video([7500 + 40 * at for at in range(20)], name=name))
    assert index.times_s == pytest.approx(np.arange(20) * 0.04, abs=1e-3)
    assert index.info.duration_s == pytest.approx(0.8, abs=0.05)
    assert index.info.start_s > 7


def test_keyframes_are_marked(make_video):
    index = read_index(make_video([40 * at for at in range(20)], options={"g": "5", "bf": "0", "sc_threshold": "0"}))
    assert np.flatnonzero(index.is_key).tolist() == [0, 5, 10, 15]


def test_hidden_frames_of_vp8_are_not_counted(make_video):
    pictures = [np.random.default_rng(at // 9).integers(0, 255, (48, 64, 3), dtype=np.uint8) for at in range(60)]
    path = make_video(
        [40 * at for at in range(60)],
        name="video.webm",
        codec="libvpx",
        options={"auto-alt-ref": "1", "lag-in-frames": "16", "b:v": "200k"},
        pictures=pictures,
    )
    index = read_index(path)
    assert index.times_s == pytest.approx(np.arange(60) * 0.04, abs=1e-3)


def test_what_is_no_video_is_refused(tmp_path: Path):
    picture = tmp_path / "picture.mp4"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(64))
    for path, cause in [(tmp_path / "absent.mp4", "no such file"), (tmp_path, "no such file"), (picture, "picture")]:
        with pytest.raises(DecodeError, match=f"{path}: .*{cause}" if cause != "picture" else str(path)):
            probe(str(path))


def test_a_matroska_file_cut_in_half_is_an_error(make_video):
    path = Path(make_video([7500 + 100 * at for at in range(50)], name="part.mkv"))
    stored = path.read_bytes()
    path.write_bytes(stored[: len(stored) // 2])
    with pytest.raises(DecodeError, match=r"part\.mkv: the file breaks off: frames can be read, up to .* of 5\.00 s"):
        probe(str(path))


@pytest.mark.parametrize("size", [0, 1, 100, 2000, 6000])
def test_a_file_cut_anywhere_is_an_error_not_a_crash(make_video, size, tmp_path: Path):
    whole = Path(make_video([40 * at for at in range(50)], options={"movflags": "faststart"})).read_bytes()
    part = tmp_path / "part.mp4"
    part.write_bytes(whole[: min(size, len(whole) * 3 // 4)])
    with pytest.raises(DecodeError, match=r"part\.mp4"):
        probe(str(part))


def test_what_an_edit_list_cuts_off_is_no_damage(make_video):
    """A trim without encoding: samples outside the edit list stay in the file and in the header's count."""
    path = Path(make_video([120 * at for at in range(58)], options={"g": "6", "bf": "0", "sc_threshold": "0"}))
    stored = bytearray(path.read_bytes())
    at = stored.index(b"elst") + 4  # version and flags, entries, then segment duration in ticks of the file
    duration = int.from_bytes(stored[at + 8 : at + 12], "big")
    stored[at + 8 : at + 12] = (duration // 2).to_bytes(4, "big")
    path.write_bytes(stored)
    index = read_index(str(path))
    assert index.fault is None and 29 <= len(index.pts) < 36
    assert index.times_s == pytest.approx(np.arange(len(index.pts)) * 0.12, abs=1e-3)


def test_damaged_times_are_an_error_in_bounded_memory(make_video):
    path = make_video([0, 40, 80, 2_000_000_000_000], name="video.mkv")
    with pytest.raises(DecodeError, match="the times are damaged"):
        read_index(path)


def test_a_damaged_tag_of_matroska_is_not_read(make_video):
    path = Path(make_video([40 * at for at in range(20)], name="video.mkv"))
    stored = path.read_bytes()
    assert b"00:00:00.8" in stored
    path.write_bytes(stored.replace(b"00:00:00.8", b"00:00:00..", 1))
    index = read_index(str(path))
    assert len(index.times_s) == 20 and index.fault is None


def test_a_name_may_look_like_a_protocol(make_video, monkeypatch):
    path = Path(make_video([0, 40, 80], name="12:30.mp4"))
    monkeypatch.chdir(path.parent)
    assert len(read_index(path.name).times_s) == 3


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"'
    ' type="static" mediaPresentationDuration="PT2S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1"'
    ' bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
)
PLAYLISTS = {
    "hls": HLS,
    "hls_after_id3": "ID3\x04\0\0\0\0\0\0" + HLS,
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 {0}\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": DASH,
}


@pytest.fixture
def secret(make_video) -> str:
    """A video that nobody may read but by its own name."""
    return make_video([40 * at for at in range(20)], name="secret.ts")


@pytest.mark.parametrize("ending", ["mp4", "m3u8", "ffconcat", "sdp", "mpd", "txt"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_refused_under_any_name_wherever_it_lies(tmp_path, secret, kind, ending):
    """As a file, beside what it names too (concat trusts relative names), in a tar file, and in a store."""
    for named in (secret, Path(secret).name, "http://127.0.0.1:9/secret.ts"):
        content = PLAYLISTS[kind].format(named).encode()
        name = f"list.{ending}"
        (tmp_path / name).write_bytes(content)
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.add(tmp_path / name, name)
        fsspec.filesystem("memory").pipe(f"/playlists/{name}", content)
        for place in (tmp_path / name, f"{tmp_path}/a.tar::{name}", f"memory://playlists/{name}"):
            for read in (probe, read_index):
                with pytest.raises(
                    DecodeError, match=r"not a readable video \(a playlist or other text, which may name"
                ):
                    read(str(place))


def test_series_of_pictures_and_formats_that_read_other_files_are_refused(tmp_path, secret):
    from PIL import Image

    for at in range(3):
        Image.new("RGB", (64, 48), (at, 0, 0)).save(tmp_path / f"a{at}.png")
    Image.new("RGB", (32, 16)).save(tmp_path / "a%d.png")
    (tmp_path / "meta.mp4").write_text(";FFMETADATA1\ntitle=x\n")
    (tmp_path / "a.idx").write_text("# VobSub index file, v7\n")
    # A still picture is itself and no series, and nothing that FFmpeg opens.
    assert (probe(str(tmp_path / "a%d.png")).width, probe(str(tmp_path / "a%d.png")).frames) == (32, 1)
    for name, read in (("a%d.png", read_index), ("a0.png", read_index), ("meta.mp4", probe), ("a.idx", probe)):
        with pytest.raises(DecodeError, match=f"{name}: not a readable video"):
            read(str(tmp_path / name))


def test_ffmpeg_reads_nothing_but_files(tmp_path, secret, monkeypatch):
    """The last line of defence: a format that names other files gets them by no protocol but `file`."""
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, "hls", "concat", "sdp"))
    monkeypatch.setattr(formats, "PLAYLISTS", (b"nothing",))
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "a.m3u8").write_text(HLS.format(f"http://127.0.0.1:{server.getsockname()[1]}/secret.ts"))
        asked: list[object] = []

        def answer() -> None:
            connection, _ = server.accept()
            asked.append(connection)
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(DecodeError):
            probe(str(tmp_path / "a.m3u8"))
        assert not asked
    (tmp_path / "b.m3u8").write_text(HLS.format(secret))
    assert read_index(str(tmp_path / "b.m3u8")).info.codec == "h264"  # so the refusal was of the protocol
