"""A size-bounded LRU cache in memory for values that are expensive to make, shared by threads."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from vtg.storage.fork import reset_in_children

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Pending:
    """Values that one thread is making and others wait for. `made` stays None where that failed."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.made: Mapping[Any, Any] | None = None


class RecentlyUsed(Generic[Key, Value]):
    """Values by key, as many of the most recently used ones as fit into `limit_bytes`.

    Safe under threads: one that wants a value that another is making waits for it; values are made without holding the
    lock. A forked process starts with an empty cache.

    Args:
        limit_bytes: what the kept values may take together. A value larger than that is returned and not kept.
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
        values: dict[Key, Value] = {}
        awaited: dict[Key, _Pending] = {}
        mine: list[Key] = []
        pending = _Pending()
        try:
            with self._lock:
                for key in dict.fromkeys(keys):
                    if key in self._values:
                        self._values.move_to_end(key)
                        values[key] = self._values[key]
                    elif key in self._being_made:
                        awaited[key] = self._being_made[key]
                    else:
                        mine.append(key)
                        self._being_made[key] = pending
            if mine:
                pending.made = self._make(mine, make)
        finally:
            # Also where `make` raised, else the waiting threads would wait for ever.
            with self._lock:
                for key in mine:
                    self._being_made.pop(key, None)
            pending.done.set()
        # Own values are published before others' are awaited, so no two threads can wait for each other.
        for other in set(awaited.values()):
            other.done.wait()
        values |= {key: other.made[key] for key, other in awaited.items() if other.made and key in other.made}
        with self._lock:
            self._counts["hits"] += len(values)
        values |= pending.made or {}
        if failed := [key for key, other in awaited.items() if other.made is None]:
            # Not their error: it may be the other caller's alone, such as a time limit or an interrupt.
            values |= self._make(failed, make)
        return values

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
        self._being_made: dict[Key, _Pending] = {}
        self._held = 0
        self._counts: Counter[str] = Counter()


# In a child a lock that another thread held stays locked for ever, and what that thread was making is never made.
_memories = reset_in_children(RecentlyUsed[Any, Any]._start_empty)
