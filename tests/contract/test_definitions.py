"""What callers may see of an entity: the contract's properties, at every level."""

from optimizely_api.contract.definitions import public, writable


def test_a_key_that_the_contract_does_not_know_is_left_out() -> None:
    assert public("Event", {"id": 1, "account_id": 2, "tables": {}}) == {"id": 1}


def test_a_key_inside_a_list_or_a_map_is_left_out_too() -> None:
    experiment = {
        "variations": [{"variation_id": 1, "bucket": 2}],
        "environments": {"production": {"status": "running", "bucket": 2}},
    }
    assert public("Experiment", experiment) == {
        "variations": [{"variation_id": 1}],
        "environments": {"production": {"status": "running"}},
    }


def test_null_and_empty_values_stay() -> None:
    assert public("Experiment", {"variations": [], "schedule": None}) == {"variations": [], "schedule": None}


def test_a_value_of_another_type_is_left_to_the_response_check() -> None:
    assert public("Experiment", {"variations": 7}) == {"variations": 7}


def test_the_services_entity_is_not_changed() -> None:
    event = {"id": 1, "account_id": 2}
    public("Event", event)
    assert event == {"id": 1, "account_id": 2}


def test_a_property_that_callers_set_although_it_is_marked_read_only_is_writable() -> None:
    assert {"name", "project_id", "url"} == set(writable("Webhook")["required"])
    assert "active" not in writable("Webhook")["properties"]


def test_an_object_of_nothing_but_read_only_properties_is_not_writable() -> None:
    assert "datafile" not in writable("Environment")["properties"]
