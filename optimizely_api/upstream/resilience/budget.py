"""The retry budget of a service: repeated calls stay a small part of all calls, however much fails.

A token bucket, as in gRPC's retry throttling (gRFC A6): every good response earns a part of a token, every repetition
spends one. When everything fails, nothing is earned, so the full bucket is all that is ever repeated.
"""

TOKENS_PER_SUCCESS = 0.1


class Budget:
    """Tokens for repetitions of the calls of one worker to one service; with `most_tokens` of 0 there is never one."""

    __slots__ = ("most_tokens", "tokens")

    def __init__(self, most_tokens: float) -> None:
        self.tokens = self.most_tokens = most_tokens

    def earn(self) -> None:
        """Called for every good response."""
        self.tokens = min(self.most_tokens, self.tokens + TOKENS_PER_SUCCESS)

    def spend(self) -> bool:
        """Take a token for one repetition; False if there is none."""
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
