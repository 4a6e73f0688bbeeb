"""One suite for every session service: ADK's in memory, ADK's on a database, and ours.

Then what ours promises beyond: what either database service writes, the other reads;
one round trip for each operation.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions import (
    BaseSessionService,
    DatabaseSessionService,
    InMemorySessionService,
    Session,
)
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from adk_oban.errors import NotMigratedError, SchemaVersionError
from adk_oban.sessions import PostgresSessionService
from processes import python

IDS = {"app_name": "app", "user_id": "user"}
KEY = {**IDS, "session_id": "s1"}
DATABASE, OURS = "DatabaseSessionService", "PostgresSessionService"


def sqlalchemy_url(dsn: str) -> str:
    parts = conninfo_to_dict(dsn)
    rest = "&".join(
        f"{key}={parts[key]}" for key in ("host", "port", "options") if key in parts
    ).replace(" ", "%20")
    return f"postgresql+psycopg://{parts['user']}@/{parts['dbname']}?{rest}"


def make(kind: str, dsn: str, prefix: str) -> BaseSessionService:
    match kind:
        case "DatabaseSessionService":
            return DatabaseSessionService(sqlalchemy_url(dsn))
        case "PostgresSessionService":
            return PostgresSessionService.from_dsn(dsn, prefix=prefix)
    return InMemorySessionService()


@pytest.fixture(params=["InMemorySessionService", DATABASE, OURS])
async def service(request, dsn, migrated) -> AsyncIterator[BaseSessionService]:
    made = make(request.param, dsn, migrated)
    yield made
    if not isinstance(made, InMemorySessionService):
        await made.close()


@pytest.fixture
async def ours(dsn, migrated) -> AsyncIterator[PostgresSessionService]:
    async with PostgresSessionService.from_dsn(dsn, prefix=migrated) as made:
        yield made


@pytest.fixture
async def theirs(dsn, migrated) -> AsyncIterator[DatabaseSessionService]:
    async with DatabaseSessionService(sqlalchemy_url(dsn)) as made:
        yield made


def says(text: str, *, timestamp: float | None = None, **state: Any) -> Event:
    event = Event(
        invocation_id="i1",
        author="agent",
        content=types.Content(role="model", parts=[types.Part(text=text)]),
        actions=EventActions(state_delta=state),
        id=Event.new_id(),
    )
    if timestamp is not None:
        event.timestamp = timestamp
    return event


def texts(session: Session | None) -> list[str]:
    assert session is not None
    return [e.content.parts[0].text for e in session.events]


async def test_a_session_is_created_with_its_state_and_found_again(service):
    made = await service.create_session(**KEY, state={"a": 1, "user:b": 2, "app:c": 3})
    found = await service.get_session(**KEY)

    assert made.id == found.id == "s1"
    assert made.state == found.state == {"a": 1, "user:b": 2, "app:c": 3}
    assert found.events == []
    assert found.last_update_time == pytest.approx(made.last_update_time)


async def test_a_session_without_an_id_gets_one(service):
    made = await service.create_session(**IDS)

    assert made.id
    assert (await service.get_session(**IDS, session_id=made.id)).id == made.id


async def test_a_second_session_of_one_id_is_refused(service):
    await service.create_session(**KEY, state={"app:x": 1})

    with pytest.raises(AlreadyExistsError, match="s1"):
        await service.create_session(**KEY, state={"app:x": 2})
    assert (await service.get_session(**KEY)).state == {"app:x": 1}


async def test_what_is_not_there_is_none(service):
    assert await service.get_session(**KEY) is None
    assert (await service.list_sessions(app_name="app")).sessions == []
    await service.delete_session(**KEY)


async def test_events_come_back_in_the_order_they_were_appended(service):
    session = await service.create_session(**KEY)
    for text in ("one", "two", "three"):
        await service.append_event(session, says(text))

    assert texts(session) == ["one", "two", "three"]
    assert texts(await service.get_session(**KEY)) == ["one", "two", "three"]


async def test_events_of_one_timestamp_keep_their_order(service, request):
    if isinstance(service, DatabaseSessionService):
        pytest.skip("DatabaseSessionService orders equal timestamps by random ids")
    session = await service.create_session(**KEY)
    names = [str(number) for number in range(20)]
    for name in names:
        await service.append_event(session, says(name, timestamp=1_700_000_000.5))

    assert texts(await service.get_session(**KEY)) == names


async def test_state_lands_in_its_scope(service):
    session = await service.create_session(**KEY)
    event = says("x", **{"k": 1, "user:u": 2, "app:a": 3, "temp:t": 4})
    await service.append_event(session, event)
    same_user = await service.create_session(**IDS, session_id="s2")
    other = await service.create_session(app_name="app", user_id="other")

    assert session.state["temp:t"] == 4
    stored = await service.get_session(**KEY)
    assert stored.state == {"k": 1, "user:u": 2, "app:a": 3}
    assert stored.events[0].actions.state_delta == {"k": 1, "user:u": 2, "app:a": 3}
    assert same_user.state == {"user:u": 2, "app:a": 3}
    assert other.state == {"app:a": 3}
    assert await service.get_user_state(**IDS) == {"u": 2}
    assert await service.get_user_state(app_name="app", user_id="nobody") == {}


async def test_state_is_merged_key_by_key(service):
    session = await service.create_session(**KEY, state={"a": {"x": 1}, "b": 1})
    await service.append_event(session, says("1", a={"y": 2}))
    await service.append_event(session, says("2", c=[1, None, "é"]))

    stored = await service.get_session(**KEY)
    assert stored.state == {"a": {"y": 2}, "b": 1, "c": [1, None, "é"]}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["0", "1", "2", "3"]),
        ({"num_recent_events": 2}, ["2", "3"]),
        ({"num_recent_events": 0}, []),
        ({"num_recent_events": 9}, ["0", "1", "2", "3"]),
        ({"after_timestamp": 1002.0}, ["2", "3"]),
        ({"after_timestamp": 1001.5, "num_recent_events": 1}, ["3"]),
        ({"after_timestamp": 5000.0}, []),
    ],
)
async def test_only_the_events_that_are_asked_for_come(service, config, expected):
    session = await service.create_session(**KEY)
    for number in range(4):
        event = says(str(number), timestamp=1000.0 + number)
        await service.append_event(session, event)

    found = await service.get_session(**KEY, config=GetSessionConfig(**config))
    assert texts(found) == expected


async def test_sessions_are_listed_by_user_or_by_app_without_events(service):
    for user, name in (("u1", "a"), ("u2", "b"), ("u1", "c")):
        session = await service.create_session(
            app_name="app", user_id=user, session_id=name, state={"n": name}
        )
        await service.append_event(session, says(name))
    await service.create_session(app_name="another", user_id="u1", session_id="d")

    of_app = (await service.list_sessions(app_name="app")).sessions
    of_user = (await service.list_sessions(app_name="app", user_id="u1")).sessions
    assert [s.id for s in of_app] == ["a", "b", "c"]
    assert [s.id for s in of_user] == ["a", "c"]
    assert [s.state["n"] for s in of_app] == ["a", "b", "c"]
    assert all(s.events == [] for s in of_app)


async def test_a_deleted_session_takes_its_events_along(service):
    session = await service.create_session(**KEY)
    await service.append_event(session, says("x", **{"user:u": 1}))
    await service.delete_session(**KEY)

    assert await service.get_session(**KEY) is None
    again = await service.create_session(**KEY)
    assert again.events == []
    assert again.state == {"user:u": 1}


async def test_partial_events_are_not_kept(service):
    session = await service.create_session(**KEY)
    event = says("half")
    event.partial = True
    await service.append_event(session, event)

    assert (await service.get_session(**KEY)).events == []


async def test_an_event_for_no_session_is_refused(service):
    session = await service.create_session(**KEY)
    await service.delete_session(**KEY)

    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, says("x"))


async def test_a_stale_writer_is_refused_and_leaves_nothing(service):
    if isinstance(service, InMemorySessionService):
        pytest.skip("InMemorySessionService has no revisions")
    await service.create_session(**KEY)
    first, second = [await service.get_session(**KEY) for _ in range(2)]
    await service.append_event(first, says("first"))

    with pytest.raises(StaleSessionError):
        await service.append_event(second, says("second", **{"user:u": 1, "k": 1}))
    stored = await service.get_session(**KEY)
    assert texts(stored) == ["first"]
    assert stored.state == {}
    await service.append_event(stored, says("third"))


async def test_a_session_without_a_revision_is_judged_by_its_last_event(service):
    if isinstance(service, InMemorySessionService):
        pytest.skip("InMemorySessionService has no revisions")
    session = await service.create_session(**KEY)
    await service.append_event(session, says("one"))
    copy = Session(id="s1", **IDS, events=list(session.events))
    stale = Session(id="s1", **IDS)

    with pytest.raises(StaleSessionError):
        await service.append_event(stale, says("stale"))
    await service.append_event(copy, says("two"))
    assert texts(await service.get_session(**KEY)) == ["one", "two"]


APPEND = """
import asyncio, sys
sys.path[:0] = ["tests"]
import test_sessions as t
async def main(kind, dsn, prefix):
    async with t.make(kind, dsn, prefix) as service:
        session = await service.get_session(**t.KEY)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        try:
            await service.append_event(session, t.says("x", n=1))
            print("appended", flush=True)
        except t.StaleSessionError:
            print("stale", flush=True)
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", [DATABASE, OURS])
async def test_of_two_processes_that_append_at_once_one_wins(kind, dsn, migrated):
    async with make(kind, dsn, migrated) as service:
        await service.create_session(**KEY)
        with (
            python("-c", APPEND, kind, dsn, migrated) as one,
            python("-c", APPEND, kind, dsn, migrated) as two,
        ):
            assert [one.line(), two.line()] == ["ready", "ready"]
            for process in (one, two):
                process.popen.stdin.write("go\n")
                process.popen.stdin.flush()
            assert sorted([one.line(), two.line()]) == ["appended", "stale"]
        assert texts(await service.get_session(**KEY)) == ["x"]


