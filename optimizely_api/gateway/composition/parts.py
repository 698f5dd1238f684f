"""Fetch the parts of a response in the steps that the contract states (`optimizely_api/contract/composition.py`).

A view names the makers of its parts' calls, and what it knows already; the order and what may be missing are the
contract's alone:

    parts = Parts(operation.composition, {"experiment": experiment})
    while calls := parts.next_calls(makers):
        parts.take(await request.fetch_all(calls))
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from optimizely_api.contract.composition import Composition
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.errors import UpstreamError

Known = Mapping[str, Any]
Maker = Callable[[Known], Call | Sequence[Call]]
Makers = Mapping[str, Maker]
Asked = tuple[str, int | None]  # a part, and the number of its calls; None for a single one


class Parts(dict[str, Any]):
    """The values of the parts by name: of one call its value, of several the list of theirs.

    An optional part that failed is None, or the list of those of its values that came; `unreachable` has its name and
    the failure, which is that of another part where it could not be asked for without that one.
    """

    def __init__(self, composition: Composition, known: Known) -> None:
        super().__init__(known)
        self.unreachable: dict[str, UpstreamError] = {}
        self._parts = composition.parts
        self._steps = iter(composition.steps)  # those that are still to come
        self._asked: list[Asked] = []

    def next_calls(self, makers: Makers) -> list[Call]:
        """Return the calls of the next step; none when every part is there."""
        for step in self._steps:
            calls: list[Call] = []
            for name in step:
                if name in self or (self.unreachable and self._is_lost(name)):
                    continue
                made = makers[name](self)
                if isinstance(made, Call):
                    made.is_optional = self._parts[name].is_optional
                    calls.append(made)
                    self._asked.append((name, None))
                else:
                    self._ask_for_several(name, made, calls)
            if calls:
                return calls
        return []

    def take(self, values: Sequence[Any]) -> None:
        """Take the values of the calls that `next_calls` returned; the failure of an optional call stands for its."""
        left = iter(values)
        for name, number in self._asked:
            if number is None:
                self[name] = value = next(left)
                if isinstance(value, UpstreamError):
                    self.unreachable[name], self[name] = value, None
                continue
            asked = list(islice(left, number))
            self[name] = [value for value in asked if not isinstance(value, UpstreamError)]
            if len(self[name]) < number:
                self.unreachable[name] = next(value for value in asked if isinstance(value, UpstreamError))
        self._asked.clear()

    def _is_lost(self, name: str) -> bool:
        """Whether the part cannot be asked for, since it needs one that failed; then it is missing too."""
        for needed in self._parts[name].after:
            if needed in self.unreachable:
                self[name], self.unreachable[name] = None, self.unreachable[needed]
                return True
        return False

    def _ask_for_several(self, name: str, made: Sequence[Call], calls: list[Call]) -> None:
        if not made:
            self[name] = []
            return
        for call in made:
            call.is_optional = self._parts[name].is_optional
        calls += made
        self._asked.append((name, len(made)))
