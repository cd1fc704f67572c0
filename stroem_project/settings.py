"""Django's settings, derived from `stroem_project.config`."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from engine.plain import FORMATTERS
from engine.settings.readers import SECRET_LENGTH, is_repetitive
from stroem_project import config as stroem_config
from stroem_project.keys import read_keys
from stroem_project.theme import UNFOLD as UNFOLD

BASE_DIR = Path(__file__).resolve().parent.parent


def _refuse(sentence: str) -> NoReturn:
    print(f"configuration: {sentence}", file=sys.stderr)
    sys.exit(2)


try:
    STROEM = stroem_config.load()
except stroem_config.ConfigError as error:
    _refuse(str(error))

try:
    STROEM_KEYS = read_keys(os.environ, STROEM.key_file)
except OSError as error:
    _refuse(
        f"the key file {STROEM.key_file} cannot be read or created ({error.strerror}): set data_dir"
    )
if any(len(key) >= SECRET_LENGTH and is_repetitive(key) for key in STROEM_KEYS):
    _refuse(
        "STROEM_KEYS holds a key that repeats the same few characters, which can be guessed; make"
        " one with `openssl rand -base64 32`"
    )
SECRET_KEY = hashlib.sha256(b"django" + STROEM_KEYS[0].encode()).hexdigest()
SECRET_KEY_FALLBACKS = [
    hashlib.sha256(b"django" + key.encode()).hexdigest() for key in STROEM_KEYS[1:]
]
DEBUG = False
BASE_URL = (
    STROEM.auth.base_url or STROEM.served_at or f"http://{STROEM.listen_host}:{STROEM.listen_port}"
).rstrip("/")
ALLOWED_HOSTS = [
    *STROEM.allowed_hosts,
    "127.0.0.1",
    "localhost",
    "[::1]",
    urlsplit(BASE_URL).hostname or "localhost",
]
CSRF_TRUSTED_ORIGINS = [BASE_URL]
IS_HTTPS = BASE_URL.startswith("https://")

INSTALLED_APPS = [
    "apps.adminkit",  # before the theme: its templates and files override the theme's
    "apps.audit",  # before Django's accounts: its command overrides theirs
    "unfold",
    "apps.adminkit.apps.PagesConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",  # Swagger UI's files
    "apps.accounts",
    "apps.workspaces",
    "apps.fleet",
    "apps.jobs",
    "apps.artifacts",
    "apps.approvals",
    "apps.hooks",
    "apps.signin",
    "apps.subscriptions",
    "apps.workflow_actions",
    "apps.agents",
    "apps.connections",
    "apps.triggers",
    "apps.conductor",
    "apps.api",
    "console",
    "standalone",
    "stroem_project",
]
# The library of OAuth, after our apps, whose templates override its own. Short commands start
# without it (see `console.program`).
HAS_ALLAUTH = "STROEM_WITHOUT_ALLAUTH" not in os.environ
if HAS_ALLAUTH:
    INSTALLED_APPS[-3:-3] = [
        "allauth",
        "allauth.account",
        "allauth.idp.oidc",
        "allauth.mfa",
        "allauth.socialaccount",
        "allauth.socialaccount.providers.openid_connect",
    ]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "apps.adminkit.policy.PagePolicy",
    "apps.adminkit.policy.PlainAddresses",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apps.adminkit.policy.CurrentRequest",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    *(
        ["allauth.account.middleware.AccountMiddleware", "apps.signin.middleware.SignOnsHold"]
        if HAS_ALLAUTH
        else []
    ),
]
ROOT_URLCONF = "stroem_project.urls"
ASGI_APPLICATION = "stroem_project.asgi.application"
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


# Statements on the hot path are prepared and look up single rows: a generic plan suits them, and
# replanning would cost as much as running them.
SESSION = (
    "idle_in_transaction_session_timeout=10s",
    "lock_timeout=10s",
    "plan_cache_mode=force_generic_plan",
    "jit=off",
    "datestyle=ISO",
)
# What libpq is told of the databases of whoever starts us, and of how these show their values.
_OF_OTHER_DATABASES = """
    PGSERVICE PGSERVICEFILE PGHOSTADDR PGTARGETSESSIONATTRS PGSSLMODE PGGSSENCMODE PGCHANNELBINDING
    PGREQUIREAUTH PGREQUIREPEER PGOPTIONS PGCLIENTENCODING
