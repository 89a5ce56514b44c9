"""A credential goes where it is used and nowhere else: planted, then looked for in all that was
written or said.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_contracts.errors import NoisefoldError, RecipeError, SourceError
from data_contracts.recipe.reading import parse_recipe
from data_contracts.urls import credential_in, misplaced_variable, redacted, resolve, shown_url
from tasks.artifacts.store import ArtifactStore
from tasks.settings import Settings
from tests.pipeline.conftest import TINY, environment
from tests.servers import free_port, prefect_server

REPOSITORY = Path(__file__).resolve().parents[2]
PLANTED = "PLANTED-cr3d/entia1"
ROWS = "text,label\n" + "".join(
    f"this is {'good and lovely' if i % 2 else 'bad and broken'} thing number "
    f"{i},{'yes' if i % 2 else 'no'}\n"
    for i in range(400)
)


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A server that gives rows to who knows the password, or the token, and to nobody else; its
    address.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            login = "Basic " + base64.b64encode(f"user:{PLANTED}".encode()).decode()
            from urllib.parse import parse_qs, urlsplit

            token = parse_qs(urlsplit(self.path).query).get("token", [""])[0]
            if self.headers.get("Authorization") != login and token != PLANTED:
                self.send_response(401)
                self.end_headers()
                return
            body = ROWS.encode() if "rows" in self.path else b"text,label\n"
            self.send_response(200 if "absent" not in self.path else 404)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def forms(secret: str) -> list[bytes]:
    """How a secret may have been written down."""
    from urllib.parse import quote

    plain = secret.encode()
    return [plain, quote(secret, safe="").encode(), base64.b64encode(plain), b"cr3d", b"entia1"]


def found_in(folder: Path) -> list[str]:
    """Files below a folder that hold the credential: the databases and logs of the state folder
    among them.
    """
    return [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and any(form in file.read_bytes() for form in forms(PLANTED))
    ]


@dataclass(frozen=True)
class Case:
    """A command whose URL or environment holds the credential, and what it is expected to say."""

    url: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    message: str = ""
    status: int = 1
    arguments: tuple[str, ...] = ("retrain", "FILE")
    sections: dict[str, Any] = field(default_factory=dict)


WHO_AND_PASSWORD = {"WHO": "user", "PW": PLANTED}
INLINE = f"http://user:{PLANTED}@HOST/".replace("/entia1", "%2Fentia1")
CASES = {
    "a retrain that works": Case(
        "http://${WHO}:${PW}@HOST/rows.csv",
        WHO_AND_PASSWORD,
        message='"outcome":"promoted"',
        status=0,
        arguments=("retrain", "FILE", "--json"),
    ),
    # As far as its rows, to save time; the first went the whole way.
    "a token in the query": Case(
        "http://HOST/rows.csv?token=${TOKEN}&part=1",
        {"TOKEN": PLANTED, "MLFLOW_TRACKING_PASSWORD": PLANTED},
        message="min_frequency",
        sections={"tokenizer": {"kind": "word", "min_frequency": 100_000}},
    ),
    "another user": Case(
        "http://${WHO}:${PW}@HOST/rows.csv",
        {"WHO": "nobody", "PW": PLANTED},
        "the server refuses it .HTTP 401",
    ),
    "absent": Case("http://${WHO}:${PW}@HOST/absent.csv", WHO_AND_PASSWORD, "no such file"),
    "no rows": Case("http://HOST/none.csv?token=${PW}", {"PW": PLANTED}, "no rows"),
    "not set": Case("http://HOST/rows.csv?token=${NOT_SET}", {}, "environment variable NOT_SET"),
    "closed": Case(
        "http://${WHO}:${PW}@127.0.0.1:CLOSED/rows.csv", WHO_AND_PASSWORD, "cannot be reached"
    ),
    "no driver": Case("s3://${WHO}:${PW}@bucket/rows.csv", WHO_AND_PASSWORD, "s3"),
    "a password in the recipe": Case(
        f"http://user:{PLANTED}@HOST/rows.csv", message="source.url holds a user name or password"
    ),
    "a token in the recipe": Case(
        f"http://HOST/rows.csv?token={PLANTED}", message="source.url holds a secret in its query"
    ),
    "a key in the recipe": Case(
        f"s3://bucket/rows.csv?secret_access_key={PLANTED}",
        message="source.url holds a secret in its query",
    ),
    "a tracking server": Case(
        variables={"MLFLOW_TRACKING_URI": f"http://user:{PLANTED}@127.0.0.1:CLOSED"},
        message="does not answer",
    ),
    "a store with a login": Case(
        variables={"NOISEFOLD_ARTIFACTS": f"s3://key:{PLANTED}@bucket/artifacts"},
        message="NOISEFOLD_ARTIFACTS holds a user name",
    ),
    "a store with a token": Case(
        variables={"NOISEFOLD_ARTIFACTS": f"memory://x?token={PLANTED}"},
        message="NOISEFOLD_ARTIFACTS holds a secret",
    ),
    "infer": Case(
        INLINE + "rows.csv", message="label", status=0, arguments=("contract", "infer", "URL")
    ),
    "infer without rows": Case(
        INLINE + "none.csv", message="no rows", arguments=("contract", "infer", "URL")
    ),
    "suggest": Case(
        INLINE + "rows.csv", message="user name", arguments=("recipe", "suggest", "URL")
    ),
}


@dataclass(frozen=True)
class Told:
    status: int
    out: str
    err: str


@dataclass(frozen=True)
class World:
    """What all cases said, and the folders of all that they wrote: state, logs, databases, the
    Prefect server's own.
    """

    told: dict[str, Told]
    written: tuple[Path, ...]
    host: str


@pytest.fixture(scope="module")
def world(guarded: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Every case once, one after the other, on one state folder and one Prefect server."""
    folder, said, served, recipes = (
        tmp_path_factory.mktemp(name) for name in ("state", "said", "prefect", "recipes")
    )
    closed, cases = str(free_port()), []
    for case in CASES.values():
        url = case.url.replace("HOST", guarded).replace("CLOSED", closed)
        file = recipes / f"{len(cases)}.yaml"
        source = {"source": {"url": url}, "contract": {"name": "secret"}} if url else {}
        file.write_text(yaml.safe_dump({**TINY, "name": "secret", **source, **case.sections}))
        arguments = [{"FILE": str(file), "URL": url}.get(one, one) for one in case.arguments]
        variables = {k: v.replace("CLOSED", closed) for k, v in case.variables.items()}
        cases.append({"arguments": arguments, "variables": variables})
    server = prefect_server(served).start()
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tests.security.many", str(said)],
            input=json.dumps(cases),
            env={**environment(server, folder / "home"), "PYTHONPATH": str(REPOSITORY)},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        told = {
            name: Told(
                int(read(said, number, "status")),
                read(said, number, "out"),
                read(said, number, "err"),
            )
            for number, name in enumerate(CASES)
        }
        yield World(told, (folder, served), guarded)
    finally:
        server.stop()


