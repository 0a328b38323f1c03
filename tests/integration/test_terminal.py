"""The text bar on a terminal's screen, and its lines in a log."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pyte

ASYNC = """
import asyncio
import pardspy_nb as pn
from tqdm import tqdm
async def nap(i):
    await asyncio.sleep(0.002)
    return i
"""


def screen_after(program: str) -> list[str]:
    """The lines that a person has on the screen once the program is done."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    screen = pyte.Screen(100, 24)
    stream = pyte.ByteStream(screen)
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    try:
        while data := os.read(ours, 4096):
            stream.feed(data)
    except OSError:  # the program's end closes the terminal
        pass
    process.wait(20)
    os.close(ours)
    return [line.rstrip() for line in screen.display if line.strip()]


def test_a_run_is_one_clean_bar() -> None:
    lines = screen_after(ASYNC + "print(len(pn.run_parallel(nap, list(range(300)))))")
    assert len(lines) == 2
    assert "300/300" in lines[0]
    assert "100%" in lines[0]
    assert lines[1] == "300"


def test_bars_of_the_user_s_own_stay_intact() -> None:
    """Runs inside a loop with a bar: ours comes below it, and makes room when it is done."""
    lines = screen_after(
        ASYNC
        + """
for _ in tqdm(range(3), desc="mine"):
    pn.run_parallel(nap, list(range(200)))
print("end")
"""
    )
    assert len(lines) == 2
    assert lines[0].startswith("mine: 100%")
    assert "3/3" in lines[0]
    assert lines[1] == "end"


def test_a_log_has_whole_lines_and_few() -> None:
    program = ASYNC + "pn.run_parallel(nap, list(range(500)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "\r" not in done.stderr
    assert "500/500" in done.stderr
