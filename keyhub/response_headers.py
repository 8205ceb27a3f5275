"""What browsers are told to refuse on the site's pages.

OWASP ASVS 5.0, 3.4: Content-Security-Policy (sent by django-csp), and what the site has no use for
(Permissions-Policy). Strict-Transport-Security, Referrer-Policy and Cross-Origin-Opener-Policy are Django's.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        # Alpine.js, by which django-unfold's pages work, makes functions of attributes. No script stands in a page.
        "script-src": ["'self'", "'unsafe-eval'"],
        # unfold sets colours by a <style>, Alpine.js and htmx by attributes.
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
FEATURES = ("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "microphone", "payment", "usb")


class PermissionsPolicyMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response
        self.policy = ", ".join(f"{feature}=()" for feature in FEATURES)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Permissions-Policy", self.policy)
        return response
