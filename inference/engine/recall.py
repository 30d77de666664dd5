"""What a node remembers of requests that have ended, for whoever asks for them by their ids.

A site asks when one of its web processes was killed. The journal is read on a thread: it may be
long, and models' answers must not stand still meanwhile. Knows no scheduling.
"""

import asyncio
from pathlib import Path

from inference.engine.connection import Connection
from inference.messages import Ends, GetEnds
from inference.node_journal import find_usages


class Recall:
    """Answers from the journal in `folder`; None: nothing is written down."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._answers: set[asyncio.Task[None]] = set()

    def answer(self, connection: Connection, question: GetEnds) -> None:
        """Answer soon."""
        task = asyncio.create_task(self._look(connection, question))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    def close(self) -> None:
        """Answer nobody any more."""
        for task in self._answers:
            task.cancel()

    async def _look(self, connection: Connection, question: GetEnds) -> None:
        usages = {}
        if self._folder is not None:
            usages = await asyncio.to_thread(find_usages, self._folder, question.ended_ids)
        connection.send(Ends(request_id=question.request_id, usages=usages))
