"""A new provider is one folder, and its name in the config's list."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import understudy

FOLDER = {
    "__init__.py": """
from understudy.services.providers import ProviderFacts

FACTS = ProviderFacts(base_url="https://acme.test/v1", rehearsal_path="/acme/v1")
""",
    "calls.py": "from understudy.services.providers.openai.calls import connect\n",
    "rehearsal.py": """
from understudy.services.providers.openai.rehearsal import PlayedOpenAI

class play(PlayedOpenAI):
    name = "acme"
""",
}
ASK = """
import sys
from pathlib import Path
from understudy.config import Service
from understudy.config.base import complete_service
from understudy.rehearsal.server import RehearsalServer
from understudy.services.account import Account
from understudy.services.base import Request
from understudy.services.client import ask

names = {"name": "ours", "provider": "acme", "model": "acme-1", "family": "acme", "terms": None}
sizes = {"temperature": None, "max_output_tokens": 50, "rehearsal": True}
service = Service(**complete_service(names | sizes))
with RehearsalServer() as server:
    account = Account(Path(sys.argv[1]), "stage", "purse", rehearsal_url=server.url)
    ((_, reply),) = ask(service, [Request(({"role": "user", "content": "hello"},))], account)
    assert [charge.model for charge in server.log] == ["acme-1"]
print(reply.finish, account.counts["calls"])
"""


@pytest.mark.slow
def test_a_folder_and_a_name_make_a_provider_that_is_asked_and_rehearsed(tmp_path: Path) -> None:
    checkout = Path(__file__).parents[3]
    package = tmp_path / "src" / "understudy"
    shutil.copytree(Path(understudy.__file__).parent, package)
    shutil.copy(checkout / "pyproject.toml", tmp_path)
    (tmp_path / "conf").symlink_to(checkout / "conf")
    folder = package / "services" / "providers" / "acme"
    folder.mkdir()
    for name, text in FOLDER.items():
        (folder / name).write_text(text)
    listed = package / "config" / "service.py"
    listed.write_text(
        listed.read_text().replace('Literal["offline", ', 'Literal["acme", "offline", ')
    )
    said = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path / "journal")],
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout == "stop 1\n"
