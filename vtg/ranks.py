"""Which process of a run this is."""

import os


def is_main_process() -> bool:
    """Whether this is rank 0, which writes files and logs for all."""
    # From the environment, which launchers set: asked before torch is imported, and before there is a process group.
    return int(os.environ.get("RANK", "0")) == 0
