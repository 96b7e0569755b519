"""What FFmpeg is allowed to open: files that hold their video in themselves, and nothing that names others."""

from typing import IO

from vtg.video.clip import DecodeError
from vtg.video.files import video_files

# FFmpeg's names of the formats that are opened. Each holds its video in itself: a playlist (HLS, DASH, SDP, concat), a
# numbered series of pictures or a filter graph would read other files and addresses than the one that was named.
FORMATS = (
    *("mov", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", "rm", "mxf", "gxf", "nut", "wtv", "dv"),
    *("ivf", "obu", "h264", "hevc", "vvc", "m4v", "mpegvideo", "vc1", "mjpeg", "gif", "apng", "yuv4mpegpipe"),
)

# FFmpeg's names of what it may read by: a file, and a part of one (a member of a tar file).
PROTOCOLS = ("file", "subfile")

# How text begins that some version of FFmpeg takes for a playlist, whatever its name: torchcodec and decord bring
# versions of their own, which cannot be told what to open. FFmpeg skips an ID3 tag before it recognises a format.
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"ID3")


def options() -> dict[str, str]:
    """FFmpeg's options that allow these formats and protocols alone."""
    return {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": ",".join(PROTOCOLS)}


def check_head(path: str, source: str | IO[bytes]) -> None:
    """Raises DecodeError for a file that begins as a playlist."""
    if isinstance(source, str):
        holder, member = video_files.split_member(path)
        first, _ = video_files.member_range(holder, member) if member is not None else (0, 0)
        with open(holder, "rb") as file:
            file.seek(first)
            head = file.read(16)
    else:
        head = source.read(16)
        source.seek(0)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(PLAYLISTS):
        raise DecodeError(
            f"{path}: not a readable video (a playlist or other text, which may name other files and addresses); give "
            "the video itself"
        )
