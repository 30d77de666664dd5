"""Every setting of the site, read once from the environment (prefix `OLLAMASITE_`).

The only module that uses `ollamasite.env`. Names, meanings and defaults stand in README.md;
a test compares the two.
"""

import sys
from datetime import timedelta
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from ollamasite import data_dir
from ollamasite.env import env

BASE_DIR = Path(__file__).resolve().parent.parent

# ------------------------------------------------------------------ where things are
DATA_DIR = env.path("OLLAMASITE_DATA_DIR", data_dir.default_data_dir())
RUN_DIR = data_dir.run_dir(DATA_DIR)
BLOBS_DIR = DATA_DIR / "blobs"
# Journals of requests that are not in the ledger yet.
LEDGER_DIR = DATA_DIR / "ledger"
# Present while `serve` does its first-start work; /readyz stays 503 until it is gone.
STARTING_MARK = RUN_DIR / "starting"


def _secret(name: str, setting: str) -> str:
    value = env.text(setting) or data_dir.read_secret(DATA_DIR, name)
    if value:
        return value
    raise ImproperlyConfigured(
        f"No {setting}: run `ollamasite serve` once, which makes one in {DATA_DIR}, "
        "or set it yourself (the same value for every process)."
    )


SECRET_KEY = _secret("secret_key", "OLLAMASITE_SECRET_KEY")
KEY_PEPPER = _secret("key_pepper", "OLLAMASITE_KEY_PEPPER")

# ------------------------------------------------------------------ the wire
DEBUG = env.flag("OLLAMASITE_DEBUG", default=False)
BIND_HOST = env.text("OLLAMASITE_HOST", "127.0.0.1")
BIND_PORT = env.integer("OLLAMASITE_PORT", 11434)
# Who may read /metrics without an account.
METRICS_TOKEN = env.secret("OLLAMASITE_METRICS_TOKEN")
METRICS_NETWORKS = env.networks("OLLAMASITE_METRICS_NETWORKS")
# Where traces go (OTLP over HTTP); none are made without.
OTLP_ENDPOINT = env.text("OLLAMASITE_OTLP_ENDPOINT")
# Names that clients may use for this site besides localhost, this machine's name and IP addresses.
SITE_HOSTS = env.names_list("OLLAMASITE_ALLOWED_HOSTS")
# Web pages of these origins may call the API from a browser; Ollama's own list, after one's own.
ORIGINS = [
    *env.origins("OLLAMASITE_ORIGINS"),
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - a name, nothing is bound
        for port in ("", ":*")
        for scheme in ("http", "https")
    ),
    *("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"),
]
# Proxies whose word is taken for who the client is (X-Forwarded-For).
TRUSTED_PROXIES = env.networks("OLLAMASITE_TRUSTED_PROXIES")
_is_https = env.flag("OLLAMASITE_HTTPS", default=False)
if _is_https and not TRUSTED_PROXIES:
    # Somebody speaks TLS for this site: unless it is said who, it is a program on this machine.
    TRUSTED_PROXIES = ["127.0.0.0/8", "::1/128"]