""".split()
for _name in ("PGDATESTYLE", "PGTZ"):  # they would go before `SESSION`
    os.environ.pop(_name, None)


def forget_other_databases() -> None:
    """Where the database is one of ours, which its whole address names."""
    for name in _OF_OTHER_DATABASES:
        os.environ.pop(name, None)


if STROEM.is_one_machine:
    forget_other_databases()


_POOL = os.environ.get("STROEM_DB_POOL", "16")
if not (_POOL.isascii() and _POOL.isdigit() and int(_POOL)):
    _refuse(f"STROEM_DB_POOL must be a number of connections, not '{_POOL}'")
_POOL_OPTIONS = {"min_size": 0, "max_size": int(_POOL), "timeout": 10}


def _parts_of(url: str) -> dict[str, Any]:
    from psycopg.conninfo import conninfo_to_dict  # a third of a start that needs no database

    return conninfo_to_dict(url)


def database_settings(url: str | None) -> dict[str, Any]:
    parts = _parts_of(url) if url else {}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", "stroem"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            **parts,
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 10000,
            "prepare_threshold": 1,
            "application_name": "stroem",
            "options": " ".join(f"-c {setting}" for setting in SESSION),
            # Set by `console.program` for short commands: without a pool, what cannot be reached is
            # told at once, and why.
            "pool": "STROEM_WITHOUT_POOL" not in os.environ and _POOL_OPTIONS,
        },
    }


MAIL_IS_CONFIGURED = STROEM.mail is not None
EMAIL_TIMEOUT = 5
if (_mail := STROEM.mail) is not None:
    EMAIL_HOST, EMAIL_PORT, DEFAULT_FROM_EMAIL = _mail.host, _mail.port, _mail.sender
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail.user, _mail.password
    EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.security == "starttls", _mail.security == "tls"


def _storage() -> dict[str, Any]:
    bucket = STROEM.storage.s3
    if bucket is None:
        where = STROEM.storage.path or STROEM.data_dir / "storage"
        return {"BACKEND": "apps.artifacts.stores.Directory", "OPTIONS": {"location": where}}
    options = {
        "bucket_name": bucket.bucket,
        "location": bucket.prefix.strip("/"),
        "endpoint_url": bucket.endpoint_url,
        "region_name": bucket.region,
        "access_key": bucket.access_key,
        "secret_key": bucket.secret_key,
        "addressing": bucket.addressing,
    }
    given = {key: value for key, value in options.items() if value is not None}
    return {"BACKEND": "apps.artifacts.buckets.Bucket", "OPTIONS": given}


STORAGES = {
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "blobs": _storage(),
}
DATABASES = {"default": database_settings(STROEM.db.url)}
BROKER_URL = STROEM.broker.url
CELERY_APP = "stroem_project.celery.app"  # imported by the first process that needs it
# For `standalone`, which starts servers itself: how to use them and nobody else's, which settings
# were given, where to write its servers' addresses, and how to allow libraries.
DATABASE_AT = database_settings
FORGET_OTHER_DATABASES = forget_other_databases
ANY_LIBRARY = stroem_config.any_library
STROEM_GIVEN = stroem_config.given
PAIR_FILE = stroem_config.pair_file(STROEM.data_dir)
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-gb"
USE_I18N = False

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["apps.accounts.backends.EmailBackend"]
PASSWORD_HASHERS = [
    "apps.accounts.hashing.PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "apps.accounts.passwords.NotedPassword", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
PASSWORD_RESET_TIMEOUT = 3600
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576
APPEND_SLASH = False

STATIC_URL = "/static/"
STATIC_ROOT = STROEM.data_dir / "static"
WHITENOISE_USE_FINDERS = True

# Of allauth: accounts are ours, as are its addresses and the limits of their use.
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
IDP_OIDC_ACCESS_TOKEN_EXPIRES_IN = 3600
IDP_OIDC_ADAPTER = "apps.api.oauth.adapter.Adapter"
IDP_OIDC_AUTHORIZATION_CODE_EXPIRES_IN = 300
IDP_OIDC_AUTH_METHODS = ["none"]
IDP_OIDC_DCR_ENABLED = True
IDP_OIDC_DCR_REQUIRES_INITIAL_ACCESS_TOKEN = False
IDP_OIDC_RATE_LIMITS = False
IDP_OIDC_REFRESH_TOKEN_EXPIRES_IN = 30 * 24 * 3600
MFA_ADAPTER = "apps.signin.adapters.FactorAdapter"
MFA_SUPPORTED_TYPES = ["recovery_codes", "totp", "webauthn"]
MFA_TOTP_TOLERANCE = 1  # half a minute
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not IS_HTTPS  # browsers refuse it, but for this machine

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.api.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.api.parsers.BoundedJSONParser"],
    "EXCEPTION_HANDLER": "apps.api.errors.handle",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Stroem",
    "VERSION": "1",
    "DESCRIPTION": "Each address is also served under `/api/v1/`.",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api",
    "SERVE_PUBLIC": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": False, "docExpansion": "none"},
    "PREPROCESSING_HOOKS": ["apps.api.documented.without_versions"],
    "POSTPROCESSING_HOOKS": ["apps.api.documented.complete"],
}

_LOG_FORMAT = os.environ.get("LOG_FORMAT", "text")
if _LOG_FORMAT not in FORMATTERS:
    _refuse(f"LOG_FORMAT must be {' or '.join(FORMATTERS)}, not '{_LOG_FORMAT}'")
_LOG_LEVEL = os.environ.get("STROEM_LOG_LEVEL", "INFO")
if _LOG_LEVEL.upper() not in logging.getLevelNamesMapping():
    _refuse(f"STROEM_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not '{_LOG_LEVEL}'")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": FORMATTERS[_LOG_FORMAT]}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": _LOG_LEVEL.upper()},
    "loggers": {"django.request": {"level": "ERROR"}, "httpx": {"level": "WARNING"}},
}
