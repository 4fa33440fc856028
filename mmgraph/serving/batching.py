"""Micro-batches: requests that arrive during a prediction are predicted together."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

Predict = Callable[[Sequence[Any]], Sequence[Any]]


class OverloadError(Exception):
    """More samples wait for a prediction than the queue holds."""


@dataclass(frozen=True)
class Job:
    """Samples of one request, and the future of their predictions."""

    samples: Sequence[Any]
    result: "asyncio.Future[Sequence[Any]]"


class MicroBatcher:
    """Queue of requests, predicted in one thread, several at a time.

    A request never waits for others to come: as soon as the thread is free, it predicts
    the samples of all requests that are in the queue, up to a limit.

    Args:
        predict: Maps samples to one prediction each.
        max_samples: Samples of one call of ``predict``; a single request may have more.
        max_waiting: Samples in the queue, above which requests are refused.

    Attributes:
        calls: Number of calls of ``predict``.
    """

    def __init__(
        self, predict: Predict, *, max_samples: int = 256, max_waiting: int = 10_000
    ) -> None:
        self._predict = predict
        self._max_samples, self._max_waiting = max_samples, max_waiting
        self._jobs: deque[Job] = deque()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "predict")
        self._task: asyncio.Task[None] | None = None
        self.calls = 0

    async def submit(self, samples: Sequence[Any]) -> Sequence[Any]:
        """Return the predictions of samples.

        Args:
            samples: Samples of one request.

        Raises:
            OverloadError: If the queue is full.
            Exception: If ``predict`` raises one for these samples.
        """
        if self._waiting and self._waiting + len(samples) > self._max_waiting:
            raise OverloadError
        loop = asyncio.get_running_loop()
        job = Job(samples, loop.create_future())
        self._jobs.append(job)
        self._waiting += len(samples)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        return await job.result

    async def _run(self) -> None:
        """Predict until the queue is empty."""
        loop = asyncio.get_running_loop()
        while self._jobs:
            jobs = self._take()
            outcomes = await loop.run_in_executor(self._thread, self._outcomes, jobs)
            for job, outcome in zip(jobs, outcomes, strict=True):
                if job.result.done():  # the client has disconnected
                    continue
                if isinstance(outcome, Exception):
                    job.result.set_exception(outcome)
                else:
                    job.result.set_result(outcome)

    def _take(self) -> list[Job]:
        jobs = [self._jobs.popleft()]
        size = len(jobs[0].samples)
        while self._jobs and size + len(self._jobs[0].samples) <= self._max_samples:
            jobs.append(self._jobs.popleft())
            size += len(jobs[-1].samples)
        self._waiting -= size
        return jobs

    def _outcomes(self, jobs: Sequence[Job]) -> list[Sequence[Any] | Exception]:
        """Return predictions or an error for each request.

        After an error, requests are predicted one by one, so that one whose samples
        cannot be predicted has no effect on the others.
        """
        self.calls += 1
        try:
            results = self._predict([s for job in jobs for s in job.samples])
        except Exception as error:
            if len(jobs) == 1:
                return [error]
            return [outcome for job in jobs for outcome in self._outcomes([job])]
        start = 0
        outcomes: list[Sequence[Any] | Exception] = []
        for job in jobs:
            outcomes.append(results[start : start + len(job.samples)])
            start += len(job.samples)
        return outcomes
