"""Recognizes the user agents of bots by the list of the package crawler-user-agents."""

from __future__ import annotations

from functools import lru_cache

from crawleruseragents import is_crawler

# Some patterns of the list take quadratic time. A browser's user agent, or the bot's name in one, is shorter than this.
MAX_AGENT_LENGTH = 256
# Matching a user agent takes 0.1 to 0.25 ms, and a few thousand different ones make up nearly all traffic.
CACHED_AGENTS = 4_096
BROWSER = "Mozilla/"  # the user agents of browsers, and of bots that run pages, begin with this


def is_bot(user_agent: str) -> bool:
    """Whether the list has the user agent, judged by its first MAX_AGENT_LENGTH characters."""
    return _is_bot(user_agent[:MAX_AGENT_LENGTH])


@lru_cache(CACHED_AGENTS)
def _is_bot(user_agent: str) -> bool:
    return bool(is_crawler(user_agent))


def visitors_agent(stated: object, sender: str) -> str:
    """The visitor's user agent: the one in the batch, or else the sender's if the sender is a browser.

    A server that reports its visitors sends the name of its HTTP library, which is not the visitors'.
    """
    if isinstance(stated, str) and stated:
        return stated
    return sender if sender.startswith(BROWSER) else ""
