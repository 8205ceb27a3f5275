from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group as PermissionGroup
from django.contrib.auth.models import Permission
from django.db import transaction
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext, gettext_noop, ngettext
from django.utils.translation import gettext_lazy as _
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import second_factor
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
    register_refusals,
    register_section,
)

# Of the triggers of accounts/sql.
register_refusals(
    gettext_noop("An anonymized user gets no outside identity."),
    gettext_noop("The user {} is anonymized, and stays so."),
)


# Their pages show and edit secrets. Operators keep their own by accounts.second_factor_pages.
admin.site.unregister([StaticDevice, TOTPDevice])


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
        return Q(pk__in=User.objects.with_email(term))


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
        theirs = UserIdentity.objects.filter(user__in=User.objects.with_email(term))
        # UNION, each half by its index: OR would read the whole table.
        return Q(pk__in=theirs.values("pk").union(UserIdentity.objects.filter(provider_sub=term).values("pk")))


# What the table of permissions says in English.
gettext_noop("Can add %(rows)s")
gettext_noop("Can change %(rows)s")
gettext_noop("Can delete %(rows)s")
gettext_noop("Can view %(rows)s")


def permission_in_words(permission: Permission) -> str:
    """As str() of it, in the language that is active."""
    model = permission.content_type.model_class()
    if model is None:
        return str(permission)
    app = model._meta.app_config.verbose_name
    action, rows = permission.codename.partition("_")[0], gettext(model._meta.verbose_name)
    is_djangos = permission.name == f"Can {action} {model._meta.verbose_name_raw}"
    sentence = f"Can {action} %(rows)s" if is_djangos else permission.name
    return f"{gettext(app)} | {rows} | {gettext(sentence) % {'rows': rows}}"


class PermissionsInWords:
    def formfield_for_manytomany(self, db_field, request=None, **kwargs):
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if db_field.related_model is Permission:
            field.label_from_instance = permission_in_words
        return field


class SuperusersOnly(JournaledAdmin):
    """Whoever may set another operator's password or rights could take them."""

    def has_view_permission(self, request, obj=None):
        return request.user.is_superuser

    has_change_permission = has_delete_permission = has_view_permission

    def has_add_permission(self, request):
        return request.user.is_superuser


admin.site.unregister(PermissionGroup)


@admin.register(PermissionGroup)
class PermissionGroupAdmin(PermissionsInWords, DjangoGroupAdmin, SuperusersOnly):
    """Permissions beyond those of the roles. They are no groups of a tenant's people."""

    filter_horizontal = ()  # as below


@admin.register(Operator)
class OperatorAdmin(PermissionsInWords, DatabaseForms, DjangoUserAdmin, SuperusersOnly):
    form, add_form, change_password_form = UserChangeForm, UserCreationForm, AdminPasswordChangeForm
    fieldsets = (
        (None, {"fields": ("email", "password", "name")}),
        (_("Permissions"), {"fields": ("is_active", "is_superuser", "role", "groups", "user_permissions")}),
        (_("Important dates"), {"fields": ("last_login", "created_at")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),)
    readonly_fields = ("last_login", "created_at")
    list_display = ("email", "name", "role", "is_active", "is_superuser", "last_login")
    list_filter = ("is_active", "is_superuser", "role", "groups")
    actions = ("reset_second_factor",)
    search_fields = ("email", "name")
    ordering = ("email",)
    sortable_by = ()
    filter_horizontal = ()  # its boxes have no names, and are wider than a page

    def has_delete_permission(self, request, obj=None):
        return False  # the operator's log entries would go, too

    @transaction.atomic
    def user_change_password(self, request, id, form_url=""):  # noqa: A002 Django's name
        response = super().user_change_password(request, id, form_url)
        if request.method == "POST" and response.status_code == 302:
            self.record(request, "change_password", self.get_object(request, id))
        return response

    @admin.action(description=_("Reset the second factor"))
    def reset_second_factor(self, request, queryset) -> HttpResponse | None:
        """For who has lost the device and the codes. One's own goes by a token alone: accounts.second_factor_pages."""
        if queryset.filter(pk=request.user.pk).exists():
            text = _("Nothing was changed: remove your own device on the page of your second factor, by a token.")
            self.message_user(request, text, messages.ERROR)
            return None
        if request.POST.get("confirmed") != "yes":
            context = self.admin_site.each_context(request) | {
                "title": _("Reset the second factor"),
                "operators": queryset,
                "opts": self.opts,
            }
            return render(request, "accounts/reset_second_factor.html", context)
        count = 0
        for operator in queryset:
            if second_factor.remove(operator):
                second_factor.removed.send(sender=type(self), request=request, user=operator, by=request.user)
                count += 1
        text = ngettext(
            "The second factor of %(count)d operator was reset.",
            "The second factor of %(count)d operators was reset.",
            count,
        ) % {"count": count}
        self.message_user(request, text, messages.SUCCESS)
        return None
