"""Windows of a minute, shortened."""

import asyncio
import time

import pytest

from llava_cot.models.endpoint import rate_limits
from llava_cot.models.endpoint.rate_limits import RateLimits


@pytest.fixture(autouse=True)
def short_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MINUTE", 0.5)


async def times(given: RateLimits, count: int, guess: int, tokens: int | None = None) -> list[float]:
    """When each of some requests made at once was let through, from the first on."""

    async def one() -> float:
        async with given.request(guess) as sent:
            at = time.monotonic()
            if tokens is not None:
                sent.tokens = tokens
            return at

    found = sorted(await asyncio.gather(*(one() for _ in range(count))))
    return [at - found[0] for at in found]


async def test_requests_beyond_the_limit_wait_until_the_window_moves() -> None:
    waited = await times(RateLimits(64, 3, None), 7, 10)
    assert waited[3] >= 0.49
    assert waited[6] >= 0.98


async def test_tokens_count_as_reported_and_are_guessed_before() -> None:
    assert (await times(RateLimits(64, None, 100), 3, 40))[2] >= 0.49
    given = RateLimits(64, None, 100)
    async with given.request(90) as sent:
        sent.tokens = 5
    async with asyncio.timeout(0.4):
        async with given.request(90):
            pass


async def test_what_alone_is_more_than_the_limit_goes_through() -> None:
    async with asyncio.timeout(5), RateLimits(1, None, 10).request(1000):
        pass


async def test_a_canceled_wait_takes_no_place() -> None:
    given = RateLimits(1, 1, None)
    async with given.request(1):
        pass
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), given.request(1):
            pass
    async with asyncio.timeout(5), given.request(1):
        pass


async def test_no_more_than_the_slots_are_held_at_once() -> None:
    given, held, most = RateLimits(3, None, None), 0, 0

    async def one() -> None:
        nonlocal held, most
        async with given.request(1):
            held += 1
            most = max(most, held)
            await asyncio.sleep(0.01)
            held -= 1

    await asyncio.gather(*(one() for _ in range(9)))
    assert most == 3
