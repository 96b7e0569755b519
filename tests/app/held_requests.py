"""Answers that come late, in an order that a test decides."""

import time

from playwright.sync_api import APIResponse, Page, Route

POLL_MS, WAIT_S = 10, 30


class Held:
    """A page's requests to `pattern`, done by the server at once, whose answers wait until they are let go."""

    def __init__(self, page: Page, pattern: str) -> None:
        self._page, self._pattern, self._holds = page, pattern, True
        self._held: list[tuple[Route, APIResponse]] = []
        page.route(pattern, self._met)

    def _met(self, route: Route) -> None:
        if self._holds:
            self._held.append((route, route.fetch()))
        else:
            route.continue_()

    def wait(self) -> None:
        """Until an answer is held."""
        deadline_s = time.monotonic() + WAIT_S
        while not self._held:
            assert time.monotonic() < deadline_s, f"the page does not ask for {self._pattern}"
            self._page.wait_for_timeout(POLL_MS)

    def let_go(self) -> None:
        """The first that is held comes."""
        route, answer = self._held.pop(0)
        route.fulfill(response=answer)

    def let_all_go(self) -> None:
        """Those held come in their order, and later ones at once."""
        self._holds = False
        while self._held:
            self.let_go()
