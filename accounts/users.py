"""What is done to users: looked up, disabled, enabled, made unrecognizable. Each in one statement."""

from asgiref.sync import sync_to_async
from django.db import IntegrityError
from django.db.models import F, TextField, Value
from django.db.models.functions import Cast, Coalesce, Concat, Lower, Now
from django.db.models.lookups import Exact

from keyhub.statements import StatementQuerySet, one_statement

CHECK_VIOLATION = "23514"


class UserError(Exception):
    """The base of what can go wrong with operations on users."""


class ChangeRefusedError(UserError):
    """A rule of the database stands against the change; the text is the database's own."""


class UserQuerySet(StatementQuerySet):
    def with_email(self, email: str) -> "UserQuerySet":
        """The one with this e-mail, in any case, if there is one.

        By lower() on the server, as idx_users_email does: Python's lower() differs from it outside ASCII.
        """
        return self.filter(Exact(Lower("email"), Lower(Value(email))))

    def get_by_natural_key(self, email: str):
        """The user with this e-mail, in any case. Raises User.DoesNotExist."""
        return self.with_email(email).get()

    def active(self) -> "UserQuerySet":
        """Those who may sign in."""
        return self.filter(disabled_at__isnull=True)

    def disable(self) -> int:
        """Keep them from signing in, and end their sessions; return how many were not disabled yet.

        The sessions are ended by a trigger of auth_sessions. Raises ChangeRefusedError.
        """
        return self.active()._change(disabled_at=Now())

    def enable(self) -> int:
        """Let disabled ones sign in again, but those never who were anonymized; return how many.

        Sessions that ended stay ended. Raises ChangeRefusedError.
        """
        return self.filter(disabled_at__isnull=False, anonymized_at__isnull=True)._change(disabled_at=None)

    def anonymize(self) -> int:
        """Disable them and take away for good what tells who they were; return how many were not anonymized yet.

        The row stays for what refers to it. Their outside identities go by the trigger forget_identities, so that a
        later sign-in of the same person makes a new user. audit_logs keeps what it recorded: it is evidence, kept on
        grounds of its own (GDPR article 17, paragraph 3).

        Raises ChangeRefusedError, for the last admin of a tenant say.
        """
        return self.filter(anonymized_at__isnull=True)._change(
            # Unique by the id, and an address to which nothing can be sent: RFC 2606, section 2.
            email=Concat(Cast("id", TextField()), Value("@anonymized.invalid"), output_field=TextField()),
            email_verified_at=None,
            name=None,
            icon=None,
            disabled_at=Coalesce(F("disabled_at"), Now()),
            anonymized_at=Now(),
        )

    async def adisable(self) -> int:
        return await sync_to_async(self.disable)()

    async def aenable(self) -> int:
        return await sync_to_async(self.enable)()

    async def aanonymize(self) -> int:
        return await sync_to_async(self.anonymize)()

    def _change(self, **values) -> int:
        using = self.writer
        try:
            with one_statement(using):
                return self.using(using).update(**values)
        except IntegrityError as error:
            if error.__cause__.sqlstate != CHECK_VIOLATION:
                raise
            raise ChangeRefusedError(error.__cause__.diag.message_primary) from error
