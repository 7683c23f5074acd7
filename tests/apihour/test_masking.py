"""What is secret is masked, what is not stays, and hostile text costs no time."""

import contextlib
import re
import shlex
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apihour.masking import MASK, is_secret, mask_text, mask_words


@pytest.mark.parametrize(("words", "shown"), [
    (["login", "--token", "s3cr3t", "web"], ["login", "--token", MASK, "web"]),
    (["login", "--api-key=s3cr3t"], ["login", f"--api-key={MASK}"]),
    (["login", "--password", "--token", "x"], ["login", "--password", MASK, "x"]),
    (["set", "password=two words"], ["set", f"password={MASK}"]),
    (["set", "password", "=", "x", "y"], ["set", "password", "=", MASK, "y"]),
    (["set", "password", "=x", "y"], ["set", "password", f"={MASK}", "y"]),
    (["set", "password:", "x", "y"], ["set", "password:", MASK, "y"]),
    (["get", "Authorization:", "Bearer", "x", "-v"], ["get", "Authorization:", MASK, MASK, "-v"]),
    (["get", "-H", "Authorization: Bearer x", "/"], ["get", "-H", f"Authorization: {MASK}", "/"]),
    (["get", "--auth", "basic", "x", "/"], ["get", "--auth", MASK, MASK, "/"]),
    (["send", "{password:", "x y}", "n:", "1"], ["send", "{password:", MASK, "n:", "1"]),
    (["fetch", "https://me:pw@host/path"], ["fetch", f"https://me:{MASK}@host/path"]),
    (["send", '{"api_key": "a b", "n": 1}'], ["send", f'{{"api_key": {MASK}, "n": 1}}']),
    (["conns", "--filter", "state=open"], ["conns", "--filter", "state=open"]),
    (["stack", "1.1", "--frames", "5"], ["stack", "1.1", "--frames", "5"]),
    (["loggers", "token", "debug"], ["loggers", "token", "debug"]),
])
def test_words(words, shown):
    assert mask_words(words) == shown


@pytest.mark.parametrize(("text", "shown"), [
    ("password = 'a b'\nx = 1", f"password = {MASK}\nx = 1"),
    ("connect(dsn='postgres://u:p@h/d', n=3)", f"connect(dsn={MASK}, n=3)"),
    ("redis://:hunter2@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
    ("login --token 'a b' web", f"login --token {MASK} web"),
    ("curl -H 'Authorization: Bearer x' /", f"curl -H 'Authorization: {MASK}' /"),
    ("token: two words\nn: 1", f"token: {MASK}\nn: 1"),
    ("login --token \"a b", f"login --token {MASK}"),
    ("KEY=x USER=me", f"KEY={MASK} USER=me"),
    ("redis://u:p@ss@cache/0", f"redis://u:{MASK}@cache/0"),
    ("deploy --pin '********' web", "deploy --pin '********' web"),
    ("1 + 1", "1 + 1"), ("", ""),
])
def test_text(text, shown):
    assert mask_text(text) == shown


@pytest.mark.parametrize(("source", "shown"), [
    ("password = 'a b'; go()", f"password = {MASK}; go()"),
    ("password: str = 'a ' + \"b c\"; go()", f"password: {MASK}; go()"),
    ("os.environ['TOKEN'] = b'a b'; go()", f"os.environ['TOKEN'] = {MASK}; go()"),
    ("connect(password=f'a b', n=3)", f"connect(password={MASK}, n=3)"),
    ("set_token('a b'); go()", f"set_token({MASK}); go()"),
    ("run(['login', '--token', 'a b', 'web'])", f"run(['login', '--token', {MASK}, 'web'])"),
    ("tokens = ['a b', ('c')]; go()", f"tokens = {MASK}; go()"),
    ("if ready: go()", "if ready: go()"),
])
def test_code(source, shown):
    assert mask_text(source, code=True) == shown


# S: words of a secret, W: one word of it; N: a name.
LINES = [
    'x --N="S" y', "x --N 'S' y", "x --N=W y", "x --N W y", "x N = W", "x N=W", "x N: W", "x N =W",
    'x N="S" y', "x 'N=S' y", "x 'N: S'", 'x "N" = "S"', 'x N = "S" y', "x --N=W'S'\"S\" y",
    """x '{"a": 1, "N": "S", "n": 2}'""", 'x {"a": 1, "N" : "S", "n": 2}',
    r"""x "{\"a\": 1, \"N\": \"S\"}" y""", "x [('N', 'S'), 1]", "f(a, N='S', n=1)",
    "x Authorization: Bearer W", 'x -H "Authorization: Bearer W" y', "x 'Cookie: a=W; b=W' y",
    """x {"Authorization": "Basic W"}""", "x -H 'X-N: S' y", "x Bearer W y", "N_KEY=W x y",
    "x https://me:W@host/path y", "x 'amqp+tls://me:W@@W@host'", "d['N'] = 'S'", 'N += "S"',
    'x --N="S', "x --N 'S", "x 'N=S", """x '{"N": "S""", "N = '''S", "x \"{\\\"N\\\": \\\"S",
]
word = st.from_regex(r"S3cr[a-z0-9]{4,8}", fullmatch=True)
names = st.sampled_from(["token", "DB_PASSWORD", "api-key", "dsn", "KEY"])


@given(st.sampled_from(LINES), names, st.lists(word, min_size=1, max_size=4))
def test_no_word_of_a_secret_is_left(line, name, secret):
    given_for = {"N": name, "S": " ".join(secret), "W": secret[0]}
    line = re.sub(r"\bN(?=_KEY\b)|\b[NSW]\b", lambda found: given_for[found[0]], line)
    assert "S3cr" in line
    assert "S3cr" not in mask_text(line) + mask_text(line, code=True)
    with contextlib.suppress(ValueError):  # an open quote is no line of a shell
        shown = shlex.join(mask_words(shlex.split(line)))
        assert "S3cr" not in shown and MASK in shown
        assert "S3cr" not in mask_text(shown)


def test_names():
    assert is_secret("DB_PASSWORD") and is_secret("apiKey") and is_secret("set-cookie")
    assert is_secret("signing_key") and is_secret("KEY")
    assert not is_secret("workers") and not is_secret("keys") and not is_secret("key")


@pytest.mark.parametrize("text", ["token" * 200_000, "a=" * 200_000, "://" * 200_000,
                                  "a://" + "b" * 500_000, "token='" * 100_000,
                                  "token" + " " * 500_000, "token(" * 100_000, "a://b:" * 90_000,
                                  "token = \\'" * 90_000, "a@" * 400_000, "a" * 900_000])
def test_hostile_text_costs_little(text):
    began = time.process_time()
    mask_text(text)
    mask_text(text, code=True)
    mask_words([text, text])
    assert time.process_time() - began < 8
