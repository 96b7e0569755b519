"""`vtg <command> [arguments]`, the same as `python -m vtg.<command> [arguments]`."""

import difflib
import importlib
import importlib.util
import sys

from vtg.versions import versions

COMMANDS = {
    "sft": "supervised fine-tuning of a Qwen-VL model",
    "rl": "reinforcement learning with GRPO on TRL",
    "future": "a predictor of what an encoder of video will see next",
    "predict": "a model's answers for a video, or for a file of queries",
    "evaluate": "scores of predictions against annotations",
    "score": "a checkpoint on a published benchmark, at published budgets of input",
    "serve": "a checkpoint behind an endpoint of OpenAI's chat protocol",
    "report": "one HTML page for a run, or for several compared",
    "app": "a page in the browser: ask about a video, see the moment and play it",
    "recipes": "published trainings: their settings with sources, scores, hardware and hours",
    "export": "a checkpoint as a plain Hugging Face model, its adapter merged",
    "doctor": "what a model will read of a data set, what it costs, and what is wrong",
    "download": "published data sets: rows, checked and resumed, and where their videos are",
    "inspect": "what is in a video, an annotation file, a folder of videos or a data set",
    "annotate": "rows for videos by a vision-language model behind an endpoint",
    "latents": "where events begin and end by an encoder of video, and how well long futures are predicted",
    "convert": "annotations as benchmarks publish them, as JSONL rows",
    "validate": "every problem of annotation files, by line",
}
"""The modules of this package that are commands, and what each does."""


def main() -> None:
    """Runs the command's own `main` with the arguments after its name; exits with 2 for a name that is none."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(_usage())
        return
    if name in ("--version", "-V"):
        for package, version in versions().items():
            print(f"{package:<14}{version or 'not installed'}")
        return
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        print(f"error: {name}: there is no such command; {hint}commands: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"vtg {name}", *arguments]
    found = importlib.util.find_spec(f"vtg.{name}")
    assert found is not None, name
    in_a_folder = found.submodule_search_locations is not None
    sys.exit(importlib.import_module(f"vtg.{name}.__main__" if in_a_folder else f"vtg.{name}").main())


def _usage() -> str:
    lines = (f"  {name:<10}{does}" for name, does in COMMANDS.items())
    ends = ("", "vtg COMMAND --help says more about one; vtg --version tells the versions of vtg and its libraries.")
    return "\n".join(("usage: vtg COMMAND [arguments]", "", *lines, *ends))


if __name__ == "__main__":
    main()
