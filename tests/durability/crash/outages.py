"""What is no crash: a process that is stopped, a server that dies, a cut network."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import Connection

from adk_oban.embedded import EmbeddedPostgres

from . import kills, snapshot
from .effects import effects
from .points import instrumented, points
from .process import fork, output, wait
from .proxy import Proxy
from .rig import Rig, searching
from .verdict import Crashed, Reference, Verdict, judge
from .visit import await_end, enqueue
from .zoo import Kind

MODES = ("zombie", "server dies", "network cut", "network hangs")
LOCK_TIMEOUT = 1.5  # seconds
_PHASES = (
    "before model",
    "after tool",
    "before journal",
    "after journal",
    "before commit",
    "after commit",
)


def chosen_points(reference: Reference) -> list[int]:
    """Return one point of each sort, in the middle of the job where there are many."""
    found = []
    for phase in _PHASES:
        numbers = [n for n, at in enumerate(reference.points) if at.startswith(phase)]
        found.append(numbers[len(numbers) // 2])
    return found


def disturb(
    kind: Kind, mode: str, rig: Rig, reference: Reference, numbers: list[int]
) -> list[Verdict]:
    """Disturb a kind's job at these points in one of the `MODES`.

    `rig` is of a server that the other harnesses use; one that dies is its own.
    """
    if mode == "zombie":
        return [_zombie(kind, rig, reference, number) for number in numbers]
    with _network(rig) as network:
        method = {
            "server dies": network.server_dies,
            "network cut": network.is_cut,
            "network hangs": network.hangs,
        }[mode]
        return [method(kind, mode, reference, number) for number in numbers]


def _zombie(kind: Kind, rig: Rig, reference: Reference, number: int) -> Verdict:
    """A worker is stopped until another one has done its job, and then goes on."""
    rig.clear()
    stopped = fork(
        lambda: asyncio.run(_work(kind, rig, number, _stop)), _folder(rig, "stopped")
    )
    _await_stop(stopped)
    job = _job(rig.conn)
    other = wait(
        fork(lambda: asyncio.run(_other(kind, rig, job)), _folder(rig, "other"))
    )
    os.kill(stopped, signal.SIGCONT)
    said = [
        _said("other", other, rig),
        _said("stopped", wait(stopped), rig),
    ]
    return _judged(kind, "zombie", rig, reference, number, job, said)


@dataclass(slots=True)
class _Network:
    """A server of its own, and a proxy before it."""

    rig: Rig
    data: Path
    server: EmbeddedPostgres
    proxy: Proxy

    def server_dies(
        self, kind: Kind, mode: str, reference: Reference, number: int
    ) -> Verdict:
        """The server dies without a word, and comes again on the same data."""
        return self._meanwhile(kind, mode, reference, number, self._restart)

    def is_cut(
        self, kind: Kind, mode: str, reference: Reference, number: int
    ) -> Verdict:
        """All connections break, and there are none for a while."""

        def cut() -> None:
            self.proxy.cut()
            self._go()
            _for(0.5)
            self.proxy.start()

        return self._meanwhile(kind, mode, reference, number, cut)

    def hangs(
        self, kind: Kind, mode: str, reference: Reference, number: int
    ) -> Verdict:
        """Nothing comes through until another worker has done the job."""

        def hang() -> None:
            self.proxy.hang()
            self._go()
            direct = replace(self.rig, dsn=self._direct())
            job = _job(self.rig.conn)
            folder = _folder(self.rig, "other")
            other = wait(fork(lambda: asyncio.run(_other(kind, direct, job)), folder))
            self.proxy.go_on()
            assert other == 0, output(folder)

        return self._meanwhile(kind, mode, reference, number, hang)

    def _meanwhile(
        self,
        kind: Kind,
        mode: str,
        reference: Reference,
        number: int,
        happens: Callable[[], None],
    ) -> Verdict:
        rig = self.rig
        rig.clear()
        for name in ("reached", "go"):
            (rig.folder / name).unlink(missing_ok=True)
        folder = _folder(rig, "disturbed")
        worker = fork(
            lambda: asyncio.run(_work(kind, rig, number, _pause(rig.folder))), folder
        )
        _until(lambda: (rig.folder / "reached").exists())
        job = _job(rig.conn)
        problems = []
        try:
            happens()
        except AssertionError as error:
            problems.append(f"the other worker said: {error}")
        said = [_said("disturbed", wait(worker), rig), *problems]
        return _judged(kind, mode, self.rig, reference, number, job, said)

    def _restart(self) -> None:
        pid = int((self.data / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)  # which does not even write a checkpoint
        self._go()
        self.server.stop()
        _until(lambda: not (self.data / "users").exists())  # its guard has seen it
        self.server = EmbeddedPostgres(self.data).start()
        self.proxy.lead_to(self.server.dsn)
        self.rig = replace(self.rig, conn=_connected(self._direct()))

    def _direct(self) -> str:
        return searching(self.server.dsn, self.rig.prefix)

    def _go(self) -> None:
        (self.rig.folder / "go").touch()


@contextmanager
def _network(rig: Rig) -> Iterator[_Network]:
    from .rig import rig as new_rig

    data = rig.folder / "data"
    for folder in (rig.folder, *rig.folder.parents[:2]):
        folder.chmod(0o755)  # the server's account must pass
    proxy = Proxy(rig.folder)
    server = EmbeddedPostgres(data).start()
    network: _Network | None = None
    try:
        proxy.lead_to(server.dsn)
        proxy.start()
        with new_rig(server.dsn, rig.prefix, rig.folder / "away", keep=True) as away:
            far = replace(away, dsn=proxy.dsn(away.dsn))
            network = _Network(far, data, server, proxy)
            yield network
    finally:
        proxy.close()
        (network.server if network else server).stop()


async def _work(
    kind: Kind, rig: Rig, number: int, happens: Callable[[str], None]
) -> None:
    with instrumented():
        async with rig.serve(kind, lock_timeout=LOCK_TIMEOUT, **kills.WORKS):
            points.start(at=number, crash=happens)
            await await_end(kind, await enqueue(kind, kind.messages[-1]))


async def _other(kind: Kind, rig: Rig, job_id: int) -> None:
    async with rig.serve(kind, lock_timeout=LOCK_TIMEOUT, **kills.WORKS) as jobs:
        job = await jobs.get_job(job_id)
        assert job is not None
        await await_end(kind, job)


def _stop(_label: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _pause(folder: Path) -> Callable[[str], None]:
    def pause(_label: str) -> None:
        (folder / "reached").touch()
        _until(lambda: (folder / "go").exists())

    return pause


def _judged(
    kind: Kind,
    mode: str,
    rig: Rig,
    reference: Reference,
    number: int,
    job: int,
    said: list[str],
) -> Verdict:
    crashed = Crashed(
        point=f"{number} {reference.points[number]}",
        mode=mode,
        reached=True,
        at_crash=Counter(),
        recorded=Counter(),
        visible=[],
        before=0,
        end=snapshot.take(rig.conn, job, ordered=kind.ordered),
        begun=effects.begun(),
        row=snapshot.row(rig.conn, job),
    )
    verdict = judge(kind, reference, crashed)
    verdict.differences[:0] = [text for text in said if text]
    return verdict


def _said(name: str, code: int, rig: Rig) -> str:
    folder = _folder(rig, name)
    return "" if code == 0 else f"the {name} worker ended with {code}: {output(folder)}"


def _folder(rig: Rig, name: str) -> Path:
    folder = rig.folder / name
    folder.mkdir(exist_ok=True)
    return folder


def _job(conn: Connection) -> int:
    row = conn.execute("SELECT max(id) FROM oban_jobs").fetchone()
    assert row is not None
    number: int = row[0]
    return number


def _connected(dsn: str) -> Connection:
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=None)


def _await_stop(pid: int) -> None:
    _done, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"ended with {status} before its point"


def _until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)


def _for(seconds: float) -> None:
    """Let an outage last."""
    time.sleep(seconds)
