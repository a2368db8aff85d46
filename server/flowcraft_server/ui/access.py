"""Access to pages: as in the API, but with a page as the answer."""

from fastapi import Depends, Request

from flowcraft_server.api.access import Principal, RequiredRole, Role
from flowcraft_server.api.problems import Problem


class NoPage(Exception):
    """A request for a page that the API's rules refuse.

    Args:
        problem: what the API would answer with.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class PageRole(RequiredRole):
    """Lets requests with a role through; others are answered with the page of the login, or with one that says why not."""

    async def __call__(self, request: Request) -> Principal | None:
        """Check the request.

        Raises:
            NoPage: the sender lacks the role, or is unknown.
        """
        try:
            return await super().__call__(request)
        except Problem as problem:
            raise NoPage(problem) from None


PAGE = Depends(PageRole(Role.VIEW))
EVERYBODY = Depends(PageRole(None))
