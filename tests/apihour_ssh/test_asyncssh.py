"""The private names of asyncssh that apihour_ssh relies on: what fails here moved."""

import asyncio
import inspect
import socket

import asyncssh
import pytest
from asyncssh.kex import get_kex_algs

from apihour_ssh._asyncssh import (
    HostedConnection,
    _round_trip,
    available_kex,
    certificate_names,
)
from apihour_ssh.hardening import COMPATIBLE, STRICT, options

OURS = ("host", "row", "address", "logged_in_at", "sessions_opened", "touched", "parting",
        "auth_failures", "server_channels", "told", "late", "ticket", "_read_keys", "open_sessions",
        "has_channels", "notify", "_started", "_watch", "_state", "user")
OVERRIDDEN = ("connection_made", "connection_lost", "reload_config", "validate_public_key",
              "send_userauth_failure", "send_userauth_success", "create_server_channel",
              "remove_channel", "internal_error")
USED = ("_channels", "_authorized_client_keys", "_peer_addr", "_peer_port", "_loop",
        "_username")


async def connection():
    key = asyncssh.generate_private_key("ssh-ed25519")
    facts = asyncssh.SSHServerConnectionOptions(server_host_keys=[key], gss_host=None)
    made = asyncssh.SSHServerConnection(asyncio.get_running_loop(), facts)
    made._cancel_login_timer()
    return made


async def test_names():
    made = await connection()
    assert [name for name in USED if not hasattr(made, name)] == []
    assert [name for name in OVERRIDDEN if not callable(getattr(made, name, None))] == []
    assert [name for name in OURS if hasattr(made, name)] == []


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_overridden_methods_have_the_same_parameters(name):
    ours = list(inspect.signature(getattr(HostedConnection, name)).parameters)
    theirs = list(inspect.signature(getattr(asyncssh.SSHServerConnection, name)).parameters)
    assert ours == theirs


def test_login_reloads_the_options_and_sessions_ask_for_their_channel():
    source = inspect.getsource(asyncssh.connection)
    assert ").reload_config()" in source
    assert "self.create_server_channel(" in inspect.getsource(
        asyncssh.SSHServerConnection._process_session_open)


def test_a_channel_hands_its_packets_to_process_packet():
    assert callable(asyncssh.SSHServerChannel.process_packet)
    assert ".process_packet(" in inspect.getsource(asyncssh.connection)


def test_a_channel_finds_the_handler_of_a_request_by_its_name():
    name = "_process_keepalive_at_openssh_dot_com_request"
    assert callable(getattr(asyncssh.SSHServerChannel, name))
    assert not hasattr(asyncssh.SSHServerChannel, name.replace("keepalive", "eow"))


def test_round_trip_of_a_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as sock:
            assert 0.0 < _round_trip(sock) < 1.0
        assert _round_trip(sock) == 0.0  # closed
    one, two = socket.socketpair()
    with one, two:
        assert _round_trip(one) == 0.0


def test_names_of_a_certificate():
    key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = key.generate_user_certificate(key, "ann's", serial=7, principals=["ann"])
    assert certificate_names(certificate) == ("ann's", 7)
    assert callable(asyncssh.SSHServerConnection._validate_openssh_certificate)


def test_algorithms():
    assert isinstance(get_kex_algs()[0], bytes)
    assert available_kex(STRICT.kex) == STRICT.kex
    assert available_kex(("nonsense", "curve25519-sha256")) == ("curve25519-sha256",)
    key = asyncssh.generate_private_key("ssh-ed25519")
    for algorithms in (COMPATIBLE, STRICT):
        facts = asyncssh.SSHServerConnectionOptions(server_host_keys=[key], **options(algorithms))
        assert facts.login_timeout == 20 and facts.keepalive_interval == 15
        assert not facts.password_auth and not facts.kbdint_auth and not facts.gss_auth
