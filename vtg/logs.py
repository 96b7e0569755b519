"""Where the log lines of vtg's programs go."""

import logging
import sys
import warnings

from vtg.ranks import is_main_process


def start_logging(level: int = logging.INFO) -> None:
    """Sends vtg's log lines to stderr, from rank 0 alone, and quiets libraries. Imports transformers."""
    import transformers

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("vtg").setLevel(level if is_main_process() else logging.ERROR)
    # Of transformers' own deprecations, which a user of vtg can do nothing about.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
