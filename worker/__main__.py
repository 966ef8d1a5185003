"""`python -m worker` runs one worker until it is told to stop.

SIGTERM lets it give its job back to the queue and leave. Exit code 78 (EX_CONFIG) says that
its settings cannot be met here.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Start the worker; returns its exit code."""
    from intrafusion.errors import IntraFusionError
    from service.store.database import Database
    from service.tracing import check_tracing
    from worker.app import app, settings
    from worker.presence import worker_name
    from worker.sandbox import SandboxMissingError, sandbox_works

    try:
        sandbox_works(settings)
        check_tracing()
    except (SandboxMissingError, IntraFusionError) as error:
        sys.stderr.write(f"{error}\n")
        return os.EX_CONFIG
    database = Database(settings.database)
    database.migrate()
    database.close()
    app.worker_main(
        [
            "worker",
            *("--hostname", f"intrafusion-{worker_name()}@%h"),
            *("--loglevel", settings.log_level),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
