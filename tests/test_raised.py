"""Errors that agents lived with: recorded, met again, and told from the last one."""

from __future__ import annotations

import pytest

from adk_oban._raised import decode_error, encode_error, is_behind


class OwnError(Exception):
    """An error whose constructor wants more than its arguments."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"{code}: {hint}")
        self.code = code


def again(error: Exception) -> Exception:
    back = decode_error(encode_error(error))
    assert back is not None
    return back


@pytest.mark.parametrize(
    "error",
    [LookupError("no"), OSError(2, "gone"), KeyError("k"), ValueError(), Exception(1)],
    ids=repr,
)
def test_an_error_comes_back_as_it_was(error):
    back = again(error)
    assert (type(back), str(back), back.args) == (type(error), str(error), error.args)


def test_an_error_of_the_users_own_comes_back():
    back = again(OwnError(7, hint="try later"))
    assert isinstance(back, OwnError)
    assert str(back) == "7: try later"


def test_an_error_of_no_module_here_comes_back_with_its_name():
    class Local(Exception):
        pass

    back = again(Local("gone"))
    assert type(back) is RuntimeError
    assert str(back).endswith("Local: gone")


def test_an_error_with_arguments_that_are_no_json_comes_back():
    assert "object object" in str(again(LookupError(object())))


def test_what_is_no_error_is_none():
    assert decode_error('{"result":1}') is None
    assert decode_error("[]") is None


def test_an_error_is_behind_what_it_led_to():
    cause, other = LookupError("no"), LookupError("no")
    try:
        try:
            raise cause
        except LookupError as error:
            raise ExceptionGroup("several", [OSError("x"), error]) from None
    except ExceptionGroup as outcome:
        assert is_behind(cause, outcome)
        assert is_behind(outcome, outcome)
        assert not is_behind(other, outcome)


def test_errors_that_are_each_others_context_have_an_end():
    one, other = ValueError("1"), ValueError("2")
    one.__cause__, other.__cause__ = other, one
    try:
        found = is_behind(LookupError(), one)
    except RecursionError:
        found = None
    one.__cause__ = other.__cause__ = None
    assert found is False
