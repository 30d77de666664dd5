"""Refusals about names, access and limits. Knows no dialect; `ollamasite.errors` draws the tree."""

import json
import math
from collections.abc import Mapping

from ollamasite.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    ServiceError,
    Unauthenticated,
)


class InvalidModelName(BadRequest):
    """The text is not a model name (contract 4.7)."""

    code = "invalid_model_name"
    default_message = "invalid model name"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, param="model")


class ConflictingSuffixes(InvalidModelName):
    """The name asks for two sources at once (contract 2.3)."""

    code = "conflicting_suffixes"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"use either :local or :cloud, not both: {json.dumps(name, ensure_ascii=False)}"
        )


class ModelNotFound(NotFound):
    """There is no such model, or the caller may not know of it: the same answer for both."""

    code = "model_not_found"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"model '{name}' not found", param="model")


class AccessEnded(Unauthenticated):
    """The credential was good when the request came, and is not any longer."""

    code = "access_ended"
    default_message = "unauthorized: access has ended"


class LedgerEntryNotFound(NotFound):
    """The ledger has no such request, or not for the caller: the same answer for both."""

    code = "ledger_entry_not_found"
    default_message = "There is no such request, or it is not kept any longer."


class SessionNotFound(NotFound):
    """There is no such session, or it is somebody else's: the same answer for both."""

    code = "session_not_found"
    default_message = "there is no such session"


class KeyNotFound(NotFound):
    """There is no such key, or it is not the caller's to see: the same answer for both."""

    code = "key_not_found"

    def __init__(self, prefix: str) -> None:
        super().__init__(f"key '{prefix}' not found")


class InvalidKey(BadRequest):
    """A key cannot be like this, or not be changed like this."""

    code = "invalid_key"


class KeyHasLimits(Forbidden):
    """A key would give more than it is itself: the owner may, by another credential."""

    default_message = "a key with limits of its own cannot do this: use one without, or sign in"


class KeyTooWide(Forbidden):
    """A key would give more than the credential that asks for it."""

    code = "key_too_wide"

    def __init__(self, what: str) -> None:
        super().__init__(f"a key cannot give more than the credential that makes it: {what}")


class NotYourModel(Forbidden):
    """The caller may see the model, or name its namespace, and not do this with it."""

    code = "not_your_model"


class InvalidAccess(BadRequest):
    """What somebody wants others to be allowed makes no sense for this model."""

    code = "invalid_access"


class GranteeNotFound(NotFound):
    """There is nobody of this name to give a right to: no user, and no team that one knows of."""

    code = "grantee_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no user '{name}', and no team of this name that you are in")


class InvalidToken(Unauthenticated):
    """A registry token or key that was presented to the registry does not hold (any longer)."""

    code = "invalid_token"


class InsufficientScope(Unauthenticated):
    """A registry token is for other repositories or actions; one may fetch another."""

    code = "insufficient_scope"
    default_message = "the token is not for this repository and action"


class UpstreamNotFound(NotFound):
    """There is no engine elsewhere of this name."""

    code = "upstream_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no engine '{name}'")


class InvalidUpstream(BadRequest):
    """What is said of an engine elsewhere makes no sense."""

    code = "invalid_upstream"


class TagIsImmutable(Forbidden):
    """The tag is there, and those who run the site have said that it stays what it is."""

    code = "tag_is_immutable"

    def __init__(self, tag: str) -> None:
        super().__init__(f"the tag '{tag}' cannot be changed: it is immutable")


class LimitReached(ServiceError):
    """A limit of use is reached. `wait_ms`: in how many milliseconds this request would pass."""

    code = "limit_reached"
    status = 429

    def __init__(
        self, limit: str, amount: int, *, wait_ms: int, headers: Mapping[str, str]
    ) -> None:
        self.wait_ms = wait_ms
        waits = {"Retry-After": str(math.ceil(wait_ms / 1000)), "retry-after-ms": str(wait_ms)}
        message = f"rate limit reached: {amount} {limit}; please try again in {wait_ms / 1000:g}s"
        super().__init__(message, headers={**headers, **waits})


class RateLimited(LimitReached):
    """Too much in too short a time: waiting a little helps."""

    code = "rate_limited"


