"""Every table of the site.

Private to models_app: other apps read through `selectors` and write through `services`.
Knows nothing of HTTP and of the engine.
"""

from models_app.models.accounts import (
    ApiKey,
    ApiKeyQuerySet,
    BrowserSession,
    ClientKey,
    FormerName,
    Invite,
    Membership,
    SiteLock,
    Team,
    UsedSignature,
    User,
)
from models_app.models.chats import (
    Chat,
    ChatFolder,
    ChatImage,
    ChatMessage,
)
from models_app.models.jobs import (
    ACTIVE_STATES,
    Job,
    JobKind,
    JobState,
    JobWatcher,
)
from models_app.models.library import (
    MANIFEST_TYPE,
    Alias,
    Blob,
    CacheScope,
    LanguageModel,
    Layer,
    Manifest,
    ModelGrant,
    Namespace,
    RepositoryBlob,
    RepositoryManifest,
    Tag,
    Upload,
    UploadSession,
    Visibility,
)
from models_app.models.limits import (
    LimitPeriod,
    LimitRule,
    LimitSubject,
    LimitUnit,
)
from models_app.models.nodes import Node, NodeState
from models_app.models.records import (
    AuditEntry,
    LedgerAxis,
    LedgerDay,
    LedgerEntry,
    LedgerHour,
    LedgerSpan,
    LedgerTotal,
    NameToForget,
    Outcome,
)
from models_app.models.responses import (
    StoredResponse,
)
from models_app.models.upstreams import (
    ServedModel,
    Upstream,
    UpstreamKind,
)

__all__ = [
    "ACTIVE_STATES",
    "MANIFEST_TYPE",
    "Alias",
    "ApiKey",
    "ApiKeyQuerySet",
    "AuditEntry",
    "Blob",
    "BrowserSession",
    "CacheScope",
    "Chat",
    "ChatFolder",
    "ChatImage",
    "ChatMessage",
    "ClientKey",
    "FormerName",
    "Invite",
    "Job",
    "JobKind",
    "JobState",
    "JobWatcher",
    "LanguageModel",
    "Layer",
    "LedgerAxis",
    "LedgerDay",
    "LedgerEntry",
    "LedgerHour",
    "LedgerSpan",
    "LedgerTotal",
    "LimitPeriod",
    "LimitRule",
    "LimitSubject",
    "LimitUnit",
    "Manifest",
    "Membership",
    "ModelGrant",
    "NameToForget",
    "Namespace",
    "Node",
    "NodeState",
    "Outcome",
    "RepositoryBlob",
    "RepositoryManifest",
    "ServedModel",
    "SiteLock",
    "StoredResponse",
    "Tag",
    "Team",
    "Upload",
    "UploadSession",
    "Upstream",
    "UpstreamKind",
    "UsedSignature",
    "User",
    "Visibility",
]
