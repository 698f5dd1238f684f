"""Audiences: groups of visitors, by conditions, that experiments are shown to."""

import json
from itertools import count
from typing import Any, ClassVar

import pytest

from optimizely_api.runtime.testing import GatewayTestApp
from tests.support.asserting import AUTHORIZED, assert_error
from tests.support.promises import EntityPromises

NUMBERS = count(1)


def leaf(name: str, **members: Any) -> dict[str, Any]:
    return {"type": "custom_attribute", "name": name, "match_type": "exact", "value": "gold", **members}


def attribute(app: GatewayTestApp, ids: dict[str, int], **members: Any) -> dict[str, Any]:
    body = {"project_id": ids["project_id"], "key": f"for_audiences_{next(NUMBERS)}", **members}
    made: dict[str, Any] = app.post_json("/v2/attributes", body, headers=AUTHORIZED).json
    return made


def post(app: GatewayTestApp, ids: dict[str, int], conditions: Any = None, **members: Any) -> Any:
    text = conditions if isinstance(conditions, str) else json.dumps(conditions)
    body = {"project_id": ids["project_id"], **({} if conditions is None else {"conditions": text})}
    return app.post_json("/v2/audiences", {**body, **members}, headers=AUTHORIZED, expect_errors=True)


def problem(response: Any, pointer: str = "/body/conditions") -> str:
    messages: dict[str, str] = assert_error(response, 400, "bad_request")["messages"]
    assert list(messages) == [pointer]
    return messages[pointer]


def read(app: GatewayTestApp, audience: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = app.get(f"/v2/audiences/{audience['id']}", headers=AUTHORIZED).json
    return found


class TestAudiences(EntityPromises):
    path = "/v2/audiences"
    definition = "Audience"
    change: ClassVar[dict[str, Any]] = {"description": "Those who have paid", "segmentation": True}
    unique_key = False
    deletes = False

    def body(self, ids: dict[str, int], number: int) -> dict[str, Any]:
        return {"project_id": ids["project_id"], "name": f"Visitors {number}"}


def test_201_without_a_name_and_conditions_it_is_named_by_its_id_and_matches_nobody(
    real_app: Any, ids: Any
) -> None:
    audience = post(real_app, ids).json
    assert audience["name"] == f"Audience {audience['id']}"
    shown = ("conditions", "description", "is_classic", "segmentation", "experiment_count", "archived")
    assert [audience[name] for name in shown] == ["[]", "", False, False, 0, False]


def test_what_only_the_service_says_is_ignored(real_app: Any, ids: Any) -> None:
    audience = post(real_app, ids, experiment_count=7, is_classic=True).json
    assert (audience["experiment_count"], audience["is_classic"]) == (0, False)


def test_405_for_delete(real_app: Any, ids: Any) -> None:
    audience = post(real_app, ids).json
    response = real_app.delete(f"/v2/audiences/{audience['id']}", headers=AUTHORIZED, expect_errors=True)
    assert_error(response, 405, "method_not_allowed")


# Conditions


def test_conditions_come_back_sorted_and_in_ascii_with_their_lists_as_they_were(
    real_app: Any, ids: Any
) -> None:
    text = '["and",["or",["or",{"value":"é","type":"language"}]]]'
    assert post(real_app, ids, text).json["conditions"] == (
        '["and", ["or", ["or", {"type": "language", "value": "\\u00e9"}]]]'
    )


def test_200_the_same_conditions_in_another_spelling_change_nothing(real_app: Any, ids: Any) -> None:
    audience = post(real_app, ids, [{"type": "language", "value": "en"}]).json
    body = {"conditions": '[{"value":"en","type":"language"}]'}
    address = f"/v2/audiences/{audience['id']}"
    assert real_app.patch_json(address, body, headers=AUTHORIZED).json == audience


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        ["or"],
        [{"type": "first_session"}],
        ["not", {"type": "device", "value": "ipad"}],
        ["and", ["or", {"type": "something_new", "match_type": "odd"}]],
        ["or", {"type": "query", "name": "utm", "match_type": "substring", "value": "a"}],
    ],
    ids=["nobody", "no operands", "no operator", "not", "unknown type", "of the web"],
)
def test_201_for_conditions(real_app: Any, ids: Any, conditions: Any) -> None:
    assert json.loads(post(real_app, ids, conditions).json["conditions"]) == conditions


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ("no json", "must be the text of a JSON list"),
        ("", "must be the text of a JSON list"),
        ('{"type": "device"}', "must be the text of a JSON list"),
        ('["or", {"type": "language", "value": NaN}]', "must be the text of a JSON list"),
        ('["or", {"type": "language", "value": 1e999}]', "JSON cannot hold"),
        (["xor", {"type": "device"}], "begin with and, or or not"),
        (["not", {"type": "device"}, {"type": "ip"}], "exactly one condition"),
        (["not"], "exactly one condition"),
        (["or", "and"], "only conditions and lists"),
        (["or", 5], "only conditions and lists"),
        (["or", {"value": 5}], "without a type"),
        (["or", {"type": "cookies", "value": "a"}], "without a name"),
        (["or", {**leaf("x"), "name": 5}], "whose name is no text"),
        (["or", leaf("x", match_type="gt", value="5")], "whose value is no number"),
        (["or", leaf("x", match_type="le", value=True)], "whose value is no number"),
        (["or", leaf("x", match_type="semver_ge", value=5)], "whose value is no text"),
        (["or", leaf("x", value=None)], "no text, number or boolean"),
        (["or", leaf("x", match_type="near")], "match_type is none of exact"),
        (nested(21), "not be deeper than 20 lists"),
        (nested(100_000), "must be the text of a JSON list"),
        (json.dumps([{"type": "ip"}] * 10_001), "more than 10000 conditions"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_400_for_conditions(real_app: Any, ids: Any, conditions: Any, words: str) -> None:
    assert words in problem(post(real_app, ids, conditions))


def test_201_for_conditions_of_the_most_levels(real_app: Any, ids: Any) -> None:
    assert post(real_app, ids, nested(20)).json["conditions"] == nested(20)


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"type": "device", "value": "ipad"}, "no custom_attribute, as all must be in a project of platform"),
        ({"type": "custom_attribute", "name": "plan"}, "match_type exact whose value is no text"),
    ],
    ids=["of the web", "exact unless said"],
)
def test_400_for_conditions_in_a_project_for_sdks(
    real_app: Any, ids: Any, real_stack: Any, condition: Any, words: str
) -> None:
    project = real_stack.another_project(platform="custom")
    assert words in problem(post(real_app, ids, [condition], project_id=project["id"]))
    audience = post(real_app, ids, project_id=project["id"]).json
    address, body = f"/v2/audiences/{audience['id']}", {"conditions": json.dumps([condition])}
    assert words in problem(real_app.patch_json(address, body, headers=AUTHORIZED, expect_errors=True))


