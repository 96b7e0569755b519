"""Which strings of a file were there before, in constant memory."""

import mmap


class FirstSeen:
    """The line on which a string first occurred, for the first `LIMIT` distinct ones, in a table of fixed size (24 MB).

    Strings are told apart by 64-bit hashes: a million of them hold a false match with a chance of about 1 in 10^7.
    """

    # Half full at most, so that open addressing ends its probes after a slot or two.
    SLOTS = 1 << 21
    LIMIT = 1 << 20

    def __init__(self) -> None:
        # Anonymous maps take memory only where they are written: a small file costs next to nothing.
        self._hashes = memoryview(mmap.mmap(-1, 8 * self.SLOTS)).cast("q")
        self._lines = memoryview(mmap.mmap(-1, 4 * self.SLOTS)).cast("I")
        self.count = 0

    def line_of(self, text: str, line: int) -> int:
        """The earlier line that held `text`; 0 if there is none, or if the table is full."""
        key, hashes = hash(text) or 1, self._hashes  # 0 marks a free slot
        slot = key & (self.SLOTS - 1)
        while seen := hashes[slot]:
            if seen == key:
                return self._lines[slot]
            slot = (slot + 1) & (self.SLOTS - 1)
        if self.count < self.LIMIT:
            hashes[slot], self._lines[slot] = key, line & 0xFFFFFFFF
            self.count += 1
        return 0