MAX_BODY_BYTES = env.integer("OLLAMASITE_MAX_BODY_BYTES", 100 * 1024 * 1024, minimum=1024)
MAX_BLOB_BYTES = env.size("OLLAMASITE_MAX_BLOB", 1024**4)
# Answers of /v1/responses that clients may come back to: how long, and how much of each user's.
RESPONSES_KEPT_S = env.seconds("OLLAMASITE_RESPONSES_KEPT", 30 * 86400.0)
RESPONSES_BYTES = env.size("OLLAMASITE_RESPONSES_SIZE", 256 * 1024**2)
# Of one user: what is said in the chats of the site's own page, with the images.
CHATS_BYTES = env.size("OLLAMASITE_CHATS_SIZE", 256 * 1024**2)
DRAIN_S = env.seconds("OLLAMASITE_DRAIN_TIMEOUT", 30.0)
# Before that: still accepting, while /readyz says 503 and a balancer may find it out.
DRAIN_DELAY_S = min(600.0, env.seconds("OLLAMASITE_DRAIN_DELAY", 0.0))
# A client that takes nothing of what it is sent for so long is cut off.
READER_TIMEOUT_S = max(1.0, env.seconds("OLLAMASITE_READER_TIMEOUT", 60.0))
# Rows of the ledger; its hourly sums stay.
LEDGER_KEPT_S = env.seconds("OLLAMASITE_LEDGER_KEPT", 400 * 86400.0)
# For each user; 0: no limit.
REQUESTS_PER_MINUTE = env.integer("OLLAMASITE_REQUESTS_PER_MINUTE", 0)
TOKENS_PER_MINUTE = env.integer("OLLAMASITE_TOKENS_PER_MINUTE", 0)
TOKENS_PER_DAY = env.integer("OLLAMASITE_TOKENS_PER_DAY", 0)
TOKENS_PER_MONTH = env.integer("OLLAMASITE_TOKENS_PER_MONTH", 0)
PARALLEL_REQUESTS = env.integer("OLLAMASITE_PARALLEL_REQUESTS", 0)
# From each address; 0: as many as somebody likes.
SIGN_INS_PER_MINUTE = env.integer("OLLAMASITE_SIGN_INS_PER_MINUTE", 30)
WRONG_KEYS_PER_MINUTE = env.integer("OLLAMASITE_WRONG_KEYS_PER_MINUTE", 60)
SIGN_UPS_PER_HOUR = env.integer("OLLAMASITE_SIGN_UPS_PER_HOUR", 20)
# Who may ask for an account: nobody, anybody whom an administrator then lets in, or anybody.
SIGN_UP = env.choice("OLLAMASITE_SIGN_UP", "off", ("off", "approval", "open"))
# Patterns of the shared models that those may use who are in no team with a list; none: all.
ALLOWED_MODELS = env.names_list("OLLAMASITE_ALLOWED_MODELS")
INVITES_KEPT_S = env.seconds("OLLAMASITE_INVITES_KEPT", 7 * 86400.0)
# `ollamasite.guard` refuses foreign Host headers before Django is reached, with rules (IP
# addresses, *.local) that ALLOWED_HOSTS cannot express.
ALLOWED_HOSTS = ["*"]

# ------------------------------------------------------------------ other machines
# Where images are fetched from that a request names by URL; none: such URLs are refused.
IMAGE_HOSTS = env.hosts("OLLAMASITE_IMAGE_HOSTS")
# Hosts that may have a private address, where another list names them too.
PRIVATE_HOSTS = env.hosts("OLLAMASITE_PRIVATE_HOSTS")
# Registries that models are pulled from and pushed to, wherever they are.
ALLOWED_REGISTRIES = env.hosts(
    "OLLAMASITE_ALLOWED_REGISTRIES", "registry.ollama.ai,hf.co,huggingface.co"
)
# Where a name without a host is pulled from.
DEFAULT_REGISTRY = env.text("OLLAMASITE_DEFAULT_REGISTRY", "registry.ollama.ai")
# `host[:port]=user:password`, comma-separated.
REGISTRY_CREDENTIALS = env.secrets_by_host("OLLAMASITE_REGISTRY_CREDENTIALS")

# ------------------------------------------------------------------ registry and jobs
NAMESPACE_QUOTA_BYTES = env.size("OLLAMASITE_NAMESPACE_QUOTA", None)
UNTAGGED_KEPT_S = env.seconds("OLLAMASITE_UNTAGGED_KEPT", 7 * 86400.0)
UPLOADS_KEPT_S = env.seconds("OLLAMASITE_UPLOADS_KEPT", 86400.0)
GC_EVERY_S = env.seconds("OLLAMASITE_GC_EVERY", 86400.0)
WORKER_JOBS = env.integer("OLLAMASITE_WORKER_JOBS", 4, minimum=1)
JOBS_KEPT_S = env.seconds("OLLAMASITE_JOBS_KEPT", 30 * 86400.0)

