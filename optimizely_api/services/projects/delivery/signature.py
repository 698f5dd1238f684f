"""Signatures: what proves to a receiver that a call is ours and that nobody has changed its body."""

from __future__ import annotations

import hmac


def signature_headers(secret: str, body: bytes) -> dict[str, str]:
    """HMACs of the raw body with the webhook's secret, in lower-case hexadecimal digits, by SHA-1 and by SHA-256.

    Receivers in the field check SHA-1, which HMAC does not need to be free of collisions (RFC 6151 section 2.3 argues
    so for MD5).
    """
    return {
        "X-Hub-Signature": f"sha1={hmac.new(secret.encode(), body, 'sha1').hexdigest()}",
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}",
    }
