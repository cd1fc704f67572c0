"""What the operator lets MCP servers start or call."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from engine.agents.offers import RemoteTool, form_of, offered
from engine.agents.servers import McpRules, Server, may_call, refusal, server_of
from engine.agents.tools import name_of_remote
from engine.errors import AuthorError

PROGRAM = {"command": "uvx", "args": ["mcp-server-git", "--repository", "a b"]}


@pytest.mark.parametrize(
    ("given", "rules", "told"),
    [
        (PROGRAM, {}, "start the command 'uvx mcp-server-git --repository 'a b''"),
        (PROGRAM, {"commands": ("uvx",)}, "agents.mcp.commands"),
        (PROGRAM, {"commands": ("uvx mcp-server-git *",)}, None),
        ({"command": "/opt/mcp/../../bin/sh"}, {"commands": ("/opt/mcp/*",)}, "with '..'"),
        ({"image": "shop:1"}, {"commands": ("*",)}, "start the image 'shop:1'"),
        ({"image": "ghcr.io/acme/shop:1"}, {"images": ("ghcr.io/acme/*",)}, None),
        ({"url": "https://shop.example.com/mcp"}, {}, None),
        ({"url": "https://Shop.Example.com./mcp"}, {"hosts": ("shop.example.com",)}, None),
        ({"url": "https://shop.example.com/mcp"}, {"hosts": ()}, "call the host"),
        ({"url": "https://evil.org/?shop.example.com"}, {"hosts": ("*.example.com",)}, "evil.org"),
        ({"url": "https://shop.example.com@evil.org"}, {"hosts": ("*.example.com",)}, "evil.org"),
        ({"url": "https://[oops"}, {}, "names no host"),
    ],
)
def test_what_the_operator_allows(given: Any, rules: Any, told: str | None) -> None:
    found = refusal(server_of("shop", given, {}), McpRules(**rules))

    assert (found is None) if told is None else (found is not None and told in found)


@pytest.mark.parametrize(
    "address",
    """127.0.0.1 127.8.9.1 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1
    224.0.0.1 255.255.255.255 192.0.0.1 198.18.0.1 240.0.0.1 ::1 :: fe80::1 fe80::1%eth0 fc00::1 ff02::1
    ::ffff:127.0.0.1 ::ffff:a9fe:a9fe ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 2002:7f00:1::
    2001:0:4136:e378:8000:63bf:80ff:fffe fd00:ec2::254 not-an-address""".split(),
)
def test_no_request_goes_to_an_address_that_is_not_public(address: str) -> None:
    assert not may_call(address, McpRules())


def test_public_addresses_and_named_networks_may_be_called() -> None:
    rules = McpRules(private_networks=(ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
    for address in ("1.1.1.1", "2606:4700::1111", "10.1.2.3", "::ffff:10.1.2.3", "fd00::1"):
        assert may_call(address, rules), address
    assert not may_call("10.2.0.1", rules)


def test_credentials_become_headers_and_are_not_shown() -> None:
    server = server_of("shop", {"url": "https://x.org"}, {"auth_token": "t", "headers": {"A": "b"}})

    assert server.headers == {"A": "b", "Authorization": "Bearer t"}
    assert "Bearer" not in repr(server) and isinstance(server, Server)


def tools(*names: str, **more: Any) -> list[RemoteTool]:
    return [RemoteTool(name, **more) for name in names]


def test_two_tools_with_one_name_are_refused_with_their_servers() -> None:
    entries = [{"mcp": "a"}, {"mcp": "a_b"}]
    with pytest.raises(AuthorError, match="'mcp_a_b_c': 'b_c' of MCP server 'a' and 'c' of 'a_b'"):
        offered(entries, {"a": tools("b_c"), "a_b": tools("c")})
    with pytest.raises(AuthorError, match=r"'a-b' of MCP server 'a' and 'a\.b' of 'a'"):
        offered(entries[:1], {"a": tools("a-b", "a.b")})


def test_a_tool_that_is_missing_or_too_large_is_named() -> None:
    with pytest.raises(AuthorError, match=r"has no tool 'finn'.*\(did you mean 'find'\?\).*find"):
        offered([{"mcp": "a", "only": ["finn"]}], {"a": tools("find")})
    with pytest.raises(AuthorError, match="schema of its tool 'find' has more than 20,000 letters"):
        offered([{"mcp": "a"}], {"a": tools("find", schema={"x": "y" * 30_000})})


def test_what_a_server_says_of_a_tool_is_cut() -> None:
    (found,) = offered([{"mcp": "a"}], {"a": tools("t" * 300, description="d" * 9_000)})

    assert len(found["description"]) == 1_000 and len(found["name"]) == 64
    assert found["name"] != name_of_remote("a", "t" * 301)
    assert found["schema"] == {"properties": {}, "type": "object"}


def test_plain_arguments_can_be_changed_in_a_form() -> None:
    kinds = {
        "text": {"type": "string"}, "n": {"type": "integer"}, "deep": {"type": "object"},
        "a b": {"type": "string"}, "any": True,
    }  # fmt: skip
    assert list(form_of({"properties": kinds})) == ["text", "n"]
