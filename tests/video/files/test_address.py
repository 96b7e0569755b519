"""Names from rows, settings and checkpoints reach no file system but those that are meant to be opened."""

import base64
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtg import validate
from vtg.config.data_settings import DataConfig
from vtg.config.load import load_config
from vtg.config.programs import PredictConfig
from vtg.config.rules import check_predict
from vtg.data.skip_report import SkipReport
from vtg.data.splits import read_split, read_splits
from vtg.errors import ConfigError
from vtg.inspect import __main__ as inspect
from vtg.video.clip import DecodeError
from vtg.video.container import probe
from vtg.video.files import address, stores, video_files
from vtg.video.files.fetched import FetchedVideos

REFUSED = [
    *(
        "data://x",
        "tar://a.tar",
        "generic://x",
        "hf://datasets/a/b.mp4",
        "ftp://127.0.0.1/a.mp4",
        "local:///etc/passwd",
    ),
    *("github://a:b@main/a.mp4", "zip://a.mp4::/tmp/a.zip", "simplecache::https://127.0.0.1:9/a.mp4", "http://a/b.mp4"),
    *("S3://bucket/a.mp4", "s3://bucket/a.mp4::data:,x", "s3://bucket/x::y.tar::a.mp4", "file://host/a.mp4", "://a"),
]


def row(video: str) -> str:
    return json.dumps({"video": video, "duration": 2.0, "timestamp": [0.5, 1.0], "sentence": "it changes"}) + "\n"


def running(command: str) -> str:
    """An address at whose mention old versions of fsspec (to 2026.4) run a shell command."""
    template = "{{ cycler.__init__.__globals__.os.popen('COMMAND').read() }}".replace("COMMAND", command)
    files = {"version": 1, "refs": {}, "gen": [{"key": template, "url": "x", "dimensions": {"i": [1]}}]}
    content = base64.b64encode(json.dumps(files).encode()).decode()
    return f"reference://a.mp4::data:application/json;base64,{content}"


@pytest.mark.parametrize("name", REFUSED)
def test_an_address_of_another_kind_is_refused_wherever_it_is_opened(tmp_path, name):
    assert "is not opened" in (address.fault(name) or "")
    fetched = FetchedVideos(str(tmp_path / "fetched"), max_bytes=1000)

    def fetch(name: str) -> None:
        with fetched.local(name):
            pass

    for use in (stores.file_system, probe, *([fetch] if video_files.is_remote(name) else [])):
        with pytest.raises(DecodeError, match="is not opened: "):
            use(name)
    assert not video_files.exists(name) and not (tmp_path / "fetched").exists()


@given(st.text(min_size=1))
def test_what_is_not_refused_is_a_path_or_an_address_of_a_known_kind(text):
    for name in (text, f"a://{text}", f"s3://{text}", f"reference://{text}", f"{text}.tar::b.mp4"):
        holder, _ = video_files.split_member(name) if not name.startswith("file://") else (name, None)
        if address.fault(name) is None and video_files.is_remote(name):
            scheme, _, rest = holder.partition("://")
            assert scheme in address.schemes() and "::" not in rest


def test_rows_reach_no_shell(tmp_path, capsys):
    rows, hit = tmp_path / "rows.jsonl", tmp_path / "hit"
    rows.write_text(row("a.mp4") + row(running(f"touch {hit}")))
    assert validate.main(["--probe", "--video-dir", str(tmp_path), str(rows)]) == 1
    assert f"{rows}:2: video: 'reference://a.mp4::data:application/json;base64," in capsys.readouterr().out
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=1)
    with pytest.raises(ConfigError, match="no usable row among 2"):
        read_split(str(rows), video_dir=str(tmp_path), report=report)
    assert inspect.main([running(f"touch {hit}"), "--no-decode"]) == 2
    assert inspect.main(["--index", str(rows)]) == 1
    assert not hit.exists()


def test_a_row_with_such_an_address_is_lost_with_its_line_and_the_others_are_trained_on(tmp_path, write_mp4, caplog):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(map(row, [write_mp4([0, 100, 200]), *REFUSED])))
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=1)
    with caplog.at_level(logging.ERROR):
        splits = read_splits(DataConfig(annotation_file=str(rows)), seed=0, report=report)
    assert len(splits.train) == 1
    assert [entry.place for entry in report.skipped.values()] == [f"{rows}:{2 + at}" for at in range(len(REFUSED))]
    assert all("is not opened: " in entry.reason for entry in report.skipped.values())


def test_a_name_and_a_folder_that_make_such_an_address_together_are_refused(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(row("a.mp4::data:,x"))
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=1)
    with pytest.raises(ConfigError, match=r"rows\.jsonl:1: video: 's3://bucket/a\.mp4::data:,x' is not opened"):
        read_split(str(rows), video_dir="s3://bucket", report=report)
    assert validate.main(["--probe", "--video-dir", "s3://bucket", str(rows)]) == 1
    assert "rows.jsonl:1: video: 's3://bucket/a.mp4::data:,x' is not opened" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"video_file": "reference://a", "query": "it changes"}, "video"),
        ({"data": {"annotation_file": "zip://*.tar"}}, r"data\.annotation_file"),
        ({"data": {"annotation_file": "{rows}", "video_dir": "ftp://a"}}, r"data\.video_dir"),
    ],
)
def test_settings_name_no_such_address(tmp_path, settings, key):
    (tmp_path / "rows.jsonl").write_text(row("a.mp4"))
    text = json.dumps(settings).replace("{rows}", str(tmp_path / "rows.jsonl"))
    with pytest.raises(ConfigError, match=f"{key}: '.*' is not opened: give a path, or an address with file://, gs://"):
        check_predict(load(json.loads(text)))


def load(settings: dict) -> PredictConfig:
    from omegaconf import OmegaConf

    return load_config(OmegaConf.create(settings), PredictConfig)


def test_shards_and_folders_of_other_kinds_are_refused_before_they_are_listed(tmp_path, capsys):
    report = SkipReport(tmp_path / "skipped.jsonl", max_bad_share=0)
    for pattern in ("zip://a/{0..1}.tar", "reference://*.tar", "s3://bucket/a::b/*.tar"):
        with pytest.raises(ConfigError, match=r"data\.annotation_file = .* is not opened"):
            read_split(pattern, video_dir=None, report=report)
    (tmp_path / "rows.jsonl").write_text(row("a.mp4"))
    with pytest.raises(SystemExit):
        validate.main(["--video-dir", "ftp://a", str(tmp_path / "rows.jsonl")])
    assert "--video-dir: 'ftp://a' is not opened" in capsys.readouterr().err


def test_http_is_opened_only_where_the_environment_says_so(tmp_path, monkeypatch):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(row("http://127.0.0.1:9/a.mp4"))
    assert "http:// where VTG_ALLOW_HTTP=1 is set" in (address.fault("http://127.0.0.1:9/a.mp4") or "")
    monkeypatch.setenv("VTG_ALLOW_HTTP", "1")
    assert address.fault("http://127.0.0.1:9/a.mp4") is None and address.fault("ftp://a") is not None
    assert validate.main([str(rows)]) == 0


def test_names_of_files_may_hold_what_addresses_hold(tmp_path, write_mp4):
    video = Path(write_mp4([0, 100, 200]))
    for name in ("a::b.mp4", "data:,x.mp4", "concat:a|b.mp4"):
        (tmp_path / name).write_bytes(video.read_bytes())
        assert probe(str(tmp_path / name)).codec == "h264"
