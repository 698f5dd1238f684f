"""Request ids: which of a caller's are kept, and new ones."""

import random
import re

# Nothing that a log, a header or a shell reads as more than text. Trace ids such as `Root=1-67891233-abcdef` are fine.
_SAFE = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_VERSION_4 = (0x4 << 76) | (0b10 << 62)  # the version and the variant
_RANDOM_BITS = ((1 << 128) - 1) ^ (0xF << 76) ^ (0b11 << 62)


def kept_or_new(given: str | None) -> tuple[str, str]:
    """Return (request id, uuid): a caller's X-Request-Id where it is safe text of at most 128 characters.

    The contract's Error wants a UUID, which is the request id itself unless the caller gave one of another form.
    """
    if not given or _SAFE.fullmatch(given) is None:
        made = new_request_id()
        return made, made
    return given, given if _UUID.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """A random UUID (RFC 9562 section 5.4) as text; `str(uuid.uuid4())` takes ten times as long.

    It is unlike any other's, and no secret: Python seeds its generator anew in every process.
    """
    digits = f"{random.getrandbits(128) & _RANDOM_BITS | _VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