# Attributes in conditions


@pytest.mark.parametrize(
    ("name", "shown"),
    [("nowhere", "nowhere"), ("\0", "\0"), ("\ud800", "\\ud800"), ("ü", "ü"), ("x" * 300, "x" * 200)],
)
def test_400_for_an_attribute_that_does_not_exist(real_app: Any, ids: Any, name: str, shown: str) -> None:
    response = post(real_app, ids, ["or", leaf(name)])
    assert problem(response) == f"Custom attribute '{shown}' does not exist"


def test_400_for_an_attribute_of_another_project(real_app: Any, ids: Any, real_stack: Any) -> None:
    far = attribute(real_app, ids, project_id=real_stack.another_project()["id"])
    assert problem(post(real_app, ids, ["or", leaf(far["key"])])).endswith("does not exist")


def test_400_for_an_archived_attribute_but_those_that_name_it_keep_it(real_app: Any, ids: Any) -> None:
    used = attribute(real_app, ids)
    audience = post(real_app, ids, ["or", leaf(used["key"])]).json
    real_app.delete(f"/v2/attributes/{used['id']}", headers=AUTHORIZED)
    refused = post(real_app, ids, ["or", leaf(used["key"])])
    assert problem(refused) == f"Custom attribute '{used['key']}' is archived"
    body = {"conditions": json.dumps(["or", ["or", leaf(used["key"], value="silver")]])}
    address = f"/v2/audiences/{audience['id']}"
    assert real_app.patch_json(address, body, headers=AUTHORIZED).status_int == 200


def test_an_attribute_is_named_by_its_key_or_else_its_name(real_app: Any, ids: Any) -> None:
    named = attribute(real_app, ids, name="By its name")
    text = post(real_app, ids, ["or", leaf(named["key"]), leaf("By its name")]).json["conditions"]
    assert [part["name"] for part in json.loads(text)[1:]] == [named["key"], "By its name"]


def test_conditions_follow_an_attribute_that_is_renamed(real_app: Any, ids: Any) -> None:
    renamed, other = attribute(real_app, ids, name="Old name"), attribute(real_app, ids)
    names = (renamed["key"], "Old name", other["key"])
    audience = post(real_app, ids, ["or", ["not", leaf(names[0])], *map(leaf, names[1:])]).json
    assert read(real_app, audience) == audience  # and the gateway keeps it for a while
    body = {"key": f"new_{renamed['key']}", "name": "New name"}
    real_app.patch_json(f"/v2/attributes/{renamed['id']}", body, headers=AUTHORIZED)
    text = read(real_app, audience)["conditions"]
    assert json.loads(text) == ["or", ["not", leaf(body["key"])], leaf("New name"), leaf(other["key"])]


