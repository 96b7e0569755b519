"""A forked child finds locks free, whatever the parent's threads were doing, and objects reset."""

import subprocess
import sys

LOCK = """
import os, threading, time
from vtg.storage.fork import lock_free_in_children
lock, stop = lock_free_in_children(), threading.Event()
def hold():
    while not stop.is_set():
        with lock:
            time.sleep(0.005)
        time.sleep(0.001)
holder = threading.Thread(target=hold, daemon=True)  # so that a failure below ends the process
holder.start()
for _ in range(50):
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.acquire(timeout=5) else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
holder.join()
assert lock.acquire(timeout=60)
"""

RESET = """
import os
from vtg.storage.fork import reset_in_children
class Held:
    def __init__(self):
        self.what = "the parent's"
        held.add(self)
    def reset(self):
        self.what = "the child's"
held = reset_in_children(Held.reset)
kept, dropped = Held(), Held()
del dropped
child = os.fork()
if child == 0:
    os._exit(0 if kept.what == "the child's" else 1)
assert os.waitpid(child, 0)[1] == 0 and kept.what == "the parent's" and len(held) == 1
"""


# In processes of their own, since hooks of a fork stay for the life of a process.
def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_child_finds_the_lock_free_though_a_thread_of_the_parent_held_it():
    run(LOCK)


def test_a_child_starts_with_objects_that_are_reset_and_the_parent_keeps_its_own():
    run(RESET)
