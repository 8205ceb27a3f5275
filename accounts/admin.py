from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import second_factor
from accounts.models import Operator, User, UserIdentity
from keyhub.admin import DatabaseForms, KeyHubAdmin, KeyHubInline

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
        ("Permissions", {"fields": ("is_active", "is_superuser", "role", "groups", "user_permissions")}),
        ("Important dates", {"fields": ("last_login", "created_at")}),
    )
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "usable_password", "password1", "password2")}),)
    readonly_fields = ("last_login", "created_at")
    list_display = ("email", "name", "role", "is_active", "is_superuser", "last_login")
    list_filter = ("is_active", "is_superuser", "role", "groups")
    actions = ("reset_second_factor",)
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
