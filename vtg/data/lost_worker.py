"""What to tell of a DataLoader worker that was killed."""

import re

# torch raises a plain RuntimeError for it: its text is all there is to tell it by.
LOST_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)", re.S)


def worker_lost(message: str) -> str | None:
    """The message for a user, without its advice, of a RuntimeError about a lost data worker; None of any other."""
    worker = LOST_WORKER.search(message)
    if worker is None:
        return None
    how = " ".join(worker[2].split())[:200]
    killed = "The system kills the process that takes most memory when there is none left"
    return f"data worker {worker[1]} {how}\n{killed}"
