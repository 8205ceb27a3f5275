"""Domains: who may claim one, who has proved it to a real DNS server, and for how long that holds."""

import threading
from datetime import UTC, datetime

import dns.rcode
import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from orgs.domains import (
    DNSTroubleError,
    DomainRefusedError,
    DomainTakenError,
    NotProvedError,
    Recheck,
)
from orgs.models import OrganizationDomain
from tests.factories import OrganizationDomainFactory, OrganizationFactory
from tests.orgs.name_server import GARBAGE, NO_ANSWER, NameServer
from tests.rivals import ISOLATIONS, rivals

TAKEN = "The domain acme.example is verified for another organization. Ask for it to be given up there."
NO_DOMAIN = "This is no domain: give a host name such as example.com."

domains = OrganizationDomain.objects


@pytest.fixture
def name_server():
    with NameServer() as name_server:
        yield name_server


@pytest.fixture
def acme(db):
    return OrganizationFactory(name="Acme")


@pytest.fixture
def robots(db):
    return OrganizationFactory(name="Robots")


def proved(name_server: NameServer, organization, domain: str = "acme.example") -> OrganizationDomain:
    row = domains.claim(organization, domain)
    name_server.zone.setdefault(row.txt_name, []).append(f'"{row.txt_value}"')
    return domains.verify(organization, domain, name_server.resolver())


# Claiming


def test_a_claim_says_what_record_proves_it(acme):
    row = domains.claim(acme, "acme.example")
    assert (row.organization, row.domain, row.is_verified) == (acme, "acme.example", False)
    assert row.txt_name == "_keyhub-challenge.acme.example"
    assert len(row.verification_token) == 32
    assert row.txt_value == f"keyhub-verification={row.verification_token}"


def test_a_second_claim_is_the_first(acme):
    first = domains.claim(acme, "acme.example")
    second = domains.claim(acme, "ACME.example.")
    assert (second, second.verification_token) == (first, first.verification_token)


def test_several_may_claim_a_domain_each_with_a_token_of_its_own(acme, robots):
    rows = [domains.claim(organization, "acme.example") for organization in (acme, robots)]
    assert rows[0].verification_token != rows[1].verification_token


def test_a_domain_that_is_verified_for_another_is_refused(acme, robots):
    OrganizationDomainFactory(
        organization=robots, domain="acme.example", is_verified=True, verified_at=datetime.now(UTC)
    )
    with pytest.raises(DomainTakenError) as refusal:
        domains.claim(acme, "acme.example")
    assert str(refusal.value) == TAKEN
    assert domains.claim(robots, "acme.example").is_verified


def test_a_row_that_an_operator_made_gets_a_token_by_the_claim(acme):
    made = OrganizationDomainFactory(organization=acme, domain="acme.example")
    assert domains.claim(acme, "acme.example") == made
    assert domains.get().verification_token is not None


