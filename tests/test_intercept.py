"""Interception: whichever class a method comes from, it is gone around once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import wraps

import pytest

from adk_oban._intercept import intercept

calls: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def note(original):
    @wraps(original)
    def around(self, *args):
        calls.append(type(self).__name__)
        return original(self, *args)

    return around


class Base:
    """A class whose subclasses may bring a method."""

    options: dict

    def __init_subclass__(cls, **options) -> None:
        super().__init_subclass__()
        cls.options = options

    def go(self) -> str:
        return "base"


class Before(Base):
    def go(self) -> str:
        return "before"


class Below(Before):
    def go(self) -> str:
        return "below"


intercept(Base, "go", note)


@pytest.mark.parametrize("cls", [Base, Before, Below])
def test_classes_that_are_there_are_gone_around(cls):
    assert cls().go() == cls.__name__.lower()
    assert calls == [cls.__name__]


def test_a_class_that_comes_later_is_gone_around():
    class After(Base):
        def go(self) -> str:
            return "after"

    class Last(After):
        def go(self) -> str:
            return "last"

    assert (After().go(), Last().go()) == ("after", "last")
    assert calls == ["After", "Last"]


def test_a_class_without_the_method_has_its_parents():
    class Plain(Before):
        pass

    assert Plain().go() == "before"
    assert calls == ["Plain"]


def test_a_class_keeps_its_own_options():
    class Optional(Base, size=3):
        pass

    assert Optional.options == {"size": 3}


def test_a_method_that_comes_from_a_mixin_is_gone_around():
    class Mixin:
        def go(self) -> str:
            return "mixin"

    class Mixed(Mixin, Base):
        pass

    assert Mixed().go() == "mixin"
    assert calls == ["Mixed"]


def test_a_class_with_a_hook_of_its_own_has_children_that_are_gone_around():
    class Registry(Base):
        def __init_subclass__(cls) -> None:
            pass

    class Registered(Registry):
        def go(self) -> str:
            return "registered"

    assert Registered().go() == "registered"
    assert calls == ["Registered"]


def test_intercepting_twice_goes_around_once():
    intercept(Base, "go", note)
    Below().go()
    assert calls == ["Below"]


def test_an_abstract_method_stays_abstract():
    class Shape(ABC):
        @abstractmethod
        def area(self) -> int: ...

    intercept(Shape, "area", note)

    class Square(Shape):
        def area(self) -> int:
            return 4

    with pytest.raises(TypeError, match="abstract"):
        Shape()
    assert Square().area() == 4
    assert calls == ["Square"]
