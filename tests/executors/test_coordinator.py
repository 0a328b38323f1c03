"""A coordinator and its workers on a virtual clock: many processes, exact times, no waiting."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from support.simulated_cluster import World, simulate

from pardspy_nb.core.errors import InvalidOutputError, RateLimitError
from pardspy_nb.core.events import Event, Row, RowFinished
from pardspy_nb.core.options import Options
from pardspy_nb.executors.cluster.coordinator import Coordinator
from pardspy_nb.executors.cluster.messages import (
    Command,
    Report,
    report_as_bytes,
    report_from_bytes,
)
from pardspy_nb.executors.cluster.worker_engine import WorkerEngine
from pardspy_nb.modules.module import from_module
from pardspy_nb.testing import VirtualClock


@pytest.mark.slow
def test_a_thousand_sites_hold_what_one_machine_holds() -> None:
    """`max_workers` to the last, every row once."""
    world = World(1000)
    outcome = simulate(world, 12_000, max_workers=3000)
    assert (outcome.ok, outcome.reason) == (12_000, "done")
    assert world.max_in_flight == 3000
    assert set(world.asked.values()) == {1}
    assert sum(world.asked.values()) == 12_000


@pytest.mark.slow
def test_sites_that_die_cost_only_what_they_had_in_flight() -> None:
    """A death every three seconds: nothing is lost, and little is asked twice."""
    world = World(60, deaths_a_minute=20, seed=4)
    outcome = simulate(world, 4000, max_workers=240)
    assert world.deaths > 5
    assert outcome.ok == 4000
    asked_again = sum(world.asked.values()) - 4000
    # a share of four or so, and what was answered in the last moment and not yet told
    assert 0 < asked_again <= world.deaths * 8
    assert world.max_in_flight <= 240 + 8  # of the dead nobody knows for a moment


def test_a_limit_a_minute_is_that_of_all_sites() -> None:
    """From the first second on, and what is allowed is used."""
    world = World(40, latency_s=lambda luck: 0.2)
    outcome = simulate(world, 1500, max_workers=200, rpm=3000)
    assert outcome.ok == 1500
    for window_s in (1.0, 5.0, 20.0):
        assert world.most_in(window_s) <= 50 * (window_s + 1.0)
    assert outcome.elapsed_s < 1500 / 50 * 1.1 + world.join_s


def test_steering_reaches_every_site() -> None:
    """Paused for ten seconds, then with half the workers."""
    at: dict[str, float] = {}
    world = World(10, latency_s=lambda luck: 1.0, join_s=0.1)

    def steer(event: Event, coordinator: Coordinator) -> None:
        if isinstance(event, RowFinished) and event.row.number == 100 and not at:
            at["pause"] = coordinator._loop.time()
            coordinator.controls.pause()
            coordinator._loop.call_later(10, coordinator.controls.resume)
            coordinator._loop.call_later(10, coordinator.controls.set_workers, 20)

    outcome = simulate(world, 600, max_workers=40, on_event=steer)
    assert outcome.ok == 600
    pause = at["pause"]
    assert not [t for t in world.starts_s if pause + 0.1 < t < pause + 10]
    late = [t for t in world.starts_s if t > pause + 12]
    busiest = max(sum(t <= s < t + 0.99 for s in late) for t in late)
    assert busiest <= 20 + 2  # a second's worth at 20 in flight, and the network


def test_too_many_failures_stop_all_sites() -> None:
    world = World(20, faults=1.0, latency_s=lambda luck: 1.0, join_s=0.1)
    outcome = simulate(world, 2000, max_workers=40, max_failures=10, max_attempts=1)
    assert outcome.reason == "failures"
    assert 11 <= outcome.failed <= 10 + 40
    assert sum(world.asked.values()) <= 10 + 2 * 40


def test_an_older_command_does_not_take_back_the_end() -> None:
    """The end of a run reaches a worker by another way than its commands, which may be late."""
    clock = VirtualClock()
    reports: list[Report] = []
    loop = clock.new_event_loop()
    worker = WorkerEngine(from_module(World(1).ask), Options(), reports.append, clock=clock)
    worker.obey(Command(0, stop="now"))
    worker.obey(Command(4))
    loop.run_until_complete(worker.run())
    assert reports[-1].over
    assert loop.time() < 1.0  # not when it has heard nothing for a minute
    loop.close()


def test_a_run_whose_sites_are_all_gone_ends() -> None:
    """After a minute without any; what is done is kept."""
    world = World(1, latency_s=lambda luck: 1.0, join_s=0.1)

    def end_of_the_world(event: Event, coordinator: Coordinator) -> None:
        if isinstance(event, RowFinished) and event.row.number == 9:
            coordinator._loop.call_soon(coordinator.worker_left, "worker-0")

    outcome = simulate(world, 50, max_workers=5, on_event=end_of_the_world)
    assert outcome.reason == "cluster"
    assert 10 <= outcome.ok < 20
    assert 60 < outcome.elapsed_s < 75


def test_errors_go_over_the_wire_as_they_are() -> None:
    """What decides about a retry survives, whatever class it was."""

    class Odd(Exception):
        retryable = True

        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")

    told = [
        RateLimitError("slow down", retry_after_s=3.0),
        InvalidOutputError("no", text="said"),
        Odd(1, 2),
        KeyError("x"),
    ]
    events = [
        RowFinished(Row(0, 0, 0, {}), "failed", None, e, 1, 1.0, 1.0, 1.0, 1.0, None) for e in told
    ]
    back = report_from_bytes(report_as_bytes(Report(events)))
    errors: list[Any] = [event.error for event in back.events]  # type: ignore[union-attr]
    assert [type(e).__name__ for e in errors] == [type(e).__name__ for e in told]
    assert [str(e) for e in errors] == [str(e) for e in told]
    assert (errors[0].retry_after_s, errors[1].text) == (3.0, "said")
    assert errors[2].retryable
    pickle.dumps(errors[2].args)
