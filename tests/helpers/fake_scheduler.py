"""A scheduler in the test's own process: what its client would do and answer, and a clock that nobody waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlxp_core.scheduler import client
from mlxp_core.scheduler.base import NativeJob, QueueQuery, Scheduler


@dataclass
class Clock:
    """Time that passes when somebody sleeps, in the place of a module's ``time``."""

    now: float = 1_800_000_000.0
    slept: list[float] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Call:
    """One call of the submit command."""

    scheduler: str
    script: Path
    extra: tuple[str, ...]
    directory: Path | None
    limit: float

    @property
    def text(self) -> str:
        return self.script.read_text()

    @property
    def runs(self) -> list[str]:
        """Names of the runs that it is for."""
        return [Path(line).name for line in self.script.with_name("manifest").read_text().splitlines()]


@dataclass
class FakeClient:
    """The commands of schedulers: submissions are numbered from 1, unless there is something else to do about one."""

    calls: list[Call] = field(default_factory=list)
    does: dict[int, Any] = field(default_factory=dict)  # by the number of the call: an exception, or a function
    queue: list[Any] = field(default_factory=list)  # an answer for each question: jobs or an exception; the last stays
    questions: list[QueueQuery] = field(default_factory=list)
    array_limit: int | None = None

    def submit(
        self,
        scheduler: Scheduler,
        script: Path,
        *,
        extra: Sequence[str] = (),
        directory: Path | None = None,
        limit: float,
    ) -> str:
        self.calls.append(Call(scheduler.name, script, tuple(extra), directory, limit))
        what = self.does.get(len(self.calls))
        if isinstance(what, BaseException):
            raise what
        if what is not None:
            what(self.calls[-1])
        return str(len(self.calls))

    def query(self, scheduler: Scheduler, how: object, what: QueueQuery, *, limit: float) -> list[NativeJob]:
        self.questions.append(what)
        answer = self.queue.pop(0) if len(self.queue) > 1 else self.queue[0] if self.queue else []
        if isinstance(answer, BaseException):
            raise answer
        return list(answer)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
        monkeypatch.setattr(client, "submit", self.submit)
        monkeypatch.setattr(client, "query", self.query)
        monkeypatch.setattr(client, "array_limit", lambda _, limit: self.array_limit)
        return self
