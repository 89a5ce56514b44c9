"""A credential goes where it is used and nowhere else: planted, then looked for in all that was written or said."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from data_contracts.errors import NoisefoldError, RecipeError, SourceError
from data_contracts.recipe import parse_recipe
from data_contracts.urls import credential_in, misplaced_variable, redacted, resolve, shown_url
from tasks.settings import Settings
from tasks.store import ArtifactStore
from tests.pipeline.conftest import TINY, clean_environment, environment, result_of
from tests.servers import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
PLANTED = "PLANTED-cr3d/entia1"
ROWS = "text,label\n" + "".join(
    f"this is {'good and lovely' if i % 2 else 'bad and broken'} thing number {i},{'yes' if i % 2 else 'no'}\n"
    for i in range(400)
)


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A server that gives rows to who knows the password, or the token, and to nobody else; its address."""

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
    """Files below a folder that hold the credential: the databases and logs of the state folder among them."""
    return [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and any(form in file.read_bytes() for form in forms(PLANTED))
    ]


def run(recipe: dict, tmp_path: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "recipe.yaml"
    if not file.exists():
        file.write_text(yaml.safe_dump(recipe))
    return subprocess.run(
        [sys.executable, "-P", "-m", "flows.cli", "retrain", str(file), *options],
        env={**variables, "NOISEFOLD_HOME": str(tmp_path / "home")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )


def recipe_of(url: str, **sections: object) -> dict:
    return {**TINY, "name": "secret", "source": {"url": url}, "contract": {"name": "secret"}, **sections}


def assert_untold(done: subprocess.CompletedProcess[str], *folders: Path) -> None:
    for text in (done.stdout, done.stderr):
        assert not any(form in text.encode() for form in forms(PLANTED)), text
    for folder in folders:
        assert found_in(folder) == []


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory):
    """A Prefect server whose database can be looked through."""
    from tests.servers import prefect_server

    folder = tmp_path_factory.mktemp("prefect-of-secrets")
    server = prefect_server(folder).start()
    yield server, folder
    server.stop()


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("http://${WHO}:${MAILS_PASSWORD}@HOST/rows.csv", {"WHO": "user", "MAILS_PASSWORD": PLANTED}),
        (
            "http://HOST/rows.csv?token=${MAILS_TOKEN}&part=1",
            {"MAILS_TOKEN": PLANTED, "MLFLOW_TRACKING_PASSWORD": PLANTED},
        ),
    ],
)
def test_a_retrain_that_works_tells_no_secret(api, guarded, tmp_path: Path, url: str, variables: dict) -> None:
    server, folder = api
    if "token" in url:  # one of the two whole, the other as far as its rows, to save time
        done = run(
            recipe_of(url.replace("HOST", guarded), tokenizer={"kind": "word", "min_frequency": 100_000}),
            tmp_path,
            **environment(server, tmp_path / "home", **variables),
        )
        assert "min_frequency" in done.stderr, done.stderr
    else:
        done = run(
            recipe_of(url.replace("HOST", guarded)),
            tmp_path,
            "--json",
            **environment(server, tmp_path / "home", **variables),
        )
        assert result_of(done)["decision"]["outcome"] == "promoted"
        stored = parse_recipe(recipe_of(url.replace("HOST", guarded)), origin="test").source.url  # type: ignore[union-attr]
        assert any(stored in file.read_text(errors="replace") for file in (tmp_path / "home").rglob("recipe.yaml")), (
            "the run shows the URL with the variable's name"
        )
    assert_untold(done, tmp_path, folder)


