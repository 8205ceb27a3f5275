"""What browsers are told to refuse, on every page, found or not."""

import re

import pytest
from django.test import Client

from keyhub.response_headers import CONTENT_SECURITY_POLICY
from tests.factories import OperatorFactory
from tests.test_settings import settings as settings_of

pytestmark = [pytest.mark.django_db, pytest.mark.once]

POLICY = {
    "default-src 'self'",
    "script-src 'self' 'unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'self'",
    "frame-ancestors 'none'",
}
HEADERS = {
    "Permissions-Policy": "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
    "microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@pytest.mark.parametrize("page", ["/admin/login/", "/admin/", "/admin/accounts/operator/", "/nowhere/"])
def test_every_page_has_the_headers(client: Client, page):
    client.force_login(OperatorFactory(is_superuser=True))
    response = client.get(page)
    assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
    assert set(response["Content-Security-Policy"].split("; ")) == POLICY


def test_production_has_the_same_policy():
    assert settings_of("CONTENT_SECURITY_POLICY") == [CONTENT_SECURITY_POLICY]


PAGES = [
    "/admin/login/",
    "/admin/",
    "/admin/accounts/user/",
    "/admin/accounts/user/add/",
    "/admin/accounts/operator/add/",
    "/admin/tenancy/tenant/add/",
    "/admin/audit/auditlog/",
    "/admin/second-factor/",
    "/admin/second-factor/enrol/",
    "/admin/password_change/",
]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_holds_what_the_policy_refuses(client, page):
    if page != "/admin/login/":
        client.force_login(OperatorFactory(is_superuser=True))
    text = client.get(page).text
    assert re.findall(r"<script(?![^>]* (?:src=|type=\"application/json\"))[^>]*>", text) == []
    assert re.findall(r"\son[a-z]+=\"|javascript:", text) == []
    assert re.findall(r"(?:src|href)=\"(?:https?:)?//[^\"]*", text) == []
    assert re.findall(r"<(?:object|embed|iframe|base)\b", text) == []
