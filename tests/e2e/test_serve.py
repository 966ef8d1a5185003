"""What `intrafusion serve` refuses, and how it says so."""

from __future__ import annotations

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
