"""vtg.download against a server on this machine that stands in for the hub and GitHub, and fails in their ways."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stand_in_hub import REVISION, StandIn, serving

from vtg.download.__main__ import main
from vtg.download.data_sets import SETS, chosen
from vtg.errors import ConfigError

HUB, NAME = "allenai/Molmo2-VideoPoint", "molmo2-videopoint"
SHARD = f"/{HUB}/data/train-00000-of-00002.parquet"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A hub with one set of two shards, two splits and two other files; the test's folder is the current one."""
    from huggingface_hub import constants

    # The variable is read when the library is imported, which another test may have done.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "hub" / HUB
    (folder / "data").mkdir(parents=True)
    for at in range(2):
        ids = [f"v{at}{number}" for number in range(2000)]
        table = pa.table({"video_id": ids, "label": [f"dog {one}" for one in ids]})
        pq.write_table(table, folder / "data" / f"train-{at:05}-of-00002.parquet", row_group_size=500)
    pq.write_table(pa.table({"video_id": ["v00"], "label": ["cat"]}), folder / "data" / "val-00000-of-00001.parquet")
    (folder / "youtube_id_to_urls_mapping.json").write_text('{"v00": {"gcp_url": "https://videos.example/v00.mp4"}}')
    (folder / "README.md").write_text("a set")
    with serving(tmp_path / "hub") as stand_in:
        stand_in.cards[HUB] = {"license": "odc-by"}
        yield stand_in


