"""Publishing an export: to a hub on loopback, by huggingface_hub as it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub, hub_server

from vtg.export.manifest import write_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub():
    with hub_server() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path) -> Path:
    """What an export looks like from outside, and a file that was laid there later."""
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n\n# exported\n")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    write_manifest(folder)
    (folder / "notes.txt").write_text("mine")
    return folder


def push(hub: Hub, folder: Path, *words: str, token: str = TOKEN, name: str = "me/model", **environment: str):
    environ = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environ |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder.parent / "hf"), "HF_HUB_DISABLE_XET": "1"}
    environ |= ({"HF_TOKEN": token} if token else {}) | environment
    command = [sys.executable, "-m", "vtg.export", str(folder), "--push", name, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ)


def error_of(done) -> str:
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    return line


def test_the_hub_receives_the_files_of_the_export_and_no_others(hub, folder):
    done = push(hub, folder, "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{hub.address}/me/model/commit/1\n"
    names = ("README.md", "config.json", "model.safetensors")
    assert hub.files == {name: (folder / name).read_bytes() for name in names}
    assert [one["visibility"] for one in hub.created] == ["private"]


def test_a_push_that_breaks_off_leaves_the_export_and_the_same_command_resumes(hub, folder):
    hub.refuses["/commit/"] = 403
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = push(hub, folder)
    assert done.returncode == 1 and hub.files == {} and hub.uploads == 1
    line = error_of(done)
    assert "the token may not write there" in line
    assert line.endswith(f"{folder} is whole, and this resumes: python -m vtg.export {folder} --push me/model")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    hub.refuses.clear()
    assert push(hub, folder).returncode == 0
    assert hub.uploads == 1 and set(hub.files) == {"README.md", "config.json", "model.safetensors"}


def test_a_dry_run_lists_files_and_sizes_and_asks_nobody(hub, folder):
    done = push(hub, folder, "--dry-run", token="")
    assert done.returncode == 0, done.stderr
    assert "2.05 kB  model.safetensors" in done.stdout and "in 3 files" in done.stdout
    assert "notes.txt" not in done.stdout and hub.created == []


def test_what_cannot_be_pushed_is_one_line_with_the_next_step(hub, folder):
    cases = [
        (push(hub, folder, name="model"), 2, "whose is it? Give ORG/NAME, such as me/model"),
        (push(hub, folder, token=""), 2, "there is no token of the hub; hf auth login, or set HF_TOKEN"),
        (push(hub, folder, token="hf_wrong"), 1, "the token is not valid; make one at"),
        (push(hub, folder, HF_HUB_OFFLINE="1"), 2, "HF_HUB_OFFLINE is set; unset it to reach the hub"),
        (push(hub, folder, HF_ENDPOINT="http://127.0.0.1:9"), 2, "does not answer; try again with a network"),
        (push(hub, folder.parent), 2, "is no exported folder (it has no export.json); export it first"),
    ]
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/home/me/models/qwen"}')
    local = "the adapter's base is the local folder /home/me/models/qwen, which nobody else has; export it with --base"
    cases.append((push(hub, folder), 2, local))
    (folder / "adapter_config.json").unlink()
    hub.public = True
    cases.append((push(hub, folder, "--private"), 1, "exists already and is public; choose another name"))
    for done, code, text in cases:
        assert done.returncode == code and text in error_of(done), done.stderr
    assert hub.files == {}
