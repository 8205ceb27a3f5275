"""The pages below /admin/second-factor/: giving a token, enrolling a device, and one's own security."""

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django_otp.plugins.otp_totp.models import TOTPDevice
from qrcode import QRCode
from qrcode.image.svg import SvgPathFillImage
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts import gate, second_factor

KEY = "second_factor_key"
OF_THE_SITE = ("available_apps", "sidebar_navigation", "site_url")  # what who is half signed in is not shown


def token_field(label: str, **attributes: str) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget({**attributes, "autofocus": "", "spellcheck": "false"})
    return forms.CharField(label=label, max_length=64, widget=widget)


class TokenForm(forms.Form):
    token = token_field(gettext_lazy("Token"), autocomplete="one-time-code", inputmode="numeric")


class RecoveryCodeForm(forms.Form):
    token = token_field(gettext_lazy("Recovery code"), autocomplete="off", autocapitalize="none")


class TokenOrCodeForm(forms.Form):
    """Of both kinds: a keyboard of digits alone would not do."""

    token = token_field(gettext_lazy("Token"), autocomplete="one-time-code", autocapitalize="none")


@method_decorator([never_cache, sensitive_post_parameters()], name="dispatch")
class Page(View):
    """A page for operators who have given their password at least; the gate decides who gets as far."""

    template: str
    title: str
    form_class = TokenForm

    def dispatch(self, request, *args, **kwargs):
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path(), reverse("admin:login"))
        return self.elsewhere(request) or super().dispatch(request, *args, **kwargs)

    def elsewhere(self, request: HttpRequest) -> HttpResponse | None:
        """Where to go instead, if there is nothing to do here."""
        return None

    def get(self, request: HttpRequest) -> HttpResponse:
        return self.page(request, form=self.form(request)())

    def post(self, request: HttpRequest) -> HttpResponse:
        form = self.form(request)(request.POST)
        if form.is_valid():
            try:
                return self.done(request, form.cleaned_data["token"])
            except second_factor.TokenError as error:
                form.add_error("token", str(error))
        return self.page(request, form=form)

    def form(self, request: HttpRequest) -> type[forms.Form]:
        return self.form_class

    def done(self, request: HttpRequest, token: str) -> HttpResponse:
        """Do what the page is for. Raises second_factor.TokenError."""
        raise NotImplementedError

    def page(self, request: HttpRequest, template: str | None = None, **context: object) -> HttpResponse:
        of_the_site = admin.site.each_context(request)
        if not gate.is_signed_in(request):
            of_the_site = {name: value for name, value in of_the_site.items() if name not in OF_THE_SITE}
        context = {"title": self.title, "next": _next(request), **context}
        return render(request, template or self.template, of_the_site | context)

    def verify(self, request: HttpRequest, token: str) -> TOTPDevice:
        """As second_factor.verify(), told to whoever listens."""
        try:
            device = second_factor.verify(request.user, token)
        except second_factor.TokenError:
            second_factor.failed.send(sender=type(self), request=request, user=request.user)
            raise
        return device


class VerifyPage(Page):
    """After the password: a token of the device, or a recovery code."""

    template = "accounts/second_factor_verify.html"
    title = gettext_lazy("Second factor")

    def elsewhere(self, request):
        if request.user.is_verified() or not second_factor.is_asked_of(request.user):
            return redirect(_next(request))
        return None

    def form(self, request):
        return RecoveryCodeForm if request.GET.get("by") == "recovery-code" else TokenForm

    def done(self, request, token):
        device = self.verify(request, token)
        gate.let_in(request, device)
        method = second_factor.method_of(device)
        second_factor.passed.send(sender=type(self), request=request, user=request.user, method=method)
        if method == "recovery_code":
            left = second_factor.recovery_codes_left(request.user)
            text = _("You have used a recovery code. %(left)d are left.") % {"left": left}
            messages.warning(request, text)
        return redirect(_next(request))

    def page(self, request, template=None, **context):
        by_code = self.form(request) is RecoveryCodeForm
        return super().page(request, template, by_code=by_code, **context)


class EnrolPage(Page):
    """A device for who has none: the secret as a picture and as text, and the first token as the proof."""

    template = "accounts/second_factor_enrol.html"
    title = gettext_lazy("Set up your second factor")

    def elsewhere(self, request):
        return redirect("second_factor:status") if second_factor.is_asked_of(request.user) else None

    def done(self, request, token):
        device = second_factor.enrol(request.user, _key_of(request), token)
        del request.session[KEY]
        gate.let_in(request, device)
        codes = second_factor.renew_recovery_codes(request.user)
        second_factor.enrolled.send(sender=type(self), request=request, user=request.user)
        return self.page(
            request,
            "accounts/second_factor_codes.html",
            title=_("Recovery codes"),
            codes=codes,
        )

    def page(self, request, template=None, **context):
        if template is None:
            device = TOTPDevice(user=request.user, key=_key_of(request))
            context |= {"picture": _picture(device.config_url), "secret": second_factor.secret_text(device.key)}
        return super().page(request, template, is_required=not gate.is_signed_in(request), **context)


class StatusPage(Page):
    """One's own security."""

    template = "accounts/second_factor_status.html"
    title = gettext_lazy("Second factor")

    def get(self, request):
        return self.page(
            request,
            device=second_factor.device_of(request.user),
            codes_left=second_factor.recovery_codes_left(request.user),
        )

    http_method_names = ("get", "head", "options")


class OfDevicePage(Page):
    """What is changed with a token alone: an open session is not enough (ASVS 7.5.1)."""

    template = "accounts/second_factor_change.html"
    form_class = TokenOrCodeForm

    def elsewhere(self, request):
        return None if second_factor.is_asked_of(request.user) else redirect("second_factor:status")


class RenewCodesPage(OfDevicePage):
    title = gettext_lazy("Renew recovery codes")

    def done(self, request, token):
        self.verify(request, token)
        codes = second_factor.renew_recovery_codes(request.user)
        return self.page(request, "accounts/second_factor_codes.html", title=_("Recovery codes"), codes=codes)

    def page(self, request, template=None, **context):
        explanation = _("The codes that you have now will open nothing any more.")
        return super().page(request, template, explanation=explanation, **context)


class RemovePage(OfDevicePage):
    title = gettext_lazy("Remove the device")

    def done(self, request, token):
        self.verify(request, token)
        second_factor.remove(request.user)
        gate.forget_device(request)
        second_factor.removed.send(sender=type(self), request=request, user=request.user)
        messages.success(request, _("The device and the recovery codes were removed."))
        return redirect("second_factor:status")

    def page(self, request, template=None, **context):
        explanation = _("The device and the recovery codes will open nothing any more, and other sessions end.")
        return super().page(request, template, explanation=explanation, is_dangerous=True, **context)


def _key_of(request: HttpRequest) -> str:
    """The secret of the device to come. It is the session's own: nobody else has seen it when it is taken."""
    return request.session.setdefault(KEY, second_factor.new_key())


def _picture(url: str) -> str:
    code = QRCode(image_factory=SvgPathFillImage)
    code.add_data(url)
    svg = code.make_image().to_string(encoding="unicode")
    return mark_safe(svg)  # noqa: S308 made of squares alone


def _next(request: HttpRequest) -> str:
    """The page that was asked for, if it is one of ours."""
    page = request.POST.get("next") or request.GET.get("next") or ""
    allowed = url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())
    return page if allowed else reverse("admin:index")
