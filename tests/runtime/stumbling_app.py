"""`served_app` with parsers that fail, as if they had a defect, on heads and chunks that contain `stumble`."""

from served_app import main as served

from optimizely_api.runtime.server.http1.chunked import ChunkedReader
from optimizely_api.runtime.server.http1.head import HeadReader

__all__ = ["main"]


def main():
    for reader in (HeadReader, ChunkedReader):
        reader.feed = _stumbling(reader.feed)
    return served()


def _stumbling(feed):
    def stumble(self, data):
        if b"stumble" in data:
            raise OverflowError("Python int too large to convert to C long")
        return feed(self, data)

    return stumble
