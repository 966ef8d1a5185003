"""Who looks at the page: signed in by a cookie that holds the key, safe from other sites."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from service.api.deps import ResourcesDep
from service.auth import COOKIE, authenticate, refuse_other_sites


async def _visitor(request: Request, resources: ResourcesDep) -> str:
    refuse_other_sites(request)
    key = request.cookies.get(COOKIE)
    return await run_in_threadpool(
        authenticate, database=resources.database, settings=resources.settings, key=key
    )


VisitorDep = Annotated[str, Depends(_visitor)]
"""The tenant of whoever looks at the page. Raises `UNAUTHENTICATED`, which leads to the sign-in."""
