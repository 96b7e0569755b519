"""Progress of what takes its time: a bar on a terminal or in a notebook, else a line now and then, from one process of
a run."""

import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar

from tqdm import TqdmWarning, tqdm

from vtg.ranks import is_main_process

# Between two lines where stderr is a file: a day of training is 2,880 of them.
LINE_S = 30.0

T = TypeVar("T")


class ProgressBar:
    """Counts up to `total` (None: unknown) on stderr; the first process of a run alone shows it.

    Args:
        title, unit: what is done, and what is counted, in the singular.
        initial: what was done before.
        leave: keep the bar on the terminal once it is done, and say a last line elsewhere however short it took.
        shown: False for no bar at all.
        line_s: seconds between two lines where there is no terminal.
    """

    def __init__(
        self,
        total: int | None,
        *,
        title: str,
        unit: str,
        initial: int = 0,
        leave: bool = False,
        shown: bool = True,
        line_s: float = LINE_S,
    ) -> None:
        self.total, self.title, self.unit, self.n, self._initial = total, title, unit, initial, initial
        self._notes: dict[str, str] = {}
        # monotonic: a clock that is set anew must not give negative times.
        self._line_s, self._began_s, self._said_s = line_s, time.monotonic(), time.monotonic()
        self._says_end = leave
        self._tqdm: tqdm | None = None
        self._is_open = shown and is_main_process()
        # tqdm redraws one line with carriage returns, which a log file would keep every one of.
        if self._is_open and (sys.stderr.isatty() or _in_notebook()):
            self._tqdm = _tqdm_class()(total=total, initial=initial, desc=title, unit=unit, leave=leave)

    def update(self, count: int = 1) -> None:
        """So many more are done."""
        self.n += count
        if self._tqdm is not None:
            self._tqdm.update(count)
        elif self._is_open and count and time.monotonic() - self._said_s >= self._line_s:
            self._said_s, self._says_end = time.monotonic(), True
            print(self._line(), file=sys.stderr, flush=True)

    def note(self, notes: Mapping[str, str]) -> None:
        """Shows these values, by name, from now on."""
        self._notes = dict(notes)
        if self._tqdm is not None:
            self._tqdm.set_postfix(self._notes)

    def close(self) -> None:
        """Ends the bar, or the lines with a last one. Once is enough."""
        if self._tqdm is not None:
            self._tqdm.close()
        elif self._is_open and self._says_end:
            print(self._line(), file=sys.stderr, flush=True)
        self._tqdm, self._is_open = None, False

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self) -> str:
        passed_s, done = time.monotonic() - self._began_s, self.n - self._initial
        of = "" if self.total is None else f"/{self.total}"
        plural = "" if (self.n if self.total is None else self.total) == 1 else "s"
        parts = [f"{self.title}: {self.n}{of} {self.unit}{plural}", f"{_clock(passed_s)} passed"]
        if self.total is not None and 0 < done < self.total - self._initial:
            parts.append(f"{_clock(passed_s / done * (self.total - self.n))} left")
        parts += [f"{name} {value}" for name, value in self._notes.items()]
        return ", ".join(parts)


def counted(items: Iterable[T], bar: ProgressBar) -> Iterator[T]:
    """The items, each counted once it is done with; ends the bar."""
    with bar:
        for item in items:
            yield item
            bar.update()


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, whose page redraws lines as a terminal does."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def _tqdm_class() -> type[tqdm]:
    """A widget in a notebook that has ipywidgets, else a bar of text."""
    if not _in_notebook():
        return tqdm
    with warnings.catch_warnings():
        # That ipywidgets is missing: the bar of text is as good.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm as any_tqdm
    return any_tqdm


def _clock(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