def every_kind_of_part() -> Event:
    parts = [
        types.Part(text="plain ünïcödé \U0001f600 \\u0000 is no NUL"),
        types.Part(text="a thought", thought=True, thought_signature=b"\x00\xff"),
        types.Part(
            function_call=types.FunctionCall(id="c1", name="f", args={"x": [1, None]})
        ),
        types.Part(
            function_response=types.FunctionResponse(
                id="c1", name="f", response={"result": {"deep": [1.5, True]}}
            )
        ),
        types.Part(inline_data=types.Blob(data=bytes(range(256)), mime_type="a/b")),
        types.Part(file_data=types.FileData(file_uri="gs://b/f", mime_type="a/b")),
        types.Part(executable_code=types.ExecutableCode(code="1", language="PYTHON")),
        types.Part(
            code_execution_result=types.CodeExecutionResult(
                outcome="OUTCOME_OK", output="1"
            )
        ),
    ]
    event = says("")
    event.content = types.Content(role="model", parts=parts)
    event.long_running_tool_ids = {"c1"}
    event.usage_metadata = types.GenerateContentResponseUsageMetadata(
        prompt_token_count=3
    )
    event.actions = EventActions(
        state_delta={"k": "v"}, transfer_to_agent="other", escalate=True
    )
    event.custom_metadata = {"m": 1}
    event.output = {"answer": 42}
    event.error_code, event.error_message = "SAFETY", "no"
    return event


