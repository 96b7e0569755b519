"""`python -m vtg.convert inherits`: YAML files that inherit others, as Hydra configs of the same values."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from vtg import convert

FILES = {
    "datasets/shapes.yaml": "# a set\ndata:\n  name: shapes\n  sizes: [1, 2]\nlr: 1e-5\nbackbone: {name: a}\n",
    "training/fast.yaml": "inherits: [../datasets/shapes.yaml]\nlr: 1e-4\ntrainer: {loss: l1, epochs: 2}\n",
    "runs/run.yaml": (
        "inherits:\n  - ../training/fast.yaml   # first\n  - ../datasets/shapes.yaml\n"
        "data:\n  sizes: [3]\nbackbone: null\ntrainer:\n  epochs: 5\n  note: ???\n"
    ),
}
# As FutureLatents reads run.yaml: fast.yaml with what it inherits, then shapes.yaml again, then its own.
RUN = {
    "data": {"name": "shapes", "sizes": [3]},
    "lr": 1e-5,
    "backbone": None,
    "trainer": {"loss": "l1", "epochs": 5, "note": "???"},
}


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    return written(tmp_path / "configs", FILES)


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def composed(folder: Path, name: str) -> Any:
    with initialize_config_dir(str(folder), version_base="1.3"):
        return OmegaConf.to_container(compose(name))


def error_of(capsys: pytest.CaptureFixture[str], path: Path) -> str:
    assert convert.main(["inherits", str(path), "--dry-run"]) == 1
    printed = capsys.readouterr()
    assert not printed.out
    return printed.err.removeprefix("vtg.convert inherits: error: ").removesuffix("\n")


def test_hydra_composes_the_values_that_the_files_have_by_inheritance(configs, tmp_path, capsys):
    out = tmp_path / "hydra"
    assert convert.main(["inherits", str(configs / "runs/run.yaml"), "-o", str(out)]) == 0
    assert f"wrote 3 configs, which Hydra composes to the same values, to {out}" in capsys.readouterr().out
    assert composed(out, "runs/run") == RUN
    assert composed(out, "training/fast")["lr"] == 1e-4
    # The rest of a file stays as it was written.
    assert (out / "runs/run.yaml").read_text() == (
        "# @package _global_\ndefaults:\n  - /training/fast   # first\n  - /datasets/shapes\n  - _self_\n"
        "data:\n  sizes: [3]\nbackbone: null\ntrainer:\n  epochs: 5\n  note: ???\n"
    )
    # Again: what is there is the same.
    assert convert.main(["inherits", str(configs / "runs/run.yaml"), "-o", str(out)]) == 0


def test_every_overridden_key_is_named_with_both_files_and_values(configs, capsys):
    assert convert.main(["inherits", str(configs / "runs/run.yaml"), "--dry-run", "--json"]) == 0
    printed = capsys.readouterr()
    run, fast, shapes = (configs / name for name in ("runs/run.yaml", "training/fast.yaml", "datasets/shapes.yaml"))
    assert printed.err.splitlines() == [
        f"notice: lr = 0.0001 of {fast} overrides 1e-05 of {shapes}",
        f"notice: lr = 1e-05 of {shapes} overrides 0.0001 of {fast}",
        f"notice: data.sizes = [3] of {run} overrides [1, 2] of {shapes}",
        f'notice: backbone = null of {run} overrides {{"name": "a"}} of {shapes}',
        f"notice: trainer.epochs = 5 of {run} overrides 2 of {fast}",
    ]
    report = json.loads(printed.out)
    assert report["out"] is None
    (config,) = report["configs"]
    assert config["overridden"][-1] == {
        "key": "trainer.epochs",
        "value": 5,
        "file": str(run),
        "overridden_value": 2,
        "overridden_files": [str(fast)],
    }
    assert report["notices"] == [line.removeprefix("notice: ") for line in printed.err.splitlines()]


def test_a_circle_is_refused_with_its_chain(tmp_path, capsys):
    folder = written(
        tmp_path,
        {"a.yaml": "inherits: [b.yaml]\n", "b.yaml": "x: 1\ninherits:\n- c.yaml\n", "c.yaml": "inherits: [b.yaml]\n"},
    )
    assert error_of(capsys, folder / "a.yaml") == (
        f"{folder}/c.yaml:1: inherits in a circle: {folder}/b.yaml → {folder}/c.yaml → {folder}/b.yaml; remove one of "
        "the names"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x: 1\ninherits:\n  - gone.yaml\n", "{path}:3: {folder}/gone.yaml: there is no such file; correct the path"),
        ("- 1\n", "{path}:1: must be a mapping of keys to values, not a list"),
        ("x: {a: 1,\n    a: 2}\n", "{path}:2: the key a stands twice (first in line 1); remove one"),
        (
            "x: 1\ny: !!python/object/apply:os.getcwd []\n",
            "{path}:2: the tag tag:yaml.org,2002:python/object/apply:os.getcwd is not read (a config is data); "
            "remove it",
        ),
        ("x: [1\ny: 2\n", "{path}:2: is no YAML: expected ',' or ']', but got ':'"),
        ("inherits: a.yaml\n", "{path}:1: inherits must be a list of paths, not 'a.yaml'"),
        ("inherits: [{a: 1}]\n", "{path}:1: inherits must list paths, not a mapping"),
        ("x: &x a.yaml\ninherits: [*x]\n", "{path}:2: inherits must be written out, without *a.yaml"),
        ("defaults: [a]\n", "{path}:1: defaults at the top of a config is Hydra's own key; give it another name"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, capsys, text, told):
    path = written(tmp_path, {"one.yaml": text}) / "one.yaml"
    assert error_of(capsys, path) == told.format(path=path, folder=tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "inherits: []\nx: 1\n",
        "{inherits: [base.yaml], x: 2}\n",
        "x: 2\ninherits:\n- base.yaml",
        "---\nx: ${y}\ny: 2020-01-01\n",
        "\ufeffinherits: [base.yaml]\r\nx: 2\r\n",
    ],
)
def test_any_way_to_write_the_list_is_kept(tmp_path, text):
    path = written(tmp_path, {"base.yaml": "x: 1\ny: {z: 1}\n", "one.yaml": text}) / "one.yaml"
    # The command compares what Hydra composes with the files, and fails where they differ.
    assert convert.main(["inherits", str(path), "-o", str(tmp_path / "out")]) == 0
    assert composed(tmp_path / "out", "one")["x"] in (1, 2, "${y}")


def test_nothing_that_is_there_is_overwritten(configs, tmp_path, capsys):
    written(tmp_path / "out", {"datasets/shapes.yaml": "mine: 1\n"})
    assert convert.main(["inherits", str(configs / "runs/run.yaml"), "-o", str(tmp_path / "out")]) == 2
    assert (
        f"{tmp_path}/out/datasets/shapes.yaml is there and holds something else; name another folder, or remove it"
        in capsys.readouterr().err
    )
    assert convert.main(["inherits", str(configs / "runs/run.yaml"), "-o", str(configs)]) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert {name: (configs / name).read_text() for name in FILES} == FILES
