"""AdkOban: what it takes, what it refuses, and how it starts and stops."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import psycopg
import pytest
from google.adk.agents import LlmAgent
from oban import Oban, worker
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from adk_oban import AdkOban, AgentWorker, Schedule
from adk_oban.errors import DatabaseUnavailableError, NotMigratedError
from adk_oban.testing import ScriptedModel, drain


async def test_several_queues_run_each_with_its_own_concurrency(serve):
    running: dict[str, int] = {"agents": 0, "agents_critical": 0}
    most = dict(running)
    all_started = asyncio.Event()

    def agent(queue: str) -> LlmAgent:
        async def work() -> str:
            """Work for a while."""
            running[queue] += 1
            most[queue] = max(most[queue], running[queue])
            if sum(running.values()) == 3:
                all_started.set()
            async with asyncio.timeout(10):
                await all_started.wait()
            running[queue] -= 1
            return "done"

        def reply(request):
            from adk_oban.testing import call

            parts = request.contents[-1].parts
            return "ok" if parts[0].function_response else call("work")

        model = ScriptedModel(replies=reply)
        return LlmAgent(name=queue, model=model, tools=[work])

    agents = {queue: agent(queue) for queue in running}
    async with serve(queues={"agents": 2, "agents_critical": 1}, agents=agents):
        jobs = [
            await AgentWorker.enqueue(queue, "u", "hi", queue=queue)
            for queue in ["agents"] * 4 + ["agents_critical"] * 2
        ]
        for job in jobs:
            assert (await job.result(timeout=20)).text == "ok"
    assert most == {"agents": 2, "agents_critical": 1}


async def test_a_lower_number_goes_first(dsn, migrated, serve):
    order: list[str] = []

    def note(request) -> str:
        order.append(request.contents[-1].parts[0].text)
        return "ok"

    agents = {"a": LlmAgent(name="a", model=ScriptedModel(replies=note))}
    async with AdkOban(dsn, prefix=migrated, agents=agents) as jobs:
        for priority in (9, 0, 5, 2):
            await AgentWorker.enqueue("a", "u", f"{priority}", priority=priority)
        await drain(jobs)
    assert order == ["0", "2", "5", "9"]


async def test_a_tool_that_blocks_its_thread_holds_up_no_other_job(serve):
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def block() -> str:
        """Block the thread until another job has answered."""
        return asyncio.run_coroutine_threadsafe(_released(release), loop).result(20)

    def reply(request):
        from adk_oban.testing import call

        parts = request.contents[-1].parts
        return "unblocked" if parts[0].function_response else call("block")

    blocker = LlmAgent(name="b", model=ScriptedModel(replies=reply), tools=[block])
    quick = LlmAgent(name="q", model=ScriptedModel(replies=lambda _: "quick"))
    async with serve(agents={"b": blocker, "q": quick}):
        blocked = await AgentWorker.enqueue("b", "u", "hi")
        other = await AgentWorker.enqueue("q", "u", "hi")
        assert (await other.result(timeout=10)).text == "quick"
        release.set()
        assert (await blocked.result(timeout=10)).text == "unblocked"


async def _released(event: asyncio.Event) -> str:
    await event.wait()
    return "released"


async def test_one_jobs_failure_and_cancellation_touch_no_other(serve):
    started, release = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        """Wait."""
        started.set()
        await release.wait()
        return "done"

    def reply(request):
        from adk_oban.testing import call

        parts = request.contents[-1].parts
        return "slow" if parts[0].function_response else call("wait")

    agents = {
        "slow": LlmAgent(name="s", model=ScriptedModel(replies=reply), tools=[wait]),
        "bad": LlmAgent(name="b", model=ScriptedModel(replies=lambda _: OSError("x"))),
    }
    async with serve(agents=agents) as jobs:
        slow = await AgentWorker.enqueue("slow", "u", "hi")
        await asyncio.wait_for(started.wait(), 10)
        cancelled = await AgentWorker.enqueue("slow", "u", "hi", schedule_in=3600)
        failed = await AgentWorker.enqueue("bad", "u", "hi", max_attempts=1)
        await jobs.oban.cancel_job(cancelled.id)
        for job, state in ((cancelled, "cancelled"), (failed, "discarded")):
            with pytest.raises(Exception, match=state):
                await job.result(timeout=10)
        release.set()
        assert (await slow.result(timeout=10)).text == "slow"


async def test_an_existing_pool_is_used_and_left_open(dsn, migrated, helper):
    async with AsyncConnectionPool(dsn, min_size=1, open=False) as pool:
        async with AdkOban(pool=pool, prefix=migrated, agents={"h": helper}) as jobs:
            await AgentWorker.enqueue("h", "u", "hi")
            assert await drain(jobs) == {"completed": 1}
        async with pool.connection() as conn:
            assert (await (await conn.execute("SELECT 1")).fetchone()) == (1,)


async def test_an_existing_oban_is_used_and_left_running(dsn, migrated, helper):
    async with (
        AsyncConnectionPool(dsn, min_size=2, open=False) as pool,
        Oban(pool=pool, prefix=migrated, queues={"agents": 2}, name="mine") as oban,
    ):
        async with AdkOban(oban=oban, agents={"h": helper}) as jobs:
            job = await AgentWorker.enqueue("h", "u", "hi", oban="mine")
            assert (await job.result(timeout=10)).text == "You said: hi"
            assert jobs.oban is oban
        assert [queue.queue for queue in oban.check_all_queues()] == ["agents"]


@worker(queue="agents")
class PlainWorker:
    """A worker that has nothing to do with agents."""

    done = asyncio.Event()

    async def process(self, job):
        self.done.set()


async def test_plain_oban_workers_run_beside_agents(serve, helper):
    async with serve(agents={"h": helper}):
        await PlainWorker.enqueue({})
        await asyncio.wait_for(PlainWorker.done.wait(), 10)


async def test_stop_waits_for_running_jobs(serve):
    started = asyncio.Event()

    async def work() -> str:
        """Work for a moment after the stop began."""
        started.set()
        await asyncio.sleep(0.2)
        return "done"

    def reply(request):
        from adk_oban.testing import call

        parts = request.contents[-1].parts
        return "finished" if parts[0].function_response else call("work")

    agent = LlmAgent(name="s", model=ScriptedModel(replies=reply), tools=[work])
    jobs = serve(agents={"s": agent})
    await jobs.start()
    job = await AgentWorker.enqueue("s", "u", "hi")
    await asyncio.wait_for(started.wait(), 10)
    await jobs.stop()

    async with serve(queues={}, agents={"s": agent}) as client:
        assert (await client.get_result(job.id)).text == "finished"
        assert (await client.get_job(job.id)).state == "completed"


async def test_stop_is_safe_before_start_and_twice(dsn, migrated):
    jobs = AdkOban(dsn, prefix=migrated)
    await jobs.stop()
    await jobs.start()
    await jobs.stop()
    await jobs.stop()
    async with jobs:
        assert len(await jobs.list_jobs()) == 0


async def test_it_leaves_no_task_behind(serve, helper):
    before = asyncio.all_tasks()
    async with serve(agents={"h": helper}):
        pass
    await asyncio.sleep(0)

    assert asyncio.all_tasks() == before


async def test_two_of_one_name_in_a_process_are_refused(dsn, migrated):
    async with AdkOban(dsn, prefix=migrated):
        with pytest.raises(RuntimeError, match=r"AdkOban\(name="):
            await AdkOban(dsn, prefix=migrated).start()
        async with AdkOban(dsn, prefix=migrated, name="other"):
            pass


async def test_a_database_that_is_not_migrated_names_the_command(dsn, prefix):
    with pytest.raises(NotMigratedError, match="adk-oban migrate up"):
        await AdkOban(dsn, prefix=prefix).start()


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:secret@127.0.0.1:1/nothing",
        "postgresql://me:secret@/db?host=/no/such/folder",
        "this is no dsn",
    ],
)
async def test_no_connection_is_a_clear_error_without_the_password(dsn):
    with pytest.raises(DatabaseUnavailableError, match="cannot connect to") as caught:
        await AdkOban(dsn).start()
    assert "secret" not in str(caught.value)


async def test_a_wrong_database_or_user_is_a_clear_error(server):
    with pytest.raises(DatabaseUnavailableError, match="does not exist"):
        await AdkOban(make_conninfo(server, dbname="nobody_has_this")).start()


async def test_it_goes_on_after_the_server_was_away(serve, server, helper):
    """All its connections are cut, as a restart of the server does."""
    async with serve(agents={"h": helper}) as jobs:
        for number in range(3):
            with psycopg.connect(server, autocommit=True) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            job = await _enqueue_until_it_works(f"hi {number}")
            assert (await job.result(timeout=20)).text == f"You said: hi {number}"
        assert len(await jobs.list_jobs()) >= 3


async def _enqueue_until_it_works(message: str):
    deadline = time.monotonic() + 20
    while True:
        try:
            return await AgentWorker.enqueue("h", "u", message)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline


async def test_results_are_pruned_after_their_time(client, conn, migrated):
    from adk_oban._results import Results
    from adk_oban._sweeper import Sweeper

    job = await AgentWorker.enqueue("helper", "u", "hi")
    await drain(client)
    steps, results = client._services.steps, Results(client._services.pool, migrated)
    week, none = timedelta(days=7), timedelta(0)

    assert await Sweeper(results, steps, week, week).run_once() is None
    assert len(await steps.of_job(job.id)) == 1
    await Sweeper(results, steps, week, none).run_once()
    assert await steps.of_job(job.id) == []
    assert await client.get_result(job.id) is not None
    await Sweeper(results, steps, none, none).run_once()
    assert await client.get_result(job.id) is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dsn": 42}, TypeError, "dsn must be a string"),
        ({"dsn": "x", "pool": object()}, ValueError, "one of dsn, pool and oban"),
        ({"prefix": "A-b"}, ValueError, "prefix must be"),
        ({"agents": "my_app.agents"}, TypeError, "agents must be"),
        ({"result_ttl": timedelta(0)}, ValueError, "result_ttl must be positive"),
        ({"pool_size": 0}, ValueError, "pool_size must be 1"),
    ],
)
def test_wrong_arguments_are_refused_when_it_is_made(options, error, message):
    with pytest.raises(error, match=message):
        AdkOban(**{"dsn": "postgresql://x", **options})


async def test_without_a_database_it_says_where_to_name_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="ADK_OBAN_DSN"):
        await AdkOban().start()


async def test_the_dsn_and_prefix_may_come_from_the_environment(
    dsn, migrated, monkeypatch
):
    monkeypatch.setenv("ADK_OBAN_DSN", dsn)
    monkeypatch.setenv("ADK_OBAN_PREFIX", migrated)
    async with AdkOban() as jobs:
        assert len(await jobs.list_jobs()) == 0


async def test_what_is_used_before_the_start_is_refused(dsn):
    with pytest.raises(RuntimeError, match="does not run"):
        await AdkOban(dsn).list_jobs()


async def test_schedules_need_agents_that_are_known(dsn, migrated, helper):
    options = {"prefix": migrated, "agents": {"h": helper}}
    with pytest.raises(ValueError, match="'x' is not registered"):
        async with AdkOban(dsn, schedules=[Schedule("@daily", "x")], **options):
            pass
