"""Saves a checkpoint as one plain Hugging Face model, its LoRA adapter merged or alone.

    python -m vtg.export outputs/sft_tiny_demo -o exported
    python -m vtg.export outputs/sft_tiny_demo/checkpoint-200 -o exported --dtype bfloat16
    python -m vtg.export outputs/sft_tiny_demo -o adapter --adapter-only
    python -m vtg.export outputs/sft_tiny_demo -o exported --push me/my-model --private
    python -m vtg.export exported --push me/my-model --dry-run

RUN is a run directory (its best/, else its last checkpoint), a checkpoint folder, an adapter or a model. DIR gets the
weights, the processor with its tokenizer and chat template, set to the frames of the training, vtg.json, frames.py,
which reads a video as the training did, and a README.md with a snippet for transformers. It loads and answers with
transformers alone (and PEFT, of an adapter that is not merged), answers with `python -m vtg.predict checkpoint=DIR`,
and is trained further with `model.path=DIR`.

What was saved is loaded again and compared with the checkpoint: it is not kept if its logits differ by more than
rounding explains, or if transformers alone gives another answer to a small video file than vtg. Merging computes in
float32.

The card tells the scores, data, command and versions of the run that the checkpoint lies in. --push publishes the files
of the export, and no others, on the Hugging Face hub (HF_TOKEN or `hf auth login`); without -o, RUN is a folder that
was exported before. The same command resumes a push that broke off.

Exit code 0: exported; 1: the adapter does not fit its base, the export differs from the checkpoint, DIR cannot be
written, or the hub did not take it; 2: wrong usage, no such checkpoint, no token, or DIR holds something.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtg.console import stdout_may_close
from vtg.errors import ConfigError, RunError

if TYPE_CHECKING:
    from vtg.export.checkpoint_export import ExportedModel


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses, exports, pushes, prints; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.out is None and options.push is None:
        parser.error("the following arguments are required: -o/--out (or --push, for a folder that was exported)")
    for flag in ("private", "revision", "dry_run"):
        if getattr(options, flag) and options.push is None:
            parser.error(f"--{flag.replace('_', '-')} needs --push")
    for flag in ("adapter_only", "base"):
        if getattr(options, flag) and options.out is None:
            parser.error(f"--{flag.replace('_', '-')} needs -o/--out")
    from vtg.export.push import PushTarget, listing
    from vtg.logs import start_logging

    start_logging()
    exported = target = None
    folder = Path(options.out or options.run)
    try:
        with redirect_stdout(sys.stderr):  # DeepSpeed, which Accelerate imports where it is installed, prints there
            if options.push is not None:
                target = PushTarget(options.push, options.revision, options.private)
                target.check_name()
                if not options.dry_run:
                    target.check_access()  # before anything heavy loads: an export takes minutes
            if options.out is not None:
                from vtg.export.checkpoint_export import export_model  # torch loads after --help and wrong usage

                exported = export_model(
                    options.run,
                    folder,
                    dtype=options.dtype,
                    check=options.check,
                    adapter_only=options.adapter_only,
                    base_name=options.base,
                )
            listed = listing(folder) if options.dry_run else ""
            address = target.push(folder) if target and not options.dry_run else None
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (RunError, ValueError, OSError) as error:  # ValueError: PEFT's, of an adapter that does not fit its base
        print(f"error: {error}", file=sys.stderr)
        return 1
    with stdout_may_close():
        # The folder alone on stdout, so that a script can take it as it is; all else went to stderr.
        document = (_document(exported) if exported else {"folder": str(folder)}) | {"pushed": address}
        print(json.dumps(document) if options.json else listed or address or folder)
    return 0


def _document(exported: "ExportedModel") -> dict[str, Any]:
    check = exported.check
    return {
        "folder": str(exported.folder),
        "checkpoint": exported.checkpoint,
        "base": exported.base,
        "dtype": str(exported.dtype).removeprefix("torch."),
        "parameters": exported.parameters,
        "difference": check.difference if check else None,
        "largest_logit": check.scale if check else None,
        "adapter_difference": check.adapter if check else None,
        "answers": exported.answers.document() if exported.answers else None,
    }


def _parser() -> argparse.ArgumentParser:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m vtg.export",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, a checkpoint or adapter folder, or a model")
    parser.add_argument("-o", "--out", metavar="DIR", help="the folder to write: new, or empty")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the saved weights (default: that of the model, or of the adapter's base)",
    )
    parser.add_argument("--adapter-only", action="store_true", help="save the adapter alone, not merged")
    parser.add_argument(
        "--base", metavar="NAME", help="what the adapter's base is called where the export will be used: its hub name"
    )
    parser.add_argument("--no-check", dest="check", action="store_false", help="do not compare what was saved")
    parser.add_argument("--push", metavar="ORG/NAME", help="publish the export on the Hugging Face hub under this name")
    parser.add_argument("--private", action="store_true", help="with --push: only you or your organisation can see it")
    parser.add_argument("--revision", metavar="BRANCH", help="with --push: the branch to push to (default: main)")
    parser.add_argument(
        "--dry-run", action="store_true", help="with --push: list the files and sizes, and send nothing"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
