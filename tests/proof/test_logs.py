"""What a proof finds about a bad response in the gateways' logs."""

from optimizely_api.proof.logs import MOST_LINES, log_lines

BAD, OTHER = "e232c2d8-9238-4824-9b1c-c29ec81dff05", "5a4561ce-a8e9-41be-a235-ded814abc806"
RECORD = (
    "2026-11-26 21:10:53,071 ERROR    [12702] optimizely_api.gateway.errors: request {}: unexpected error"
)
TRACEBACK = ["Traceback (most recent call last):", '  File "x.py", line 1, in x', "TypeError: it is none"]


def test_all_lines_of_the_records_that_name_the_request_are_found(tmp_path):
    log, another = tmp_path / "gateway-0.log", tmp_path / "gateway-1.log"
    log.write_text(
        "\n".join(["starting", RECORD.format(BAD), *TRACEBACK, RECORD.format(OTHER), *TRACEBACK, ""])
    )
    another.write_text(RECORD.format(BAD).replace("unexpected error", "and more") + "\n")
    assert log_lines([log, another], {BAD}) == {
        BAD: [RECORD.format(BAD), *TRACEBACK, RECORD.format(BAD).replace("unexpected error", "and more")]
    }


def test_a_line_of_an_access_log_is_a_record(tmp_path):
    log = tmp_path / "gateway-0.out"
    line = '{{"request_id": "{}", "status": 500}}'
    log.write_text("\n".join([line.format(OTHER), line.format(BAD), line.format(OTHER), ""]))
    assert log_lines([log], {BAD}) == {BAD: [line.format(BAD)]}


def test_of_many_lines_the_last_are_kept(tmp_path):
    log = tmp_path / "gateway-0.log"
    log.write_text("\n".join([RECORD.format(BAD), *TRACEBACK[:1], *[TRACEBACK[1]] * 100, TRACEBACK[2], ""]))
    lines = log_lines([log], {BAD})[BAD]
    assert len(lines) == MOST_LINES
    assert lines[-1] == TRACEBACK[2]
