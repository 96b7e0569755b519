import base64
import os
from pathlib import Path

import pytest

from vtg.errors import ConfigError
from vtg.serving.admission import Admission
from vtg.serving.limits import Limits
from vtg.serving.refusals import Refused

LIMITS = Limits(upload_bytes=1000, kept_bytes=2500)


def data_url(content: bytes, kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def test_what_is_sent_lies_in_a_folder_that_is_removed() -> None:
    with Admission(LIMITS) as admission:
        assert admission.folder.stat().st_mode & 0o077 == 0
        with admission.session() as session:
            path = session.admit(data_url(b"abc"))
            assert path.read_bytes() == b"abc" and path.suffix == ".mp4" and path.is_relative_to(admission.folder)
            assert session.shown(f"{path}: not a video") == "the video of the data: URL.mp4: not a video"
            plain = session.admit("data:,a%20b")
            assert plain.read_bytes() == b"a b"
            with session.upload("../../evil/../name.MP4") as upload:
                upload.write(b"1")
            assert upload.path.parent == session.folder and upload.name == "name.MP4" and upload.path.suffix == ".mp4"
        assert not session.folder.exists()
        session = admission.session()
    assert not admission.folder.exists()


def test_no_more_is_kept_than_there_is_room_for() -> None:
    with Admission(LIMITS) as admission, admission.session() as session:
        with pytest.raises(Refused, match=r"is larger than 0.001 MB") as refused:
            session.admit(data_url(bytes(1001)))
        assert refused.value.status == 413
        with session.upload("a.mp4") as upload:
            upload.write(bytes(900))
            with pytest.raises(Refused, match=r"a.mp4: is larger than"):
                upload.write(bytes(200))
        other = admission.session()
        other.admit(data_url(bytes(900)))
        with pytest.raises(Refused, match="videos are kept already; try again") as refused:
            session.admit(data_url(bytes(900)))
        assert refused.value.status == 429
        other.close()
        session.admit(data_url(bytes(900)))
        with session.upload("b.mp4") as upload:
            session.close()
            with pytest.raises(Refused, match="wanted no longer"):
                upload.write(b"1")


def test_files_are_opened_in_allowed_folders_alone(tmp_path: Path) -> None:
    open_dir, secret = tmp_path / "open", tmp_path / "secret"
    for folder in (open_dir, secret):
        folder.mkdir()
        (folder / "a.mp4").write_bytes(b"a")
    (open_dir / "link.mp4").symlink_to(open_dir / "a.mp4")
    (open_dir / "out.mp4").symlink_to(secret / "a.mp4")
    (open_dir / "loop.mp4").symlink_to(open_dir / "loop.mp4")
    os.mkfifo(open_dir / "pipe.mp4")
    with Admission(LIMITS, allow_dirs=[open_dir]) as admission, admission.session() as session:
        for name in ("a.mp4", str(open_dir / "a.mp4"), "link.mp4", "../open/a.mp4"):
            assert session.admit(name) == open_dir / "a.mp4"
        refused = {}
        for name in (
            str(secret / "a.mp4"),
            "../secret/a.mp4",
            "../secret/none.mp4",
            "out.mp4",
            "loop.mp4",
            "pipe.mp4",
            ".",
            "a.mp4\0",
            "/dev/zero",
            "b.tar::a.mp4",
        ):
            with pytest.raises(Refused, match="is in no folder that this server reads") as error:
                session.admit(name)
            assert error.value.status == 403
            refused[name] = str(error.value).replace(repr(name), "")
        assert len(set(refused.values())) == 1  # what is there and what is not is not told apart
        for address in ("file:///etc/passwd", "FILE:///etc/passwd", "s3://a/b.mp4", "memory://a", "ftp://a/b.mp4"):
            with pytest.raises(Refused, match="is not opened: give a path"):
                session.admit(address)
        with pytest.raises(Refused, match="this server fetches no addresses"):
            session.admit("https://example.org/a.mp4")
    with Admission(LIMITS) as admission, pytest.raises(Refused, match="this server reads no files by name"):
        admission.session().admit(str(open_dir / "a.mp4"))
    with pytest.raises(ConfigError, match=r"--allow-dir none: no such folder \(looked in "):
        Admission(LIMITS, allow_dirs=["none"])


@pytest.mark.parametrize("url", ["data:text/html;base64,YQ==", "data:video/mp4;base64", "data:image/png;base64,YQ=="])
def test_data_of_other_kinds_is_refused(url: str) -> None:
    with Admission(LIMITS) as admission, pytest.raises(Refused, match="give a video as data:video/mp4;base64,"):
        admission.session().admit(url)


def test_data_that_is_no_base64_is_refused() -> None:
    with Admission(LIMITS) as admission, pytest.raises(Refused, match="is no base64"):
        admission.session().admit("data:video/mp4;base64,%%%")
