"""Compressed answers: which coding a caller gets (RFC 9110 section 12.5.3), and that it is the same answer in it."""

import gzip
import http.client
import threading

import brotli
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from pyramid.request import Request
from pyramid.response import Response
from webob import Request as BlankRequest

from optimizely_api import main
from optimizely_api.gateway import finishing as answers
from optimizely_api.http.codings import CODINGS, compress, preference, zstd
from optimizely_api.runtime.testing import GatewayTestApp
from tests.contract.conftest import make_router
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get
from tests.support.serving import serve

PROJECT = f"/v2/projects/{samples.PROJECT}"
RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"
DECOMPRESS = {"zstd": zstd.decompress, "br": brotli.decompress, "gzip": gzip.decompress}
SMALL, LARGE = 20, 2_000  # metrics of an answer; the larger one is compressed in a thread


def results_of(metrics):
    answer = samples.results()
    metric = answer["metrics"][0]
    answer["metrics"] = [{**metric, "name": f"Metric {number}"} for number in range(metrics)]
    return answer


def accepting(field):
    return {"Accept-Encoding": field}


def get_as_it_is(app, path, accept_encoding, status=200):
    """GET without WebTest, which unpacks answers."""
    fields = {**AUTHORIZED, "Accept-Encoding": accept_encoding}
    response = BlankRequest.blank(path, headers=fields).get_response(app.app)
    assert response.status_int == status
    return response


# Which coding


@pytest.mark.parametrize(
    ("accept_encoding", "coding", "takes_plain"),
    [
        # RFC 9110's own examples
        ("compress, gzip", "gzip", True),
        ("", None, True),
        ("*", "zstd", True),
        ("compress;q=0.5, gzip;q=1.0", "gzip", True),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", "gzip", True),
        # what clients send
        ("gzip, deflate", "gzip", True),
        ("gzip, deflate, br", "br", True),
        ("gzip, deflate, br, zstd", "zstd", True),
        ("identity", None, True),
        ("deflate", None, True),
        # weights
        ("gzip;q=0.8, br;q=0.9, zstd;q=0.1", "br", True),
        ("gzip;q=0.001, br;q=0.002", "br", True),
        ("gzip;q=0, br", "br", True),
        ("gzip;q=0", None, True),
        ("gzip;q=0.000", None, True),
        ("zstd;q=0, *", "br", True),
        ("*;q=0.5, gzip", "gzip", True),
        ("*;q=0, gzip", "gzip", False),
        ("identity, gzip;q=0.5", None, True),
        ("identity;q=0.5, gzip;q=0.5", "gzip", True),
        ("identity;q=0, gzip;q=0.1", "gzip", False),
        ("identity;q=0", None, True),  # nothing we have will do: without a coding, rather than nothing
        ("*;q=0", None, True),
        # ways of writing
        ("GZIP", "gzip", True),
        ("x-gzip", "gzip", True),
        (" \tbr \t;\tQ=1.000 ,,", "br", True),
        # malformed members are left out, and the others count
        ("gzip;q=2", None, True),
        ("gzip;q=", None, True),
        ("gzip;q=0.5555", None, True),
        ("gzip;q=-1, br;q=nan, zstd;q=1e0", None, True),
        ("gzip;level=9", None, True),
        ("gzip br", None, True),
        (";;;, =, gzip", "gzip", True),
    ],
)
def test_the_coding_is_chosen_by_weight_and_then_by_our_order(accept_encoding, coding, takes_plain):
    chosen = preference(accept_encoding)
    assert (chosen.coding, chosen.takes_plain) == (coding, takes_plain)


MEMBERS = st.tuples(
    st.sampled_from([*CODINGS, "identity", "*", "deflate"]),
    st.sampled_from(["", ";q=0", ";q=0.0", ";q=0.3", "; q=0.7", ";q=1", ";q=x"]),
)


@given(st.lists(MEMBERS, unique_by=lambda member: member[0]))
def test_a_coding_is_only_chosen_where_it_or_a_star_stands_with_a_weight(members):
    asked = {name: weight for name, weight in members if weight != ";q=x"}
    chosen = preference(", ".join(name + weight for name, weight in members)).coding
    if chosen is not None:
        assert asked.get(chosen, asked.get("*")) not in (None, ";q=0", ";q=0.0")


