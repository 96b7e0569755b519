"""What a forked child needs: locks that are free, and objects that hold nothing of the parent's."""

import os
import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

Member = TypeVar("Member")


def lock_free_in_children() -> threading.Lock:
    """A lock that no forked child finds taken. For the life of the process, so for module-level locks only."""
    lock = threading.Lock()
    # A child forked while another thread holds it would find it taken for ever: the fork waits for the lock.
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


def reset_in_children(reset: Callable[[Member], None]) -> "weakref.WeakSet[Member]":
    """A set to which objects add themselves; a forked child calls `reset` with each that is still there."""
    members: weakref.WeakSet[Member] = weakref.WeakSet()

    def after_in_child() -> None:
        # A copy, since the collector may drop members meanwhile.
        for member in list(members):
            reset(member)

    os.register_at_fork(after_in_child=after_in_child)
    return members
