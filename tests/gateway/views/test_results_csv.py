"""GET /v2/export/.../results/csv: the figures of the JSON results as a file."""

import csv
import io
import json
import tracemalloc

import pytest

from optimizely_api.gateway.composition.results_csv import EXPERIMENT_COLUMNS, csv_chunks
from tests.gateway.test_compression import DECOMPRESS, get_as_it_is
from tests.support import samples
from tests.support.asserting import AUTHORIZED, assert_error, get

FILE = f"/v2/export/experiments/{samples.EXPERIMENT}/results/csv"
CAMPAIGN_FILE = f"/v2/export/campaigns/{samples.LAYER}/results/csv"
TITLES = [
    *("Start time (UTC)", "End time (UTC)", "Variation Name", "Variation ID", "Is Baseline Variation"),
    *("Metric Event Name", "Metric Event ID", "Metric Numerator Type", "Metric Denominator Type"),
    *("Metric Winning Direction", "Numerator Value", "Denominator Value", "Metric Value"),
    *("Improvement Status from Baseline", "Improvement Value from Baseline", "Statistical Significance"),
    *("Is Improvement Significant", "Confidence Interval - Low", "Confidence Interval - High"),
    *("Samples Remaining to Significance", "Properties"),
]


def rows(response):
    """The file's rows below the titles, as {title: cell}."""
    return list(csv.DictReader(io.StringIO(response.body.decode(), newline="")))


def test_200_a_row_for_each_metric_and_variation(gateway):
    response = get(gateway, FILE)
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    disposition = f'attachment; filename="experiment_{samples.EXPERIMENT}_results.csv"'
    assert response.headers["Content-Disposition"] == disposition
    baseline, treatment = rows(response)
    assert list(baseline) == TITLES
    times = [samples.CREATED, "2026-01-19T09:30:00Z"]
    purchase = ["Purchase", str(samples.EVENT), "unique", "visitor", "increasing"]
    original = ["Original", str(samples.BASELINE), "true", *purchase]
    assert list(baseline.values()) == [*times, *original, "100", "1000", "0.1", *[""] * 8]
    larger = ["Larger button", str(samples.TREATMENT), "false", *purchase, "150", "1000", "0.15"]
    lift = ["better", "0.5", "0.99", "true", "0.2", "0.8", "", ""]
    assert list(treatment.values()) == [*times, *larger, *lift]
    assert response.body.count(b"\r\n") == 3


def test_the_figures_are_those_of_the_json(gateway, services):
    lift = services.results[samples.EXPERIMENT]["metrics"][0]["results"][str(samples.TREATMENT)]["lift"]
    lift.update({"value": 0.1 + 0.2, "visitors_remaining": 7, "confidence_interval": [-1e-9, 1 / 3]})
    json_results = get(gateway, f"/v2/experiments/{samples.EXPERIMENT}/results").json
    shown = json_results["metrics"][0]["results"][str(samples.TREATMENT)]
    treatment = rows(get(gateway, FILE))[1]
    assert float(treatment["Metric Value"]) == shown["rate"]
    assert float(treatment["Improvement Value from Baseline"]) == shown["lift"]["value"]
    interval = [float(treatment[f"Confidence Interval - {end}"]) for end in ("Low", "High")]
    assert interval == shown["lift"]["confidence_interval"]
    assert treatment["Samples Remaining to Significance"] == "7"


def test_sums_name_their_field_and_filters_are_json(gateway, services):
    metric = services.results[samples.EXPERIMENT]["metrics"][0]
    where = {"combine_operator": "or", "conditions": [{"name": "colour", "value": "grün"}]}
    revenue = {"aggregator": "sum", "field": "revenue", "event_id": None}
    metric.update({**revenue, "event_properties": {"filter": where}})
    row = rows(get(gateway, FILE))[0]
    assert row["Metric Numerator Type"] == "sum of revenue"
    assert row["Metric Event ID"] == ""
    assert json.loads(row["Properties"]) == where


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_text_that_a_spreadsheet_would_compute_is_text(gateway, services, name):
    services.results[samples.EXPERIMENT]["metrics"][0]["results"][str(samples.BASELINE)]["name"] = name
    assert rows(get(gateway, FILE))[0]["Variation Name"] == f"'{name}"