@given(st.text())
def test_no_text_is_too_odd(text):
    assert preference(text).coding in (None, *CODINGS)


@pytest.mark.parametrize("coding", CODINGS)
def test_the_same_body_gives_the_same_bytes_so_that_the_etag_is_strong(coding):
    bodies = [b"a" * 5000, b"b" * 100, b"a" * 5000]
    first, _, again = (compress(coding, body) for body in bodies)
    assert first == again
    assert DECOMPRESS[coding](first) == bodies[0]


def test_gzip_carries_no_time_that_would_change_the_bytes():
    assert compress("gzip", b"a")[4:8] == bytes(4)  # RFC 1952 section 2.3.1: MTIME


# The same answer, on the wire


@pytest.fixture(scope="module")
def url(running_services, tmp_path_factory):
    log = tmp_path_factory.mktemp("gunicorn") / "gunicorn.log"
    settings = {**running_services.settings(), "identity_cache_seconds": "600"}
    with serve("main", settings, log, "--workers", "1") as served:
        yield served.url


@pytest.fixture
def connection(url):
    """One connection, which every request goes over: a wrong length would spoil the next answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    yield connection
    connection.close()


def ask(connection, method="GET", **headers):
    """Status, fields by names in small letters, and the bytes as they came."""
    connection.request(method, RESULTS, headers={**AUTHORIZED, **headers})
    answer = connection.getresponse()
    return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()


@pytest.mark.parametrize("metrics", [SMALL, LARGE])
@pytest.mark.parametrize("coding", CODINGS)
def test_an_answer_is_the_same_in_every_coding(connection, services, coding, metrics):
    services.results[samples.EXPERIMENT] = results_of(metrics)
    _, plainly, body = ask(connection)
    status, fields, coded = ask(connection, **accepting(coding))
    assert (status, fields["content-encoding"]) == (200, coding)
    assert len(coded) == int(fields["content-length"]) < len(body) / 3
    assert DECOMPRESS[coding](coded) == body
    assert "content-encoding" not in plainly
    assert plainly["vary"] == fields["vary"] == "Accept-Encoding"
    assert ask(connection)[2] == body


@pytest.mark.parametrize("coding", CODINGS)
def test_each_coding_has_an_etag_of_its_own_and_its_own_304(connection, services, coding):
    services.results[samples.EXPERIMENT] = results_of(SMALL)
    tags = {name: ask(connection, **accepting(name))[1]["etag"] for name in ("identity", *CODINGS)}
    assert len(set(tags.values())) == len(tags)
    for name, etag in tags.items():
        status, fields, body = ask(connection, **accepting(coding), **{"If-None-Match": etag})
        assert (status, fields["etag"]) == (304 if name == coding else 200, tags[coding])
        assert fields["vary"] == "Accept-Encoding"
        if status == 304:
            assert body == b""
            assert "content-encoding" not in fields


@pytest.mark.parametrize("coding", CODINGS)
def test_head_says_what_get_would_say_but_for_the_length(connection, services, coding):
    services.results[samples.EXPERIMENT] = results_of(SMALL)
    (_, whole, _), (_, head, nothing) = (
        ask(connection, method, **accepting(coding)) for method in ("GET", "HEAD")
    )
    assert nothing == b""
    changing = {"content-length", "x-request-id", "date"}
    assert {k: v for k, v in head.items() if k not in changing} == {
        k: v for k, v in whole.items() if k not in changing
    }
    assert "content-length" not in head


def test_clients_unpack_it_without_being_told(url, services):
    services.results[samples.EXPERIMENT] = results_of(SMALL)
    answer = requests.get(url + RESULTS, headers=AUTHORIZED, timeout=30)
    assert answer.headers["Content-Encoding"] in CODINGS
    assert len(answer.json()["metrics"]) == SMALL


# What is compressed


def test_a_small_answer_is_not_but_caches_are_told_that_it_could_have_been(gateway):
    response = get_as_it_is(gateway, PROJECT, "br")
    assert "Content-Encoding" not in response.headers
    assert response.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("field", ["br, identity;q=0", "br, *;q=0"])
def test_a_small_answer_is_for_a_caller_that_takes_nothing_else(gateway, field):
    response = get_as_it_is(gateway, PROJECT, field)
    assert response.headers["Content-Encoding"] == "br"
    assert brotli.decompress(response.body).startswith(b"{")


def sizes_compressed(services, **settings):
    with GatewayTestApp(main({}, **services.settings(), **settings)) as app:
        plain = get(app, PROJECT)
        coded = get_as_it_is(app, PROJECT, "br")
        return len(plain.body), coded.headers.get("Content-Encoding"), coded.headers.get("Vary")


def test_the_setting_says_from_which_size(services):
    size, _, _ = sizes_compressed(services)
    assert sizes_compressed(services, compress_from_bytes=str(size)) == (size, "br", "Accept-Encoding")
    assert sizes_compressed(services, compress_from_bytes=str(size + 1)) == (size, None, "Accept-Encoding")


def test_0_compresses_nothing_and_nothing_varies(services):
    assert sizes_compressed(services, compress_from_bytes="0")[1:] == (None, None)


def test_the_contracts_document_is(gateway):
    for path in ("/v2/swagger.json", "/v2/swagger.yaml"):
        response = get_as_it_is(gateway, path, "zstd")
        assert response.headers["Content-Encoding"] == "zstd"
        assert zstd.decompress(response.body) == gateway.get(path).body


def test_errors_are_not_for_they_may_repeat_what_was_asked(services):
    with GatewayTestApp(main({}, **services.settings(), compress_from_bytes="1")) as app:
        response = get_as_it_is(app, "/v2/nowhere", "br", status=404)
        assert_error(response, 404, "not_found")
        assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize("status", [202, 204])
def test_answers_without_content_are_not(gateway, services, status):
    services.results_status = status
    response = get_as_it_is(gateway, RESULTS, "br, identity;q=0", status=status)
    assert "Content-Encoding" not in response.headers


def test_a_picture_is_not(gateway):
    response = get_as_it_is(gateway, "/docs/favicon-32x32.png", "br, identity;q=0")
    assert "Content-Encoding" not in response.headers


@pytest.mark.parametrize(
    ("said", "vary"),
    [
        ({"Content-Encoding": "x-already"}, None),
        ({"Cache-Control": "public, no-transform"}, None),
        ({"Vary": "Origin"}, "Origin, Accept-Encoding"),
        ({"Vary": "Accept-Encoding, Origin"}, "Accept-Encoding, Origin"),
        ({"ETag": '"of-the-view"'}, "Accept-Encoding"),
    ],
    ids=lambda said: next(iter(said)) if isinstance(said, dict) else None,
)
def test_what_a_view_says_itself_stays(said, vary):
    def view(request: Request) -> Response:
        body = b'{"id": 1, "name": "' + b"x" * 2000 + b'", "account_id": 1}'
        return Response(body, headerlist=[("Content-Type", "application/json"), *said.items()])

    with GatewayTestApp(make_router({"get_project": view})) as app:
        headers = get_as_it_is(app, "/v2/projects/1", "br").headers
    assert headers.get("Vary") == vary
    assert headers.get("Content-Encoding") == said.get("Content-Encoding", "br" if vary else None)
    assert headers.get("Cache-Control") == said.get("Cache-Control", "private, no-cache")
    assert headers["ETag"] == '"of-the-view-br"' or "ETag" not in said


@pytest.mark.parametrize(("metrics", "in_thread"), [(SMALL, False), (LARGE, True)])
def test_large_answers_are_compressed_off_the_event_loop(services, monkeypatch, metrics, in_thread):
    services.results[samples.EXPERIMENT] = results_of(metrics)
    threads = []

    def noting(coding, body):
        threads.append(threading.current_thread().name)
        return compress(coding, body)

    with monkeypatch.context() as patched:
        patched.setattr(answers, "compress", noting)
        with GatewayTestApp(main({}, **services.settings())) as app:
            response = get_as_it_is(app, RESULTS, "gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert [name != "GatewayTestApp" for name in threads] == [in_thread]
