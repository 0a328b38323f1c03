"""Sinks and the panel, without a browser."""

from __future__ import annotations

import os
import threading
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.core.error_groups import ErrorGroup
from pardspy_nb.core.events import RowFinished, RunFinished, RunStarted, SettingsChanged
from pardspy_nb.display.bar import postfix
from pardspy_nb.display.panel import Panel
from pardspy_nb.display.progress import RunProgress
from pardspy_nb.display.sinks import Watchers

mpl.use("Agg")


QUIET: dict[str, Any] = {"progress": "none", "store": None}


def test_a_sink_that_raises_is_dropped_with_one_warning_and_the_run_goes_on(
    predict: pn.Predict, reviews: list[str]
) -> None:
    calls: list[Any] = []

    def broken(event: Any) -> None:
        calls.append(event)
        raise RuntimeError("no")

    with pytest.warns(RuntimeWarning, match="the run goes on") as caught:
        df = pn.run_parallel(predict, reviews, progress=broken)
    assert len(caught) == len(calls) == 1
    assert (df["status"] == "ok").all()


def test_the_bar_shows_done_failed_tokens_and_cost(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], capsys: Any
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=400) if marker == 3 else Reply()
    pn.run_parallel(predict, reviews, max_failures=1, progress="tqdm")
    shown = capsys.readouterr().err
    assert "12/12" in shown
    assert "failed 1, 198 tokens, $" in shown
    progress = RunProgress()
    assert postfix(progress) == ""


class Recorder:
    """Controls that note what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.max_workers = 4

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def drop_stragglers(self) -> None:
        self.asked.append("drop")

    def cancel(self) -> None:
        self.asked.append("cancel")

    can_retry = True

    def retry_failed(self, error: ErrorGroup) -> None:
        self.asked.append(f"retry {error.error_type}")

    def story(self, group: ErrorGroup) -> str | None:
        self.asked.append(f"story of {group.example}")
        return f"[sent: user] the text of {group.example}"


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a display handle was last updated with."""
    from IPython import display as ipython_display

    class Handle:
        final: Any = None

        def update(self, shown: Any, *, raw: bool = False) -> None:
            if not raw:
                self.final = shown

    handle = Handle()
    monkeypatch.setattr(ipython_display, "display", lambda *a, **k: handle)
    return handle


def test_the_panel_shows_the_state_and_its_buttons_act(handle: Any) -> None:
    controls = Recorder()
    panel = Panel(controls, "background")
    panel.show()
    progress = RunProgress(40)
    for event in (RunStarted(40, 0.0), SettingsChanged(4, False, False, None)):
        progress.add(event)
    panel.update(progress, [])
    assert "Running: 0 of 40 rows" in panel._head.value
    assert panel._buttons["pause"].description == "Pause"
    assert panel._buttons["finish"].disabled, "nothing to compare a straggler with yet"

    panel._buttons["pause"].click()
    progress.add(SettingsChanged(4, True, False, None))
    panel._painted = 0.0
    panel.update(progress, [])
    assert panel._buttons["pause"].description == "Resume"
    panel._buttons["pause"].click()
    panel._buttons["finish"].click()
    panel._buttons["cancel"].click()
    assert controls.asked == ["pause", "resume", "drop", "cancel"]

    workers = []
    for kind in ("more", "more", "fewer", "fewer", "fewer"):
        panel._buttons[kind].click()
        workers.append(controls.max_workers)
    assert workers == [5, 6, 4, 3, 2]

    progress.add(SettingsChanged(4, False, False, "cancelled"))
    panel._painted = 0.0
    panel.update(progress, [])
    assert panel._buttons["pause"].disabled
    assert panel._buttons["cancel"].disabled


def test_a_panel_whose_widgets_were_closed_by_hand_does_not_hurt(handle: Any) -> None:
    panel = Panel(Recorder(), "blocking")
    panel.show()
    for widget in panel._widgets:
        widget.close()
    panel.update(RunProgress(4), [])
    panel.close(RunProgress(4), pn.run_parallel(lambda i: i, [], **QUIET).parallel.summary())


def test_the_panel_repaints_at_its_own_rate_and_closes_for_good(
    handle: Any, mixed: pd.DataFrame
) -> None:
    panel = Panel(Recorder(), "background")
    panel.show()
    progress = RunProgress(4)
    panel.update(progress, [])
    progress.done = 3
    for _ in range(100):
        panel.update(progress, [])
    assert "3 of 4" not in panel._head.value
    summary = mixed.parallel.summary()
    Watchers([panel]).close(progress, summary)
    assert handle.final is summary
    assert all(widget.comm is None for widget in panel._widgets)


def test_a_group_of_errors_opens_to_a_story_and_is_asked_again_once(handle: Any) -> None:
    """Each story is told once, a line keeps its place, and further groups are counted."""
    controls = Recorder()
    panel = Panel(controls, "background")
    progress = RunProgress(40)
    kinds = [f"Kind{chr(65 + i)}" for i in range(10)]
    progress.failures.add("Broken", "no", 7)
    panel.update(progress, [])
    for row in range(5):
        for kind in kinds:
            progress.failures.add(kind, "<b>no</b>", row)
    for _ in range(3):
        panel._painted = 0.0
        panel.update(progress, [])
    lines = list(panel._groups.values())
    assert len(panel._errors.children) == len(lines) == 8
    assert "1 × " in lines[0]._count.value
    assert "the text of 7" in lines[0]._details.value
    assert "<b>no</b>" not in lines[1]._details.value
    assert "and 15 more of other kinds" in panel._rest.value
    assert controls.asked == ["story of 7", *["story of 0"] * 7]
    for _ in range(2):
        lines[0].button.click()
    panel._painted = 0.0
    panel.update(progress, [])
    assert controls.asked[8:] == ["retry Broken"]
    assert lines[0].button.disabled
    assert not lines[1].button.disabled


def test_the_tally_adds_up_what_the_frame_holds(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], fast_retries: None
) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=500) if attempt == 1 and marker % 2 else Reply()
    )
    events: list[Any] = []
    df = pn.run_parallel(predict, reviews, progress=events.append)
    progress = RunProgress()
    for event in events:
        progress.add(event)
        assert progress.in_flight >= 0
    assert (progress.done, progress.ok, progress.backing_off, progress.in_flight) == (12, 12, 0, 0)
    assert progress.usage is not None
    assert progress.usage.total_tokens == df["total_tokens"].sum()
    assert sum(isinstance(e, RowFinished) for e in events) == 12
    assert isinstance(events[-1], RunFinished)


def test_auto_workers_of_a_synchronous_function_are_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    barrier = threading.Barrier(3, timeout=10)

    def meet(i: int) -> int:
        return barrier.wait()

    df = pn.run_parallel(meet, list(range(6)), **QUIET)
    assert df.parallel.metrics.max_in_flight == 3
