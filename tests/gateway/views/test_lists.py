"""Lists: bare arrays, pages, the Link header, and only what belongs to the caller's account."""

import re

import pytest

from tests.support import samples
from tests.support.asserting import assert_error, get

IN_PROJECT = f"project_id={samples.PROJECT}"
LISTS = {
    "/v2/projects": "projects",
    f"/v2/campaigns?{IN_PROJECT}": "layers",
    f"/v2/experiments?{IN_PROJECT}": "experiments",
    f"/v2/events?{IN_PROJECT}": "events",
}


@pytest.mark.parametrize(("path", "kind"), LISTS.items(), ids=LISTS.values())
def test_a_list_is_a_bare_array_of_the_accounts_own(gateway, services, path, kind):
    body = get(gateway, path).json
    own = [
        entity["id"] for entity in getattr(services, kind).values() if entity["account_id"] == samples.ACCOUNT
    ]
    assert [entity["id"] for entity in body] == own


def test_experiments_without_a_filter_are_those_of_the_account(gateway):
    assert [experiment["id"] for experiment in get(gateway, "/v2/experiments").json] == [samples.EXPERIMENT]


def test_experiments_of_a_campaign(gateway):
    path = f"/v2/experiments?campaign_id={samples.LAYER}"
    assert [experiment["id"] for experiment in get(gateway, path).json] == [samples.EXPERIMENT]


@pytest.mark.parametrize("path", ["/v2/campaigns", "/v2/experiments", "/v2/events"])
def test_403_for_another_accounts_project(gateway, path):
    assert_error(get(gateway, f"{path}?project_id={samples.OTHER_PROJECT}", status=403), 403, "forbidden")


@pytest.mark.parametrize("path", ["/v2/campaigns", "/v2/experiments", "/v2/events"])
def test_404_for_an_unknown_project(gateway, path):
    assert_error(get(gateway, f"{path}?project_id=99", status=404), 404, "not_found", "project 99")


def test_403_for_another_accounts_campaign(gateway):
    path = f"/v2/experiments?campaign_id={samples.OTHER_LAYER}"
    assert_error(get(gateway, path, status=403), 403, "forbidden")


def with_internal_keys(value):
    """The value with a key of the services' own in every object that the contract describes."""
    if isinstance(value, list):
        return [with_internal_keys(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        **{key: with_internal_keys(item) for key, item in value.items()},
        "internal_key": "internal value",
    }


@pytest.fixture
def entities_with_internal_keys(services):
    for kind in ("projects", "layers", "experiments", "events"):
        entities = getattr(services, kind)
        entities.update({number: with_internal_keys(entity) for number, entity in entities.items()})


@pytest.mark.parametrize(
    "path",
    [
        *LISTS,
        f"/v2/projects/{samples.PROJECT}",
        f"/v2/experiments/{samples.EXPERIMENT}",
        f"/v2/campaigns/{samples.LAYER}",
        f"/v2/events/{samples.EVENT}",
    ],
)
def test_nothing_but_the_contracts_properties_is_shown(gateway, entities_with_internal_keys, path):
    text = get(gateway, path).text
    assert "internal" not in text
    assert not re.search(r'"(layer_id|metric_names|results_settings|experiment_ids)"', text)


@pytest.fixture
def sixty_projects(services):
    services.projects = {number: samples.project(number) for number in range(1, 61)}
    return services


def links(response):
    header = response.headers.get("Link")
    if header is None:
        return {}
    pairs = [part.split(">; rel=") for part in header.split(", <")]
    return {relation: url.lstrip("<") for url, relation in pairs}


def test_a_page_has_25_entries_unless_asked_otherwise(gateway, sixty_projects):
    assert [project["id"] for project in get(gateway, "/v2/projects").json] == list(range(1, 26))


def test_the_first_page_leads_to_the_next_and_the_last(gateway, sixty_projects):
    assert get(gateway, "/v2/projects").headers["Link"] == (
        "<http://localhost/v2/projects?page=2&per_page=25>; rel=next, "
        "<http://localhost/v2/projects?page=3&per_page=25>; rel=last"
    )


def test_a_page_in_the_middle_leads_both_ways(gateway, sixty_projects):
    assert get(gateway, "/v2/projects?page=2").headers["Link"] == (
        "<http://localhost/v2/projects?page=1&per_page=25>; rel=prev, "
        "<http://localhost/v2/projects?page=3&per_page=25>; rel=next, "
        "<http://localhost/v2/projects?page=3&per_page=25>; rel=last"
    )


def test_the_last_page_leads_back_only(gateway, sixty_projects):
    assert set(links(get(gateway, "/v2/projects?page=3"))) == {"prev"}


def test_a_single_page_has_no_link_header(gateway, sixty_projects):
    assert "Link" not in get(gateway, "/v2/projects?per_page=100").headers


def test_a_page_past_the_end_is_empty_and_leads_back_to_the_last(gateway, sixty_projects):
    response = get(gateway, "/v2/projects?page=9")
    assert response.json == []
    assert links(response) == {"prev": "http://localhost/v2/projects?page=3&per_page=25"}


@pytest.mark.parametrize("page", [5, 2**31, 2**53 - 1])
def test_a_page_far_past_the_end_is_empty(gateway, sixty_projects, page):
    assert get(gateway, f"/v2/projects?page={page}").json == []
    assert int(sixty_projects.seen[-1].query["page"]) <= 1_000_000_000  # what the services count to


def test_links_keep_the_query_host_and_scheme_of_the_caller(gateway, sixty_projects):
    response = get(
        gateway, "/v2/projects?per_page=50&filter=name:a%20b&unknown=%C3%A9", Host="api.example.com:8443"
    )
    assert links(response)["next"] == (
        "http://api.example.com:8443/v2/projects?filter=name%3Aa+b&unknown=%C3%A9&page=2&per_page=50"
    )


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=x", "page=1.5", f"page={10**30}", "per_page=0", "per_page=101"]
)
def test_400_for_a_page_that_cannot_be(gateway, query):
    body = assert_error(get(gateway, f"/v2/projects?{query}", status=400), 400, "bad_request")
    assert list(body["messages"]) == [f"/query/{query.split('=')[0]}"]


@pytest.mark.parametrize(
    "query",
    ["?query&type=page", "?&page=1", "page=", "?unknown=1", "per_page=&page=1"],
)
def test_what_clients_in_the_field_send_is_accepted(gateway, query):
    assert len(get(gateway, f"/v2/projects?{query}").json) == 1


def test_filters_are_passed_on(gateway, services):
    get(gateway, "/v2/projects?filter=platform:web&filter=status:active")
    (seen,) = (seen for seen in services.seen if seen.path == "/projects")
    assert seen.query["account_id"] == str(samples.ACCOUNT)
