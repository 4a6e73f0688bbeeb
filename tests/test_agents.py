"""Which agent a job names, and that nothing unknown is imported."""

from __future__ import annotations

import sys
import types as python_types
from pathlib import Path

import pytest
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.workflow import START, Workflow

import sample_agents
from adk_oban.agents import AgentRegistry
from adk_oban.errors import UnknownAgentError
from adk_oban.testing import ScriptedModel

FOLDER = Path(__file__).parent / "agents_folder"
helper = LlmAgent(name="helper", model=ScriptedModel(replies=["hi"]))


def module(name: str, **content: object) -> python_types.ModuleType:
    made = python_types.ModuleType(name)
    made.__dict__.update(content)
    return made


async def test_a_registered_agent_is_the_very_object():
    found = await AgentRegistry({"helper": helper}).find("helper")

    assert found.agent is helper
    assert not found.fresh


async def test_a_factory_is_called_afresh_for_each_job():
    registry = AgentRegistry({"f": lambda: LlmAgent(name="f", model="m")})
    first, second = await registry.find("f"), await registry.find("f")

    assert first.fresh
    assert first.agent is not second.agent


async def test_a_factory_may_be_async():
    async def make() -> LlmAgent:
        return helper

    assert (await AgentRegistry({"f": make}).find("f")).agent is helper


async def test_a_factory_that_makes_no_agent_is_refused():
    with pytest.raises(UnknownAgentError, match="returned 42"):
        await AgentRegistry({"f": lambda: 42}).find("f")


@pytest.mark.parametrize("export", ["app", "root_agent", "agent"])
async def test_a_module_exports_its_agent_as_adk_or_the_origin_do(export):
    app = App(name="my_app", root_agent=helper)
    value = {"app": app, "root_agent": helper, "agent": lambda: helper}[export]
    registry = AgentRegistry({"m": module("m", **{export: value})})

    assert (await registry.find("m")).agent is (app if export == "app" else helper)


async def test_an_app_of_another_framework_is_passed_over():
    registry = AgentRegistry({"m": module("m", app=object(), root_agent=helper)})

    assert (await registry.find("m")).agent is helper


async def test_a_workflow_graph_is_an_agent_too():
    graph = Workflow(name="graph", edges=[(START, helper)])

    assert (await AgentRegistry({"graph": graph}).find("graph")).agent is graph


@pytest.mark.parametrize("allow", ["sample_agents", sample_agents])
async def test_an_allowed_module_is_found_by_its_name(allow):
    before = sample_agents.made
    found = await AgentRegistry([allow]).find("sample_agents")

    assert (found.agent.name, found.fresh) == ("made", True)
    assert sample_agents.made == before + 1


async def test_an_agent_is_found_by_module_and_name():
    registry = AgentRegistry(["sample_agents"])

    assert (await registry.find("sample_agents:named")).agent is sample_agents.named
    assert (await registry.find("sample_agents:by_annotation")).fresh


async def test_a_name_can_stand_for_a_module_and_name():
    registry = AgentRegistry({"short": "sample_agents:named"})

    assert (await registry.find("short")).agent is sample_agents.named


async def test_an_agents_folder_is_known_by_its_folders_names():
    registry = AgentRegistry([FOLDER])

    assert (await registry.find("greeter")).agent.name == "greeter"
    assert registry.app_name_of("greeter") == "greeter"


@pytest.mark.parametrize(
    "name", ["colorsys", "colorsys:rgb_to_yiq", "os", "helper2", "../x", "", "a b"]
)
def test_what_is_neither_registered_nor_allowed_is_refused_and_not_imported(name):
    sys.modules.pop("colorsys", None)
    registry = AgentRegistry([{"helper": helper}, "sample_agents", FOLDER])

    with pytest.raises(UnknownAgentError, match=r"registered: greeter, helper"):
        registry.check(name)
    assert "colorsys" not in sys.modules


def test_a_prefix_allows_what_is_below_it_and_not_what_only_begins_like_it():
    registry = AgentRegistry(["sample"])

    with pytest.raises(UnknownAgentError, match="is not registered"):
        registry.check("sample_agents")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sample_agents:dangerous", "neither an agent"),
        ("sample_agents:not_an_agent", "which is 42"),
        ("sample_agents:missing", "which is None"),
        ("sample_agents.missing", "there is no module"),
        ("processes", "has none of"),
    ],
)
def test_where_there_is_no_agent_the_error_says_so(name, reason):
    with pytest.raises(UnknownAgentError, match=reason) as caught:
        AgentRegistry(["sample_agents", "processes"]).check(name)
    assert caught.value.agent == name


def test_an_error_inside_the_users_module_is_theirs(tmp_path, monkeypatch):
    (tmp_path / "broken_agents.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        AgentRegistry(["broken_agents"]).check("broken_agents")


def test_an_agent_object_is_named_by_its_registration():
    assert AgentRegistry({"h": helper}).name_of(helper) == "h"
    with pytest.raises(TypeError, match="not registered"):
        AgentRegistry({}).name_of(helper)


def test_an_app_brings_its_own_app_name():
    registry = AgentRegistry({"a": App(name="mine", root_agent=helper), "h": helper})

    assert registry.app_name_of("a") == "mine"
    assert registry.app_name_of("h") is None


@pytest.mark.parametrize("bad", ["one.module", [42], [{"x": 42}], [{"": helper}]])
def test_agents_of_a_wrong_type_are_refused(bad):
    with pytest.raises(TypeError):
        AgentRegistry(bad)


def test_an_agents_folder_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="does not exist"):
        AgentRegistry([Path("/nowhere/at/all")])


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def test_an_inline_config_has_the_origins_defaults():
    agent = AgentRegistry({}).build({"model": "gemini-flash-latest"}).agent

    assert agent.name == "oban_agent"
    assert agent.instruction == "You are a helpful assistant."


def test_an_inline_config_may_have_tools_schema_settings_and_sub_agents():
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}
    found = AgentRegistry({}, tools=[add]).build(
        {
            "type": "llm",
            "name": "boss",
            "model": "gemini-flash-latest",
            "description": "adds",
            "tools": ["add"],
            "output_schema": schema,
            "generate_content_config": {"temperature": 0.5},
            "sub_agents": [{"name": "aide", "model": "gemini-flash-latest"}],
        }
    )

    assert found.fresh
    assert found.agent.tools == [add]
    assert found.agent.output_schema == schema
    assert found.agent.generate_content_config.temperature == 0.5
    assert [agent.name for agent in found.agent.sub_agents] == ["aide"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "agent_config.model: Field required"),
        ({"model": ""}, "agent_config.model"),
        ({"model": "no-such-model"}, "agent_config.model: Model no-such-model"),
        ({"model": "gemini-x", "colour": 1}, "agent_config.colour"),
        ({"model": "gemini-x", "type": "loop"}, "agent_config.type"),
        ({"model": "gemini-x", "name": "a b"}, "agent_config.name"),
        ({"model": "gemini-x", "tools": ["rm"]}, r"\['rm'\].*registered here"),
        (
            {"model": "gemini-x", "generate_content_config": {"temperature": "hot"}},
            "temperature",
        ),
        (
            {"model": "gemini-x", "sub_agents": [{"name": "x"}]},
            "agent_config.sub_agents.0.model",
        ),
    ],
)
def test_a_wrong_inline_config_is_refused_by_field(config, message):
    with pytest.raises(ValueError, match=message):
        AgentRegistry({}, tools=[add]).check_config(config)


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two tools are named 'add'"):
        AgentRegistry({}, tools=[add, add])
