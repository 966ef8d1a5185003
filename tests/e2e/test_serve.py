"""What `intrafusion serve` refuses, and how it says so."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from intrafusion.errors import ErrorCode, IntraFusionError
from service.embedded import serve
from tests.e2e.conftest import COMMAND, Server


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_others_can_reach_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(IntraFusionError, match="asks for no keys") as refusal:
        serve(host=host, port=0, home=tmp_path / "home")
    assert refusal.value.code is ErrorCode.FORBIDDEN
    assert not (tmp_path / "home").exists()


def test_with_a_key_others_may_reach_it_and_need_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = subprocess.run(
        [COMMAND, "keys", "create", "ci", "--tenant", "a", "--home", home],
        capture_output=True,
        text=True,
        check=True,
    )
    key = made.stdout.strip()
    server = Server(home, sandbox="auto")
    server.start(host="0.0.0.0")
    try:
        assert server.http.get("/v1/jobs").status_code == 401
        allowed = server.http.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})
        assert allowed.json() == {"data": [], "next": None}
        listed = subprocess.run(
            [COMMAND, "keys", "list", "--json", "--home", home],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        (known,) = json.loads(listed)["data"]
        assert (known["name"], known["tenant"], known["revoked_at"]) == ("ci", "a", None)
        assert key not in listed
        subprocess.run([COMMAND, "keys", "revoke", known["id"], "--home", home], check=True)
        refused = server.http.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})
        assert refused.status_code == 401
    finally:
        server.stop()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(IntraFusionError, match=str(port)) as refusal:
            serve(port=port, home=tmp_path / "home")
    assert refusal.value.code is ErrorCode.CONFLICT


def test_two_servers_do_not_share_a_folder(server: Server) -> None:
    second = subprocess.run(
        [COMMAND, "serve", "--port", "0", "--home", server.home],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode != 0
    assert "Another server keeps its state" in second.stderr
    assert server.http.get("/healthz").status_code == 200


def test_it_says_in_one_line_where_it_is(server: Server) -> None:
    assert str(server.http.base_url).rstrip("/") in server.said
    assert str(server.home) in server.said
