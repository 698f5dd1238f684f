"""HTTP/1.1 messages at and beyond the edges of RFC 9112: framing, lengths, transfer codings and bytes of headers."""

import random
from dataclasses import dataclass

LENGTHS = ("{n}", "0{n}", "+{n}", "-{n}", "0x{n:x}", "{n} ", "\t{n}", "{n}, {n}", "{n}.0", "", "9" * 25)
CODINGS = (
    "chunked",
    "Chunked",
    "chunked ",
    "\tchunked",
    "gzip, chunked",
    "chunked, gzip",
    "chunked;q=1",
    "identity",
)
CODINGS += ("xchunked", "\x0bchunked", "chunked, chunked", "", "chunked,", '"chunked"')
VERSIONS = ("HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/11")
METHODS = ("GET", "PUT", "DELETE", "post", "P OST", "")
FIELDS = (
    "X: y",
    "X:y",
    "X : y",
    " X: y",
    "X: y\r\n folded",
    "X: \x00",
    "X: \x7f",
    "X: \xe4",
    "X\xe4: y",
    ": y",
    "X",
)
FIELDS += (
    "X: y\n",
    "X: a\rb",
    "X: " + "y" * 9000,
    "Expect: 100-continue",
    "Connection: close",
    "Upgrade: h2c",
)
CHUNKS = ("{n:x}\r\n{body}\r\n0\r\n\r\n", "{n:X};a=b\r\n{body}\r\n0\r\n\r\n", "{n:x} \r\n{body}\r\n0\r\n\r\n")
CHUNKS += ("{n:x}\n{body}\n0\n\n", "0{n:x}\r\n{body}\r\n0\r\nX: y\r\n\r\n", "0x{n:x}\r\n{body}\r\n0\r\n\r\n")
CHUNKS += (
    "{n:x}\r\n{body}0\r\n\r\n",
    "{n:x}\r\n{body}\r\n0\r\nX y\r\n\r\n",
    "f" * 17 + "\r\n{body}",
    "0\r\n\r\n{body}",
)
CHUNKS += ("{n:x}\r\n{body}\r\n", "-{n:x}\r\n{body}\r\n0\r\n\r\n", "{n:x}\r\n{body}\r\n00\r\n\r\n")


@dataclass
class Message:
    """`sent` is a message and a request behind it; every part that could be served as a request names `number`."""

    number: int
    kinds: tuple[str, ...]
    sent: bytes


def messages(seed: int, count: int) -> list[Message]:
    """Messages that are right, or odd in one place or in several."""
    chosen = random.Random(seed)
    return [_message(chosen, number) for number in range(count)]


def _message(chosen: random.Random, number: int) -> Message:
    target = f"/echo?n={number}"
    inner = f"GET {target}&smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    body = chosen.choice(("abc", inner, ""))
    odd = chosen.random()  # how likely each part of the message is to be odd
    lines, kinds, content = [], [], body
    framing = chosen.choice(("length", "length", "chunked", "chunked", "both", "none", "lengths", "codings"))
    lengths = {"length": 1, "both": 1, "lengths": 2}.get(framing, 0)
    codings = {"chunked": 1, "both": 1, "codings": 2}.get(framing, 0)
    for _ in range(lengths):
        length = chosen.choice(LENGTHS) if chosen.random() < odd else LENGTHS[0]
        lines.append("Content-Length: " + length.format(n=len(body)))
        kinds.append(f"length {length!r}")
    for _ in range(codings):
        coding = chosen.choice(CODINGS) if chosen.random() < odd else CODINGS[0]
        lines.append(f"Transfer-Encoding: {coding}")
        kinds.append(f"coding {coding!r}")
    if codings:
        chunks = chosen.choice(CHUNKS) if chosen.random() < odd else CHUNKS[0]
        content = chunks.format(n=len(body), body=body)
        kinds.append(f"chunks {chunks!r}")
    if chosen.random() < odd:
        lines.append(chosen.choice(FIELDS))
        kinds.append(f"field {lines[-1][:24]!r}")
    chosen.shuffle(lines)
    method = chosen.choice(METHODS) if chosen.random() < odd else "POST"
    version = chosen.choice(VERSIONS) if chosen.random() < odd else "HTTP/1.1"
    head = "\r\n".join([f"{method} {target} {version}", "Host: a", *lines, "", ""])
    behind = f"GET {target}&behind HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    kinds += [f"method {method!r}"] * (method != "POST") + [f"version {version!r}"] * (version != "HTTP/1.1")
    return Message(number, (framing, *kinds), (head + content + behind).encode("latin-1"))
