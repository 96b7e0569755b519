"""Where the log lines of vtg's programs go."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from vtg.ranks import is_main_process


def start_logging(level: int = logging.INFO) -> None:
    """Sends vtg's log lines to stderr, from rank 0 alone, and quiets libraries. Imports transformers."""
    import transformers

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("vtg").setLevel(level if is_main_process() else logging.ERROR)
    _ignore_deprecations()
    # LLM.int8() warns in every layer of every forward that it rounds its inputs, which is what it is for.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # PyTorch's advice against more workers than cores, at each loader's start: ours also wait for disks and stores.
    warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@contextmanager
def deprecations_ignored() -> Iterator[None]:
    """Without transformers' own in this block alone: the filters of a user's program are not ours to change."""
    with warnings.catch_warnings():
        _ignore_deprecations()
        yield


def _ignore_deprecations() -> None:
    # Of transformers' own functions, which a user of vtg can do nothing about.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