# ------------------------------------------------------------------ engine
ENGINE_SOCKET = RUN_DIR / "engine.sock"
KEEP_ALIVE_S = env.seconds("OLLAMASITE_KEEP_ALIVE", 300.0)
CONTEXT_LENGTH = env.integer("OLLAMASITE_CONTEXT_LENGTH", 4096, minimum=256)
NUM_PARALLEL = env.integer("OLLAMASITE_NUM_PARALLEL", 4, minimum=1)
MAX_LOADED_MODELS = env.integer("OLLAMASITE_MAX_LOADED_MODELS", 3, minimum=1)
MAX_QUEUE = env.integer("OLLAMASITE_MAX_QUEUE", 512, minimum=1)
LOAD_TIMEOUT_S = env.seconds("OLLAMASITE_LOAD_TIMEOUT", 300.0)
NUM_THREAD = env.integer("OLLAMASITE_NUM_THREAD", 0)
RUNNER_SPIN = env.integer("OLLAMASITE_RUNNER_SPIN", 300_000)
MEMORY_LIMIT_BYTES = env.size("OLLAMASITE_MEMORY_LIMIT", None)
PREFIX_STORE_BYTES = env.size("OLLAMASITE_PREFIX_STORE", 1024**3)
WATCHDOG_S = env.seconds("OLLAMASITE_WATCHDOG", 120.0)
ENGINE_STATE_DIR = DATA_DIR / "engine"

# ------------------------------------------------------------------ Django
# `web`, `worker`, `inference`: the command that this process is.
_process = next((word for word in sys.argv[1:] if not word.startswith("-")), "ollamasite")
INSTALLED_APPS = [
    # Takes over `runserver` for development, before staticfiles; a fifth of others' start.
    *(["daphne"] if _process == "runserver" else []),
    "unfold.apps.BasicAppConfig",  # before the admin, whose templates it replaces
    # Looks for no admin modules: `ollamasite.urls` brings ours, and other processes none.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "django_htmx",
    "rest_framework",
    "channels",
    "ollamasite",
    "models_app",
    "registry",
    "inference",
]
MIDDLEWARE = [
    "ollamasite.security_headers.content_security_policy",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "ollamasite.error_responses.ErrorMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "models_app.gate.GateMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]
# For requests with an API key, see `ollamasite.key_handler`.
KEY_MIDDLEWARE = [
    "ollamasite.error_responses.ErrorMiddleware",
    "models_app.gate.GateMiddleware",
]
ROOT_URLCONF = "ollamasite.urls"
ASGI_APPLICATION = "ollamasite.asgi.application"
APPEND_SLASH = False
AUTH_USER_MODEL = "models_app.User"
LOGIN_URL = "signin"
LOGIN_REDIRECT_URL = "home"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
# The first one is for new passwords: it takes memory too, which guessing machines lack.
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
USE_I18N = False
FORMAT_MODULE_PATH = "ollamasite.locales"
USE_TZ = True
TIME_ZONE = env.time_zone("OLLAMASITE_TIME_ZONE", "UTC")
# Bodies are limited by `ollamasite.guard` for every route at once.
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES

# ------------------------------------------------------------------ database
_database = env.database("OLLAMASITE_DATABASE_URL", f"sqlite:///{DATA_DIR / 'db.sqlite3'}")
if _database["ENGINE"] == "django.db.backends.sqlite3":
    # Three processes write: WAL lets readers go on, IMMEDIATE takes the write lock at BEGIN
    # instead of failing half-way, and the timeout waits for it.
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    # One behind a firewall that drops what it does not let in would be waited for without an end.
    _database.setdefault("OPTIONS", {}).setdefault("connect_timeout", 10)
# Requests borrow threads (`ollamasite.request_threads`), which keep their connections so long.
WEB_THREADS = env.integer("OLLAMASITE_WEB_THREADS", 20, minimum=2)
_database["CONN_MAX_AGE"] = 60
_database["CONN_HEALTH_CHECKS"] = True
DATABASES = {"default": _database}

# ------------------------------------------------------------------ Redis: broker and notices
REDIS_SOCKET = RUN_DIR / "redis.sock"
REDIS_URL = env.text("OLLAMASITE_REDIS_URL") or f"unix://{REDIS_SOCKET}"
_celery_redis = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_BROKER_URL = _celery_redis
CELERY_RESULT_BACKEND = _celery_redis
CELERY_RESULT_EXPIRES = 3600
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_TRACK_STARTED = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "ollamasite"},
    }
}

# ------------------------------------------------------------------ wrong passwords (django-axes)
# By name and address together: a stranger keeps nobody out, and no name tells whether it exists.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = env.integer("OLLAMASITE_WRONG_PASSWORDS", 10, minimum=1)
AXES_COOLOFF_TIME = timedelta(
    seconds=max(1.0, min(86400.0, env.seconds("OLLAMASITE_WRONG_PASSWORDS_WAIT", 600.0)))
)
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "models_app.sign_ins.counted_address"
AXES_USERNAME_CALLABLE = "models_app.sign_ins.counted_name"
AXES_LOCKOUT_CALLABLE = "models_app.sign_ins.locked_out"
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "csrfmiddlewaretoken", "next"]
# The audit has it all.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False

