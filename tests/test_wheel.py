"""The wheel holds all that the commands need, and they run from it in an empty folder."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vtg import __version__

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    offline = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip("wheel", "--no-deps", *offline, "--wheel-dir", str(out), str(ROOT))
    (path,) = out.glob("vtg-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--target", str(target), str(wheel))
    return target


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run(installed: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_holds_every_config_the_tiny_model_and_the_templates_of_the_report(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"vtg/conf/{name}" for name in below(ROOT / "conf")} <= names
    package = {name for name in below(ROOT / "vtg") if not name.endswith(".pyc")}
    assert {".safetensors", ".jinja", ".css", ".js"} <= {Path(name).suffix for name in package}
    assert {f"vtg/{name}" for name in package} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_is_of_the_version_of_the_code(wheel):
    assert wheel.name == f"vtg-{__version__}-py3-none-any.whl"


def test_the_wheel_holds_nothing_beside_the_package(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"vtg", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}


def test_commands_run_from_the_wheel_in_an_empty_folder_and_leave_it_empty(installed, tmp_path):
    where = run(installed, tmp_path, "-c", "from vtg.entry import conf_dir; print(conf_dir())")
    assert Path(where.strip()) == installed / "vtg" / "conf"
    assert "run_name: sft_tiny_demo\n" in run(installed, tmp_path, "-m", "vtg.sft", "--cfg", "job")
    assert "validate" in run(installed, tmp_path, "-m", "vtg", "--help")
    assert "--strict" in run(installed, tmp_path, "-m", "vtg.validate", "--help")
    assert list(tmp_path.iterdir()) == []


def test_the_report_of_the_wheel_finds_its_templates(installed, tmp_path):
    (tmp_path / "train_log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    assert run(installed, tmp_path, "-m", "vtg.report", ".") == "report.html\n"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<polyline" in page and "--paper:" in page and "addEventListener" in page


def test_the_tiny_model_of_the_wheel_is_found(installed, tmp_path):
    code = "from vtg.models.checkpoint import resolve_checkpoint; print(resolve_checkpoint('tiny'))"
    where = Path(run(installed, tmp_path, "-c", code).strip())
    assert where.is_relative_to(installed)
    assert (where / "model.safetensors").is_file()


def test_an_installed_package_says_where_a_data_set_of_ones_own_goes(installed, tmp_path):
    conf = installed / "vtg" / "conf"
    wanted = f"copy {conf}/data/my_dataset.yaml to FOLDER/data/my_dataset.yaml, fill it in there"
    done = subprocess.run(
        [sys.executable, "-m", "vtg.sft", "data=my_dataset"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        check=False,
    )
    assert done.stderr == (
        f"error: data.annotation_file is not set: {wanted} and add --config-dir FOLDER (line 8), or give "
        "data.annotation_file=FILE\n"
    )
    assert done.returncode == 2
