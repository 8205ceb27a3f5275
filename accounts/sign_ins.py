"""What operators do at the door, written into the audit log.

action                            outcome   when
operator.sign_in                  success   the password was right, and a token where there is a device
                                  failure   the password or the token was wrong
                                  denied    there had been too many failures: not even tried
operator.sign_out                 success   signed out, or the session had lasted too long
operator.second_factor_enrolled   success   a device was enrolled
operator.second_factor_removed    success   the device was removed, by the operator or by a superuser (details.by)

An operator belongs to no organization: their events have the organization "-", which is no id of one. The operator is
the resource (resource_type "operator", resource_id the key as text), and the actor by their e-mail.

Of what was typed, only the e-mail of an operator who exists is kept. People type passwords into the field of the
e-mail, or send the form a field too early; a log is read by many, kept for years and cannot be changed. OWASP Logging
Cheat Sheet, "Data to exclude"; OWASP ASVS 5.0, 16.2.5. The events themselves: ASVS 16.3.1.
"""

from axes.signals import user_locked_out
from django.apps import apps
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from accounts import second_factor
from accounts.lockouts import operator_named, typed_email
from accounts.models import Operator
from keyhub.admin import NO_ORGANIZATION
from keyhub.client_input import client_address


def record(
    action: str,
    request: HttpRequest | None,
    operator: Operator | None,
    outcome: str = "success",
    by: Operator | None = None,
    **details: object,
) -> None:
    """Add an event about an operator. `by` is who did it, where that is somebody else.

    Where there is no request, a script or a test has called Django's functions: nobody came to the door.
    """
    if request is None or request.method is None:
        return
    apps.get_model("audit", "AuditLog").objects.record(
        action,
        "operator",
        None if operator is None else operator.pk,
        organization_id=NO_ORGANIZATION,
        user=by or operator,
        outcome=outcome,
        details=({"by": by.email} if by else {}) | details,
        ip_address=client_address(request),
        user_agent=request.META.get("HTTP_USER_AGENT"),
    )


@receiver(user_logged_in, dispatch_uid="accounts.sign_ins")
def password_was_right(sender, request, user, **kwargs) -> None:
    if not second_factor.is_asked_of(user):
        record("operator.sign_in", request, user, second_factor="none")


@receiver(second_factor.passed, dispatch_uid="accounts.sign_ins")
def token_was_right(sender, request, user, method, **kwargs) -> None:
    record("operator.sign_in", request, user, second_factor=method)


@receiver(user_login_failed, dispatch_uid="accounts.sign_ins")
def password_was_wrong(sender, credentials, request=None, **kwargs) -> None:
    """django-axes has heard of it before, as this module imports its signals: the failure that locks says so."""
    locked = getattr(request, "axes_locked_out", False)
    if not locked or _was_counted(request):
        about = {"reason": "password"} | ({"locked": True} if locked else {})
        record("operator.sign_in", request, operator_named(typed_email(credentials)), "failure", **about)


@receiver(second_factor.failed, dispatch_uid="accounts.sign_ins")
def token_was_wrong(sender, request, user, **kwargs) -> None:
    record("operator.sign_in", request, user, "failure", reason="second factor")


@receiver(user_locked_out, dispatch_uid="accounts.sign_ins")
def was_locked(sender, request, username, **kwargs) -> None:
    if not _was_counted(request):
        record("operator.sign_in", request, operator_named(username), "denied", reason="too many failures")


def _was_counted(request: HttpRequest) -> bool:
    """Whether the password was tried. django-axes counts no try that a lock forestalls."""
    return request.axes_failures_since_start is not None


@receiver(user_logged_out, dispatch_uid="accounts.sign_ins")
def signed_out(sender, request, user, **kwargs) -> None:
    if user is not None:
        record("operator.sign_out", request, user)


@receiver(second_factor.enrolled, dispatch_uid="accounts.sign_ins")
def device_was_enrolled(sender, request, user, **kwargs) -> None:
    record("operator.second_factor_enrolled", request, user)


@receiver(second_factor.removed, dispatch_uid="accounts.sign_ins")
def device_was_removed(sender, request, user, by=None, **kwargs) -> None:
    record("operator.second_factor_removed", request, user, by=by)
