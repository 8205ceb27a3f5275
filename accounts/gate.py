"""What stands between the password and the pages, for every URL, whichever view or site it belongs to.

An operator who has given the password alone reaches the pages that ask for a token, or that enrol a device where
SECOND_FACTOR is on, and no other. A session ends after OPERATOR_SESSION_LIFETIME, after SESSION_COOKIE_AGE without a
request, and when its device is taken away (OWASP ASVS 5.0, 7.3.1, 7.3.2, 7.4.3).
"""

import time
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.signals import user_logged_in
from django.contrib.auth.views import redirect_to_login
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp import login as remember_device
from django_otp.models import Device

from accounts import second_factor

SIGNED_IN_AT = "signed_in_at"
SEEN_AT = "seen_at"
PASSED_SECOND_FACTOR = "passed_second_factor"
# A session is written when its last writing is older: idleness is known to the minute, and a click costs no UPDATE.
SEEN_EVERY_SECONDS = 60
OPEN_TO_HALF_SIGNED_IN = {
    "admin:login",
    "admin:logout",
    "second_factor:enrol",
    "second_factor:verify",
    "set_language",
}


class GateMiddleware:
    """Comes after django_otp's middleware, which knows the session's device."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Callable, args: tuple, kwargs: dict) -> HttpResponse | None:
        """Send whoever may not go on to the page that comes first; None lets the view answer."""
        if not request.user.is_authenticated:
            return None
        if has_ended(request):
            logout(request)
            return redirect_to_login(_way_back(request), reverse("admin:login"))
        now = int(time.time())
        if now - request.session.get(SEEN_AT, 0) >= SEEN_EVERY_SECONDS:
            request.session[SEEN_AT] = now
        if is_signed_in(request) or request.resolver_match.view_name in OPEN_TO_HALF_SIGNED_IN:
            return None
        page = "verify" if second_factor.is_asked_of(request.user) else "enrol"
        return redirect_to_login(_way_back(request), reverse(f"second_factor:{page}"))


def is_signed_in(request: HttpRequest) -> bool:
    """Whether the operator has given all that is asked: the password, and a token where there is a device."""
    if not request.user.is_authenticated:
        return False
    if request.user.is_verified():
        return True
    return not settings.SECOND_FACTOR and not second_factor.is_asked_of(request.user)


def has_ended(request: HttpRequest) -> bool:
    """Whether a session has lasted too long, or was opened by a device that is no longer the operator's."""
    age_seconds = time.time() - request.session.get(SIGNED_IN_AT, 0)
    if age_seconds >= settings.OPERATOR_SESSION_LIFETIME.total_seconds():
        return True
    return PASSED_SECOND_FACTOR in request.session and not request.user.is_verified()


def let_in(request: HttpRequest, device: Device) -> None:
    """Remember in the session that the operator gave a token of the device, under a new key (ASVS 7.2.4)."""
    request.session.cycle_key()
    remember_device(request, device)
    request.session[PASSED_SECOND_FACTOR] = True


def forget_device(request: HttpRequest) -> None:
    """Keep the session of an operator who has removed the device in it; those that it opened elsewhere end."""
    request.session.pop(DEVICE_ID_SESSION_KEY, None)
    request.session.pop(PASSED_SECOND_FACTOR, None)
    request.user.otp_device = None


@receiver(user_logged_in, dispatch_uid="accounts.gate")
def begin(sender, request, user, **kwargs) -> None:
    request.session[SIGNED_IN_AT] = request.session[SEEN_AT] = int(time.time())


def _way_back(request: HttpRequest) -> str:
    return request.get_full_path() if request.method == "GET" else reverse("admin:index")
