"""Django's settings, all from the environment or from `.env` beside manage.py (the environment wins).

Every variable is described in .env.example. With DEBUG off nothing that matters has a default: what is missing is
named in one sentence and start-up is refused.
"""

import io
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import environ
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy

from keyhub import pooling
from keyhub.database_url import replica_from_url
from keyhub.durations import parse_duration
from keyhub.response_headers import CONTENT_SECURITY_POLICY  # noqa: F401

BASE_DIR = Path(__file__).resolve().parent.parent


def _read_env_file(path: Path) -> None:
    """Put the variables of `.env` beside those of the environment. A line is never repeated: it may hold a secret."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ImproperlyConfigured(f"{path} cannot be read ({error.strerror}). Mend or remove it.") from None
    except UnicodeDecodeError:
        raise ImproperlyConfigured(f"{path} is not in UTF-8. Save it in UTF-8.") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line and not re.match(r"#|(export )?\w+=", line):
            raise ImproperlyConfigured(f"{path}, line {number}, is neither NAME=value nor a # comment. Correct it.")
    environ.Env.read_env(io.StringIO(text))


_read_env_file(BASE_DIR / ".env")


# Straight from os.environ: django-environ would take a SECRET_KEY that begins with $ for another variable's name.
def _text(name: str, default: str = "") -> str:
    return os.environ.get(name, "") or default


def _required(name: str, development_default: str, advice: str) -> str:
    value = _text(name, development_default if DEBUG else "")
    if not value:
        raise ImproperlyConfigured(f"{name} is not set and DEBUG is off. {advice}")
    return value


def _boolean(name: str, default: bool) -> bool:
    text = _text(name, "on" if default else "off").lower()
    if text in {"true", "on", "y", "yes", "1"}:
        return True
    if text in {"false", "off", "n", "no", "0"}:
        return False
    raise ImproperlyConfigured(f"{name} is {text!r}, which is neither on nor off. Set it to on or off.")


def _duration(name: str, default: str) -> timedelta:
    try:
        return parse_duration(_text(name, default))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}.") from None


DEBUG = _boolean("DEBUG", default=False)
SECRET_KEY = _required(
    "SECRET_KEY",
    development_default="django-insecure-for-development-only",
    advice="Set it to at least 50 random characters, in the environment or in .env.",
)
DATABASE_URL = _required(
    "DATABASE_URL",
    development_default=f"embedded://{quote(bytes(BASE_DIR / '.postgres'))}",
    advice="Set it to postgres://user:password@host:5432/database; KeyHub starts no database by itself in production.",
)
DIRECT_DATABASE_URL = _text("DIRECT_DATABASE_URL")
ALLOWED_HOSTS = _required(
    "ALLOWED_HOSTS",
    development_default="localhost,127.0.0.1,[::1]",
    advice="Set it to the host names of the admin, separated by commas.",
)
ALLOWED_HOSTS = [host.strip() for host in ALLOWED_HOSTS.split(",") if host.strip()]
DEMO_DATA = _boolean("DEMO_DATA", default=DEBUG)
BEHIND_TLS_PROXY = _boolean("BEHIND_TLS_PROXY", default=False)
METRICS_TOKEN = _text("METRICS_TOKEN")
if METRICS_TOKEN and len(METRICS_TOKEN) < 32:
    raise ImproperlyConfigured("METRICS_TOKEN has less than 32 characters. Set it to as many random ones, or to none.")

# Of backups: docs/operations/dbbackup.md
BACKUP_URL = _text("BACKUP_URL")
BACKUP_RECIPIENTS = [name.strip() for name in _text("BACKUP_RECIPIENTS").split(",") if name.strip()]
BACKUP_IDENTITY_FILE = Path(_text("BACKUP_IDENTITY_FILE")) if _text("BACKUP_IDENTITY_FILE") else None
BACKUP_MAX_AGE = _text("BACKUP_MAX_AGE", default="25h")  # a daily one, and its run
BACKUP_PROVING_URL = _text("BACKUP_PROVING_URL")
POSTGRES_BIN = _text("POSTGRES_BIN")

# Of retired months of the audit log: docs/operations/auditpartitions.md
AUDIT_ARCHIVE_URL = _text("AUDIT_ARCHIVE_URL")

# Of users' sessions. NIST SP 800-63B 4.2.3: sign in again after 12 hours, and after 30 minutes without activity.
IDENTITY_SESSION_LIFETIME = _duration("IDENTITY_SESSION_LIFETIME", default="12h")
IDENTITY_SESSION_IDLE_TIMEOUT = _duration("IDENTITY_SESSION_IDLE_TIMEOUT", default="30m")

# The Admin database, where it is one of its own: docs/operations/splitadmin.md
ADMIN_DATABASE_URL = _text("ADMIN_DATABASE_URL")
ADMIN_DIRECT_DATABASE_URL = _text("ADMIN_DIRECT_DATABASE_URL")

# Standbys that lists and exports are read from: docs/replicas.md
REPLICAS = {
    f"replica{number}": replica_from_url(url)
    for number, url in enumerate(_text("REPLICA_DATABASE_URL").split(), start=1)
}
WRITTEN_COOKIE_NAME = "written"

DATABASES = {
    "default": pooling.entry("DATABASE_URL", DATABASE_URL, DIRECT_DATABASE_URL, arguments=sys.argv),
    **REPLICAS,
}
if ADMIN_DATABASE_URL:
    DATABASES["admin"] = pooling.entry(
        "ADMIN_DATABASE_URL", ADMIN_DATABASE_URL, ADMIN_DIRECT_DATABASE_URL, arguments=sys.argv
    )
DATABASE_ROUTERS = ["keyhub.replicas.ReplicaRouter", "keyhub.routers.DatabaseRouter"]
VERSION_LIST = BASE_DIR / "keyhub" / "versions.txt"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    # Before KeyHub's, whose admin takes their pages away.
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "keyhub.apps.KeyHubConfig",
    "accounts.apps.AccountsConfig",
    "tenancy.apps.TenancyConfig",
    "auth_sessions.apps.AuthSessionsConfig",
    "audit.apps.AuditConfig",
    "orgs.apps.OrgsConfig",
    "unfold",  # before the admin, whose templates it replaces; keyhub comes before both
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "csp",
]
AUTH_USER_MODEL = "accounts.Operator"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "accounts.roles.RoleBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]

# Of operators: docs/operators.md
SECOND_FACTOR = _boolean("SECOND_FACTOR", default=not DEBUG)
OTP_TOTP_ISSUER = "KeyHub"

# Five wrong passwords for an e-mail from an address lock the two for a quarter of an hour.
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_FORM_FIELD = "username"  # of the form, and of what it gives to authenticate()
AXES_USERNAME_CALLABLE = "accounts.lockouts.counted_name"
AXES_CLIENT_IP_CALLABLE = "keyhub.client_input.client_address"
AXES_LOCKOUT_CALLABLE = "accounts.lockouts.locked_out"
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # else whoever goes on trying locks the operator out for ever
AXES_DISABLE_ACCESS_LOG = True  # the audit log has it
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "csrfmiddlewaretoken"]

MIDDLEWARE = [
    "keyhub.probes.middleware.Probes",  # first: nothing else may stand between a load balancer and its answer
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "keyhub.response_headers.PermissionsPolicyMiddleware",
    "keyhub.replicas.WrittenMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "accounts.gate.GateMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "keyhub.urls"
WSGI_APPLICATION = "keyhub.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGES = [("en", "English"), ("ja", "日本語")]
LOCALE_PATHS = [BASE_DIR / "keyhub" / "locale"]
LANGUAGE_CODE = _text("LANGUAGE_CODE", default="en")
LANGUAGE_COOKIE_AGE = 365 * 24 * 60 * 60
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
if LANGUAGE_CODE not in dict(LANGUAGES):
    raise ImproperlyConfigured(f"LANGUAGE_CODE is {LANGUAGE_CODE!r}, which KeyHub does not speak. Set it to en or ja.")

# Of the site's theme, django-unfold; callables and addresses are looked up when a page is made.
UNFOLD = {
    "SITE_TITLE": "KeyHub",
    "SITE_HEADER": "KeyHub",
    "SITE_SYMBOL": "key",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("keyhub/icon.svg")}],
    "SITE_URL": None,
    "SHOW_LANGUAGES": True,
    "SHOW_BACK_BUTTON": True,
    "STYLES": [lambda request: static("keyhub/site.css")],
    "SCRIPTS": [lambda request: static("keyhub/copy.js"), lambda request: static("keyhub/keyboard.js")],
    "DASHBOARD_CALLBACK": "keyhub.admin.start_page.context",
    "SIDEBAR": {"navigation": "keyhub.admin.navigation.menu"},
    "ACCOUNT": {
        "navigation": [
            {"title": gettext_lazy("Second factor"), "link": reverse_lazy("second_factor:status")},
            {"title": gettext_lazy("Change password"), "link": reverse_lazy("admin:password_change")},
        ]
    },
}

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_ALLOW_ALL_ORIGINS = False  # the site serves its files to its own pages alone

# Of operators' sessions, as of users': half an hour idle, twelve hours in all (accounts/gate.py). OWASP ASVS 5.0, 7.3.
SESSION_COOKIE_AGE = 30 * 60
OPERATOR_SESSION_LIFETIME = timedelta(hours=12)

if not DEBUG:
    # Development and tests need no collectstatic.
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }
    MIDDLEWARE.insert(
        MIDDLEWARE.index("django.middleware.security.SecurityMiddleware") + 1,
        "whitenoise.middleware.WhiteNoiseMiddleware",
    )
    # Each thread of a worker keeps its connection: docs/decisions/2026-11-26-serving-by-gunicorn-and-whitenoise.md
    for database in DATABASES.values():
        database |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
    # Django's own configuration would mail errors to nobody.
    LOGGING = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "keyhub.log_lines.OneLine"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        # What scanners ask for all day, pages that are not there and hosts that are not ours, is in the access log.
        "loggers": {
            "django.request": {"level": "ERROR"},
            "django.security.DisallowedHost": {"level": "CRITICAL"},
        },
    }
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    LANGUAGE_COOKIE_SECURE = True
    # Browsers take such a name from this very host over HTTPS alone (RFC 6265bis, 4.1.3.2): no subdomain can plant one.
    SESSION_COOKIE_NAME = "__Host-session"
    CSRF_COOKIE_NAME = "__Host-csrf"
    WRITTEN_COOKIE_NAME = "__Host-written"
    if BEHIND_TLS_PROXY:
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
