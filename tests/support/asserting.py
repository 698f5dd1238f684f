"""What an answer must be, said once."""

import uuid
from typing import Any

from tests.support import samples

AUTHORIZED = {"Authorization": f"Bearer {samples.TOKEN}"}


def get(app: Any, path: str, status: int = 200, **headers: str) -> Any:
    """GET with the token of the samples' account, and the status that is expected."""
    return app.get(path, headers={**AUTHORIZED, **headers}, status=status)


def assert_error(response: Any, status: int, code: str, said: str = "") -> dict[str, Any]:
    """The one error shape: code, message, the request id as uuid, and nothing but `messages` beside them."""
    assert response.status_int == status, response.text
    assert response.content_type == "application/json"
    body: dict[str, Any] = response.json
    assert set(body) - {"messages"} == {"code", "message", "uuid"}
    assert body["code"] == code
    assert said in body["message"]
    assert str(uuid.UUID(body["uuid"])) == body["uuid"] == response.headers["X-Request-Id"]
    return body
