"""`adk web` finds our sessions as it finds services of its own users'."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from google.adk.cli import service_registry
from psycopg.conninfo import conninfo_to_dict

from adk_oban.adk_web import register_session_service
from adk_oban.sessions import PostgresSessionService

KEY = {"app_name": "app", "user_id": "user", "session_id": "s1"}


def adk_web_uri(dsn: str, prefix: str) -> str:
    parts = conninfo_to_dict(dsn)
    address = f"host={parts['host']}&port={parts.get('port', 5432)}&prefix={prefix}"
    return f"adk-oban://{parts['user']}@/{parts['dbname']}?{address}"


@pytest.fixture
def registry(monkeypatch) -> service_registry.ServiceRegistry:
    """ADK's registry of services, fresh for the test."""
    monkeypatch.setattr(service_registry, "_service_registry_instance", None)
    return service_registry.get_service_registry()


@pytest.mark.parametrize("file", ["services.yaml", "services.py"])
async def test_adk_web_finds_it_by_its_uri(
    file: str, registry, tmp_path: Path, monkeypatch, dsn, migrated
):
    (tmp_path / "services.yaml").write_text(
        "services:\n- scheme: adk-oban\n  type: session\n"
        "  class: adk_oban.adk_web.SessionServiceFromUri\n"
    )
    (tmp_path / "services.py").write_text(
        "from adk_oban.adk_web import register_session_service\n"
        "register_session_service()\n"
    )
    for other in {"services.yaml", "services.py"} - {file}:
        (tmp_path / other).unlink()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "services", raising=False)
    service_registry.load_services_module(str(tmp_path))

    uri = adk_web_uri(dsn, migrated)
    service = registry.create_session_service(uri, agents_dir=str(tmp_path))
    try:
        assert isinstance(service, PostgresSessionService)
        await service.create_session(**KEY)
        assert (await service.get_session(**KEY)).id == "s1"
    finally:
        await service.close()
        sys.modules.pop("services", None)


def test_the_scheme_can_be_another(registry):
    register_session_service("jobs")

    made = registry.create_session_service("jobs://me@localhost/db?prefix=other")
    assert isinstance(made, PostgresSessionService)