@pytest.mark.parametrize(
    ("url", "variables", "message"),
    [
        ("http://${WHO}:${PW}@HOST/rows.csv", {"WHO": "nobody", "PW": PLANTED}, "the server refuses it .HTTP 401"),
        ("http://${WHO}:${PW}@HOST/absent.csv", {"WHO": "user", "PW": PLANTED}, "no such file"),
        ("http://HOST/none.csv?token=${PW}", {"PW": PLANTED}, "no rows"),
        ("http://HOST/rows.csv?token=${PW}", {}, "environment variable PW"),
        ("http://${WHO}:${PW}@127.0.0.1:CLOSED/rows.csv", {"WHO": "user", "PW": PLANTED}, "cannot be reached"),
        ("s3://${WHO}:${PW}@bucket/rows.csv", {"WHO": "user", "PW": PLANTED}, "s3"),
        (f"http://user:{PLANTED}@HOST/rows.csv", {}, "source.url holds a user name or password"),
        (f"http://HOST/rows.csv?token={PLANTED}", {}, "source.url holds a secret in its query"),
        (f"s3://bucket/rows.csv?secret_access_key={PLANTED}", {}, "source.url holds a secret in its query"),
    ],
)
def test_a_retrain_that_fails_tells_no_secret(
    api, guarded, tmp_path: Path, url: str, variables: dict, message: str
) -> None:
    server, folder = api
    url = url.replace("HOST", guarded).replace("CLOSED", str(free_port()))
    here = recipe_of(url)
    done = run(here, tmp_path, **environment(server, tmp_path / "home", **variables))
    assert done.returncode == 1
    import re

    assert re.search(message, done.stderr), done.stderr
    (tmp_path / "recipe.yaml").unlink()
    assert_untold(done, tmp_path, folder)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MLFLOW_TRACKING_URI", f"http://user:{PLANTED}@127.0.0.1:CLOSED", "does not answer"),
        ("NOISEFOLD_ARTIFACTS", f"s3://key:{PLANTED}@bucket/artifacts", "NOISEFOLD_ARTIFACTS holds a user name"),
        ("NOISEFOLD_ARTIFACTS", f"memory://x?token={PLANTED}", "NOISEFOLD_ARTIFACTS holds a secret"),
    ],
)
def test_an_address_with_a_password_is_not_told(api, tmp_path: Path, variable: str, value: str, message: str) -> None:
    server, folder = api
    value = value.replace("CLOSED", str(free_port()))
    done = run(dict(TINY), tmp_path, **environment(server, tmp_path / "home", **{variable: value}))
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert_untold(done, tmp_path, folder)


def test_the_login_of_a_tracking_server_goes_by_its_own_variables(tmp_path: Path, monkeypatch) -> None:
    """MLflow puts the URI into the text of every error, so the URI that it is given has no password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:p%40ss@host:5000/mlflow")
    settings = Settings(home=tmp_path)
    assert settings.tracking_uri == "https://host:5000/mlflow"
    assert settings.tracking_login == ("me", "p@ss")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:pw@host/mlflow")
    assert Settings(home=tmp_path).tracking_uri == "postgresql://me:pw@host/mlflow", "SQLAlchemy needs it there"
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
            secret in shown for secret in ("pw", "p/w", "p#w", "secret", "u:p", "abc", "token", "sig", "api")
        )
    with pytest.raises(RecipeError) as fault:
        parse_recipe({"contract": {"name": "x", "description": f"see {url}"}}, origin="test")
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
    with pytest.raises(SourceError, match=r"^https://host/a\.csv: the environment variable NOT_SET_HERE"):
        resolve("https://${NOT_SET_HERE}@host/a.csv")
    for wrong in ("https://${HOST}/a", "https://host/${DAY}.csv", "/data/${X}.csv", "https://h:${PORT}/a"):
        assert misplaced_variable(wrong)
        with pytest.raises(RecipeError, match=r"source\.url may name a variable"):
            parse_recipe({"source": {"url": wrong}}, origin="test")


def test_overrides_and_pydantic_s_own_words_show_no_secret() -> None:
    from pydantic import ValidationError

    from data_contracts.recipe import Recipe, parse_set

    secret = f"https://user:{PLANTED}@host/a"
    with pytest.raises(RecipeError) as fault:
        parse_set(f"Training={secret}")
    with pytest.raises(RecipeError) as second:
        parse_recipe({"name": secret[:79], "training": {"max_epochs": secret}}, origin="test")
    with pytest.raises(ValidationError) as third:
        Recipe.model_validate({"source": {"url": secret}, "training": {"max_epochs": secret}})
    for told in (fault, second, third):
        assert "PLANTED" not in str(told.value)


def test_the_store_s_address_may_not_hold_a_credential(tmp_path: Path) -> None:
    with pytest.raises(NoisefoldError, match="AWS_ACCESS_KEY_ID"):
        ArtifactStore("s3://key:secret@bucket/x", tmp_path)


def test_inferring_and_suggesting_tell_no_secret(guarded, tmp_path: Path) -> None:
    url = f"http://user:{PLANTED}@{guarded}/".replace("/entia1", "%2Fentia1")
    for command, name in (
        (["contract", "infer"], "rows.csv"),
        (["contract", "infer"], "none.csv"),
        (["recipe", "suggest"], "rows.csv"),
    ):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "flows.cli", *command, url + name],
            env=clean_environment(), cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.returncode == (0 if command[0] == "contract" and name == "rows.csv" else 1), done.stderr
        assert_untold(done)


def test_the_harness_would_see_a_leak(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"url": f"https://user:{PLANTED}@host"}))
    assert found_in(tmp_path) == ["a.json"]
