"""The documentation: links lead somewhere, commands can be typed, settings and paths exist, examples run."""

import argparse
import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from vtg.config.arguments import rl_names, trainer_names
from vtg.config.latents_schema import LatentsConfig
from vtg.config.load import conf_dir
from vtg.config.programs import DoctorConfig, PredictConfig
from vtg.config.schema import RLConfig, SFTConfig
from vtg.config.score_settings import ScoreConfig
from vtg.config.setting import settings
from vtg.entry import compose_settings

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "env/README.md", "env/BOUNDS.md")),
        *(ROOT / "benchmarks").glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`\n]+)`")
PROGRAMS = {
    "train_sft.py": ("sft", SFTConfig),
    "train_rl.py": ("rl", RLConfig),
    "train_latents.py": ("latents", LatentsConfig),
    "vtg.doctor": ("doctor", DoctorConfig),
    "vtg.predict": ("predict", PredictConfig),
    "vtg.score": ("score", ScoreConfig),
}
"""Programs whose arguments are settings, their primary config and its schema."""

GROUPS = frozenset(path.name for path in conf_dir().iterdir() if path.is_dir())
OTHER_PROGRAMS = (
    "pip",
    "python3",
    "python",
    "docker",
    "mkdocs",
    "sbatch",
    "conda",
    "pre-commit",
    "vtg",
    "deepspeed",
    ".",
)
WRITTEN_BY_THE_READER = ("standin.py", "rows.py", "ground.py")
"""Scripts of the tutorials."""

SUFFIXES = ("py", "yaml", "json", "jsonl", "md", "mp4", "csv", "png", "html")
"""What follows a dot in the name of a file, and is no setting."""


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """The text of a page without its blocks of code."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def slug(heading: str) -> str:
    """The anchor that GitHub and mkdocs give a heading."""
    plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return plain.strip().replace(" ", "-")


def anchors(path: Path) -> set[str]:
    return {slug(found) for found in re.findall(r"^#+ (.*)$", prose(path), re.M)}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_to_a_file_and_an_anchor_that_are_there(page):
    wrong = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong, f"{page_id(page)}: {', '.join(wrong)}"


def test_every_page_of_the_docs_can_be_reached_from_readme():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall(prose(ROOT / "README.md"))}
    index = ROOT / "docs" / "index.md"
    linked |= {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(index))}
    assert not [page_id(path) for path in (ROOT / "docs").glob("*.md") if path not in {*linked, index}]


def test_readme_is_short_and_tells_of_gpus_on_its_first_screen():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 900 <= len(text.split()) <= 1100
    assert "Runs on a GPU: what was seen there" in "".join(text.splitlines(keepends=True)[:50])


def commands(page: Path) -> list[str]:
    """Every command of a page's sh blocks, continued lines joined and comments left out."""
    blocks = [text for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind == "sh"]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    parts = [re.sub(r"(^|\s)#.*", "", part).strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part]


COMMANDS = [pytest.param(line, id=f"{page_id(page)}: {line[:60]}") for page in PAGES for line in commands(page)]


class Parsed(Exception):
    """The arguments of a command are in order."""


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands end as soon as their arguments are parsed."""
    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)

        def ends(self, args=None, namespace=None, parse=parse):
            parse(self, args, namespace)
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, name, ends)


def program_of(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The script or module of the repository that a command starts, under whatever launcher, and its arguments."""
    for at, word in enumerate(words):
        if word == "-m" and words[0] == "python" and words[at + 1].startswith("vtg."):
            return words[at + 1], list(words[at + 2 :])
        if word.endswith(".py") and words[0] in ("python", "torchrun", "deepspeed", "accelerate"):
            return word, list(words[at + 1 :])
    return None, []


