"""The application. `uvicorn --factory service.main:create_app` runs it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

import intrafusion
from service.api import artifacts, compress, datasets, events, jobs, meta, models, partial_uploads
from service.api.deps import Resources
from service.logs import configure_logging
from service.metrics import Metrics
from service.openapi import describe
from service.problems import install_problems
from service.queue import Queue
from service.rate_limit import RateLimit
from service.requests import BodyLimit, RequestMiddleware
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from service.store.parts import parts_in
from service.tracing import trace
from service.upkeep import Upkeep
from service.web import pages


def create_app(settings: Settings | None = None) -> FastAPI:
    """The REST service; without `settings` they come from the environment.

    Its lifespan opens what it needs, brings the database up to date and runs the dispatcher
    and the reaper until it stops.
    """
    chosen = settings or Settings()
    configure_logging(chosen.log_level)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = Database(chosen.database)
        await to_thread.run_sync(database.migrate)
        blobs = Blobs(chosen.blobs, spool=chosen.home / "incoming")
        parts = parts_in(blobs, database)
        queue = Queue(chosen)
        upkeep = Upkeep(settings=chosen, database=database, blobs=blobs, parts=parts, queue=queue)
        per_minute = chosen.quota_requests_per_minute
        app.state.resources = Resources(
            settings=chosen,
            database=database,
            blobs=blobs,
            parts=parts,
            queue=queue,
            upkeep=upkeep,
            rate_limit=None if per_minute is None else RateLimit(per_minute, chosen.redis_url),
        )
        metrics.watch(database, chosen)
        upkeep.start()
        # What is here stays: looking through it for garbage would hold up requests for 0.1 s.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            gc.unfreeze()
            await upkeep.stop()
            queue.close()
            database.close()
            send_last_spans()

    app = FastAPI(
        title="Intra-Fusion",
        version=intrafusion.__version__,
        summary="Makes trained networks smaller without retraining them.",
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimit)
    app.add_middleware(RequestMiddleware, metrics=metrics)
    install_problems(app, to_people=pages.answer_error)
    for part in (models, datasets, partial_uploads, compress, jobs, events, artifacts, meta):
        app.include_router(part.router)
    app.include_router(pages.router)
    app.mount("/static", pages.static, name="static")
    app.add_api_route(
        "/metrics",
        lambda: Response(metrics.text(), media_type=CONTENT_TYPE_LATEST),
        include_in_schema=False,
    )
    describe(app)
    send_last_spans = trace(app)
    return app
