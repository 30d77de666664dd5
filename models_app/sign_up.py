"""People who make an account for themselves, where the site lets them (settings.SIGN_UP).

Knows no invite, no page and no HTTP; how often somebody tries is counted by whoever calls.
"""

from typing import Final

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from models_app import audit
from models_app.accounts import create_user
from models_app.models import User
from models_app.site_names import check_name
from ollamasite.errors import Conflict, NotFound

OFF: Final = "off"
APPROVAL: Final = "approval"
# So that nobody fills the table with accounts that an administrator has to look through.
_MOST_WAITING: Final = 500
# Whether it is a user's, a team's or nobody's to have is not told.
_TAKEN: Final = "This name cannot be had here: choose another."


@audit.act()
def sign_up(username: str, password: str) -> User:
    """Make an account, which waits for an administrator where the site wants that.

    Raises NotFound where nobody may, Conflict where too many wait, and ValidationError by field
    for what was typed.
    """
    if settings.SIGN_UP == OFF:
        raise NotFound
    has_to_wait = settings.SIGN_UP == APPROVAL
    if has_to_wait and User.objects.filter(awaits_approval=True).count() >= _MOST_WAITING:
        raise Conflict("Too many people wait for an account already. Please come back later.")
    user = new_account(username, password)
    if has_to_wait:
        user.is_active, user.awaits_approval = False, True
        user.save(update_fields=["is_active", "awaits_approval"])
    audit.record("user.sign-up", user.username, by=None, waits=has_to_wait)
    return user


def new_account(username: str, password: str) -> User:
    """Make an account with a password that is good enough. Wants a transaction.

    Raises ValidationError by field, of both at once; of a name that is taken it does not tell
    whose it is.
    """
    wrong = _problems(username, password)
    if wrong:
        raise ValidationError(wrong)
    try:
        return create_user(username, password)
    except ValidationError as error:
        raise ValidationError({"username": [_TAKEN]}) from error


def _problems(username: str, password: str) -> dict[str, list[str]]:
    """Return what is wrong with what was typed, by field; not whether the name is taken."""
    wrong: dict[str, list[str]] = {}
    try:
        check_name(username, of="user")
    except ValidationError as error:
        wrong["username"] = error.messages
    try:
        validate_password(password, User(username=username))
    except ValidationError as error:
        wrong["password"] = error.messages
    return wrong