@pytest.fixture
def download(hub: StandIn, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Runs the command against the hub; the exit code, and its document by set."""

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = main([*arguments, "--from", hub.address, "--json"])
        return code, {one["name"]: one for one in json.loads(capsys.readouterr().out)["sets"]}

    return run


def in_a_process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vtg.download", *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "0"}
    # A shell's background job ignores Ctrl-C, and so does what it starts.
    options = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} | options
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_a_set_becomes_a_table_a_split_and_says_where_it_is_from(download: Any, tmp_path: Path) -> None:
    code, sets = download("Molmo2-VideoPoint")
    assert (code, sets[NAME]["state"], sets[NAME]["rows"]) == (0, "whole", {"train.parquet": 4000, "val.parquet": 1})
    folder = tmp_path / "molmo2_datasets" / NAME
    table = pq.read_table(folder / "train.parquet")
    assert table.column("video_id").to_pylist() == [f"v{at}{number}" for at in range(2) for number in range(2000)]
    record = json.loads((folder / "download.json").read_text())
    assert (record["source"], record["revision"], record["licence"]) == (HUB, REVISION, "odc-by")
    # The shards are in the tables; what is no table stays under its own name, and no half file is left.
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    other = {"files/README.md", "files/youtube_id_to_urls_mapping.json"}
    assert files == {"train.parquet", "val.parquet", "download.json", "videos.txt", ".lock"} | other


def test_videos_that_come_from_elsewhere_are_listed_until_they_are_there(download: Any, tmp_path: Path) -> None:
    folder = tmp_path / "molmo2_datasets" / NAME
    _, sets = download(NAME)
    assert (sets[NAME]["videos_named"], sets[NAME]["videos_missing"]) == (4000, 4000)
    assert "fetch them into its folder videos" in sets[NAME]["to_do"]
    assert (folder / "videos.txt").read_text().splitlines()[:2] == ["v00\thttps://videos.example/v00.mp4", "v01"]
    (folder / "videos").mkdir()
    (folder / "videos" / "v00.mp4").touch()
    _, sets = download(NAME)
    assert (sets[NAME]["state"], sets[NAME]["videos_missing"]) == ("was there", 3999)


def test_a_file_goes_on_where_its_connection_broke(hub: StandIn, download: Any) -> None:
    hub.breaks[SHARD] = 5000
    code, _ = download(NAME)
    assert code == 0
    assert [asked for asked in hub.asked if asked[0] == SHARD] == [(SHARD, None), (SHARD, "bytes=5000-")]


def test_a_killed_download_goes_on_and_fetches_nothing_twice(hub: StandIn, download: Any, tmp_path: Path) -> None:
    big = tmp_path / "hub" / HUB / "videos.zip"
    big.write_bytes(os.urandom(3_000_000))
    hub.holds[f"/{HUB}/videos.zip"] = 1_000_000
    process = in_a_process(NAME, "--from", hub.address)
    folder = tmp_path / "molmo2_datasets" / NAME / "files"
    while not any(part.stat().st_size == 1_000_000 for part in folder.glob(".videos.zip.*.part")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    # The others come in while the server holds this one back: every one, since what did not is asked for again.
    others = [path.relative_to(tmp_path / "hub" / HUB) for path in (tmp_path / "hub" / HUB).rglob("*.*") if path != big]
    while not all((folder / other).exists() for other in others):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.let_go.set()
    hub.asked.clear()
    assert download(NAME)[0] == 0
    assert hub.asked == [(f"/{HUB}/videos.zip", "bytes=1000000-")]
    assert (folder / "videos.zip").read_bytes() == big.read_bytes()


def test_an_interrupted_download_says_so_and_keeps_what_is_whole(hub: StandIn, tmp_path: Path) -> None:
    (tmp_path / "hub" / HUB / "videos.zip").write_bytes(os.urandom(3_000_000))
    hub.holds[f"/{HUB}/videos.zip"] = 1_000_000
    process = in_a_process(NAME, "--from", hub.address)
    record = tmp_path / "molmo2_datasets" / NAME / "files"
    while not list(record.glob(".videos.zip.*.part")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "interrupted: ending" not in (line := process.stderr.readline()):
        assert line, process.communicate()
    hub.let_go.set()  # not before: what is left of the file is read in no time
    out, errors = process.communicate()
    assert process.returncode == 130
    assert "not tried: interrupted" in out
    assert "run the same command again to go on" in errors


def test_what_does_not_have_the_publishers_checksum_is_not_taken(hub: StandIn, download: Any, tmp_path: Path) -> None:
    shard = tmp_path / "hub" / SHARD.lstrip("/")
    hub.answers[SHARD] = bytes(shard.stat().st_size)
    code, sets = download(NAME)
    assert (code, sets[NAME]["state"]) == (1, "failed")
    assert "has the checksum sha256:" in sets[NAME]["why"]
    assert f"not sha256:{hashlib.sha256(shard.read_bytes()).hexdigest()}" in sets[NAME]["why"]
    assert not (tmp_path / "molmo2_datasets" / NAME / "train.parquet").exists()
    # The others are kept: the next try asks for this one alone.
    hub.answers.clear()
    hub.asked.clear()
    assert download(NAME)[0] == 0
    assert hub.asked == [(SHARD, None)]


def test_a_set_that_fails_costs_only_itself(hub: StandIn, download: Any) -> None:
    hub.answers["/api/datasets/allenai/Molmo2-Cap"] = b'["no description"]'
    (hub.root / "allenai/Molmo2-Cap").mkdir()
    hub.answers["/api/datasets/allenai/pixmo-cap"] = b"<html>sign in</html>"
    (hub.root / "allenai/pixmo-cap").mkdir()
    code, sets = download("Molmo2-Cap", "pixmo-cap", "pixmo-count", "tacos", "ego4d_nlq", NAME)
    assert code == 1
    assert {name: one["state"] for name, one in sets.items()} == {
        **{name: "failed" for name in ("molmo2-cap", "pixmo-cap", "pixmo-count", "tacos")},
        "ego4d_nlq": "by hand",
        NAME: "whole",
    }
    assert "answers something that describes no data set" in sets["molmo2-cap"]["why"]
    assert "answers something that describes no data set" in sets["pixmo-cap"]["why"]
    assert "the hub has no such data set" in sets["pixmo-count"]["why"]
    assert "404" in sets["tacos"]["why"]
    assert "sign the licence" in sets["ego4d_nlq"]["why"]


def test_a_server_that_gives_another_file_is_found_out_before_it_is_read(hub: StandIn, download: Any) -> None:
    hub.answers[SHARD] = b"<html>too many requests</html>"
    _, sets = download(NAME)
    assert "offers 30 bytes, not the" in sets[NAME]["why"]


def test_paths_that_lead_out_of_the_folder_are_refused(hub: StandIn, download: Any, tmp_path: Path) -> None:
    description = json.loads(hub.description(HUB))
    description["siblings"][0]["rfilename"] = "../../stolen"
    hub.answers[f"/api/datasets/{HUB}"] = json.dumps(description).encode()
    code, sets = download(NAME)
    assert code == 1
    assert "'../../stolen', whose path leads out of its folder" in sets[NAME]["why"]


def test_more_than_the_disk_holds_is_refused_before_anything_is_fetched(
    hub: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    description = json.loads(hub.description(HUB))
    description["siblings"][0]["size"] = 10**18
    hub.answers[f"/api/datasets/{HUB}"] = json.dumps(description).encode()
    assert main([NAME, "--from", hub.address]) == 1
    shown = capsys.readouterr().err
    assert "odc-by" in shown
    assert "are needed, and" in shown and "--rows-only" in shown
    assert hub.asked == []


def test_a_disk_that_fills_is_named_and_what_came_is_kept(hub: StandIn, download: Any, tmp_path: Path) -> None:
    (tmp_path / "hub" / HUB / "videos.zip").write_bytes(os.urandom(3_000_000))

    def limit() -> None:  # a limit on the size of a file: writing fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    process = in_a_process(NAME, "--from", hub.address, preexec_fn=limit)
    out, _ = process.communicate()
    assert process.returncode == 1
    assert "videos.zip: cannot be written (File too large)" in out
    hub.asked.clear()
    assert download(NAME)[0] == 0
    assert hub.asked == [(f"/{HUB}/videos.zip", "bytes=1000000-")]


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, capsys: Any, bound_by_rights: None) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0)
    assert main(["--check", "--data-dir", str(shut)]) == 1
    assert capsys.readouterr().err.endswith("; check --data-dir and its permissions\n")
    assert main(["--check", "tacos", "--data-dir", str(shut)]) == 1
    record = shut / "tacos" / "download.json"
    assert f"{record}: cannot be read (Permission denied); check the permissions" in capsys.readouterr().err


def test_check_reads_every_file_again(download: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    download(NAME)
    assert main(["--check"]) == 0
    assert f"{NAME}: whole" in capsys.readouterr().out
    table = tmp_path / "molmo2_datasets" / NAME / "train.parquet"
    content = bytearray(table.read_bytes())
    content[100] ^= 1
    table.write_bytes(content)
    assert main(["--check", NAME, "tacos"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{NAME}: train.parquet: has changed since it was downloaded; download the set again",
        "tacos: is not downloaded",
    ]
    # And downloading mends it, though the shards that it was made of are gone.
    assert download(NAME)[1][NAME]["state"] == "whole"
    assert main(["--check"]) == 0


def test_a_folder_stands_in_for_the_hub_and_published_files_keep_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Path("../shared/data/annotations/videox__charades_sta_test.txt").absolute()
    train, lengths = rows.with_name("videox__charades_sta_train.txt"), rows.with_name("videox__Charades_v1_test.csv")
    if not rows.is_file():
        pytest.skip("needs the published files of ../shared/data")
    for file, source in zip(
        SETS["charades_sta"].files, (train, rows, rows.with_name("videox__Charades_v1_train.csv"), lengths), strict=True
    ):
        (tmp_path / file.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.path).symlink_to(source)
    options = ["charades_sta", "--from", str(tmp_path), "--data-dir", str(tmp_path / "data")]
    assert main(options) == 0
    shown = capsys.readouterr().out
    assert f"python train_sft.py data=charades_sta data.root={tmp_path}/data/charades_sta" in shown
    # The real files have the checksums and sizes that the table states. Two of their 6,672 videos have no good row.
    assert "6,670 of 6,670" in shown


def test_lists_and_dry_runs_need_no_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # HF_ENDPOINT leads nowhere: whoever asks fails.
    for arguments in (["--list"], ["--dry-run", "--stage", "all", "--include-eval"]):
        process = subprocess.run(
            [sys.executable, "-m", "vtg.download", *arguments, "--data-dir", str(tmp_path / "new"), "--json"],
            env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert [one["name"] for one in json.loads(process.stdout)["sets"]] == (
            list(SETS) if "--list" in arguments else chosen([], "all", include_eval=True)
        )
    assert not (tmp_path / "new").exists()
    assert main(["--list"]) == 0
    assert "unknown" in capsys.readouterr().out  # a licence or a size that nobody has seen is not invented


def test_stages_and_names_choose_sets() -> None:
    assert chosen([], "pretraining", include_eval=False)[0] == "pixmo-cap"
    assert {SETS[name].stage for name in chosen([], "all", include_eval=False)} == {"pretraining", "sft"}
    assert {SETS[name].stage for name in chosen([], "all", include_eval=True)} == {"pretraining", "sft", "eval"}
    assert chosen(["allenai/Molmo2-Cap", "molmo2-cap"], None, include_eval=False) == ["molmo2-cap"]
    with pytest.raises(ConfigError, match=r"^molmo2-cab: no data set of this name; did you mean molmo2-cap\? "):
        chosen(["molmo2-cab"], None, include_eval=False)


@pytest.mark.parametrize("arguments", [["charades_sta"], ["--check"], ["--check", "charades_sta"], ["--list"]])
@pytest.mark.parametrize("inner", ["", "/sets"])
def test_a_file_where_the_folder_should_be_is_wrong_usage(
    arguments: list[str], inner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*arguments, "--data-dir", f"{tmp_path}/file{inner}"]) == 2
    said = f"error: --data-dir {tmp_path}/file{inner}: {tmp_path}/file is a file; name a folder"
    assert capsys.readouterr().err.startswith(said)


def test_a_fetch_that_the_hub_is_not_asked_for_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["charades_sta", "--from", "http://localhost:1", "--data-dir", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert ": HF_HUB_OFFLINE is set; unset it, or fetch --from FOLDER" in out and "free some room" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which data sets? Give names, or --stage"),
        (["tacos", "--workers", "0"], "--workers 0: must be at least 1"),
        (["tacos", "--include-eval"], "--include-eval adds to a stage"),
        (["nothing"], "nothing: no data set of this name"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
