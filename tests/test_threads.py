"""The threads that compute: how many, and how they wait. What a user set stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vtg.threads import THREADS_NAMES, WAITING_NAMES, cpu_limit, share_cores

ROOT = Path(__file__).parents[1]
OPENMP = ("OMP_", "GOMP_", "KMP_", "MKL_")
CORES = os.sched_getaffinity(0) if sys.platform == "linux" else set()
SHOW = (
    "import os, vtg.threads; e = os.environ.copy(); vtg.threads.share_cores(e, cores=16); print(e['OMP_NUM_THREADS'])"
)


def environment(**more: str) -> dict[str, str]:
    """This process's, without what anyone chose about OpenMP."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OPENMP)} | more


def openmp_of(code: str, **more: str) -> dict[str, str]:
    """The settings that the OpenMP which `code` loads says it runs with."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(OMP_DISPLAY_ENV="verbose", **more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line.split("=") for line in done.stderr.splitlines() if " = " in line)
    return {name.split()[-1]: value.strip().strip("'") for name, value in lines}


@pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels for Linux bring GNU's OpenMP")
def test_torchs_own_openmp_sleeps_at_its_barriers_unless_the_user_says_otherwise():
    found = openmp_of("import vtg, torch")
    assert (found["OMP_WAIT_POLICY"], found["GOMP_SPINCOUNT"]) == ("PASSIVE", "0")
    assert openmp_of("import vtg, torch", GOMP_SPINCOUNT="77")["GOMP_SPINCOUNT"] == "77"
    assert openmp_of("import vtg, torch", OMP_WAIT_POLICY="active")["OMP_WAIT_POLICY"] == "ACTIVE"


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}, {"KMP_BLOCKTIME": "200"}])
def test_a_user_who_set_one_way_of_waiting_gets_that_alone(own: dict[str, str]):
    settings = dict(own)
    share_cores(settings, cores=16)
    assert settings == own


def test_ranks_on_one_machine_share_its_cores():
    for launcher in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE"):
        for ranks, threads in ((1, None), (2, "8"), (3, "5"), (16, "1"), (64, "1")):
            settings = {launcher: str(ranks)}
            share_cores(settings, cores=16)
            assert settings.get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_users_number_of_threads_stays(name: str):
    settings = {name: "3", "LOCAL_WORLD_SIZE": "2"}
    share_cores(settings, cores=16)
    assert {key: value for key, value in settings.items() if key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} == {
        name: "3"
    }


def test_the_one_thread_that_torchrun_gives_every_rank_gives_way_and_a_users_does_not():
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--no-python"]
    for own, shown in (({}, "88"), ({"OMP_NUM_THREADS": "1"}, "11")):
        done = subprocess.run(
            [*torchrun, sys.executable, "-c", SHOW],
            env=environment(PYTHONPATH=str(ROOT), **own),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "".join(done.stdout.split()) == shown  # both write at once


@pytest.mark.skipif(len(CORES) < 2, reason="needs a core to leave out")
def test_a_rank_that_is_bound_to_its_cores_shares_them_with_nobody():
    show = "from vtg.threads import share_cores; e = {'LOCAL_WORLD_SIZE': '2'}; share_cores(e, cores=16); print(e)"
    found = []
    for cores in (CORES, {min(CORES)}):
        done = subprocess.run(
            [sys.executable, "-c", show],
            cwd=ROOT,
            preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores),
            capture_output=True,
            text=True,
            check=True,
        )
        found.append("'OMP_NUM_THREADS': '8'" in done.stdout)
    assert found == [True, False]


def test_a_containers_cpu_limit_counts(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/pod/container\n")
    inner = tmp_path / "groups" / "pod" / "container"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    assert cpu_limit(tmp_path, tmp_path / "groups") is None
    (inner.parent / "cpu.max").write_text("250000 100000\n")
    assert cpu_limit(tmp_path, tmp_path / "groups") == 2.5
    (inner / "cpu.max").write_text("150000 100000\n")
    assert cpu_limit(tmp_path, tmp_path / "groups") == 1.5
    assert cpu_limit(tmp_path / "nowhere", tmp_path / "groups") is None


def test_once_torch_is_loaded_nothing_is_said_that_is_not_so():
    code = "import torch, vtg, os; print('GOMP_SPINCOUNT' in os.environ)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_runs_environment_tells_its_threads():
    import torch

    from vtg.training.run_dir import environment

    told = environment()
    assert told["threads"] == torch.get_num_threads()
    assert told["openmp"] == {name: os.environ[name] for name in (*THREADS_NAMES, *WAITING_NAMES) if name in os.environ}
    assert told["openmp"]["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"]
