"""What a start does not wait for."""

import subprocess
import sys

PROGRAM = """
import importlib.util
import sys
import optimizely_api
optimizely_api.main({})
assert "jsonschema" in sys.modules
print([name for name in ("lark", "rfc3987_syntax") if name in sys.modules])
assert importlib.util.find_spec("rfc3987_syntax")  # others may still import it
"""


def test_a_start_compiles_no_grammar_of_iris():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