# ------------------------------------------------------------------ sessions and static files
SESSION_COOKIE_NAME = "ollamasite_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
# Since it was last used (`models_app.sign_ins.renew`).
SESSION_COOKIE_AGE = int(
    max(60.0, min(366 * 86400.0, env.seconds("OLLAMASITE_SESSION", 14 * 86400.0)))
)
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "models_app.views.csrf_failed"
SESSION_COOKIE_SECURE = _is_https
CSRF_COOKIE_SECURE = _is_https
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in SITE_HOSTS] if _is_https else []
# Of anybody but a trusted proxy, `ollamasite.forwarded_proto` takes this header away.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _is_https else None
SECURE_SSL_REDIRECT = _is_https
# What programs on this machine ask, which have no certificate for localhost.
SECURE_REDIRECT_EXEMPT = ["^$", "^healthz$", "^readyz$"]
_hsts_s = env.seconds("OLLAMASITE_HSTS", 365 * 86400.0)
SECURE_HSTS_SECONDS = int(min(_hsts_s, 2 * 365 * 86400.0)) if _is_https else 0
# Other names below this site's are not for this site to decide about.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
STATIC_URL = "/static/"
# `ollamasite.asgi` serves these folders itself: no collectstatic step.
STATICFILES_DIRS = [BASE_DIR / "static"]

# ------------------------------------------------------------------ the pages under /admin/
_logo = f"{STATIC_URL}ollamasite/logo.svg"
UNFOLD = {
    "SITE_TITLE": "ollamasite",
    "SITE_HEADER": "ollamasite",
    "SITE_SUBHEADER": "Administration",
    "SITE_ICON": _logo,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _logo}],
    "SITE_URL": "/home",
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_HISTORY": False,  # the audit has it
    "STYLES": [f"{STATIC_URL}ollamasite/admin.css"],
    # The green of the other pages (static/ollamasite/site.css).
    "COLORS": {
        "primary": {
            "50": "#f0fdfa",
            "100": "#ccfbf1",
            "200": "#99f6e4",
            "300": "#5eead4",
            "400": "#2dd4bf",
            "500": "#14b8a6",
            "600": "#0f766e",
            "700": "#0f766e",
            "800": "#115e59",
            "900": "#134e4a",
            "950": "#042f2e",
        },
    },
}

# ------------------------------------------------------------------ REST framework
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["models_app.auth.PrincipalAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    # Views read bodies (ollamasite.api_views) and write answers (ollamasite.http) themselves.
    "DEFAULT_PARSER_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "ollamasite.http.IgnoreAccept",
    "EXCEPTION_HANDLER": "ollamasite.error_responses.handle_api_exception",
    "UNAUTHENTICATED_USER": None,
}

# ------------------------------------------------------------------ logging (serve adds who)
LOG_FORMAT = env.choice("OLLAMASITE_LOG_FORMAT", "text", ("text", "json"))
_log_level = env.choice("OLLAMASITE_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
# A line for each request.
_access_level = _log_level if env.flag("OLLAMASITE_ACCESS_LOG", default=True) else "WARNING"
_formatters: dict[str, dict[str, str]] = {
    "text": {"()": "inference.log_lines.TextFormatter"},
    "json": {"()": "ollamasite.log_format.json_formatter", "process": _process},
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {LOG_FORMAT: _formatters[LOG_FORMAT]},
    "filters": {"quiet_while_away": {"()": "ollamasite.outages.QuietWhileAway"}},
    "handlers": {
        "stdout": {"class": "logging.StreamHandler", "stream": sys.stdout, "formatter": LOG_FORMAT},
    },
    "root": {"handlers": ["stdout"], "level": _log_level},
    "loggers": {
        # Each refused request would be a line with its path: error_responses logs what is worth it.
        "django.request": {"level": "CRITICAL"},
        "ollamasite.access": {"level": _access_level},
        "django.channels.server": {"level": "WARNING"},
        # Once a second, with a traceback, while Redis is away.
        "channels_redis.pubsub": {"filters": ["quiet_while_away"]},
        # Who signed in, and who failed to, is in the audit.
        "axes": {"level": "ERROR"},
    },
}
