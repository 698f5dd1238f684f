"""Reason phrases of RFC 9110 section 15, where Python before 3.13 has those of RFC 7231."""

REASONS = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