@pytest.mark.parametrize(
    ("domain", "kept"),
    [
        ("例え.jp", "xn--r8jz45g.jp"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("mail.acme.co.uk", "mail.acme.co.uk"),
        ("acme.github.io", "acme.github.io"),
        ("acme。example", "acme.example"),
    ],
)
def test_how_a_domain_is_kept(acme, domain, kept):
    assert domains.claim(acme, domain).domain == kept


def nobody_owns(name: str) -> str:
    return f"Anybody may register names below {name}: claim your own domain there."


def everybody_has(name: str) -> str:
    return f"{name} gives mail addresses to everybody: no organization has it for its own."


@pytest.mark.parametrize(
    ("domain", "sentence"),
    [
        *[(domain, NO_DOMAIN) for domain in (
            None, 7, b"acme.example", "", ".", "acme", "localhost", "acme..example", ".acme.example", "-a.example",
            "a_b.example", "acme.example/x", "alice@acme.example", "*.acme.example", "ac me.example", "acme.example\n",
            "acme\0.example", "\ud800.example", "xn--a.example", "a" * 64 + ".example", "a." * 130 + "example",
            "127.0.0.1", "[::1]", "x" * 10_000,
        )],
        ("co.uk", nobody_owns("co.uk")),
        ("co.jp", nobody_owns("co.jp")),
        ("github.io", nobody_owns("github.io")),
        ("gmail.com", everybody_has("gmail.com")),
        ("GMail.com", everybody_has("gmail.com")),
        ("mail.yahoo.co.jp", everybody_has("mail.yahoo.co.jp")),
        ("outlook.com", everybody_has("outlook.com")),
    ],
)  # fmt: skip
def test_what_no_organization_can_own(acme, domain, sentence):
    with pytest.raises(DomainRefusedError) as refusal:
        domains.claim(acme, domain)
    assert str(refusal.value) == sentence
    assert not domains.exists()


@pytest.mark.parametrize(
    "domain", ["Acme.example", "acme", "acme..example", "acme.example.", "bücher.example", "a_b.example", "a b.example"]
)
def test_no_other_form_is_kept_whoever_writes(acme, domain):
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        OrganizationDomainFactory(organization=acme, domain=domain)
    assert refusal.value.__cause__.diag.constraint_name == "check_organization_domain"


# Proving


def test_the_record_gives_the_domain(acme, name_server):
    row = proved(name_server, acme)
    assert (row.is_verified, row.verified_at is not None, row.failed_checks) == (True, True, 0)
    assert row.last_checked_at == row.verified_at
    assert name_server.asked == ["_keyhub-challenge.acme.example"]
    verified_at = row.verified_at
    assert domains.verify(acme, "acme.example", name_server.resolver()).verified_at == verified_at


@pytest.mark.parametrize(
    "records",
    [
        ['"keyhub-verification=other"', '"{value}"', '"v=spf1 -all"'],
        ['"keyhub-veri" "fication={token}"'],
        "elsewhere.acme.example",
    ],
)
def test_forms_of_the_record(acme, name_server, records):
    row = domains.claim(acme, "acme.example")
    if isinstance(records, str):
        name_server.zone[records] = [f'"{row.txt_value}"']
    else:
        records = [text.format(value=row.txt_value, token=row.verification_token) for text in records]
    name_server.zone[row.txt_name] = records
    assert domains.verify(acme, "acme.example", name_server.resolver()).is_verified


@pytest.mark.parametrize(
    "records",
    [dns.rcode.NXDOMAIN, [], ['"keyhub-verification="'], ['"{value}x"'], ['"{value} "'], ['"KEYHUB-VERIFICATION=x"']],
)
def test_a_record_that_is_not_there(acme, name_server, records):
    row = domains.claim(acme, "acme.example")
    if isinstance(records, list):
        records = [text.format(value=row.txt_value) for text in records]
    name_server.zone[row.txt_name] = records
    with pytest.raises(NotProvedError) as refusal:
        domains.verify(acme, "acme.example", name_server.resolver())
    assert str(refusal.value) == (
        f"No TXT record at _keyhub-challenge.acme.example is {row.txt_value}. "
        "Set it, wait until DNS has it, and try again."
    )
    row.refresh_from_db()
    assert (row.is_verified, row.last_checked_at is not None) == (False, True)


@pytest.mark.parametrize(
    ("trouble", "what"),
    [
        (dns.rcode.SERVFAIL, "NoNameservers"),
        (dns.rcode.REFUSED, "NoNameservers"),
        (NO_ANSWER, "LifetimeTimeout"),
        (GARBAGE, "LifetimeTimeout"),
    ],
)
def test_dns_that_does_not_tell(acme, name_server, trouble, what):
    row = domains.claim(acme, "acme.example")
    name_server.zone[row.txt_name] = trouble
    with pytest.raises(DNSTroubleError) as refusal:
        domains.verify(acme, "acme.example", name_server.resolver())
    assert str(refusal.value) == f"DNS has not told of _keyhub-challenge.acme.example ({what}). Try again later."
    assert domains.get().last_checked_at is None


def test_a_record_of_another_organization_proves_nothing(acme, robots, name_server):
    domains.claim(robots, "acme.example")
    proved(name_server, acme)
    with pytest.raises(NotProvedError):
        domains.verify(robots, "acme.example", name_server.resolver())
    assert not domains.get(organization=robots).is_verified


def test_what_was_not_claimed_is_not_looked_for(acme, name_server):
    OrganizationDomainFactory(organization=acme, domain="acme.example")
    with pytest.raises(NotProvedError) as refusal:
        domains.verify(acme, "acme.example", name_server.resolver())
    assert str(refusal.value) == (
        "The organization has not claimed the domain acme.example. Claim it, and set its record."
    )
    assert name_server.asked == []


def test_the_second_to_prove_a_domain_is_told(acme, robots, name_server):
    row = domains.claim(robots, "acme.example")
    name_server.zone[row.txt_name] = [f'"{row.txt_value}"']
    proved(name_server, acme)
    with pytest.raises(DomainTakenError) as refusal:
        domains.verify(robots, "acme.example", name_server.resolver())
    assert str(refusal.value) == TAKEN
    assert domains.filter(is_verified=True).count() == 1  # the transaction goes on


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_of_two_who_prove_it_at_once_one_has_it(server, migrated_database, connected_to, name_server, isolation):
    with connected_to(migrated_database):
        rows = [domains.claim(OrganizationFactory(), "acme.example") for _ in range(2)]
        name_server.zone[rows[0].txt_name] = [f'"{row.txt_value}"' for row in rows]

        def verify(row):
            return lambda: domains.verify(row.organization, "acme.example", name_server.resolver()).is_verified

        outcomes = rivals(server, isolation, *map(verify, rows))
        assert (outcomes[0], str(outcomes[1])) == (True, TAKEN)
        assert list(domains.filter(is_verified=True)) == rows[:1]


def test_of_eight_who_prove_it_at_once_one_has_it(migrated_database, connected_to, name_server):
    with connected_to(migrated_database):
        rows = [domains.claim(OrganizationFactory(), "acme.example") for _ in range(8)]
        name_server.zone[rows[0].txt_name] = [f'"{row.txt_value}"' for row in rows]
        outcomes, ready = [], threading.Barrier(8)

        def verify(organization) -> None:
            connection.ensure_connection()
            ready.wait(timeout=30)
            try:
                outcomes.append(domains.verify(organization, "acme.example", name_server.resolver()).is_verified)
            except DomainTakenError as error:
                outcomes.append(str(error))
            finally:
                connection.close()

        threads = [threading.Thread(target=verify, args=[row.organization]) for row in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, outcomes)) == [TAKEN] * 7 + ["True"]
        assert domains.filter(is_verified=True).count() == 1


