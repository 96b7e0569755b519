import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from vtg.video.memory_cache import RecentlyUsed


@pytest.fixture
def memory() -> RecentlyUsed[str, bytes]:
    return RecentlyUsed(10, size=len)


def full(count: int) -> bytes:
    return bytes(count)


def test_a_value_that_comes_again_is_the_same_object_and_not_made_again(memory):
    value = memory.get("a", lambda: full(4))
    assert memory.get("a", pytest.fail) is value
    assert memory.take_counts() == {"made": 1, "hits": 1} and memory.take_counts() == {}


def test_the_least_recently_used_value_leaves_first_and_the_bytes_stay_bounded(memory):
    a, b = memory.get("a", lambda: full(4)), memory.get("b", lambda: full(5))
    assert memory.values() == [a, b] and memory.held_bytes == 9
    memory.get("a", pytest.fail)
    memory.get("c", lambda: full(3))
    assert memory.values() == [full(4), full(3)] and memory.held_bytes == 7
    memory.get("d", lambda: full(10))
    assert memory.values() == [full(10)] and memory.held_bytes == 10


def test_a_value_larger_than_the_memory_is_given_and_leaves_the_others(memory):
    memory.get("a", lambda: full(4))
    for _ in range(2):
        assert len(memory.get("b", lambda: full(11))) == 11
    assert memory.values() == [full(4)] and memory.held_bytes == 4
    assert memory.take_counts() == {"made": 3}


def test_one_call_makes_all_that_is_missing_and_what_is_left_out_is_asked_for_again(memory):
    asked: list[list[str]] = []

    def make(keys: list[str]) -> dict[str, bytes]:
        asked.append(keys)
        return {key: full(1) for key in keys if key != "never"}

    assert memory.get_many(["b", "a", "b", "never"], make) == {"a": full(1), "b": full(1)}
    assert memory.get_many(["a", "c", "never"], make).keys() == {"a", "c"}
    assert memory.get_many([], make) == {}
    assert asked == [["b", "a", "never"], ["c", "never"]]
    assert memory.take_counts() == {"made": 3, "hits": 1}


def test_threads_that_want_one_value_at_once_make_it_once(memory):
    start, slow = threading.Barrier(8), threading.Event()

    def ask(_: int) -> bytes:
        start.wait()
        return memory.get("a", lambda: slow.wait(0.2) or full(11))  # too large to be kept: the others must wait

    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(ask, range(8)))
    assert len({id(value) for value in values}) == 1
    assert memory.take_counts() == {"made": 1, "hits": 7}


def test_threads_whose_values_overlap_make_the_rest_at_the_same_time(memory):
    first_is_in, both_are_in = threading.Event(), threading.Barrier(2)

    def make(keys: list[str]) -> dict[str, bytes]:
        first_is_in.set()
        both_are_in.wait(5)
        return {key: full(1) for key in keys}

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(memory.get_many, ["a", "b"], make)
        assert first_is_in.wait(5)
        second = pool.submit(memory.get_many, ["a", "c"], make)
        assert first.result(5).keys() == {"a", "b"} and second.result(5).keys() == {"a", "c"}
    assert memory.take_counts() == {"made": 3, "hits": 1}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_thread_whose_maker_fails_makes_the_values_itself(memory, error):
    entered, leave = threading.Event(), threading.Event()

    def fail(_: list[str]) -> dict[str, bytes]:
        entered.set()
        leave.wait(5)
        raise error("lost")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(memory.get_many, ["a"], fail)
        assert entered.wait(5)
        second = pool.submit(memory.get_many, ["a", "b"], lambda keys: {key: full(1) for key in keys})
        leave.set()
        with pytest.raises(error, match="lost"):
            first.result(5)
        assert second.result(5) == {"a": full(1), "b": full(1)}
    assert memory.get("a", pytest.fail) == full(1)


def test_an_error_reaches_every_thread_and_does_not_stick(memory):
    start, slow = threading.Barrier(8), threading.Event()

    def fail() -> bytes:
        slow.wait(0.1)
        raise OSError("lost")

    def ask(_: int) -> str:
        start.wait()
        with pytest.raises(OSError, match="lost"):
            memory.get("a", fail)
        return "told"

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == ["told"] * 8
    assert memory.get("a", lambda: full(2)) == full(2)
    assert memory.values() == [full(2)] and memory.held_bytes == 2


def test_what_several_threads_make_after_a_failure_is_kept_once(memory):
    start, both = threading.Barrier(3), threading.Barrier(2)

    def fail() -> bytes:
        start.wait(5)
        threading.Event().wait(0.2)  # for the others to come
        raise OSError("lost")

    def make_again() -> bytes:
        both.wait(5)  # neither is done before the other has begun
        return full(2)

    def ask(make: Callable[[], bytes]) -> bytes:
        start.wait(5)
        return memory.get("a", make)

    with ThreadPoolExecutor(3) as pool:
        failing = pool.submit(memory.get, "a", fail)
        others = [pool.submit(ask, make_again) for _ in range(2)]
        with pytest.raises(OSError, match="lost"):
            failing.result(5)
        assert [other.result(5) for other in others] == [full(2)] * 2
    assert memory.values() == [full(2)] and memory.held_bytes == 2
    assert memory.take_counts() == {"made": 2}


def test_the_books_stay_right_under_threads(memory):
    start = threading.Barrier(8)

    def ask(worker: int) -> None:
        start.wait()
        for at in range(300):
            length = (worker + at * at) % 7
            assert len(memory.get(str(length), lambda length=length: full(length))) == length

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert memory.held_bytes == sum(map(len, memory.values())) <= 10
    assert memory.take_counts().total() == 8 * 300


def _in_child(memory: RecentlyUsed[str, bytes], answers) -> None:
    kept = len(memory.values())
    for key in ("kept", "made", "booked"):
        memory.get(key, lambda: full(1))
    answers.put((kept, memory.held_bytes, dict(memory.take_counts())))


def test_a_forked_process_starts_empty_and_waits_for_nobody():
    making, booking, leave = threading.Event(), threading.Event(), threading.Event()

    def slow() -> bytes:
        making.set()
        leave.wait(20)
        return full(3)

    def size(value: bytes) -> int:
        if len(value) == 2:  # called while the lock is held
            booking.set()
            leave.wait(20)
        return len(value)

    memory: RecentlyUsed[str, bytes] = RecentlyUsed(10, size=size)
    memory.get("kept", lambda: full(1))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(memory.get, "made", slow)
        assert making.wait(5)
        pool.submit(memory.get, "booked", lambda: full(2))
        assert booking.wait(5)
        child = context.Process(target=_in_child, args=(memory, answers))
        child.start()
        try:
            assert answers.get(timeout=10) == (0, 3, {"made": 3})
        finally:
            leave.set()
            child.kill()
            child.join(10)
    assert memory.held_bytes == 6
