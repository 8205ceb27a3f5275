from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import transaction
from django.db.models import Q, Value
from django.db.models.functions import Lower
from django.db.models.lookups import Exact
from django.utils.translation import gettext_lazy as _
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.models import Operator, User, UserIdentity
from accounts.users import UserError
from keyhub.admin import (
    LATEST_AUDIT_ROWS,
    DatabaseForms,
    JournaledAdmin,
    KeyHubAdmin,
    KeyHubInline,
    Operation,
    offer,
    register_section,
)


def is_email(term: str, column: str = "email") -> Q:
    """By idx_users_email."""
    return Q(Exact(Lower(column), Lower(Value(term))))


class UserIdentityInline(KeyHubInline):
    model = UserIdentity
    fk_name = "user"
    fields = ("provider", "provider_sub")


@admin.register(User)
class UserAdmin(KeyHubAdmin):
    fields = ("email", "name", "icon", "email_verified_at", "disabled_at", "anonymized_at", "created_at", "updated_at")
    readonly_fields = ("email_verified_at", "disabled_at", "anonymized_at", "created_at", "updated_at")
    inlines = (UserIdentityInline,)
    list_display = ("email", "name", "created_at", "disabled_at")
    list_filter = (("disabled_at", admin.EmptyFieldListFilter), ("anonymized_at", admin.EmptyFieldListFilter))
    search_fields = ("email", "name")
    search_help_text = _("The e-mail or a part of it, a part of the name, or a user's id.")
    ordering = ("-created_at", "-id")

    def exactly(self, term: str) -> Q:
        return is_email(term)


offer(
    User,
    Operation(
        "disable",
        _("Disable"),
        _("They can sign in no more, and all their sessions end. They can be enabled again."),
        "accounts.disable_user",
        lambda user, options: {} if user.disable() else None,
        done=_("Disabled: %(done)d of %(selected)d."),
        icon="block",
        applies=lambda user: user.disabled_at is None,
        refusals=(UserError,),
    ),
)
offer(
    User,
    Operation(
        "enable",
        _("Enable"),
        _("They can sign in again. Sessions that ended stay ended."),
        "accounts.disable_user",
        lambda user, options: {} if user.enable() else None,
        done=_("Enabled: %(done)d of %(selected)d."),
        icon="check_circle",
        applies=lambda user: user.disabled_at is not None and user.anonymized_at is None,
        refusals=(UserError,),
        is_dangerous=False,
    ),
)
offer(
    User,
    Operation(
        "anonymize",
        _("Anonymize"),
        _(
            "E-mail, name, picture and outside identities are taken away for good, and they can sign in no more. "
            "Memberships and what the audit log has recorded stay. This cannot be undone."
        ),
        "accounts.anonymize_user",
        lambda user, options: {} if user.anonymize() else None,
        done=_("Anonymized: %(done)d of %(selected)d."),
        icon="person_off",
        applies=lambda user: user.anonymized_at is None,
        refusals=(UserError,),
        is_for_many=False,
    ),
)
register_section(User, LATEST_AUDIT_ROWS)


@admin.register(UserIdentity)
class UserIdentityAdmin(KeyHubAdmin):
    fields = ("user", "provider", "provider_sub", "created_at", "updated_at")
    readonly_fields = ("created_at", "updated_at")
    settled_fields = ("user",)
    autocomplete_fields = ("user",)
    list_display = ("provider", "provider_sub", "user", "created_at")
    list_select_related = ("user",)
    search_fields = ("user__email",)
    search_help_text = _("The user's e-mail or a part of it, or the provider's exact id of the person.")
    ordering = ("provider", "provider_sub")

    def exactly(self, term: str) -> Q:
        theirs = UserIdentity.objects.filter(user__in=User.objects.filter(is_email(term)))
        # UNION, each half by its index: OR would read the whole table.
        return Q(pk__in=theirs.values("pk").union(UserIdentity.objects.filter(provider_sub=term).values("pk")))


@admin.register(Operator)
class OperatorAdmin(DatabaseForms, DjangoUserAdmin, JournaledAdmin):
    """For superusers alone: whoever may set another operator's password or rights could take them."""

    form, add_form, change_password_form = UserChangeForm, UserCreationForm, AdminPasswordChangeForm
    fieldsets = (
        (None, {"fields": ("email", "password", "name")}),
        (_("Permissions"), {"fields": ("is_active", "is_superuser", "groups", "user_permissions")}),
        (_("Important dates"), {"fields": ("last_login", "created_at")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),)
    readonly_fields = ("last_login", "created_at")
    list_display = ("email", "name", "is_active", "is_superuser", "last_login")
    list_filter = ("is_active", "is_superuser", "groups")
    search_fields = ("email", "name")
    ordering = ("email",)

    def has_view_permission(self, request, obj=None):
        return request.user.is_superuser

    def has_add_permission(self, request):
        return request.user.is_superuser

    def has_change_permission(self, request, obj=None):
        return request.user.is_superuser

    def has_delete_permission(self, request, obj=None):
        return False  # the operator's log entries would go, too

    @transaction.atomic
    def user_change_password(self, request, id, form_url=""):  # noqa: A002 Django's name
        response = super().user_change_password(request, id, form_url)
        if request.method == "POST" and response.status_code == 302:
            self.record(request, "change_password", self.get_object(request, id))
        return response
