"""Imports jsonschema without its check of IRIs, which compiles 38 grammars: half of the time of a start.

Swagger 2.0 has no format `iri`: jsonschema checks it from draft 7 on, and the contract is draft 4. None in
`sys.modules` makes an import an ImportError (Python reference, section 5.3.1), which means "not installed" there.
"""

import sys

if "jsonschema" not in sys.modules and "rfc3987_syntax" not in sys.modules:
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    try:
        import jsonschema  # noqa: F401
    finally:
        del sys.modules["rfc3987_syntax"]