def read(folder: Path, number: int, ending: str) -> str:
    return (folder / f"{number}.{ending}").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_a_command_tells_no_secret(world: World, name: str) -> None:
    told, case = world.told[name], CASES[name]
    assert told.status == case.status, told.err
    assert re.search(case.message, told.out if case.status == 0 else told.err), told
    for text in (told.out, told.err):
        assert "Traceback" not in text
        assert not any(form in text.encode() for form in forms(PLANTED)), text


def test_nothing_that_was_written_holds_a_secret(world: World) -> None:
    """State folder, artifacts, logs, MLflow's database and files, and the Prefect server's
    database.
    """
    assert world.told["a retrain that works"].status == 0
    names = {file.name for folder in world.written for file in folder.rglob("*")}
    assert {"mlflow.db", "noisefold.log", "MLmodel", "manifest.json"} <= names
    assert any(b"retrain" in file.read_bytes() for file in world.written[1].rglob("*.db*")), (
        "the server's own"
    )
    for folder in world.written:
        assert found_in(folder) == []


def test_a_run_shows_the_url_with_the_variable_s_name(world: World) -> None:
    url = CASES["a retrain that works"].url.replace("HOST", world.host)
    assert any(
        url in file.read_text(errors="replace") for file in world.written[0].rglob("recipe.yaml")
    )


