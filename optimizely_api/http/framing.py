"""How much of a chunked body may be framing: sizes, extensions and trailers (RFC 9112 section 7.1)."""

# So much, and half as much as the content. Content in chunks of fewer than ten bytes on average takes more, and more
# time than it is worth.
FRAMING_BYTES = 16 * 1024
FRAMING_SHARE = 0.5


def is_mostly_framing(received: int, content: int) -> bool:
    """Whether a body of which `received` bytes brought `content` bytes is to be refused."""
    return received - content > FRAMING_BYTES + content * FRAMING_SHARE
