"""Resolving a path to a checkpoint, and the settings stored beside its weights.

`vtg.json` holds the settings that the model's sense of time depends on (sampling, pixels, prompt, answer form) and the
base model of an adapter, so that evaluation, prediction and serving give it the inputs of training.

Its `format` is raised by one whenever an earlier reader would misunderstand what is written from then on: a new setting
that changes the model's inputs, or one with another meaning. Readers take every format up to their own: whoever raises
it also has `read_settings` translate older files. A file without a number has format 0.
"""

import json
import os
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vtg import __version__
from vtg.config.model_settings import ModelConfig
from vtg.config.task_settings import TaskConfig
from vtg.config.video_settings import VIDEO_MEANS, VideoConfig
from vtg.errors import ConfigError
from vtg.models.families import FAMILIES, known_types
from vtg.storage.json_files import write_json

SETTINGS_FILE = "vtg.json"

ADAPTER_FILE = "adapter_config.json"
"""Of an adapter of PEFT, which alone has it."""

# Of vtg.json; see above for when it is raised.
FORMAT = 3


@dataclass(frozen=True)
class Settings:
    """The settings a checkpoint was trained with; `model.path` is the base model where the checkpoint is an adapter."""

    model: ModelConfig
    video: VideoConfig
    task: TaskConfig


def save_settings(settings: Settings, folder: str | os.PathLike[str]) -> None:
    """Writes `vtg.json` into `folder`, without the settings of this machine (`VIDEO_MEANS`)."""
    values = asdict(settings)
    values["video"] = {key: value for key, value in values["video"].items() if key not in VIDEO_MEANS}
    write_json(Path(folder) / SETTINGS_FILE, {"format": FORMAT, "vtg": __version__} | values)


def read_settings(folder: str | os.PathLike[str]) -> Settings | None:
    """The settings of a checkpoint folder, or None where it has none (a plain Hugging Face model).

    Settings of the machine (`VIDEO_MEANS`) are never taken from it.

    Raises:
        ConfigError: for a file of a newer format, or one that is no settings.
    """
    path = Path(folder) / SETTINGS_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        check_format(values, FORMAT, path)
        # Anyone may have written the file: these name folders to write into, and to delete from by size.
        video = {key: value for key, value in values["video"].items() if key not in VIDEO_MEANS}
        # Up to format 1 they said what was trained, which whoever loads the weights need not know.
        model = {key: value for key, value in values["model"].items() if not key.startswith("freeze_")}
        # Up to format 2 it wrote them in tokens that were there: such a model answers otherwise than it is read now.
        if values["task"]["answer"] == "tokens" and values.get("format", 0) < 3:
            raise ConfigError(
                f"{path}: the checkpoint writes times as the text <12>, which task=tokens did before its tokens were "
                "added to the vocabulary; train again with task=tokens or task=bins"
            )
        if values["task"].get("selection") == "first":  # as `fixed` was also called
            values["task"]["selection"] = "fixed"
        return Settings(ModelConfig(**model), VideoConfig(**video), TaskConfig(**values["task"]))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}: not the settings of a vtg checkpoint ({error}); train again or remove the file"
        ) from None


def check_format(document: dict[str, Any], known: int, path: Path) -> None:
    """Raises ConfigError where a file is of a later format than `known`; one without a number is of format 0."""
    if document.get("format", 0) > known:
        wrote = document.get("vtg")
        newer = f"pip install 'vtg>={wrote}'" if wrote else "install a newer vtg"
        raise ConfigError(
            f"{path}: is of format {document['format']}, written by vtg {wrote or 'of a later version'}; vtg "
            f"{__version__} reads up to format {known}; {newer}"
        )


def resolve_checkpoint(path: str) -> str:
    """The folder or hub name of the weights `path` means: `tiny`, a run directory (its best/, else its last
    checkpoint), a checkpoint folder, a model folder, or a hub name.

    Raises:
        ConfigError: for a folder without weights, and for what looks like a missing folder.
    """
    if path == "tiny":
        return str(Path(__file__).parents[1] / "demo" / "tiny_qwen3_vl")
    folder = Path(path)
    if not folder.is_dir():
        # A hub name has one slash at most: anything else would end in a confusing error of the hub client.
        if path.startswith((".", "/", "~", "outputs")) or path.count("/") > 1:
            if folder.exists():
                raise ConfigError(f"model path {path!r}: is a file; give the folder of a model or a run")
            raise ConfigError(f"model path {path!r}: no such folder (looked in {Path.cwd()}); check the path")
        return path
    if has_weights(folder):
        return path
    if has_weights(folder / "best"):
        return str(folder / "best")
    last = last_checkpoint(folder)
    if last is None:
        raise ConfigError(f"model path {path!r}: holds neither a model nor best/ nor checkpoint-*/; train first")
    return str(last)


def check_model_type(path: str, model_type: object) -> None:
    """Raises ConfigError for a `model_type` (of config.json) that vtg was not tested with."""
    # A family that is told times otherwise would train without an error, and answer wrong times.
    if model_type not in (known := known_types()):
        supported = ", ".join(f"{name} ({title})" for name, title in known.items())
        raise ConfigError(
            f"model {path!r} is of the type {model_type!r}, with which vtg was not tried: it may be told wrong times "
            f"without a word; supported types: {supported}"
        )
    family = next(family for family in FAMILIES.values() if model_type in family.model_types)
    here, needed = version("transformers"), family.transformers
    if needed is not None and tuple(map(int, here.split(".")[:2])) < needed:
        needs = "transformers >= {}.{}".format(*needed)
        raise ConfigError(
            f"model {path!r} is a {family.title}, which needs {needs}, and this is {here}; "
            f"pip install -e . -c env/constraints.txt"
        )


def base_model(config: ModelConfig) -> ModelConfig:
    """`config` with the path of a full model: that of the base model where `config.path` is an adapter."""
    where = resolve_checkpoint(config.path)
    if is_adapter(where):
        return replace(config, path=adapter_base(where))
    return config


def resolve_base(path: str) -> str:
    """The folder or hub name of the weights of `path`; of an adapter, those of its base model."""
    where = resolve_checkpoint(path)
    return resolve_checkpoint(adapter_base(where)) if is_adapter(where) else where


def is_adapter(folder: str) -> bool:
    """Whether a folder holds an adapter, and not a model of its own."""
    return (Path(folder) / ADAPTER_FILE).is_file()


def adapter_base(folder: str) -> str:
    """The path of the model the adapter in `folder` was trained on, as its training run named it."""
    settings = read_settings(folder)
    if settings is not None:
        return settings.model.path
    return json.loads((Path(folder) / ADAPTER_FILE).read_text(encoding="utf-8"))["base_model_name_or_path"]


def has_weights(folder: Path) -> bool:
    """Whether `folder` is a model or an adapter that `from_pretrained` can read."""
    return (folder / ADAPTER_FILE).is_file() or (
        (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    )


def last_checkpoint(run_dir: Path) -> Path | None:
    """The newest complete checkpoint-N of a run directory."""
    # trainer_state.json is the last file that the Trainer writes.
    whole = [folder for folder in run_dir.glob("checkpoint-*") if (folder / "trainer_state.json").is_file()]
    # By number: names sort checkpoint-1000 before checkpoint-200.
    return max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
