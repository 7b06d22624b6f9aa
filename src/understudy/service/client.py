"""Ask a service many things at once: bounded concurrency, replies in order of arrival."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from understudy.config import Service
from understudy.service.base import Provider, Reply, Request


def ask(service: Service, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
    """Yield (position of the request, reply) as replies arrive."""
    return ask_provider(open_provider(service), requests, service.concurrency)


def ask_provider(
    provider: Provider, requests: Iterable[Request], concurrency: int
) -> Iterator[tuple[int, Reply]]:
    """Like `ask`; at most `concurrency` requests are taken and open at any time.

    Closing the iterator, an error or Ctrl-C cancels what is open. When a request fails, the
    replies that arrived with it are handed out before the error is raised.
    """
    waiting = enumerate(requests)
    open_tasks: dict[asyncio.Task[Reply], int] = {}
    with asyncio.Runner() as runner:  # cancels open tasks on the way out
        loop = runner.get_loop()
        while True:
            while len(open_tasks) < concurrency and (following := next(waiting, None)):
                position, request = following
                open_tasks[loop.create_task(_complete(provider, request))] = position
            if not open_tasks:
                return
            arrived = runner.run(_first(set(open_tasks)))
            finished = sorted((open_tasks.pop(task), task) for task in arrived)
            failures = [task for _, task in finished if task.exception()]
            for position, task in finished:
                if task not in failures:
                    yield position, task.result()
            if failures:
                failures[0].result()  # raises


async def _complete(provider: Provider, request: Request) -> Reply:
    return await provider.complete(request)


async def _first(tasks: set[asyncio.Task[Reply]]) -> set[asyncio.Task[Reply]]:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return done


def open_provider(service: Service) -> Provider:
    """The adapter of the service; only the chosen one is imported."""
    return _PROVIDERS[service.provider](service)


def _offline(service: Service) -> Provider:
    from understudy.service.offline import Offline

    return Offline(service)


_PROVIDERS: dict[str, Callable[[Service], Provider]] = {"offline": _offline}
