"""What every peer of agents.py answers: API-Hour's own benchmark, with its query.

The list of agents is a join of two tables, whose rows become JSON as they are.
"""

from __future__ import annotations

import os

HELLO = {"hello": "world"}
POOL = 8  # connections of a server; a server of 100 has room for all of them at once
URL = os.environ.get("DATABASE_URL", "")
TABLES = """
DROP TABLE IF EXISTS agentfeatures, agent_login_status;
CREATE TABLE agentfeatures (
    id serial PRIMARY KEY, firstname varchar(128) NOT NULL, lastname varchar(128) NOT NULL,
    number varchar(40) NOT NULL UNIQUE, context varchar(39) NOT NULL);
CREATE TABLE agent_login_status (
    agent_id integer PRIMARY KEY, extension varchar(80) NOT NULL, context varchar(80) NOT NULL,
    state_interface varchar(128) NOT NULL, UNIQUE (extension, context));
INSERT INTO agentfeatures (firstname, lastname, number, context)
    SELECT 'First' || n, 'Last' || n, (299 + n)::text, 'default' FROM generate_series(1, 50) n;
INSERT INTO agent_login_status
    SELECT n, (1000 + n)::text, 'default', 'SIP/' || n FROM generate_series(1, 50, 2) n;
"""
QUERY = """
SELECT af.number, als.extension, als.context, als.state_interface, 'offline' AS status,
    '-1' AS extension_status, '0' AS paused
FROM agentfeatures af LEFT JOIN agent_login_status als ON af.id = als.agent_id
ORDER BY af.id
"""