def check_overrides(program: str, arguments: Sequence[str], own_data: Sequence[str]) -> None:
    """Composes the settings that a program would get. `data=` choices that a page has the reader write are left out."""
    name, schema = PROGRAMS[program]
    words = [word for word in arguments if not word.startswith(("--", "hydra"))]
    words = [word for word in words if word.removeprefix("data=") not in own_data]
    words = (
        [re.sub(r"^video=(.*)|^query=(.*)", r"query='\1\2'", word) for word in words] if name == "predict" else words
    )
    if "--multirun" in arguments:
        words = [re.sub(r"=([^\[{'\"]*?),.*", r"=\1", word) for word in words]
    compose_settings(name, words, schema)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_the_docs_can_be_typed(line, parse_only):
    words = shlex.split(line)
    program, arguments = program_of(words)
    if program is None:
        assert words[0] in OTHER_PROGRAMS or (ROOT / words[0]).is_file(), line
    elif program in PROGRAMS:
        check_overrides(program, arguments, own_data=("shapes",))
    elif program.startswith("vtg."):
        main = f"{program}.__main__" if find_spec(program).submodule_search_locations else program
        with pytest.raises(Parsed):
            importlib.import_module(main).main(arguments)
    elif (ROOT / program).is_file():
        source = (ROOT / program).read_text(encoding="utf-8")
        flags = [word.partition("=")[0] for word in arguments if word.startswith("--")]
        assert not [flag for flag in flags if f'"{flag}"' not in source], line
    else:
        assert program in WRITTEN_BY_THE_READER, line


SCHEMAS = (RLConfig, DoctorConfig, PredictConfig, ScoreConfig, LatentsConfig)


def test_every_setting_and_choice_that_the_docs_name_exists():
    known = {key for schema in SCHEMAS for key, *_ in settings(schema)}
    known |= {key[: dot.start()] for key in known for dot in re.finditer(r"\.", key)}
    known |= {f"trainer.{name}" for name in trainer_names()} | {f"rl.{name}" for name in rl_names()}
    wrong = []
    for page in PAGES:
        for text in INLINE.findall(prose(page)):
            for group, choices in re.findall(r"(?<![\w.])([a-z_]+)=((?:[a-z][\w]*)(?:, ?[a-z]\w*)*)", text):
                is_group = group in GROUPS and not (group == "video" and "vtg.predict" in text)
                if is_group and not (conf_dir() / group / f"{choices}.yaml").is_file():
                    wrong.append(f"{page_id(page)}: {group}={choices}")
            for group, name in re.findall(r"(?<![\w./-])([a-z_]+)\.([a-z]\w*)(?![\w/(])", text):
                if group in GROUPS and name not in SUFFIXES and f"{group}.{name}" not in known:
                    wrong.append(f"{page_id(page)}: {group}.{name}")
    assert not wrong, "\n".join(wrong)


def messages() -> str:
    """Every text of the package, with a newline for each part that varies."""
    texts = []
    for path in sorted((ROOT / "vtg").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "\n" for part in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[.\d]*[sdrg]", "\n", node.value))
    return "\n".join(texts)


def test_the_messages_that_troubleshooting_quotes_are_those_of_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [
        text for line in re.findall(r"^- (\*\*`.*)$", page, re.M) for text in re.findall(r"\*\*`([^`]+)`\*\*", line)
    ]
    assert len(quoted) > 30
    code = messages()
    parts = [part.strip(" ;:,()") for text in quoted for part in text.split("…")]
    wrong = [part for part in parts if len(part) > 3 and part not in code]
    assert not wrong, "\n".join(wrong)


def test_every_file_and_folder_of_the_repository_that_the_docs_name_is_there():
    wrong = []
    for page in PAGES:
        named = re.findall(r"(?<![\w/.])(?:vtg|tests|env|benchmarks)/[\w./]*\w/?", page.read_text(encoding="utf-8"))
        wrong += [f"{page_id(page)}: {name}" for name in named if not (ROOT / name).exists()]
    assert not wrong, "\n".join(wrong)


def test_architecture_lists_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = {f"vtg/{path.name}/" for path in (ROOT / "vtg").iterdir() if (path / "__init__.py").is_file()}
    assert not folders - set(INLINE.findall(text))


def test_the_site_builds_without_a_warning(tmp_path):
    if find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "What fits" in (tmp_path / "site" / "memory.html").read_text(encoding="utf-8")
    assert 'href="benchmarks.html' in (tmp_path / "site" / "batches.html").read_text(encoding="utf-8")