# Proving again


def test_three_missing_records_in_a_row_withdraw_a_domain(acme, name_server):
    row = proved(name_server, acme)
    record = name_server.zone.pop(row.txt_name)
    resolver = name_server.resolver()
    assert [domains.recheck(resolver) for _ in range(2)] == [Recheck(failed=["acme.example"])] * 2
    name_server.zone[row.txt_name] = record
    assert domains.recheck(resolver) == Recheck(proved=["acme.example"])
    del name_server.zone[row.txt_name]
    expected = [Recheck(failed=["acme.example"])] * 2 + [Recheck(withdrawn=["acme.example"]), Recheck()]
    assert [domains.recheck(resolver) for _ in range(4)] == expected
    row.refresh_from_db()
    assert (row.is_verified, row.verified_at, row.failed_checks) == (False, None, 3)


@pytest.mark.parametrize("trouble", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, NO_ANSWER])
def test_dns_trouble_does_not_count(acme, name_server, trouble):
    row = proved(name_server, acme)
    name_server.zone[row.txt_name] = dns.rcode.NXDOMAIN
    resolver = name_server.resolver()
    domains.recheck(resolver)
    name_server.zone[row.txt_name] = trouble
    assert [domains.recheck(resolver) for _ in range(3)] == [Recheck(unknown=["acme.example"])] * 3
    row.refresh_from_db()
    assert (row.is_verified, row.failed_checks) == (True, 1)


