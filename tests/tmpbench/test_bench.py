import re, subprocess, time, statistics, uuid, random
import psycopg, pytest
from django.db import connection
from apps.jobs.database.sql import fetch
from apps.jobs.transitions import claims
from tests.apps.jobs.builders import start, workspace, Hand
from apps.jobs import ledger
from apps.jobs.models import Step

pytestmark = pytest.mark.django_db(transaction=True)
OLD = re.search(
    r'CLAIM = """(.*?)"""',
    subprocess.run(
        ["git", "show", "c3f80f8:apps/jobs/transitions/claims.py"], capture_output=True, text=True
    ).stdout,
    re.S,
).group(1)


@pytest.mark.timeout(900)
def test_pairs(tmp_path):
    n = 6000
    flow = (
        "actions: {do: {type: script, script: x}}\ntasks:\n  main:\n    flow: {a: {action: do, for_each: %s}}\n"
        % list(range(n))
    )
    for _ in range(3):
        job = start(workspace(tmp_path, flow))
    hand = Hand()
    sets = [ref.id for ref in ledger.covered(("script", "docker"))]
    fetch("ANALYZE", ())
    connection.ensure_connection()
    raw = connection.connection
    params = claims.claim_params(hand.id, sets, 30.0, None)

    def one(sql, p):
        with psycopg.Cursor(raw) as c:
            t = time.perf_counter()
            c.execute(sql, p, prepare=True)
            r = c.fetchone()
            d = time.perf_counter() - t
        assert r
        return d

    oldp = {k: v for k, v in params.items() if k != "only_bound"}
    for _ in range(200):
        one(OLD, oldp)
        one(claims.CLAIM, params)
    ratios = []
    lows={"old":[],"new":[]}
    for pair in range(25):
        got={"old":[],"new":[]}
        for k in range(110):
            sides=[("old",OLD,oldp),("new",claims.CLAIM,params)]
            if (k+pair)%2: sides.reverse()
            for name,sql,p in sides: got[name].append(one(sql,p))
        got={k:sorted(v)[len(v)//5] for k,v in got.items()}
        ratios.append(got["new"]/got["old"])
    print(
        "\nMEDIAN RATIO",
        statistics.median(ratios),
        "old us",
        got["old"] * 1e6,
        "new us",
        got["new"] * 1e6,
        sorted(round(r, 3) for r in ratios),
    )
    for name, sql, p in (("old", OLD, oldp), ("new", claims.CLAIM, params)):
        with psycopg.Cursor(raw) as c:
            c.execute("BEGIN")
            c.execute("EXPLAIN (COSTS OFF) " + sql, p)
            print(name, "\n".join(r[0] for r in c.fetchall()))
            c.execute("ROLLBACK")
