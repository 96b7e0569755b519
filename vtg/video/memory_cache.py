"""A memory of bounded size for values that are dear to make, shared by threads."""

import os
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Making:
    """Values that one thread makes and others wait for. `made` stays None where that failed."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.made: Mapping[Any, Any] | None = None


class RecentlyUsed(Generic[Key, Value]):
    """Values by key, as many of the most recently used ones as fit into `limit_bytes`.

    Safe under threads: who wants a value that another thread is making waits for it. Values are made unlocked. A forked
    process starts empty, and waits for nobody.

    Args:
        limit_bytes: what the kept values may take together. A value larger than that is given out and not kept.
        size: bytes of a value.
    """

    def __init__(self, limit_bytes: int, *, size: Callable[[Value], int]) -> None:
        self.limit_bytes, self._size = limit_bytes, size
        self._start_empty()
        _memories.add(self)

    @property
    def held_bytes(self) -> int:
        """What the kept values take, at most `limit_bytes`."""
        return self._held

    def values(self) -> list[Value]:
        """The kept values, the least recently used one first."""
        with self._lock:
            return list(self._values.values())

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of `key`, made where it is not kept. What `make` raises is as in `get_many`."""
        return self.get_many([key], lambda _: {key: make()})[key]

    def get_many(self, keys: Iterable[Key], make: Callable[[list[Key]], Mapping[Key, Value]]) -> dict[Key, Value]:
        """The values of `keys`, in any order; those that are neither kept nor being made come from one call of `make`.

        `make` may leave keys out: they are left out here too, and made when they are next asked for. What it raises
        reaches its own caller alone; threads that waited for it call their own `make`, and get what that raises.
        """
        found: dict[Key, Value] = {}
        awaited: dict[Key, _Making] = {}
        mine: list[Key] = []
        making = _Making()
        try:
            with self._lock:
                for key in dict.fromkeys(keys):
                    if key in self._values:
                        self._values.move_to_end(key)
                        found[key] = self._values[key]
                    elif key in self._being_made:
                        awaited[key] = self._being_made[key]
                    else:
                        mine.append(key)
                        self._being_made[key] = making
            if mine:
                making.made = self._make(mine, make)
        finally:
            with self._lock:
                for key in mine:
                    self._being_made.pop(key, None)
            making.done.set()
        # Own values are out before others' are waited for, so no two threads can wait for each other.
        for other in set(awaited.values()):
            other.done.wait()
        found |= {key: other.made[key] for key, other in awaited.items() if other.made and key in other.made}
        with self._lock:
            self._counts["hits"] += len(found)
        found |= making.made or {}
        if failed := [key for key, other in awaited.items() if other.made is None]:
            found |= self._make(failed, make)
        return found

    def take_counts(self) -> Counter[str]:
        """Values since the last call, in this process: `hits` (kept, or made by another thread meanwhile), `made`."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        return +taken

    def _make(self, keys: list[Key], make: Callable[[list[Key]], Mapping[Key, Value]]) -> Mapping[Key, Value]:
        made = make(keys)
        with self._lock:
            self._counts["made"] += len(made)
            for key, value in made.items():
                self._keep(key, value)
        return made

    def _keep(self, key: Key, value: Value) -> None:
        size = self._size(value)
        # Several threads may have made it, where the first to try failed.
        if key in self._values or size > self.limit_bytes:
            return
        self._values[key] = value
        self._held += size
        while self._held > self.limit_bytes:
            _, oldest = self._values.popitem(last=False)
            self._held -= self._size(oldest)

    def _start_empty(self) -> None:
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._being_made: dict[Key, _Making] = {}
        self._held = 0
        self._counts: Counter[str] = Counter()


_memories: "weakref.WeakSet[RecentlyUsed[Any, Any]]" = weakref.WeakSet()


def _after_fork() -> None:
    """In the child a lock that another thread held stays locked for ever, and what it was making is never made."""
    for memory in list(_memories):
        memory._start_empty()


os.register_at_fork(after_in_child=_after_fork)
