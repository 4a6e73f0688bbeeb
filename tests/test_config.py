"""Settings: the environment goes before a file, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from adk_oban.config import Settings, load_settings, parse_agents, parse_queues


def test_without_a_file_and_variables_there_are_only_defaults(tmp_path):
    assert load_settings(tmp_path, {}) == Settings()


@pytest.mark.parametrize(
    ("name", "table"),
    [("adk-oban.toml", ""), ("pyproject.toml", "[tool.adk-oban]\n")],
)
def test_a_file_says_all_of_it(tmp_path, name, table):
    (tmp_path / name).write_text(
        f'{table}dsn = "postgresql://x/y"\nprefix = "mine"\n'
        'agents = ["my_app", "./agents"]\nqueues = { agents = 3 }\n'
    )

    assert load_settings(tmp_path, {}) == Settings(
        dsn="postgresql://x/y",
        prefix="mine",
        queues={"agents": 3},
        agents=("my_app", "./agents"),
    )


def test_the_own_file_goes_before_pyproject(tmp_path):
    (tmp_path / "adk-oban.toml").write_text('prefix = "own"\n')
    (tmp_path / "pyproject.toml").write_text('[tool.adk-oban]\nprefix = "other"\n')

    assert load_settings(tmp_path, {}).prefix == "own"


def test_a_pyproject_of_another_tool_says_nothing(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n")

    assert load_settings(tmp_path, {}) == Settings()


def test_the_environment_goes_before_the_file(tmp_path):
    (tmp_path / "adk-oban.toml").write_text('dsn = "file"\nprefix = "file"\n')
    environ = {
        "ADK_OBAN_DSN": "postgresql://env",
        "ADK_OBAN_QUEUES": "agents:10, scheduled:5",
        "ADK_OBAN_AGENTS": "my_app, ./agents",
    }

    assert load_settings(tmp_path, environ) == Settings(
        dsn="postgresql://env",
        prefix="file",
        queues={"agents": 10, "scheduled": 5},
        agents=("my_app", "./agents"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('colour = "red"', "unknown key 'colour'"),
        ("dsn = 5", "dsn must be a str, got 5"),
        ("queues = { agents = 0 }", "queue 'agents' needs a limit, got 0"),
        ("queues = { agents = true }", "queue 'agents' needs a limit, got True"),
        ("agents = [5]", "agents must be strings, got 5"),
        ("dsn = ", "adk-oban.toml is not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, text, message):
    (tmp_path / "adk-oban.toml").write_text(text)

    with pytest.raises(ValueError, match=r"adk-oban\.toml") as error:
        load_settings(tmp_path, {})
    assert message in str(error.value)


@pytest.mark.parametrize("item", ["agents", "agents:", ":5", "agents:0", "agents:many"])
def test_a_queue_needs_a_name_and_a_limit(item):
    with pytest.raises(ValueError, match=f"NAME:LIMIT.*{item!r}"):
        parse_queues([item])


def test_agents_are_modules_names_and_folders():
    items = ["my_app.agents", "helper=my_app.agents:helper", "./agents"]

    assert parse_agents(items) == [
        "my_app.agents",
        {"helper": "my_app.agents:helper"},
        Path("agents"),
    ]


def test_a_secret_is_said_and_not_shown(tmp_path):
    (tmp_path / "adk-oban.toml").write_text('webhook_secret = "whsec_file"\n')
    told = load_settings(tmp_path, {"ADK_OBAN_WEBHOOK_SECRET": "whsec_a whsec_b"})

    assert load_settings(tmp_path, {}).webhook_secret == "whsec_file"
    assert told.webhook_secret == "whsec_a whsec_b"
    assert "whsec" not in repr(told)
