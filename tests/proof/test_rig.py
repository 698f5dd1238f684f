"""How a proof runs the balancer."""

from optimizely_api.proof.options import Options
from optimizely_api.proof.rig import balancer_text
from tests.support.serving import ROOT


def test_the_shipped_settings_get_the_ports_of_the_proof_and_stay_as_they_are():
    shipped = (ROOT / Options.balancer).read_text()
    lines = balancer_text(shipped, 1234, [5001, 5002], workers=2).splitlines()
    changed = [line.strip() for line in lines if line not in shipped.splitlines()]
    assert changed == [
        "bind 127.0.0.1:1234",
        "server gateway1 127.0.0.1:5001 maxconn 128",
        "server gateway2 127.0.0.1:5002 maxconn 128",
        "server gateway1 127.0.0.1:5001 maxconn 32 track gateways/gateway1",
        "server gateway2 127.0.0.1:5002 maxconn 32 track gateways/gateway2",
    ]
    assert len(lines) == len(shipped.splitlines()) + 2
