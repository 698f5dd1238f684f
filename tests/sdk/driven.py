"""An official SDK in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

INTERVAL_SECONDS = 0.1  # between two polls


class Driven:
    """A running driver of an SDK."""

    def __init__(self, name: str, process: subprocess.Popen[str], folder: Path) -> None:
        self.name, self.process, self.folder = name, process, folder

    def open(self, url: str, sdk_key: str) -> str:
        """Poll the datafile of a key, and send events, at this URL; returns the datafile's revision."""
        return self.answer(
            do="open",
            sdk_key=sdk_key,
            python_template=f"{url}/datafiles/{{sdk_key}}.json",
            javascript_template=f"{url}/datafiles/%s.json",
            events=f"{url}/v1/events",
            seconds=INTERVAL_SECONDS,
        )

    def wait(self, revision: int | str) -> None:
        """Wait until the SDK has a revision."""
        assert self.answer(do="wait", revision=str(revision)) == str(revision)

    def start_deciding(self, users: Sequence[Any], experiments: Sequence[str], flags: Sequence[str]) -> None:
        """Let the SDK decide; `decided` has the result."""
        self._start("decide", users, experiments=list(experiments), flags=list(flags))

    def decided(self) -> list[Any]:
        """What each of the users gets."""
        self.receive()
        found: list[Any] = json.loads((self.folder / f"{self.name}-outcomes.json").read_text())
        return found

    def decide(
        self, users: Sequence[Any], experiments: Sequence[str] = (), flags: Sequence[str] = ()
    ) -> list[Any]:
        """What each of the users gets."""
        self.start_deciding(users, experiments, flags)
        return self.decided()

    def visit(self, users: Sequence[Any], experiment: str) -> list[str | None]:
        """Let users enter an experiment and convert; returns their variations when the SDK has sent all events."""
        self._start("visit", users, experiment=experiment)
        return self.decided()

    def _start(self, do: str, users: Sequence[Any], **members: Any) -> None:
        path = self.folder / f"{self.name}-users.json"
        path.write_text(json.dumps(users))
        self.send(do=do, users=str(path), into=str(self.folder / f"{self.name}-outcomes.json"), **members)

    def answer(self, **command: Any) -> Any:
        """Send a command and return its answer."""
        self.send(**command)
        return self.receive()

    def send(self, **command: Any) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """The answer to the last command."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the driver of the {self.name} SDK has ended"
        return json.loads(line)["answer"]


@contextlib.contextmanager
def driven(name: str, command: Sequence[str], folder: Path) -> Iterator[Driven]:
    """Run a driver until the block ends."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Driven(name, process, folder)
    finally:
        process.kill()
        process.communicate()