async def test_every_kind_of_part_comes_back_as_it_went(service):
    session = await service.create_session(**KEY)
    event = every_kind_of_part()
    await service.append_event(session, event)

    (stored,) = (await service.get_session(**KEY)).events
    assert stored == event


@pytest.mark.parametrize("writer", [DATABASE, OURS])
async def test_what_one_service_writes_the_other_reads(writer, ours, theirs):
    write, read = (theirs, ours) if writer == DATABASE else (ours, theirs)
    session = await write.create_session(**KEY, state={"a": 1, "user:b": 2})
    event = every_kind_of_part()
    await write.append_event(session, event)

    found = await read.get_session(**KEY)
    assert found.events == [event]
    assert found.state == {"a": 1, "k": "v", "user:b": 2}
    assert found._storage_update_marker == session._storage_update_marker
    assert found.last_update_time == session.last_update_time
    listed = (await read.list_sessions(**IDS)).sessions
    assert [s.last_update_time for s in listed] == [session.last_update_time]


async def test_both_services_may_append_to_one_session_in_turn(ours, theirs):
    await ours.create_session(**KEY)
    for number in range(6):
        service = (ours, theirs)[number % 2]
        session = await service.get_session(**KEY)
        await service.append_event(session, says(str(number), **{f"k{number}": 1}))

    for service in (ours, theirs):
        session = await service.get_session(**KEY)
        assert texts(session) == list("012345")
        assert len(session.state) == 6


async def test_both_services_store_the_very_same_json(ours, theirs, conn, migrated):
    event = every_kind_of_part()
    for service, user in ((ours, "ours"), (theirs, "theirs")):
        session = await service.create_session(app_name="app", user_id=user)
        await service.append_event(session, event.model_copy(deep=True))
    sql = f"SELECT event_data FROM {migrated}.events"
    rows = await (await conn.execute(sql)).fetchall()

    assert rows[0] == rows[1]


async def test_a_writer_with_the_same_timestamp_is_noticed_as_stale(ours):
    await ours.create_session(**KEY)
    session = await ours.get_session(**KEY)
    await ours.append_event(session, says("one", timestamp=1000.0))
    first, second = [await ours.get_session(**KEY) for _ in range(2)]
    await ours.append_event(first, says("two", timestamp=1000.0))

    with pytest.raises(StaleSessionError):
        await ours.append_event(second, says("three", timestamp=1000.0))


