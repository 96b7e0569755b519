"""Published trainings, to start from or to compare with.

  python -m vtg.recipes                             all of them: hardware, hours, published scores
  python -m vtg.recipes timelens_8b_rl              one whole: its settings with their sources, and what belongs to it
  python -m vtg.recipes time_r1_7b --check FOLDER   whether FOLDER (data.root) holds its data, in the published form
  python -m vtg.recipes time_r1_7b --tiny           settings under which it runs on the tiny model, to try its commands

Train with `python train_sft.py experiment=NAME data.root=FOLDER`, or train_rl.py. Exit code 0: done; 1: --check found
rows or videos missing; 2: wrong usage.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from vtg.config.load import conf_dir
from vtg.config.schema import RLConfig, SFTConfig
from vtg.console import stdout_may_close
from vtg.entry import compose_settings
from vtg.errors import ConfigError, RunError
from vtg.recipes.contract import check_contract
from vtg.recipes.published_recipes import RECIPES, Recipe, Score

TINY = {
    "model": "tiny",
    "lora": "tiny",
    "video.max_frames": "16",
    "video.min_pixels": "4096",
    "video.max_pixels": "4096",
    "video.total_pixels": "65536",
    "model.dtype": "auto",
    "model.max_length": "4096",
    "parts.vision": "frozen",
    "parts.projector": "frozen",
    "parts.projector_lr": "null",
    "batching.target_batch_tokens": "0",
    "trainer.max_steps": "2",
    "trainer.per_device_train_batch_size": "2",
    "trainer.gradient_accumulation_steps": "1",
    "trainer.eval_strategy": "no",
    "trainer.save_strategy": "no",
    "trainer.logging_steps": "1",
    "trainer.report_to": "none",
    "evaluation.max_new_tokens": "16",
}
"""Setting → value: the recipe's own rewards, prompt and schedule, on a model, clips and steps that a laptop has."""
TINY_RL = {"rl.num_generations": "4", "rl.max_completion_length": "16"}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _options(argv)
    try:
        with stdout_may_close():
            return _run(options)
        return 0
    except (ConfigError, RunError, OSError) as error:
        print(f"vtg.recipes: error: {error}", file=sys.stderr)
        return 2


def tiny_overrides(recipe: Recipe) -> list[str]:
    """What to add to a recipe's command so that it runs on the tiny model in a few minutes on a CPU."""
    return [f"{key}={value}" for key, value in (TINY | (TINY_RL if is_rl(recipe) else {})).items()]


def is_rl(recipe: Recipe) -> bool:
    return recipe.program == "train_rl.py"


def settings_of(recipe: Recipe, *overrides: str) -> SFTConfig | RLConfig:
    """The settings of a recipe, composed for this machine's number of processes; no file is looked for."""
    words = [f"experiment={recipe.name}", *overrides]
    return compose_settings("rl", words, RLConfig) if is_rl(recipe) else compose_settings("sft", words, SFTConfig)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vtg.recipes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--check", metavar="FOLDER", help="the folder with the data as published (data.root)")
    which.add_argument("--tiny", action="store_true", help="print overrides for a try on the tiny model")
    options = parser.parse_args(argv)
    if options.name is None and (options.check is not None or options.tiny):
        parser.error(f"NAME is missing: --check and --tiny are of one recipe; there are {', '.join(RECIPES)}")
    return options


def _run(options: argparse.Namespace) -> int:
    if options.name is None:
        print(json.dumps([asdict(recipe) for recipe in RECIPES.values()], indent=2) if options.json else _table())
        return 0
    recipe = _named(options.name)
    if options.tiny:
        print(json.dumps(tiny_overrides(recipe)) if options.json else " ".join(tiny_overrides(recipe)))
        return 0
    if options.check is not None:
        contract = check_contract(recipe, settings_of(recipe, f"data.root={json.dumps(options.check)}").data)
        print(
            json.dumps(asdict(contract) | {"holds": contract.holds}, indent=2)
            if options.json
            else "\n".join(contract.lines())
        )
        return 0 if contract.holds else 1
    print(json.dumps(_whole(recipe), indent=2) if options.json else "\n".join(_page(recipe)))
    return 0


def _named(name: str) -> Recipe:
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ConfigError(f"{name}: there is no such recipe; {hint}recipes: {', '.join(RECIPES)}")


def _whole(recipe: Recipe) -> dict[str, Any]:
    return {**asdict(recipe), "settings": asdict(settings_of(recipe))}


def _table() -> str:
    lines = []
    for recipe in RECIPES.values():
        after = f", after {recipe.after}" if recipe.after else ""
        lines.append(f"{recipe.name}: {recipe.title}{after} ({recipe.paper})")
        lines += [f"  {line}" for line in _facts(recipe)]
    lines += [
        "",
        "hours marked estimated: at most, on 8 H200, every clip and completion as long as the settings allow "
        "(vtg/recipes/expected_hours.py)",
        "python -m vtg.recipes NAME shows one whole, with the source of every value",
    ]
    return "\n".join(lines)


def _facts(recipe: Recipe) -> Iterator[str]:
    yield f"trained on: {recipe.hardware}"
    yield f"hours: {recipe.hours:g} ({recipe.hours_are})"
    if not recipe.scores:
        yield "published scores: none found"
    for score in recipe.scores:
        yield f"published: {_score(score)}"


def _score(score: Score) -> str:
    values = ", ".join(f"{metric} {value:.1f}" for metric, value in score.values.items())
    return f"{score.model} on {score.benchmark}: {values}"


def _page(recipe: Recipe) -> Iterator[str]:
    yield f"{recipe.name}: {recipe.title}"
    yield f"paper: {recipe.paper}"
    yield f"values from: {recipe.repository}"
    yield from _facts(recipe)
    yield from dict.fromkeys(f"scores from: {score.source}" for score in recipe.scores)
    data = settings_of(recipe).data
    assert data.annotation_file is not None
    form, _, file = data.annotation_file.partition(":")
    yield f"data: {file.rpartition('/')[2]} in the form {form} (python -m vtg.convert --list), {recipe.rows:,} rows"
    start = f" model.path=outputs/RUN_OF_{recipe.after}" if recipe.after else ""
    yield f"train: python {recipe.program} experiment={recipe.name} data.root=FOLDER{start}"
    budgets = f"'budgets=[{','.join(recipe.budgets)}]'"
    for benchmark in recipe.benchmarks:
        yield f"score: python -m vtg.score checkpoint=outputs/RUN benchmark={benchmark} {budgets}"
    yield f"or: python -m vtg.evaluate PREDICTIONS --annotations TRUTH --preset {recipe.preset}"
    yield ""
    path = conf_dir() / "experiment" / f"{recipe.name}.yaml"
    yield f"conf/experiment/{recipe.name}.yaml:"
    yield from path.read_text(encoding="utf-8").rstrip().split("\n")


if __name__ == "__main__":
    sys.exit(main())