class QuotaExceeded(LimitReached):
    """What there was for a longer time, such as a day, is used up."""

    code = "quota_exceeded"

    def __init__(
        self, limit: str, amount: int, *, wait_ms: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(limit, amount, wait_ms=wait_ms, headers=headers)
        minutes = math.ceil(wait_ms / 60_000)
        self.message = f"quota exceeded: {amount} {limit}; this would pass in {minutes} minutes"
        # Clients that try again by themselves would do so for hours.
        self.headers["x-should-retry"] = "false"


class TooManyAtOnce(LimitReached):
    """As many requests as may be are under way."""

    code = "too_many_at_once"


class LimitRuleNotFound(NotFound):
    """There is no such rule of a limit."""

    code = "limit_rule_not_found"
    default_message = "there is no such limit"


class NodeRefused(BadRequest):
    """A machine that wants to join says something of itself that cannot be."""

    code = "node_refused"


class TooManyAttempts(ServiceError):
    """Somebody at this address has guessed too often. `wait_s`: until they may try again."""

    code = "too_many_attempts"
    status = 429

    def __init__(self, *, wait_s: int) -> None:
        message = f"too many attempts from this address; please try again in {wait_s}s"
        super().__init__(message, headers={"Retry-After": str(wait_s)})


class LimitsUnavailable(ServiceError):
    """What has been used cannot be counted, so nothing is let through."""

    code = "limits_unavailable"
    status = 503
    default_message = "limits cannot be checked at the moment, please try again"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, headers={"Retry-After": "2"})


class LedgerUnavailable(ServiceError):
    """What is used cannot be written down, so nothing is let in."""

    code = "ledger_unavailable"
    status = 503

    def __init__(self) -> None:
        message = "requests cannot be recorded at the moment, please try again"
        super().__init__(message, headers={"Retry-After": "2"})


class UserNotFound(NotFound):
    """There is no such user, or the caller may not know of them: the same answer for both."""

    code = "user_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"user '{name}' not found")


class MemberNotFound(NotFound):
    """There is nobody of this name in the team; whether there is elsewhere is not told."""

    code = "member_not_found"

    def __init__(self, name: str, team: str) -> None:
        super().__init__(f"there is no '{name}' in '{team}': whoever is to come in gets an invite")


class TeamNotFound(NotFound):
    """There is no such team, or the caller is not in it: the same answer for both."""

    code = "team_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"team '{name}' not found")


class InviteNotFound(NotFound):
    """There is no such invite, or it is not good any longer, or somebody else's business."""

    code = "invite_not_found"
    default_message = "this invite does not exist or is not good any longer"


class ResponseNotFound(NotFound):
    """There is no such stored response, or it is somebody else's: the same answer for both."""

    code = "response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(f"Response with id '{response_id}' not found.")


class PreviousResponseNotFound(BadRequest):
    """A conversation cannot go on: one of its answers is not stored (any longer)."""

    code = "previous_response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"Previous response with id '{response_id}' not found.", param="previous_response_id"
        )


class ConversationTooLong(BadRequest):
    """What is stored and named by a field is more than one request may read."""

    code = "conversation_too_long"

    def __init__(self, field: str = "previous_response_id") -> None:
        super().__init__(
            f"what is stored behind {field} is too long: send the messages that matter as input",
            param=field,
        )


class ChatNotFound(NotFound):
    """There is no such chat, or it is somebody else's: the same answer for both."""

    code = "chat_not_found"
    default_message = "there is no such chat"


class ChatMessageNotFound(NotFound):
    """There is no such message, or it is somebody else's: the same answer for both."""

    code = "chat_message_not_found"
    default_message = "there is no such message"


class ChatFolderNotFound(NotFound):
    """There is no such folder of chats, or it is somebody else's: the same answer for both."""

    code = "chat_folder_not_found"
    default_message = "there is no such folder"


class ChatImageNotFound(NotFound):
    """There is no such image of a chat, or it is somebody else's: the same answer for both."""

    code = "chat_image_not_found"
    default_message = "there is no such image"


class ChatsFull(Conflict):
    """Somebody has as many chats, or as much in them, as one may have."""

    code = "chats_full"


class TooManyAnswers(Conflict):
    """As many answers run for somebody as may."""

    code = "too_many_answers"
