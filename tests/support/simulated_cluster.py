"""A cluster on a virtual clock: a real coordinator and workers, a made-up network and endpoint."""

from __future__ import annotations

import asyncio
import random
import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pardspy_nb.core.errors import LMError
from pardspy_nb.core.events import Event, Row, RowFinished, RowStarted, RunFinished
from pardspy_nb.core.options import Options
from pardspy_nb.engine.policies import FailurePolicy
from pardspy_nb.executors.cluster.config import CoordinatorConfig
from pardspy_nb.executors.cluster.coordinator import Coordinator
from pardspy_nb.executors.cluster.link import LinkListener
from pardspy_nb.executors.cluster.messages import Command, Report
from pardspy_nb.executors.cluster.work_queue import RowWorkQueue, WorkItem
from pardspy_nb.executors.cluster.worker_engine import WorkerEngine
from pardspy_nb.modules.module import from_module
from pardspy_nb.testing import VirtualClock


class RefusedError(LMError):
    """503."""

    retryable = overloaded = True


@dataclass
class World:
    """What is made up, and what is counted.

    Attributes:
        latency_s: of one request; the default is a log-normal with a median of 1.2 s, of which one
            in a hundred takes ten times as long and one in a thousand a whole minute.
        faults: share of requests that are refused with 503.
        network_s: of one message between a worker and the run.
        deaths_a_minute: of all worker_processes together; another joins ten seconds later.
    """

    worker_processes: int
    seed: int = 1
    faults: float = 0.0
    network_s: float = 0.005
    join_s: float = 3.0
    deaths_a_minute: float = 0.0
    latency_s: Callable[[random.Random], float] | None = None
    asked: Counter[int] = field(default_factory=Counter)
    starts_s: list[float] = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0
    calls_s: list[tuple[float, float]] = field(default_factory=list)  # begin and end of each
    messages: int = 0
    deaths: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def draw_s(self) -> float:
        if self.latency_s is not None:
            return self.latency_s(self.random)
        taken = self.random.lognormvariate(0.18, 0.45)
        luck = self.random.random()
        return 60.0 if luck < 0.001 else 10 * taken if luck < 0.011 else taken

    async def ask(self, i: int) -> int:
        """The endpoint."""
        loop = asyncio.get_running_loop()
        self.asked[i] += 1
        self.starts_s.append(loop.time())
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        began = loop.time()
        try:
            await asyncio.sleep(self.draw_s())
        finally:
            self.in_flight -= 1
            self.calls_s.append((began, loop.time()))
        if self.random.random() < self.faults:
            raise RefusedError("503")
        return i

    def most_in(self, window_s: float) -> int:
        """Requests that began in the busiest window of so many seconds."""
        times = sorted(self.starts_s)
        return max((bisect_left(times, t + window_s) - i for i, t in enumerate(times)), default=0)


