"""Fingerprints: the same for the same request, whatever is made anew each time."""

from __future__ import annotations

import pytest
from google.adk.models.llm_request import LlmRequest
from google.genai import types

from adk_oban._fingerprint import of_model, of_node, of_tool, without_run_ids


def request(text: str = "hi", *, call_id: str = "adk-1", **config) -> LlmRequest:
    called = types.FunctionCall(id=call_id, name="look", args={"x": 1})
    told = types.FunctionResponse(id=call_id, name="look", response={"y": 2})
    return LlmRequest(
        model="m",
        contents=[
            types.Content(role="user", parts=[types.Part(text=text)]),
            types.Content(role="model", parts=[types.Part(function_call=called)]),
            types.Content(role="user", parts=[types.Part(function_response=told)]),
        ],
        config=types.GenerateContentConfig(**config),
    )


TOOLS = [types.Tool(function_declarations=[types.FunctionDeclaration(name="look")])]


def test_ids_that_adk_made_do_not_count():
    assert of_model(request(call_id="adk-1")) == of_model(request(call_id="adk-2"))


def test_ids_that_a_model_gave_count():
    assert of_model(request(call_id="x1")) != of_model(request(call_id="x2"))


@pytest.mark.parametrize(
    "config",
    [
        {"labels": {"adk_agent_name": "other"}},
        {"http_options": types.HttpOptions(timeout=1)},
        {"cached_content": "caches/1"},
    ],
    ids=str,
)
def test_how_a_request_travels_does_not_count(config):
    assert of_model(request(**config)) == of_model(request())


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("contents", request("ho")),
        ("instruction", request(system_instruction="Be brief.")),
        ("tools", request(tools=TOOLS)),
        ("config", request(temperature=0.5)),
        ("model", request().model_copy(update={"model": "n"})),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_part_that_changed_is_named(part, other):
    assert of_model(other).differs_from(of_model(request()).parts) == (part,)


def test_nothing_differs_from_the_same():
    assert of_model(request()).differs_from(of_model(request()).parts) == ()


def test_the_order_in_which_config_was_set_does_not_count():
    one, other = request(top_k=1.0, temperature=0.1), request(temperature=0.1)
    other.config.top_k = 1.0
    assert of_model(one) == of_model(other)


def test_text_that_looks_like_an_id_of_adks_counts():
    one, other = '{"id":"adk-1"}', '{"id":"adk-2"}'
    assert of_model(request(one)) != of_model(request(other))


def test_an_argument_named_id_counts():
    assert of_tool({"id": "adk-1"}) != of_tool({"id": "adk-2"})
    assert of_node({"item": {"id": "adk-1"}}) != of_node({"item": {"id": "adk-2"}})


def test_inline_bytes_count():
    def shown(data: bytes) -> LlmRequest:
        made = request()
        blob = types.Blob(data=data, mime_type="image/png")
        made.contents[0].parts.append(types.Part(inline_data=blob))
        return made

    assert of_model(shown(b"\x00\xff")) == of_model(shown(b"\x00\xff"))
    assert of_model(shown(b"\x00\xff")) != of_model(shown(b"\x00\xfe"))


def test_objects_without_json_have_a_fingerprint_all_the_same():
    assert of_tool({"x": object()}) == of_tool({"x": object()})
    assert of_tool({"x": object()}) != of_tool({"x": print})


def test_bytes_that_are_no_text_have_a_fingerprint():
    assert of_node({"x": [b"\xff"]}) == of_node({"x": [b"\xff"]})
    assert of_node({"x": [b"\xff"]}) != of_node({"x": [b"\xfe"]})


def test_a_lone_surrogate_has_a_fingerprint():
    assert of_tool({"x": "\ud800"}) == of_tool({"x": "\ud800"})
    assert of_tool({"x": "\ud800"}) != of_tool({"x": "\udfff"})
    assert of_model(request("\ud800")) != of_model(request("\udfff"))


@pytest.mark.parametrize(
    ("branch", "same"),
    [
        (None, ""),
        ("root.child", "root.child"),
        ("flow@1/node@17", "flow/node"),
        ("a@adk-5f.b@2", "a.b"),
    ],
)
def test_the_numbers_of_runs_do_not_count(branch, same):
    assert without_run_ids(branch) == same
