"""What latents of an encoder of video tell of videos.

  python -m vtg.latents boundaries VIDEO|FOLDER|ROWS.jsonl ... [--run RUN] [-o SPANS.jsonl]
      where events begin and end: where a predictor of latents is most wrong
  python -m vtg.latents rollout RUN VIDEO|FOLDER|ROWS.jsonl ... [--ahead-s 12]
      futures longer than a predictor was trained on, scored by seconds ahead
  python -m vtg.latents probe RUN | --train ROWS.jsonl --test ROWS.jsonl
      grounding by frozen latents alone: cheap references for the scores of a model

Each has a --help. `train_latents.py` trains predictors.
"""

import sys

from vtg.latents.boundaries import boundaries_command
from vtg.latents.probe import probe_command
from vtg.latents.rollouts import rollout_command

COMMANDS = {"boundaries": boundaries_command.main, "rollout": rollout_command.main, "probe": probe_command.main}


def main(argv: list[str] | None = None) -> int:
    """Runs one of `COMMANDS`; returns its exit code, 2 for a name that is none."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: python -m vtg.latents {'|'.join(COMMANDS)} ...\n\n{(__doc__ or '').strip()}")
        return 0
    if name not in COMMANDS:
        print(f"error: {name}: must be {' or '.join(COMMANDS)}; --help says what they do", file=sys.stderr)
        return 2
    return COMMANDS[name](arguments)


if __name__ == "__main__":
    sys.exit(main())