def test_the_oldest_check_comes_first_and_a_withdrawn_domain_may_be_proved_again(acme, name_server):
    for name in ("b.example", "a.example", "c.example"):
        proved(name_server, acme, name)
    domains.filter(domain="c.example").update(last_checked_at=None)
    name_server.asked.clear()
    domains.recheck(name_server.resolver())
    assert [name.removeprefix("_keyhub-challenge.") for name in name_server.asked] == [
        "c.example", "b.example", "a.example"
    ]  # fmt: skip
    records, name_server.zone = name_server.zone, {}
    for _ in range(3):
        domains.filter(domain="c.example").recheck(name_server.resolver())
    name_server.zone = records
    assert not domains.get(domain="c.example").is_verified
    row = domains.verify(acme, "c.example", name_server.resolver())
    assert (row.is_verified, row.failed_checks) == (True, 0)


def test_what_an_operator_has_verified_is_left_alone(acme, name_server):
    made = {"organization": acme, "domain": "acme.example", "is_verified": True, "verified_at": datetime.now(UTC)}
    OrganizationDomainFactory(**made)
    domains.claim(acme, "acme.example")
    assert domains.recheck(name_server.resolver()) == Recheck()
    assert name_server.asked == []


def test_of_two_rechecks_at_once_one_counts(server, migrated_database, connected_to, name_server):
    with connected_to(migrated_database):
        row = proved(name_server, OrganizationFactory())
        name_server.zone.clear()

        def recheck() -> Recheck:
            return domains.recheck(name_server.resolver())

        assert rivals(server, "READ COMMITTED", recheck, recheck) == (
            Recheck(failed=["acme.example"]),
            Recheck(unknown=["acme.example"]),
        )
        row.refresh_from_db()
        assert row.failed_checks == 1


# Whose e-mail


def test_the_organization_of_an_email(acme, name_server):
    proved(name_server, acme)
    proved(name_server, acme, "xn--r8jz45g.jp")
    assert domains.for_email("alice@acme.example") == acme
    assert domains.for_email("Alice@ACME.Example") == acme
    assert domains.for_email("alice@例え.jp") == acme


@pytest.mark.parametrize(
    "email",
    ["alice@mail.acme.example", "alice@example", "acme.example@other.example", "alice@", "", "alice@acme..example"],
)
def test_another_domain_is_nobodys(acme, name_server, email):
    proved(name_server, acme)
    assert domains.for_email(email) is None


def test_an_unproved_domain_and_a_suspended_organization_have_no_email(acme, name_server):
    domains.claim(acme, "acme.example")
    assert domains.for_email("alice@acme.example") is None
    proved(name_server, acme)
    acme.suspend()
    assert domains.for_email("alice@acme.example") is None
    acme.resume()
    assert domains.for_email("alice@acme.example") == acme


def test_the_async_twins(acme, name_server):
    """async_to_sync runs what they call in this thread, so that the test's transaction is seen."""

    async def twins() -> tuple:
        row = await domains.aclaim(acme, "acme.example")
        name_server.zone[row.txt_name] = [f'"{row.txt_value}"']
        await domains.averify(acme, "acme.example", name_server.resolver())
        outcome = await domains.arecheck(name_server.resolver())
        return outcome, await domains.afor_email("alice@acme.example")

    assert async_to_sync(twins)() == (Recheck(proved=["acme.example"]), acme)


def test_a_changed_domain_is_not_verified_any_more(acme):
    row = OrganizationDomainFactory(
        organization=acme, domain="acme.example", is_verified=True, verified_at=timezone.now(), verification_token="t"
    )
    type(row).objects.filter(pk=row.pk).update(domain="victim.example")
    row.refresh_from_db()
    assert (row.is_verified, row.verified_at, row.verification_token) == (False, None, None)


def test_a_domain_that_is_too_long_for_its_record(acme):
    with pytest.raises(DomainRefusedError, match="is too long for a record below it"):
        OrganizationDomain.objects.claim(acme, ".".join(["a" * 60] * 4)[:232] + ".example")
