"""Saves a checkpoint as one plain Hugging Face model, its LoRA adapter merged.

    python -m vtg.export outputs/sft_tiny_demo -o exported
    python -m vtg.export outputs/sft_tiny_demo/checkpoint-200 -o exported --dtype bfloat16

RUN is a run directory (its best/, else its last checkpoint), a checkpoint folder, an adapter or a model. DIR gets the
weights, the processor with its tokenizer and chat template, set to the frames of the training, vtg.json, frames.py,
which reads a video as the training did, and a README.md with a snippet for transformers. It loads and answers with
transformers alone, answers with `python -m vtg.predict checkpoint=DIR`, and is trained further with `model.path=DIR`.

What was saved is loaded again and compared with the checkpoint: it is not kept if its logits differ by more than
rounding explains, or if transformers alone gives another answer to a small video file than vtg. Merging computes in
float32.

Exit code 0: exported; 1: the adapter does not fit its base, the export differs from the checkpoint, or DIR cannot be
written; 2: wrong usage, no such checkpoint, or DIR holds something.
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
    """Parses, exports, prints; returns the exit code."""
    options = _parser().parse_args(arguments)
    from vtg.export.checkpoint_export import export_model  # torch and transformers load after --help and wrong usage
    from vtg.logs import start_logging

    start_logging()
    try:
        with redirect_stdout(sys.stderr):  # DeepSpeed, which Accelerate imports where it is installed, prints there
            exported = export_model(options.run, Path(options.out), dtype=options.dtype, check=options.check)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (RunError, ValueError, OSError) as error:  # ValueError: PEFT's, of an adapter that does not fit its base
        print(f"error: {error}", file=sys.stderr)
        return 1
    with stdout_may_close():
        # The folder alone on stdout, so that a script can take it as it is; all else went to stderr.
        print(json.dumps(_document(exported)) if options.json else exported.folder)
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
    parser.add_argument("-o", "--out", metavar="DIR", required=True, help="the folder to write: new, or empty")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the saved weights (default: that of the model, or of the adapter's base)",
    )
    parser.add_argument("--no-check", dest="check", action="store_false", help="do not compare what was saved")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
