"""Effects of tools: at least once with a key, at most once, and exactly once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from google.adk.agents import LlmAgent, ParallelAgent
from google.adk.runners import InMemoryRunner
from google.adk.tools import AgentTool, FunctionTool
from google.adk.tools.tool_context import ToolContext
from google.adk.workflow import FunctionNode
from psycopg import AsyncConnection

from adk_oban import idempotency_key, once, transactional
from adk_oban.testing import ScriptedModel, call, drain
from attempts import Runs, attempt, enqueue

pytestmark = pytest.mark.filterwarnings("ignore:ParallelAgent is deprecated")

ran: Counter[str] = Counter()
keys: list[str] = []


@pytest.fixture
def run(dsn, migrated):
    ran.clear()
    keys.clear()
    return Runs(dsn, migrated)


def agent(tool: Any, *replies: Any, **options: Any) -> LlmAgent:
    model = ScriptedModel(replies=[*replies])
    return LlmAgent(name="a", model=model, tools=[tool], **options)


async def charge(amount: int, tool_context: ToolContext) -> str:
    """Charge."""
    keys.append(idempotency_key(tool_context))
    if attempt() == 1:
        raise OSError("the answer was lost")
    return "charged"


async def test_a_key_is_the_same_on_all_attempts(run):
    seen = await run(agent(charge, call("charge", amount=1), "done"))
    assert seen.ended == {"retryable": 1, "completed": 1}
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32


async def test_every_call_has_its_own_key(run):
    async def pay(amount: int, tool_context: ToolContext) -> str:
        """Pay."""
        keys.append(idempotency_key(tool_context))
        return "paid"

    pays = [call("pay", amount=1), call("pay", amount=1), call("pay", amount=2)]
    one = agent(pay, pays, call("pay", amount=1), "done")
    await run(one)
    await run(agent(pay, call("pay", amount=1), "done"), session_id="other")
    assert len(set(keys)) == len(keys) == 5


async def test_a_plain_function_in_a_thread_has_its_key(run):
    def pay(amount: int, tool_context: ToolContext) -> str:
        """Pay."""
        keys.append(idempotency_key(tool_context))
        if attempt() == 1:
            raise OSError("lost")
        return "paid"

    await run(agent(pay, call("pay", amount=1), "done"))
    assert keys[0] == keys[1]


async def test_outside_a_job_there_is_a_key_too():
    keys.clear()

    async def pay(tool_context: ToolContext) -> str:
        """Pay."""
        keys.append(idempotency_key(tool_context))
        return "paid"

    model = ScriptedModel(replies=[call("pay"), "done"])
    mine = LlmAgent(name="a", model=model, tools=[pay])
    await InMemoryRunner(agent=mine, app_name="app").run_debug("hi", quiet=True)
    assert len(keys[0]) == 32


@once
async def pay(amount: int, tool_context: ToolContext) -> str:
    """Pay, and lose the answer the first time."""
    ran["pay"] += 1
    tool_context.state["paid"] = amount
    if ran["pay"] == 1:
        raise OSError("the answer was lost")
    return "paid"


@once
async def hang(amount: int) -> str:
    """Never return."""
    ran["hang"] += 1
    await asyncio.Event().wait()


def payer(*replies: Any, **options: Any) -> LlmAgent:
    return agent(pay, call("pay", amount=5), *(replies or ["done"]), **options)


async def undecided(jobs) -> tuple[Any, Any]:
    """Run a job until it waits for a person; return it and its open step."""
    job = await enqueue()
    await drain(jobs, with_scheduled=False)
    job = await job.reload()
    assert (job.state, job.meta["adk_oban_waits"]) == ("scheduled", "decision")
    (step,) = await job.undecided()
    return job, step


async def test_what_runs_once_and_returned_is_not_run_again(run):
    @once
    async def mail() -> str:
        """Mail."""
        ran["mail"] += 1
        return "mailed"

    seen = await run(agent(mail, call("mail"), OSError("down"), "done"))
    assert (ran["mail"], seen.ended) == (1, {"retryable": 1, "completed": 1})
    assert seen.steps(2)[1] == "tool mail replayed"


async def test_an_unknown_outcome_is_not_run_again_and_waits(run):
    async with run.client(payer()) as jobs:
        job, step = await undecided(jobs)
        assert (step.tool, step.agent, step.attempt) == ("pay", "a", 1)
        assert step.error == "OSError: the answer was lost"
        assert (job.attempt, ran["pay"]) == (0, 1)
        assert await drain(jobs, with_scheduled=False) == {}


async def test_a_step_that_a_crash_left_started_waits(run, conn, migrated):
    async with run.client(payer()) as jobs:
        job = await enqueue()
        await drain(jobs, with_scheduled=False)
        # As a process leaves it that dies in the body, and a rescuer finds it.
        await conn.execute(
            f"UPDATE {migrated}.adk_oban_steps SET state = 'started', payload = NULL "
            "WHERE kind = 'tool'"
        )
        await conn.execute(f"UPDATE {migrated}.oban_jobs SET state = 'available'")
        assert await drain(jobs, with_scheduled=False) == {"scheduled": 1}
        (step,) = await (await job.reload()).undecided()
        assert (step.error, ran["pay"]) == (None, 1)
        await job.decide(step.id, result="paid it was")
        await drain(jobs, with_scheduled=False)
        assert (await job.result(timeout=5)).text == "done"


async def test_decided_to_run_again_it_runs_again(run):
    async with run.client(payer()) as jobs:
        job, step = await undecided(jobs)
        await job.decide(step.id, again=True)
        assert (await job.reload()).state == "available"
        assert await drain(jobs, with_scheduled=False) == {"completed": 1}
        seen = await run.seen(jobs, job, {})
    assert (ran["pay"], seen.state) == (2, {"paid": 5})
    assert "adk_oban_waits" not in seen.job.meta


@pytest.mark.parametrize("result", ["paid", {"receipt": 7}, {}, [1], False, 0])
async def test_decided_what_it_returned_it_is_that(run, result):
    async with run.client(payer()) as jobs:
        job, step = await undecided(jobs)
        await job.decide(step.id, result=result)
        assert await drain(jobs, with_scheduled=False) == {"completed": 1}
        seen = await run.seen(jobs, job, {})
    answer = seen.session.events[2].get_function_responses()[0].response
    assert answer == (result if isinstance(result, dict) else {"result": result})
    assert ran["pay"] == 1


async def test_decided_to_fail_the_job_is_cancelled_for_that_reason(run):
    async with run.client(payer()) as jobs:
        job, step = await undecided(jobs)
        await job.decide(step.id, fail="the bank says no")
        assert await drain(jobs, with_scheduled=False) == {"cancelled": 1}
        seen = await run.seen(jobs, job, {})
    assert "tool 'pay' was said to fail: the bank says no" in seen.error
    assert (seen.session, ran["pay"]) == (None, 1)


async def test_decided_to_fail_no_callback_makes_an_answer_of_it(run):
    def on_error(tool, args, tool_context, error) -> dict | None:
        return None if isinstance(error, OSError) else {"error": str(error)}

    async with run.client(payer(on_tool_error_callback=on_error)) as jobs:
        job, step = await undecided(jobs)
        await job.decide(step.id, fail="no")
        assert await drain(jobs, with_scheduled=False) == {"cancelled": 1}


async def test_decided_to_fail_it_ends_in_parallel_agents_too(run):
    parallel = both_pay()
    async with run.client(parallel) as jobs:
        job = await enqueue()
        await drain(jobs, with_scheduled=False)
        for step in await (await job.reload()).undecided():
            await job.decide(step.id, fail="no")
        assert await drain(jobs, with_scheduled=False) == {"cancelled": 1}


def both_pay() -> ParallelAgent:
    @once
    async def lose(n: int) -> str:
        """Lose the answer."""
        ran["lose"] += 1
        raise OSError("lost")

    def one(name: str) -> LlmAgent:
        model = ScriptedModel(replies=[call("lose", n=1), "done"])
        return LlmAgent(name=name, model=model, tools=[lose])

    return ParallelAgent(name="p", sub_agents=[one("x"), one("y")])


async def test_in_parallel_agents_it_waits_too(run):
    async with run.client(both_pay()) as jobs:
        job = await enqueue()
        assert await drain(jobs, with_scheduled=False) == {"scheduled": 1}
        job = await job.reload()
        assert job.meta["adk_oban_waits"] == "decision"
        assert len(await job.undecided()) == ran["lose"]


async def test_a_job_waits_until_each_step_is_decided(run):
    @once
    async def lose(n: int) -> str:
        """Lose the answer."""
        ran["lose"] += 1
        await asyncio.sleep(0)
        raise OSError("lost")

    calls = [call("lose", n=1), call("lose", n=2)]
    async with run.client(agent(lose, calls, "done")) as jobs:
        job = await enqueue()
        await drain(jobs, with_scheduled=False)
        steps = await (await job.reload()).undecided()
        assert len(steps) == 2
        await job.decide(steps[0].id, result="a")
        assert await drain(jobs, with_scheduled=False) == {"scheduled": 1}
        await job.decide(steps[1].id, result="b")
        assert await drain(jobs, with_scheduled=False) == {"completed": 1}
    assert ran["lose"] == 2


async def test_two_decisions_at_once_are_one(run):
    async with run.client(payer()) as jobs:
        job, step = await undecided(jobs)
        said = await asyncio.gather(
            *(job.decide(step.id, result=n) for n in range(5)), return_exceptions=True
        )
        errors = [error for error in said if error is not None]
        assert len(errors) == 4
        assert {type(error) for error in errors} == {LookupError}


async def test_what_is_decided_is_decided(run):
    async with run.client(payer()) as jobs:
        job, step = await undecided(jobs)
        await job.decide(step.id, again=True)
        with pytest.raises(LookupError, match=r"no undecided step .*decided already"):
            await job.decide(step.id, result="x")
        assert await job.undecided() == []


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        ({}, ValueError, "say one of"),
        ({"again": True, "result": 1}, ValueError, "say one of"),
        ({"result": 1, "fail": "x"}, ValueError, "say one of"),
        ({"result": object()}, TypeError, "serialize"),
    ],
    ids=str,
)
async def test_a_wrong_decision_is_refused(run, said, error, match):
    async with run.client(payer()) as jobs:
        job, step = await undecided(jobs)
        with pytest.raises(error, match=match):
            await job.decide(step.id, **said)
        assert len(await job.undecided()) == 1
        with pytest.raises(LookupError):
            await job.decide(step.id + 100, again=True)


async def test_a_timeout_leaves_the_outcome_unknown(run):
    options = {"tool_timeout": {"hang": 0.05}}
    waits = agent(hang, call("hang", amount=1), "done")
    async with run.client(waits, **options) as jobs:
        _, step = await undecided(jobs)
        assert "tool 'hang' has not returned within 0.05 s" in step.error
    assert ran["hang"] == 1


async def test_a_timeout_of_the_job_leaves_the_outcome_unknown(run):
    waits = agent(hang, call("hang", amount=1), "done")
    async with run.client(waits, job_timeout=0.2) as jobs:
        _, step = await undecided(jobs)
        assert step.error is None
    assert ran["hang"] == 1


async def test_a_tool_object_may_run_once(run):
    async def lose() -> str:
        """Lose the answer."""
        ran["lose"] += 1
        raise OSError("lost")

    async with run.client(agent(once(FunctionTool(lose)), call("lose"), "x")) as jobs:
        await undecided(jobs)
    assert ran["lose"] == 1


async def test_a_method_may_run_once(run):
    class Bank:
        async def lose(self) -> str:
            """Lose the answer."""
            ran["lose"] += 1
            raise OSError("lost")

    async with run.client(agent(once(Bank().lose), call("lose"), "x")) as jobs:
        await undecided(jobs)


async def test_outside_a_job_what_runs_once_runs():
    ran.clear()
    model = ScriptedModel(replies=[call("mail"), "done"])

    @once
    async def mail() -> str:
        """Mail."""
        ran["mail"] += 1
        return "mailed"

    mine = LlmAgent(name="a", model=model, tools=[mail])
    await InMemoryRunner(agent=mine, app_name="app").run_debug("hi", quiet=True)
    assert ran["mail"] == 1


@pytest.fixture
async def bookings(conn, migrated) -> str:
    """A table that tools write to."""
    await conn.execute(f"CREATE TABLE {migrated}.bookings (room text)")
    return f"{migrated}.bookings"


def books(table: str, fails: Any = None):
    @transactional
    async def book(room: str, *, conn: AsyncConnection) -> str:
        """Book a room.

        Args:
            room: Which one.
        """
        ran["book"] += 1
        await conn.execute(f"INSERT INTO {table} VALUES (%s)", [room])
        if fails is not None:
            await fails(conn)
        return "booked"

    return book


async def rooms(conn, table: str) -> list[str]:
    rows = await (await conn.execute(f"SELECT room FROM {table}")).fetchall()
    return [room for (room,) in rows]


async def test_a_transaction_happens_once(run, conn, bookings):
    book = books(bookings)
    seen = await run(agent(book, call("book", room="1"), OSError("down"), "done"))
    assert seen.steps(2)[1] == "tool book replayed"
    assert (await rooms(conn, bookings), ran["book"]) == (["1"], 1)


async def test_a_transaction_that_fails_leaves_nothing(run, conn, bookings):
    async def fails(_conn) -> None:
        if attempt() < 3:
            raise OSError("down")

    book = books(bookings, fails)
    seen = await run(agent(book, call("book", room="1"), "done"))
    assert seen.ended == {"retryable": 2, "completed": 1}
    assert (await rooms(conn, bookings), ran["book"]) == (["1"], 3)


async def test_a_transaction_is_not_seen_before_its_record(run, conn, bookings):
    async def look(_conn) -> None:
        ran["seen"] += len(await rooms(conn, bookings))

    await run(agent(books(bookings, look), call("book", room="1"), "done"))
    assert (ran["seen"], await rooms(conn, bookings)) == (0, ["1"])


async def test_a_transaction_of_a_lost_job_is_rolled_back(
    run, conn, migrated, bookings
):
    async def lose(_conn) -> None:
        await conn.execute(
            f"UPDATE {migrated}.oban_jobs SET attempted_at = attempted_at "
            "+ interval '1 second'"
        )

    seen = await run(agent(books(bookings, lose), call("book", room="1"), "done"))
    assert seen.job.state == "executing"
    assert (await rooms(conn, bookings), seen.session) == ([], None)


async def test_the_model_does_not_see_the_connection(run, bookings):
    model = ScriptedModel(replies=[call("book", room="1"), "done"])
    await run(LlmAgent(name="a", model=model, tools=[books(bookings)]))
    (tool,) = model.requests[0].config.tools
    (declared,) = tool.function_declarations
    assert declared.name == "book"
    schema = declared.parameters_json_schema or declared.parameters.model_dump()
    assert set(schema["properties"]) == {"room"}


async def test_a_transaction_has_the_tools_context(run, conn, bookings):
    @transactional
    async def book(room: str, tool_context: ToolContext, conn: AsyncConnection) -> str:
        """Book."""
        await conn.execute(f"INSERT INTO {bookings} VALUES (%s)", [room])
        tool_context.state["room"] = room
        keys.append(idempotency_key(tool_context))
        return "booked"

    seen = await run(agent(book, call("book", room="1"), OSError("down"), "done"))
    assert (seen.state, len(keys)) == ({"room": "1"}, 1)


async def test_parallel_transactions_have_their_own_connections(run, conn, bookings):
    calls = [call("book", room=str(n)) for n in range(20)]
    seen = await run(agent(books(bookings), calls, "done"))
    assert seen.ended == {"completed": 1}
    assert len(await rooms(conn, bookings)) == 20


async def test_outside_a_job_a_transaction_needs_a_connection(conn, bookings):
    ran.clear()
    book = books(bookings)
    with pytest.raises(RuntimeError, match=r"book' is a transactional tool"):
        await book("1")
    assert await book("1", conn=conn) == "booked"
    assert await rooms(conn, bookings) == ["1"]


def test_a_transactional_tool_is_async_and_takes_a_connection():
    with pytest.raises(TypeError, match="must be async"):

        @transactional
        def plain(conn) -> None: ...

    with pytest.raises(TypeError, match="needs a parameter 'conn'"):

        @transactional
        async def without() -> None: ...


async def test_what_a_transaction_returns_must_be_json(run, conn, bookings):
    @transactional
    async def book(room: str, *, conn: AsyncConnection) -> object:
        """Book."""
        ran["book"] += 1
        await conn.execute(f"INSERT INTO {bookings} VALUES (%s)", [room])
        return object()

    seen = await run(agent(book, call("book", room="1"), "done"))
    assert (seen.ended, ran["book"]) == ({"cancelled": 1}, 1)
    assert await rooms(conn, bookings) == []


async def test_a_transaction_must_not_run_nodes(run, conn, bookings):
    @transactional
    async def book(tool_context: ToolContext, conn: AsyncConnection) -> str:
        """Book."""
        await conn.execute(f"INSERT INTO {bookings} VALUES ('1')")
        node = FunctionNode(func=double, name="double")
        return str(await tool_context.run_node(node, node_input=1))

    seen = await run(agent(book, call("book"), "done"))
    assert (seen.ended, await rooms(conn, bookings)) == ({"cancelled": 1}, [])


def test_what_runs_agents_cannot_be_marked_once():
    with pytest.raises(TypeError, match="'a' runs agents"):
        once(AgentTool(LlmAgent(name="a")))


def double(node_input: int) -> int:
    return 2 * node_input
