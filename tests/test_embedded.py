"""The embedded server: started, shared, and gone with its last user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from adk_oban.embedded import EmbeddedPostgres, default_data_dir
from adk_oban.errors import EmbeddedPostgresError
from processes import eventually, python

USE = """
import sys
from adk_oban.embedded import EmbeddedPostgres
with EmbeddedPostgres(*sys.argv[1:]) as postgres:
    print(postgres.dsn, flush=True)
    sys.stdin.read()
"""


def answers(dsn: str) -> bool:
    try:
        with psycopg.connect(dsn, connect_timeout=2) as conn:
            return conn.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def setting(dsn: str, name: str) -> str:
    with psycopg.connect(dsn) as conn:
        return conn.execute(f"SHOW {name}").fetchone()[0]


def socket_folder(dsn: str) -> Path:
    return Path(psycopg.conninfo.conninfo_to_dict(dsn)["host"])


def test_a_temporary_server_is_deleted_with_all_it_made():
    with EmbeddedPostgres() as postgres:
        assert answers(postgres.dsn)
        assert setting(postgres.dsn, "fsync") == "off"
        folder = Path(setting(postgres.dsn, "data_directory")).parent

    assert not answers(postgres.dsn)
    assert not folder.exists()
    assert not socket_folder(postgres.dsn).exists()


async def test_it_is_an_async_context_manager_too():
    async with EmbeddedPostgres() as postgres:
        assert answers(postgres.dsn)


def test_a_kept_server_has_its_data_and_fsync_after_a_restart(data):
    with EmbeddedPostgres(data) as postgres, psycopg.connect(postgres.dsn) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    with EmbeddedPostgres(data) as postgres, psycopg.connect(postgres.dsn) as conn:
        assert conn.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert setting(postgres.dsn, "fsync") == "on"


def test_stop_is_safe_before_start_and_twice(data):
    postgres = EmbeddedPostgres(data)
    postgres.stop()
    postgres.start()
    assert postgres.start() is postgres
    postgres.stop()
    postgres.stop()

    assert not answers(postgres.dsn)


def test_a_shared_server_outlives_its_starter_and_ends_with_its_last_user(data):
    with python("-c", USE, str(data)) as first, python("-c", USE, str(data)) as second:
        dsn = first.line()
        assert second.line() == dsn
        first.kill(signal.SIGKILL)
        assert answers(dsn)
        second.kill(signal.SIGKILL)

        eventually(lambda: not answers(dsn))
        eventually(lambda: not (data / "users").exists())
        assert not socket_folder(dsn).exists()


def test_nothing_is_left_of_a_temporary_server_after_sigkill():
    with python("-c", USE) as process:
        dsn = process.line()
        folder = Path(setting(dsn, "data_directory")).parent
        process.kill(signal.SIGKILL)

    eventually(lambda: not folder.exists())
    assert not socket_folder(dsn).exists()
    assert not answers(dsn)


def test_a_server_whose_folder_was_deleted_ends_with_its_last_user(data):
    with python("-c", USE, str(data)) as process:
        dsn = process.line()
        shutil.rmtree(data)
        process.kill(signal.SIGKILL)

    eventually(lambda: not socket_folder(dsn).exists())
    assert not answers(dsn)


def test_nothing_is_left_when_it_is_killed_while_it_makes_the_cluster(data):
    with python("-c", USE, env={"TMPDIR": str(data)}) as process:
        eventually(lambda: list(data.glob("adk-oban-*/run-*/pgdata/*")))
        process.kill(signal.SIGKILL)

    eventually(lambda: not list(data.iterdir()))


def test_the_next_one_starts_when_the_first_was_killed_while_it_started(data):
    with python("-c", USE, str(data)) as process:
        eventually(lambda: list(data.glob("run-*/pgdata/*")))
        process.kill(signal.SIGKILL)

    with EmbeddedPostgres(data) as postgres:
        assert answers(postgres.dsn)
    eventually(lambda: not list(data.glob("run-*")))


def test_ten_processes_may_start_at_once(data):
    processes = [python("-c", USE, str(data)) for _ in range(10)]
    users = [process.__enter__() for process in processes]
    try:
        assert len({user.line() for user in users}) == 1
    finally:
        for process in processes:
            process.__exit__(None, None, None)
    eventually(lambda: not (data / "users").exists())


def test_a_server_whose_guard_was_killed_is_taken_over(data):
    with python("-c", USE, str(data)) as process:
        dsn = process.line()
        guard = subprocess.run(
            ["pgrep", "-f", f"_postgres_guard.*{data}"], capture_output=True, text=True
        )
        os.kill(int(guard.stdout), signal.SIGKILL)
        process.kill(signal.SIGKILL)
    assert answers(dsn)

    with EmbeddedPostgres(data) as postgres:
        assert answers(postgres.dsn)
        assert not answers(dsn)
        assert not socket_folder(dsn).exists()


def test_a_stale_pid_file_of_a_crashed_machine_does_not_confuse_it(data):
    with EmbeddedPostgres(data):
        stale = (data / "pgdata" / "postmaster.pid").read_text().splitlines()
    stale[0] = "1"  # somebody else's process by now
    (data / "pgdata" / "postmaster.pid").write_text("\n".join(stale))

    with EmbeddedPostgres(data) as postgres:
        assert answers(postgres.dsn)


def test_tcp_needs_the_password_that_the_dsn_has(data):
    with EmbeddedPostgres(data, tcp=True) as postgres:
        assert "@127.0.0.1:" in postgres.dsn
        assert answers(postgres.dsn)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(psycopg.conninfo.make_conninfo(postgres.dsn, password="x"))


def test_tcp_is_refused_on_a_server_that_others_started_without(data):
    with (
        EmbeddedPostgres(data),
        pytest.raises(EmbeddedPostgresError, match="without TCP"),
    ):
        EmbeddedPostgres(data, tcp=True).start()


def test_data_of_another_version_are_refused_and_left_alone(data):
    with EmbeddedPostgres(data):
        pass
    (data / "pgdata" / "PG_VERSION").write_text("9\n")

    with pytest.raises(EmbeddedPostgresError, match=r"PostgreSQL 9, and .* is 1\d"):
        EmbeddedPostgres(data).start()


def test_no_binaries_is_an_error_that_says_what_to_install(data, monkeypatch):
    monkeypatch.setenv("ADK_OBAN_PG_BIN", str(data))

    with pytest.raises(EmbeddedPostgresError, match=r"adk-oban\[embedded\]"):
        EmbeddedPostgres().start()


def test_a_server_that_cannot_start_shows_its_log(data):
    with EmbeddedPostgres(data):
        pass
    with (data / "pgdata" / "postgresql.conf").open("a") as config:
        config.write("nonsense = on\n")

    with pytest.raises(EmbeddedPostgresError, match="nonsense"):
        EmbeddedPostgres(data).start()


NOBODY = 65534
BECOME_NOBODY = f"""
import os, shutil, sys
from adk_oban.embedded import EmbeddedPostgres
import psycopg
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
sys.executable = shutil.which("python3", path="/usr/bin:/usr/local/bin")
with EmbeddedPostgres(sys.argv[1]) as postgres, psycopg.connect(postgres.dsn) as conn:
    print(conn.execute("SHOW data_directory").fetchone()[0], flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("python3", path="/usr/bin:/usr/local/bin"),
    reason="needs root, which can become nobody, and a Python that nobody can run",
)
def test_it_works_without_being_root(data):
    os.chown(data, NOBODY, NOBODY)

    with python("-c", BECOME_NOBODY, str(data / "data")) as process:
        assert process.line() == str(data / "data" / "pgdata")
        assert (data / "data" / "pgdata").stat().st_uid == NOBODY
        process.kill(signal.SIGKILL)
    eventually(lambda: not (data / "data" / "users").exists())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has this difficulty")
def test_root_is_told_when_the_data_cannot_be_reached_by_the_servers_account(data):
    private = data / "private"
    private.mkdir(mode=0o700)

    with pytest.raises(EmbeddedPostgresError, match="cannot enter"):
        EmbeddedPostgres(private / "data").start()


def test_the_default_folder_is_the_users_or_the_one_that_is_named(monkeypatch):
    monkeypatch.setenv("ADK_OBAN_DATA", "/somewhere/else")
    assert default_data_dir() == Path("/somewhere/else")

    monkeypatch.delenv("ADK_OBAN_DATA")
    assert default_data_dir().parts[-2:] == ("adk-oban", "postgres")