def test_a_new_name_leaves_conditions_that_have_the_key(real_app: Any, ids: Any) -> None:
    renamed = attribute(real_app, ids)
    assert renamed["name"] == renamed["key"]
    audience = post(real_app, ids, ["or", leaf(renamed["key"])]).json
    real_app.patch_json(f"/v2/attributes/{renamed['id']}", {"name": "Shown"}, headers=AUTHORIZED)
    assert read(real_app, audience) == audience


def test_the_old_key_is_free_for_another_attribute_and_means_that_one(real_app: Any, ids: Any) -> None:
    first = attribute(real_app, ids)
    audience = post(real_app, ids, ["or", leaf(first["key"])]).json
    address = f"/v2/attributes/{first['id']}"
    real_app.patch_json(address, {"key": f"first_{first['key']}"}, headers=AUTHORIZED)
    second = attribute(real_app, ids, key=first["key"])
    later = post(real_app, ids, ["or", leaf(second["key"])]).json
    real_app.patch_json(address, {"key": f"again_{first['key']}"}, headers=AUTHORIZED)
    assert f"again_{first['key']}" in read(real_app, audience)["conditions"]
    assert read(real_app, later) == later


# Names


def test_400_for_a_name_that_is_taken_names_its_holder(real_app: Any, ids: Any) -> None:
    holder = post(real_app, ids, name="The only one").json
    taken = post(real_app, ids, name="The only one")
    assert problem(taken, "/body/name") == f"is already in use (id: {holder['id']})"


def test_an_archived_audience_leaves_its_name_and_comes_back_with_another(real_app: Any, ids: Any) -> None:
    first = post(real_app, ids, name="For one at a time").json
    address = f"/v2/audiences/{first['id']}"
    assert real_app.patch_json(address, {"archived": True}, headers=AUTHORIZED).json["archived"] is True
    second = post(real_app, ids, name="For one at a time").json
    back = real_app.patch_json(address, {"archived": False}, headers=AUTHORIZED, expect_errors=True)
    assert problem(back, "/body/name") == f"is already in use (id: {second['id']})"
    body = {"archived": False, "name": "For the other"}
    assert real_app.patch_json(address, body, headers=AUTHORIZED).json["archived"] is False


def test_409_for_changing_an_archived_audience(real_app: Any, ids: Any) -> None:
    address = f"/v2/audiences/{post(real_app, ids, archived=True).json['id']}"
    response = real_app.patch_json(address, {"description": "x"}, headers=AUTHORIZED, expect_errors=True)
    assert_error(response, 409, "conflict")


# Experiments that name an audience


def naming(audience: dict[str, Any]) -> str:
    return json.dumps(["or", ["not", {"audience_id": audience["id"]}]])


def listed(app: GatewayTestApp, audience: dict[str, Any]) -> dict[str, Any]:
    """The audience in its list: the service is asked anew for it, whatever was written past the gateway."""
    address = f"/v2/audiences?project_id={audience['project_id']}&per_page=100"
    return next(one for one in app.get(address, headers=AUTHORIZED).json if one["id"] == audience["id"])


def test_experiments_that_are_not_archived_are_counted(real_app: Any, ids: Any, real_stack: Any) -> None:
    audience, other = post(real_app, ids).json, post(real_app, ids).json
    made = [real_stack.another_experiment(audience_conditions=naming(audience)) for _ in range(2)]
    assert listed(real_app, audience)["experiment_count"] == 2
    real_stack.act(made[0]["id"], "archive")
    assert listed(real_app, audience)["experiment_count"] == 1
    assert listed(real_app, other)["experiment_count"] == 0


def test_409_for_archiving_while_a_running_experiment_uses_it(
    real_app: Any, ids: Any, real_stack: Any
) -> None:
    audience = post(real_app, ids).json
    running = real_stack.another_experiment("start", audience_conditions=naming(audience))
    address = f"/v2/audiences/{audience['id']}"
    refused = real_app.patch_json(address, {"archived": True}, headers=AUTHORIZED, expect_errors=True)
    assert str(running["id"]) in assert_error(refused, 409, "conflict")["message"]
    real_stack.act(running["id"], "pause")
    assert real_app.patch_json(address, {"archived": True}, headers=AUTHORIZED).json["archived"] is True
