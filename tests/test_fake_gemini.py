"""The fake Gemini, through the real google-genai client."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google import genai
from google.genai import errors, types

from fake_gemini import Blocked, Call, Cut, Ends, FakeGemini, Fault, Reply


@pytest.fixture
def ask(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., types.GenerateContentResponse]:
    """Asks a fake that has one reply."""

    def one(reply: Reply) -> types.GenerateContentResponse:
        with FakeGemini([reply]) as gemini:
            for name, value in gemini.env.items():
                monkeypatch.setenv(name, value)
            with genai.Client() as client:
                return client.models.generate_content(model="m", contents="Hi")

    return one


def test_it_answers_with_text_and_usage(ask):
    answer = ask("Hello there")

    assert answer.text == "Hello there"
    assert answer.usage_metadata.total_token_count == 8


def test_it_calls_functions_in_parallel(ask):
    answer = ask([Call("a", {"x": 1}), Call("b")])

    assert [(c.name, c.args) for c in answer.function_calls] == [
        ("a", {"x": 1}),
        ("b", {}),
    ]


def test_it_streams_word_by_word_and_keeps_the_requests(monkeypatch):
    with FakeGemini(["Hello there"]) as gemini:
        for name, value in gemini.env.items():
            monkeypatch.setenv(name, value)
        with genai.Client() as client:
            chunks = client.models.generate_content_stream(model="m", contents="Hi")
            assert [chunk.text for chunk in chunks] == ["Hello", " there"]

    (request,) = gemini.requests
    assert (request.model, request.stream) == ("m", True)
    assert request.body["contents"][0]["parts"] == [{"text": "Hi"}]


@pytest.mark.parametrize("code", [400, 429, 503])
def test_a_fault_has_googles_form(ask, code):
    with pytest.raises(errors.APIError) as error:
        ask(Fault(code, retry_after=3))

    assert error.value.code == code
    assert error.value.response.headers["retry-after"] == "3"


def test_a_cut_connection_is_no_answer(ask):
    with pytest.raises(Exception, match=r"(?i)incomplete|closed|peer"):
        ask(Cut())


def test_an_answer_and_a_prompt_can_be_blocked(ask):
    assert ask(Ends("SAFETY")).candidates[0].finish_reason == "SAFETY"
    assert ask(Blocked()).prompt_feedback.block_reason == "PROHIBITED_CONTENT"


def test_more_requests_than_replies_are_an_error(monkeypatch):
    with FakeGemini([]) as gemini:
        for name, value in gemini.env.items():
            monkeypatch.setenv(name, value)
        with genai.Client() as client, pytest.raises(errors.ServerError):
            client.models.generate_content(model="m", contents="Hi")
