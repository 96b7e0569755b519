"""Eight clients for a minute: no error, and the server's memory stays what it is. `VTG_SOAK_S=180` for three."""

import base64
import os
import re
import signal
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from forked import Program
from served import ask

SOAK_S = float(os.environ.get("VTG_SOAK_S", "60"))
CLIENTS = 8


def resident_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1000


def requests(videos: list[Path]) -> list[tuple[dict[str, Any], int]]:
    """Requests of all kinds, and the status that each is answered with."""

    def asked(url: str, **more: Any) -> dict[str, Any]:
        part = {"type": "video_url", "video_url": {"url": url}}
        text = [] if "vtg" in more else [{"type": "text", "text": "a red square"}]
        return {"model": "tiny", "messages": [{"role": "user", "content": [part, *text]}], **more}

    def data(content: bytes) -> str:
        return f"data:video/mp4;base64,{base64.b64encode(content).decode()}"

    several = {"queries": ["a red square", "the ball", "nothing"]}
    return [
        *((asked(str(video)), 200) for video in videos),
        (asked(str(videos[0]), vtg=several), 200),
        (asked(data(videos[1].read_bytes())), 200),
        (asked(data(videos[2].read_bytes()), stream=True), 200),
        (asked(data(b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")), 400),
        (asked(data(b"no video")), 400),
        (asked("/etc/passwd"), 403),
    ]


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_many_clients_for_a_while_cost_no_error_and_no_memory(demo_dir: Path) -> None:
    program = Program("vtg.serve", "tiny", "--port", "0", "--device", "cpu", "--allow-dir", str(demo_dir))
    pid = program.processes[0].pid
    assert pid is not None
    try:
        told = None
        while told is None:
            assert program.processes[0].is_alive()
            time.sleep(0.1)
            if program.streams[0].is_file():
                told = re.search(r"^(http://\S+) answers for tiny", program.streams[0].read_text(), re.M)
        url, plan = f"{told[1]}/chat/completions", requests(sorted(demo_dir.rglob("*.mp4")))
        began, counts, memory_mb = time.monotonic(), Counter[str](), list[float]()

        def client(number: int) -> None:
            at = number
            while time.monotonic() < began + SOAK_S:
                document, status = plan[at % len(plan)]
                answer = ask(url, document)
                counts["right" if answer.status == status else f"{answer.status}: {answer.body}"] += 1
                at += 1
                if number == 0:
                    memory_mb.append(resident_mb(pid))

        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(client, range(CLIENTS)))
    finally:
        program.send_signal(signal.SIGTERM)
        done = program.ended(timeout_s=60)
    third = len(memory_mb) // 3
    middle, end = (statistics.median(memory_mb[at:][:third]) for at in (third, 2 * third))
    print(f"{counts['right']} answers in {SOAK_S:g} s, {memory_mb[0]:.0f}, {middle:.0f}, {end:.0f} MB")
    assert counts.keys() == {"right"}, counts
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert end < middle + 25