def test_names_may_hold_commas_quotes_and_lines(gateway, services):
    name = 'Grün, "groß"\nund rund'
    services.results[samples.EXPERIMENT]["metrics"][0]["results"][str(samples.BASELINE)]["name"] = name
    assert rows(get(gateway, FILE))[0]["Variation Name"] == name


def test_a_campaigns_rows_are_told_apart_by_their_variant(gateway):
    response = get(gateway, CAMPAIGN_FILE)
    assert f'filename="campaign_{samples.LAYER}_results.csv"' in response.headers["Content-Disposition"]
    baseline, treatment = rows(response)
    left_out = {"Variation Name", "Variation ID", "Properties"}
    titles = [title.replace(" time ", " Time ") for title in TITLES if title not in left_out]
    assert list(baseline) == [*titles, "Variant"]
    assert [baseline["Variant"], treatment["Variant"]] == [str(samples.BASELINE), str(samples.TREATMENT)]
    assert treatment["Numerator Value"] == "150"


@pytest.mark.parametrize("path", [FILE, CAMPAIGN_FILE])
def test_202_and_204_as_for_json_without_a_body(gateway, services, path):
    services.results_status = 202
    assert get(gateway, path, status=202).body == b""
    services.results_status = 200
    services.results.clear()
    assert get(gateway, path, status=204).body == b""


@pytest.mark.parametrize("path", [FILE, CAMPAIGN_FILE])
def test_304_until_a_figure_changes(gateway, services, path):
    etag = get(gateway, path).headers["ETag"]
    assert get(gateway, path, 304, **{"If-None-Match": etag}).body == b""
    get(gateway, path, 412, **{"If-Match": '"another"'})
    services.results[samples.EXPERIMENT]["metrics"][0]["results"][str(samples.BASELINE)]["value"] += 1
    assert get(gateway, path, 200, **{"If-None-Match": etag}).headers["ETag"] != etag


@pytest.mark.parametrize("coding", DECOMPRESS)
def test_it_is_compressed_while_it_is_sent(gateway, coding):
    plain = get(gateway, FILE)
    coded = get_as_it_is(gateway, FILE, coding)
    assert coded.headers["Content-Encoding"] == coding
    assert coded.headers["ETag"] == f'{plain.headers["ETag"][:-1]}-{coding}"'
    assert DECOMPRESS[coding](coded.body) == plain.body


def test_head_is_the_head_of_get(gateway):
    whole = get(gateway, FILE)
    head = gateway.head(FILE, headers=AUTHORIZED, status=200)
    assert head.body == b""
    assert head.headers["ETag"] == whole.headers["ETag"]


@pytest.mark.parametrize(("path", "what"), [(FILE, "experiment"), (CAMPAIGN_FILE, "campaign")])
def test_404_when_it_is_unknown(gateway, path, what):
    unknown = path.replace(str(samples.EXPERIMENT), "99").replace(str(samples.LAYER), "99")
    assert_error(get(gateway, unknown, status=404), 404, "not_found", f"no {what} 99")


def test_a_large_file_is_made_in_constant_memory():
    results = samples.results()
    metric = results["metrics"][0]
    variants = {str(n): metric["results"][str(samples.TREATMENT)] for n in range(10)}
    results["metrics"] = [{**metric, "results": variants}] * 1_000
    tracemalloc.start()
    size = sum(len(chunk) for chunk in csv_chunks(EXPERIMENT_COLUMNS, results))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 1_500_000
    assert peak < 300_000  # of a file ten times as large
