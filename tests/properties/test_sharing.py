"""Messages that share their parts are still the messages that were read."""

from __future__ import annotations

from hypothesis import given

from meshlib.config.resources import load_dict
from meshlib.config.resources.base import Message
from meshlib.config.resources.kinds import kind_of
from meshlib.config.resources.sharing import share
from tests.strategies import bounded, objects


@bounded(150)
@given(objects())
def test_a_message_with_shared_parts_equals_and_dumps_as_one_without(given_):
    for resource in load_dict(given_).resources:
        kind = kind_of(resource.api_version, resource.kind)
        outer = ("apiVersion", "kind", "metadata", "status")
        plain = given_.get(kind.field) if kind.field else {k: v for k, v in given_.items() if k not in outer}
        alone = kind.spec.model_validate(plain or {})
        assert str(resource.spec) == str(alone)
        assert resource.spec.model_dump_json(exclude_unset=True) == alone.model_dump_json(exclude_unset=True)


class Part(Message):
    number: float = 0
    flag: bool | None = None


class Whole(Message):
    parts: list[Part] = []
    by_name: dict[str, Part] = {}
    one: Part | None = None


def whole(**given_):
    return share(Whole.model_validate(given_))


def test_equal_parts_are_one_object_wherever_they_stand():
    message = whole(parts=[{"number": 1}, {"number": 1}], byName={"a": {"number": 1}}, one={"number": 1})
    assert {id(part) for part in (*message.parts, *message.by_name.values(), message.one)} == {id(message.one)}
    assert message == Whole.model_validate(
        {"parts": [{"number": 1}, {"number": 1}], "byName": {"a": {"number": 1}}, "one": {"number": 1}}
    )


def test_parts_that_only_look_equal_are_told_apart():
    first, second, third, fourth = whole(parts=[{"number": 1}, {"number": 1, "flag": None}, {}, {"number": 0}]).parts
    assert first is not second, "a field that was given as null was given"
    assert third is not fourth
    assert third.model_dump(exclude_unset=True) == {}
    assert fourth.model_dump(exclude_unset=True) == {"number": 0}
    odd, even = whole(parts=[{"number": 1, "what": 2}, {"number": 1}]).parts
    assert (odd.model_extra, even.model_extra) == ({"what": 2}, {})


def test_a_changed_copy_leaves_the_shared_one_alone():
    one = whole(one={"number": 1}).one
    other = one.model_copy(update={"flag": True})
    assert (one.flag, one.model_fields_set) == (None, {"number"})
    assert other.model_fields_set == {"number", "flag"}
    assert whole(one={"number": 1}).one is one
