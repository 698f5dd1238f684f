"""Which user agents are bots, by the list of the package crawler-user-agents."""

from __future__ import annotations

from functools import lru_cache

from crawleruseragents import is_crawler

# A browser's, and a bot's own name in it, is shorter. Some patterns of the list take quadratic time.
MAX_AGENT_LENGTH = 256
REMEMBERED_AGENTS = (
    4_096  # a few thousand make up nearly all traffic; matching one takes a tenth of a millisecond to
    # a quarter
)
BROWSER = "Mozilla/"  # how the user agents of browsers begin, and of bots that run pages


def is_bot(user_agent: str) -> bool:
    """Whether the list has it, judged by its first MAX_AGENT_LENGTH characters."""
    return _is_bot(user_agent[:MAX_AGENT_LENGTH])


@lru_cache(REMEMBERED_AGENTS)
def _is_bot(user_agent: str) -> bool:
    return bool(is_crawler(user_agent))


def visitors_agent(stated: object, sender: str) -> str:
    """The visitor's user agent: as the batch states it, or else its sender's if that is a browser.

    A server that reports its visitors sends its HTTP library's name, which says nothing about them.
    """
    if isinstance(stated, str) and stated:
        return stated
    return sender if sender.startswith(BROWSER) else ""