def test_the_login_of_a_tracking_server_goes_by_its_own_variables(
    tmp_path: Path, monkeypatch
) -> None:
    """MLflow puts the URI into the text of every error, so the URI that it is given has no
    password.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:p%40ss@host:5000/mlflow")
    settings = Settings(home=tmp_path)
    assert settings.tracking_uri == "https://host:5000/mlflow"
    assert settings.tracking_login == ("me", "p@ss")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:pw@host/mlflow")
    assert Settings(home=tmp_path).tracking_uri == "postgresql://me:pw@host/mlflow", (
        "SQLAlchemy needs it there"
    )
    assert Settings(home=tmp_path).tracking_login is None


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("https://user:pw@host/a.csv", "password"),
        ("https://token@host/a.csv", "user name"),
        ("https://user:p/w@host/a.csv", "password"),
        ("https://user:p#w@host/a.csv", "password"),
        ("s3://key:secret@bucket/a", "password"),
        ("simplecache::s3://key:secret@bucket/a", "password"),
        ("zip://a.csv::https://u:p@host/x.zip", "password"),
        ("https://host/a?X-Amz-Signature=1", "query"),
        ("https://host/a?sv=1&sig=abc", "query"),
        ("https://host/a#access_token=abc", "query"),
        ("https://host/a?api_key=${KEY}more", "query"),
    ],
)
def test_a_credential_in_a_url_is_seen_and_not_shown(url: str, what: str) -> None:
    assert what in (credential_in(url) or "")
    for shown in (shown_url(url), redacted(f"could not read {url}: error")):
        assert not any(
            secret in shown
            for secret in ("pw", "p/w", "p#w", "secret", "u:p", "abc", "token", "sig", "api")
        )
    with pytest.raises(RecipeError) as fault:
        parse_recipe(
            {"source": {"kind": "sample"}, "contract": {"name": "x", "description": f"see {url}"}},
            origin="test",
        )
    assert url not in str(fault.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/a.csv?version=3",
        "https://host:8443/a.csv",
        "http://[::1]:80/a.csv",
        "s3://bucket/a@b.csv",
        "hdfs://host:8020/a@b.csv",
        "sftp://me@host/a.csv",
        "https://${USER_NAME}:${PASSWORD}@host/a.csv",
        "https://host/a.csv?token=${TOKEN}",
        "/data/a@b:c.csv",
        "zip://a.csv::https://host/x.zip",
        "http://127.0.0.1:5000/#/experiments/1",
    ],
)
def test_what_is_no_credential_may_stand_in_a_recipe(url: str) -> None:
    assert credential_in(url) is None


def test_variables_are_put_in_where_the_file_is_opened(monkeypatch) -> None:
    monkeypatch.setenv("WHO", "me@home")
    monkeypatch.setenv("PASSWORD_1", "p/w?")
    url = "https://${WHO}:${PASSWORD_1}@host/a.csv"
    assert resolve(url) == "https://me%40home:p%2Fw%3F@host/a.csv"
    assert redacted("it said p/w? and p%2Fw%3F") == "it said ${PASSWORD_1} and ${PASSWORD_1}"
    with pytest.raises(
        SourceError, match=r"^https://host/a\.csv: the environment variable NOT_SET_HERE"
    ):
        resolve("https://${NOT_SET_HERE}@host/a.csv")
    for wrong in (
        "https://${HOST}/a",
        "https://host/${DAY}.csv",
        "/data/${X}.csv",
        "https://h:${PORT}/a",
    ):
        assert misplaced_variable(wrong)
        with pytest.raises(RecipeError, match=r"source\.url may name a variable"):
            parse_recipe({"source": {"url": wrong}, "contract": "sample"}, origin="test")


def test_overrides_and_pydantic_s_own_words_show_no_secret() -> None:
    from pydantic import ValidationError

    from data_contracts.recipe.reading import parse_set
    from data_contracts.recipe.recipe import Recipe

    secret = f"https://user:{PLANTED}@host/a"
    with pytest.raises(RecipeError) as fault:
        parse_set(f"Training={secret}")
    with pytest.raises(RecipeError) as second:
        parse_recipe(
            {
                "name": secret[:79],
                "source": {"path": secret},
                "training": {"max_epochs": secret, secret[:40]: 1},
            },
            origin="test",
        )
    with pytest.raises(ValidationError) as third:
        Recipe.model_validate({"source": {"url": secret}, "training": {"max_epochs": secret}})
    for told in (fault, second, third):
        assert "PLANTED" not in str(told.value)


def test_the_store_s_address_may_not_hold_a_credential(tmp_path: Path) -> None:
    with pytest.raises(NoisefoldError, match="AWS_ACCESS_KEY_ID"):
        ArtifactStore("s3://key:secret@bucket/x", tmp_path)


def test_the_harness_would_see_a_leak(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"url": f"https://user:{PLANTED}@host"}))
    assert found_in(tmp_path) == ["a.json"]