@pytest.mark.parametrize("bad", ["\0", "\ud800", "\\\0", "a\0b\udfff"])
async def test_what_postgresql_cannot_hold_becomes_a_replacement_character(ours, bad):
    session = await ours.create_session(**KEY, state={"start": bad})
    await ours.append_event(session, says(f"<{bad}>", value=bad))

    stored = await ours.get_session(**KEY)
    expected = bad.replace("\0", "�").replace("\ud800", "�").replace("\udfff", "�")
    assert texts(stored) == [f"<{expected}>"]
    assert stored.state == {"start": expected, "value": expected}


async def test_state_that_is_not_json_is_kept_as_text(ours):
    session = await ours.create_session(**KEY)
    await ours.append_event(session, says("x", when={1, 2}, what=print))

    state = (await ours.get_session(**KEY)).state
    assert state["when"] == [1, 2] or isinstance(state["when"], str)
    assert "print" in state["what"]


@pytest.mark.skipif(sys.platform != "linux", reason="libpq traces on Linux only")
async def test_each_operation_is_one_round_trip(dsn, migrated, tmp_path):
    wire = (tmp_path / "wire").open("w+b", buffering=0)

    async def trips(operation: Any) -> int:
        """How often the client had its say, by libpq's own trace."""
        wire.truncate(0)
        await operation
        said = (tmp_path / "wire").read_text().splitlines()
        return sum(bool({"Sync", "Query"} & set(line.split("\t"))) for line in said)

    async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool:
        service = PostgresSessionService(pool, prefix=migrated)
        session = await service.create_session(**IDS)  # checks the schema, once
        key = {**IDS, "session_id": session.id}
        event = says("x", **{"user:u": 1, "app:a": 2, "k": 3})
        async with pool.connection() as conn:
            conn.pgconn.trace(wire.fileno())
        assert await trips(service.create_session(**KEY)) == 1
        assert await trips(service.append_event(session, event)) == 1
        assert await trips(service.get_session(**key)) == 1
        assert await trips(service.list_sessions(**IDS)) == 1
        assert await trips(service.delete_session(**key)) == 1
        async with pool.connection() as conn:
            conn.pgconn.untrace()
    wire.close()


async def test_the_pools_connections_stay_as_the_caller_made_them(dsn, migrated):
    async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool:
        service = PostgresSessionService(pool, prefix=migrated)
        await service.create_session(**KEY)
        async with pool.connection() as conn:
            assert conn.autocommit is False


async def test_an_event_can_be_written_in_the_callers_transaction(ours, conn, migrated):
    session = await ours.create_session(**KEY)
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with conn.transaction():
            await ours.save_event(conn, session, says("x", **{"user:u": 1}))
            raise RuntimeError("changed my mind")

    stored = await ours.get_session(**KEY)
    assert (stored.events, stored.state) == ([], {})


async def test_every_statement_uses_an_index(ours, conn, migrated):
    """With sequential scans forbidden, a plan that still has one has no index."""
    await conn.execute("SET enable_seqscan = off")
    where = "app_name = 'a' AND user_id = 'u'"
    for table, condition in (
        ("sessions", f"{where} AND id = 's'"),
        ("events", f"{where} AND session_id = 's' ORDER BY timestamp DESC, id DESC"),
        ("user_states", where),
        ("app_states", "app_name = 'a'"),
    ):
        sql = (
            f"EXPLAIN (FORMAT JSON) SELECT * FROM {migrated}.{table} WHERE {condition}"
        )
        row = await (await conn.execute(sql)).fetchone()
        assert "Seq Scan" not in json.dumps(row[0])
        assert "Sort" not in json.dumps(row[0])


async def test_a_database_that_is_not_migrated_is_a_clear_error(dsn, prefix):
    async with PostgresSessionService.from_dsn(dsn, prefix=prefix) as service:
        with pytest.raises(NotMigratedError, match="adk-oban migrate up"):
            await service.get_session(**KEY)


async def test_sessions_of_another_schema_version_are_refused(dsn, conn, migrated):
    await conn.execute(f"UPDATE {migrated}.adk_internal_metadata SET value = '0'")
    async with PostgresSessionService.from_dsn(dsn, prefix=migrated) as service:
        with pytest.raises(SchemaVersionError, match="'0'"):
            await service.get_session(**KEY)


async def test_concurrent_first_uses_check_the_schema_once(ours):
    found = await asyncio.gather(*(ours.get_session(**KEY) for _ in range(8)))

    assert found == [None] * 8
