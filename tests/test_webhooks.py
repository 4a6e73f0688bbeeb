"""Webhooks: signed as Standard Webhooks has it, and retried until they are taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from google.adk.agents import LlmAgent

from adk_oban import AdkOban, AgentWorker
from adk_oban._webhook_sender import Message, WebhookSender
from adk_oban.on_complete import Then, Webhook
from adk_oban.testing import ScriptedModel, drain
from adk_oban.webhooks import new_secret, parse_secrets, sign, verify
from hooks import HANG, SECRET, Answer, Receiver, follow_ups

BODY = b'{"test": 2432232314}'


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def sender() -> AsyncIterator[WebhookSender]:
    sender = WebhookSender(parse_secrets(SECRET))
    yield sender
    await sender.close()


@pytest.fixture
async def jobs(dsn: str, migrated: str, helper: LlmAgent) -> AsyncIterator[AdkOban]:
    failing = LlmAgent(name="failing", model=ScriptedModel(replies=_fail))
    agents = {"helper": helper, "failing": failing}
    async with AdkOban(
        dsn, prefix=migrated, agents=agents, webhook_secret=SECRET
    ) as jobs:
        yield jobs


def _fail(_request: object) -> Exception:
    return RuntimeError("no luck")


def headers(**changed: str) -> dict[str, str]:
    now = int(time.time())
    signature = sign(parse_secrets(SECRET), "msg_1", now, BODY)
    said = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(now),
        "Webhook-Signature": signature,
    }
    return {**said, **changed}


def test_a_signature_is_that_of_the_specification():
    signature = sign(
        parse_secrets(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, BODY
    )

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_is_signed_is_verified_with_any_of_the_secrets():
    assert verify(BODY, headers(), [new_secret(), SECRET]) == {"test": 2432232314}
    assert verify(BODY.decode(), headers(), SECRET) == {"test": 2432232314}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"Webhook-Id": "msg_2"}, "no signature"),
        ({"Webhook-Signature": "v1,AAAA v2,é"}, "no signature"),
        ({"Webhook-Signature": ""}, "no webhook-signature"),
        ({"Webhook-Timestamp": "1614265330"}, "is more than 300 s off"),
        ({"Webhook-Timestamp": "99999999999"}, "is more than 300 s off"),
        ({"Webhook-Timestamp": "soon"}, "must be seconds"),
    ],
)
def test_a_webhook_that_was_changed_is_refused(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        verify(BODY, headers(**changed), SECRET)


def test_another_body_or_secret_is_refused():
    with pytest.raises(ValueError, match="no signature"):
        verify(BODY + b" ", headers(), SECRET)
    with pytest.raises(ValueError, match="no signature"):
        verify(BODY, headers(), new_secret())


@pytest.mark.parametrize(
    "secret", ["hunter2", "whsec_c2hvcnQ=", "whsec_%%%", SECRET[6:]]
)
def test_a_wrong_secret_is_refused_and_not_shown(secret):
    with pytest.raises(ValueError, match="whsec_") as caught:
        AdkOban("postgresql://x", webhook_secret=secret)
    assert secret not in str(caught.value)


async def test_two_secrets_sign_twice(receiver):
    old, new = new_secret(), new_secret()
    sender = WebhookSender(parse_secrets(f"{new} {old}"))
    await sender.send(Message("m", receiver.url, BODY))
    await sender.close()

    (hook,) = receiver.hooks
    assert hook.told(old) == hook.told(new)
    assert len(hook.headers["webhook-signature"].split()) == 2


async def test_redirects_are_not_followed(sender, receiver):
    away = Answer(302, (("Location", receiver.url),))
    with Receiver([away]) as first:
        with pytest.raises(httpx.HTTPStatusError, match="answered 302"):
            await sender.send(Message("m", first.url, BODY))

    assert receiver.hooks == []


async def test_only_an_excerpt_of_a_refusal_is_kept(sender):
    with Receiver([Answer(500, body=b"x" * 1_000_000)]) as first:
        with pytest.raises(httpx.HTTPStatusError) as caught:
            await sender.send(Message("m", first.url, BODY))

    assert 300 <= len(str(caught.value)) < 400


async def test_a_receiver_that_does_not_answer_is_given_up():
    sender = WebhookSender(parse_secrets(SECRET), timeout=0.05)
    with Receiver([HANG]) as first:
        with pytest.raises(TimeoutError, match="did not answer within"):
            await sender.send(Message("m", first.url, BODY))
    await sender.close()


async def test_a_receiver_that_is_down_is_named(sender):
    with pytest.raises(ConnectionError, match=r"http://127\.0\.0\.1:9/ could not be"):
        await sender.send(Message("m", "http://127.0.0.1:9/", BODY))


async def test_a_completed_job_is_told(jobs, receiver):
    job = await AgentWorker.enqueue(
        "helper", "u", "hi", session_id="s", on_complete=Webhook(receiver.url)
    )
    assert await drain(jobs) == {"completed": 2}

    (hook,) = receiver.hooks
    told = hook.told()
    assert told["type"] == "job.completed"
    assert told["timestamp"].endswith("Z")
    assert told["data"] == {
        "job_id": job.id,
        "state": "completed",
        "agent": "helper",
        "app_name": "adk_oban",
        "user_id": "u",
        "session_id": "s",
        "invocation_id": (await job.result()).invocation_id,
        "text": "You said: hi",
        "output": None,
        "error": None,
        "error_code": None,
        "attempts": 1,
        "model_calls": 1,
        "usage": {},
    }


async def test_a_discarded_job_is_told_with_its_error(jobs, receiver):
    await AgentWorker.enqueue(
        "failing", "u", "hi", max_attempts=1, on_complete=Webhook(receiver.url)
    )
    await drain(jobs)

    told = receiver.hooks[0].told()
    assert told["type"] == "job.discarded"
    assert told["data"]["error"] == "RuntimeError: no luck"


async def test_only_the_events_that_are_asked_for_are_told(jobs, receiver):
    step = Webhook(receiver.url, events=["discarded"])
    await AgentWorker.enqueue("helper", "u", "hi", on_complete=step)

    assert await drain(jobs) == {"completed": 2}
    assert receiver.hooks == []


@pytest.mark.parametrize("status", [503, 429, 404, 302])
async def test_a_refused_webhook_is_sent_again_as_the_same(
    jobs, conn, migrated, status
):
    with Receiver([status]) as first:
        step = Webhook(first.url)
        await AgentWorker.enqueue("helper", "u", "hi", on_complete=step)
        assert await drain(jobs) == {"completed": 2, "retryable": 1}

    refused, taken = first.hooks
    assert (refused.id, refused.body) == (taken.id, taken.body)
    assert (
        f"answered {status}"
        in (await follow_ups(conn, migrated))[0]["errors"][0]["error"]
    )


async def test_a_receiver_says_when_it_wants_to_be_asked_again(jobs, conn, migrated):
    with Receiver([Answer(503, (("Retry-After", "2000"),))]) as first:
        step = Webhook(first.url)
        await AgentWorker.enqueue("helper", "u", "hi", on_complete=step)
        await drain(jobs, with_scheduled=False)

    (job,) = await follow_ups(conn, migrated)
    pause = (job["scheduled_at"] - job["attempted_at"]).total_seconds()
    assert 1999 < pause < 2010


async def test_a_receiver_that_is_gone_is_left_alone(jobs, conn, migrated):
    with Receiver([410]) as first:
        step = Webhook(first.url)
        await AgentWorker.enqueue("helper", "u", "hi", on_complete=step)
        assert await drain(jobs) == {"completed": 1, "cancelled": 1}

    (job,) = await follow_ups(conn, migrated)
    assert "is gone (410)" in job["errors"][0]["error"]


async def test_without_a_secret_the_attempt_says_so(
    dsn, conn, migrated, helper, receiver
):
    async with AdkOban(dsn, prefix=migrated, agents={"helper": helper}) as jobs:
        step = Webhook(receiver.url)
        await AgentWorker.enqueue("helper", "u", "hi", on_complete=step)
        await drain(jobs, with_scheduled=False)
        (job,) = await follow_ups(conn, migrated)

    assert job["state"] == "retryable"
    assert "this worker has no webhook_secret" in job["errors"][0]["error"]
    assert receiver.hooks == []


async def test_a_worker_without_a_secret_refuses_it_at_once(serve, helper):
    async with serve(agents={"helper": helper}):
        for step in (
            Webhook("https://x/"),
            Then("helper", on_complete=Webhook("https://x/")),
        ):
            with pytest.raises(ValueError, match="'https://x/' could not be signed"):
                await AgentWorker.enqueue("helper", "u", "hi", on_complete=step)


async def test_the_secret_comes_from_the_environment(
    dsn, migrated, helper, receiver, monkeypatch
):
    monkeypatch.setenv("ADK_OBAN_WEBHOOK_SECRET", f"{new_secret()} {SECRET}")
    async with AdkOban(dsn, prefix=migrated, agents={"helper": helper}) as jobs:
        step = Webhook(receiver.url)
        await AgentWorker.enqueue("helper", "u", "hi", on_complete=step)
        await drain(jobs)

    assert receiver.hooks[0].told()["type"] == "job.completed"


async def test_a_running_worker_tells_by_itself(serve, helper, receiver):
    async with serve(agents={"helper": helper}, webhook_secret=SECRET):
        step = Webhook(receiver.url)
        await AgentWorker.enqueue("helper", "u", "hi", on_complete=step)
        async with asyncio.timeout(15):
            while not receiver.hooks:
                await asyncio.sleep(0.01)

    assert receiver.hooks[0].told()["data"]["text"] == "You said: hi"
