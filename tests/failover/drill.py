"""A failover under load: people come, the site is asked, the primary is killed, and another server takes its place."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg

from tests.failover.writers import Writers, lost_and_doubled
from tests.test_embedded import wait_for
from tests.test_serve import PROXIED, Site, production, production_environment, sign_in

CODE = "KH-FAILOVER"
ISSUE = """
    INSERT INTO tenant_join_codes (tenant_id, code, max_uses) SELECT id, %s, 0 FROM tenants LIMIT 1
    ON CONFLICT DO NOTHING
"""
VISITS = 16  # more than the site has threads
LONGEST_FAILOVER_S = 120


class Cluster(Protocol):
    """Servers of which one at a time takes writes."""

    def url(self) -> str:
        """All of them."""

    def kill_primary(self) -> None: ...

    def take_over(self) -> None:
        """Make another one the primary, or wait until somebody has."""

    def bring_back(self) -> None:
        """Let the killed one come back as a standby."""


@dataclass
class Figures:
    writes: int
    pause_s: float  # for which no write was acknowledged to anybody
    unready_s: float  # from the kill until /readyz said 200 again


def drill(cluster: Cluster, image: Path, folder: Path, **settings: str) -> Figures:
    """Run it on a migrated database, with a site from `image`, and assert what docs/failover.md promises."""
    settings |= {"BEHIND_TLS_PROXY": "on"}
    with connected_to_the_primary(cluster.url()) as client:
        client.execute(ISSUE, [CODE])
    with (
        production(image, cluster.url(), **settings) as site,
        Writers(production_environment(cluster.url(), **settings), CODE, folder) as writers,
    ):
        writers.wait_for_write(after_s=0)
        wait_for(lambda: is_ready(site))
        assert (visits(site), sign_in(site).status) == ({302}, 200)
        processes = {process.pid for process in [site.master, *site.master.children()]}

        killed_at_s = time.monotonic()
        cluster.kill_primary()
        wait_for(lambda: not is_ready(site))
        assert visits(site) <= {302, 500}  # Patroni may be quicker than this
        cluster.take_over()
        wait_for(lambda: is_ready(site), LONGEST_FAILOVER_S)
        unready_s = time.monotonic() - killed_at_s
        # No thread of the site shows an error for the connection that it had.
        assert visits(site) == {302}
        writers.wait_for_write(after_s=time.monotonic())

        cluster.bring_back()
        writers.wait_for_write(after_s=time.monotonic())
        wait_for(lambda: is_ready(site))
        assert (visits(site), sign_in(site).status) == ({302}, 200)
        assert {process.pid for process in [site.master, *site.master.children()]} == processes
    with connected_to_the_primary(cluster.url()) as client:
        assert lost_and_doubled(client, writers.acknowledged(), CODE) == []
    return Figures(len(writers.acknowledged()), writers.longest_pause_s(), unready_s)


def connected_to_the_primary(url: str) -> psycopg.Connection:
    return psycopg.connect(url, target_session_attrs="read-write", autocommit=True)


def is_ready(site: Site) -> bool:
    status = site.ask("/readyz").status
    assert status in (200, 503)
    return status == 200


def visits(site: Site) -> set[int]:
    """What many are answered whose session the database is asked for: 302, to the page on which they sign in."""
    cookie = "__Host-session=of-nobody"
    with ThreadPoolExecutor(VISITS) as threads:
        return {
            response.status
            for response in threads.map(lambda _: site.ask("/admin/", **PROXIED, Cookie=cookie), range(VISITS))
        }
