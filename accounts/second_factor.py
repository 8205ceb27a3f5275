"""The second factor of an operator: a device that shows tokens (TOTP, RFC 6238), and recovery codes for its loss.

An operator has one device. Each token and each recovery code opens once, and after wrong ones the next has to wait:
1, 2, 4, 8 seconds and so on, for the device and for the codes apart. OWASP ASVS 5.0, 6.5.1, 6.6.3.

A recovery code has 120 bits, of which the table holds a digest: a backup of the database gives none away (ASVS 6.5.2).
"""

import base64
import hashlib
import re
import secrets
import unicodedata
from math import ceil

from django.db import transaction
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import Operator

RECOVERY_CODES = 10
RECOVERY_CODE_BYTES = 15
KEY_BYTES = 20  # RFC 4226, section 4, R6: 160 bits are recommended

# Each is sent with request, and user, who it is about; `passed` and `failed` also with `method`, totp or recovery_code.
passed = Signal()
failed = Signal()
enrolled = Signal()
removed = Signal()


class TokenError(Exception):
    """A token opens nothing; the text is one sentence for the operator."""


def is_asked_of(operator: Operator) -> bool:
    """Whether the operator has a device, and so has to give a token after the password."""
    known = getattr(operator, "has_second_factor", None)  # accounts.roles.RoleBackend
    return device_of(operator) is not None if known is None else known


def device_of(operator: Operator) -> TOTPDevice | None:
    return TOTPDevice.objects.devices_for_user(operator, confirmed=True).first()


def method_of(device: Device) -> str:
    return "recovery_code" if isinstance(device, StaticDevice) else "totp"


def new_key() -> str:
    """A secret for a device to come, in hex as django-otp keeps it."""
    return secrets.token_hex(KEY_BYTES)


def secret_text(key: str) -> str:
    """A device's key as people type it: base32, in groups of four."""
    return " ".join(re.findall("....", base64.b32encode(bytes.fromhex(key)).decode()))


def enrol(operator: Operator, key: str, token: str) -> TOTPDevice:
    """Make the device that holds `key` the operator's, whose first token this is. Raises TokenError."""
    with transaction.atomic():
        Operator.objects.select_for_update().get(pk=operator.pk)
        if device_of(operator):
            raise TokenError(_("There is a device already. Remove it first."))
        device = TOTPDevice.objects.create(user=operator, name="TOTP", key=key, confirmed=True)
        if not device.verify_token(_plain(token)):
            transaction.set_rollback(True)
            device = None
    if device is None:
        raise TokenError(_("This is not the token of this secret. Look whether the clock of the device is right."))
    operator.has_second_factor = True
    return device


def verify(operator: Operator, token: str) -> Device:
    """Use up a token of the operator's device, or one of the recovery codes, and return which of both it was of.

    Which one is told by the form: six digits are of the device. Raises TokenError where it is wrong, used or too soon.
    """
    plain = _plain(token)
    is_of_device = bool(re.fullmatch(r"[0-9]{6}", plain))
    kind = TOTPDevice if is_of_device else StaticDevice
    # In one transaction: two that bring the same token at once wait for each other, and only the first gets in.
    with transaction.atomic():
        device = kind.objects.devices_for_user(operator, confirmed=True).select_for_update().first()
        if device is None:
            refusal = _wrong(is_of_device)
        else:
            allowed, reason = device.verify_is_allowed()
            if not allowed:
                refusal = _too_soon(reason)
            elif device.verify_token(plain if is_of_device else digest(plain)):
                refusal = None
            else:
                refusal = _wrong(is_of_device)
    if refusal:
        raise TokenError(refusal)
    return device


def renew_recovery_codes(operator: Operator) -> list[str]:
    """Make ten new recovery codes, and the old ones worthless. They are returned once: the table holds digests."""
    codes = [_new_code() for _ in range(RECOVERY_CODES)]
    with transaction.atomic():
        Operator.objects.select_for_update().get(pk=operator.pk)
        device, _created = StaticDevice.objects.get_or_create(user=operator, defaults={"name": "Recovery codes"})
        device.token_set.all().delete()
        StaticToken.objects.bulk_create([StaticToken(device=device, token=digest(_plain(code))) for code in codes])
    return codes


def recovery_codes_left(operator: Operator) -> int:
    return StaticToken.objects.filter(device__user=operator).count()


def remove(operator: Operator) -> bool:
    """Take the device and the recovery codes from the operator; return whether there was a device."""
    with transaction.atomic():
        StaticDevice.objects.filter(user=operator).delete()
        rows, _by_model = TOTPDevice.objects.filter(user=operator).delete()
    operator.has_second_factor = False
    return rows > 0


def digest(code: str) -> str:
    """What the table holds of a recovery code: as much of its SHA-256 as django-otp's column takes, 96 bits."""
    return base64.urlsafe_b64encode(hashlib.sha256(code.encode()).digest())[:16].decode()


def _new_code() -> str:
    text = base64.b32encode(secrets.token_bytes(RECOVERY_CODE_BYTES)).decode().lower()
    return "-".join(re.findall("....", text))


def _plain(token: str) -> str:
    """A token as it is compared: typed in full width, in capitals or in groups it is the same."""
    return re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", token)).lower()


def _wrong(is_of_device: bool) -> str:
    if is_of_device:
        return _("This token is wrong, or was used before. Enter the next one that your device shows.")
    return _("This is neither six digits nor a recovery code that opens. Each of these opens once.")


def _too_soon(reason: dict) -> str:
    seconds = max(1, ceil((reason["locked_until"] - timezone.now()).total_seconds()))
    return ngettext(
        "After wrong tokens the next one has to wait. Try again in %(seconds)d second.",
        "After wrong tokens the next one has to wait. Try again in %(seconds)d seconds.",
        seconds,
    ) % {"seconds": seconds}
