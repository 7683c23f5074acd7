"""Verifies a server against the rules of the TechEmpower Framework Benchmarks.

``python verify.py http://127.0.0.1:8080``; DATABASE_URL is the database that it serves from. Prints
a line for each check that fails and ends with 1, or says how many have passed.
"""

import asyncio
import json
import os
import re
import sys
import time
import urllib.request
from collections import Counter
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser

import asyncpg

TYPES = {
    "json": r"application/json(; ?charset=utf-8)?",
    "plain": r"text/plain(; ?charset=utf-8)?",
    "html": r"text/html; ?charset=utf-8",
}
COUNTS = {"1": 1, "2": 2, "20": 20, "500": 500, "501": 500, "0": 1, "foo": 1, "": 1, "-3": 1}


class Verifier:
    """Asks, and keeps what is wrong."""

    def __init__(self, base, database):
        self.base = base.rstrip("/")
        self.database = database
        self.passed = 0
        self.failed = []

    def check(self, what, is_right, found=""):
        if is_right:
            self.passed += 1
        else:
            self.failed.append(f"{what}: {found!r}"[:300])

    def get(self, path, kind):
        """The body of a 200 with the headers that the rules ask for."""
        with urllib.request.urlopen(self.base + path, timeout=30) as answer:
            body, headers = answer.read(), answer.headers
            self.check(f"{path}: status", answer.status == 200, answer.status)
        found = headers.get("Content-Type", "")
        self.check(f"{path}: Content-Type", re.fullmatch(TYPES[kind], found, re.I), found)
        self.check(f"{path}: Server", headers.get("Server"), "none")
        length = headers.get("Content-Length")
        self.check(f"{path}: Content-Length or Transfer-Encoding",
                   headers.get("Transfer-Encoding") or length == str(len(body)), length)
        date = parsedate_to_datetime(headers["Date"]).timestamp()
        self.check(f"{path}: Date of now", abs(time.time() - date) < 2.5, headers["Date"])
        return body

    def verify_json(self):
        found = self.get("/json", "json")
        self.check("/json", json.loads(found) == {"message": "Hello, World!"}, found)

    def verify_plaintext(self):
        found = self.get("/plaintext", "plain")
        self.check("/plaintext", found == b"Hello, World!", found)

    def verify_db(self):
        found = [json.loads(self.get("/db", "json")) for _ in range(5)]
        self.see_worlds("/db", found, 5)
        self.check("/db: rows differ", len({one["id"] for one in found}) > 1, found)

    async def verify_queries(self):
        worlds = await self.worlds()
        for text, count in COUNTS.items():
            found = json.loads(self.get(f"/queries?queries={text}", "json"))
            self.see_worlds(f"/queries?queries={text}", found, count)
            self.check(f"/queries?queries={text}: as stored", all(
                worlds[one["id"]] == one["randomNumber"] for one in found), found)
        self.see_worlds("/queries", json.loads(self.get("/queries", "json")), 1)

    async def verify_updates(self):
        for text, count in COUNTS.items():
            before = await self.worlds()
            found = json.loads(self.get(f"/updates?queries={text}", "json"))
            after = await self.worlds()
            self.see_worlds(f"/updates?queries={text}", found, count)
            told = {one["id"]: one["randomNumber"] for one in found}
            self.check(f"/updates?queries={text}: stored", all(
                after[key] == value for key, value in told.items()), found)
            changed = {key for key in after if after[key] != before[key]}
            self.check(f"/updates?queries={text}: others stay", changed <= told.keys(), changed)
            if count >= 20:  # one may have got the number that it had
                self.check(f"/updates?queries={text}: changed", len(changed) >= count * 0.95,
                           len(changed))

    async def verify_fortunes(self):
        text = self.get("/fortunes", "html").decode()
        page = Table()
        page.feed(text)
        rows = await self.fetch("SELECT id, message FROM fortune")
        expected = [*((str(one["id"]), one["message"]) for one in rows),
                    ("0", "Additional fortune added at request time.")]
        expected.sort(key=lambda row: row[1])
        self.check("/fortunes: rows", page.rows == [("id", "message"), *expected], page.rows)
        self.check("/fortunes: doctype", text.lower().startswith("<!doctype html>"), text[:30])
        self.check("/fortunes: title", "<title>Fortunes</title>" in text, text[:80])
        self.check("/fortunes: escaped", "script" not in page.tags, Counter(page.tags))

    def see_worlds(self, what, found, count):
        self.check(f"{what}: a list of {count}", isinstance(found, list) and len(found) == count,
                   found)
        self.check(f"{what}: its members", all(
            one.keys() == {"id", "randomNumber"} and 1 <= one["id"] <= 10_000
            and 1 <= one["randomNumber"] <= 10_000 for one in found), found)

    async def worlds(self):
        return {one["id"]: one["randomnumber"]
                for one in await self.fetch("SELECT id, randomnumber FROM world")}

    async def fetch(self, query):
        connection = await asyncpg.connect(self.database)
        try:
            return await connection.fetch(query)
        finally:
            await connection.close()

    async def verify(self):
        self.verify_json()
        self.verify_plaintext()
        self.verify_db()
        await self.verify_queries()
        await self.verify_updates()
        await self.verify_fortunes()


class Table(HTMLParser):
    """The cells of a table, row by row."""

    def __init__(self):
        super().__init__()
        self.rows = []
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append(())
        elif tag in ("td", "th"):
            self.rows[-1] += ("",)

    def handle_data(self, data):
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1] = (*self.rows[-1][:-1], self.rows[-1][-1] + data)


if __name__ == "__main__":
    verifier = Verifier(sys.argv[1], os.environ["DATABASE_URL"])
    asyncio.run(verifier.verify())
    for line in verifier.failed:
        print(f"FAILED {line}")
    print(f"{verifier.passed} passed, {len(verifier.failed)} failed")
    sys.exit(1 if verifier.failed else 0)
