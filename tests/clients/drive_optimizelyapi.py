"""optimizelyAPI, which knows one address, that of the original: it is led to ours as a name server would.

Prints {type: [names of what it found]}. Run by the client's own interpreter.
"""

import json
import os
import sys

import requests
from optimizelyAPI import OptlyAPI

ORIGINAL = "https://api.optimizely.com"
TYPES = ["audiences", "campaigns", "events", "experiments", "features", "pages"]

send = requests.Session.send


def send_to_ours(session, request, **options):
    assert request.url.startswith(ORIGINAL), request.url
    request.url = request.url.replace(ORIGINAL, os.environ["API_URL"], 1)
    return send(session, request, **options)


requests.Session.send = send_to_ours


def main():
    client = OptlyAPI(0, int(os.environ["PROJECT_ID"]), token=os.environ["API_TOKEN"])
    whole = client.get(TYPES, all_asset_data=True, include_archived=True).result
    short = client.get(TYPES).result
    found = {
        "short": [[one["type"], one["id"]] for one in short],
        "whole": sorted({one["id"] for one in whole}),
    }
    json.dump(found, sys.stdout)


main()
