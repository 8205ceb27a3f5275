from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.models import Operator, User, UserIdentity
from keyhub.admin import DatabaseForms, KeyHubAdmin, KeyHubInline


class UserIdentityInline(KeyHubInline):
    model = UserIdentity
    fk_name = "user"
    fields = ("provider", "provider_sub")


@admin.register(User)
class UserAdmin(KeyHubAdmin):
    fields = ("email", "name", "icon", "email_verified_at", "disabled_at", "anonymized_at", "created_at", "updated_at")
    readonly_fields = ("email_verified_at", "disabled_at", "anonymized_at", "created_at", "updated_at")
    inlines = (UserIdentityInline,)
    list_display = ("email", "name", "created_at")
    search_fields = ("email", "name")
    search_help_text = "A part of the e-mail or the name, or a user's id."
    ordering = ("-created_at",)


@admin.register(UserIdentity)
class UserIdentityAdmin(KeyHubAdmin):
    fields = ("user", "provider", "provider_sub", "created_at", "updated_at")
    readonly_fields = ("created_at", "updated_at")
    settled_fields = ("user",)
    autocomplete_fields = ("user",)
    list_display = ("provider", "provider_sub", "user", "created_at")
    list_select_related = ("user",)
    search_fields = ("user__email", "provider_sub__exact")
    search_help_text = "A part of the user's e-mail, or the provider's exact id of the person."
    ordering = ("provider", "provider_sub")


@admin.register(Operator)
class OperatorAdmin(DatabaseForms, DjangoUserAdmin, ModelAdmin):
    """For superusers alone: whoever may set another operator's password or rights could take them."""

    form, add_form, change_password_form = UserChangeForm, UserCreationForm, AdminPasswordChangeForm

    fieldsets = (
        (None, {"fields": ("email", "password", "name")}),
        ("Permissions", {"fields": ("is_active", "is_superuser", "groups", "user_permissions")}),
        ("Important dates", {"fields": ("last_login", "created_at")}),
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