class SimulatedLink:
    """See `coordinator.Link`."""

    def __init__(self, world: World, options: Options, clock: VirtualClock) -> None:
        self.world, self._options, self._clock = world, options, clock
        self._module = from_module(world.ask)
        self._workers: dict[str, WorkerEngine] = {}
        self._dead: set[str] = set()
        self._arrivals: dict[Any, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._names = iter(range(10**9))

    def open(self, coordinator: LinkListener) -> None:
        self._coordinator, self._loop = coordinator, asyncio.get_running_loop()
        for _ in range(self.world.worker_processes):
            self._loop.call_later(self.world.random.uniform(0, self.world.join_s), self._join)
        self._plan_death()

    def _plan_death(self) -> None:
        if self.world.deaths_a_minute:
            wait_s = self.world.random.expovariate(self.world.deaths_a_minute / 60)
            self._loop.call_later(wait_s, self._die)

    def _join(self) -> None:
        name = f"worker-{next(self._names)}"

        def send(report: Report) -> None:
            if name not in self._dead:
                self._deliver((name, "up"), self._coordinator.receive, name, report)

        worker = self._workers[name] = WorkerEngine(
            self._module, self._options, send, clock=self._clock
        )
        self._coordinator.worker_joined(name)
        task = self._loop.create_task(worker.run())
        self._tasks.add(task)

    def _die(self) -> None:
        alive = [name for name in self._workers if name not in self._dead]
        if len(alive) > 1:
            name = self.world.random.choice(alive)
            self.world.deaths += 1
            self._dead.add(name)
            self._workers[name].obey(Command(0, stop="now"))  # no word of it gets out
            self._loop.call_later(0.5, self._coordinator.worker_left, name)
            self._loop.call_later(10, self._join)
        self._plan_death()

    def send(self, worker: str, item: WorkItem) -> None:
        rows = [row_task.row for row_task in item.row_tasks.values()]
        self._deliver((worker, "down"), self._workers[worker].add, rows)

    def command(self, worker: str, command: Command) -> None:
        if worker not in self._dead:
            self._deliver((worker, "down"), self._workers[worker].obey, command)

    def _deliver(self, way: Any, action: Callable[..., None], *args: Any) -> None:
        """After a while that varies, and in order."""
        self.world.messages += 1
        delay_s = self.world.network_s * self.world.random.uniform(0.5, 2.0)
        at = max(self._loop.time() + delay_s, self._arrivals.get(way, 0.0) + 1e-9)
        self._arrivals[way] = at
        self._loop.call_at(at, self._arrive, way[0], action, args)

    def _arrive(self, worker: str, action: Callable[..., None], args: Any) -> None:
        if worker not in self._dead:
            action(*args)

    async def close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass
class Outcome:
    """What came of a simulated run; times are of the virtual clock."""

    world: World
    rows: int
    ok: int
    failed: int
    elapsed_s: float
    workers: int
    reason: str
    ends_s: list[float]

    @property
    def bulk_s(self) -> float:
        """When 99 % of the rows were settled."""
        return statistics.quantiles(self.ends_s, n=100)[98]

    @property
    def use(self) -> float:
        """Requests in flight till then, on average, of those there might be."""
        until = self.bulk_s
        busy_s = sum(max(0.0, min(end, until) - began) for began, end in self.world.calls_s)
        return busy_s / (until * self.workers)


def simulate(
    world: World,
    rows: int,
    *,
    max_workers: int,
    rpm: float | None = None,
    on_event: Callable[[Event, Coordinator], None] | None = None,
    **options: Any,
) -> Outcome:
    """Run so many rows over a world's worker_processes."""
    clock = VirtualClock()
    loop = clock.new_event_loop()
    given = Options.of({"max_failures": None, "store": None, **options})
    counts: Counter[str] = Counter()
    ends: list[float] = []
    settled: set[int] = set()
    end: list[RunFinished] = []

    def emit(event: Event) -> None:
        if isinstance(event, RowFinished):
            assert event.row.number not in settled
            settled.add(event.row.number)
            counts[event.status] += 1
            ends.append(loop.time())
        elif isinstance(event, RunFinished):
            end.append(event)
        elif isinstance(event, RowStarted):
            assert event.row.number not in settled
        if on_event is not None:
            on_event(event, coordinator)

    def source() -> Iterator[Row]:
        return (Row(i, i, 0, {"i": i}) for i in range(rows))

    link = SimulatedLink(world, given, clock)
    failure = FailurePolicy(given.max_failures, given.fail_fast)
    coordinator = Coordinator(
        RowWorkQueue(source(), blocking=False, total=rows),
        link,
        emit,
        CoordinatorConfig(
            total=rows,
            max_workers=max_workers,
            failure=failure,
            rpm=rpm,
            may_hedge=given.hedge is not None,
        ),
        clock=clock,
    )

    async def main() -> None:
        await coordinator.run()
        await link.close()

    loop.run_until_complete(main())
    loop.close()
    return Outcome(
        world,
        rows,
        counts["ok"],
        counts["failed"],
        end[0].elapsed_s,
        max_workers,
        end[0].reason,
        ends,
    )
