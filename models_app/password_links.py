"""The secret in a one-time link to a new password: for whom and until when it is good.

Knows no page, and not who may have one.
"""

from typing import Final

from django.contrib.auth.tokens import PasswordResetTokenGenerator

from models_app.models import User


class _PasswordLinks(PasswordResetTokenGenerator):
    """Links that end with the account's sessions, as well as with its password and a sign-in.

    Sessions are ended where somebody is suspected to have got in, and where the account is closed.
    """

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        return f"{super()._make_hash_value(user, timestamp)}{user.session_generation}"


password_links: Final = _PasswordLinks()
