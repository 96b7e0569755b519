"""How a Hydra program of vtg starts: where its configs are, what its arguments mean, how it fails."""

import atexit
import gc
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vtg.config.help import explained
from vtg.config.launcher import set_deepspeed_default
from vtg.config.load import conf_dir, load_config, typed
from vtg.config.own_data import check_filled_in, unknown_choice
from vtg.config.quoting import quoted
from vtg.config.sweep import SweptRun
from vtg.config.unknown import RL_ONLY, check_choice, check_flags, check_no_group, unknown_key
from vtg.console import print_any_text, stdout_may_close
from vtg.errors import ConfigError, JointRunError, RunError
from vtg.ranks import is_main_process

SchemaT = TypeVar("SchemaT")

OPEN_KEYS = r"(trainer|rl|data\.sources|data\.groups)\.[\w.-]+="
"""Words of the command line whose keys conf/ need not have."""


def hydra_program(
    config_name: str,
    *,
    schema: type,
    job: Callable[[Any], None],
    text_keys: Sequence[str] = (),
    after_sweep: Callable[[Sequence[SweptRun]], None] | None = None,
) -> None:
    """Composes `config_name` with the command line's overrides, checks it as `schema`, and runs `job` on it.

    The values of `text_keys` are taken as they are, whatever commas, quotes or brackets are in them; so is a value that
    is the name of a file or folder. In a multirun of one process a job that fails does not end the sweep; `after_sweep`
    is given what became of each.

    Exits with 2 and one line on a setting that cannot be, or a file that may not be read or written, with 1 on a
    `RunError`, with 130 on Ctrl-C; other errors of `job` are raised.
    """
    print_any_text()
    try:
        sys.argv[1:] = _arguments(sys.argv[1:], schema, text_keys)
    except ConfigError as error:
        _end(2, str(error))
    swept: list[SweptRun] = []
    failures: list[int] = []
    config_path, sys.argv[1:] = _own_folder_first(sys.argv[1:])
    set_deepspeed_default(sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach the handlers below; by default Hydra prints them and exits
    composed = False

    @hydra.main(version_base="1.3", config_path=config_path, config_name=config_name)
    def program(cfg: DictConfig) -> None:
        nonlocal composed
        composed = True
        _part_sweep_outputs(cfg)
        is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        # The ranks of a run would part ways over an error that one of them has.
        goes_on = is_sweep and os.environ.get("WORLD_SIZE", "1") == "1"
        said = ""
        try:
            check_filled_in(cfg)
            with _denied_files_named():
                job(load_config(cfg, schema))
        except (ConfigError, RunError) as error:  # ends here: Hydra prints a line of its own about errors that reach it
            if isinstance(error, JointRunError) and not is_main_process():
                sys.exit(1)  # all ranks end with this error: rank 0 prints it for all
            said, code = str(error), 2 if isinstance(error, ConfigError) else 1
            if not goes_on:
                _end(code, said)
            print(f"error: {said}", file=sys.stderr)
            failures.append(code)
        finally:
            if is_sweep:
                said = said or _in_words(sys.exception())
                swept.append(SweptRun(Path(cfg.output_dir), tuple(HydraConfig.get().overrides.task), said))

    try:
        if {"--help", "-h"} & set(sys.argv[1:]):
            _show_help(program, schema)
        else:
            program()
    except KeyboardInterrupt:
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:  # lora=null is a ValueError
        if composed:
            raise
        _end(2, _explain(error, schema))
    finally:
        if len(swept) > 1 and after_sweep is not None:
            after_sweep(swept)
    if failures:
        sys.exit(failures[0])


def compose_settings(
    config_name: str, overrides: Sequence[str], schema: type[SchemaT], *, checked: bool = False
) -> SchemaT:
    """The settings that a Hydra program would get from these overrides, for a command that is none.

    Args:
        checked: as the program checks them; else values are not checked beyond their types, and no file is looked for.

    Raises:
        ConfigError: as the program would, for what cannot be composed.
    """
    words = _arguments(list(overrides), schema, ())
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = hydra.compose(config_name, overrides=words)
    except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
        raise ConfigError(_explain(error, schema)) from None
    return load_config(composed, schema) if checked else typed(composed, schema)


def config_folders() -> list[Path]:
    """The folders that a running program's configs come from, the user's `--config-dir` first."""
    return [Path(one.path) for one in HydraConfig.get().runtime.config_sources if one.schema == "file"]


def chosen(group: str) -> str:
    """Which of a group's files a running program took."""
    return str(HydraConfig.get().runtime.choices[group])


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Around slow imports: prints what is loaded, and keeps the garbage collector off the objects they make."""
    if is_main_process():
        print(f"loading {what}", file=sys.stderr, flush=True)
    # torch and transformers make half a million objects that stay. Collections meanwhile are a fifth of the time of
    # these imports (a third on a busy machine), and every later full collection would go through them again.
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # bindings complain at the end of what was never freed


def _show_help(program: Callable[[], Any], schema: type) -> None:
    shown = io.StringIO()
    with redirect_stdout(shown), suppress(SystemExit):  # with which Hydra ends its help
        program()
    with stdout_may_close():
        print(explained(shown.getvalue(), schema), end="")


@contextmanager
def _denied_files_named() -> Iterator[None]:
    """Raises a ConfigError in place of a PermissionError that names its file or folder."""
    try:
        yield
    except PermissionError as error:
        if error.filename is None:
            raise
        raise ConfigError(f"{error.filename}: {error.strerror}; check the path and its permissions") from error


def _end(code: int, message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _in_words(error: BaseException | None) -> str:
    """Why a job ends with this error; empty without one."""
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return f"stopped (exit code {error.code if isinstance(error, SystemExit) else 130})"
    return "" if error is None else f"{type(error).__name__}: {error}"


def _arguments(argv: list[str], schema: type, text_keys: Sequence[str]) -> list[str]:
    """The words for Hydra: without the `--local_rank` that launchers append, with `--resolve` beside `--cfg`, with `++`
    before keys of `trainer` and `rl`, and of what a mixture names, and with values in quotes that need them.

    Raises:
        ConfigError: for a flag that is none, or a group that is given what is no name of a choice.
    """
    kept = [word for word in argv if not re.fullmatch(r"--local[-_]rank(=\d+)?", word)]
    check_flags(kept, schema)
    choices = _choices(kept)
    for word in kept:
        group = word.partition("=")[0]
        if word.startswith("="):
            raise ConfigError(f"{word}: names no key; settings are given as KEY=VALUE")
        if "=" in word and group in choices and group not in text_keys:
            check_choice(word, choices[group])
        elif "=" in word and group not in choices:
            check_no_group(word, schema)
    if any(re.fullmatch(r"(--cfg|-c)(=.*)?", word) for word in kept) and "--resolve" not in kept:
        kept.append("--resolve")  # what would run, names that follow from others included
    # `++`: Hydra refuses keys that no yaml has, and conf/ lists few of the names of TrainingArguments and GRPOConfig,
    # and none of a user's sources.
    kept = [f"++{word}" if re.match(OPEN_KEYS, word) else word for word in kept]
    return [quoted(word, text_keys=text_keys) for word in kept]


def _own_folder_first(argv: list[str]) -> tuple[str, list[str]]:
    """The folder to take configs from, and the arguments: files of `--config-dir DIR` win over shipped ones.

    Hydra would look into DIR last, and a data/my_dataset.yaml there would never be read.
    """
    shipped, (given, at, rest) = str(conf_dir()), _own_folder(argv)
    if given is None:
        return shipped, argv
    if not Path(given).is_dir() or not given:
        _end(2, f"--config-dir {given}: no such folder (looked in {Path.cwd()}); check the path")
    return os.path.abspath(given), [*argv[:at], "--config-dir", shipped, *rest]


def _own_folder(argv: Sequence[str]) -> tuple[str | None, int, Sequence[str]]:
    """The user's folder of configs, if one is given: its name, where its flag stands, and the words after both."""
    for at, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            return (value, at, argv[at + 1 :]) if equals else ("".join(argv[at + 1 : at + 2]), at, argv[at + 2 :])
    return None, len(argv), ()


def _choices(argv: Sequence[str]) -> dict[str, set[str]]:
    """The choices of every group, the user's own (`--config-dir`) among them."""
    own, _, _ = _own_folder(argv)
    choices: dict[str, set[str]] = {}
    for folder in (conf_dir(), *([Path(own)] if own else [])):
        for file in folder.glob("*/*.yaml"):
            choices.setdefault(file.parent.name, set()).add(file.stem)
    return choices


def _part_sweep_outputs(cfg: DictConfig) -> None:
    """In a multirun every job writes to a folder of its own, named after its overrides."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode != RunMode.MULTIRUN:
        return
    overrides = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)  # one may be key=${other.key}
    assert isinstance(overrides, list)
    names = {override.split("=")[0] for override in overrides}
    if not names & {"run_name", "output_dir"}:
        # Outside of this set, `/` in a value would make folders, and `*` or quotes trouble in a shell.
        part = re.sub(r"[^\w.=,+-]+", "_", hydra_config.job.override_dirname).replace("++", "")
        cfg.output_dir = f"{cfg.output_dir}/{part}"


def _explain(error: Exception, schema: type) -> str:
    """Hydra's error in one line; keys and choices that are not there get the nearest that are."""
    text = str(error)
    unknown = re.search(r"Could not override '([\w.]+)'", text)
    chosen = re.match(r"In '(\w+)/(\w+)'", text)
    if unknown and chosen and unknown.group(1) in RL_ONLY:
        return f"{chosen[1]}={chosen[2]}: is for train_rl.py: it sets {unknown.group(1)}, which this program has not"
    if unknown:
        return unknown_key(unknown.group(1), schema)
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return unknown_choice(group, choice, error.options, shipped=conf_dir())
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        said = [line for line in text.splitlines() if not line.startswith(("Error parsing override", "See "))]
        hint = f"""give a text with such characters in quotes: "{key}='{value}'\""""
        return f"{error.override}: cannot be read as KEY=VALUE ({said[0].strip()}); {hint}"
    lines = text.strip().split("\n\n")[0].splitlines()
    cause = f" ({str(error.__cause__).splitlines()[0]})" if error.__cause__ else ""
    return ": ".join(line.strip() for line in lines if not line.startswith("See ")) + cause
