"""Every row of every table that events are folded into, one JSON object a line: tables.py DATABASE"""
import json
import sqlite3
import sys

TABLES = ["location", "location_history", "calls", "cdr", "backend_state", "backend_history"]

database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=10)
database.row_factory = sqlite3.Row
database.execute("BEGIN")
for table in TABLES:
    rows = [json.dumps({"table": table} | dict(row)) for row in database.execute(f"SELECT * FROM {table}")]
    print(*sorted(rows), sep="\n" if rows else "", end="\n" if rows else "")
