"""How many tries a password gets: django-axes counts them by e-mail and address, and these tell it which.

After AXES_FAILURE_LIMIT failures the two are locked for AXES_COOLOFF_TIME, whether there is such an operator or not.
OWASP ASVS 5.0, 6.3.1; NIST SP 800-63B, 5.2.2.
"""

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import Operator


def typed_email(credentials: dict | None) -> str:
    """The e-mail that was given to sign in, as operators' e-mails are written."""
    credentials = credentials or {}
    return str(credentials.get("username") or credentials.get(Operator.USERNAME_FIELD) or "").strip().lower()


def operator_named(email: str) -> Operator | None:
    """The operator of an e-mail that came from outside."""
    return Operator.objects.filter(email=email).first() if email and "\0" not in email else None


def counted_name(request: HttpRequest, credentials: dict | None) -> str:
    """Under which name a try is counted: the e-mail of an operator, or a keyed digest of anything else.

    People type passwords into the field of the e-mail; what is no operator's e-mail is kept nowhere in the clear.
    """
    email = typed_email(credentials)
    known = request.__dict__.setdefault("_counted_names", {})  # axes asks several times for one try
    if email not in known:
        known[email] = email if operator_named(email) else salted_hmac("accounts.lockouts", email).hexdigest()
    return known[email]


def locked_out(request: HttpRequest, original_response: HttpResponse, credentials: dict | None) -> HttpResponse:
    """The page for who has tried too often: 429 Too Many Requests (RFC 6585), the same for every e-mail."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    sentence = ngettext(
        "There were too many wrong passwords for this e-mail from your address: try again in %(minutes)d minute.",
        "There were too many wrong passwords for this e-mail from your address: try again in %(minutes)d minutes.",
        minutes,
    ) % {"minutes": minutes}
    context = admin.site.each_context(request) | {"title": _("Locked"), "sentence": sentence}
    response = render(request, "accounts/locked_out.html", context, status=settings.AXES_HTTP_RESPONSE_CODE)
    response["Retry-After"] = str(minutes * 60)
    return response
