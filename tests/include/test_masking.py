"""No secret passes, ordinary text stays readable, and no text is slow."""

import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.masking import LONGEST_TEXT, bounded, bounded_facts, mask, mask_sample, mask_sentence

SECRET = "hunter2-Zx9"


@pytest.mark.parametrize(
    "text",
    [
        f"could not connect to postgresql://ops:{SECRET}@db.example.org:5432/warehouse",
        f"redis://:{SECRET}@cache:6379/0 is down",
        f"postgresql://ops:p/{SECRET}@x/{SECRET}@db/warehouse",
        f"https://{SECRET}@git.example.org/repo",
        f"password={SECRET}",
        f"PGPASSWORD = {SECRET} psql",
        f"host=db password='{SECRET} with blanks' user=ops",
        f'{{"db_password": "{SECRET}", "user": "ops"}}',
        f"{{'client_secret': '{SECRET}'}}",
        f"https://api.example.org/v1?access_token={SECRET}&page=2",
        f"https://api.example.org/v1?key={SECRET}",
        f"X-Api-Key: {SECRET}",
        f"routing_key={SECRET}",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"tool --password {SECRET} --verbose",
        f"Authorization: Bearer {SECRET}",
        f"'Authorization': 'Basic {SECRET}'",
        f"Proxy-Authorization: Digest username=x, response={SECRET}",
        f"the header was Bearer {SECRET}",
        f"Set-Cookie: session={SECRET}; Path=/",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
        f"{'a' * 300}password={SECRET}",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    masked = mask(text)
    assert "hunter2" not in masked
    assert "***" in masked
    assert "hunter2" not in mask(masked)


@pytest.mark.parametrize(
    "text",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "https://hooks.slack.com/services/T000/B000/XXXXXXXXXXXX",
    ],
)
def test_known_forms_of_tokens_are_masked(text: str) -> None:
    assert text not in mask(f"answer to {text}.")


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'users'",
        'duplicate key value violates unique constraint "signal_pkey"',
        "Key (email)=(a) already exists.",
        "partition_key=2026-10-03 has no log",
        'FATAL:  password authentication failed for user "ops"',
        "operations.yaml: the key incidents.spool is missing; add it",
        "see https://airflow.example.org:8080/dags/daily_metrics/runs/x?try=1",
        "postgresql://ops@db.example.org/warehouse",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "public.api_tokens: another session holds a lock on it",
        "vacuum of public.payment_authorization: another session holds a lock on it (process 4711)",
        "public.session_cookie: 3 rows are left",
        "vacuum of public.password_resets: the statement was cancelled",
        "the index public.orders_pkey: its rebuild was not approved",
        "public.users_api_key: 45 MiB, of which 20 MiB are free",
        "the password of platform_db is wrong; correct the connection",
    ],
)
def test_names_in_our_own_sentences_stay_readable(text: str) -> None:
    assert mask_sentence(text) == text


@pytest.mark.parametrize(
    "text",
    [
        f"the connection archive cannot open sftp://backup:{SECRET}@nas/x: no such package",
        f"it answered: password={SECRET} is wrong",
        f"it said PGPASSWORD = {SECRET}",
        f'it answered {{"api_token": "{SECRET}"}}',
        f"https://api.example.org/v1?key={SECRET} gave no answer",
        f"tool --password {SECRET} failed",
        f"it refused Authorization: Bearer {SECRET}",
    ],
)
def test_secrets_in_our_own_sentences_are_masked(text: str) -> None:
    masked = mask_sentence(text)
    assert "hunter2" not in masked
    assert "***" in masked
    assert "hunter2" not in mask_sentence(masked)


def test_who_and_where_stay_readable() -> None:
    assert mask(f"postgresql://ops:{SECRET}@db:5432/warehouse") == "postgresql://ops:***@db:5432/warehouse"


def test_texts_are_bounded_after_masking() -> None:
    long = "x" * 1_990 + f" password={SECRET} " + "y" * 5_000
    kept = bounded(long)
    assert len(kept) == LONGEST_TEXT
    assert kept.endswith("(cut)")
    assert "hunter" not in kept
    assert bounded("a\x00b\ud800") == "ab?"


@pytest.mark.parametrize("part", ["a", "://", "a://a:", "password", "key=", '"', "key", "Bearer ", "-----BEGIN ", "="])
def test_a_hostile_text_is_not_slow(part: str) -> None:
    started = time.process_time()
    mask(part * (1_000_000 // len(part)))
    mask_sentence(part * (1_000_000 // len(part)))
    assert time.process_time() - started < 5, "a pattern that goes back over what it read takes minutes"


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_facts_become_json_without_secrets() -> None:
    facts = bounded_facts(
        {
            "error": ValueError(f"token={SECRET}"),
            "password": SECRET,
            "nested": {"api_key": [SECRET], "when": datetime(2026, 10, 3, tzinfo=UTC), "rate": float("nan")},
            "many": list(range(500)),
            "odd": _Unprintable(),
            "partition_key": "2026-10-03",
            7: {1},
        }
    )
    assert facts == {
        "error": "token=***",
        "password": "***",
        "nested": {"api_key": "***", "when": "2026-10-03T00:00:00+00:00", "rate": "nan"},
        "many": list(range(50)),
        "odd": "<_Unprintable>",
        "partition_key": "2026-10-03",
        "7": [1],
    }


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(_anything)
def test_any_value_becomes_strict_json(value: object) -> None:
    text = json.dumps(bounded_facts(value), allow_nan=False)
    assert "\\u0000" not in text.replace("\\\\u0000", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /?api_key=abc123&page=2", "GET /?api_key=***&page=2"),
        ("/reset?TOKEN=x;y=1", "/reset?TOKEN=***;y=1"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        ("Bearer eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM", "Bearer ***"),
        ("postgresql://user:pw@host/db", "postgresql://user:***@host/db"),
        ("/x?q=9f86d081884c7d65", "/x?q=***"),
        ("/x?q=QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "/x?q=***"),
        ("GET /api/transactions/17 HTTP/1.1", "GET /api/transactions/17 HTTP/1.1"),
        ("a\x00b\x1b[31m", "a?b?[31m"),
        ("y" * 500, "y" * 200),
    ],
)
def test_secrets_of_strangers_are_masked(text: str, expected: str) -> None:
    assert mask_sample(text, 200) == expected
