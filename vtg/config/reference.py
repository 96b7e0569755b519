"""The reference of all settings, from what the schema and conf/ say.

python -m vtg.config.reference > docs/settings.md
"""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from inspect import getdoc
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vtg.config.latents_schema import LatentsConfig
from vtg.config.library_help import RL_HELP, TRAINER_HELP
from vtg.config.load import conf_dir
from vtg.config.programs import DoctorConfig, PredictConfig
from vtg.config.resume import RL_MEANS, TRAINER_MEANS, may_change_on_resume
from vtg.config.schema import RLConfig, RunConfig
from vtg.config.score_settings import BenchmarkConfig, BudgetConfig, ScoreConfig
from vtg.config.setting import dataclass_of, setting_of, settings
from vtg.console import stdout_may_close

# Key, type, default, whether a resume may change it, explanation.
KeyRow = tuple[str, str, str, str, str]

HEAD = """# Settings

Made by `python -m vtg.config.reference > docs/settings.md`; `python train_sft.py --help` shows the values as composed.

Change a setting with `key=value` on the command line (`video.fps=1`), or choose another file of a group in `conf/`
(`video=tiny`). *Default* is what a group's first file says (`conf/video/default.yaml`, `conf/data/jsonl.yaml`, …); the
tiny model, experiments and other choices set some differently. *Resume*: whether a run may resume with another value,
because it learns the same. A run whose other settings differ is another run, in an output_dir of its own.
"""

# Group → its file of defaults, what explains them, what may change on resume, and whose names they are.
LIBRARIES = {
    "trainer": ("trainer/default.yaml", TRAINER_HELP, TRAINER_MEANS, "TrainingArguments of transformers"),
    "rl": ("rl/grpo.yaml", RL_HELP, RL_MEANS, "GRPOConfig of TRL"),
}


def reference(conf: Path) -> str:
    """The page. `conf`: the folder of the shipped configs."""
    parts = [HEAD, *_training(conf), *_latents()]
    own = [entry.name for entry in fields(DoctorConfig) if entry not in fields(RLConfig)]
    parts.append(_section("python -m vtg.doctor", "All settings of the training it looks at, and its own.", ""))
    parts.append(_table(_rows(DoctorConfig, only=own), resumes=False))
    text = (
        "Its data group is that of training. `settings.video`, `settings.task` and `settings.model` override what "
        "stands beside the checkpoint, by the names above (null: as it was trained); `fallback.video`, "
        "`fallback.task` and `fallback.model` are the settings of a model that has none beside it."
    )
    parts.append(_section("python -m vtg.predict", text, ""))
    top = [entry.name for entry in fields(PredictConfig) if setting_of(entry) is not None]
    parts.append(_table(_rows(PredictConfig, only=top), resumes=False))
    text = (
        "`settings` and `fallback` are those of vtg.predict; the frames and pixels of `settings.video` are set by the "
        "budgets (conf/budget/). `benchmark.*` is what a file of conf/benchmark/ says."
    )
    parts.append(_section("python -m vtg.score", text, ""))
    top = [entry.name for entry in fields(ScoreConfig) if setting_of(entry) is not None]
    parts.append(_table(_rows(ScoreConfig, only=top), resumes=False))
    parts.append(_table([(f"benchmark.{key}", *rest) for key, *rest in _rows(BenchmarkConfig)], resumes=False))
    rows = [(key, *rest) for key, *rest in _rows(BudgetConfig)]
    parts.append(_section("budget", _sentence(BudgetConfig), " (conf/budget/)"))
    parts.append(_table(rows, resumes=False))
    return "\n".join(parts)


def _training(conf: Path) -> Iterator[str]:
    yield _section("train_sft.py and train_rl.py", "The run itself; the groups follow.", "")
    yield _table(_rows(RLConfig, only=[entry.name for entry in fields(RLConfig) if entry.name not in LIBRARIES]))
    for entry in fields(RLConfig):
        inner = dataclass_of(entry.type)
        if inner is not None:
            yield _section(entry.name, _sentence(inner), f" (conf/{entry.name}/)")
            yield _table([(f"{entry.name}.{key}", *rest) for key, *rest in _rows(inner, deep=True, prefix=entry.name)])
        elif entry.name in LIBRARIES:
            yield from _library(entry.name, conf)


def _latents() -> Iterator[str]:
    own = [entry for entry in fields(LatentsConfig) if entry not in fields(RunConfig)]
    text = (
        "The run itself, its data and its trainer are set as those of `train_sft.py` (conf/trainer/latents.yaml sets "
        "some differently); it has besides:"
    )
    yield _section("train_latents.py", text, "")
    yield _table(_rows(LatentsConfig, only=[entry.name for entry in own if setting_of(entry) is not None]))
    for entry in own:
        inner = dataclass_of(entry.type)
        if inner is not None:
            yield _section(entry.name, _sentence(inner), f" (conf/{entry.name}/)")
            yield _table([(f"{entry.name}.{key}", *rest) for key, *rest in _rows(inner, deep=True, prefix=entry.name)])


def _library(group: str, conf: Path) -> Iterator[str]:
    file, explained, means, owner = LIBRARIES[group]
    # Only what conf/ sets: the rest is documented by the libraries.
    values = OmegaConf.to_container(OmegaConf.load(conf / file))
    assert isinstance(values, dict)
    yield _section(group, f"{owner}, by their own names; any of them can be set. Those that conf/{file} sets:", "")
    rows = ((f"{group}.{name}", value, explained[name]) for name, value in values.items())
    yield _table((key, type(value).__name__, _value(value), _resume(key), why) for key, value, why in rows)
    yield f"May change on resume: {', '.join(f'`{name}`' for name in sorted(means))}.\n"


def _rows(schema: type, *, only: Iterable[str] | None = None, deep: bool = False, prefix: str = "") -> Iterator[KeyRow]:
    default = schema()
    for key, entry, known in settings(schema):
        name, _, inner = key.partition(".")
        if (inner and not deep) or (only is not None and name not in only):
            continue
        value: Any = default
        for part in key.split("."):
            # A group that is None by default (data.demo) has no values: its fields' own defaults stand in.
            value = getattr(value, part) if is_dataclass(value) else entry.default
        yield key, _type(entry.type), _value(value), _resume(f"{prefix}.{key}".lstrip(".")), known.explanation()


def _section(title: str, text: str, where: str) -> str:
    return f"## {title}{where}\n\n{text}\n"


def _table(rows: Iterable[Iterable[str]], *, resumes: bool = True) -> str:
    lines = [("Setting", "Type", "Default", "Resume", "What it is"), ("---",) * 5]
    # `|` would end a cell of the table, `<` begin an HTML tag.
    lines += [(f"`{key}`", *(cell.replace("|", "\\|").replace("<", "\\<") for cell in rest)) for key, *rest in rows]
    shown = [line if resumes else (*line[:3], *line[4:]) for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in shown)


def _resume(key: str) -> str:
    return "may change" if may_change_on_resume(key) else "fixed"


def _sentence(schema: type) -> str:
    return (getdoc(schema) or "").replace("\n\n", "\n").replace("\n", " ")


def _type(annotation: Any) -> str:
    return annotation.__name__ if annotation in (str, int, float, bool) else str(annotation).replace("typing.", "")


def _value(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def main() -> None:
    """Prints the page."""
    with stdout_may_close():
        sys.stdout.write(reference(conf_dir()))


if __name__ == "__main__":
    main()
