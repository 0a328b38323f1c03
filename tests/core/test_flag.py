"""An event that an interrupt cannot break."""

from __future__ import annotations

import ctypes
import threading
import time

from pardspy_nb.core.threads import Flag


def test_it_is_an_event() -> None:
    flag = Flag()
    assert not flag.is_set()
    assert not flag.wait(0.01)
    flag.set()
    flag.set()
    assert flag.wait()
    assert flag.wait(0)
    flag.clear()
    flag.clear()
    assert not flag.wait(0.01)
    waiting = [threading.Thread(target=flag.wait) for _ in range(5)]
    for thread in waiting:
        thread.start()
    flag.set()
    for thread in waiting:
        thread.join(5)
        assert not thread.is_alive()


def test_interrupts_at_any_moment_leave_no_lock_taken() -> None:
    """A thread that waits and clears is interrupted hundreds of times; others go on."""
    flag, over = Flag(), False

    def wait() -> None:
        while not over:
            try:
                while not over:
                    flag.wait(0.001)
                    flag.clear()
            except KeyboardInterrupt:
                pass

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    until = time.monotonic() + 1.0
    n = 0
    while time.monotonic() < until:
        raise_in(ctypes.c_ulong(waiter.ident or 0), ctypes.py_object(KeyboardInterrupt))
        flag.set()  # would block for ever on a lock that was left taken
        n += 1
    over = True
    waiter.join(5)
    assert not waiter.is_alive()
    assert n > 100
