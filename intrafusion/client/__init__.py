"""The REST client: upload, submit, wait, download. Light: importing this costs no torch.

    from intrafusion.client import Client
    with Client("http://127.0.0.1:8000") as client:
        model = client.upload_model("model.pt")
        job = client.submit(JobRequest(model=model.id, input_shapes=[[1, 3, 224, 224]]))
        job = client.wait(job.id)
        client.download(job.id, "model.pt", "small.pt")

`AsyncClient` has the same calls for an event loop. Every refusal is raised as the
`IntraFusionError` the server meant, with its stable code. A server that cannot be reached, or
stays unready, is `ErrorCode.UNAVAILABLE`.
"""

from __future__ import annotations

from intrafusion.client.answers import error_of
from intrafusion.client.asynchronous import AsyncClient
from intrafusion.client.sync import Client
from intrafusion.client.waiting import EventListener

__all__ = ["AsyncClient", "Client", "EventListener", "error_of"]
