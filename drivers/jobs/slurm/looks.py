"""How often to look while jobs are to stop or to run again."""

import asyncio

FIRST_LOOK_S, LAST_LOOK_S = 0.01, 0.2
"""Between two looks at the processes."""
QUEUE_LOOK_S = 1.0
"""Between two questions to Slurm: printing its whole queue takes it a while."""


class Looks:
    """Looks that come more rarely, until a time limit."""

    def __init__(self, limit_s: float) -> None:
        self._now_s = asyncio.get_running_loop().time
        self._end_s = self._now_s() + limit_s
        self._ask_s = self._now_s()
        self._look_s = FIRST_LOOK_S

    @property
    def over(self) -> bool:
        """Whether the limit is reached."""
        return self._now_s() >= self._end_s

    def ask_again(self) -> bool:
        """Whether to ask Slurm with this look, too; always with the last."""
        due = self.over or self._now_s() >= self._ask_s
        if due:
            self._ask_s = self._now_s() + QUEUE_LOOK_S
        return due

    async def pause(self) -> None:
        """Wait until the next look."""
        await asyncio.sleep(self._look_s)
        self._look_s = min(2 * self._look_s, LAST_LOOK_S)
