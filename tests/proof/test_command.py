"""What `optimizely-api prove` says of wrong options."""

import pytest
from click.testing import CliRunner

from optimizely_api.proof.command import prove


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--faults", "slow,earthquake"], "there is no fault 'earthquake'; there are kill-worker, "),
        (["--every", "earthquake=5"], "there is no fault 'earthquake'; there are kill-worker, "),
        (["--every", "reload"], "'reload' is not KIND=SECONDS, such as kill-worker=5"),
        (["--every", "reload=often"], "'reload=often' is not KIND=SECONDS, such as kill-worker=5"),
        (["--every", "reload=0"], "'reload=0': the seconds must be more than 0"),
    ],
)
def test_a_fault_that_cannot_be_is_refused_with_what_can(options, said):
    result = CliRunner().invoke(prove, options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
